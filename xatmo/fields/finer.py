"""A grid several times finer, and results on it back in the user's form.

One rule holds along both axes, in canonical order and in the user's: the fine points
from ``factor * i`` to ``factor * (i + 1) - 1`` lie in the cell of the coarse point
``i``. Rows beyond a pole are counted, but left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr

from xatmo.errors import OptionError
from xatmo.fields.attributes import text, units_of
from xatmo.fields.canonical import Fields, with_batch_coords
from xatmo.fields.grid import Grid
from xatmo.fields.names import assumed_units, canonical_units
from xatmo.fields.orientation import reorder, with_user_axes
from xatmo.fields.units import changes_values, factor_offset

__all__ = [
    "Fine",
    "fine_bounds",
    "fine_chunks",
    "fine_coordinates",
    "fine_dataset",
    "restore_fine",
    "to_user",
    "to_user_units",
]

# Shares of the spacing. Coordinates rounded to few digits stay below the first; what
# is below the second is lost on nobody who reads a coordinate in single precision.
_ROUNDED = 1e-2
_EXACT = 1e-3
_DIGITS = 9  # a tenth of a millimetre


@dataclass(frozen=True, eq=False)
class Fine:
    """A grid whose cells divide those of a coarser one, in canonical orientation.

    Parameters
    ----------
    latitude : ndarray, shape (kept rows,)
        Centres in degrees, descending. Of the cells of a row at a pole only the parts
        on this side of it are kept.
    longitude : ndarray, shape (factor * columns,)
        Centres in degrees, ascending without a jump.
    rows : slice
        The rows that are kept, of all ``factor * rows`` into which cells divide.
    row_weight : ndarray, shape (factor * rows,)
        1 for the rows that are kept, 0 for the others. A coarse value is the mean of
        the rows that remain of its block.
    latitude_edges, longitude_edges : ndarray
        Between the cells, one more than there are centres; they end at the poles.
    spacing : tuple of float
        In latitude and longitude (degrees).
    """

    latitude: np.ndarray
    longitude: np.ndarray
    rows: slice
    row_weight: np.ndarray
    latitude_edges: np.ndarray
    longitude_edges: np.ndarray
    spacing: tuple[float, float]


def fine_coordinates(grid: Grid, factor: int) -> Fine:
    """Divide each cell of a grid into ``factor`` x ``factor``.

    A cell reaches half-way to the neighbouring points. Where the spacing is equal but
    for the noise of single precision or of rounding, the fine points are free of it.

    Parameters
    ----------
    grid : Grid
    factor : int

    Returns
    -------
    Fine

    Raises
    ------
    xatmo.errors.OptionError
        If the factor is not a whole number of at least 1.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo.fields import find_axes, read_grid
    >>> ds = xatmo.open_sample()
    >>> fine = fine_coordinates(read_grid(ds, find_axes(ds)), 4)
    >>> ds.lon.values[:2].round(3).tolist(), fine.longitude[:8].round(3).tolist()
    ([0.0, 1.875], [-0.703, -0.234, 0.234, 0.703, 1.172, 1.641, 2.109, 2.578])
    """
    whole = isinstance(factor, int | np.integer) and not isinstance(factor, bool)
    if not whole or factor < 1:
        raise _no_factor(factor)
    circle = 360.0 / grid.longitude.size if grid.is_global else None
    x = _even(grid.longitude, grid.user_longitude, circle)
    # Gaussian latitudes would pass for rounded ones where they are nearly equal.
    y = grid.latitude if grid.gaussian else _even(grid.latitude, grid.user_latitude)
    y_edges, x_edges = _divide(_edges(y), factor), _divide(_edges(x), factor)
    latitude = _middle(y_edges)
    kept = np.abs(latitude) <= 90.0
    first, last = np.flatnonzero(kept)[[0, -1]].tolist()
    return Fine(
        latitude=latitude[kept],
        longitude=_middle(x_edges),
        rows=slice(first, last + 1),
        row_weight=kept.astype(np.float64),
        latitude_edges=np.clip(y_edges[first : last + 2], -90.0, 90.0),
        longitude_edges=x_edges,
        spacing=(grid.spacing[0] / factor, grid.spacing[1] / factor),
    )


def restore_fine(result: xr.DataArray, fields: Fields, factor: int) -> xr.DataArray:
    """Put a result on the fine grid into the user's names and orientation, lazily.

    Parameters
    ----------
    result : DataArray
        Dimensions of the data (or some of them), ``"latitude"`` and ``"longitude"`` as
        :func:`fine_coordinates` gives them, and new ones such as ``"realization"``.
    fields : Fields
        What the result was computed from.
    factor : int

    Returns
    -------
    DataArray
        As :func:`to_user` gives it: new dimensions, then the user's in the user's
        order; coordinates along batch dimensions come back.
    """
    result = with_batch_coords(to_user(result, fields.grid, factor), fields)
    own = [d for d in fields.dims if d in result.dims]
    new = [d for d in result.dims if d not in own]
    return result.transpose(*new, *own)


def to_user(result: xr.DataArray, grid: Grid, factor: int) -> xr.DataArray:
    """Put a result on the fine grid into the user's orientation and names, lazily.

    Parameters
    ----------
    result : DataArray
        With dimensions ``"latitude"`` and ``"longitude"`` as :func:`fine_coordinates`
        gives them.
    grid : Grid
        Of the user's data.
    factor : int

    Returns
    -------
    DataArray
        The ``factor`` points in the cell of each of the user's longitudes follow each
        other in the user's order, so that ``fine.coarsen(longitude=factor).mean()``
        lies on the user's points. To that end longitudes begin half a cell before the
        user's first: a global grid from 0 at a spacing of 1 begins at -0.375 for a
        factor of 4. Latitudes do the same; where the user has rows at the poles, half
        of their cells is there, so that ``fine.isel(latitude=slice(2, -2))`` comes
        before ``coarsen`` for a factor of 4.
    """
    y, x = _user_axes(grid, factor)
    result = reorder(result, "latitude", y.positions)
    result = reorder(result, "longitude", x.positions)
    coords = {"latitude": y.values, "longitude": x.values}
    return with_user_axes(result, coords, grid)


class _OnGrid(Protocol):
    """What was read from a user's data: Fields, or Boxes."""

    @property
    def grid(self) -> Grid: ...  # pragma: no cover


def fine_chunks(sizes: Sequence[int], factor: int, count: int) -> tuple[int, ...]:
    """Return chunks along an axis of ``count`` fine points, as many times longer.

    Rows beyond a pole are missing from the last chunk, though they are the first ones
    at times: Zarr stores want all chunks but the last of the same size. So is a column
    that is there twice.

    Examples
    --------
    >>> fine_chunks((50, 50, 50, 31), 4, 720)
    (200, 200, 200, 120)
    """
    ends = np.minimum(factor * np.cumsum(sizes), count)
    return tuple(n for n in np.diff(ends, prepend=0).tolist() if n)


def fine_bounds(fields: _OnGrid, factor: int) -> dict[str, xr.DataArray]:
    """Edges of the fine cells, under the names of the user's bounds.

    Parameters
    ----------
    fields : Fields or Boxes
    factor : int

    Returns
    -------
    dict of DataArray
        Name of the bounds -> ``(latitude or longitude, 2)`` in the user's names and
        order. They fill the coarse cells, and end at the poles. Empty if the user's
        data have no bounds.
    """
    grid = fields.grid
    axes = zip(grid.names, grid.bounds, _user_axes(grid, factor), strict=True)
    return {
        bounds.name: xr.DataArray(axis.bounds, dims=(name, bounds.dim))
        for name, bounds, axis in axes
        if bounds is not None
    }


def fine_dataset(
    variables: Mapping[str, xr.DataArray],
    fields: _OnGrid,
    factor: int,
    source: xr.Dataset | None = None,
) -> xr.Dataset:
    """Put restored results together, with bounds where the user's data have them.

    Parameters
    ----------
    variables : mapping of DataArray
        Name -> result, as :func:`restore_fine` gives them.
    fields : Fields or Boxes
    factor : int
    source : Dataset, optional
        The user's data: the bounds of other coordinates (time) come from there.

    Returns
    -------
    Dataset
        Bounds are coordinates or variables as the user's are. No coordinate names
        bounds that are not there.
    """
    ds = xr.Dataset(dict(variables))
    fine = fine_bounds(fields, factor)
    for name, bounds in zip(fields.grid.names, fields.grid.bounds, strict=True):
        if bounds is not None:
            coord = ds[name].assign_attrs(bounds=bounds.name)
            ds = ds.assign_coords({name: coord})
            ds[bounds.name] = fine[bounds.name]
            ds = ds.set_coords(bounds.name) if bounds.is_coord else ds
    return _with_other_bounds(ds, source)


def to_user_units(
    da: xr.DataArray, source: xr.DataArray, quantity: str
) -> xr.DataArray:
    """Convert a result from canonical units to those of the user's variable, lazily.

    Parameters
    ----------
    da : DataArray
        In canonical units.
    source : DataArray
        The user's variable; where it has no units, those that were assumed.
    quantity : str
        CF standard name.

    Returns
    -------
    DataArray
        Of the same dtype, with ``units`` in the user's spelling.
    """
    canonical = canonical_units(quantity)
    if canonical is None:
        return da
    units = units_of(source.attrs)
    if units is None:
        units = assumed_units(str(source.name), source.attrs, quantity) or canonical
    result = da
    if changes_values(units, canonical, quantity):
        scale, offset = factor_offset(units, canonical, quantity)
        result = result - offset if offset else result
        result = result / scale
    return result.assign_attrs({**da.attrs, "units": units})


@dataclass(frozen=True, eq=False)
class _UserAxis:
    """Fine points in the user's order: which, their values, and their cells' edges."""

    positions: np.ndarray
    values: np.ndarray
    bounds: np.ndarray


def _user_axes(grid: Grid, factor: int) -> tuple[_UserAxis, _UserAxis]:
    fine = fine_coordinates(grid, factor)
    return _user_latitude(grid, fine), _user_longitude(grid, fine, factor)


def _user_latitude(grid: Grid, fine: Fine) -> _UserAxis:
    positions, edges = np.arange(fine.latitude.size), fine.latitude_edges
    if grid.lat_flipped:
        positions, edges = positions[::-1], edges[::-1]
    bounds = np.stack([edges[:-1], edges[1:]], -1)
    dtype, step = grid.user_latitude.dtype, fine.spacing[0]
    return _UserAxis(
        positions,
        _as_user(fine.latitude[positions], dtype, step),
        _as_user(bounds, dtype, step),
    )


def _user_longitude(grid: Grid, fine: Fine, factor: int) -> _UserAxis:
    order = np.argsort(grid.lon_order)  # canonical positions, in the user's order
    user = grid.user_longitude[np.sort(grid.lon_order)].astype(np.float64)
    steps = np.mod(np.diff(user) + 180.0, 360.0) - 180.0
    east = bool(np.median(steps) > 0)
    within = np.arange(factor) if east else np.arange(factor)[::-1]
    positions = (order[:, None] * factor + within).ravel()
    # A block stays in one piece, in the turn around the globe that its point is in.
    turns = np.round((user - grid.longitude[order]) / 360.0)
    shift = 360.0 * np.repeat(turns, factor)
    edges = fine.longitude_edges
    sides = (positions, positions + 1) if east else (positions + 1, positions)
    bounds = np.stack([edges[side] + shift for side in sides], -1)
    dtype, step = grid.user_longitude.dtype, fine.spacing[1]
    return _UserAxis(
        positions,
        _as_user(fine.longitude[positions] + shift, dtype, step),
        _as_user(bounds, dtype, step),
    )


def _as_user(x: np.ndarray, dtype: np.dtype, spacing: float) -> np.ndarray:
    """In the dtype of the user's coordinate, where that tells fine points apart."""
    x = np.round(x, _DIGITS)
    if dtype.kind != "f":
        return x
    cast = x.astype(dtype.newbyteorder("="))
    return cast if np.abs(cast - x).max() <= _EXACT * spacing else x


def _even(x: np.ndarray, user: np.ndarray, step: float | None = None) -> np.ndarray:
    """Evenly spaced values without noise: the roundest that the user's may have been.

    ``step`` is given where it is known. Values that are not evenly spaced stay.
    """
    count = np.arange(x.size) - 0.5 * (x.size - 1)
    slope = float(count @ x / (count @ count)) if step is None else step
    noise = np.abs(x - x.mean() - slope * count).max()
    if noise > _ROUNDED * abs(slope):
        return x
    if user.dtype.kind == "f":
        noise += np.spacing(np.abs(user).max())  # 2 points show no noise
    for digits in range(1, _DIGITS):
        tried = round(slope, digits) if step is None else step
        first = round(float(x.mean() + tried * count[0]), digits)
        line = first + tried * np.arange(x.size)
        if np.abs(line - x).max() <= 2 * noise + 10.0**-_DIGITS:
            return line
    return x.mean() + slope * count


def _edges(x: np.ndarray) -> np.ndarray:
    """Half-way between points, and as far beyond the first and the last."""
    middle = 0.5 * (x[1:] + x[:-1])
    first, last = 2 * x[0] - middle[0], 2 * x[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])


def _middle(edges: np.ndarray) -> np.ndarray:
    return np.round(0.5 * (edges[1:] + edges[:-1]), _DIGITS)


def _divide(edges: np.ndarray, factor: int) -> np.ndarray:
    """Divide each cell into equal parts."""
    parts = np.arange(factor) / factor
    inner = edges[:-1, None] + np.diff(edges)[:, None] * parts
    return np.append(inner.ravel(), edges[-1])


def _with_other_bounds(ds: xr.Dataset, source: xr.Dataset | None) -> xr.Dataset:
    """Bring the bounds of unchanged coordinates; forget those that are lost."""
    there = {} if source is None else source.variables
    for name, coord in ds.coords.items():
        for key in ("bounds", "climatology"):
            bounds = text(coord.attrs, key)
            if not bounds or bounds in ds.variables:
                continue
            if _fits(ds, coord, there.get(bounds)):
                ds = ds.assign({bounds: there[bounds]})
                continue
            kept = coord.copy(deep=False)
            kept.attrs = {k: v for k, v in coord.attrs.items() if k != key}
            ds = ds.assign_coords({name: kept})
    return ds


def _fits(ds: xr.Dataset, coord: xr.DataArray, bounds: xr.Variable | None) -> bool:
    if bounds is None or bounds.dims[: coord.ndim] != coord.dims:
        return False
    return all(ds.sizes.get(d, n) == n for d, n in bounds.sizes.items())


def _no_factor(factor: Any) -> OptionError:
    msg = f"A grid cannot be {factor!r} times finer."
    return OptionError(
        msg,
        found=f"factor={factor!r}",
        needed="a whole number of at least 1",
        hint="fine_coordinates(grid, 4)",
    )
