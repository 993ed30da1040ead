"""A whole series filled by a network that reads boxes.

The series is covered by windows of as many times as a box has, half of which they share
with their neighbours. Each window is filled by itself, and a time is the mean of the
windows that hold it. Where windows begin follows from the times alone: whatever the
chunks are, the numbers are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xatmo.engine.boxes import Domain, Reader, Work, running, spread_of
from xatmo.engine.tiles import Cover, Tile, places_of, tiles_of
from xatmo.engine.windows import TASK_BYTES, Windows, over_windows

__all__ = ["Spans", "fill_spans", "half_shared"]


@dataclass(frozen=True, eq=False)
class Spans:
    """Windows along time, and what is wanted of them.

    Parameters
    ----------
    index : ndarray of int, shape (K, T)
        Which times of the data each window has; -1 for one that is not there.
    when : ndarray, shape (K, T, 3)
        Year, day of the year (the first is 0) and hour of each.
    target : ndarray of int, shape (K, T)
        Which times of the result they are; -1 for those that are not wanted.
    weights : ndarray, shape (K, T)
        How much each counts, above 0.
    """

    index: np.ndarray
    when: np.ndarray
    target: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(
        cls,
        index: np.ndarray,
        when: np.ndarray,
        target: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> Spans:
        """Keep the windows that are good for anything.

        Without ``weights`` the middle of a window counts most, its ends least.
        """
        if weights is None:
            turns = (np.arange(index.shape[1]) + 0.5) / index.shape[1]
            weights = np.broadcast_to(np.sin(np.pi * turns) ** 2, index.shape)
        used = (target >= 0).any(1) & (index >= 0).any(1)
        return cls(index[used], when[used], target[used], weights[used])

    @property
    def said(self) -> np.ndarray:
        """What a task is told of each time: when it is, and whether it is wanted."""
        return np.concatenate([self.when, (self.target >= 0)[..., None]], -1)

    def table(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return where in the windows the times of a result are, and their weights.

        Numbers in ``index.ravel()``, (count, M), -1 for none, and weights likewise.
        """
        flat = self.target.ravel()
        order = np.argsort(flat, kind="stable")
        order = order[np.searchsorted(flat[order], 0) :]
        times = flat[order]
        place = np.arange(times.size) - np.searchsorted(times, times)
        most = int(place.max(initial=0)) + 1
        where, weights = np.full((count, most), -1), np.zeros((count, most))
        where[times, place] = order
        weights[times, place] = self.weights.ravel()[order]
        return where, weights

    def chunks(self, cut: Sequence[int]) -> tuple[int, ...]:
        """Return how many windows begin in each chunk of the data's times."""
        first = np.where(self.index >= 0, self.index, self.index.max()).min(1)
        chunk = np.searchsorted(np.cumsum(cut), first, "right")
        return tuple(np.bincount(chunk, minlength=len(cut)).tolist())

    def part(self, which: slice) -> Spans:
        """Return some of the windows."""
        parts = (self.index, self.when, self.target, self.weights)
        return Spans(*(array[which] for array in parts))


def half_shared(count: int, size: int) -> np.ndarray:
    """Return where windows begin: neighbours share half of them, the last ends last.

    Those at the beginning stay where they are if the series becomes longer.

    Examples
    --------
    >>> from xatmo.engine.series_of_boxes import half_shared
    >>> half_shared(10, 6).tolist(), half_shared(4, 6).tolist()
    ([0, 3, 4], [0])
    """
    end = max(count - size, 0)
    return np.append(np.arange(0, end, max(1, size // 2)), end)


def fill_spans(
    values: Any,
    spans: Spans,
    domain: Domain,
    count: int,
    chunks: tuple[int, ...] | None = None,
) -> Any:
    """Predict what is not known of a series, lazily if it is lazy.

    Parameters
    ----------
    values : ndarray or dask array, shape (time, *batch, C, ny, nx)
        Normalised, NaN where nothing is known.
    spans : Spans
    domain : Domain
    count : int
        How many times the result has.
    chunks : tuple of int, optional
        Those of the result's times, if it is lazy.

    Returns
    -------
    ndarray or dask array of float32, shape (count, *batch, 2, C, ny, nx)
        Mean of the members and their standard deviation, at least where something is
        wanted and not known. NaN where nothing is known in any box around a point.

    Notes
    -----
    The standard deviation is that of the population that members are drawn from, NaN of
    a single member; over boxes and over windows it is a mean as the other is.
    """
    fill = _Fill(domain)
    if not hasattr(values, "dask"):
        return _at_once(values, spans, fill, count)
    where, weights = spans.table(count)
    cut = spans.chunks(values.chunks[0])
    found = over_windows(values, spans.index, spans.said, fill, fill.shape, cut)
    lead = values.ndim - 3
    # Each time of each window: (K * T, *batch, 2 * C, ny, nx).
    frames = np.moveaxis(found, lead, 1)
    shape = (-1, *values.shape[1:lead], 2 * domain.channels, *domain.shape)
    frames = frames.reshape(shape)
    mean = _Mean(domain.channels, domain.shape)
    return over_windows(frames, where, weights[..., None], mean, mean.shape, chunks)


def _at_once(values: np.ndarray, spans: Spans, fill: _Fill, count: int) -> np.ndarray:
    """The same in memory, a few windows at a time."""
    batch = values.shape[1:-3]
    out = np.zeros((count, *batch, *fill.shape[1:]), np.float32)
    share = np.zeros((count, *batch, *fill.shape[2:]), np.float32)
    each = 4 * math.prod(fill.shape) * math.prod(batch)
    several = max(1, TASK_BYTES // each)
    for begin in range(0, len(spans.index), several):
        part = spans.part(slice(begin, begin + several))
        found = over_windows(values, part.index, part.said, fill, fill.shape)
        for window, frame in np.argwhere(part.target >= 0):
            target = part.target[window, frame]
            weight = np.float32(part.weights[window, frame])
            moments = found[window][(slice(None),) * len(batch) + (frame,)]
            known = np.isfinite(moments[..., 0, :, :, :])
            share[target] += weight * known
            known = known[..., None, :, :, :]
            out[target] += weight * np.where(known, moments, 0)
    share = share[..., None, :, :, :]
    return np.divide(out, share, out=np.full_like(out, np.nan), where=share > 0)


@dataclass(frozen=True)
class _Mean:
    """The mean of a time over the windows that hold it, as far as they know it."""

    channels: int
    points: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        return 2, self.channels, *self.points

    def __call__(self, windows: Windows, when: np.ndarray, out: np.ndarray) -> None:
        """Fill (N, 2, C, ny, nx); ``when`` (N, M, 1) are the weights of the windows."""
        for number, weight in enumerate(when[..., 0].astype(np.float32)):
            moments = windows[number]  # (2 * C, M, ny, nx)
            moments = moments.reshape(2, self.channels, -1, *self.points)
            known = np.isfinite(moments[0])
            each = weight[:, None, None] * known
            total = (each * np.where(known, moments, 0)).sum(2)
            share = np.broadcast_to(each.sum(1), total.shape)
            out[number] = np.nan
            np.divide(total, share, out=out[number], where=share > 0)


@dataclass(frozen=True)
class _Fill:
    """Fills windows: mean and standard deviation of what the network says."""

    domain: Domain

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result for one window: (T, 2, C, ny, nx)."""
        return self.domain.box[0], 2, self.domain.channels, *self.domain.shape

    def __call__(self, windows: Windows, when: np.ndarray, out: np.ndarray) -> None:
        """Fill (N, *shape); ``when`` (N, T, 4) also says which times are wanted."""
        out[:] = np.nan
        pairs = self._pairs(windows, when[..., 3] > 0)
        if not pairs:  # nor is the network needed
            return
        rows, columns = self.domain.cover
        members = self.domain.members
        # As of a sample from what members are drawn from.
        sample = np.sqrt(members / (members - 1)) if members > 1 else np.nan

        def start(_: int) -> _Sums:
            shape = (2, self.domain.channels, self.domain.box[0], *self.domain.shape)
            points = np.zeros(self.domain.shape, np.float32)
            return _Sums(np.zeros(shape, np.float32), points)

        def add(sums: _Sums, tile: Tile, result: np.ndarray) -> None:
            bell = np.outer(rows.weights[tile.row], columns.weights[tile.column])
            sums.add(result, bell, rows, columns, tile)

        def finish(number: int, sums: _Sums, known: bool) -> None:
            moments = sums.moments()
            moments[1] *= sample
            out[number] = np.moveaxis(moments, 2, 0)

        kwargs = {"frames": self.domain.box[0]}
        work = Work(self.domain, "predict", kwargs, rows, columns, start, add, finish)
        with running(self.domain) as model:
            work.run(windows, when[..., :3], model, pairs)

    def _pairs(self, windows: Windows, wanted: np.ndarray) -> list[tuple[int, int]]:
        """Windows and boxes of them in which something is wanted, and something known.

        All windows are looked at: what is no data is refused wherever it is.
        """
        rows, columns = self.domain.cover
        tiles = list(tiles_of(rows, columns))
        reader = Reader(windows, self.domain.call)
        pairs = []
        for number, frames in enumerate(wanted):
            window = reader[number]
            gaps = np.isnan(window[:, frames]).any((0, 1))  # (ny, nx)
            if not gaps.any():
                continue
            known = np.isfinite(window).any((0, 1))
            for at, tile in enumerate(tiles):
                places = [place for place, _ in places_of(rows, columns, tile)]
                if any(gaps[p].any() for p in places) and any(
                    known[p].any() for p in places
                ):
                    pairs.append((number, at))
        return pairs


@dataclass(frozen=True, eq=False)
class _Sums:
    """Weighted sums over the boxes of a window: moments, and the weights themselves."""

    total: np.ndarray
    share: np.ndarray

    def add(
        self,
        part: np.ndarray,
        bell: np.ndarray,
        rows: Cover,
        columns: Cover,
        tile: Tile,
    ) -> None:
        """Add a box (E, C, T, Y, X) with its weights (Y, X)."""
        moments = np.stack([part.mean(0), spread_of(part)]) * bell
        for (y, x), (own_y, own_x) in places_of(rows, columns, tile):
            self.total[..., y, x] += moments[..., own_y, own_x]
            self.share[y, x] += bell[own_y, own_x]

    def moments(self) -> np.ndarray:
        """(2, C, T, ny, nx), in place; NaN where no box was added."""
        np.divide(self.total, self.share, out=self.total, where=self.share > 0)
        self.total[..., self.share == 0] = np.nan
        return self.total
