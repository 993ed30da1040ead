"""distance(): how far apart two states are, as a network sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xatmo.embedding import cell_weights, check_layer, embed_fields, history_of
from xatmo.errors import AlignmentError, OptionError, TimeAxisError
from xatmo.fields import Fields, restore
from xatmo.matching import Prepared, prepare
from xatmo.provenance import sign
from xatmo.zoo import Model

__all__ = ["distance"]

_SPACE = ["latitude", "longitude"]


def distance(
    obj: xr.Dataset | xr.DataArray | xr.DataTree,
    other: xr.Dataset | xr.DataArray | xr.DataTree | None = None,
    model: str | Model | None = None,
    *,
    pairwise: bool = False,
    layer: str | None = None,
    level: Any = None,
    reduce: str | None = None,
    join: str = "exact",
) -> xr.DataArray:
    """Measure the AtmoDist distance between atmospheric states.

    The mean squared difference of two embeddings, times the scale ``alpha`` that makes
    it comparable with a mean squared error of the normalised fields. Zero for equal
    states and symmetric; it grows with what has changed in the structure of the flow.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
        The states, as for :func:`xatmo.embed`.
    other : Dataset, DataArray or DataTree, optional
        What to compare with: one state without a time axis, or a series. May be left
        out with ``pairwise=True``: then ``obj`` is compared with itself.
    model : str or Model, optional
        The default model for distances if not given.
    pairwise : bool
        Every time of ``obj`` against every time of ``other``. Each state runs through
        the network once, however many pairs there are.
    layer, level
        As for :func:`xatmo.embed`.
    reduce : {None, "mean"}, optional
        ``"mean"`` gives the area-weighted mean over the map, and is implied by
        ``pairwise``.
    join : {"exact", "inner", "override"}
        How two series meet: at equal times only (a mismatch is an error), at the times
        both have, or by position.

    Returns
    -------
    DataArray
        ``(..., latitude, longitude)`` at the centre of each cell, dimensionless; with
        ``reduce="mean"`` ``(...)``; with ``pairwise`` ``(time, time_other, ...)``. The
        scale and where it was fitted are in its attributes. Lazy if the input is.

    Raises
    ------
    xatmo.errors.AlignmentError
        If the two do not share grid, levels or times.
    xatmo.errors.TimeAxisError
        If ``pairwise`` finds no time axis.
    xatmo.errors.AtmoError
        As for :func:`xatmo.embed`.

    References
    ----------
    Hoffmann, S. and Lessig, C. (2023): AtmoDist: Self-supervised representation
    learning for atmospheric dynamics. Environmental Data Science 2, e6.

    Examples
    --------
    >>> import xatmo
    >>> ds = xatmo.open_sample()
    >>> first, later = ds.isel(time=0), ds.isel(time=8)
    >>> xatmo.distance(first, later).dims
    ('lat', 'lon')
    >>> float(xatmo.distance(first, first, reduce="mean"))
    0.0
    >>> xatmo.distance(ds.isel(time=slice(3)), pairwise=True).sizes
    Frozen({'time': 3, 'time_other': 3})
    """
    _check_arguments(other, pairwise, reduce, join)
    a = prepare(obj, model, capability="distance", level=level)
    same = other is None
    b = a if same else _prepare_other(other, a, level)
    _check_same_grid(a.fields, b.fields)
    layer = check_layer(a.card, layer)
    first = embed_fields(a, layer)
    second = first if same else _in_names_of(embed_fields(b, layer), a.fields, b.fields)
    _check_levels(a.fields, b.fields)
    alpha, space = _scale(a, layer)
    weights = cell_weights(a.fields, a.card, layer)
    if pairwise:
        result = _pairwise(first, second, weights, a.fields)
    else:
        result = _matched(first, second, a.fields, join)
        if reduce == "mean":
            result = result.weighted(weights).mean(_SPACE)
    dtype = np.result_type(*(da.dtype for da in a.fields.data.values()))
    result = restore((alpha * result).astype(dtype), a.fields)
    if pairwise:
        time = str(a.fields.axes.time)
        result = result.transpose(time, f"{time}_other", ...)
    return sign(
        result.rename("distance"),
        verb="distance",
        card=a.card,
        arguments={
            "layer": layer,
            "level": level,
            "reduce": reduce,
            "pairwise": pairwise or None,
            "join": None if join == "exact" else join,
        },
        attrs={
            "long_name": f"AtmoDist distance, layer {layer}",
            "units": "1",
            "layer": layer,
            "alpha": alpha,
            "alpha_space": space,
        },
        notes=a.fields.notes,
        history=history_of(obj),
    )


def _prepare_other(other: Any, first: Prepared, level: Any) -> Prepared:
    """What ``obj`` is compared with; its levels are those that were warned of."""
    return prepare(other, first.model, capability="distance", level=level, warn=False)


def _matched(
    first: xr.DataArray, second: xr.DataArray, fields: Fields, join: str
) -> xr.DataArray:
    """State against state: (..., latitude, longitude)."""
    time = fields.axes.time
    if time in first.dims and time in second.dims:
        first, second = _align(first, second, str(time), join)
    # Equal to rounding is checked; the coordinates of the first one stand.
    second = second.assign_coords({d: first[d] for d in _SPACE})
    with xr.set_options(arithmetic_join="exact"):
        squares = (first - second) ** 2
    return squares.mean("feature", dtype=np.float64)


def _pairwise(
    first: xr.DataArray, second: xr.DataArray, weights: xr.DataArray, fields: Fields
) -> xr.DataArray:
    """All against all: |a|^2 + |b|^2 - 2 ab, in float64 since like terms cancel."""
    time = fields.axes.time
    for x in (first, second):
        if time is None or time not in x.dims:
            msg = "Pairs of times need a time axis."
            raise TimeAxisError(
                msg,
                found=f"dimensions {', '.join(map(str, x.dims))}",
                needed="a time dimension in both objects",
                hint="ds.atmo.distance(other) without pairwise, or "
                "xr.concat([a, b], dim='time')",
            )
    dims = [*_SPACE, "feature"]
    scale = np.sqrt(weights / weights.sum() / first.sizes["feature"])
    a = first.astype(np.float64) * scale
    b = (second.astype(np.float64) * scale).rename({time: f"{time}_other"})
    b = b.assign_coords({d: a[d] for d in _SPACE})
    products = xr.dot(a, b, dim=dims)
    squares = xr.dot(a, a, dim=dims) + xr.dot(b, b, dim=dims)
    return (squares - 2 * products).clip(min=0)


def _align(
    first: xr.DataArray, second: xr.DataArray, time: str, join: str
) -> tuple[xr.DataArray, xr.DataArray]:
    if join == "override":
        if first.sizes[time] != second.sizes[time]:
            raise _times_differ(first, second, time)
        stripped = second.drop_vars([time], errors="ignore")
        if time in first.coords:
            stripped = stripped.assign_coords({time: first[time]})
        return first, stripped
    if time not in first.indexes or time not in second.indexes:
        if first.sizes[time] != second.sizes[time]:
            raise _times_differ(first, second, time)
        return first, second
    here, there = first.indexes[time], second.indexes[time]
    if here.equals(there):
        return first, second
    common = here.intersection(there)
    if join == "exact" or common.empty:
        raise _times_differ(first, second, time)
    return first.sel({time: common}), second.sel({time: common})


def _times_differ(
    first: xr.DataArray, second: xr.DataArray, time: str
) -> AlignmentError:
    msg = f"The two series do not share their times ({time})."
    return AlignmentError(
        msg,
        found=f"{_span(first, time)} and {_span(second, time)}",
        needed="the same times in both, or one state without a time axis",
        hint=f"other.isel({time}=0) for one state; join='inner' for the times both "
        "have; join='override' to compare by position",
    )


def _span(x: xr.DataArray, time: str) -> str:
    count = f"{x.sizes[time]} times"
    if time not in x.coords or not x.sizes[time]:
        return count
    return f"{count}, {_short(x[time].values[0])} to {_short(x[time].values[-1])}"


def _short(time: Any) -> str:
    return str(time)[:16]


def _in_names_of(z: xr.DataArray, mine: Fields, theirs: Fields) -> xr.DataArray:
    """Rename time and level to what ``obj`` calls them."""
    pairs = (
        (theirs.axes.time, mine.axes.time),
        (theirs.level_dim, mine.level_dim),
    )
    names = {a: b for a, b in pairs if a in z.dims and b is not None and a != b}
    return z.rename(names)


def _check_same_grid(a: Fields, b: Fields) -> None:
    for name in ("latitude", "longitude"):
        x, y = getattr(a.grid, name), getattr(b.grid, name)
        if x.size != y.size or not np.allclose(x, y, atol=1e-4):
            msg = f"The two objects lie on different grids: {name} differs."
            raise AlignmentError(
                msg,
                found=f"{_axis(x)} and {_axis(y)}",
                needed="the same points in both (order and longitude convention may "
                "differ)",
                hint=f"other.interp({a.axes.latitude}=ds.{a.axes.latitude}, "
                f"{a.axes.longitude}=ds.{a.axes.longitude}), or select the region "
                "both share",
            )


def _axis(x: np.ndarray) -> str:
    return f"{x.size} points from {x[0]:g} to {x[-1]:g}°"


def _check_levels(a: Fields, b: Fields) -> None:
    if a.levels != b.levels:
        msg = "The two objects lie on different levels."
        raise AlignmentError(
            msg,
            found=f"{', '.join(map(str, a.levels))} and "
            f"{', '.join(map(str, b.levels))}",
            needed="the same levels in both",
            hint=f"ds.atmo.distance(other, level={str(a.levels[0])!r})",
        )


def _scale(data: Prepared, layer: str) -> tuple[float, str]:
    table = data.card.distance
    if table is None or layer not in table.alpha:
        return 1.0, "not fitted"
    return table.alpha[layer], table.space


def _check_arguments(other: Any, pairwise: bool, reduce: str | None, join: str) -> None:
    if other is None and not pairwise:
        msg = "A distance needs two things."
        raise OptionError(
            msg,
            found="no other object",
            needed="other=..., or pairwise=True to compare all times with each other",
            hint="ds.atmo.distance(ds.isel(time=0))",
        )
    if reduce not in (None, "mean"):
        msg = f"A distance cannot be reduced by {reduce!r}."
        raise OptionError(
            msg,
            found=f"reduce={reduce!r}",
            needed="None (the map) or 'mean' (its area-weighted mean)",
            hint="ds.atmo.distance(other, reduce='mean')",
        )
    if join not in ("exact", "inner", "override"):
        msg = f"Two series cannot be joined by {join!r}."
        raise OptionError(
            msg,
            found=f"join={join!r}",
            needed="'exact', 'inner' or 'override'",
            hint="ds.atmo.distance(other, join='inner')",
        )
