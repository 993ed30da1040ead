"""Observed cells are hidden in gaps of the shapes that the real ones have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xatmo.climatology import phases
from xatmo.holdout.distance import distance_to_observed

__all__ = ["Hidden", "hide_like"]

RUN = 4  # consecutive times that are tested together
_MOST = 0.15  # of what is observed around a test: more would leave another problem
_TOO_MUCH = 3.0  # times that
_LEAST_CELLS = 200  # to test on, where a small share of a small field is fewer
_TRIES = 8  # places that gaps are moved to, until one covers what is observed
_LASTING = 8  # times of a series in which a gap can be called lasting
_FARTHEST = 64.0  # points; what is deeper is all the same
_MAPS = 24  # that are looked at for the distances within gaps
_CLASSES = 5  # of distances, in space and in time
_HEAVY = 2.5  # what a hidden cell may count at most
_LONGEST = 24  # steps by which a gap is carried on around a test


@dataclass(frozen=True)
class Hidden:
    """Observed cells that are taken away to test on.

    Attributes
    ----------
    mask : ndarray of bool, shape (T, h, w)
        Where they are. Gaps go on around the tested times as the real ones do, and
        holes that last for the whole series are hidden at all times.
    times : ndarray of int, shape (n,)
        The times to test at, ascending; none if nothing could be hidden.
    weights : ndarray of float32, shape (n, h, w), optional
        How much a hidden cell counts at these times: more if it lies as deep as few
        hidden cells do and many of the gaps.
    """

    mask: np.ndarray
    times: np.ndarray
    weights: np.ndarray | None = None


def hide_like(
    observed: np.ndarray,
    seed: int = 0,
    *,
    share: float = 0.05,
    times: int = 24,
    gaps: np.ndarray | None = None,
    hours: np.ndarray | None = None,
) -> Hidden:
    """Choose observed cells to hide, in gaps of the shapes that the real ones have.

    The gaps themselves are moved, in space and to other times, if possible of the same
    hour of the day. Squares of what they cover there are hidden: so large that cells
    lie as far from what is observed as in the gaps, and few, so that what is around
    them is observed as well as ever.

    Parameters
    ----------
    observed : ndarray of bool, shape (T, h, w)
    seed : int
    share : float
        Of the observed cells, about. In a long series it is less, since only ``times``
        times are tested; where gaps are large, or the field small, it may be more.
    times : int
        Most times to test at. They lie in runs of four, which begin at multiples of it.
    gaps : ndarray of bool, shape (T, h, w), optional
        What is to be filled; all that is not observed if not given.
    hours : ndarray, shape (T,), optional
        Times in hours.

    Returns
    -------
    Hidden
        At each time at least half of what was observed stays, unless what is missing
        is whole times. Nothing is hidden if there are no gaps, or nothing else.

    Examples
    --------
    >>> import numpy as np
    >>> from xatmo.testing.gaps import gap_mask
    >>> missing = gap_mask("clouds", (16, 40, 60), seed=1)
    >>> hidden = hide_like(~missing)
    >>> bool((hidden.mask & missing).any()), hidden.times.size
    (False, 8)
    """
    rng = np.random.default_rng(seed)
    gaps = ~observed if gaps is None else np.asarray(gaps & ~observed)
    count = len(observed)
    mask, tested = np.zeros_like(observed), np.zeros(count, bool)
    if not (gaps.any() and observed.any()):
        return Hidden(mask, np.flatnonzero(tested))
    phase = phases(hours, count)
    whole = np.asarray(gaps.all(axis=(1, 2)))
    lasting = np.asarray(gaps[~whole].all(axis=0))
    lasting &= count >= _LASTING and not whole.all()
    passing = gaps & ~lasting & ~whole[:, None, None]
    if lasting.any():
        mask |= observed & _hide_lasting(lasting, np.asarray(observed.any(axis=0)), rng)
    others = bool(lasting.any() or passing.any())
    if whole.any():
        part = np.count_nonzero(whole) * observed[0].size / np.count_nonzero(gaps)
        most = math.ceil(part * times) if others else times
        tested |= _hide_times(mask, observed, whole, phase, most, share, rng)
    if others:
        most = times - int(np.count_nonzero(tested))
        coming = _Passing.of(passing, observed, phase)
        tested |= _hide_runs(mask, observed, coming, most, share, rng)
    tested &= mask.any(axis=(1, 2))
    found = np.flatnonzero(tested)
    return Hidden(mask, found, _weights(gaps, observed, mask, found))


def _weights(
    gaps: np.ndarray, observed: np.ndarray, mask: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Weigh hidden cells so that they lie as deep as the gaps: (n, h, w).

    As deep in space, and as long before or after an observation of the same cell: a
    gap that is moved over another one makes both longer.
    """
    maps = np.flatnonzero(gaps.any(axis=(1, 2)))
    maps = maps[:: max(1, maps.size // _MAPS)]
    weights = np.zeros((times.size, *mask.shape[1:]), np.float32)
    left, here = observed & ~mask, mask[times]
    if not here.any():
        return weights
    place, real_place, count = np.int64(0), np.int64(0), 1
    for away in (_away, _apart):
        real, ours = away(observed, maps)[gaps[maps]], away(left, times)[here]
        edges = np.unique(np.quantile(ours, np.arange(1, _CLASSES) / _CLASSES))
        place = place * (edges.size + 1) + np.searchsorted(edges, ours, "right")
        real_place = real_place * (edges.size + 1)
        real_place = real_place + np.searchsorted(edges, real, "right")
        count *= edges.size + 1
    found, wanted = (np.bincount(x, None, count) for x in (place, real_place))
    weight = (wanted / real.size) / np.maximum(found / ours.size, 1e-9)
    weights[here] = weight.clip(1 / _HEAVY, _HEAVY)[place]
    return weights


def _away(observed: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Measure distances to what is observed at the same time: (n, h, w)."""
    return distance_to_observed(observed[times], step=_FARTHEST, farthest=_FARTHEST)


def _apart(observed: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Count steps to the nearest time at which a cell is observed: (n, h, w)."""
    steps = np.full(observed.shape, _LONGEST, np.int16)
    for order in (slice(None), slice(None, None, -1)):
        since = np.full(observed.shape[1:], _LONGEST, np.int16)
        for seen, least in zip(observed[order], steps[order], strict=True):
            since = np.where(seen, 0, np.minimum(since + 1, _LONGEST))
            np.minimum(least, since, out=least)
    return steps[times]


def _hide_lasting(
    lasting: np.ndarray, observed: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Move holes that are there at all times: (h, w), (h, w) -> (h, w)."""
    depth = _depth(lasting[None], ~lasting[None])
    bearable = np.array([np.count_nonzero(observed) / 2])
    for _ in range(_TRIES):
        moved = _moved(lasting[None], rng) & observed
        hidden = _fitting(moved, observed[None], bearable, depth, _MOST, rng)
        if hidden.any():
            break
    return hidden & moved[0]


def _hide_times(
    mask: np.ndarray,
    observed: np.ndarray,
    whole: np.ndarray,
    phase: np.ndarray,
    most: int,
    share: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Hide whole times, in runs as long as those that are missing; return which."""
    there = observed.any(axis=(1, 2))
    wanted = min(max(share * there.sum(), RUN), most)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], whole, [0]])))
    first, length = edges[::2], edges[1::2] - edges[::2]
    length = np.minimum(length, max(1, there.sum() // 4))
    gone = np.zeros_like(there)
    for which in rng.permutation(np.repeat(np.arange(first.size), length)):
        if gone.sum() >= wanted:
            break
        starts = _alike(np.flatnonzero(there & ~gone), phase, phase[first[which]])
        start = rng.choice(starts) if starts.size else 0
        moved = np.zeros_like(there)
        moved[start : start + length[which]] = True
        # Something has to be seen before or after.
        if (gone | moved)[there].sum() <= max(1, there.sum() / 3) < there.sum():
            gone |= moved & there
    mask[gone] = observed[gone]
    return gone & (np.cumsum(gone) <= most)


@dataclass(frozen=True)
class _Passing:
    """Gaps that come and go: (T, h, w), and what is known of them."""

    gaps: np.ndarray
    phase: np.ndarray
    cells: np.ndarray
    """How many at each time, (T,)."""
    depth: float
    duration: int

    @classmethod
    def of(cls, gaps: np.ndarray, observed: np.ndarray, phase: np.ndarray) -> _Passing:
        """Look at gaps among what is observed."""
        cells = np.count_nonzero(gaps, axis=(1, 2))
        return cls(gaps, phase, cells, _depth(gaps, observed), _duration(gaps))

    def moved(self, around: slice, start: int, rng: np.random.Generator) -> np.ndarray:
        """Move gaps in space, and in time so that one of them lies at ``start``.

        Returns the times ``around`` it; after the last time the first one follows.
        """
        source = _alike(np.flatnonzero(self.cells), self.phase, self.phase[start])
        index = np.arange(around.start, around.stop) - start
        if source.size:
            share = self.cells[source] / self.cells[source].sum()
            index += rng.choice(source, p=share)
        return _moved(self.gaps[index % len(self.gaps)], rng)


def _hide_runs(
    mask: np.ndarray,
    observed: np.ndarray,
    passing: _Passing,
    most: int,
    share: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Hide pieces of moved gaps in runs of times, and around them; return the runs."""
    tested = np.zeros(len(mask), bool)
    there = (observed & ~mask).any(axis=(1, 2))
    starts = np.unique(np.flatnonzero(there) // RUN) * RUN
    if not starts.size or most < 1:
        return tested
    least = min(_LEAST_CELLS / np.count_nonzero(observed), _MOST)
    wanted = max(share, least) * starts.size
    # A few runs with much in them leave the others as they are.
    count = min(max(1, most // RUN), math.ceil(wanted / _MOST), starts.size)
    part = min(_MOST, wanted / count)
    # Gaps go on around a run, but not into the next one.
    room = (len(mask) // count - RUN) // 2
    margin = max(0, min(passing.duration, room))
    for stratum in np.array_split(starts, count):
        away = min(-(-margin // RUN), (len(stratum) - 1) // 2)
        within = stratum[away : len(stratum) - away]
        run, around, hidden = _best_run(
            observed, mask, passing, within, margin, part, rng
        )
        mask[around] |= hidden & ~tested[around, None, None]
        tested[run] = True
    return tested & there & (np.cumsum(tested & there) <= most)


def _best_run(
    observed: np.ndarray,
    mask: np.ndarray,
    passing: _Passing,
    starts: np.ndarray,
    margin: int,
    part: float,
    rng: np.random.Generator,
) -> tuple[slice, slice, np.ndarray]:
    """Try runs and places until enough can be hidden of what is left.

    Returns the times of the run, those with what is around it, and what to hide there.
    """
    best = -1.0
    for _ in range(_TRIES):
        start = int(rng.choice(starts))
        run = slice(start, min(start + RUN, len(mask)))
        around = slice(max(0, start - margin), min(run.stop + margin, len(mask)))
        inner = slice(run.start - around.start, run.stop - around.start)
        moved = passing.moved(around, start, rng) & observed[around] & ~mask[around]
        seen = observed[run] & ~mask[run]
        left = np.count_nonzero(seen, axis=(1, 2))
        bearable = left - np.count_nonzero(observed[run], axis=(1, 2)) / 2
        pieces = _fitting(moved[inner], seen, bearable, passing.depth, part, rng)
        found = np.count_nonzero(moved[inner] & pieces) / left.sum()
        if found > best:
            best, chosen = found, (run, around, moved & pieces)
        if found >= part / 2:
            break
    return chosen


def _alike(times: np.ndarray, phase: np.ndarray, wanted: int) -> np.ndarray:
    """Times of that hour of the day, or all of them if there are none."""
    same = times[phase[times] == wanted]
    return same if same.size else times


def _moved(gaps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.roll(gaps, [rng.integers(n) for n in gaps.shape[1:]], (1, 2))


def _fitting(
    covered: np.ndarray,
    seen: np.ndarray,
    bearable: np.ndarray,
    depth: float,
    part: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose squares of a size in which hidden cells lie as deep as in real gaps.

    What is ``covered`` of what is ``seen`` (n, h, w) may be hidden: about a ``part``,
    and at each time no more than is ``bearable`` (n,). Returns (h, w).
    """
    best, fitting, side = math.inf, np.zeros(seen.shape[1:], bool), 1
    goal = part * np.count_nonzero(seen)
    while side < 2 * max(seen.shape):
        pieces = _pieces(covered, bearable, side, goal, rng)
        hidden = covered & pieces
        there = _depth(hidden, seen & ~hidden)
        off = abs(math.log(there / depth)) if there and depth else math.inf
        if off < best:
            best, fitting = off, pieces
        if not 0 < there < depth or np.count_nonzero(hidden) > _TOO_MUCH * goal:
            break  # larger ones would be deeper still, or take more
        side = math.ceil(1.5 * side)
    return fitting


def _pieces(
    covered: np.ndarray,
    bearable: np.ndarray,
    side: int,
    goal: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose squares of cells that together cover a number of cells, or a little more.

    (n, h, w) -> (h, w), all False if even one takes more than is bearable.
    """
    h, w = covered.shape[1:]
    row, column = rng.integers(side, size=2)
    across = (w + side) // side + 1
    rows, columns = (np.arange(h) + row) // side, (np.arange(w) + column) // side
    square = rows[:, None] * across + columns
    held = np.stack([np.bincount(square.ravel(), c.ravel()) for c in covered])
    order = rng.permutation(np.flatnonzero(held.any(axis=0)))
    upto = np.cumsum(held[:, order], axis=1)
    fine = (upto <= bearable[:, None]).all(axis=0)
    needed = np.append(0, upto.sum(axis=0))[:-1] < goal
    return np.isin(square, order[fine & needed])


def _depth(gaps: np.ndarray, observed: np.ndarray) -> float:
    """Mean distance to the nearest observation of the same time, on some maps."""
    maps = np.flatnonzero(gaps.any(axis=(1, 2)) & observed.any(axis=(1, 2)))
    maps = maps[:: max(1, maps.size // RUN)]
    return float(_away(observed, maps)[gaps[maps]].mean()) if maps.size else 0.0


def _duration(gaps: np.ndarray) -> int:
    """Mean number of times that a gap stays at a cell."""
    begun = np.count_nonzero(gaps[0]) + np.count_nonzero(gaps[1:] & ~gaps[:-1])
    return min(math.ceil(np.count_nonzero(gaps) / (begun or 1)), _LONGEST)
