"""Crops of fine fields, of any alignment, drawn from prepared Zarr stores.

The coarse field is not drawn: it is the block mean of the fine one, and made in the
training step. Batch ``i`` is a function of the seed and ``i`` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xatmo.fields.land import land_share_of_cells
from xatmo.training.downscale.recipe import Crops
from xatmo.training.sampling import FieldStore, check_size, level_index, mirror_signs

__all__ = ["Batch", "CropSampler"]


@dataclass(frozen=True)
class Batch:
    """Crops in physical units (B, C, H, W), their statics (B, S, H, W) and level (B,).

    ``level`` indexes the normalisation constants.
    """

    fine: np.ndarray
    statics: np.ndarray
    level: np.ndarray


class Place(NamedTuple):
    """Where a crop is taken from: nothing is read yet."""

    store: int
    time: int
    row: int
    column: int
    upside_down: bool
    reversed: bool


class CropSampler:
    """Draw crops: times alike, places alike by area.

    Parameters
    ----------
    stores, weights
        Data sets, and factors of their share, which is that of their times.
    levels : list of str
        The order in which the normalisation constants are kept.
    sampling : Crops
    factor : int
        Crops begin at multiples of it if ``sampling.offset`` is false.
    statics : int
        Static fields that are read beside: 1 is the land share.
    seed : int
        With the number of a batch it fixes every crop in it.
    """

    def __init__(
        self,
        stores: list[FieldStore],
        weights: list[float],
        levels: list[str],
        sampling: Crops,
        *,
        factor: int,
        statics: int,
        seed: int,
    ) -> None:
        for store in stores:
            check_size(store, sampling.patch)
        self.stores, self.sampling, self.seed = stores, sampling, seed
        self.step = 1 if sampling.offset else factor
        self.level_index = [level_index(store, levels) for store in stores]
        self.times = [np.flatnonzero(store.whole) for store in stores]
        shares = np.array([len(t) for t in self.times], float) * weights
        self.shares = shares / shares.sum()
        self.rows = [self._row_chances(store) for store in stores]
        self.signs = [
            mirror_signs(stores[0].quantities, axis)
            for axis in ("latitude", "longitude")
        ]
        self.statics = [_statics(store, statics) for store in stores]

    def batch(self, number: int, size: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """Return batch ``number``, always the same for the same seed.

        Parameters
        ----------
        number, size : int
        part : tuple of int
            ``(i, n)`` reads the i-th of n equal parts of the batch.
        """
        rng = np.random.default_rng([self.seed, number])
        places = [self.draw(rng) for _ in range(size)]
        i, n = part
        own = places[i * size // n : (i + 1) * size // n]
        fine, statics = zip(*map(self.cut, own), strict=True)
        level = [self.level_index[place.store] for place in own]
        return Batch(np.stack(fine), np.stack(statics), np.array(level, np.int64))

    def draw(self, rng: np.random.Generator) -> Place:
        """Choose a store by its times, one of them, and a place by its area."""
        which = int(rng.choice(len(self.stores), p=self.shares))
        store, s = self.stores[which], self.sampling
        chances, columns = self.rows[which], store.fields.shape[-1]
        starts = columns if store.periodic else columns - s.patch[1] + 1
        return Place(
            which,
            time=int(rng.choice(self.times[which])),
            row=int(rng.choice(len(chances), p=chances)) * self.step,
            column=int(rng.integers(-(-starts // self.step))) * self.step,
            upside_down=bool(rng.integers(2)) and s.mirror_latitude,
            reversed=bool(rng.integers(2)) and s.mirror_longitude,
        )

    def cut(self, place: Place) -> tuple[np.ndarray, np.ndarray]:
        """Read a crop (C, H, W) and its static fields (S, H, W)."""
        h, w = self.sampling.patch
        store, land = self.stores[place.store], self.statics[place.store]
        fine = store.window(place.time, place.row, place.column, h, w)
        columns = np.arange(place.column, place.column + w) % land.shape[-1]
        land = land[:, place.row : place.row + h][:, :, columns]
        if place.upside_down:
            fine, land = fine[:, ::-1] * self.signs[0], land[:, ::-1]
        if place.reversed:
            fine, land = fine[:, :, ::-1] * self.signs[1], land[:, :, ::-1]
        return fine, land

    def _row_chances(self, store: FieldStore) -> np.ndarray:
        """Chances of the first rows: the cosine of the crop's middle latitude."""
        h = self.sampling.patch[0]
        starts = np.arange(0, store.latitude.size - h + 1, self.step)
        middles = [store.latitude[s : s + h].mean() for s in starts]
        area = np.cos(np.deg2rad(middles))
        chances: np.ndarray = area / area.sum()
        return chances


def _statics(store: FieldStore, count: int) -> np.ndarray:
    """Static fields of a store's grid (count, latitude, longitude), float32."""
    shape = (store.latitude.size, store.longitude.size)
    if not count:
        return np.empty((0, *shape), np.float32)
    return land_share_of_cells(store.latitude, store.longitude, store.spacing)[None]
