"""Results in the user's names, units, levels, order, orientation and chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from xatmo.boxes.channels import CHANNEL, DRAW, TIME, Channel, in_user_units
from xatmo.engine import picked, rechunked, side_by_side
from xatmo.fields import Grid, fine_chunks, from_canonical, kept_attrs
from xatmo.fields import to_user as to_fine

__all__ = ["to_user"]

_FIRST = ("member", DRAW)


def to_user(
    result: xr.DataArray,
    months: xr.DataArray,
    channels: Sequence[Channel],
    dataset: xr.Dataset,
    grid: Grid,
    time: str,
    *,
    spread: bool = False,
    factor: int = 1,
) -> dict[str, xr.DataArray]:
    """Put a result into the user's form, lazily.

    Parameters
    ----------
    result : DataArray
        Normalised, along ``channel``, ``latitude``, ``longitude`` and others.
    months : DataArray of int
        Calendar months, along some of the other dimensions.
    channels : sequence of Channel
        What lies along ``channel``.
    dataset : Dataset
        The user's.
    grid : Grid
    time : str
        The dimension of times.
    spread : bool
        Whether it is a standard deviation, not a value.
    factor : int
        How many times finer its grid is than the user's: as
        :func:`xatmo.fields.fine_coordinates` has it.

    Returns
    -------
    dict of DataArray
        By the user's name, or that of the quantity if it was derived; what the network
        only reads is left out. A dimension ``member`` or ``"_draw"`` comes first, other
        new ones after time.
    """
    groups: dict[str, list[tuple[Channel, xr.DataArray]]] = {}
    for number, channel in enumerate(channels):
        if channel.predicted:
            part = picked(result, **{CHANNEL: number})
            finer = factor > 1
            part = channel.physical(part, grid, months, spread=spread, factor=factor)
            part = to_fine(part, grid, factor) if finer else from_canonical(part, grid)
            part = in_user_units(part, channel, spread=spread)
            groups.setdefault(channel.held.variable, []).append((channel, part))
    order = [*map(str, dataset.data_vars), *groups]
    names = sorted(groups, key=order.index)
    about = (grid, time, factor)
    return {name: _joined(name, groups[name], *about) for name in names}


def _joined(
    name: str,
    parts: list[tuple[Channel, xr.DataArray]],
    grid: Grid,
    time: str,
    factor: int,
) -> xr.DataArray:
    """One variable of its levels, in the user's order of dimensions and chunks."""
    parts.sort(key=lambda pair: pair[0].held.position)
    first, da = parts[0]
    held, own = first.held, first.source
    dim = held.level_dim
    if dim is not None:
        about = dict(own[dim].attrs) if dim in own.coords else {}
        at = (dim, [channel.held.at for channel, _ in parts], about)
        da = side_by_side([part for _, part in parts], dim).assign_coords({dim: at})
    scalars = {n: c for n, c in own.coords.items() if c.ndim == 0}
    there = {*da.coords, *da.dims}
    da = da.assign_coords({n: c for n, c in scalars.items() if n not in there})
    da = da.transpose(*_order(da, own, time))
    da.attrs = kept_attrs(own, held.field.quantity)
    if held.derived:
        da.attrs = {
            "standard_name": held.field.quantity,
            "units": held.field.units,
        }
    else:
        da.attrs["units"] = parts[0][1].attrs["units"]
    return _in_chunks(da.rename(name), own, grid, dim, factor)


def _order(da: xr.DataArray, own: xr.DataArray, time: str) -> list[str]:
    mine = [str(d) for d in own.dims if d in da.dims]
    rest = [str(d) for d in da.dims if d not in own.dims]
    first = [d for d in rest if d in _FIRST]
    new = [d for d in rest if d not in (*first, TIME)]
    at = mine.index(time) + 1 if time in mine else 0
    timeless = [TIME] if TIME in rest else []
    return [*first, *timeless, *mine[:at], *new, *mine[at:]]


def _in_chunks(
    da: xr.DataArray, own: xr.DataArray, grid: Grid, level: str | None, factor: int
) -> xr.DataArray:
    """Cut latitudes, longitudes and levels as the user does, if there are as many."""
    if da.chunks is None or own.chunks is None:
        return da
    cut: Mapping[Any, tuple[int, ...]] = own.chunksizes
    dims = {*grid.names, level} & {*cut}
    same = {d: cut[d] for d in dims if sum(cut[d]) == da.sizes.get(d)}
    if factor > 1:
        fine = {*grid.names} & {*cut}
        same |= {d: fine_chunks(cut[d], factor, da.sizes[d]) for d in fine}
    new = tuple(same.get(d, c) for d, c in da.chunksizes.items())
    return da.copy(data=rechunked(da.data, new))
