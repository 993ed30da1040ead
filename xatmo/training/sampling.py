"""Pairs of patches a known time apart, drawn from prepared Zarr stores.

Batch ``i`` is a function of the seed and ``i`` alone: a run that is killed and resumed
sees what it would have seen.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from xatmo.errors import TimeAxisError
from xatmo.training.recipe import Sampling

__all__ = ["Batch", "FieldStore", "PairSampler", "Triplets"]

# Weather of the same three days is one sample, not many.
_BLOCK_SECONDS = 3 * 86400


@dataclass(frozen=True)
class Batch:
    """Pairs in physical units: ``first``, ``second`` (B, C, H, W), ``label`` (B,).

    ``level`` indexes the normalisation constants, ``latitude`` is the centre's,
    ``block`` numbers the three days of weather a pair was taken from.
    """

    first: np.ndarray
    second: np.ndarray
    label: np.ndarray
    level: np.ndarray
    latitude: np.ndarray
    block: np.ndarray


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
        Slices kept in memory: a store of any size is streamed through that much.
    """

    def __init__(self, path: Path, cache_bytes: int = 2**30) -> None:
        with xr.open_zarr(path, chunks=None, consolidated=False) as ds:
            self.times = ds["time"].values.astype("datetime64[s]").astype(np.int64)
            self.latitude = ds["latitude"].values
            self.level = str(ds.attrs["level"])
            self.periodic = bool(ds.attrs["periodic"])
        self.fields = zarr.open_array(path / "fields", mode="r")
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        slice_bytes = int(np.prod(self.fields.shape[1:])) * 4
        self._capacity = max(2, cache_bytes // slice_bytes)

    def starts(self, lag_seconds: int) -> np.ndarray:
        """Pairs of indices (n, 2) that lie exactly ``lag_seconds`` apart."""
        later = np.searchsorted(self.times, self.times + lag_seconds)
        here = np.flatnonzero(later < self.times.size)
        here = here[self.times[later[here]] == self.times[here] + lag_seconds]
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
        self.level_index = [levels.index(store.level) for store in stores]
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

    def batch(self, number: int, size: int) -> Batch:
        """Return batch ``number``, always the same for the same seed."""
        rng = np.random.default_rng([self.seed, number])
        labels = rng.integers(self.sampling.n_lags, size=size)
        first, second = self._empty(size), self._empty(size)
        level, block = np.empty(size, np.int64), np.empty(size, np.int64)
        latitude = np.empty(size, np.float32)
        for i, lag in enumerate(labels):
            which = rng.choice(len(self.stores), p=self.shares[:, lag])
            store, pairs = self.stores[which], self.pairs[which][lag]
            before, after = pairs[rng.integers(len(pairs))]
            place = self._place(rng, which)
            first[i] = store.window(before, *place)
            second[i] = store.window(after, *place)
            level[i] = self.level_index[which]
            latitude[i] = store.latitude[place[0] : place[0] + place[2]].mean()
            block[i] = store.times[before] // _BLOCK_SECONDS
        if self.sampling.mirror:
            chosen = rng.random(size) < 0.5
            latitude[chosen] *= -1
            for x in (first, second):
                x[chosen] = _mirrored(x[chosen])
        return Batch(first, second, labels, level, latitude, block)

    def triplets(self, number: int, size: int) -> Triplets:
        """Return states at t, t + a and t + b with a < b, all pairs (a, b) alike."""
        rng = np.random.default_rng([self.seed, 2, number])
        fields = (self._empty(size), self._empty(size), self._empty(size))
        lags, block = np.empty((size, 2), np.int64), np.empty(size, np.int64)
        for i in range(size):
            a, b = sorted(rng.choice(self.sampling.n_lags, 2, replace=False))
            which = rng.choice(len(self.stores), p=self.shares[:, b])
            near, far = dict(self.pairs[which][a]), dict(self.pairs[which][b])
            starts = [t for t in near if t in far]
            start = starts[rng.integers(len(starts))]
            place = self._place(rng, which)
            for x, time in zip(fields, (start, near[start], far[start]), strict=True):
                x[i] = self.stores[which].window(time, *place)
            lags[i] = a + 1, b + 1
            block[i] = self.stores[which].times[start] // _BLOCK_SECONDS
        return Triplets(fields, lags, block)

    def _place(self, rng: np.random.Generator, which: int) -> tuple[int, int, int, int]:
        """Row, column, height, width of a patch."""
        store, (h, w) = self.stores[which], self.sampling.patch
        n_lon = store.fields.shape[-1]
        row = int(rng.integers(*self.rows[which]))
        column = int(rng.integers(n_lon if store.periodic else n_lon - w + 1))
        return row, column, h, w

    def _empty(self, size: int) -> np.ndarray:
        channels = self.stores[0].fields.shape[1]
        return np.empty((size, channels, *self.sampling.patch), np.float32)


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


def _row_range(store: FieldStore, sampling: Sampling) -> tuple[int, int]:
    """First rows (from, to) of patches whose centre lies within the limit."""
    h = sampling.patch[0]
    starts = np.arange(store.latitude.size - h + 1)
    centres = np.array([store.latitude[s : s + h].mean() for s in starts])
    allowed = starts[np.abs(centres) <= sampling.latitude_limit]
    return int(allowed[0]), int(allowed[-1]) + 1


def _mirrored(x: np.ndarray) -> np.ndarray:
    """North and south exchanged: divergence stays, vorticity changes its sign."""
    return x[:, :, ::-1] * np.array([1.0, -1.0], np.float32)[:, None, None]
