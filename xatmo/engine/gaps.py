"""The network that fills gaps, run on pieces of a series: each with times around it.

Where a series is cut follows from its shape and its times alone, never from the user's
chunks: whatever those are, the numbers are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from xatmo.climatology import Background, phases
from xatmo.engine import worker
from xatmo.engine.batch import Call, Step, in_batches
from xatmo.engine.finer import near
from xatmo.frames import (
    BLOCK,
    CHANNELS,
    CONTEXT,
    about,
    frames,
    neighbours,
    positions,
    statics,
)

__all__ = ["Network", "Plan", "run_network"]

# Values of a piece: on a CPU a network takes some seconds for them.
TASK_POINTS = 2**21
# Points that the network sees at a time: a field of 0.25 degrees is still one.
TILE_POINTS = 3 * 2**19
# Columns of the other side that close a circle, so that no seam is seen.
WRAP = 64


@dataclass(frozen=True, eq=False)
class Plan:
    """What is known of a series before its values, and how it is cut.

    Parameters
    ----------
    name : str
        What the user calls the variable.
    quantity : str or None
        CF standard name.
    latitude, longitude : ndarray, shapes (h,) and (w,)
        Degrees, from north to south and from west to east.
    hours : ndarray, shape (T,), or None
        Ascending, since a midnight; None if times have no dates.
    count : int
        T.
    periodic : bool
        Whether the last column is the first one's neighbour.
    land : callable
        From latitudes and longitudes to the share of land in the cells, (h, w); it can
        be hashed.
    alone : bool
        Whether the variable is this series and no other.
    of : int, optional
        Times of the series that this is a part of.
    """

    name: str
    quantity: str | None
    latitude: np.ndarray
    longitude: np.ndarray
    hours: np.ndarray | None
    count: int
    periodic: bool
    land: Callable[[np.ndarray, np.ndarray], np.ndarray]
    alone: bool = True
    of: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, h, w)."""
        return self.count, self.latitude.size, self.longitude.size

    @cached_property
    def phase(self) -> np.ndarray:
        """Time of the day of each time, by its number."""
        return phases(self.hours, self.count)

    @cached_property
    def position(self) -> np.ndarray:
        """Number of each time, in equal steps."""
        return positions(self.hours, self.count)

    @cached_property
    def other(self) -> int:
        """Steps to the other days that are read."""
        return neighbours(self.hours)

    @cached_property
    def pieces(self) -> list[slice]:
        """The times of each piece: whole blocks, and about as many as fill a task."""
        cells = self.latitude.size * self.longitude.size
        length = BLOCK * max(1, TASK_POINTS // (BLOCK * cells))
        starts = np.flatnonzero(np.diff(self.position // length, prepend=-1))
        stops = [*starts[1:], self.count]
        return [slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True)]

    @cached_property
    def _piece(self) -> np.ndarray:
        """Which piece each time is in."""
        lengths = [piece.stop - piece.start for piece in self.pieces]
        return np.repeat(np.arange(len(lengths)), lengths)

    def read_by(self, index: int) -> list[int]:
        """Return which pieces hold what is read to fill one, itself included."""
        own = self.pieces[index]
        first = self.position[own.start] // BLOCK * BLOCK
        last = self.position[own.stop - 1] // BLOCK * BLOCK + BLOCK
        wanted = np.zeros(self.count, bool)
        reach = [(-CONTEXT, CONTEXT), (-self.other,) * 2, (self.other,) * 2]
        for before, behind in reach:
            at = self.position
            wanted |= (at >= first + before) & (at < last + behind)
        return np.unique(self._piece[wanted]).tolist()

    def times_of(self, pieces: Sequence[int]) -> np.ndarray:
        """Return the numbers of the times in some pieces."""
        each = [np.arange(p.start, p.stop) for p in (self.pieces[i] for i in pieces)]
        return np.concatenate(each)

    def part(self, times: slice) -> Plan:
        """Return the plan of some of the times, as a series of their own."""
        hours = None if self.hours is None else self.hours[times]
        of = self.count if self.of is None else self.of
        return replace(self, hours=hours, count=len(range(self.count)[times]), of=of)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        from dask.base import normalize_token

        axes = (self.latitude, self.longitude, self.hours)
        known = (self.name, self.quantity, self.count, self.periodic, self.alone)
        return "xatmo.Plan", *known, *map(normalize_token, axes)


@dataclass(frozen=True)
class Network:
    """A network that fills gaps.

    Parameters
    ----------
    call : Call
        Its method takes (B, channels, h, w) and ``about``, and gives mean and standard
        deviation (B, 2, times, h, w) in units of the anomalies.
    reach : int
        Points around a place that its result depends on.
    stride : int
        Where a part of a domain may begin.
    radius : int
        Points beyond which no observation tells anything.
    factor : float
        What its spread has to be multiplied by.
    """

    call: Call
    reach: int
    stride: int
    radius: int
    factor: float = 1.0


def run_network(
    network: Network,
    values: np.ndarray,
    times: np.ndarray,
    wanted: np.ndarray,
    plan: Plan,
    found: Background,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill some times of a series.

    Parameters
    ----------
    network : Network
    values : ndarray, shape (n, h, w)
    times : ndarray of int, shape (n,)
        Which times of the series they are, ascending.
    wanted : ndarray of int, shape (m,)
        Which of the times to fill.
    plan : Plan
    found : Background

    Returns
    -------
    filled, spread : ndarray, shape (m, h, w)
        In the type of the values; NaN too far from anything observed. What was observed
        comes back as it was, where whole blocks had no gap; the network's word stands
        in its place elsewhere.
    """
    filled = values[np.searchsorted(times, wanted)]
    spread = np.zeros_like(filled)
    if found.scale == 0:
        # Nothing changes in time: what is known is so exactly, and the rest a guess.
        spread[:] = np.where(found.known > 0, 0.0, found.contrast)
        return found.at(plan.phase[wanted]).astype(values.dtype), spread
    at = plan.position[times]
    anomalies = (values - found.at(plan.phase[times])) / found.scale
    anomalies = anomalies.astype(np.float32)
    place = plan.position[wanted]
    gaps = np.isnan(filled).any(axis=(1, 2))
    blocks = np.unique(place[gaps] // BLOCK)
    for block, mean, deviation, known in _blocks(
        network, anomalies, at, blocks, plan, found
    ):
        rows = np.flatnonzero(place // BLOCK == block)
        inner = place[rows] - block * BLOCK
        base = found.at(plan.phase[wanted[rows]])
        for out, new in (
            (filled, mean[inner] * found.scale + base),
            (spread, deviation[inner] * (found.scale * network.factor)),
        ):
            out[rows] = np.where(known, new, np.nan)
    return filled, spread


def _blocks(
    network: Network,
    anomalies: np.ndarray,
    at: np.ndarray,
    blocks: np.ndarray,
    plan: Plan,
    found: Background,
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """For each block its number, mean and deviation (BLOCK, h, w), and where to trust.

    Blocks run in batches of one size: so each gets the same numbers in any company.
    """
    h, w = anomalies.shape[1:]
    wrap = WRAP if plan.periodic else 0
    columns = np.arange(-wrap, w + wrap) % w
    still = np.concatenate([[found.known, found.shape], _statics(plan)])
    numbers = about(plan.quantity, found)
    tiles = list(_tiles(h, columns.size, network))
    # As large as the network makes it, and no more blocks than the series has.
    largest = max(tile.shape for tile in tiles)
    core = tuple(-(-n // network.stride) * network.stride for n in largest)
    most = int(plan.position[-1]) // BLOCK + 1
    done: list[Any] = []

    def step(start: int, stop: int, size: int) -> Step:
        some = blocks[start:stop]
        batch = np.empty((size, CHANNELS, h, columns.size), np.float32)
        batch[len(some) :] = 0.0
        known = []
        for x, block in zip(batch, some, strict=False):
            inner = x[..., wrap : wrap + w]
            read, inner[-len(still) :] = inner[: -len(still)], still
            frames(anomalies, int(block) * BLOCK, plan.other, at=at, out=read)
            seen = np.asarray(read[len(read) // 2 :].any(axis=0))
            close = near(seen[None, :, columns], network.radius)
            known.append(close[0, :, wrap : wrap + w])
            x[..., :wrap] = inner[..., columns[:wrap]]
            x[..., wrap + w :] = inner[..., columns[wrap + w :]]
        out = np.empty((size, 2, BLOCK, h, columns.size), np.float32)
        said = np.repeat(numbers[None], size, 0)
        kwargs = {**dict(network.call.kwargs), "about": said}
        for tile in tiles:
            part = np.ascontiguousarray(batch[..., tile.seen[0], tile.seen[1]])
            result = yield network.call.method, part, kwargs
            out[..., tile.own[0], tile.own[1]] = result[
                ..., tile.inner[0], tile.inner[1]
            ]
        inner = out[: len(some), ..., wrap : wrap + w]
        done.extend(zip(some.tolist(), inner[:, 0], inner[:, 1], known, strict=True))

    with worker.running(network.call) as model:
        size = network.call.fields_per_batch(math.prod(core), model.device)
        size = min(size, most)
        call = replace(network.call, cpu_batch=size, gpu_batch=size)
        if call.batch_size is not None:
            call = replace(call, batch_size=size)
        in_batches(step, len(blocks), core, call, model)
    yield from done


@dataclass(frozen=True)
class _Tile:
    """A part of a domain: what is seen, and what of it is its own; rows and columns."""

    seen: tuple[slice, slice]
    own: tuple[slice, slice]

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.seen
        return rows.stop - rows.start, columns.stop - columns.start

    @property
    def inner(self) -> tuple[slice, slice]:
        """Its own part, counted in what is seen."""
        rows, columns = (
            slice(own.start - seen.start, own.stop - seen.start)
            for own, seen in zip(self.own, self.seen, strict=True)
        )
        return rows, columns


def _tiles(h: int, w: int, network: Network) -> list[_Tile]:
    """Cut a domain so that each part gets the numbers that it gets in the whole."""
    if h * w <= TILE_POINTS:
        whole = (slice(0, h), slice(0, w))
        return [_Tile(whole, whole)]
    halo = -(-network.reach // network.stride) * network.stride
    rows = _cuts(h, int(TILE_POINTS**0.5), halo, network.stride)
    tallest = max(seen.stop - seen.start for seen, _ in rows)
    columns = _cuts(w, TILE_POINTS // tallest, halo, network.stride)
    return [
        _Tile((seen_y, seen_x), (own_y, own_x))
        for seen_y, own_y in rows
        for seen_x, own_x in columns
    ]


def _cuts(size: int, most: int, halo: int, stride: int) -> list[tuple[slice, slice]]:
    """What is seen, and what is kept, along one axis."""
    if size <= most:
        return [(slice(0, size), slice(0, size))]
    # No shorter than the halo: what is seen is nine times what is kept, at most.
    step = max(halo, (most - 2 * halo) // stride * stride)
    own = [slice(a, min(a + step, size)) for a in range(0, size, step)]
    return [(slice(max(o.start - halo, 0), min(o.stop + halo, size)), o) for o in own]


def _statics(plan: Plan) -> np.ndarray:
    return _on_land(plan.land, plan.latitude.tobytes(), plan.longitude.tobytes())


@lru_cache(maxsize=4)
def _on_land(land: Callable[..., np.ndarray], y: bytes, x: bytes) -> np.ndarray:
    """Kept, since all times share it."""
    latitude, longitude = np.frombuffer(y), np.frombuffer(x)
    return statics(latitude, land(latitude, longitude))
