"""Finer time steps of a series: which there can be, and which windows tell of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xatmo.boxes.reading import Boxes
from xatmo.boxes.times import Times, card_step, hours_of
from xatmo.errors import OptionError, TimeAxisError
from xatmo.zoo import Card

__all__ = ["Steps", "check_steps"]

_SECOND = 1 / 3600  # hours


@dataclass(frozen=True)
class Steps:
    """Steps of a series, in those of the network.

    Parameters
    ----------
    old, new : int
        Steps of the network from one time of the data, or of the result, to the next.
    count : int
        Times of the data.
    """

    old: int
    new: int
    count: int

    @property
    def times(self) -> int:
        """How many times come of one."""
        return self.old // self.new

    @property
    def stop(self) -> int:
        """Times of the result; the first and the last are of the data."""
        return (self.count - 1) * self.times + 1

    @property
    def known(self) -> np.ndarray:
        """Whether a time of the result is of the data."""
        return np.arange(self.stop) % self.times == 0

    def starts(self, size: int) -> np.ndarray:
        """Return where windows of ``size`` times begin, in steps of the network.

        They begin with a time of the data, so that they hold as many as can be; what is
        between two times is between them in some window as well.
        """
        step = self.old * max(1, size // 2 // self.old)
        end = max((self.count - 1) * self.old + 1 - size, 0)
        return np.append(np.arange(0, end, step), end)

    def target(self, starts: np.ndarray, size: int) -> np.ndarray:
        """Return which new times of the result windows are good for: (K, size), or -1.

        Only times before and after which a window has one of the data.
        """
        positions = starts[:, None] + np.arange(size)
        known = (positions % self.old == 0) & (positions < self.count * self.old)
        before = np.logical_or.accumulate(known, 1)
        after = np.logical_or.accumulate(known[:, ::-1], 1)[:, ::-1]
        number, rest = np.divmod(positions, self.new)
        new = ~known & before & after & (rest == 0)
        return np.where(new, number, -1)


def check_steps(hours: float, boxes: Boxes) -> Steps:
    """Check the times against what is asked for and what the network does.

    Parameters
    ----------
    hours : float
        The new time step.
    boxes : Boxes

    Raises
    ------
    xatmo.errors.TimeAxisError
        If the times of the data are not what can be interpolated between.
    xatmo.errors.OptionError
        If the time step is not one that they can have.
    """
    old = _regular(boxes.times, boxes.card)
    step, ratio = boxes.step, old / boxes.step
    if abs(hours - old) < _SECOND:
        raise _already(hours, boxes)
    if abs(ratio - round(ratio)) > 1e-6 or ratio < 2:
        raise _other_step(old, hours, boxes)
    most = boxes.domain().box[0] - 1
    if round(ratio) > most:
        raise _too_far(old, most, boxes)
    new = hours / step
    if abs(new - round(new)) > 1e-6 or round(new) < 1 or round(ratio) % round(new):
        raise _no_such_freq(hours, old, round(ratio), boxes.card)
    return Steps(round(ratio), round(new), len(boxes.times))


def _regular(times: Times, card: Card) -> float:
    """Return hours from each time to the next, if they are the same."""
    if times.step is None:
        msg = "There is nothing between the times of a single one."
        raise TimeAxisError(
            msg,
            found=f"one time, {times.name!r}",
            needed=f"two times or more, as far apart as multiples of {card_step(card)}",
            hint='ds.atmo.forecast(lead="24h") for the times after it',
        )
    apart = np.diff(times.hours)
    if np.ptp(apart) < 2 * _SECOND:
        return times.step
    msg = "Times are not equally far apart."
    raise TimeAxisError(
        msg,
        found=f"{len(times)} times along {times.name!r}, from {apart.min():g} h to "
        f"{apart.max():g} h apart",
        needed="equal steps, and NaN where a time is missing",
        hint=f'ds.resample({times.name}="{times.step:g}h").asfreq()',
    )


def _already(hours: float, boxes: Boxes) -> OptionError:
    finer = boxes.step < hours - _SECOND
    msg = f"The data have this time step already: {hours:g} h."
    return OptionError(
        msg,
        found=f'freq="{hours:g}h", and times every {hours:g} h',
        needed="a finer time step than that of the data",
        hint=f'freq="{card_step(boxes.card)}"'
        if finer
        else "ds.atmo.infill(), if gaps are to be filled",
    )


def _other_step(old: float, hours: float, boxes: Boxes) -> TimeAxisError | OptionError:
    """The data are as fine as the network, or their times miss some of its."""
    card, name = boxes.card, boxes.times.name
    step = hours_of(card)
    resampled = 'ds.resample({}="{:g}h").interpolate("linear")'
    linear = resampled.format(name, hours)
    if hours < step - _SECOND and old < step + _SECOND:
        msg = f"{card.name} knows no finer time step than {step:g} h."
        return OptionError(
            msg,
            found=f'freq="{hours:g}h", and times every {old:g} h',
            needed=f"data every {2 * step:g} h or more, and a freq of {step:g} h",
            hint=f"xatmo.list_models('interpolate'), or {linear}",
        )
    msg = f"The time step of the data is no multiple of that of {card.name}."
    near = step * max(2, round(old / step))
    return TimeAxisError(
        msg,
        found=f"{len(boxes.times)} times along {name!r}, every {old:g} h",
        needed=f"every {2 * step:g} h, {3 * step:g} h, ...: multiples of {step:g} h",
        hint=f"{resampled.format(name, near)} first, or {linear}",
    )


def _too_far(old: float, most: int, boxes: Boxes) -> TimeAxisError:
    card, name = boxes.card, boxes.times.name
    msg = f"The times are too far apart for {card.name}: a box holds one of them."
    return TimeAxisError(
        msg,
        found=f"{len(boxes.times)} times along {name!r}, every {old:g} h",
        needed=f"every {most * boxes.step:g} h or less, so that two are in a box",
        hint=f'ds.resample({name}="{card_step(card)}").interpolate("linear")',
    )


def _no_such_freq(hours: float, old: float, ratio: int, card: Card) -> OptionError:
    step = hours_of(card)
    able = [n * step for n in range(1, ratio) if ratio % n == 0]
    msg = (
        f"{card.name} knows no finer time step than {step:g} h."
        if hours < step
        else f"A time step of {hours:g} h does not divide that of the data."
    )
    near = min(able, key=lambda one: abs(one - hours))
    return OptionError(
        msg,
        found=f'freq="{hours:g}h", and times every {old:g} h',
        needed="one of " + ", ".join(f"{one:g} h" for one in able),
        hint=f'freq="{near:g}h"',
    )
