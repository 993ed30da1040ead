"""Fields at their levels as channels: normalised for the network, and back again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xatmo.boxes.fields import Held
from xatmo.boxes.times import Times
from xatmo.engine import side_by_side
from xatmo.fields import Grid, fine_coordinates, to_user_units
from xatmo.fields.units import changes_values, factor_offset
from xatmo.zoo import Constants

__all__ = ["CHANNEL", "DRAW", "TIME", "Channel", "in_user_units", "stacked"]

CHANNEL = "channel"
TIME = "_time"
"""Dimension of times of fields that have none."""
DRAW = "_draw"
"""Dimension of realizations on a finer grid, before they are numbered."""

_SPACE = ("latitude", "longitude")


@dataclass(frozen=True, eq=False)
class Channel:
    """A field at one level: what the data hold of it, and how it is normalised.

    Parameters
    ----------
    held : Held
        Field and level of the card, and the user's variable.
    source : DataArray
        That variable, or one that the field is derived from.
    constants : Constants
    predicted : bool
        Whether the network predicts the field; it reads it at any rate.
    """

    held: Held
    source: xr.DataArray
    constants: Constants
    predicted: bool

    @property
    def dtype(self) -> np.dtype:
        """Type that results come back in."""
        native = self.source.dtype.newbyteorder("=")
        floating = native if native.kind == "f" else np.dtype(np.float32)
        return np.promote_types(floating, np.float32)

    def normalised(
        self, da: xr.DataArray, grid: Grid, months: xr.DataArray
    ) -> xr.DataArray:
        """Return (x - mean) / std, float32; ``months`` lie along the time of ``da``."""
        mean, std = self._at(da, grid, months)
        return ((da - mean) / std).astype(np.float32)

    def physical(
        self,
        da: xr.DataArray,
        grid: Grid,
        months: xr.DataArray,
        *,
        spread: bool,
        factor: int = 1,
    ) -> xr.DataArray:
        """Undo that, for values or for their ``spread``, in the user's type.

        Values may lie on a grid that is ``factor`` times finer.
        """
        mean, std = self._at(da, grid, months, factor)
        da = da.astype(self.dtype, copy=False) * std
        return da if spread else da + mean

    def _at(
        self, da: xr.DataArray, grid: Grid, months: xr.DataArray, factor: int = 1
    ) -> tuple[xr.DataArray, xr.DataArray]:
        """Mean and std in the type of the data, along as few dimensions as differ."""
        every = np.arange(1, 13)
        tables = self.constants.at(every, grid.latitude, grid.longitude)
        dtype = np.result_type(self.dtype, np.float32)
        mean, std = (
            _chosen(_divided(table, grid, factor).astype(dtype), da, months)
            for table in tables
        )
        return mean, std


def stacked(
    arrays: Sequence[xr.DataArray],
    channels: Sequence[Channel],
    times: Times,
    grid: Grid,
    time: str | None,
) -> xr.DataArray:
    """Put normalised channels side by side, lazily.

    Parameters
    ----------
    arrays : sequence of DataArray
        Canonical, ``(..., latitude, longitude)``.
    channels : sequence of Channel
    times : Times
    grid : Grid
    time : str or None
        The dimension of times, if there is one.

    Returns
    -------
    DataArray of float32
        ``(time, ..., channel, latitude, longitude)``, with the coordinates that all of
        them share.
    """
    along = time if time in arrays[0].dims else None
    months = xr.DataArray(
        np.asarray(times.index.month), dims=(TIME if along is None else along,)
    )
    parts = []
    for channel, da in zip(channels, arrays, strict=True):
        da = da.expand_dims(TIME) if along is None else da
        parts.append(channel.normalised(da, grid, months))
    shared = _shared_coords(parts)
    parts = [p.reset_coords(set(p.coords) - shared, drop=True) for p in parts]
    data = side_by_side(parts, CHANNEL, _SPACE)
    first = TIME if along is None else along
    data = data.transpose(first, ..., CHANNEL, *_SPACE)
    data.attrs = {}
    return data.rename("normalised")


def in_user_units(da: xr.DataArray, channel: Channel, *, spread: bool) -> xr.DataArray:
    """Convert values, or their spread, to the units of the user's variable, lazily."""
    held = channel.held
    if held.derived:
        return da
    quantity = held.field.quantity
    in_user = to_user_units(da, channel.source, quantity)
    units = in_user.attrs.get("units")
    if spread and units and changes_values(units, held.field.units, quantity):
        # Differences have no offset: 1 K is 1 °C.
        scale, _ = factor_offset(units, held.field.units, quantity)
        return (da / scale).assign_attrs(in_user.attrs)
    return in_user


def _chosen(table: np.ndarray, da: xr.DataArray, months: xr.DataArray) -> xr.DataArray:
    """Of a table (months, latitude, longitude), any of them 1, what belongs to data."""
    dims = ("_month", *_SPACE)
    found = xr.DataArray(table, dims=dims)
    found = found.isel({d: 0 for d in dims if found.sizes[d] == 1})
    if "_month" not in found.dims:
        return found
    if found.ndim > 1 and da.chunks is not None:
        # As large as the data: each time takes its month when it is computed.
        found = found.chunk()
    found = found.isel(_month=months - 1)
    if found.chunks is not None:
        known = {d: c for d, c in da.chunksizes.items() if d in found.dims}
        found = found.chunk(known)
    return found


def _divided(table: np.ndarray, grid: Grid, factor: int) -> np.ndarray:
    """A table (months, latitude, longitude) on a finer grid: all of a cell have one."""
    if factor > 1 and table.shape[1] > 1:
        table = table.repeat(factor, 1)[:, fine_coordinates(grid, factor).rows]
    return table.repeat(factor, 2) if table.shape[2] > 1 else table


def _shared_coords(parts: Sequence[xr.DataArray]) -> set[Any]:
    """Coordinates of all channels: not the level that each of them is at."""
    first, *others = parts

    def same(name: Any) -> bool:
        coord = first[name]
        if coord.ndim:
            return True
        if coord.chunks is not None:
            return False
        return all(
            p[name].chunks is None and p[name].variable.identical(coord.variable)
            for p in others
        )

    common = set(first.coords).intersection(*(set(p.coords) for p in others))
    return {name for name in common if same(name)}
