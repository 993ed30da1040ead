"""What a dataset holds, for people to read: nothing raised, no data computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xatmo.errors import AtmoError
from xatmo.fields.attributes import text
from xatmo.fields.axes import Axes, find_axes
from xatmo.fields.choose import derivable
from xatmo.fields.grid import Grid, read_grid
from xatmo.fields.inputs import as_dataset
from xatmo.fields.names import Found, canonical_units, find_quantities
from xatmo.fields.units import same_dimension

__all__ = ["Recognised", "TimeAxis", "recognise"]

# Times that are lazy (valid_time along step, opened in chunks) are coordinates, not
# data: so many are read.
_MOST_LAZY_TIMES = 10_000


@dataclass(frozen=True)
class TimeAxis:
    """The times of a dataset.

    Parameters
    ----------
    name : str
        The user's dimension.
    size : int
    start, stop : object
        First and last time as text, None where there are no dates.
    step : timedelta or None
        Median step; None where there are no dates or only one.
    regular : bool
        Whether all steps are equal.
    missing, duplicates : int
        Steps that are left out (where the others are whole multiples of the median),
        and times that stand there more than once.
    ordered : bool
        Whether times only grow.
    """

    name: str
    size: int
    start: str | None = None
    stop: str | None = None
    step: pd.Timedelta | None = None
    regular: bool = False
    missing: int = 0
    duplicates: int = 0
    ordered: bool = True


@dataclass(frozen=True)
class Recognised:
    """What was found in a dataset, and what stands in the way.

    Parameters
    ----------
    axes : Axes or None
    grid : Grid or None
    spacing : str
        Such as ``"1° x 1°, 181 x 360, global"``; empty without a grid.
    time : TimeAxis or None
    quantities : dict
        CF standard name -> variables that hold it.
    derivable : tuple of str
        Quantities that are not there but follow from those that are.
    unrecognised : tuple of str
        Variables that no table knows.
    problems : tuple of str
        In sentences.
    """

    axes: Axes | None = None
    grid: Grid | None = None
    spacing: str = ""
    time: TimeAxis | None = None
    quantities: dict[str, list[Found]] = field(default_factory=dict)
    derivable: tuple[str, ...] = ()
    unrecognised: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def recognise(obj: Any) -> Recognised:
    """Say what a dataset holds, without raising and without computing data.

    Only coordinates are read: indexes, and lazy times if they are few.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree node

    Returns
    -------
    Recognised
    """
    try:
        ds = as_dataset(obj)
    except AtmoError as error:
        return Recognised(problems=(_sentence(error),))
    problems: list[str] = []
    axes, grid = _place(ds, problems)
    time = _time(ds, axes.time) if axes is not None and axes.time else None
    quantities = find_quantities(ds)
    known = {f.name for entries in quantities.values() for f in entries}
    problems += _time_problems(time) + _unit_problems(quantities)
    return Recognised(
        axes=axes,
        grid=grid,
        spacing=_spacing(grid) if grid is not None else "",
        time=time,
        quantities=quantities,
        derivable=derivable(quantities),
        unrecognised=_unknown(ds, axes, known),
        problems=tuple(problems),
    )


def _place(ds: xr.Dataset, problems: list[str]) -> tuple[Axes | None, Grid | None]:
    axes = None
    try:
        axes = find_axes(ds)
        return axes, read_grid(ds, axes)
    except AtmoError as error:
        problems.append(_sentence(error))
        return axes, None


def _unknown(ds: xr.Dataset, axes: Axes | None, known: set[str]) -> tuple[str, ...]:
    """Names of maps that no table knows; bounds and time stamps are no maps."""
    dims = {axes.latitude, axes.longitude} if axes is not None else set()
    names = [str(n) for n, v in ds.data_vars.items() if dims <= set(v.dims)]
    return tuple(n for n in names if n not in known)


def _sentence(error: AtmoError) -> str:
    return f"{error.problem} Found: {error.found}. Try: {error.hint}"


def _spacing(grid: Grid) -> str:
    lat, lon = (f"{step:.4g}°" for step in grid.spacing)
    kind = "global" if grid.is_global else "regional"
    gaussian = ", Gaussian latitudes" if grid.gaussian else ""
    sizes = f"{grid.latitude.size} x {grid.longitude.size}"
    return f"{lat} x {lon}, {sizes}, {kind}{gaussian}"


def _time(ds: xr.Dataset, name: str) -> TimeAxis:
    size = ds.sizes[name]
    index = _dates(ds, name)
    if index is None or size == 0:
        return TimeAxis(name, size)
    start, stop = (_text(index[i]) for i in (0, -1))
    if size < 2:
        return TimeAxis(name, size, start, stop, regular=True)
    # Whole seconds are enough, and numpy has them for every calendar.
    steps = pd.TimedeltaIndex(index[1:] - index[:-1]).total_seconds().to_numpy()
    forward = steps[steps > 0]
    duplicates = int(index.duplicated().sum())
    if forward.size == 0:
        return TimeAxis(name, size, start, stop, duplicates=duplicates, ordered=False)
    step = float(np.sort(forward)[(forward.size - 1) // 2])  # one that occurs
    left_out = forward / step - 1
    whole = np.allclose(left_out, np.round(left_out))
    return TimeAxis(
        name,
        size,
        start,
        stop,
        step=pd.Timedelta(seconds=step),
        regular=bool((steps == step).all()),
        missing=int(np.round(left_out).sum()) if whole else 0,
        duplicates=duplicates,
        ordered=bool((steps >= 0).all()),
    )


def _dates(ds: xr.Dataset, name: str) -> pd.Index | None:
    index = ds.indexes.get(name)
    if isinstance(index, pd.DatetimeIndex | xr.CFTimeIndex):
        return index
    # The step of a forecast has its times in valid_time(step).
    for coord in ds.coords.values():
        if (
            coord.dims == (name,)
            and (coord.chunks is None or coord.size <= _MOST_LAZY_TIMES)
            and np.issubdtype(coord.dtype, np.datetime64)
            and text(coord.attrs, "standard_name") == "time"
        ):
            return _read_dates(coord)
    return None


def _read_dates(coord: xr.DataArray) -> pd.Index | None:
    try:
        return pd.DatetimeIndex(coord.values)
    except Exception:  # a lazy one may be in a file that is gone: not said here
        return None


def _text(date: Any) -> str:
    return str(date)[:16]


def _time_problems(time: TimeAxis | None) -> list[str]:
    if time is None:
        return []
    problems = []
    if time.duplicates:
        problems.append(
            f"{time.duplicates} times in {time.name!r} stand there more than once. "
            f"Try: ds.drop_duplicates({time.name!r})"
        )
    if not time.ordered:
        problems.append(
            f"Times in {time.name!r} are not in order. Try: ds.sortby({time.name!r})"
        )
    return problems


def _unit_problems(quantities: dict[str, list[Found]]) -> list[str]:
    problems = []
    for quantity, entries in quantities.items():
        to = canonical_units(quantity)
        for found in entries:
            if to is None:
                continue
            if found.units is None:
                problems.append(
                    f"{found.name!r} has no units; those usual are assumed."
                )
            elif not same_dimension(found.units, to) and not (
                quantity == "geopotential" and same_dimension(found.units, "m")
            ):
                problems.append(
                    f"{found.name!r} is in {found.units!r}, which cannot become {to!r}."
                )
    return problems
