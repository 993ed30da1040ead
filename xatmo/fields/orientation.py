"""To canonical orientation and back, by slices: lazy arrays keep their chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xatmo.fields.grid import NOISE, Grid

__all__ = ["from_canonical", "reorder", "to_canonical", "with_user_axes"]


def to_canonical(da: xr.DataArray, grid: Grid) -> xr.DataArray:
    """Bring an array on the user's grid into canonical orientation, lazily.

    Parameters
    ----------
    da : DataArray
        With the user's latitude and longitude dimensions.
    grid : Grid

    Returns
    -------
    DataArray
        Dimensions ``(..., "latitude", "longitude")``. Only slices are taken: chunks
        stay as they are, but for one cut where the longitudes are rotated.
    """
    lat, lon = grid.names
    if _is_canonical(da, grid):
        return da.transpose(..., lat, lon)
    if grid.lat_flipped:
        da = da.isel({lat: slice(None, None, -1)})
    da = reorder(da, lon, grid.lon_order)
    # Other coordinates along these dimensions (bounds, masks) would need the same care.
    extra = [n for n, c in da.coords.items() if {lat, lon} & set(c.dims)]
    clash = [n for n in ("latitude", "longitude") if n in da.coords]
    da = da.drop_vars({*extra, *clash}).rename({lat: "latitude", lon: "longitude"})
    da = da.assign_coords(latitude=grid.latitude, longitude=grid.longitude)
    return da.transpose(..., "latitude", "longitude")


def _is_canonical(da: xr.DataArray, grid: Grid) -> bool:
    """Whether nothing is left to do, as with most reanalyses."""
    if grid.names != ("latitude", "longitude") or grid.lat_flipped:
        return False
    axes = {*grid.names}
    if any(axes & set(c.dims) for n, c in da.coords.items() if n not in axes):
        return False
    values = (grid.latitude, grid.longitude)
    return all(
        n in da.coords and np.array_equal(da[n].values, x)
        for n, x in zip(grid.names, values, strict=True)
    )


def from_canonical(result: xr.DataArray, grid: Grid) -> xr.DataArray:
    """Put a result back into the user's orientation, names and longitudes.

    Parameters
    ----------
    result : DataArray
        With dimensions ``"latitude"`` (descending) and ``"longitude"`` (ascending), on
        the grid points or on the centres of cells of several.
    grid : Grid

    Returns
    -------
    DataArray
        Latitudes run as the user's; longitudes are in the user's convention, in its
        order. Values that are the user's own are so to the last bit.
    """
    coords = {}
    if "latitude" in result.dims:
        y = result["latitude"].values
        if grid.lat_flipped:
            result, y = result.isel(latitude=slice(None, None, -1)), y[::-1]
        coords["latitude"] = _snap(y, grid.user_latitude)
    if "longitude" in result.dims:
        order, coords["longitude"] = _user_order(result["longitude"].values, grid)
        result = reorder(result, "longitude", order)
    return with_user_axes(result, coords, grid)


def with_user_axes(
    result: xr.DataArray, coords: dict[str, np.ndarray], grid: Grid
) -> xr.DataArray:
    """Give latitude and longitude the user's names and attributes, and these values."""
    result = result.drop_vars(list(coords))
    names = dict(zip(("latitude", "longitude"), grid.names, strict=True))
    result = result.rename({key: names[key] for key in coords if names[key] != key})
    return result.assign_coords(
        {
            names[key]: (names[key], values, _axis_attrs(key, grid))
            for key, values in coords.items()
        }
    )


def reorder(da: xr.DataArray, dim: str, order: np.ndarray) -> xr.DataArray:
    """Take positions along a dimension, as slices where they are few runs."""
    if np.array_equal(order, np.arange(da.sizes[dim])):
        return da
    runs = _runs(order)
    if len(runs) > 3:
        return da.isel({dim: order})
    parts = [da.isel({dim: run}) for run in runs]
    if len(parts) == 1:
        return parts[0]
    whole = da.chunks is not None and len(da.chunksizes[dim]) == 1
    joined = xr.concat(
        parts,
        dim=dim,
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    )
    # One chunk around the globe has to stay one: some networks need it whole.
    return joined.chunk({dim: -1}) if whole else joined


def _runs(order: np.ndarray) -> list[slice]:
    """The slices of consecutive positions, up or down, that make up an order."""
    cuts = np.flatnonzero(np.abs(np.diff(order)) != 1) + 1
    slices = []
    for part in np.split(order, cuts):
        step = 1 if part.size == 1 or part[1] > part[0] else -1
        stop = int(part[-1]) + step
        slices.append(slice(int(part[0]), None if stop < 0 else stop, step))
    return slices


def _user_order(x: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return the order and the values in which the user would write longitudes."""
    own = np.sort(grid.lon_order)  # the user's points, without a cyclic one
    user = grid.user_longitude[own].astype(np.float64)
    if x.size == grid.longitude.size and np.allclose(x, grid.longitude, atol=NOISE):
        order = np.argsort(grid.lon_order)
        return order, grid.user_longitude[own]
    values = _snap(_wrap(x, user), grid.user_longitude)
    steps = np.diff(user)
    if (steps > 0).all() or (steps < 0).all():
        order = np.argsort(values, kind="stable")
        order = order if steps[0] > 0 else order[::-1]
    else:
        # The user's path jumps once (170..179, -180..-170): follow it.
        east = bool(np.median(steps) > 0)
        half = 0.5 * grid.spacing[1]
        start = user[0] - half if east else user[0] + half
        away = np.mod((x - start) if east else (start - x), 360.0)
        order = np.argsort(away, kind="stable")
    return order, values[order]


def _wrap(x: np.ndarray, user: np.ndarray) -> np.ndarray:
    """Bring longitudes into the interval of 360 degrees that the user's are in."""
    low, high = float(user.min()), float(user.max())
    if low >= 0 and high < 360:
        base = 0.0
    elif low >= -180 and high < 180:
        base = -180.0
    elif low > 0 and high <= 360:
        base = NOISE  # (0, 360]
    elif low > -180 and high <= 180:
        base = -180.0 + NOISE  # (-180, 180]
    else:
        base = low - NOISE
    return np.mod(x - base, 360.0) + base


def _snap(x: np.ndarray, user: np.ndarray) -> np.ndarray:
    """Take the user's own values where they agree, so that nothing is off by a bit."""
    x = np.asarray(x, dtype=np.float64)
    ordered = np.sort(user)
    right = np.clip(np.searchsorted(ordered, x), 1, max(ordered.size - 1, 1))
    left_near = np.abs(x - ordered[right - 1]) < np.abs(x - ordered[right])
    nearest = np.where(left_near, ordered[right - 1], ordered[right])
    same = np.abs(nearest - x) < NOISE
    return nearest if same.all() else np.where(same, nearest, x)


def _axis_attrs(key: str, grid: Grid) -> dict[str, Any]:
    own = grid.attrs[0 if key == "latitude" else 1]
    units = "degrees_north" if key == "latitude" else "degrees_east"
    return {**own, "standard_name": key, "units": units}
