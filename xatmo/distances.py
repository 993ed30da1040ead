"""distance(): how far apart two states are, as a network sees it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xatmo.alignment import check_time, drop_conflicts, meet
from xatmo.embedding import (
    cell_weights,
    check_reduce,
    dtype_of,
    embed_fields,
    history_of,
)
from xatmo.engine import over_chunks
from xatmo.errors import OptionError
from xatmo.fields import Fields, restore
from xatmo.fields.levels import describe_levels
from xatmo.matching import prepare, warn_of
from xatmo.provenance import sign
from xatmo.zoo import Model, check_layer, distance_scale

__all__ = ["distance"]

_SPACE = ["latitude", "longitude"]

# Numbers of an embedding that one task pairs with as many others (64 MB each).
_PAIRED = 2**24


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
    a = prepare(obj, model, capability="distance", level=level, warn=False)
    layer = check_layer(a.card, layer)
    warn_of(a)
    same = other is None or other is obj
    mine = a.fields
    if same:
        theirs = mine
    else:
        # What the levels were warned of once is enough.
        b = prepare(
            other, a.model, capability="distance", level=level, warn=False
        ).fields
        mine, theirs = meet(mine, b, join=join, pairwise=pairwise)
    if pairwise:
        check_time(mine)
        check_time(theirs)
    first = embed_fields(replace(a, fields=mine), layer)
    second = first if same else embed_fields(replace(a, fields=theirs), layer)
    # The grids are equal to rounding: the coordinates of the first one stand.
    second = second.assign_coords({d: first[d].variable for d in _SPACE})
    alpha, space = distance_scale(a.card, layer)
    weights = cell_weights(mine, a.card, layer)
    if pairwise:
        result = _pairwise(first, second, weights, str(mine.axes.time))
    else:
        result = _matched(first, second, weights if reduce == "mean" else None)
    result = (alpha * result).astype(dtype_of(mine))
    result = drop_conflicts(restore(result, mine), theirs)
    result = _new_dims_first(result, mine)
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
            "level": describe_levels(mine.levels),
            "alpha": alpha,
            "alpha_space": space,
        },
        notes=a.fields.notes,
        history=history_of(obj),
    )


def _matched(
    first: xr.DataArray, second: xr.DataArray, weights: xr.DataArray | None
) -> xr.DataArray:
    """State against state: (..., latitude, longitude), or means by area (...)."""
    first, second = xr.align(first, second, join="exact")
    shares = None if weights is None else (weights / weights.sum()).values
    out = {} if shares is not None else {d: first.sizes[d] for d in _SPACE}
    result = over_chunks(
        partial(_mean_squares, shares=shares),
        [first, second],
        core=[*_SPACE, "feature"],
        out=out,
        dtype=np.float64,
    )
    return result.assign_coords({d: first[d].variable for d in out})


def _mean_squares(
    first: np.ndarray, second: np.ndarray, shares: np.ndarray | None
) -> np.ndarray:
    squares = ((first - second) ** 2).mean(-1, dtype=np.float64)
    return squares if shares is None else (squares * shares).sum((-2, -1))


def _pairwise(
    first: xr.DataArray, second: xr.DataArray, weights: xr.DataArray, time: str
) -> xr.DataArray:
    """All against all: |a|^2 + |b|^2 - 2 ab, in float64 since like terms cancel."""
    dims = [*_SPACE, "feature"]
    scale = np.sqrt(weights / weights.sum() / first.sizes["feature"])
    a = _fewer_chunks(first, time).astype(np.float64) * scale
    b = _fewer_chunks(second, time).astype(np.float64) * scale
    b = b.rename({time: f"{time}_other"})
    products = xr.dot(a, b, dim=dims)
    squares = xr.dot(a, a, dim=dims) + xr.dot(b, b, dim=dims)
    return (squares - 2 * products).clip(min=0)


def _fewer_chunks(x: xr.DataArray, time: str) -> xr.DataArray:
    """Join small chunks, since the number of products grows with its square."""
    if x.chunks is None:
        return x
    state = x.size // max(x.sizes[time], 1)
    return x.chunk({time: max(1, _PAIRED // max(state, 1)), "feature": -1})


def _new_dims_first(result: xr.DataArray, fields: Fields) -> xr.DataArray:
    """What only the other object has comes first, after the time it is paired with."""
    time = fields.axes.time
    new = [d for d in result.dims if d not in fields.dims]
    lead = [time] if f"{time}_other" in new and time in result.dims else []
    return result.transpose(*lead, *new, ...)


def _check_arguments(other: Any, pairwise: bool, reduce: str | None, join: str) -> None:
    if other is None and not pairwise:
        msg = "A distance needs two things."
        raise OptionError(
            msg,
            found="no other object",
            needed="other=..., or pairwise=True to compare all times with each other",
            hint="ds.atmo.distance(ds.isel(time=0))",
        )
    if not isinstance(pairwise, bool):
        msg = f"pairwise cannot be {pairwise!r}."
        raise OptionError(
            msg,
            found=f"pairwise={pairwise!r}",
            needed="True (all times with all) or False",
            hint="ds.atmo.distance(pairwise=True)",
        )
    check_reduce(reduce, "distance")
    if join not in ("exact", "inner", "override"):
        msg = f"Two series cannot be joined by {join!r}."
        raise OptionError(
            msg,
            found=f"join={join!r}",
            needed="'exact', 'inner' or 'override'",
            hint="ds.atmo.distance(other, join='inner')",
        )
