"""From any data set to what training reads: a Zarr store per source, and constants."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cftime  # type: ignore[import-untyped]
import dask
import dask.array
import numpy as np
import xarray as xr
import zarr
from filelock import FileLock
from tqdm import tqdm

from xatmo.errors import FieldError, LevelError, MissingValuesError
from xatmo.fields import Fields, find_axes, read
from xatmo.moments import Sketch, sketch
from xatmo.normalization import constants
from xatmo.training.recipe import Source
from xatmo.training.source import CHUNK, open_source

# Counts up when stores written before can no longer be read.
_FORMAT = 3
_WINDOW_BYTES = 2**26  # written at a time
# What is known of each time in a store.
_UNWRITTEN, _WHOLE, _GAPS = 0, 1, 2

__all__ = ["fit_normalization", "open_source", "prepare_source"]


def prepare_source(source: Source, quantities: Sequence[str], folder: Path) -> Path:
    """Write a source's fields as the network's channels; reuse what is there.

    Data of any size are written a few times after the other; what was interrupted goes
    on where it stopped. Times with missing values are marked: they make no pairs.

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
        physical units, one chunk per time, latitude descending; ``month`` (time) and
        ``state`` (time): 1 for whole fields, 2 for those with missing values.

    Raises
    ------
    xatmo.errors.FieldError
        If the data cannot be read, or not as one series at one level.
    xatmo.errors.MissingValuesError
        If no time is without missing values.
    """
    file = source.resolve()
    stat = file.stat()
    identity = [_FORMAT, asdict(source), list(quantities), stat.st_size, stat.st_mtime]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    target = folder / f"{file.stem}-{digest}.zarr"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not target.exists():
            partial = target.with_suffix(".partial")
            _write(source, quantities, partial)
            partial.rename(target)
    return target


def _write(source: Source, quantities: Sequence[str], partial: Path) -> None:
    ds = open_source(source)
    time, name = str(find_axes(ds).time), Path(source.path).name
    first, fields = _channels(ds.isel({time: slice(0, 1)}), quantities, source)
    size = first[0].nbytes
    state = _begun(partial)
    if state is None:
        _begin(partial, ds[time], first, fields, quantities)
        state = _begun(partial)
    assert state is not None  # noqa: S101 - for type checkers
    stored = zarr.open_array(partial / "fields", mode="r+")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first time has said it
        for window in _windows(np.asarray(state), size, name):
            block, _ = _channels(ds.isel({time: window}), quantities, source)
            values = block.values
            stored[window] = values
            whole = np.isfinite(values).all(axis=(1, 2, 3))
            state[window] = np.where(whole, _WHOLE, _GAPS)
    gaps = int((np.asarray(state) == _GAPS).sum())
    if gaps == ds.sizes[time]:
        shutil.rmtree(partial)
        raise _never_whole(name, ds, first, fields)
    if gaps:
        note = f"{gaps} of {ds.sizes[time]} times of {name} have missing values: they"
        warnings.warn(f"{note} are left out, like gaps in the series.", stacklevel=4)


def _channels(
    ds: xr.Dataset, quantities: Sequence[str], source: Source
) -> tuple[xr.DataArray, Fields]:
    """Read the quantities as (time, channel, latitude, longitude), lazily."""
    fields = read(ds, quantities, level=source.level)
    if len(fields.levels) > 1:
        raise _several_levels(fields, source)
    arrays = [fields.at_level(q, 0) for q in quantities]
    stacked = xr.concat(arrays, "channel", coords="minimal", compat="override")
    order = (str(fields.axes.time), "channel", "latitude", "longitude")
    if others := [str(d) for d in stacked.dims if d not in order]:
        raise _other_dims(others, stacked, source)
    stacked = stacked.transpose(*order).astype(np.float32)
    return stacked.reset_coords(drop=True), fields


def _begin(
    partial: Path,
    time: xr.DataArray,
    first: xr.DataArray,
    fields: Fields,
    quantities: Sequence[str],
) -> None:
    """Write a store that holds everything but the fields."""
    shutil.rmtree(partial, ignore_errors=True)
    shape = (time.size, *first.shape[1:])
    chunks = (1, *shape[1:])
    empty = dask.array.zeros(shape, dtype=np.float32, chunks=chunks)
    dims = ("time", "channel", "latitude", "longitude")
    ds = xr.Dataset(
        {
            "fields": (dims, empty),
            "month": ("time", time.dt.month.values.astype(np.int64)),
            "state": ("time", np.full(time.size, _UNWRITTEN, np.int8)),
        },
        coords={
            "time": _countable(time),
            "latitude": first["latitude"].values,
            "longitude": first["longitude"].values,
        },
        attrs={
            "level": str(fields.levels[0]),
            "quantities": list(quantities),
            "periodic": int(fields.grid.is_global),
            "spacing": list(fields.grid.spacing),
        },
    )
    encoding: dict[str, Any] = {"fields": {"chunks": chunks}}
    encoding["state"] = {"chunks": (time.size,)}
    ds.to_zarr(partial, encoding=encoding, compute=False, consolidated=False)


def _begun(partial: Path) -> zarr.Array | None:
    """Return the states in a store that was begun; None if there is none of use."""
    try:
        state = zarr.open_array(partial / "state", mode="r+")
        np.asarray(state)
    except Exception:
        return None  # interrupted before it was of any use
    return state


def _windows(state: np.ndarray, size: int, name: str) -> Iterator[slice]:
    """Stretches of times that have not been written, as many as memory holds."""
    length = max(1, _WINDOW_BYTES // size)
    length = length // CHUNK * CHUNK or length
    done = int((state != _UNWRITTEN).sum())
    starts = range(done, state.size, length)
    # Silent unless it takes a while, and in a terminal.
    for start in tqdm(starts, f"preparing {name}", leave=False, disable=None, delay=2):
        yield slice(start, min(start + length, state.size))


def _countable(time: xr.DataArray) -> np.ndarray:
    """Times as dates, or as seconds in a calendar that has no 29th of February."""
    values = time.values
    if values.dtype.kind == "M":
        return values.astype("datetime64[ns]")
    units, calendar = "seconds since 1970-01-01", values[0].calendar
    return np.asarray(cftime.date2num(values, units, calendar), np.int64)


def _several_levels(fields: Fields, source: Source) -> LevelError:
    names = [str(level) for level in fields.levels]
    msg = f"{Path(source.path).name} holds several levels: training needs one."
    return LevelError(
        msg,
        found=", ".join(names[:12]) + (", ..." if len(names) > 12 else ""),
        needed="one of them",
        hint=f'--level "{names[0]}" with --data, or level = "{names[0]}" for each '
        "source of the recipe",
    )


def _other_dims(others: list[str], da: xr.DataArray, source: Source) -> FieldError:
    first = others[0]
    msg = f"{Path(source.path).name} has more dimensions than a series of maps."
    return FieldError(
        msg,
        found=", ".join(f"{dim} ({da.sizes[dim]})" for dim in others),
        needed="time, latitude, longitude and perhaps levels",
        hint=f"xr.open_dataset(...).isel({first}=0).to_zarr(...), then train on that",
    )


def _never_whole(
    name: str, ds: xr.Dataset, first: xr.DataArray, fields: Fields
) -> MissingValuesError:
    share = float((~np.isfinite(first.values)).mean())
    used = list(dict.fromkeys(n for names in fields.sources.values() for n in names))
    lat, lon = fields.grid.names
    msg = f"Every time of {name} has missing values."
    return MissingValuesError(
        msg,
        found=f"{share:.0%} of what is read from {', '.join(used)} is missing at the "
        f"first of {ds.sizes[str(fields.axes.time)]} times",
        needed="maps without gaps: a network would learn where they are",
        hint=f"ds.sel({lat}=slice(...), {lon}=slice(...)) without the gaps, or "
        f'ds.interpolate_na("{lon}"), then .to_zarr(...) and train on that',
    )


def fit_normalization(
    stores: Sequence[Path], alpha: float | None
) -> dict[str, list[float]]:
    """Measure the constants of a normalisation, one number per channel.

    All grid points and times count alike, as in the paper. One pass over the data, as
    :func:`xatmo.fit_normalization` makes for a user's own.

    Parameters
    ----------
    stores : sequence of Path
        As :func:`prepare_source` writes them.
    alpha : float or None
        Of the logarithm; None for a plain z-score.

    Returns
    -------
    dict
        ``mean``, ``std``; with a logarithm ``log_mean``, ``log_std``.
    """
    stacks = [xr.open_zarr(s, consolidated=False)["fields"] for s in stores]
    table = [[sketch(x.data[:, i]) for i in range(x.shape[1])] for x in stacks]
    (table,) = dask.compute(table)
    channels = [Sketch.merge(parts) for parts in zip(*table, strict=True)]
    told = constants(channels, alpha)
    return {name: [float(v) for v in values] for name, values in told.items()}
