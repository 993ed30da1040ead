"""A network that reads boxes in space and time, run over whole domains.

A domain is covered by boxes that overlap (:mod:`xatmo.engine.tiles`). What the network
says of each is blended: means by weights, and deviations of members from them as well,
but with the spread that the boxes have. Plain averages of members would lose a part of
it, since neighbouring boxes do not agree on what each member is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from xatmo.engine import worker
from xatmo.engine.batch import Call, Step, in_batches
from xatmo.engine.tiles import Cover, Place, Tile, cover, places_of, tiles_of
from xatmo.errors import MissingValuesError

__all__ = [
    "Blend",
    "Domain",
    "Reader",
    "Work",
    "ask",
    "predict",
    "running",
    "spread_of",
    "states",
]

# Points of the boxes of one forward pass, of all channels and times; boxes at least.
# Measured on a CPU with a network of 5 million weights: one box at a time takes 1.6 (15
# channels) to 3 times (2 channels) as long.
CPU_POINTS = 2**17
GPU_POINTS = 2**22
_LEAST = 8
# Spread is restored at most so many times: more is noise of members that cancel.
_MOST = 8.0
# Standard deviations from the mean that no field has.
_FAR = 1e3


@dataclass(frozen=True, eq=False)
class Domain:
    """All that is to be known of a domain and of a network that reads boxes.

    Parameters
    ----------
    call : Call
        Which network, where it runs, and what channels are called; ``method`` has no
        meaning.
    box : tuple of int
        Points of a box in time, latitude and longitude.
    token : tuple of int
        Points of a token in latitude and longitude.
    members : int
        Size of the ensemble.
    latitude, longitude : ndarray of float, shapes (ny,) and (nx,)
        Degrees, southward and eastward.
    spacing : float
        Degrees between points.
    periodic : bool
        Whether the last column is the first one's neighbour.
    present : tuple of (str, tuple of int)
        What the channels are: fields, and numbers of their levels.
    """

    call: Call
    box: tuple[int, int, int]
    token: tuple[int, int]
    members: int
    latitude: np.ndarray
    longitude: np.ndarray
    spacing: float
    periodic: bool
    present: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Points in latitude and longitude."""
        return self.latitude.size, self.longitude.size

    @property
    def channels(self) -> int:
        """Number of fields and levels."""
        return sum(len(levels) for _, levels in self.present)

    @cached_property
    def cover(self) -> tuple[Cover, Cover]:
        """Boxes along latitude and along longitude."""
        return (
            cover(self.latitude.size, self.box[1], self.token[0]),
            cover(self.longitude.size, self.box[2], self.token[1], self.periodic),
        )

    @cached_property
    def token_cover(self) -> tuple[Cover, Cover]:
        """The same for boxes that begin with a token, counted in whole tokens.

        Where columns are no whole number of tokens the circle cannot be closed.
        """
        sizes = zip(self.shape, self.box[1:], self.token, strict=True)
        counts = [(n // t, size // t) for n, size, t in sizes]
        closed = self.periodic and self.longitude.size % self.token[1] == 0
        return cover(*counts[0]), cover(*counts[1], periodic=closed)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        from dask.base import normalize_token

        plain = (self.box, self.token, self.members, self.spacing, self.periodic)
        known = (self.call, self.present, self.latitude, self.longitude)
        return "xatmo.Domain", *plain, *map(normalize_token, known)


def running(domain: Domain) -> Any:
    """Hold the network of a domain: a context, entered once for each task."""
    return worker.running(domain.call)


def predict(
    domain: Domain,
    windows: Sequence[np.ndarray],
    when: np.ndarray,
    frames: int,
    done: Callable[[int, np.ndarray], None],
    model: worker.Loaded,
) -> None:
    """Predict what is not known of windows, one after the other.

    Parameters
    ----------
    domain : Domain
    windows : sequence of ndarray, shapes (C, T, ny, nx)
        Normalised, NaN where nothing is known. Each is asked for when its turn comes.
    when : ndarray, shape (N, T, 3)
        Year, day of the year (the first is 0) and hour of each time.
    frames : int
        How many of the last times are wanted.
    done : callable
        Called with the number of each window and its members, float32,
        (members, C, frames, ny, nx). NaN where all was known to some box, and all of it
        where nothing was known at all. The memory is the callee's.
    model : Loaded
        From :func:`running`.

    Notes
    -----
    Memory is that of one window and its members, and of the next if boxes of both
    share a batch.
    """
    rows, columns = domain.cover
    bell = rows.weights[:, None, :, None] * columns.weights[None, :, None, :]
    shape = (domain.channels, frames, *domain.shape)

    def start(_: int) -> Blend:
        return Blend(
            np.zeros((domain.members, *shape), np.float32), np.zeros(shape, np.float32)
        )

    def add(blend: Blend, tile: Tile, result: np.ndarray) -> None:
        blend.add(result, bell[tile.row, tile.column], places_of(rows, columns, tile))

    def finish(number: int, blend: Blend, known: bool) -> None:
        done(number, blend.members() if known else np.full_like(blend.total, np.nan))

    kwargs = {"frames": frames}
    work = Work(domain, "predict", kwargs, rows, columns, start, add, finish)
    work.run(windows, when, model)


def states(
    domain: Domain,
    windows: Sequence[np.ndarray],
    when: np.ndarray,
    layer: int,
    features: int,
    model: worker.Loaded,
) -> np.ndarray:
    """Return what encoders know of the last tokens in time of windows.

    Parameters
    ----------
    domain, windows, when, model
        As for :func:`predict`.
    layer : int
        After how many layers.
    features : int
        Numbers for each token.

    Returns
    -------
    ndarray of float32, shape (N, rows, columns, features)
        On whole tokens, counted from the first row and column; NaN for windows of which
        nothing is known.
    """
    across, along = domain.token_cover
    rows, columns = (
        replace(c, count=n, size=t * c.size, starts=t * c.starts)
        for c, t, n in zip((across, along), domain.token, domain.shape, strict=True)
    )
    out = np.empty((len(windows), across.count, along.count, features), np.float32)

    def start(_: int) -> np.ndarray:
        return np.zeros(out.shape[1:], np.float32)

    def add(total: np.ndarray, tile: Tile, result: np.ndarray) -> None:
        weights = np.outer(across.weights[tile.row], along.weights[tile.column])
        part = np.moveaxis(result * weights, 0, -1)  # (rows, columns, features)
        for inside, (y, x) in places_of(across, along, tile):
            total[inside] += part[y, x]

    def finish(number: int, total: np.ndarray, known: bool) -> None:
        out[number] = total if known else np.nan

    kwargs = {"layer": layer}
    work = Work(domain, "states", kwargs, rows, columns, start, add, finish)
    work.run(windows, when, model)
    return out


def ask(
    domain: Domain,
    windows: Sequence[np.ndarray],
    when: np.ndarray,
    method: str,
    kwargs: dict[str, Any],
    out: np.ndarray,
    model: worker.Loaded,
) -> None:
    """Ask the network about a domain that is a single box, or less.

    Parameters
    ----------
    domain, windows, when, model
        As for :func:`predict`.
    method : str
    kwargs : dict
        Method of the network, and its further arguments.
    out : ndarray of float32, shape (N, *shape)
        Filled with what it returns; NaN for windows of which nothing is known.
    """

    def start(_: int) -> np.ndarray:
        return np.empty(out.shape[1:], np.float32)

    def add(total: np.ndarray, tile: Tile, result: np.ndarray) -> None:
        total[...] = result

    def finish(number: int, total: np.ndarray, known: bool) -> None:
        out[number] = total if known else np.nan

    Work(domain, method, kwargs, *domain.cover, start, add, finish).run(
        windows, when, model
    )


@dataclass(frozen=True, eq=False)
class Blend:
    """Weighted sums over boxes: of members (E, C, n, y, x), and of their spread."""

    total: np.ndarray
    spread: np.ndarray

    def add(
        self, part: np.ndarray, weights: np.ndarray, places: Iterator[Place]
    ) -> None:
        """Add a box (E, C, n, Y, X) with its weights (Y, X)."""
        spread = spread_of(part)
        spread *= weights
        part = part * weights
        for (y, x), (own_y, own_x) in places:
            self.total[..., y, x] += part[..., own_y, own_x]
            self.spread[..., y, x] += spread[..., own_y, own_x]

    def members(self) -> np.ndarray:
        """Return the members with the spread that the boxes have, in place."""
        if len(self.total) == 1:
            return self.total
        for channel in range(self.total.shape[1]):
            part, wanted = self.total[:, channel], self.spread[channel]
            mean = part.mean(0)
            part -= mean
            have = np.sqrt(np.square(part).mean(0))
            least = np.maximum(have, wanted / _MOST)
            part *= np.divide(wanted, least, out=np.ones_like(have), where=least > 0)
            part += mean
        return self.total


def spread_of(part: np.ndarray) -> np.ndarray:
    """Standard deviation over the first dimension, without copies of the whole."""
    mean = part.mean(0)
    square = np.zeros_like(mean)
    for member in part:
        square += np.square(member - mean)
    return np.sqrt(square / len(part))


@dataclass(frozen=True, eq=False)
class Work:
    """The loop over boxes that a prediction and an embedding share.

    ``start`` makes what the boxes of a window, of that number, are collected in,
    ``add`` puts one in, ``finish`` takes it when the last has come.
    """

    domain: Domain
    method: str
    kwargs: dict[str, Any]
    rows: Cover
    columns: Cover
    start: Callable[[int], Any]
    add: Callable[[Any, Tile, np.ndarray], None]
    finish: Callable[[int, Any, bool], None]

    def run(
        self,
        windows: Sequence[np.ndarray],
        when: np.ndarray,
        model: worker.Loaded,
        pairs: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """Go through pairs of a window and a box, in this order; all if not given."""
        tiles = list(tiles_of(self.rows, self.columns))
        if pairs is None:
            pairs = [(n, at) for n in range(len(windows)) for at in range(len(tiles))]
        last = {number: i for i, (number, _) in enumerate(pairs)}
        reader = Reader(windows, self.domain.call)
        open_: dict[int, Any] = {}
        core = (self.domain.channels, *self.domain.box)

        def step(begin: int, stop: int, size: int) -> Step:
            some = pairs[begin:stop]
            # What is too many is the last one again: full batches, whatever the chunk.
            padded = [some[min(i, len(some) - 1)] for i in range(size)]
            batch = np.full((size, *core), np.nan, np.float32)
            for x, (number, at) in zip(batch, some, strict=False):
                self._cut(reader[number], tiles[at], x)
            batch[len(some) :] = batch[len(some) - 1]
            said = self._said(padded, tiles, when)
            result = yield self.method, batch, said
            for i, (part, (number, at)) in enumerate(zip(result, some, strict=False)):
                total = open_.setdefault(number, None)
                if total is None:
                    total = open_[number] = self.start(number)
                self.add(total, tiles[at], part)
                if begin + i == last[number]:
                    self.finish(number, open_.pop(number), reader.known(number))

        call = self._sized(model.device, len(tiles))
        in_batches(step, len(pairs), core, call, model)

    def _cut(self, window: np.ndarray, tile: Tile, out: np.ndarray) -> None:
        """Put a box of a window (C, T, ny, nx) into (C, T, Y, X)."""
        for (y, x), (own_y, own_x) in places_of(self.rows, self.columns, tile):
            out[..., own_y, own_x] = window[..., y, x]

    def _said(
        self, pairs: Sequence[tuple[int, int]], tiles: Sequence[Tile], when: np.ndarray
    ) -> dict[str, Any]:
        """What the network is told of each box beside its values."""
        domain = self.domain
        latitude = _along(domain.latitude, self.rows.points, periodic=False)
        longitude = _along(domain.longitude, self.columns.points, domain.periodic)
        rows = [tiles[at].row for _, at in pairs]
        columns = [tiles[at].column for _, at in pairs]
        return {
            **self.kwargs,
            "level": None,  # the values are normalised
            "when": when[[number for number, _ in pairs]].astype(np.float32),
            "latitude": latitude[rows].astype(np.float32),
            "longitude": np.mod(longitude[columns], 360.0).astype(np.float32),
            "resolution": domain.spacing,
            "present": domain.present,
        }

    def _sized(self, device: str, tiles: int) -> Call:
        """The call with its batch size: by domain and device, not by the chunk."""
        domain = self.domain
        call = replace(domain.call, method=self.method)
        points = domain.channels * math.prod(domain.box)
        if device != "cpu":
            size = max(GPU_POINTS // points, _LEAST)
            return replace(call, gpu_batch=min(size, 16 * tiles))
        size = max(CPU_POINTS // points, _LEAST)
        # A chunk of one window is not to be padded to many: a GPU minds that less.
        return replace(call, cpu_batch=-(-tiles // -(-tiles // size)))


class Reader:
    """Windows by their number; the last one that was asked for is kept."""

    def __init__(self, windows: Sequence[np.ndarray], call: Call) -> None:
        self._windows, self._call, self._number = windows, call, -1
        self._known: dict[int, bool] = {}

    def __getitem__(self, number: int) -> np.ndarray:
        if number != self._number:
            self._window, self._number = self._windows[number], number
            self._known[number] = bool(np.isfinite(self._window).any())
            self._check(self._window)
        return self._window

    def known(self, number: int) -> bool:
        """Whether anything is known of a window; asked once."""
        return self._known.pop(number)

    def _check(self, window: np.ndarray) -> None:
        """Refuse what is no data: one number would spoil the box around it."""
        with np.errstate(invalid="ignore"):
            strange = np.abs(window) > _FAR
        if not strange.any():
            return
        channel = int(np.argmax(strange.any(axis=(1, 2, 3))))
        names = self._call.names or tuple(map(str, range(len(window))))
        count = int(strange[channel].sum())
        msg = f"{names[channel]!r} holds values that are no data."
        raise MissingValuesError(
            msg,
            found=f"{count} of {strange[channel].size} values at the times of one box "
            f"more than {_FAR:g} standard deviations from the mean",
            needed="values in the units that the attributes say, NaN where missing",
            hint="fill values that were not decoded become NaN with "
            "xr.open_dataset(file, mask_and_scale=True); else check "
            f"ds[{names[channel]!r}].attrs['units']",
        )


def _along(axis: np.ndarray, points: np.ndarray, periodic: bool) -> np.ndarray:
    """Coordinates of points; beyond the end of an axis they go on as before."""
    if periodic and points.shape[1] <= axis.size:
        return np.asarray(axis[points % axis.size])
    step = axis[-1] - axis[-2] if axis.size > 1 else 0.0
    beyond = np.maximum(points - axis.size + 1, 0)
    return np.asarray(axis[np.minimum(points, axis.size - 1)] + step * beyond)
