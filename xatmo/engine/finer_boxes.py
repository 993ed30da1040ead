"""A network that reads boxes and gives a finer grid, run over whole domains.

Boxes lie on the grid that is read, as for :func:`xatmo.engine.boxes.predict`, and are
blended on the finer one. That is many times as large: a window is blended row of boxes
by row of boxes, and what no later box reaches is put away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xatmo.blocks import with_means
from xatmo.engine.batch import missing_values
from xatmo.engine.boxes import Blend, Domain, Reader, Work, running
from xatmo.engine.tiles import Cover, Place, Tile, places_of, refined, tiles_of
from xatmo.engine.windows import Windows

__all__ = ["FinerBoxes"]


@dataclass(frozen=True)
class FinerBoxes:
    """Refines the last time of windows: what is done with them by ``over_windows``.

    Parameters
    ----------
    domain : Domain
        Of the grid that is read. Where a wanted value is missing at a last time its
        call says what to do: refuse, or leave its cell missing. What is missing at
        times before is unknown to the network, and no more.
    factor : int
        Fine points for each point, along latitude and along longitude.
    members : int
        How many of the ensemble are given: the first ones. All of them are computed,
        since the spread that boxes have is that of all.
    wanted : tuple of int
        Numbers of the channels that are given; the others are only read.
    trim : tuple of int
        Fine rows left out at the beginning and at the end: fewer than ``factor``.
    conserve : bool
        Shift the fine points of each point so that their mean is its value.
    """

    domain: Domain
    factor: int
    members: int
    wanted: tuple[int, ...]
    trim: tuple[int, int] = (0, 0)
    conserve: bool = True

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the result for one window: (members, wanted channels, rows, columns)."""
        rows, columns = (self.factor * n for n in self.domain.shape)
        return self.members, len(self.wanted), rows - sum(self.trim), columns

    def __call__(self, windows: Windows, when: np.ndarray, out: np.ndarray) -> None:
        """Fill (N, *shape), normalised; NaN where the coarse value is missing."""
        out[:] = np.nan
        pairs = self._pairs(windows)
        if not pairs:  # nor is the network needed
            return
        covers = self.domain.cover
        rows, columns = (refined(cover, self.factor) for cover in covers)

        def start(number: int) -> _Bands:
            coarse = self._last(windows[number])
            return _Bands(self, rows, columns, coarse, out[number])

        def add(bands: _Bands, tile: Tile, result: np.ndarray) -> None:
            bands.add(tile, result[:, self.wanted, 0])

        def finish(_: int, bands: _Bands, known: bool) -> None:
            bands.put_away(rows.count)

        kwargs = {"frames": 1, "conserve": self.conserve}
        work = Work(self.domain, "refine", kwargs, *covers, start, add, finish)
        with running(self.domain) as model:
            work.run(windows, when, model, pairs)

    def _last(self, window: np.ndarray) -> np.ndarray:
        """What is to be refined of a window (C, T, ny, nx): (wanted, ny, nx)."""
        return np.asarray(window[list(self.wanted), -1])

    def _pairs(self, windows: Windows) -> list[tuple[int, int]]:
        """Windows and boxes of them in which something is to be refined.

        All windows are looked at first: a network may take hours to come to the gap.
        """
        rows, columns = self.domain.cover
        tiles = list(tiles_of(rows, columns))
        reader = Reader(windows, self.domain.call)
        pairs: list[tuple[int, int]] = []
        gaps = np.zeros((len(windows), self.domain.channels), bool)
        for number in range(len(windows)):
            known = np.isfinite(self._last(reader[number]))
            gaps[number, list(self.wanted)] = np.logical_not(known).any((1, 2))
            known = known.any(0)  # (ny, nx)
            for at, tile in enumerate(tiles):
                if any(known[p].any() for p, _ in places_of(rows, columns, tile)):
                    pairs.append((number, at))
        if gaps.any() and self.domain.call.missing == "raise":
            raise missing_values(gaps, self.domain.call, 0)
        return pairs


class _Bands:
    """The rows of a window that boxes are being added to: a band that moves on.

    Parameters
    ----------
    job : FinerBoxes
    rows, columns : Cover
        Boxes on the finer grid.
    coarse : ndarray, shape (C, ny, nx)
    out : ndarray of float32, shape (members, C, fine rows, fine columns)
        Filled from the first row to the last.
    """

    def __init__(
        self,
        job: FinerBoxes,
        rows: Cover,
        columns: Cover,
        coarse: np.ndarray,
        out: np.ndarray,
    ) -> None:
        self._job, self._rows, self._columns = job, rows, columns
        self._coarse, self._out = coarse, out
        self._top, self._height = 0, min(rows.size, rows.count)
        shape = (len(coarse), self._height, columns.count)
        self._total = np.zeros((job.domain.members, *shape), np.float32)
        self._spread = np.zeros(shape, np.float32)

    def add(self, tile: Tile, part: np.ndarray) -> None:
        """Add a box (E, C, Y, X); boxes come from the first row to the last."""
        self.put_away(int(self._rows.starts[tile.row]))
        rows, columns = self._rows.weights[tile.row], self._columns.weights[tile.column]
        Blend(self._total, self._spread).add(
            part, np.outer(rows, columns), self._places(tile)
        )

    def put_away(self, row: int) -> None:
        """Put away what is above a row, and move on to there."""
        done = min(row - self._top, self._height)
        if done <= 0:
            return
        blend = Blend(self._total[:, :, :done], self._spread[:, :done])
        self._write(blend.members()[: self._job.members])
        left = self._height - done
        for band in (*self._total, self._spread):  # one by one: each is copied
            band[:, :left] = band[:, done:]
            band[:, left:] = 0.0
        self._top = row

    def _places(self, tile: Tile) -> Iterator[Place]:
        """Where a box lies in the band."""
        for (y, x), own in places_of(self._rows, self._columns, tile):
            yield (slice(y.start - self._top, y.stop - self._top), x), own

    def _write(self, members: np.ndarray) -> None:
        """Put the first rows of the band (n, C, rows, columns) where they belong."""
        job, top, count = self._job, self._top, members.shape[-2]
        first, last = job.trim[0], self._rows.count - job.trim[1]
        kept = slice(max(first - top, 0), min(last - top, count))
        own = slice(top // job.factor, (top + count) // job.factor)
        coarse = np.broadcast_to(
            self._coarse[:, own], (len(members), *self._coarse[:, own].shape)
        )
        if job.conserve:
            members = with_means(members, coarse, job.factor, kept)
        gone = np.isnan(coarse).repeat(job.factor, -2).repeat(job.factor, -1)
        members[gone] = np.nan
        rows = slice(top + kept.start - first, top + kept.stop - first)
        self._out[..., rows, :] = members[..., kept, :]
