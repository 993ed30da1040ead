"""The sample that ships with the package, so that the first call works offline."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import xarray as xr

__all__ = ["open_sample"]


def open_sample(chunks: Mapping[str, int] | None = None) -> xr.Dataset:
    """Open ten days of a simulated atmosphere.

    A general circulation model (SPEEDY physics on the dinosaur spectral core, T63,
    1.875 degrees), every six hours: real dynamics, not real weather.

    Parameters
    ----------
    chunks : mapping, optional
        Dask chunks, as for ``xarray.open_dataset``; in memory if not given.

    Returns
    -------
    Dataset
        ``u``, ``v`` (m s-1), ``(time: 40, lat: 96, lon: 192)``, at sigma = 0.95.

    Examples
    --------
    >>> import xatmo
    >>> dict(xatmo.open_sample().sizes)
    {'time': 40, 'lat': 96, 'lon': 192}
    """
    file = resources.files("xatmo") / "data" / "speedy-t63.nc"
    options: dict[str, Any] = {"chunks": dict(chunks)} if chunks is not None else {}
    with resources.as_file(file) as path:
        ds = xr.open_dataset(path, engine="netcdf4", **options)
        return ds if chunks is not None else ds.load()
