"""Times of a series as networks of boxes count them: in equal steps, gaps left open."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xatmo.errors import TimeAxisError
from xatmo.lags import Dates, dated
from xatmo.zoo import Card

__all__ = [
    "Times",
    "card_step",
    "check_step",
    "hours_of",
    "read_times",
    "scalar_date",
]

_SECOND = 1 / 3600  # hours: dates kept as fractions of a day are off by some


@dataclass(frozen=True, eq=False)
class Times:
    """The times of a series.

    Parameters
    ----------
    name : str
        The user's dimension, or the coordinate of a single time.
    index : DatetimeIndex or CFTimeIndex
        Ascending, each once.
    """

    name: str
    index: Dates

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def hours(self) -> np.ndarray:
        """Hours since the first time."""
        since = pd.TimedeltaIndex(self.index - self.index[0])
        return np.asarray(since.total_seconds(), float) / 3600

    @cached_property
    def step(self) -> float | None:
        """Hours from most times to the next; None of a single time."""
        steps = np.sort(np.diff(self.hours))
        return float(steps[(steps.size - 1) // 2]) if steps.size else None

    def positions(self, step: float) -> np.ndarray | None:
        """Return the number of each time in steps of so many hours, if they are whole.

        Examples
        --------
        >>> import pandas as pd
        >>> from xatmo.boxes.times import Times
        >>> times = Times("time", pd.DatetimeIndex(["2020-01-01", "2020-01-01T12"]))
        >>> times.positions(6).tolist(), times.positions(24) is None
        ([0, 2], True)
        """
        number = np.round(self.hours / step)
        if (np.abs(number * step - self.hours) > _SECOND).any():
            return None
        return number.astype(np.int64)

    def windows(
        self, offsets: Sequence[int], step: float, at: np.ndarray | None = None
    ) -> np.ndarray:
        """Return which times lie some steps from each time: (N, len(offsets)).

        Parameters
        ----------
        offsets : sequence of int
            Steps, negative ones are earlier.
        step : float
            Hours.
        at : ndarray of int, shape (N,), optional
            Positions in place of those of the times.

        Returns
        -------
        ndarray of int
            -1 where there is no such time.
        """
        known = self.positions(step)
        assert known is not None  # noqa: S101 - so check_step has found
        wanted = (known if at is None else at)[:, None] + np.asarray(offsets)
        index = np.minimum(np.searchsorted(known, wanted), known.size - 1)
        return np.where(known[index] == wanted, index, -1)

    def near(self, offsets: Sequence[int], step: float) -> np.ndarray:
        """The same as :meth:`windows`, of times that lie at any hours.

        Examples
        --------
        >>> import pandas as pd
        >>> from xatmo.boxes.times import Times
        >>> hours = ["2020-01-01T00", "2020-01-01T05", "2020-01-01T06"]
        >>> Times("time", pd.DatetimeIndex(hours)).near([-1, 0], 6).tolist()
        [[-1, 0], [-1, 1], [0, 2]]
        """
        wanted = self.hours[:, None] + step * np.asarray(offsets)
        index = np.searchsorted(self.hours, wanted - _SECOND)
        index = np.minimum(index, len(self) - 1)
        there = np.abs(self.hours[index] - wanted) <= _SECOND
        return np.where(there, index, -1)

    def after(self, offsets: Sequence[float], step: float) -> list[Dates]:
        """Return the times that are some steps after each time, offset by offset."""
        return [self.index + dt.timedelta(hours=step * k) for k in offsets]

    def when(self, offsets: Sequence[int], step: float) -> np.ndarray:
        """Return year, day of the year (the first is 0) and hour: (N, offsets, 3)."""
        return np.stack([_when(index) for index in self.after(offsets, step)], 1)

    def months(self, offsets: Sequence[float], step: float) -> np.ndarray:
        """Return the calendar months, from 1 on: (N, offsets)."""
        several = self.after(offsets, step)
        return np.stack([np.asarray(index.month) for index in several], 1)

    def at(self, positions: np.ndarray, step: float) -> Times:
        """Return times that are so many steps after the first one."""
        seconds = np.round(np.asarray(positions, float) * step * 3600)
        since = pd.to_timedelta(seconds, unit="s")
        return Times(self.name, self.index[np.zeros(len(seconds), int)] + since)

    def isel(self, which: Any) -> Times:
        """Return some of the times."""
        return Times(self.name, self.index[which])


def read_times(field: xr.DataArray, time: str | None, card: Card) -> Times:
    """Find the times of a field, along its dimension or as a scalar coordinate.

    Raises
    ------
    xatmo.errors.TimeAxisError
        If there are none, or they do not ascend.
    """
    if time is not None and time in field.dims:
        index = dated(field, time)
        if index is None:
            raise _no_dates(field, time, card)
        times = Times(time, _checked(index.round("s"), time))
    else:
        found = scalar_date(field)
        if found is None:
            raise _no_dates(field, None, card)
        times = Times(str(found.name), found.expand_dims(_t=1).to_index())
    return times


def check_step(times: Times, card: Card) -> None:
    """Refuse times that are not as far apart as those the network was trained with.

    Times may be missing.
    """
    needed = hours_of(card)
    if times.step is None:
        return
    whole = times.positions(needed) is not None
    if whole and abs(times.step - needed) < _SECOND:
        return
    msg = f"The time step is not that of {card.name}."
    raise TimeAxisError(
        msg,
        found=f"{len(times)} times along {times.name!r}, mostly every "
        f"{_hours(times.step)}",
        needed=f"every {_hours(needed)}, as in training; some may be missing",
        hint=_other_step(times, needed, whole=whole),
    )


def hours_of(card: Card) -> float:
    """Return the time step of a network of boxes, in hours."""
    assert card.box is not None  # noqa: S101 - asked of such cards only
    return float(pd.Timedelta(card.box.step) / pd.Timedelta(hours=1))


def _other_step(times: Times, needed: float, *, whole: bool) -> str:
    """The next call: take some of the times, interpolate, or resample."""
    name, step = times.name, times.step or needed
    ratio = needed / step
    if ratio > 1.01 and abs(ratio - round(ratio)) < 1e-6:
        return f"ds.sel({name}=ds.{name}[::{round(ratio)}])"
    if whole and ratio < 1:
        return f'ds.atmo.interpolate_time("{_hours(needed, "")}")'
    return f'ds.resample({name}="{_hours(needed, "")}").interpolate("linear")'


def _hours(hours: float, space: str = " ") -> str:
    if hours >= 1 or hours == 0:
        return f"{hours:g}{space}h"
    return f"{60 * hours:g}{space}min"


def _checked(index: Dates, name: str) -> Dates:
    """Times that ascend, each once."""
    problem, hint = "", ""
    if index.isna().any():
        problem, hint = "some of them missing (NaT)", f"ds.dropna({name!r})"
    elif not index.is_unique:
        count = int(index.duplicated().sum())
        problem, hint = f"{count} of them again", f"ds.drop_duplicates({name!r})"
    elif not index.is_monotonic_increasing:
        problem, hint = "not in order", f"ds.sortby({name!r})"
    if not problem:
        return index
    msg = f"A network of boxes reads times in their order, and {name!r} has none."
    raise TimeAxisError(
        msg,
        found=f"{len(index)} times along {name!r}, {problem}",
        needed="each time once, the later ones after the earlier",
        hint=hint,
    )


def scalar_date(field: xr.DataArray) -> xr.DataArray | None:
    """The date of fields without a dimension of times."""
    single = [c.compute(scheduler="synchronous") for c in _scalars(field)]
    dates = {str(c.name): c for c in single if _is_date(c)}
    named = [dates[name] for name in ("valid_time", "time") if name in dates]
    return next(iter([*named, *dates.values()]), None)


def _scalars(field: xr.DataArray) -> list[xr.DataArray]:
    return [c for c in field.coords.values() if c.ndim == 0 and c.dtype.kind in "MO"]


def _is_date(coord: xr.DataArray) -> bool:
    if coord.dtype.kind == "M":
        return not np.isnat(coord.values)
    return hasattr(coord.item(), "dayofyr")


def _when(index: Dates) -> np.ndarray:
    hour = np.asarray(index.hour) + np.asarray(index.minute) / 60
    # Pandas and xarray call it differently.
    datetime = isinstance(index, pd.DatetimeIndex)
    day = index.day_of_year if datetime else index.dayofyear
    parts = (np.asarray(index.year), np.asarray(day) - 1, hour)
    # As the networks read them; of a hundred thousand windows it is half as much.
    return np.stack([np.asarray(part, np.float32) for part in parts], -1)


def _no_dates(field: xr.DataArray, time: str | None, card: Card) -> TimeAxisError:
    msg = f"{card.name} has to know when the fields are from."
    if time is None:
        found = f"dimensions {', '.join(map(str, field.dims))}, and no date"
        hint = "ds.expand_dims(time=[np.datetime64('2020-01-01T00')])"
    else:
        found = f"{field.sizes[time]} steps along {time!r} without dates"
        hint = (
            "xr.decode_cf(ds), or ds.assign_coords("
            f"{time}=pd.date_range('2020-01-01', freq='{card_step(card)}', "
            f"periods={field.sizes[time]}))"
        )
    needed = "a time dimension with dates (datetime64 or cftime)"
    return TimeAxisError(msg, found=found, needed=needed, hint=hint)


def card_step(card: Card) -> str:
    """Return the time step as text, such as ``"6h"``."""
    return _hours(hours_of(card), "")
