"""What a network of boxes says of the gaps of a series, in the user's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xatmo.boxes.channels import CHANNEL
from xatmo.boxes.reading import Boxes
from xatmo.boxes.times import Times
from xatmo.engine import picked
from xatmo.engine.series_of_boxes import Spans, fill_spans
from xatmo.fields import Grid, reorder

__all__ = ["filled", "on_own_columns", "spans_of", "spread_attrs"]

_SPACE = ("latitude", "longitude")
_MOMENT = "_moment"
_TEMPERATURES = {"k", "kelvin", "degc", "degree_celsius", "celsius", "deg_c", "c", "°c"}


def spans_of(
    boxes: Boxes,
    starts: np.ndarray,
    target: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Spans:
    """Return windows that begin some steps after the first time.

    Parameters
    ----------
    boxes : Boxes
    starts : ndarray of int, shape (K,)
    target, weights : ndarray, shape (K, T), optional
        As in :class:`xatmo.engine.series_of_boxes.Spans`; the times of the data are
        wanted if not given.
    """
    frames = range(boxes.domain().box[0])
    index = boxes.times.windows(frames, boxes.step, at=starts)
    when = boxes.times.at(starts, boxes.step).when(frames, boxes.step)
    return Spans.of(index, when, index if target is None else target, weights)


def filled(
    boxes: Boxes, spans: Spans, times: Times, chunks: tuple[int, ...] | None = None
) -> dict[str, tuple[xr.DataArray, xr.DataArray]]:
    """Predict what is not known of a series: means of the members, and their spread.

    Parameters
    ----------
    boxes : Boxes
    spans : Spans
        What is read, and what is wanted.
    times : Times
        Those of the result.
    chunks : tuple of int, optional
        Those of the result's times, if it is lazy.

    Returns
    -------
    dict of (DataArray, DataArray)
        By the user's name, as from :meth:`xatmo.boxes.Boxes.to_user`, on all columns
        that the user has; without coordinates along time.
    """
    data = fill_spans(boxes.data.data, spans, boxes.domain(), len(times), chunks)
    dims = (boxes.time, *boxes.batch, _MOMENT, CHANNEL, *_SPACE)
    known = boxes.data.coords
    gone = {boxes.time, CHANNEL}
    coords = {n: c for n, c in known.items() if not gone & set(c.dims)}
    result = xr.DataArray(data, dims=dims, coords=coords)
    months = xr.DataArray(np.asarray(times.index.month), dims=(boxes.time,))
    mean, spread = (
        boxes.to_user(picked(result, **{_MOMENT: i}), months, spread=bool(i))
        for i in (0, 1)
    )
    both = {}
    for name in mean:
        pair = [on_own_columns(da, boxes.grid) for da in (mean[name], spread[name])]
        if boxes.timeless:
            pair = [da.isel({boxes.time: 0}, drop=True) for da in pair]
        both[name] = (pair[0], pair[1])
    return both


def on_own_columns(da: xr.DataArray, grid: Grid) -> xr.DataArray:
    """Repeat a column that the user has twice, at both ends of a circle."""
    name = grid.names[1]
    if da.sizes[name] == grid.user_longitude.size:
        return da
    # Networks see each column once: which of the user's that is, in the user's order.
    own = np.sort(grid.lon_order)
    kept = grid.user_longitude[own]
    away = np.abs(np.mod(grid.user_longitude[:, None] - kept + 180.0, 360.0) - 180.0)
    attrs = da[name].attrs
    da = reorder(da, name, away.argmin(1))
    return da.assign_coords({name: (name, grid.user_longitude, attrs)})


def spread_attrs(attrs: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the attributes of a standard deviation over members.

    Parameters
    ----------
    attrs : mapping
        Of the variable.
    name : str
        What it is called if the attributes do not say.
    """
    said = dict(attrs)
    called = said.get("long_name") or said.get("standard_name") or name
    said["long_name"] = f"standard deviation of the ensemble of {called}"
    methods = [str(said.get("cell_methods", "")), "realization: standard_deviation"]
    said["cell_methods"] = " ".join(filter(None, methods))
    if str(said.get("units", "")).lower() in _TEMPERATURES:
        said["units_metadata"] = "temperature: difference"
    return said
