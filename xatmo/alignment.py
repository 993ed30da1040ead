"""How two objects meet: same grid, levels and members, and which times go together.

All of it is settled on the fields, before any network runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import AlignmentError, TimeAxisError
from xatmo.fields import Fields

__all__ = ["check_time", "drop_conflicts", "meet"]

_SPACE = ("latitude", "longitude")


def meet(a: Fields, b: Fields, *, join: str, pairwise: bool) -> tuple[Fields, Fields]:
    """Bring two sets of fields together, ``b`` in the names of ``a``.

    Parameters
    ----------
    a, b : Fields
    join : {"exact", "inner", "override"}
        How two series meet.
    pairwise : bool
        Leave the times as they are: all are compared with all.

    Raises
    ------
    xatmo.errors.AlignmentError
        If grid, levels, members or times differ.
    """
    _check_same_grid(a, b)
    b = _in_levels_of(_in_names_of(b, a), a)
    time = a.axes.time
    _check_members(a, b, time)
    if not pairwise and time in sample(a).dims and time in sample(b).dims:
        a, b = _at_same_times(a, b, str(time), join)
    return a, b


def check_time(fields: Fields) -> str:
    """Return the name of the time dimension, which pairs of times need."""
    dims = sample(fields).dims
    if fields.axes.time is None or fields.axes.time not in dims:
        msg = "Pairs of times need a time axis."
        raise TimeAxisError(
            msg,
            found=f"dimensions {', '.join(map(str, dims))}",
            needed="a time dimension in both objects",
            hint="ds.atmo.distance(other) without pairwise, or "
            "xr.concat([a, b], dim='time')",
        )
    return fields.axes.time


def drop_conflicts(result: xr.DataArray, other: Fields) -> xr.DataArray:
    """Leave out what holds for one of the two only, such as a state's own date."""
    theirs = sample(other).coords
    conflicts = [
        name
        for name, coord in result.coords.items()
        if name not in result.dims
        and name in theirs
        and not coord.variable.equals(theirs[name].variable)
    ]
    return result.drop_vars(conflicts)


def sample(fields: Fields) -> xr.DataArray:
    """Return one of the quantities: all have the same dimensions and coordinates."""
    return next(iter(fields.data.values()))


def _each(
    fields: Fields, change: Callable[[xr.DataArray], xr.DataArray], **other: Any
) -> Fields:
    data = {name: change(da) for name, da in fields.data.items()}
    return replace(fields, data=data, **other)


def _check_same_grid(a: Fields, b: Fields) -> None:
    for name in _SPACE:
        x, y = getattr(a.grid, name), getattr(b.grid, name)
        if x.size != y.size or not np.allclose(x, y, atol=1e-4):
            msg = f"The two objects lie on different grids: {name} differs."
            raise AlignmentError(
                msg,
                found=f"{_extent(x)} and {_extent(y)}",
                needed="the same points in both (order and longitude convention may "
                "differ)",
                hint=f"other.interp({b.axes.latitude}=ds.{a.axes.latitude}, "
                f"{b.axes.longitude}=ds.{a.axes.longitude}), or select the region "
                "both share",
            )


def _extent(x: np.ndarray) -> str:
    return f"{x.size} points from {x[0]:g} to {x[-1]:g}°"


def _in_names_of(b: Fields, a: Fields) -> Fields:
    """Call time and level what ``a`` calls them."""
    dims = sample(b).dims
    pairs = ((b.axes.time, a.axes.time), (b.level_dim, a.level_dim))
    names = {x: y for x, y in pairs if x in dims and y is not None and x != y}

    def rename(da: xr.DataArray) -> xr.DataArray:
        # A scalar of the new name (a forecast's start, say) is not that axis.
        taken = [n for n in names.values() if n in da.coords and n not in da.dims]
        return da.drop_vars(taken).rename(names)

    return _each(
        b,
        rename,
        axes=replace(b.axes, time=names.get(b.axes.time, b.axes.time)),
        level_dim=names.get(b.level_dim, b.level_dim),
    )


def _in_levels_of(b: Fields, a: Fields) -> Fields:
    """The same levels in the same order, and written the same way."""
    if set(a.levels) != set(b.levels):
        msg = "The two objects lie on different levels."
        raise AlignmentError(
            msg,
            found=f"{', '.join(map(str, a.levels))} and "
            f"{', '.join(map(str, b.levels))}",
            needed="the same levels in both",
            hint=_level_hint(a, b),
        )
    dim = b.level_dim
    if dim is None or dim != a.level_dim:
        return b
    order = [b.levels.index(level) for level in a.levels]
    mine = sample(a)[dim].variable
    return _each(
        b, lambda da: da.isel({dim: order}).assign_coords({dim: mine}), levels=a.levels
    )


def _level_hint(a: Fields, b: Fields) -> str:
    shared = [level for level in a.levels if level in b.levels]
    if shared:
        return f"ds.atmo.distance(other, level={str(shared[0])!r}), which both have"
    return (
        "compare data of one level: the first object has none of those that the "
        "second was read at"
    )


def _check_members(a: Fields, b: Fields, time: str | None) -> None:
    """Other dimensions that both have, such as members, have to be the same."""
    x, y = sample(a), sample(b)
    settled = {*_SPACE, time, a.level_dim}
    for dim in x.dims:
        if dim in settled or dim not in y.dims:
            continue
        if not _same_values(x, y, str(dim)):
            msg = f"The two objects differ along {dim!r}."
            raise AlignmentError(
                msg,
                found=f"{_span(x, str(dim))} and {_span(y, str(dim))}",
                needed=f"the same {dim} in both, or one of them without it",
                hint=f"other.sel({dim}=ds[{str(dim)!r}]), or ds.isel({dim}=0)",
            )


def _same_values(x: xr.DataArray, y: xr.DataArray, dim: str) -> bool:
    if x.sizes[dim] != y.sizes[dim]:
        return False
    if dim not in x.coords or dim not in y.coords:
        return True
    return bool(np.array_equal(x[dim].values, y[dim].values))


def _at_same_times(a: Fields, b: Fields, time: str, join: str) -> tuple[Fields, Fields]:
    x, y = sample(a), sample(b)
    if join == "override" and x.sizes[time] == y.sizes[time]:
        return a, _each(b, lambda da: _with_axis(da, x, time))
    if join != "override" and _same_values(x, y, time):
        return a, _each(b, lambda da: _with_axis(da, x, time))
    if join == "inner" and time in x.coords and time in y.coords:
        return _at_common_times(a, b, time)
    raise _times_differ(x, y, time)


def _with_axis(da: xr.DataArray, like: xr.DataArray, time: str) -> xr.DataArray:
    da = da.drop_vars(time, errors="ignore")
    return da.assign_coords({time: like[time].variable}) if time in like.coords else da


def _at_common_times(a: Fields, b: Fields, time: str) -> tuple[Fields, Fields]:
    x, y = (sample(f)[time].to_index() for f in (a, b))
    if not (x.is_unique and y.is_unique):
        msg = f"Some times ({time}) stand more than once: which ones belong together?"
        raise AlignmentError(
            msg,
            found=f"{int(x.duplicated().sum())} and {int(y.duplicated().sum())} "
            "repeated times",
            needed="every time once in both",
            hint=f"ds.drop_duplicates({time!r})",
        )
    common = x.intersection(y)
    if common.empty:
        raise _times_differ(sample(a), sample(b), time)
    here, there = x.get_indexer(common), y.get_indexer(common)
    return (
        _each(a, lambda da: da.isel({time: here})),
        _each(b, lambda da: da.isel({time: there})),
    )


def _times_differ(x: xr.DataArray, y: xr.DataArray, time: str) -> AlignmentError:
    msg = f"The two series do not share their times ({time})."
    return AlignmentError(
        msg,
        found=f"{_span(x, time)} and {_span(y, time)}",
        needed="the same times in both, or one state without a time axis",
        hint=f"other.isel({time}=0) for one state; join='override' to compare by "
        "position, as lagged series; join='inner' for the times both have",
    )


def _span(x: xr.DataArray, dim: str) -> str:
    count = f"{x.sizes[dim]} {dim if dim != 'time' else 'times'}"
    if dim not in x.coords or not x.sizes[dim]:
        return count
    values = x[dim].values
    return f"{count}, {str(values[0])[:16]} to {str(values[-1])[:16]}"
