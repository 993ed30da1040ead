"""Fields to measure with: of the right size and scale, without any weather."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

__all__ = ["global_degree", "patch_sized", "wind_store"]

_DIMS = ("time", "latitude", "longitude")
_SCALE = 2e-5  # s-1: about the standard deviation of both fields at 1 degree
_INPUTS = {"d": "divergence_of_wind", "vo": "atmosphere_relative_vorticity"}


def patch_sized(times: int) -> xr.Dataset:
    """Vorticity and divergence of a region of 32 x 64 points of 1 degree."""
    return _noise(times, np.arange(55.0, 23, -1), np.arange(0.0, 64))


def global_degree(times: int) -> xr.Dataset:
    """Vorticity and divergence around the globe, 181 x 360 points of 1 degree."""
    return _noise(times, np.arange(90.0, -91, -1), np.arange(0.0, 360))


def wind_store(folder: Path, times: int, chunk: int, *, empty: bool = False) -> Path:
    """Write global winds of 1 degree to a Zarr store, chunk by chunk.

    Parameters
    ----------
    folder : Path
        Where the store goes.
    times, chunk : int
        How many times, and how many of them in a chunk.
    empty : bool
        Write no values: for graphs that are never computed.

    Returns
    -------
    Path
    """
    import dask.array as da

    latitude, longitude = np.arange(90.0, -91, -1), np.arange(0.0, 360)
    shape = (times, latitude.size, longitude.size)
    chunks = (chunk, *shape[1:])
    lazy = da.zeros(shape, chunks=chunks, dtype=np.float32)
    if not empty:
        lazy = lazy.map_blocks(_winds, dtype=np.float32)
    ds = xr.Dataset(
        {name: (_DIMS, lazy, {"units": "m s-1"}) for name in ("u10", "v10")},
        _coordinates(times, latitude, longitude),
    )
    path = folder / f"winds-{times}.zarr"
    ds.to_zarr(path, compute=not empty, consolidated=False)
    return path


def _winds(block: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(block.shape, dtype=np.float32)
    return np.float32(10) * noise


def _noise(times: int, latitude: np.ndarray, longitude: np.ndarray) -> xr.Dataset:
    rng = np.random.default_rng(0)
    shape = (times, latitude.size, longitude.size)
    fields = {}
    for name, standard_name in _INPUTS.items():
        values = rng.standard_normal(shape, dtype=np.float32) * np.float32(_SCALE)
        fields[name] = (_DIMS, values, {"standard_name": standard_name, "units": "s-1"})
    return xr.Dataset(fields, _coordinates(times, latitude, longitude))


def _coordinates(
    times: int, latitude: np.ndarray, longitude: np.ndarray
) -> dict[str, tuple]:
    start, step = np.datetime64("2000-01-01", "ns"), np.timedelta64(6, "h")
    return {
        "time": ("time", start + step * np.arange(times)),
        "latitude": ("latitude", latitude, {"units": "degrees_north"}),
        "longitude": ("longitude", longitude, {"units": "degrees_east"}),
    }
