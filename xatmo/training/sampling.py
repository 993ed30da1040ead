"""Pairs of patches a known time apart, drawn from prepared Zarr stores.

Batch ``i`` is a function of the seed and ``i`` alone: a run that is killed and resumed
sees what it would have seen.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
import zarr

from xatmo.errors import GridError, LevelError, TimeAxisError
from xatmo.training.recipe import Sampling

__all__ = [
    "BLOCK_SECONDS",
    "Batch",
    "FieldStore",
    "Pair",
    "PairSampler",
    "Triplets",
    "check_size",
    "level_index",
    "mirror_signs",
    "open_stores",
]

# Weather of the same three days is one sample, not many.
BLOCK_SECONDS = 3 * 86400

# What turns changes its sign in every mirror, what points in the mirror across its way.
_ANTISYMMETRIC = {
    "latitude": {"northward_wind", "atmosphere_relative_vorticity"},
    "longitude": {"eastward_wind", "atmosphere_relative_vorticity"},
}


@dataclass(frozen=True)
class Batch:
    """Pairs in physical units: ``first``, ``second`` (B, C, H, W), ``label`` (B,).

    ``level`` indexes the normalisation constants, ``latitude`` is the centre's,
    ``block`` numbers the three days of weather a pair was taken from, ``month`` is
    that of the first field, 1 to 12.
    """

    first: np.ndarray
    second: np.ndarray
    label: np.ndarray
    level: np.ndarray
    latitude: np.ndarray
    block: np.ndarray
    month: np.ndarray


class Pair(NamedTuple):
    """Where a pair is taken from: nothing is read yet."""

    store: int
    label: int
    before: int
    after: int
    row: int
    column: int
    mirrored: bool


@dataclass(frozen=True)
class Triplets:
    """A state, an earlier and a later one: three (B, C, H, W); two lags in steps."""

    fields: tuple[np.ndarray, np.ndarray, np.ndarray]
    lags: np.ndarray
    block: np.ndarray


class FieldStore:
    """One prepared Zarr store, read time slice by time slice.

    Parameters
    ----------
    path : Path
        Holds ``fields`` (time, channel, latitude, longitude) and its coordinates.
    cache_bytes : int
        Slices kept in memory: a store of any size is read through that much.

    Attributes
    ----------
    times : ndarray of int
        Seconds, in the calendar of the data.
    months : ndarray of int
    reads : int
        Slices read from the store so far.
    """

    def __init__(self, path: Path, cache_bytes: int = 2**30) -> None:
        self.path, self.cache_bytes, self.reads = Path(path), cache_bytes, 0
        with xr.open_zarr(path, chunks=None, consolidated=False) as ds:
            self.times = _seconds(ds["time"].values)
            self.months = ds["month"].values
            # Times with missing values: a pair needs two without.
            self.whole = ds["state"].values == 1
            self.latitude = ds["latitude"].values
            self.longitude = ds["longitude"].values
            self.level = str(ds.attrs["level"])
            self.periodic = bool(ds.attrs["periodic"])
            self.quantities = tuple(ds.attrs["quantities"])
            self.spacing = tuple(ds.attrs["spacing"])
        self.fields = zarr.open_array(self.path / "fields", mode="r")
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        slice_bytes = int(np.prod(self.fields.shape[1:])) * 4
        self.nbytes = slice_bytes * self.times.size
        self._capacity = max(2, cache_bytes // slice_bytes)

    @property
    def name(self) -> str:
        """Name of the file that the fields are from."""
        return self.path.stem.rpartition("-")[0] or self.path.stem

    def __reduce__(self) -> tuple[object, ...]:
        # Another process opens the store anew, and fills a cache of its own.
        return FieldStore, (self.path, self.cache_bytes)

    def starts(self, lag_seconds: int) -> np.ndarray:
        """Pairs of indices (n, 2) that lie exactly ``lag_seconds`` apart."""
        later = np.searchsorted(self.times, self.times + lag_seconds)
        here = np.flatnonzero(later < self.times.size)
        here = here[self.times[later[here]] == self.times[here] + lag_seconds]
        here = here[self.whole[here] & self.whole[later[here]]]
        return np.stack([here, later[here]], axis=1)

    def window(self, time: int, row: int, column: int, h: int, w: int) -> np.ndarray:
        """A patch (C, h, w); longitudes wrap on a global grid."""
        field = self._slice(time)
        columns = np.arange(column, column + w) % field.shape[-1]
        return field[:, row : row + h][:, :, columns]

    def _slice(self, time: int) -> np.ndarray:
        if time in self._cache:
            self._cache.move_to_end(time)
            return self._cache[time]
        field = np.asarray(self.fields[time])
        self.reads += 1
        self._cache[time] = field
        if len(self._cache) > self._capacity:
            self._cache.popitem(last=False)
        return field


class PairSampler:
    """Draw ordered pairs as the paper does: lags uniform, places uniform in pixels.

    Parameters
    ----------
    stores, weights
        Data sets and their share of the pairs.
    levels : list of str
        The order in which the normalisation constants are kept.
    sampling : Sampling
        Lags, patch size, latitude limit.
    seed : int
        With the number of a batch it fixes every pair in it.
    """

    def __init__(
        self,
        stores: list[FieldStore],
        weights: list[float],
        levels: list[str],
        sampling: Sampling,
        seed: int,
    ) -> None:
        self.stores, self.sampling, self.seed = stores, sampling, seed
        self.weights, self.levels = weights, levels
        self.signs = mirror_signs(stores[0].quantities)
        self.level_index = [level_index(store, levels) for store in stores]
        seconds = sampling.step_hours * 3600
        self.pairs = [
            [store.starts((lag + 1) * seconds) for lag in range(sampling.n_lags)]
            for store in stores
        ]
        self.rows = [_row_range(store, sampling) for store in stores]
        # A store is as likely as it has pairs; a store without a lag never gives it.
        counts = np.array([[len(p) for p in lags] for lags in self.pairs], float)
        shares = counts * np.asarray(weights)[:, None]
        _check_every_lag(counts, stores, sampling)
        self.shares = shares / shares.sum(axis=0, keepdims=True)

    def only(self, level: str) -> PairSampler:
        """Return the same sampler on one of its levels."""
        kept = [i for i, store in enumerate(self.stores) if store.level == level]
        stores = [self.stores[i] for i in kept]
        weights = [self.weights[i] for i in kept]
        return PairSampler(stores, weights, self.levels, self.sampling, self.seed)

    @property
    def streams(self) -> bool:
        """Whether pairs come as the stores are read, for these exceed the memory."""
        if self.sampling.order == "auto":
            held = sum(store.nbytes for store in self.stores)
            return held > self.sampling.cache_mb * 2**20
        return self.sampling.order == "stream"

    def batch(self, number: int, size: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """Return batch ``number``, always the same for the same seed.

        Parameters
        ----------
        number, size : int
        part : tuple of int
            ``(i, n)`` reads the i-th of n equal parts of the batch.
        """
        pairs = self.draw(np.random.default_rng([self.seed, number]), size)
        i, n = part
        own = pairs[i * size // n : (i + 1) * size // n]
        return self.gather(own, (self.cut(pair) for pair in own))

    def draw(self, rng: np.random.Generator, size: int) -> list[Pair]:
        """Choose pairs: lags alike, times alike for each lag, places alike."""
        pairs = []
        for lag in rng.integers(self.sampling.n_lags, size=size):
            which = self.draw_store(rng, lag)
            possible = self.pairs[which][lag]
            before, after = possible[rng.integers(len(possible))]
            place = self.draw_place(rng, which)
            pairs.append(Pair(which, int(lag), before, after, *place, mirrored=False))
        if self.sampling.mirror:
            turned = rng.random(size) < 0.5
            pairs = [p._replace(mirrored=t) for p, t in zip(pairs, turned, strict=True)]
        return pairs

    def draw_store(self, rng: np.random.Generator, lag: int) -> int:
        """Choose a store that has the lag, by its share of the pairs."""
        return int(rng.choice(len(self.stores), p=self.shares[:, lag]))

    def draw_place(self, rng: np.random.Generator, which: int) -> tuple[int, int]:
        """Row and column of a patch, uniform in grid points."""
        store, w = self.stores[which], self.sampling.patch[1]
        n_lon = store.fields.shape[-1]
        row = int(rng.integers(*self.rows[which]))
        return row, int(rng.integers(n_lon if store.periodic else n_lon - w + 1))

    def cut(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Read the two patches of a pair, (C, H, W) each."""
        store, patch = self.stores[pair.store], self.sampling.patch
        first, second = (
            store.window(time, pair.row, pair.column, *patch)
            for time in (pair.before, pair.after)
        )
        if not pair.mirrored:
            return first, second
        return first[:, ::-1] * self.signs, second[:, ::-1] * self.signs

    def gather(
        self, pairs: Sequence[Pair], patches: Iterable[tuple[np.ndarray, np.ndarray]]
    ) -> Batch:
        """Make a batch of pairs and their patches."""
        first, second = self._empty(len(pairs)), self._empty(len(pairs))
        for i, (before, after) in enumerate(patches):
            first[i], second[i] = before, after
        stores = [self.stores[p.store] for p in pairs]
        times = [s.times[p.before] for s, p in zip(stores, pairs, strict=True)]
        months = [s.months[p.before] for s, p in zip(stores, pairs, strict=True)]
        return Batch(
            first,
            second,
            label=np.array([p.label for p in pairs], np.int64),
            level=np.array([self.level_index[p.store] for p in pairs], np.int64),
            latitude=np.array([self._centre(p) for p in pairs], np.float32),
            block=np.array(times, np.int64) // BLOCK_SECONDS,
            month=np.array(months, np.int64),
        )

    def triplets(self, number: int, size: int) -> Triplets:
        """Return states at t, t + a and t + b with a < b, all pairs (a, b) alike."""
        rng = np.random.default_rng([self.seed, 2, number])
        fields = (self._empty(size), self._empty(size), self._empty(size))
        lags, block = np.empty((size, 2), np.int64), np.empty(size, np.int64)
        for i in range(size):
            a, b = sorted(rng.choice(self.sampling.n_lags, 2, replace=False))
            which = self.draw_store(rng, b)
            near, far = dict(self.pairs[which][a]), dict(self.pairs[which][b])
            starts = [t for t in near if t in far]
            start = starts[rng.integers(len(starts))]
            place = (*self.draw_place(rng, which), *self.sampling.patch)
            for x, time in zip(fields, (start, near[start], far[start]), strict=True):
                x[i] = self.stores[which].window(time, *place)
            lags[i] = a + 1, b + 1
            block[i] = self.stores[which].times[start] // BLOCK_SECONDS
        return Triplets(fields, lags, block)

    def _centre(self, pair: Pair) -> float:
        """Latitude of the middle of a pair's patches."""
        latitude = self.stores[pair.store].latitude
        centre = float(latitude[pair.row : pair.row + self.sampling.patch[0]].mean())
        return -centre if pair.mirrored else centre

    def _empty(self, size: int) -> np.ndarray:
        channels = self.stores[0].fields.shape[1]
        return np.empty((size, channels, *self.sampling.patch), np.float32)


def level_index(store: FieldStore, levels: list[str]) -> int:
    """Return which of the levels a store is at."""
    if store.level in levels:
        return levels.index(store.level)
    msg = f"{store.name} is at a level that is not trained on."
    raise LevelError(
        msg,
        found=store.level,
        needed=f"one of {', '.join(levels)}, whose constants are known",
        hint=f'level = "{levels[0]}" for that source, or train at {store.level} too',
    )


def _check_every_lag(
    counts: np.ndarray, stores: list[FieldStore], sampling: Sampling
) -> None:
    missing = np.flatnonzero(counts.sum(axis=0) == 0) + 1
    if missing.size:
        hours = ", ".join(str(lag * sampling.step_hours) for lag in missing)
        msg = f"No two times of the data are {hours} h apart."
        raise TimeAxisError(
            msg,
            found=f"{sum(s.times.size for s in stores)} times in {len(stores)} series",
            needed=f"pairs for every lag from {sampling.step_hours} to "
            f"{sampling.step_hours * sampling.n_lags} h",
            hint="take a longer series, or one with a time step of "
            f"{sampling.step_hours} h",
        )


def open_stores(paths: Sequence[Path], cache_mb: int) -> list[FieldStore]:
    """Open stores that share the memory for fields, each by its size."""
    stores = [FieldStore(path) for path in paths]
    memory = cache_mb * 2**20
    total = sum(store.nbytes for store in stores)
    shares = [int(memory * store.nbytes / total) for store in stores]
    return [FieldStore(p, share) for p, share in zip(paths, shares, strict=True)]


def mirror_signs(quantities: Sequence[str], axis: str = "latitude") -> np.ndarray:
    """Factors (C, 1, 1) of the channels when an axis is turned round.

    ``"latitude"`` exchanges north and south, ``"longitude"`` east and west.
    """
    changed = _ANTISYMMETRIC[axis]
    signs = [-1.0 if name in changed else 1.0 for name in quantities]
    return np.array(signs, np.float32)[:, None, None]


def _seconds(times: np.ndarray) -> np.ndarray:
    """Whole seconds; a calendar of its own has been counted already."""
    if times.dtype.kind == "M":
        times = times.astype("datetime64[s]")
    return times.astype(np.int64)


def check_size(store: FieldStore, patch: tuple[int, int]) -> None:
    """Refuse a grid that is smaller than a patch.

    Raises
    ------
    xatmo.errors.GridError
    """
    (rows, columns), (h, w) = store.fields.shape[-2:], patch
    if rows >= h and columns >= w:
        return
    msg = "The grid is smaller than a patch."
    raise GridError(
        msg,
        found=f"{rows} x {columns} points in {store.name}",
        needed=f"at least {h} x {w}, the patch of the recipe",
        hint="take a larger region or a finer grid, or a smaller patch in "
        "[sampling] and [network]",
    )


def _row_range(store: FieldStore, sampling: Sampling) -> tuple[int, int]:
    """First rows (from, to) of patches whose centre lies within the limit."""
    check_size(store, sampling.patch)
    h, w = sampling.patch
    starts = np.arange(store.latitude.size - h + 1)
    centres = np.array([store.latitude[s : s + h].mean() for s in starts])
    allowed = starts[np.abs(centres) <= sampling.latitude_limit]
    if not allowed.size:
        nearest = np.abs(centres).min()
        msg = f"No patch lies within {sampling.latitude_limit:g}° of the equator."
        raise GridError(
            msg,
            found=f"latitudes {store.latitude.min():g} to {store.latitude.max():g}",
            needed=f"centres of {h} x {w} points up to {sampling.latitude_limit:g}°",
            hint=f"latitude_limit = {np.ceil(nearest):g} in [sampling]",
        )
    return int(allowed[0]), int(allowed[-1]) + 1
