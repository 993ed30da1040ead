"""Boxes for finer tails: the block means of fine fields, and what these were.

Nothing is hidden of the coarse box but, in some, the times before the last. Batch ``i``
is a function of the seed and ``i`` alone, as of boxes with gaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from xatmo.blocks import block_mean
from xatmo.errors import GridError, OptionError
from xatmo.training.multiformer.sampling import BoxSampler, when
from xatmo.training.scenes import Scene

__all__ = ["FineBatch", "FinerSampler"]


@dataclass(frozen=True)
class FineBatch:
    """What the network reads and is to find, normalised by the same constants.

    ``x`` (B, C, T, Y, X) are block means, NaN at times that are missing; ``truth``
    (B, C, f Y, f X) the fine field of the last time. ``when`` (B, T, 3), ``latitude``
    (B, Y), ``longitude`` (B, X) and ``spacing`` (B,) are those of the coarse box,
    ``channels`` (B, C) say which channels they are, all the same in a batch, and
    ``std`` (B, C) how much of their units is 1.
    """

    x: np.ndarray
    truth: np.ndarray
    when: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    spacing: np.ndarray
    channels: np.ndarray
    std: np.ndarray


class FinerSampler(BoxSampler):
    """Draw boxes of fine fields, at any alignment, and average blocks of them.

    Parameters
    ----------
    *args, **options
        Of :class:`xatmo.training.multiformer.sampling.BoxSampler`. If plain, every
        second box of a batch has all times that are there, the others the last alone.
    factor : int
        Fine points on a side of a block.

    Raises
    ------
    xatmo.errors.GridError
        If a scene is smaller than a fine box.
    xatmo.errors.OptionError
        If a scene has no time without missing values.
    """

    def __init__(self, *args: Any, factor: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.factor = factor
        self.fine = (factor * self.box[1], factor * self.box[2])
        self.whole = [_whole_times(scene) for scene in self.scenes]
        for scene, times in zip(self.scenes, self.whole, strict=True):
            _check_scene(scene, times, self.fine)

    def _box(  # type: ignore[override]
        self,
        rng: np.random.Generator,
        scene: Scene,
        which: Sequence[int],
        kind: str | None,
    ) -> FineBatch:
        # Only the last time is to be found, and so the only one that has to be whole.
        last = int(rng.choice(self.whole[self.scenes.index(scene)]))
        step = self.sampling.step_hours * 3600
        times = last - step * np.arange(self.box[0])[::-1]
        row, column = self._place(rng, scene, self.fine)
        fine = scene.box(times, row, column, self.fine, which)
        x = block_mean(fine, self.factor)
        x[:, : self._missing(rng)] = np.nan
        chosen = [scene.channels[i] for i in which]
        return FineBatch(
            x=x.astype(np.float32),
            truth=fine[:, -1],
            when=when(times).astype(np.float32),
            channels=np.array([self.numbers[c.field, c.slot] for c in chosen]),
            std=np.array([c.std[_month(last)] for c in chosen], np.float32),
            **self._where(scene, row, column),
        )

    def _missing(self, rng: np.random.Generator) -> int:
        """How many of the first times are left out."""
        before, s = self.box[0] - 1, self.sampling
        if self.plain:
            return before * int(rng.integers(2))
        drawn = rng.random()
        if drawn < s.alone:
            return before
        return int(rng.integers(1, before + 1)) if drawn < s.alone + s.short else 0

    def _where(self, scene: Scene, row: int, column: int) -> Mapping[str, np.ndarray]:
        """Middles of blocks, and their distance."""
        grid, f = scene.grid, self.factor
        rows, columns = (np.arange(n) for n in self.fine)
        latitude = grid.latitude[row + rows].reshape(-1, f).mean(1)
        # Counted on from the first point of each block: some may cross the meridian.
        first = grid.longitude[(column + columns[::f]) % grid.longitude.size]
        longitude = (first + (f - 1) / 2 * grid.spacing[1]) % 360
        numbers = {"latitude": latitude, "longitude": longitude}
        numbers["spacing"] = np.array(f * grid.spacing[0])
        return {name: value.astype(np.float32) for name, value in numbers.items()}


def _whole_times(scene: Scene) -> np.ndarray:
    """Times at which all that the scene holds is without missing values."""
    stores = [scene.stores[number] for number in {c.store for c in scene.channels}]
    return reduce(np.intersect1d, [store.times[store.whole] for store in stores])


def _month(seconds: int) -> int:
    """Which of the twelve a time is in, counted from 0."""
    return int(np.datetime64(seconds, "s").astype("datetime64[M]").astype(int) % 12)


def _check_scene(scene: Scene, times: np.ndarray, fine: tuple[int, int]) -> None:
    grid = scene.grid
    points = (grid.latitude.size, grid.longitude.size)
    if any(have < need for have, need in zip(points, fine, strict=True)):
        msg = f"The grid of {scene.name!r} is smaller than a fine box."
        found, needed = (f"{n} x {m} points" for n, m in (points, fine))
        hint = "take a larger region, or smaller tokens in [[network.fields]]"
        raise GridError(msg, found=found, needed=f"at least {needed}", hint=hint)
    if not times.size:
        msg = f"No time of {scene.name!r} has all of its fields without gaps."
        found = f"{scene.times.size} times, each with something missing"
        hint = "give fields that are there at other times a scene of their own"
        raise OptionError(msg, found=found, needed="one whole time", hint=hint)
