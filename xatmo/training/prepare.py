"""From any data set to what training reads: a Zarr store per source, and constants."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import xarray as xr

from xatmo.errors import TimeAxisError
from xatmo.fields import find_axes, read
from xatmo.training.recipe import Source

# Counts up when stores written before can no longer be read.
_FORMAT = 2

__all__ = ["fit_normalization", "open_source", "prepare_source"]


def open_source(source: Source) -> xr.Dataset:
    """Open a source lazily: its period, on its (perhaps coarsened) grid."""
    path = source.resolve()
    engine = "zarr" if path.is_dir() else None
    ds = xr.open_dataset(path, engine=engine, chunks={})
    axes = find_axes(ds)
    if axes.time is None or axes.time not in ds.dims:
        msg = f"{path.name} has no time axis to take pairs from."
        raise TimeAxisError(
            msg,
            found=f"dimensions {', '.join(map(str, ds.dims))}",
            needed="a series with a time dimension",
            hint="concatenate the states: xr.concat([...], dim='time')",
        )
    ds = ds.chunk({axes.time: 16}).sel({axes.time: slice(source.start, source.end)})
    if source.coarsen > 1:
        blocks = {axes.latitude: source.coarsen, axes.longitude: source.coarsen}
        ds = ds.coarsen(blocks, boundary="trim").mean()
    if source.spacing:
        ds = _interpolated(ds, str(axes.latitude), str(axes.longitude), source.spacing)
    return ds


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


def prepare_source(source: Source, quantities: Sequence[str], folder: Path) -> Path:
    """Write a source's fields as the network's channels; reuse what is there.

    Parameters
    ----------
    source : Source
    quantities : sequence of str
        CF standard names, in channel order.
    folder : Path
        Where the store goes.

    Returns
    -------
    Path
        Zarr store with ``fields`` (time, channel, latitude, longitude), float32 in
        physical units, one chunk per time, latitude descending.
    """
    file = source.resolve()
    stat = file.stat()
    identity = [_FORMAT, asdict(source), list(quantities), stat.st_size, stat.st_mtime]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    target = folder / f"{file.stem}-{digest}.zarr"
    if target.exists():
        return target
    fields = read(open_source(source), quantities, level=source.level)
    time = str(fields.axes.time)
    arrays = [fields.at_level(q, 0) for q in quantities]
    stacked = xr.concat(arrays, "channel", coords="minimal", compat="override")
    stacked = stacked.rename({time: "time"}) if time != "time" else stacked
    stacked = stacked.transpose("time", "channel", "latitude", "longitude")
    ds = (
        stacked.astype(np.float32).rename("fields").reset_coords(drop=True).to_dataset()
    )
    ds = ds.sortby("time").drop_duplicates("time").drop_attrs()
    ds.attrs = {
        "level": str(fields.levels[0]),
        "quantities": list(quantities),
        "periodic": int(fields.grid.is_global),
        "spacing": list(fields.grid.spacing),
    }
    chunks = {"time": 1, "channel": -1, "latitude": -1, "longitude": -1}
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    ds.chunk(chunks).to_zarr(partial, mode="w", consolidated=False)
    partial.rename(target)
    return target


def fit_normalization(stores: Sequence[Path], alpha: float) -> dict[str, list[float]]:
    """Measure the constants of the sign-log normalisation, one number per channel.

    All grid points and times count alike, as in the paper.

    Parameters
    ----------
    stores : sequence of Path
        As :func:`prepare_source` writes them.
    alpha : float
        Of the logarithm.

    Returns
    -------
    dict
        ``mean``, ``std``, ``log_mean``, ``log_std``.
    """
    fields = [xr.open_zarr(s, consolidated=False)["fields"] for s in stores]
    x = xr.concat(
        [f.drop_vars(["latitude", "longitude", "time"]) for f in fields], "time"
    ).astype(np.float64)
    over = ["time", "latitude", "longitude"]
    mean, std = x.mean(over).compute(), x.std(over).compute()
    z = (x - mean) / std
    y = np.sign(z) * np.log1p(alpha * np.abs(z))
    log_mean, log_std = y.mean(over).compute(), y.std(over).compute()
    constants = {"mean": mean, "std": std, "log_mean": log_mean, "log_std": log_std}
    return {name: value.values.tolist() for name, value in constants.items()}
