"""Pairs and triplets of patches to score on: planned first, then read in time order.

Training draws pairs without end; an evaluation draws as many as were asked for, knows
when and where each was taken, and makes do with the lags that the data have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xatmo.errors import GridError, MissingValuesError, TimeAxisError
from xatmo.training.recipe import Sampling
from xatmo.training.sampling import BLOCK_SECONDS, FieldStore

__all__ = ["Drawn", "Draws", "Plan"]

_BATCH = 256


@dataclass(frozen=True)
class Plan:
    """What to read, in the order of time.

    Parameters
    ----------
    store, row, column : ndarray, shape (n,)
        Which store, and the patch's first row and column.
    times : ndarray, shape (n, k)
        Indices of the first state and of those after it.
    lags : ndarray, shape (n, k - 1)
        Classes of the lags between the first state and the others, from 0.
    start : ndarray, shape (n,)
        Time of the first state, seconds since 1970.
    month : ndarray, shape (n,)
        Month of the first state in the calendar of the data, 1 to 12.
    latitude : ndarray, shape (n,)
        Of the patch's centre.
    """

    store: np.ndarray
    times: np.ndarray
    row: np.ndarray
    column: np.ndarray
    lags: np.ndarray
    start: np.ndarray
    month: np.ndarray
    latitude: np.ndarray

    def __len__(self) -> int:
        return len(self.store)

    @property
    def block(self) -> np.ndarray:
        """Which three days of weather each was taken from."""
        return self.start // BLOCK_SECONDS


@dataclass(frozen=True)
class Drawn:
    """Some rows of a plan, and their states in physical units, each (B, C, H, W)."""

    rows: slice
    states: tuple[np.ndarray, ...]


class Draws:
    """Draw from prepared stores: lags alike, start times and places alike.

    Parameters
    ----------
    stores : sequence of FieldStore
        At one level.
    sampling : Sampling
        Lags, size of a patch and latitude limit.
    seed : int

    Raises
    ------
    xatmo.errors.TimeAxisError
        If fewer than two lags can be drawn.
    xatmo.errors.GridError
        If no patch lies within the latitude limit.
    """

    def __init__(
        self, stores: Sequence[FieldStore], sampling: Sampling, seed: int
    ) -> None:
        self.stores, self.sampling, self.seed = list(stores), sampling, seed
        self.partners = [_partners(store, sampling) for store in self.stores]
        found = np.any([(p >= 0).any(axis=0) for p in self.partners], axis=0)
        self.lags = np.flatnonzero(found)
        if len(self.lags) < 2:
            raise _too_short(self.stores, sampling, self.lags)
        self.rows = [_first_rows(store, sampling) for store in self.stores]

    @property
    def missing_hours(self) -> list[int]:
        """Lags of which the data have no pair."""
        n_lags, step = self.sampling.n_lags, self.sampling.step_hours
        return [step * (i + 1) for i in range(n_lags) if i not in self.lags]

    def pairs(self, count: int) -> Plan:
        """Plan ``count`` pairs; every lag that there is comes equally often."""
        return self._plan([(int(lag),) for lag in self.lags], count, 1)

    def triplets(self, count: int) -> Plan:
        """Plan ``count`` states with an earlier and a later one, all two lags alike."""
        both = [(int(a), int(b)) for a in self.lags for b in self.lags if a < b]
        return self._plan([c for c in both if self._starts(c)[0].size], count, 2)

    def read(self, plan: Plan, batch: int = _BATCH) -> Iterator[Drawn]:
        """Read what a plan says, some rows at a time.

        Raises
        ------
        xatmo.errors.MissingValuesError
            If a patch holds values that are missing.
        """
        h, w = self.sampling.patch
        for first in range(0, len(plan), batch):
            rows = slice(first, min(first + batch, len(plan)))
            states = []
            for k in range(plan.times.shape[1]):
                patches = [
                    self.stores[plan.store[i]].window(
                        int(plan.times[i, k]), int(plan.row[i]), int(plan.column[i]),
                        h, w,
                    )
                    for i in range(rows.start, rows.stop)
                ]  # fmt: skip
                states.append(np.stack(patches).astype(np.float32, copy=False))
                self._check_finite(states[-1], plan, rows, k)
            yield Drawn(rows, tuple(states))

    def _plan(self, combinations: list[tuple[int, ...]], count: int, kind: int) -> Plan:
        if not combinations:
            raise _too_short(self.stores, self.sampling, self.lags)
        rng = np.random.default_rng([self.seed, kind])
        chosen = rng.integers(len(combinations), size=count)
        store, start = np.empty(count, np.int64), np.empty(count, np.int64)
        for number, combination in enumerate(combinations):
            mine = np.flatnonzero(chosen == number)
            # All start times alike, whichever store they are in.
            stores, starts = self._starts(combination)
            drawn = rng.integers(stores.size, size=mine.size)
            store[mine], start[mine] = stores[drawn], starts[drawn]
        lags = np.array(combinations)[chosen]  # (n, k - 1)
        row, column, latitude = self._places(rng, store)
        return self._sorted(store, start, row, column, lags, latitude)

    def _sorted(
        self, store: np.ndarray, start: np.ndarray, row: np.ndarray,
        column: np.ndarray, lags: np.ndarray, latitude: np.ndarray,
    ) -> Plan:  # fmt: skip
        """In the order of time, so that stores of any size are read through once."""
        order = np.lexsort((start, store))
        store, start, lags = store[order], start[order], lags[order]
        times = np.empty((len(order), lags.shape[1] + 1), np.int64)
        seconds, month = (np.empty(len(order), np.int64) for _ in range(2))
        for i, one in enumerate(self.stores):
            mine = store == i
            times[mine, 0] = start[mine]
            times[mine, 1:] = self.partners[i][start[mine][:, None], lags[mine]]
            seconds[mine] = one.times[start[mine]]
            month[mine] = one.months[start[mine]]
        return Plan(
            store, times, row[order], column[order], lags, seconds, month,
            latitude[order],
        )  # fmt: skip

    def _starts(self, lags: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Stores and indices of the times that have a partner at each of the lags."""
        found = [np.flatnonzero((p[:, lags] >= 0).all(axis=1)) for p in self.partners]
        stores = np.repeat(np.arange(len(found)), [f.size for f in found])
        return stores, np.concatenate(found)

    def _places(
        self, rng: np.random.Generator, store: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        width = self.sampling.patch[1]
        row, column = np.empty(store.size, np.int64), np.empty(store.size, np.int64)
        latitude = np.empty(store.size)
        for i, one in enumerate(self.stores):
            mine = np.flatnonzero(store == i)
            n_lon = one.fields.shape[-1]
            rows, centres = self.rows[i]
            drawn = rng.integers(rows.size, size=mine.size)
            row[mine], latitude[mine] = rows[drawn], centres[drawn]
            columns = n_lon if one.periodic else n_lon - width + 1
            column[mine] = rng.integers(columns, size=mine.size)
        return row, column, latitude

    def _check_finite(self, x: np.ndarray, plan: Plan, rows: slice, k: int) -> None:
        bad = ~np.isfinite(x)
        if not bad.any():
            return
        which, channel = np.argwhere(bad)[0][:2]
        i = rows.start + int(which)
        store = self.stores[plan.store[i]]
        when = np.datetime64(int(store.times[plan.times[i, k]]), "s")
        msg = f"The data have missing values in {store.quantities[channel]}."
        raise MissingValuesError(
            msg,
            found=f"{int(bad[which].sum())} in a patch around "
            f"{plan.latitude[i]:.0f}°N at {when}",
            needed="fields without gaps: a gap would be scored like weather",
            hint="take a period or a region without gaps, or fill them first with "
            'ds.interpolate_na("longitude")',
        )


def _partners(store: FieldStore, sampling: Sampling) -> np.ndarray:
    """Index of the state each lag later (time, lag); -1 if there is none."""
    partners = np.full((store.times.size, sampling.n_lags), -1)
    for lag in range(sampling.n_lags):
        pairs = store.starts((lag + 1) * sampling.step_hours * 3600)
        partners[pairs[:, 0], lag] = pairs[:, 1]
    return partners


def _first_rows(store: FieldStore, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """First rows and centres of the patches within the latitude limit."""
    h = sampling.patch[0]
    rows = np.arange(store.latitude.size - h + 1)
    centres = np.array([store.latitude[r : r + h].mean() for r in rows])
    allowed = np.abs(centres) <= sampling.latitude_limit
    if not allowed.any():
        msg = "No patch of the data lies where the model was trained."
        raise GridError(
            msg,
            found=f"latitudes from {store.latitude.min():g} to "
            f"{store.latitude.max():g}°, {store.latitude.size} rows",
            needed=f"patches of {h} rows centred within "
            f"{sampling.latitude_limit:g}° of the equator",
            hint="take a region that reaches further towards the equator",
        )
    return rows[allowed], centres[allowed]


def _too_short(
    stores: list[FieldStore], sampling: Sampling, lags: np.ndarray
) -> TimeAxisError:
    hours = [int(lag + 1) * sampling.step_hours for lag in lags]
    have = f"pairs {hours[0]} h apart only" if hours else "no pairs at such lags"
    times = sum(s.times.size for s in stores)
    steps = np.concatenate([np.diff(s.times) for s in stores])
    step = f", {np.median(steps) / 3600:g} h apart" if steps.size else ""
    msg = "The data have too few pairs of times to evaluate on."
    return TimeAxisError(
        msg,
        found=f"{have}; {times} time{'s' if times > 1 else ''}{step}",
        needed="pairs of times at two or more of the lags "
        f"{sampling.step_hours} to {sampling.step_hours * sampling.n_lags} h",
        hint="take a longer series, or one whose time step divides "
        f"{sampling.step_hours} h",
    )
