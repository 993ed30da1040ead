"""Boxes cut from scenes, with a part of each hidden.

Batch ``i`` is a function of the seed and ``i`` alone: a run that is killed and resumed
sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xatmo.training.multiformer.masking import KINDS, draw_kind, hide
from xatmo.training.multiformer.recipe import Boxes, Field, Masking
from xatmo.training.scenes import Scene

__all__ = ["Batch", "BoxSampler", "present_of", "when"]


@dataclass(frozen=True)
class Batch:
    """What the network reads and is to find, normalised.

    ``x`` (B, C, T, Y, X) has NaN where something is hidden or not there; ``truth`` and
    ``wanted`` have its shape. ``when`` (B, T, 3), ``latitude`` (B, Y), ``longitude``
    (B, X) and ``spacing`` (B,) say where it is, ``channels`` (B, C) which channels they
    are, all the same in a batch, and ``kind`` (B,) what kind of masking it is.
    """

    x: np.ndarray
    truth: np.ndarray
    wanted: np.ndarray
    when: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    spacing: np.ndarray
    channels: np.ndarray
    kind: np.ndarray


class BoxSampler:
    """Draw boxes: a scene for each batch, and times and places for each box.

    Parameters
    ----------
    scenes : sequence of Scene
    fields : sequence of Field
        Of the recipe, in the network's order.
    specs : mapping
        Tokens and their size of each field: ``spec.box``, ``spec.token_size``.
    sampling : Boxes
    masking : Masking
    seed : int
        With the number of a batch it fixes every box in it.
    plain : bool
        All fields and levels that a scene has, kinds of masking one by one, no box
        with times missing: for validation.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        fields: Sequence[Field],
        specs: Mapping[str, tuple[tuple[int, int, int], tuple[int, int, int]]],
        sampling: Boxes,
        masking: Masking,
        *,
        seed: int,
        plain: bool = False,
    ) -> None:
        self.scenes, self.sampling, self.masking = list(scenes), sampling, masking
        self.fields = {field.name: field for field in fields}
        self.specs, self.seed, self.plain = dict(specs), seed, plain
        self.box = next(iter(self.specs.values()))[0]
        # Numbers of channels: of all levels of the first field, then of the next.
        self.numbers: dict[tuple[str, int], int] = {}
        for field in fields:
            for slot in range(len(field.slots)):
                self.numbers[field.name, slot] = len(self.numbers)
        weights = np.array([scene.weight for scene in self.scenes])
        self.shares = weights / weights.sum()

    def batch(self, number: int, size: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """Return part ``(i, n)`` of batch ``number``: the same for the same seed."""
        i, n = part
        rng = np.random.default_rng([self.seed, number])
        scene = self.scenes[int(rng.choice(len(self.scenes), p=self.shares))]
        which = self._channels(rng, scene)
        kind = KINDS[number % len(KINDS)] if self.plain else None
        boxes = [
            self._box(np.random.default_rng([self.seed, number, j]), scene, which, kind)
            for j in range(i * size // n, (i + 1) * size // n)
        ]
        columns = zip(*(vars(box).values() for box in boxes), strict=True)
        return type(boxes[0])(*map(np.stack, columns))

    def _channels(self, rng: np.random.Generator, scene: Scene) -> list[int]:
        """Choose fields and levels: all, or some of them."""
        s, every = self.sampling, scene.channels
        names = list(dict.fromkeys(c.field for c in every))
        slots = sorted({c.slot for c in every})
        if not self.plain:
            if rng.random() < s.fewer_fields:
                names = _subset(rng, names)
            if rng.random() < s.fewer_levels:
                slots = _subset(rng, slots)
            while len(slots) > 1 and len(names) * len(slots) > s.channels:
                slots.pop(int(rng.integers(len(slots))))
            while len(names) > 1 and len(names) * len(slots) > s.channels:
                names.pop(int(rng.integers(len(names))))
        chosen = [
            i for i, c in enumerate(every) if c.field in names and c.slot in slots
        ]
        # Not every field has every level.
        return chosen or list(range(len(every)))

    def _box(
        self,
        rng: np.random.Generator,
        scene: Scene,
        which: Sequence[int],
        kind: str | None,
    ) -> Batch:
        count, h, w = self.box
        step = self.sampling.step_hours * 3600
        last = int(rng.choice(scene.times))
        times = last - step * np.arange(count)[::-1]
        row, column = self._place(rng, scene, (h, w))
        truth = scene.box(times, row, column, (h, w), which)
        if not self.plain and rng.random() < self.sampling.short:
            truth[:, : int(rng.integers(1, count))] = np.nan
        chosen = [scene.channels[i] for i in which]
        hidden = hide(
            rng,
            truth,
            kind or draw_kind(rng, self.masking),
            self.masking,
            [self.fields[c.field].rate for c in chosen],
            [self.specs[c.field][1] for c in chosen],
        )
        grid = scene.grid
        columns = np.arange(column, column + w) % grid.longitude.size
        return Batch(
            x=hidden.x.astype(np.float32),
            truth=np.nan_to_num(truth),
            wanted=hidden.wanted,
            when=when(times).astype(np.float32),
            latitude=grid.latitude[row : row + h].astype(np.float32),
            longitude=grid.longitude[columns].astype(np.float32),
            spacing=np.array(grid.spacing[0], np.float32),
            channels=np.array([self.numbers[c.field, c.slot] for c in chosen]),
            kind=np.array(KINDS.index(kind) if kind else -1),
        )

    def _place(
        self, rng: np.random.Generator, scene: Scene, size: tuple[int, int]
    ) -> tuple[int, int]:
        h, w = size
        grid = scene.grid
        rows, columns = grid.latitude.size, grid.longitude.size
        starts = np.arange(rows - h + 1)
        chances = np.ones(starts.size)
        if rng.random() < self.sampling.area_weighted:
            centres = (grid.latitude[starts] + grid.latitude[starts + h - 1]) / 2
            chances = np.cos(np.deg2rad(centres))
        row = int(rng.choice(starts, p=chances / chances.sum()))
        return row, int(rng.integers(columns if grid.periodic else columns - w + 1))


def present_of(
    channels: Sequence[int], numbers: Mapping[tuple[str, int], int]
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Say which fields and levels channels are, as networks want to hear it."""
    back = {number: key for key, number in numbers.items()}
    found: dict[str, list[int]] = {}
    for number in channels:
        name, slot = back[int(number)]
        found.setdefault(name, []).append(slot)
    return tuple((name, tuple(slots)) for name, slots in found.items())


def when(seconds: np.ndarray) -> np.ndarray:
    """Year, day of the year (the first is 0) and hour of times: (..., 3)."""
    times = seconds.astype("datetime64[s]")
    years = times.astype("datetime64[Y]")
    days = times.astype("datetime64[D]")
    return np.stack(
        [
            years.astype(int) + 1970,
            (days - years).astype(int),
            (times - days).astype(float) / 3600,
        ],
        -1,
    )


def _subset(rng: np.random.Generator, items: list[Any]) -> list[Any]:
    """Some of them in their order, at least one."""
    count = int(rng.integers(1, len(items) + 1))
    kept = set(rng.choice(len(items), count, replace=False).tolist())
    return [item for i, item in enumerate(items) if i in kept]
