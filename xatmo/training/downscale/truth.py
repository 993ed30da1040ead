"""The fine fields that downscaling is scored on, and the coarse ones made of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr

from xatmo.blocks import block_mean
from xatmo.errors import GridError
from xatmo.fields.names import canonical_units
from xatmo.methods.downscaling import partners
from xatmo.training.sampling import FieldStore

__all__ = ["Truth"]

_DIMS = ("time", "channel", "latitude", "longitude")


class Truth:
    """A series of fine fields, cut so that whole blocks cover it.

    Parameters
    ----------
    path : path
        A store that :func:`xatmo.training.prepare.prepare_source` has written.
    factor : int
        Rows and columns of a block.

    Attributes
    ----------
    days : ndarray
        When each field is, in days; times with missing values are left out.
    latitude, longitude : ndarray
        Of the fine points, in degrees.
    periodic : bool
        Whether the columns close on themselves.
    """

    def __init__(self, path: str | Path, factor: int) -> None:
        self.store, self.factor = FieldStore(Path(path)), factor
        store = self.store
        self._whole = np.flatnonzero(store.whole)
        self.days = store.times[self._whole] / 86400.0
        self.latitude = _cut(store.latitude, factor)
        self.longitude = _cut(store.longitude, factor)
        whole_circle = self.longitude.size == store.longitude.size
        self.periodic = store.periodic and whole_circle
        if not (self.latitude.size and self.longitude.size):
            raise self._too_small()

    def __len__(self) -> int:
        return self.days.size

    @property
    def quantities(self) -> tuple[str, ...]:
        """The channels: CF standard names."""
        return self.store.quantities

    @cached_property
    def field_bytes(self) -> int:
        """Size of one fine field, all channels."""
        return 4 * len(self.quantities) * self.latitude.size * self.longitude.size

    @cached_property
    def another_day(self) -> np.ndarray:
        """For each time the position of one some days away, at the same hour."""
        return partners(self.days)

    def blocks(self, count: int) -> Iterator[np.ndarray]:
        """Positions of all times, so many at once."""
        for start in range(0, len(self), count):
            yield np.arange(start, min(start + count, len(self)))

    def fine(self, times: np.ndarray) -> np.ndarray:
        """Fields (T, C, H, W) at some positions, which need not be in order."""
        rows, columns = self.latitude.size, self.longitude.size
        read = [self.store.fields[i] for i in self._whole[times]]
        return np.stack([np.asarray(f)[:, :rows, :columns] for f in read])

    def coarse(self, fine: np.ndarray) -> np.ndarray:
        """Block means of fields."""
        return block_mean(fine, self.factor).astype(np.float32)

    def coarse_dataset(self, coarse: np.ndarray, times: np.ndarray) -> xr.Dataset:
        """Coarse fields as somebody would have them: named, with units and places."""
        seconds = self.store.times[self._whole[times]]
        fields = {
            name: (
                (_DIMS[0], *_DIMS[2:]),
                coarse[:, i],
                {"standard_name": name, "units": canonical_units(name)},
            )
            for i, name in enumerate(self.quantities)
        }
        places = {
            "latitude": _means(self.latitude, self.factor),
            "longitude": _means(self.longitude, self.factor),
        }
        when = seconds.astype("datetime64[s]").astype("datetime64[ns]")
        return xr.Dataset(fields, {"time": when, **places})

    def labelled(self, fields: np.ndarray, times: np.ndarray) -> xr.DataArray:
        """Fine fields (T, C, H, W), or realizations of them, with their places."""
        dims = ("realization",) * (fields.ndim - 4) + _DIMS
        coords = {"time": times, "channel": list(self.quantities), **self.places}
        return xr.DataArray(fields, dims=dims, coords=coords)

    @cached_property
    def places(self) -> dict[str, xr.Variable]:
        """Latitude and longitude of the fine points, as CF describes them."""
        units = {"latitude": "degrees_north", "longitude": "degrees_east"}
        return {
            name: xr.Variable(
                name, getattr(self, name), {"standard_name": name, "units": unit}
            )
            for name, unit in units.items()
        }

    def _too_small(self) -> GridError:
        store, factor = self.store, self.factor
        msg = f"{store.name} is smaller than a block."
        return GridError(
            msg,
            found=f"{store.latitude.size} x {store.longitude.size} points",
            needed=f"at least {factor} x {factor}",
            hint="select a larger region",
        )


def _cut(x: np.ndarray, factor: int) -> np.ndarray:
    return x[: x.size // factor * factor]


def _means(x: np.ndarray, factor: int) -> np.ndarray:
    return x.reshape(-1, factor).mean(axis=1)
