"""The card of an imported ClimaX model: what its variables are, and their constants."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from xatmo.errors import WeightsError

__all__ = ["card_of_climax", "era5_constants"]

CITATION = (
    "Nguyen, T., Brandstetter, J., Kapoor, A., Gupta, J. K. and Grover, A. (2023): "
    "ClimaX: A foundation model for weather and climate. arXiv:2301.10343"
)
LICENCE = "weights as their authors say, original code MIT"

# Field -> CF standard name and units of ERA5.
_QUANTITIES = {
    "land_sea_mask": ("land_binary_mask", "1"),
    "orography": ("surface_altitude", "m"),
    "mean_sea_level_pressure": ("air_pressure_at_mean_sea_level", "Pa"),
    "geopotential": ("geopotential", "m2 s-2"),
    "u_component_of_wind": ("eastward_wind", "m s-1"),
    "v_component_of_wind": ("northward_wind", "m s-1"),
    "temperature": ("air_temperature", "K"),
    "specific_humidity": ("specific_humidity", "kg kg-1"),
}
# Variables whose names do not end with a pressure: field and level.
_SINGLE = {
    "land_sea_mask": ("land_sea_mask", "surface"),
    "orography": ("orography", "surface"),
    "mean_sea_level_pressure": ("mean_sea_level_pressure", "surface"),
    "2m_temperature": ("temperature", "2 m"),
    "10m_u_component_of_wind": ("u_component_of_wind", "10 m"),
    "10m_v_component_of_wind": ("v_component_of_wind", "10 m"),
}
# What no source of the training data had: their weights are as they were drawn.
_UNTRAINED = {"land_sea_mask", "orography"}
_GRAVITY = 9.80665  # m s-2


def card_of_climax(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a card's contents, but for its weights.

    Parameters
    ----------
    name : str
        Of the model.
    options : mapping
        Arguments of the network.

    Returns
    -------
    dict
        Variables that are not known, or that ERA5 has no constants for (relative
        humidity), are left out: the network does without them.

    Raises
    ------
    xatmo.errors.WeightsError
        If no variable is left.
    """
    rows, columns = options["grid"]
    spacing = sorted((180 / rows, 360 / columns))
    return {
        "name": name,
        "version": "1.0.0",
        "title": f"ClimaX: {len(options['variables'])} variables on {spacing[0]:g}°",
        "architecture": "climax",
        "capabilities": ["embed", "forecast", "attention"],
        "licence": LICENCE,
        "citation": CITATION,
        "network": dict(options),
        "fields": _fields(options["variables"]),
        "normalization": {"kind": "zscore"},
        "grid": {
            "spacing": spacing,
            "patch": [rows, columns],
            "stride": options["patch"],
            "halo": "global",
            "northward": True,
        },
        "leads": {"step": "6h", "shortest": 6, "longest": 162},
        "layers": {
            "names": ["encoder"],
            "stride": {"encoder": options["patch"]},
            "features": {"encoder": options["width"]},
        },
        "training": {
            "data": "CMIP6, historical: MPI-ESM1-2-HR, TaiESM1, AWI-ESM-1-1-LR, "
            "MPI-ESM-1-2-HAM, CMCC-CM2-HR4",
            "constants": "ERA5, 1979 to 2018, as published with Stormer",
            "attribution": "contains modified Copernicus Climate Change Service "
            "information",
        },
    }


@cache
def era5_constants() -> Mapping[str, tuple[float, float]]:
    """Return variable -> mean and standard deviation in ERA5, 1979 to 2018.

    References
    ----------
    Nguyen, T., Shah, R., Bansal, H., Arcomano, T., Maulik, R., Kotamarthi, R.,
    Foster, I., Madireddy, S. and Grover, A. (2024): Scaling transformer neural networks
    for skillful and reliable medium-range weather forecasting. arXiv:2312.03876

    Examples
    --------
    >>> from xatmo.zoo.importers.climax_card import era5_constants
    >>> era5_constants()["temperature_850"]
    (274.5666, 15.58142)
    """
    file = resources.files("xatmo") / "data" / "era5-constants.csv"
    rows = csv.DictReader(file.read_text("utf-8").splitlines())
    found = {r["variable"]: (float(r["mean"]), float(r["std"])) for r in rows}
    mean, std = found["geopotential_at_surface"]
    return {**found, "orography": (mean / _GRAVITY, std / _GRAVITY)}


def _fields(variables: list[str]) -> list[dict[str, Any]]:
    """Put the variables that are known together to fields at levels."""
    tables: dict[str, dict[str, Any]] = {}
    for variable in variables:
        found = _field_and_level(variable)
        constants = era5_constants().get(variable)
        if found is None or constants is None:
            continue
        name, level = found
        quantity, units = _QUANTITIES[name]
        table = {"name": name, "quantity": quantity, "units": units, "levels": []}
        levels = tables.setdefault(name, table)["levels"]
        entry = {"level": level, "slot": len(levels), "variable": variable}
        entry |= {"mean": [constants[0]], "std": [constants[1]]}
        levels.append(entry | ({"trained": False} if name in _UNTRAINED else {}))
    if tables:
        return list(tables.values())
    msg = "None of the network's variables is known."
    needed = "names such as 2m_temperature and geopotential_500"
    hint = "import_model(file, variables=[...]), in the order of training"
    raise WeightsError(msg, found=", ".join(variables), needed=needed, hint=hint)


def _field_and_level(variable: str) -> tuple[str, str] | None:
    if variable in _SINGLE:
        return _SINGLE[variable]
    match = re.fullmatch(r"(\w+)_(\d+)", variable)
    if match is None or match[1] not in _QUANTITIES:
        return None
    return match[1], f"{match[2]} hPa"
