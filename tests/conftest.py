"""What several test modules share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo.testing import synthetic_winds


@pytest.fixture(scope="session")
def winds() -> xr.Dataset:
    """Five times of synthetic winds on a region of 40 x 48 points at 1°."""
    latitude = np.arange(60.0, 20.0, -1.0)
    return synthetic_winds(5, latitude, np.arange(10.0, 58.0))


@pytest.fixture(scope="session")
def globe() -> xr.Dataset:
    """Three times of synthetic winds on the whole globe at 2°."""
    return synthetic_winds(3)


@pytest.fixture(scope="session")
def sample() -> xr.Dataset:
    """The sample in the wheel."""
    return xatmo.open_sample()


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real data."""
    root = os.environ.get("XATMO_DATA")
    if root is None:
        pytest.skip("XATMO_DATA is not set: it names the folder above data/")
    return Path(root) / "data"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of numbers from the original implementations."""
    root = os.environ.get("XATMO_DATA")
    if root is None:
        pytest.skip("XATMO_DATA is not set: it names the folder above reference/")
    return Path(root) / "reference"


@pytest.fixture(scope="session")
def refiners(tmp_path_factory) -> Iterator[Path]:
    """A folder of small downscaling models with random weights, found by their names.

    ``tiny`` draws realizations and reads the share of land, ``tiny-plain`` does
    neither, ``tiny-vortdiv`` reads other fields and ``tiny-4deg`` another grid.
    """
    folder = tmp_path_factory.mktemp("refiners")
    winds = ("eastward_wind", "northward_wind")
    other = ("divergence_of_wind", "atmosphere_relative_vorticity")
    _refiner(folder / "tiny", winds, noise=4, statics=1, base="bicubic")
    _refiner(folder / "tiny-plain", winds)
    _refiner(folder / "tiny-vortdiv", other, noise=4, scale=3e-5)
    _refiner(folder / "tiny-4deg", winds, noise=4, spacing=(3.0, 5.2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XATMO_MODELS_URL", str(folder))
        yield folder


def _refiner(
    folder: Path,
    quantities: tuple[str, ...],
    scale: float = 5.0,
    spacing: tuple[float, float] = (0.75, 1.3),
    **network: Any,
) -> None:
    import torch

    from xatmo.nets.generator import Generator
    from xatmo.zoo import save_state, write_card

    torch.manual_seed(0)
    network = {"width": 8, "blocks": 2, "kernel": 5, "tail": [8, 4], **network}
    generator = Generator(**network)
    file = folder / "weights.safetensors"
    sha256 = save_state(generator, file)
    pressure = {"level": "850 hPa", "mean": [0.2] * 2, "std": [2 * scale] * 2}
    write_card(
        folder,
        {
            "name": folder.name,
            "version": "1.0.0",
            "title": "A model for tests",
            "architecture": "generator",
            "capabilities": ["downscale"],
            "licence": "Apache-2.0",
            "citation": "Nobody (2026)",
            "network": network,
            "inputs": [
                {"quantity": q, "units": "m s-1" if q.endswith("d_wind") else "s-1"}
                for q in quantities
            ],
            "levels": [
                {"level": "10 m", "mean": [0.1 * scale] * 2, "std": [scale] * 2},
                pressure,
            ],
            "normalization": {"kind": "zscore"},
            "grid": {
                "spacing": list(spacing),
                "patch": [8, 8],
                "stride": 1,
                "halo": generator.reach,
            },
            "downscale": {
                "factor": 4,
                "statics": ["land_area_fraction"] if network.get("statics") else [],
            },
            "weights": {
                "file": file.name,
                "sha256": sha256,
                "size": file.stat().st_size,
                "urls": [],
            },
            "scores": {
                "held out": {
                    "data": ["week.nc"],
                    "units": "m s-1",
                    "rmse": 0.5,
                    "methods": {"ridge": {"rmse": 0.6}},
                }
            },
        },
    )


@pytest.fixture(scope="session")
def infiller(refiners) -> Path:
    """The same folder, with ``tiny-infill``: a small network of random weights."""
    import torch

    from xatmo.nets.infiller import Infiller
    from xatmo.zoo import save_state, write_card

    torch.manual_seed(0)
    network = Infiller(widths=(8, 8), depth=1)
    for kernel in network.kernels():
        if not kernel.any():  # what a residual branch begins with
            torch.nn.init.normal_(kernel, std=0.03)
    folder = refiners / "tiny-infill"
    file = folder / "weights.safetensors"
    sha256 = save_state(network, file)
    write_card(
        folder,
        {
            "name": folder.name,
            "version": "1.0.0",
            "title": "A model for tests",
            "architecture": "infiller",
            "capabilities": ["infill"],
            "licence": "Apache-2.0",
            "citation": "Nobody (2026)",
            "network": {"widths": [8, 8], "depth": 1},
            "normalization": {"kind": "none"},
            "grid": {
                "spacing": [0.01, 10.0],
                "patch": [2, 2],
                "stride": network.stride,
                "halo": network.reach,
                "gaussian": True,
            },
            "infill": {"radius": 16, "factor": 1.5},
            "weights": {
                "file": file.name,
                "sha256": sha256,
                "size": file.stat().st_size,
                "urls": [],
            },
        },
    )
    return folder.parent


_QUANTITIES = {
    "u": ("eastward_wind", "m s-1", 0.0, 8.0),
    "v": ("northward_wind", "m s-1", 0.0, 8.0),
    "t": ("air_temperature", "K", 270.0, 15.0),
    "z": ("geopotential", "m2 s-2", 3.0e4, 5.0e3),
    "q": ("specific_humidity", "kg kg-1", 5e-3, 4e-3),
}
_BOX_LEVELS = (("10 m", 0), ("sigma 0.95", 0), ("850 hPa", 1), ("500 hPa", 2))


@pytest.fixture(scope="module")
def make_box_model(tmp_path_factory) -> Iterator[Callable[..., xatmo.Model]]:
    """Make small models of boxes with random weights, found by their names.

    ``make(name, fields=("u", "v"), levels=..., box=(T, Y, X), token=(t, y, x), ahead=,
    members=, monthly=, finer=, network=, card=)``: levels are pairs of a level and a
    slot, one with ``finer`` downscales by that factor, and the last two replace
    arguments of the network and tables of the card.
    """
    from xatmo.zoo.registry import also_in

    folder = tmp_path_factory.mktemp("boxes")
    with also_in(folder):
        yield partial(_box_model, folder)


def _box_model(
    folder: Path,
    name: str = "tiny-boxes",
    *,
    fields: tuple[str, ...] = ("u", "v"),
    levels: tuple[tuple[str, int], ...] = _BOX_LEVELS,
    box: tuple[int, int, int] = (4, 8, 8),
    token: tuple[int, int, int] = (1, 4, 4),
    ahead: int = 2,
    members: int = 3,
    monthly: bool = False,
    finer: int = 1,
    network: dict[str, Any] | None = None,
    card: dict[str, Any] | None = None,
) -> xatmo.Model:
    import torch

    from xatmo.nets.multiformer_box import BoxMultiformer
    from xatmo.zoo import Model, save_state, write_card

    slots = len({slot for _, slot in levels})
    tokens = [n // size for n, size in zip(box, token, strict=True)]
    others = {f: [o for o in fields if o != f] for f in fields}
    sizes = {"width": 16, "levels": slots, "tokens": tokens, "token_size": list(token)}
    arguments = {
        "fields": [{"name": f, **sizes, "sources": others[f]} for f in fields],
        "level_numbers": {f: [float(i) for i in range(slots)] for f in fields},
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_heads": 2,
        "decoder_heads": 2,
        "members": members,
        "info_width": 4,
        "guess": "time",
        "info": "periodic",
        **({"finer": finer} if finer > 1 else {}),
        **(network or {}),
    }
    torch.manual_seed(0)
    built = BoxMultiformer(**arguments)
    for parameter in built.parameters():
        if not parameter.any():  # what begins at zero would say nothing
            torch.nn.init.normal_(parameter, std=0.05)
    # Weights of another module's model with other boxes: never the same file, since
    # what a process has loaded is known by name and sha256.
    with torch.no_grad():
        number = int("".join(filter(str.isdigit, folder.name)) or 0)
        next(built.parameters()).view(-1)[0] += 1e-6 * number
    file = folder / name / "weights.safetensors"
    sha256 = save_state(built, file)
    months = np.arange(12.0) if monthly else np.zeros(1)
    tables = []
    for key in fields:
        quantity, units, mean, std = _QUANTITIES[key]
        constants = {
            "mean": (mean + 0.02 * std * months).tolist(),
            "std": (std * (1 + 0.02 * months)).tolist(),
        }
        each = [{"level": lv, "slot": slot, **constants} for lv, slot in levels]
        tables.append(
            {"name": key, "quantity": quantity, "units": units, "levels": each}
        )
    features = 16 * len(fields)
    contents = {
        "name": name,
        "version": "1.0.0",
        "title": "A model for tests",
        "architecture": "multiformer",
        "capabilities": ["embed", "infill", "forecast", "interpolate", "attention"],
        "licence": "Apache-2.0",
        "citation": "Nobody (2026)",
        "network": arguments,
        "fields": tables,
        "normalization": {"kind": "zscore"},
        "grid": {
            "spacing": [0.9, 2.1],
            "patch": [4, 4],
            "stride": token[1],
            "halo": "global",
            "gaussian": True,
        },
        "box": {"step": "6h", "ahead": ahead},
        "layers": {
            "names": ["encoder2", "encoder1", "encoder0"],
            "stride": {f"encoder{i}": token[1] for i in range(3)},
            "features": {f"encoder{i}": features for i in range(3)},
        },
        "weights": {
            "file": file.name,
            "sha256": sha256,
            "size": file.stat().st_size,
            "urls": [],
        },
    }
    if finer > 1:
        contents |= {"capabilities": ["downscale"], "downscale": {"factor": finer}}
    made = write_card(folder / name, contents | (card or {}))
    return Model(made, made.key())
