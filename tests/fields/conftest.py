"""Headers as the data centres write them, made small; and the real files if there."""

import contextlib
import os
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

SMALL = (6, 8)  # latitudes, longitudes of the synthetic files


@pytest.fixture
def make():
    """make(["u10", ...], lat=..., lon=..., time="time", ...): a synthetic dataset."""
    return _make


@pytest.fixture
def no_compute():
    """A context in which dask must not compute."""

    def refuse(dsk, keys, **kwargs):
        pytest.fail("dask was asked to compute")

    @contextlib.contextmanager
    def context():
        # dask.config.set works from its construction on, not from its `with`.
        with dask.config.set(scheduler=refuse):
            yield

    return context()


@pytest.fixture
def follow():
    """follow(hint, ds=ds): make the call that an error says to try."""

    def call(hint, **names):
        return eval(hint, {"np": np, "xr": xr, **names})  # noqa: S307 - our own text

    return call


@pytest.fixture
def real():
    """real("edge/file.nc"): one of the real files, in chunks."""
    root = os.environ.get("XATMO_DATA")

    def open_file(name, **kwargs):
        if root is None:
            pytest.skip("set XATMO_DATA to the folder that holds data/ to run this")
        path = Path(root, "data", name)
        if path.suffix == ".grib":
            kwargs |= {"engine": "cfgrib", "backend_kwargs": {"indexpath": ""}}
        return xr.open_dataset(path, chunks={}, **kwargs)

    return open_file


def _make(
    names,
    lat="latitude",
    lon="longitude",
    time="time",
    levels=None,
    level="level",
    level_attrs=None,
    attrs=None,
    cf=True,
    chunks=None,
    dtype="float32",
    latitude=None,
    longitude=None,
    n_time=3,
):
    """A dataset of smooth maps; ``attrs`` maps a variable to its attributes."""
    y = np.linspace(50, 40, SMALL[0]) if latitude is None else np.asarray(latitude)
    x = np.linspace(0, 14, SMALL[1]) if longitude is None else np.asarray(longitude)
    dims, coords = [], {}
    if time is not None:
        dims.append(time)
        coords[time] = pd.date_range("2020-01-01", periods=n_time, freq="6h")
    if levels is not None:
        dims.append(level)
        coords[level] = (level, np.asarray(levels), level_attrs or {})
    dims += [lat, lon]
    coords[lat] = (lat, y, {"units": "degrees_north"} if cf else {})
    coords[lon] = (lon, x, {"units": "degrees_east"} if cf else {})
    shape = [len(coords[d]) if d == time else len(coords[d][1]) for d in dims]
    ramp = np.arange(np.prod(shape)).reshape(shape)
    data = {
        name: (
            dims,
            (np.sin(0.1 * ramp + i)).astype(dtype),
            (attrs or {}).get(name, {}),
        )
        for i, name in enumerate(names)
    }
    ds = xr.Dataset(data, coords)
    return ds if chunks is None else ds.chunk(chunks)
