"""What is done with a series that has gaps: a network, a plain method, or the best.

A recipe for :func:`xatmo.engine.fill_series`; arrays only. A method that does not tell
its spread gets one from the errors that it makes at observed cells hidden for a test.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from xatmo.climatology import Background
from xatmo.engine import Network, Plan, climate, run_network
from xatmo.errors import ExtrapolationWarning
from xatmo.fields import area_weights
from xatmo.holdout import (
    Choice,
    character,
    choose,
    distance_to_observed,
    hide_like,
    unlike,
)
from xatmo.matching import outside
from xatmo.zoo import Card

if TYPE_CHECKING:
    from xatmo.methods.series import Filled

__all__ = ["FLAGS", "PLAIN", "WHOLE_POINTS", "Methods", "sees_all_times"]

FLAGS = ("observed", "network", "plain_method", "unfilled")
_NETWORK, _PLAIN, _UNFILLED = 1, 2, 3
PLAIN = ("dineof", "interpolate", "kriging", "biharmonic", "climatology", "nearest")
_MAP_BY_MAP = ("biharmonic", "kriging")
_OF_SERIES = ("dineof", "climatology")  # make sense of several times only
_SHORTEST = 8
_SILENT = ("biharmonic", "interpolate", "nearest")  # give no spread
# Values of the largest series that a method can take that has to see all of its times:
# a gigabyte in double precision. To find out whether it is the best one is not worth
# that much.
WHOLE_POINTS = 2**27
_TRIED_WHOLE = 2**25
_LOOKED_AT = 2**20
# Points of the largest map on which methods are tried that solve systems of equations.
_TRIED_MAP = 2**14
_TESTED_POINTS = 2**19  # of all times together that are tested on
_MOST_TIMES, _LEAST_TIMES = 24, 2


def sees_all_times(method: str) -> bool:
    """Whether a method has to see a series from end to end."""
    return method in PLAIN and method not in _MAP_BY_MAP


@dataclass(frozen=True)
class Methods:
    """A method, or several to choose from.

    Parameters
    ----------
    method : str
        ``"auto"``, ``"network"`` or one of ``PLAIN``.
    network : Network, optional
        What ``"network"`` stands for; without it, it is not among those tried.
    spread : bool
        Whether a spread is asked for.
    seed : int
        Of the cells that are hidden.
    card : Card, optional
        Of the network.
    """

    method: str
    network: Network | None = None
    spread: bool = True
    seed: int = 0
    card: Card | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The methods that a table of scores tells of."""
        if self.method != "auto":
            return (self.method,)
        return (*(["network"] if self.network else []), *PLAIN)

    def candidates(self, plan: Plan) -> list[str]:
        """Return the methods that are tried, in order of preference."""
        if self.method != "auto":
            return [self.method]
        _, h, w = plan.shape
        times = plan.of or plan.count  # what suits a sample has to suit the whole
        limit = _TRIED_WHOLE if self.network else WHOLE_POINTS
        able = [
            name
            for name in self.names
            if name == "network"
            or (name in _MAP_BY_MAP and h * w <= _TRIED_MAP)
            or (
                sees_all_times(name)
                and times * h * w <= limit
                and (times >= _SHORTEST or name not in _OF_SERIES)
            )
        ]
        return able or ["biharmonic"]

    def sample(self, plan: Plan) -> slice | None:
        """The times by which to choose; the middle of a long series."""
        if not self._is_to_try() and not self._seen():
            return None
        cells = plan.latitude.size * plan.longitude.size
        # What a series is like is seen in a part of what methods are tried on.
        most = _TRIED_WHOLE if self._is_to_try() else _LOOKED_AT
        count = min(plan.count, max(_MOST_TIMES, most // cells))
        start = (plan.count - count) // 2
        return slice(start, start + count)

    def choose(
        self,
        values: np.ndarray,
        plan: Plan,
        gaps: np.ndarray | None = None,
        found: Background | None = None,
    ) -> Choice | None:
        """Hide observed cells, and compare what the methods make of them."""
        self._warn(values, plan, found)
        if not self._is_to_try() or not np.isnan(values).any():
            return None
        cells = plan.latitude.size * plan.longitude.size
        times = int(np.clip(_TESTED_POINTS // cells, _LEAST_TIMES, _MOST_TIMES))
        observed = np.isfinite(values)
        hidden = hide_like(
            observed, self.seed, times=times, gaps=gaps, hours=plan.hours
        )
        left = climate(np.where(hidden.mask, np.nan, values), plan)
        if left is None:  # a single value: nothing can be told from it
            return None
        names = self.candidates(plan)
        tried = {name: partial(self._try, name, plan, left) for name in names}
        weights = area_weights(plan.latitude)
        return choose(tried, values, hidden, weights=weights, periodic=plan.periodic)

    def scores(self, choice: Choice | None) -> np.ndarray:
        """Errors at the hidden cells, NaN where a method was not tried; the choice.

        (methods + 1,): the last one is the number of the chosen method.
        """
        if choice is None:
            return np.full(len(self.names) + 1, np.nan)
        found = [choice.table.get(n, {}).get("rmse", np.nan) for n in self.names]
        return np.array([*found, self.names.index(choice.method)], np.float64)

    def needs_whole(self, plan: Plan) -> bool:
        """Whether a method that may be chosen has to see all times."""
        return any(map(sees_all_times, self.candidates(plan)))

    def whole(
        self, values: np.ndarray, plan: Plan, choice: Choice | None
    ) -> Filled | None:
        """Fill a whole series by such a method, if the choice is one."""
        method = self._chosen(choice, plan)
        return _plain(method, values, plan) if sees_all_times(method) else None

    def piece(
        self,
        values: np.ndarray,
        times: np.ndarray,
        own: slice,
        plan: Plan,
        found: Background,
        choice: Choice | None,
        whole: Filled | None,
    ) -> np.ndarray:
        """Fill a piece: values, spread and flag, (3, own times, h, w)."""
        method = self._chosen(choice, plan)
        seen, code = values[own], _PLAIN
        spread: np.ndarray | float | None
        if found.scale == 0 and found.contrast == 0:
            filled, spread = np.full_like(seen, found.base.flat[0]), np.zeros_like(seen)
        elif method == "network":
            assert self.network is not None  # noqa: S101 - or it is not chosen
            args = (self.network, values, times, times[own], plan, found)
            filled, spread = run_network(*args)
            code = _NETWORK
        elif whole is not None:
            filled = whole.values[times[own]]
            spread = None if whole.spread is None else whole.spread[times[own]]
        else:
            filled, spread = _map_by_map(method, seen, times[own], plan, found)
        if spread is None:
            spread = self._by_distance(values, own, plan, choice)
            # Where no test could be made, no better than a guess at random.
            usual = np.hypot(found.scale, found.contrast)
            spread = np.where(np.isnan(spread), usual, spread)
        elif choice is not None:
            spread = spread * choice.factor
        missing, origin = np.isnan(seen), np.full(seen.shape, code)
        left = missing & ~np.isfinite(filled)
        if self.method == "auto" and code == _PLAIN and self.network and left.any():
            # DINEOF and the climatology know nothing of cells never observed.
            args = (self.network, values, times, times[own], plan, found)
            rest = run_network(*args)
            filled, spread = np.where(left, [*rest], [filled, spread])
            origin[left] = _NETWORK
        flag = missing * np.where(np.isfinite(filled), origin, _UNFILLED)
        spread = np.where(missing, np.where(flag == _UNFILLED, np.nan, spread), 0.0)
        out = np.stack([np.where(missing, filled, seen), spread, flag])
        return out.astype(values.dtype, copy=False)

    def _chosen(self, choice: Choice | None, plan: Plan) -> str:
        if self.method != "auto":
            return self.method
        if choice is not None:
            return choice.method
        # Without a gap in the sample there was nothing to be learnt from it.
        able = self.candidates(plan)
        return next((n for n in ("network", "interpolate") if n in able), able[0])

    def _is_to_try(self) -> bool:
        return self.method == "auto" or (self.spread and self.method in _SILENT)

    def _seen(self) -> dict[str, tuple[float, float]]:
        """What series the network was trained on, if it has a part in it."""
        infill = None if self.card is None else self.card.infill
        return {} if infill is None else infill.seen

    def _warn(self, values: np.ndarray, plan: Plan, found: Background | None) -> None:
        if not (seen := self._seen()) or self.card is None:
            return
        told = character(values, plan.hours, periodic=plan.periodic, base=found)
        if strange := unlike(told, {name: list(pair) for name, pair in seen.items()}):
            warnings.warn(
                f"{plan.name} is unlike what {self.card.name} was trained on: "
                + "; ".join(strange),
                ExtrapolationWarning,
                stacklevel=outside(),
            )

    def _try(
        self,
        name: str,
        plan: Plan,
        found: Background,
        values: np.ndarray,
        times: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Fill some times of a series in which cells are hidden."""
        if sees_all_times(name):
            filled = _plain(name, values, plan)
            spread = None if filled.spread is None else filled.spread[times]
            return filled.values[times], spread
        if name != "network":
            return _map_by_map(name, values[times], times, plan, found)
        assert self.network is not None  # noqa: S101 - it has a name
        every = np.arange(plan.count)
        return run_network(self.network, values, every, times, plan, found)

    def _by_distance(
        self, values: np.ndarray, own: slice, plan: Plan, choice: Choice | None
    ) -> np.ndarray | float:
        law = None if choice is None else choice.by_distance
        if law is None or not self.spread:
            return np.nan
        observed = np.isfinite(values)
        far = distance_to_observed(
            observed, plan.periodic, step=law.step, farthest=law.reach
        )
        return law(far[own])


def _plain(name: str, values: np.ndarray, plan: Plan) -> Filled:
    from xatmo.methods.gaps import fill

    axes = (plan.latitude, plan.longitude, plan.hours)
    return fill(name, values, *axes, periodic=plan.periodic)


def _map_by_map(
    name: str, values: np.ndarray, times: np.ndarray, plan: Plan, found: Background
) -> tuple[np.ndarray, np.ndarray | None]:
    """Fill maps (n, h, w), each by itself, relative to the climatology of the series.

    So it does not matter which maps come together.
    """
    filled, spread = np.empty_like(values), np.full_like(values, np.nan)
    for i, (x, base) in enumerate(
        zip(values, found.at(plan.phase[times]), strict=True)
    ):
        one = _plain(name, (x - base)[None], plan.part(slice(0, 1)))
        filled[i] = one.values[0] + base
        # Maps without a gap, or with nothing else, tell nothing; nor is it asked.
        if one.spread is not None:
            spread[i] = one.spread[0]
    return filled, None if name in _SILENT else spread
