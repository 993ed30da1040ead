"""Pieces of series with gaps, drawn from prepared stores and from random fields.

Batch ``i`` is a function of the seed and ``i`` alone: a run that is killed and resumed
sees what it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xatmo.blocks import block_mean
from xatmo.climatology import climatology
from xatmo.fields.land import land_share_of_cells
from xatmo.frames import (
    ABOUT,
    BLOCK,
    CHANNELS,
    QUANTITIES,
    about,
    frames,
    neighbours,
    statics,
)
from xatmo.testing.gaps import FAMILIES, gap_mask
from xatmo.training.infill.random_fields import random_series
from xatmo.training.infill.recipe import Gaps
from xatmo.training.sampling import FieldStore, mirror_signs

__all__ = ["Batch", "Piece", "SeriesSampler", "draw_gaps", "hide"]

_WINDS = QUANTITIES[:2]


@dataclass(frozen=True)
class Batch:
    """What the network reads and what it is to find, both in units of the anomalies.

    ``frames`` (B, CHANNELS, h, w) and ``about`` (B, ABOUT) are read; ``truth`` and
    ``hidden`` (1 where it is to be found) are (B, BLOCK, h, w). ``base`` (B, BLOCK, h,
    w) and ``scale`` (B,) lead back to physical units; ``winds`` (B,) marks the two of a
    pair of winds that lie on a grid of which ``spacing`` (B,) is the height of a cell,
    0 if the piece does not fill its frame.
    """

    frames: np.ndarray
    about: np.ndarray
    truth: np.ndarray
    hidden: np.ndarray
    base: np.ndarray
    scale: np.ndarray
    winds: np.ndarray
    spacing: np.ndarray


class Piece(NamedTuple):
    """A piece of a series, in physical units, without gaps but its own."""

    values: np.ndarray
    """(Q, T, h, w): one quantity, or two winds."""
    hours: np.ndarray
    latitude: np.ndarray
    land: np.ndarray
    quantities: tuple[str | None, ...]
    spacing: float


class SeriesSampler:
    """Draw pieces of series, hide a part of each, and cut blocks of times from them.

    Parameters
    ----------
    stores, weights
        Data sets, and factors of their share, which is the root of that of their size.
    sampling : Gaps
    seed : int
        With the number of a batch it fixes every piece in it.
    plain : bool
        Neither mirror nor cut pieces smaller, draw no random fields, and take the
        families of gaps one by one: for validation.
    """

    def __init__(
        self,
        stores: list[FieldStore],
        weights: list[float],
        sampling: Gaps,
        *,
        seed: int,
        plain: bool = False,
    ) -> None:
        self.stores, self.sampling, self.seed = stores, sampling, seed
        self.plain = plain
        cells = [float(np.prod(store.fields.shape)) for store in stores]
        shares = np.sqrt(cells) * weights
        self.shares = shares / shares.sum()
        self.land = [
            land_share_of_cells(s.latitude, s.longitude, s.spacing) for s in stores
        ]

    def batch(self, number: int, size: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """Return batch ``number``, always the same for the same seed.

        Parameters
        ----------
        number, size : int
        part : tuple of int
            ``(i, n)`` reads the i-th of n equal parts of the batch.
        """
        i, n = part
        own = range(i * size // n // 2, (i + 1) * size // n // 2)
        pairs = [self.pair(number * (size // 2) + j) for j in own]
        columns = zip(*(vars(pair).values() for pair in pairs), strict=True)
        return Batch(*map(np.concatenate, columns))

    def pair(self, number: int) -> Batch:
        """Return two blocks of one piece: of two winds, or of two times."""
        rng = np.random.default_rng([self.seed, number])
        piece = self.drawn(rng)
        shape = piece.values.shape[1:]
        family = FAMILIES[number % len(FAMILIES)] if self.plain else None
        gaps = draw_gaps(rng, shape, family)
        return hide(rng, piece, gaps, self.sampling.patch)

    def drawn(self, rng: np.random.Generator) -> Piece:
        """Return a random field now and then, else a piece of the sources."""
        if not self.plain and rng.random() < self.sampling.random:
            return self.random_piece(rng)
        return self.piece(rng)

    def piece(self, rng: np.random.Generator) -> Piece:
        """Cut a piece from a store: one quantity of it, or its two winds."""
        s = self.sampling
        which = int(rng.choice(len(self.stores), p=self.shares))
        store = self.stores[which]
        rows, columns = store.fields.shape[-2:]
        # Wide grids are seen at half their resolution too.
        large = min(rows, columns) >= s.patch[0]
        zoom = 2 if large and not self.plain and rng.random() < s.coarse else 1
        h, w = min(s.patch[0], rows // zoom), min(s.patch[1], columns // zoom)
        if not self.plain and rng.random() < s.regional:
            h, w = (int(rng.integers(min(24, n), n + 1)) for n in (h, w))
        row = int(rng.integers(rows - zoom * h + 1))
        column = int(
            rng.integers(columns if store.periodic else columns - zoom * w + 1)
        )
        channels = self.channels(rng, store)
        index = self.times(rng, store)
        values = [store.window(t, row, column, zoom * h, zoom * w) for t in index]
        x = np.stack([v[channels] for v in values], axis=1)  # (Q, T, h, w)
        across = np.arange(column, column + zoom * w) % columns
        land = self.land[which][row : row + zoom * h][:, across]
        latitude = store.latitude[row : row + zoom * h]
        piece = Piece(
            block_mean(x, zoom),
            store.times[index] / 3600.0,
            latitude.reshape(h, zoom).mean(1),
            block_mean(land, zoom),
            tuple(store.quantities[c] for c in channels),
            zoom * store.spacing[0],
        )
        return piece if self.plain else self.varied(rng, piece)

    def channels(self, rng: np.random.Generator, store: FieldStore) -> list[int]:
        """Choose a quantity, or both winds where the store has them."""
        winds = [store.quantities.index(q) for q in _WINDS if q in store.quantities]
        if len(winds) == 2 and rng.random() < 0.5:
            return winds
        return [int(rng.integers(len(store.quantities)))]

    def times(self, rng: np.random.Generator, store: FieldStore) -> np.ndarray:
        """Choose a stretch of times without interruption, perhaps every other one."""
        count = store.times.size
        if rng.random() < self.sampling.single or count == 1:
            return rng.integers(count, size=1)
        stride = 1 if self.plain else int(rng.choice([1, 1, 1, 2, 4]))
        stride = min(stride, max(1, count // 8))
        longest = min(self.sampling.times, count // stride)
        length = longest
        if not self.plain:
            length = int(np.ceil(longest * rng.uniform(0.03, 1.0) ** 0.5))
        start = int(rng.integers(count - stride * (length - 1)))
        index = start + stride * np.arange(length)
        steps = np.diff(store.times[index])
        if length > 1 and (steps != np.median(steps)).any():
            # Up to the first jump, if that leaves something.
            jump = int(np.argmax(steps != np.median(steps))) + 1
            index = index[:jump] if jump > length // 2 else index[jump:]
        return index

    def varied(self, rng: np.random.Generator, piece: Piece) -> Piece:
        """Mirror a piece; where it is not said what it is, in any way."""
        x, land, latitude = piece.values, piece.land, piece.latitude
        names = tuple(q or "" for q in piece.quantities)
        unnamed = rng.random() < self.sampling.unnamed
        if rng.integers(2):
            signs = mirror_signs(names)[:, None]
            x, land, latitude = x[:, :, ::-1] * signs, land[::-1], -latitude[::-1]
        if unnamed:
            if rng.integers(2):
                x, land = x[..., ::-1], land[:, ::-1]
            sign = 1.0 if rng.integers(2) else -1.0
            unknown: tuple[str | None, ...] = (None,) * len(names)
            return piece._replace(
                values=sign * x, land=land, latitude=latitude, quantities=unknown
            )
        return piece._replace(values=x, land=land, latitude=latitude)

    def random_piece(self, rng: np.random.Generator) -> Piece:
        """Draw a random series over the coasts of a random place."""
        h, w = self.sampling.patch
        if rng.random() < 0.5:
            h, w = (int(rng.integers(min(24, n), n + 1)) for n in (h, w))
        spacing = float(np.exp(rng.uniform(np.log(0.1), np.log(1.0))))
        top = rng.uniform(-80 + spacing * h, 80) if spacing * h < 160 else 80.0
        latitude = top - spacing * np.arange(h)
        longitude = rng.uniform(0, 360) + spacing * np.arange(w)
        land = land_share_of_cells(latitude, longitude, (spacing, spacing))
        step = float(rng.choice([1.0, 1.0, 3.0, 6.0]))
        single = rng.random() < self.sampling.single
        times = 1 if single else int(rng.integers(8, self.sampling.times + 1))
        values = random_series(rng, times, land, step)
        return Piece(
            values[None], step * np.arange(times), latitude, land, (None,), 0.0
        )


def draw_gaps(
    rng: np.random.Generator, shape: tuple[int, ...], family: str | None = None
) -> np.ndarray:
    """Draw gaps on a series (T, h, w): of a family as it is, or of all kinds mixed."""
    times = shape[0]
    if family is not None:
        if family == "missing_times" and times == 1:
            family = "blocks"
        return gap_mask(family, shape, rng=rng)  # type: ignore[arg-type]
    gaps = _some_gaps(rng, shape)
    return gaps | _some_gaps(rng, shape) if rng.random() < 0.2 else gaps


def _some_gaps(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    def between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    kinds = ["random_50", "blocks", "clouds", "clouds", "clouds", "swaths"]
    kinds += ["centre_hole", "centre_hole"]
    if shape[0] > 2:
        kinds.append("missing_times")
    kind = str(rng.choice(kinds))
    options: dict[str, float] = {"share": rng.uniform(0.2, 0.7)}
    if kind == "random_50":
        options["share"] = rng.uniform(0.3, 0.97)
    elif kind == "blocks":
        options |= {"size": int(between(2, 28)), "duration": int(between(1, 16))}
    elif kind == "clouds":
        options |= {"scale": between(1.5, 16), "duration": between(0.5, 14)}
        options["share"] = rng.uniform(0.3, 0.8)
    elif kind == "centre_hole":
        options["share"] = rng.uniform(0.04, 0.5)
    elif kind == "missing_times":
        options |= {"share": rng.uniform(0.1, 0.6), "duration": int(between(1, 6))}
    else:
        options["share"] = rng.uniform(0.2, 0.6)
    gaps = gap_mask(kind, shape, rng=rng, **options)  # type: ignore[arg-type]
    if kind == "centre_hole":
        # Anywhere, and for all times or for some.
        turn = tuple(int(rng.integers(-n // 4, n // 4 + 1)) for n in shape[1:])
        gaps = np.roll(gaps, turn, axis=(1, 2))
        if rng.random() < 0.5 and shape[0] > 1:
            start = int(rng.integers(shape[0]))
            some = np.zeros(shape[0], bool)
            some[start : start + max(1, int(between(1, 12)))] = True
            gaps = gaps & some[:, None, None]
    return gaps


def hide(
    rng: np.random.Generator, piece: Piece, gaps: np.ndarray, patch: tuple[int, int]
) -> Batch:
    """Make what the network reads of a piece whose gaps (T, h, w) are hidden from it.

    Two blocks, where the gaps are: of two winds at the same times, or of one quantity.
    """
    x, times = piece.values, gaps.shape[0]
    two = len(x) == 2
    lost = gaps.mean(axis=(1, 2))
    chances = lost / lost.sum() if lost.sum() else None
    starts = [int(rng.choice(times, p=chances)) // BLOCK * BLOCK for _ in range(2)]
    if two:
        starts[1] = starts[0]
    other = neighbours(piece.hours)
    still = statics(piece.latitude, piece.land)
    out = _empty(patch)
    h, w = gaps.shape[1:]
    found = {}
    for i, start in enumerate(starts):
        q = i if two else 0
        if q not in found:
            seen = np.where(gaps, np.nan, x[q])
            climate, phase = climatology(seen, piece.hours)
            base = climate.at(phase)
            unit = climate.scale or 1.0
            found[q] = climate, base, unit, (seen - base) / unit, (x[q] - base) / unit
        climate, base, unit, seen, true = found[q]
        block = slice(start, min(start + BLOCK, times))
        n = block.stop - block.start
        read = np.concatenate(
            [frames(seen, start, other), [climate.known, climate.shape], still]
        )
        out.frames[i, :, :h, :w] = read
        out.about[i] = about(piece.quantities[q], climate)
        there = gaps[block] & np.isfinite(true[block])
        out.hidden[i, :n, :h, :w] = there & (climate.scale > 0)
        out.truth[i, :n, :h, :w] = np.where(np.isfinite(true[block]), true[block], 0)
        out.base[i, :n, :h, :w] = base[block]
        out.scale[i] = unit
        whole = (h, w) == tuple(patch) and n == BLOCK and np.isfinite(x).all()
        out.winds[i] = two and whole and piece.quantities[0] == QUANTITIES[0]
        out.spacing[i] = piece.spacing if whole else 0.0
    return out


def _empty(patch: tuple[int, int]) -> Batch:
    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    block = (2, BLOCK, *patch)
    return Batch(
        frames=zeros(2, CHANNELS, *patch),
        about=zeros(2, ABOUT),
        truth=zeros(*block),
        hidden=zeros(*block),
        base=zeros(*block),
        scale=zeros(2),
        winds=np.zeros(2, bool),
        spacing=zeros(2),
    )
