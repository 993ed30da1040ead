"""Time lags: as people write them, and which times of a series are so far apart."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from xatmo.errors import ModelError, OptionError, TimeAxisError
from xatmo.zoo import Card, list_models

__all__ = [
    "GROUPINGS",
    "Dates",
    "Pairs",
    "as_hours",
    "by_date",
    "dated",
    "dates",
    "find_pairs",
    "group_of",
]

Dates: TypeAlias = pd.DatetimeIndex | xr.CFTimeIndex

_DAYS = re.compile(r"(?<=[\d\s])d(?![A-Za-z])")

# What starts can be grouped by: dimension, labels in their order, and the place of the
# label for each month from January on.
GROUPINGS: dict[str, tuple[str, tuple[str, ...], tuple[int, ...]]] = {
    "season": (
        "season",
        ("DJF", "MAM", "JJA", "SON"),
        (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0),
    ),
    "half-year": (
        "half_year",
        ("apr-sep", "oct-mar"),
        (1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1),
    ),
}


@dataclass(frozen=True)
class Pairs:
    """Pairs of states a lag apart: positions of the earlier and of the later one."""

    first: np.ndarray
    second: np.ndarray


def as_hours(lag: Any) -> float:
    """Return a lag in hours.

    Parameters
    ----------
    lag : str, timedelta, numpy.timedelta64 or pandas.Timedelta

    Raises
    ------
    xatmo.errors.OptionError
        If it has no unit of time, such as a bare number, or cannot be read.

    Examples
    --------
    >>> as_hours("2 days"), as_hours(np.timedelta64(90, "m"))
    (48.0, 1.5)
    """
    written = isinstance(lag, str) and not _is_number(lag)
    if written or isinstance(lag, dt.timedelta | np.timedelta64):
        # Small letters are what people write, and what pandas is giving up.
        clean = _DAYS.sub("D", lag) if isinstance(lag, str) else lag
        try:
            hours = pd.Timedelta(clean) / pd.Timedelta(hours=1)
        except ValueError:
            hours = np.nan
        if np.isfinite(hours):
            return float(hours)
    number = _is_number(lag)
    msg = f"A lag of {lag!r} has no unit." if number else f"{lag!r} is no time lag."
    raise OptionError(
        msg,
        found=f"lag={lag!r}",
        needed="a length of time: text such as '48h', a timedelta, or a list of them",
        hint=f'lag="{float(lag):g}h"' if number else 'lag="48h"',
    )


def as_lags(lag: Any) -> tuple[list[float], bool]:
    """Return lags in hours, and whether a single one was asked for."""
    if isinstance(lag, str) or np.ndim(lag) == 0:
        return [as_hours(lag)], True
    several = lag if isinstance(lag, list | tuple) else np.asarray(lag)
    lags = [as_hours(one) for one in several]
    if not lags:
        msg = "There is no lag in the list."
        raise OptionError(
            msg, found=f"lag={lag!r}", needed="at least one lag", hint='lag="48h"'
        )
    return list(dict.fromkeys(lags)), False


def class_of(hours: float, card: Card) -> int:
    """Return the number of a lag's class."""
    if card.time is None or not card.time.lags:
        raise _names_no_lags(card)
    if hours not in card.time.lags:
        near = min(card.time.lags, key=lambda known: abs(known - hours))
        msg = f"{card.name} does not know a lag of {hours:g} h."
        raise OptionError(
            msg,
            found=f'lag="{hours:g}h"',
            needed=f"one of {', '.join(map(str, card.time.lags))} h",
            hint=f'lag="{near}h"',
        )
    return card.time.lags.index(int(hours))


def check_by(by: str | None) -> None:
    """Refuse any grouping but those known."""
    if by is None or by in GROUPINGS:
        return
    msg = f"Pairs cannot be grouped by {by!r}."
    raise OptionError(
        msg,
        found=f"by={by!r}",
        needed=f"one of {', '.join(map(repr, GROUPINGS))}, or None (all pairs)",
        hint="ds.atmo.predictability(lag='48h', by='season')",
    )


def dates(field: xr.DataArray, time: str | None) -> Dates:
    """Return the dates along the time dimension, rounded to seconds.

    Raises
    ------
    xatmo.errors.TimeAxisError
        If there is no time dimension, it has no dates, or some are repeated.
    """
    if time is None or time not in field.dims:
        msg = "Pairs of states some time apart need a time axis."
        raise TimeAxisError(
            msg,
            found=f"dimensions {', '.join(map(str, field.dims))}",
            needed="a time dimension with dates",
            hint="xr.concat([first, later], dim='time')",
        )
    index = dated(field, time)
    if index is None:
        raise _no_dates(field, time)
    # Dates that were kept as fractions of a day are off by some microseconds.
    index = index.round("s")
    if not index.is_unique:
        repeated = index[index.duplicated()]
        msg = f"Some times in {time!r} stand more than once."
        raise TimeAxisError(
            msg,
            found=f"{len(repeated)} of {len(index)} times repeated, the first of them "
            f"{str(repeated[0])[:16]}",
            needed="every time once, so that pairs are known",
            hint=f"ds.drop_duplicates({time!r})",
        )
    return index


def by_date(index: Dates) -> np.ndarray:
    """Return the positions of the dates in their order; missing ones are left out."""
    there = np.flatnonzero(index.notna())
    return there[np.argsort(index[there], kind="stable")]


def find_pairs(index: Dates, hours: float, *, time: str, known: Any = ()) -> Pairs:
    """Find all pairs of times that lie exactly ``hours`` apart.

    Parameters
    ----------
    index : DatetimeIndex or CFTimeIndex
        Each date once, and none missing.
    hours : float
    time : str
        Name of the dimension, for messages.
    known : iterable of float
        Lags to choose from, for messages.

    Raises
    ------
    xatmo.errors.TimeAxisError
        If there is no such pair.
    """
    pairs = _pairs(index, hours)
    if pairs.first.size == 0:
        raise _no_pair(index, hours, time, known)
    return pairs


def group_of(index: Dates, by: str) -> np.ndarray:
    """Return the position of each date's label in ``GROUPINGS[by]``.

    Examples
    --------
    >>> months = pd.DatetimeIndex(["2020-01-01", "2020-07-01", "2020-12-01"])
    >>> group_of(months, "season").tolist()
    [0, 2, 0]
    """
    return np.asarray(GROUPINGS[by][2])[np.asarray(index.month) - 1]


def _pairs(index: Dates, hours: float) -> Pairs:
    there = index.get_indexer(index + dt.timedelta(hours=hours))
    here = np.flatnonzero(there >= 0)
    return Pairs(here, there[here])


def _is_number(lag: Any) -> bool:
    if isinstance(lag, dt.timedelta | np.timedelta64 | bool):
        return False
    try:
        float(lag)
    except (TypeError, ValueError):
        return False
    return np.ndim(lag) == 0


def dated(field: xr.DataArray, time: str) -> Dates | None:
    """The dates along a dimension: its own, or those of another coordinate on it."""
    names = [time, *(n for n, c in field.coords.items() if c.dims == (time,))]
    for name in names:
        if name not in field.coords:
            continue
        # Like an index, it is looked at at once, even where it was chunked.
        index = field[name].compute(scheduler="synchronous").to_index()
        if isinstance(index, pd.DatetimeIndex | xr.CFTimeIndex):
            return index
    return None


def _no_dates(field: xr.DataArray, time: str) -> TimeAxisError:
    if time not in field.coords:
        found = f"{field.sizes[time]} steps along {time!r} without a coordinate"
        hint = f"ds.assign_coords({time}=pd.date_range('2020-01-01', freq='6h', ...))"
    else:
        values = field[time].values
        said = f", such as {values[0]!r}" if values.size else ""
        found = f"{values.dtype} values{said}"
        hint = "xr.decode_cf(ds), or ds.assign_coords of a pd.date_range(...)"
    msg = f"The time axis {time!r} has no dates."
    needed = "datetime64 or cftime dates along it"
    return TimeAxisError(msg, found=found, needed=needed, hint=hint)


def _no_pair(index: Dates, hours: float, time: str, known: Any) -> TimeAxisError:
    found = "1 time" if len(index) == 1 else f"{len(index)} times"
    if len(index):
        found += f", {str(index[0])[:16]}"
    hint = f"take a longer period: at least two times {hours:g} h apart"
    if len(index) > 1:
        found += f" to {str(index[-1])[:16]}"
        steps = np.diff(index.to_numpy())
        median = pd.Timedelta(np.sort(steps)[len(steps) // 2])
        found += f", mostly every {median / pd.Timedelta(hours=1):g} h"
    there = [lag for lag in known if _pairs(index, lag).first.size]
    if there:
        hint += f'; these times hold pairs for lag="{there[-1]:g}h"'
    msg = f"No two states along {time!r} are {hours:g} h apart."
    return TimeAxisError(
        msg,
        found=found,
        needed=f"at least one pair of states exactly {hours:g} h apart",
        hint=hint,
    )


def _names_no_lags(card: Card) -> ModelError:
    able = [c.name for c in list_models() if c.time and c.time.lags]
    msg = f"{card.name} does not tell time lags apart."
    return ModelError(
        msg,
        found="no lags in its card, [time]",
        needed="a model with classes of lag",
        hint=f"model={able[0]!r}" if able else "xatmo.list_models()",
    )
