"""The card of an imported AtmoRep model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xatmo.errors import WeightsError
from xatmo.zoo.constants import Constants
from xatmo.zoo.importers.atmorep import Original

__all__ = ["card_of_original", "layers_of", "level_name"]

CITATION = (
    "Lessig, C., Luise, I., Gong, B., Langguth, M., Stadtler, S. and Schultz, M. "
    "(2023): AtmoRep: A stochastic model of atmosphere dynamics using large scale "
    "representation learning. arXiv:2308.13280"
)
LICENCE = "weights CC BY 4.0, original code MIT"

# Name in the settings -> CF standard name, units of ERA5, and the level that number 0
# stands for.
_QUANTITIES = {
    "vorticity": ("atmosphere_relative_vorticity", "s-1", "surface"),
    "divergence": ("divergence_of_wind", "s-1", "surface"),
    "velocity_u": ("eastward_wind", "m s-1", "10 m"),
    "velocity_v": ("northward_wind", "m s-1", "10 m"),
    "velocity_z": ("lagrangian_tendency_of_air_pressure", "Pa s-1", "surface"),
    "temperature": ("air_temperature", "K", "2 m"),
    "specific_humidity": ("specific_humidity", "kg kg-1", "2 m"),
    "total_precip": ("lwe_thickness_of_precipitation_amount", "m", "surface"),
    "geopotential": ("geopotential", "m2 s-2", "surface"),
    "t2m": ("air_temperature", "K", "2 m"),
    "u_10m": ("eastward_wind", "m s-1", "10 m"),
    "v_10m": ("northward_wind", "m s-1", "10 m"),
}
_ATTRIBUTION = "contains modified Copernicus Climate Change Service information"
_SPACING = 0.25  # degrees, of ERA5


def card_of_original(
    original: Original,
    name: str,
    options: Mapping[str, Any],
    constants: Mapping[tuple[str, str], Constants],
    first_generation: bool,
) -> dict[str, Any]:
    """Return a card's contents, but for its weights and the file of places.

    Parameters
    ----------
    original : Original
    name : str
        Of the model.
    options : mapping
        Of the network, the numbers of levels included.
    constants : mapping
        (Field, level) -> constants; those of places are left out.
    first_generation : bool

    Raises
    ------
    xatmo.errors.WeightsError
        If a field is of a quantity that is not known.
    """
    config, tables = original.config, options["fields"]
    rows = math.prod((tables[0]["tokens"][1], tables[0]["token_size"][1]))
    columns = math.prod((tables[0]["tokens"][2], tables[0]["token_size"][2]))
    degrees = config.get("n_size", [0, rows * _SPACING, columns * _SPACING])
    spacing = sorted((degrees[1] / rows, degrees[2] / columns))
    step = f"{int(config.get('time_sampling', 1))}h"
    late = int(config.get("forecast_num_tokens", 1))
    layers = layers_of(tables, options["encoder_layers"])
    fields = ", ".join(table["name"] for table in tables)
    return {
        "name": name,
        "version": "1.0.0",
        "title": f"AtmoRep {original.id}: {fields}, hourly on {spacing[0]:g}°",
        "architecture": "multiformer",
        "capabilities": ["embed", "infill", "forecast", "interpolate", "attention"],
        "licence": LICENCE,
        "citation": CITATION,
        "network": dict(options),
        "fields": [_field(entry[0], entry[2], constants) for entry in config["fields"]],
        "normalization": {"kind": "zscore"},
        "grid": {
            "spacing": spacing,
            "patch": [rows, columns],
            "stride": next(iter(layers["stride"].values())),
            "halo": "global",
        },
        "time": {"step": step},
        "box": {
            "step": step,
            "ahead": max(late, 1) * max(table["token_size"][0] for table in tables),
        },
        "layers": layers,
        "training": _training(original, first_generation),
    }


def layers_of(tables: Sequence[Mapping[str, Any]], count: int) -> dict[str, Any]:
    """Return ``[layers]``: each layer of the encoders, the last one first."""
    finest = max(tables, key=lambda table: math.prod(table["tokens"][1:]))
    names = [f"encoder{number}" for number in range(count, 0, -1)]
    return {
        "names": names,
        "stride": dict.fromkeys(names, int(finest["token_size"][1])),
        "features": dict.fromkeys(names, sum(int(t["width"]) for t in tables)),
    }


def level_name(field: str, number: float) -> str:
    """Return what a level is called: numbers are of model levels, 0 near the ground."""
    return _quantity(field)[2] if number == 0 else f"model level {number:g}"


def _quantity(field: str) -> tuple[str, str, str]:
    if field in _QUANTITIES:
        return _QUANTITIES[field]
    msg = f"It is not known what the field {field!r} is."
    needed = f"one of {', '.join(_QUANTITIES)}"
    hint = "import a model without it"
    raise WeightsError(msg, found=repr(field), needed=needed, hint=hint)


def _field(
    name: str,
    numbers: Sequence[float],
    constants: Mapping[tuple[str, str], Constants],
) -> dict[str, Any]:
    quantity, units, _ = _quantity(name)
    levels = []
    for slot, number in enumerate(numbers):
        text = level_name(name, number)
        entry: dict[str, Any] = {"level": text, "slot": slot}
        found = constants.get((name, text))
        if found is not None and not found.local:
            entry |= {"mean": found.mean.ravel(), "std": found.std.ravel()}
        levels.append(entry)
    return {"name": name, "quantity": quantity, "units": units, "levels": levels}


def _training(original: Original, first_generation: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "data": "ERA5",
        "attribution": _ATTRIBUTION,
        "original": original.id,
        "generation": 2023 if first_generation else 2024,
    }
    if original.epoch is not None:
        told["epoch"] = original.epoch
    years = original.config.get("years_train")
    if isinstance(years, list) and years:
        told["years"] = f"{min(years)} to {max(years)}"
    return told
