"""A recipe's source as a lazy data set: one series of dates, on the grid asked for."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cftime  # type: ignore[import-untyped]
import numpy as np
import xarray as xr

from xatmo.errors import OptionError, TimeAxisError
from xatmo.fields import Axes, find_axes
from xatmo.training.recipe import Source

__all__ = ["CHUNK", "open_source", "said"]

CHUNK = 16  # times read at once


def open_source(source: Source) -> xr.Dataset:
    """Open a source lazily: its period, on its (perhaps coarsened) grid.

    Raises
    ------
    xatmo.errors.OptionError
        If xarray cannot open it.
    xatmo.errors.TimeAxisError
        If there is no series of dates, or nothing of it in the period.
    """
    path = source.resolve()
    ds = _opened(path)
    axes = find_axes(ds)
    ds, time = _dated(ds, axes, path.name)
    # Years of hours in one piece would not fit: a few times are read at once.
    ds = _in_period(ds.chunk({time: CHUNK}), time, source, path.name)
    if source.coarsen > 1:
        blocks = {axes.latitude: source.coarsen, axes.longitude: source.coarsen}
        ds = ds.coarsen(blocks, boundary="trim").mean()
    names = str(axes.latitude), str(axes.longitude)
    if source.spacing:
        ds = _interpolated(ds, *names, source.spacing)
    if source.grid:
        ds = _averaged(ds, *names, source.grid)
    if source.box:
        ds = _cut(ds, *names, source.box)
    return ds


def said(source: Source) -> str:
    """Say which part of which data a source is."""
    parts = [Path(source.path).name]
    if source.start:
        parts.append(f"from {source.start}")
    if source.end:
        parts.append(f"until {source.end}")
    if source.coarsen > 1:
        parts.append(f"block means of {source.coarsen} x {source.coarsen}")
    if source.spacing:
        parts.append(f"interpolated to {source.spacing:g}°")
    if source.grid:
        parts.append(f"means over {source.grid[0]} x {source.grid[1]} cells")
    if source.box:
        south, north, west, east = source.box
        parts.append(f"{south:g} to {north:g}°N, {west:g} to {east:g}°E")
    return ", ".join(parts)


def _interpolated(ds: xr.Dataset, lat: str, lon: str, spacing: float) -> xr.Dataset:
    """Linear interpolation to a regular grid inside the old one; longitudes wrap."""
    ds = ds.sortby([lat, lon])
    y, x = ds[lat].values, ds[lon].values
    rows = spacing * np.arange(np.ceil(y[0] / spacing), np.floor(y[-1] / spacing) + 1)
    closed = x[-1] + 1.5 * (x[1] - x[0]) > x[0] + 360
    if closed:
        ds = xr.concat(
            [ds, ds.isel({lon: [0]}).assign_coords({lon: [x[0] + 360]})], lon
        )
    end = x[0] + 360 if closed else x[-1] + spacing / 2
    columns = np.arange(x[0], end - 1e-6, spacing)
    return ds.chunk({lat: -1, lon: -1}).interp({lat: rows, lon: columns})


def _averaged(ds: xr.Dataset, lat: str, lon: str, grid: tuple[int, int]) -> xr.Dataset:
    """Means over areas: the cells of a regular global grid."""
    try:
        import xarray_regrid  # noqa: F401 - gives ds its accessor
    except ImportError as error:
        msg = "Means over the cells of another grid need xarray-regrid."
        needed, hint = "that package", 'pip install "xatmo[train]"'
        raise OptionError(
            msg, found="it is not installed", needed=needed, hint=hint
        ) from error
    rows, columns = grid
    target = xr.Dataset(
        coords={
            lat: 180 / rows * (np.arange(rows) + 0.5) - 90,
            lon: 360 / columns * np.arange(columns),
        }
    )
    about = {name: ds[name].attrs for name in (lat, lon)}
    whole = ds.sortby([lat, lon]).chunk({lat: -1, lon: -1})
    coarse = whole.regrid.conservative(target, latitude_coord=lat)
    for name, attrs in about.items():
        coarse[name].attrs.update(attrs)
    return coarse


def _cut(
    ds: xr.Dataset, lat: str, lon: str, box: tuple[float, float, float, float]
) -> xr.Dataset:
    """Leave a box of latitudes and longitudes, across the date line too."""
    south, north, west, east = box
    rows = (ds[lat] >= south) & (ds[lat] <= north)
    away = (ds[lon] - west) % 360  # on the way east from the western edge
    ds = ds.assign_coords({lon: (west + away).assign_attrs(ds[lon].attrs)})
    return ds.isel(
        {lat: np.flatnonzero(rows), lon: np.flatnonzero(away <= (east - west) % 360)}
    ).sortby(lon)


def _opened(path: Path) -> xr.Dataset:
    options: dict[str, Any] = {}
    if path.is_dir():
        options = {"engine": "zarr"}
    elif path.suffix in {".grib", ".grb", ".grib2"}:
        # No index file beside the data: the folder may not be ours to write to.
        options = {"engine": "cfgrib", "backend_kwargs": {"indexpath": ""}}
    try:
        with warnings.catch_warnings():
            # Metadata in one file or in many: none of the user's business here.
            warnings.filterwarnings("ignore", ".*consolidated metadata")
            return xr.open_dataset(path, chunks={}, **options)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        msg = f"xarray cannot open {str(path)!r}."
        raise OptionError(
            msg,
            found=reason,
            needed="one netCDF or GRIB file, or one Zarr store",
            hint=f"xr.open_dataset({str(path)!r}) shows all that xarray says",
        ) from error


def _dated(ds: xr.Dataset, axes: Axes, name: str) -> tuple[xr.Dataset, str]:
    """Return the data with dates along time, in order and each once."""
    time = axes.time
    if time is None or time not in ds.dims:
        msg = f"{name} has no time axis to take pairs from."
        raise TimeAxisError(
            msg,
            found=f"dimensions {', '.join(map(str, ds.dims))}",
            needed="a series with a time dimension",
            hint="concatenate the states: xr.concat([...], dim='time')",
        )
    dates = [time, *(str(n) for n, c in ds.coords.items() if c.dims == (time,))]
    dates = [n for n in dates if n in ds.coords and _are_dates(ds[n])]
    if not dates:
        msg = f"{time!r} of {name} holds no dates."
        raise TimeAxisError(
            msg,
            found=f"{time} of type {ds[time].dtype}",
            needed="dates, so that pairs are known to be some hours apart",
            hint=f'ds["{time}"].attrs["units"] = "hours since 2000-01-01", then '
            "xr.decode_cf(ds).to_zarr(...)",
        )
    if dates[0] != time:
        ds = ds.swap_dims({time: dates[0]})
    time = dates[0]
    if not ds.indexes[time].is_monotonic_increasing:
        ds = ds.sortby(time)
    if not ds.indexes[time].is_unique:
        ds = ds.drop_duplicates(time)
    return ds, time


def _are_dates(coord: xr.DataArray) -> bool:
    if coord.dtype.kind == "M":
        return bool(coord.notnull().all())
    return coord.dtype == object and isinstance(coord.values[0], cftime.datetime)


def _in_period(ds: xr.Dataset, time: str, source: Source, name: str) -> xr.Dataset:
    chosen = ds.sel({time: slice(source.start, source.end)})
    if chosen.sizes[time]:
        return chosen
    held = ds[time].values
    msg = f"{name} has no times in the period that is asked for."
    raise TimeAxisError(
        msg,
        found=f"times from {held[0]} to {held[-1]}" if held.size else "no times",
        needed=f"some from {source.start or 'the first'} to {source.end or 'the last'}",
        hint="start and end in the recipe's [[data...]] within the period of the data",
    )
