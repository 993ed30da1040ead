"""The horizontal grid: whatever orientation the user has, networks see one.

Canonical means latitudes from north to south, longitudes from west to east without a
jump (so that they may exceed 360). A global grid starts at its smallest longitude in
[0, 360), a region after its largest gap: across the date line is nothing special.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import GridError, OptionError
from xatmo.fields.attributes import text
from xatmo.fields.axes import Axes

__all__ = [
    "Bounds",
    "Grid",
    "area_weights",
    "cell_coordinates",
    "read_grid",
]

# Shares of the median spacing. Rounded or single-precision coordinates stay below the
# first; Gaussian latitudes differ by up to 8 % at the coarsest; more is stretching.
_EQUAL = 2e-3
_NEARLY_EQUAL = 2e-2
_GAUSSIAN = 0.1
_HOLE = 3.5  # times the median step: more than a few points missing in between
NOISE = 1e-4  # degrees: coordinates in single precision, rounded to four digits
# A quarter of a circle, and the least extent (57 degrees) to be taken for radians.
_QUARTER = np.pi / 2 + NOISE
_RADIAN_SPAN = 1.0
_KEPT_ATTRS = ("standard_name", "long_name", "units", "axis")


@dataclass(frozen=True)
class Bounds:
    """The variable that holds the edges of the cells along a coordinate (CF 7.1).

    Parameters
    ----------
    name, dim : str
        The user's names of the variable, and of its dimension of two.
    is_coord : bool
        Whether it is a coordinate (``decode_coords="all"``) or a variable.
    """

    name: str
    dim: str
    is_coord: bool


@dataclass(frozen=True, eq=False)
class Grid:
    """A latitude-longitude grid in canonical orientation, and the way back.

    Parameters
    ----------
    latitude : ndarray
        Degrees, descending.
    longitude : ndarray
        Degrees, ascending without a jump; may exceed 360.
    spacing : tuple of float
        Median spacing in latitude and longitude (degrees).
    regular, gaussian : bool
        Whether the spacing is equal, or the latitudes are Gaussian.
    is_global : bool
        Whether the longitudes close on themselves.
    lat_flipped : bool
        Whether the user's latitudes ascend.
    lon_order : ndarray of int
        Position of each canonical longitude in the user's array (a cyclic point that
        is there twice is left out).
    names : tuple of str
        The user's names of latitude and longitude.
    user_latitude, user_longitude : ndarray
        The user's values in the user's order.
    attrs : tuple of dict
        The user's attributes of latitude and longitude.
    bounds : tuple of Bounds or None
        The variables that hold the edges of the user's cells, where there are such.
    """

    latitude: np.ndarray
    longitude: np.ndarray
    spacing: tuple[float, float]
    regular: bool
    gaussian: bool
    is_global: bool
    lat_flipped: bool
    lon_order: np.ndarray
    names: tuple[str, str]
    user_latitude: np.ndarray
    user_longitude: np.ndarray
    attrs: tuple[dict[str, Any], dict[str, Any]] = field(default=({}, {}))
    bounds: tuple[Bounds | None, Bounds | None] = (None, None)


def read_grid(ds: xr.Dataset | xr.DataArray, axes: Axes) -> Grid:
    """Read the grid from the coordinates.

    Raises
    ------
    xatmo.errors.GridError
        If there are fewer than two points either way, or they are not a
        latitude-longitude grid with (nearly) equal spacing.
    """
    lat, lon = ds[axes.latitude], ds[axes.longitude]
    y, x = _values(lat), _values(lon)
    _check_degrees(lat, lon)
    flipped = _ascends(y, axes.latitude)
    order, longitude, is_global = _unwrap(x, axes.longitude)
    latitude = y[::-1] if flipped else y
    dy = float(np.median(-np.diff(latitude)))
    dx = float(np.median(np.diff(longitude)))
    uneven = _unevenness(latitude)
    _check_even(latitude, uneven, _GAUSSIAN, axes.latitude, y)
    _check_even(longitude, _unevenness(longitude), _NEARLY_EQUAL, axes.longitude, x)
    return Grid(
        latitude=latitude,
        longitude=longitude,
        spacing=(_round(dy), _round(dx)),
        regular=uneven <= _EQUAL,
        gaussian=uneven > _EQUAL,
        is_global=is_global,
        lat_flipped=flipped,
        lon_order=order,
        names=(axes.latitude, axes.longitude),
        user_latitude=np.asarray(lat.values),
        user_longitude=np.asarray(lon.values),
        attrs=(_kept(lat.attrs), _kept(lon.attrs)),
        bounds=(_bounds(ds, lat), _bounds(ds, lon)),
    )


def cell_coordinates(grid: Grid, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates at the centres of a network's cells, ``stride`` grid points apart.

    A network that halves the resolution pads both ends alike (TensorFlow's SAME rule).
    So a cell lies between two points where their number is even, and on a point where
    it is odd; then the first and the last cell lie on the first and the last point.

    Parameters
    ----------
    grid : Grid
    stride : int
        A power of two: one halving after the other.

    Returns
    -------
    latitude, longitude : ndarray
        Degrees, in canonical order: ``ceil(size / stride)`` of them.

    Raises
    ------
    xatmo.errors.OptionError
        If the stride is not a power of two.
    """
    if stride < 1 or stride & (stride - 1):
        raise _not_halvings(stride)
    return _centres(grid.latitude, stride), _centres(grid.longitude, stride)


def area_weights(lat: np.ndarray) -> np.ndarray:
    """Area of the band around each latitude, relative to the mean.

    Parameters
    ----------
    lat : ndarray
        Degrees, in either direction.

    Returns
    -------
    ndarray
        Exact areas between the midpoints (a row at a pole has its cap), of mean 1.

    Examples
    --------
    >>> area_weights(np.array([90.0, 0.0, -90.0])).round(3).tolist()
    [0.439, 2.121, 0.439]
    """
    lat = np.asarray(lat, dtype=float)
    if lat.size == 1:
        return np.ones(1)
    middle = 0.5 * (lat[1:] + lat[:-1])
    first, last = 1.5 * lat[0] - 0.5 * lat[1], 1.5 * lat[-1] - 0.5 * lat[-2]
    edges = np.clip(np.concatenate([[first], middle, [last]]), -90.0, 90.0)
    area = np.abs(np.diff(np.sin(np.deg2rad(edges))))
    return area / area.mean()


def _bounds(ds: xr.Dataset | xr.DataArray, coord: xr.DataArray) -> Bounds | None:
    """Find the bounds that a coordinate names, if they are there."""
    # xarray moves the name to the encoding where it decodes bounds as coordinates.
    name = text(coord.attrs, "bounds") or text(coord.encoding, "bounds")
    there = ds.variables if isinstance(ds, xr.Dataset) else ds.coords
    if name not in there or there[name].ndim != 2:
        return None
    dim = next((str(d) for d in there[name].dims if d not in coord.dims), None)
    if dim is None or there[name].sizes[dim] != 2:
        return None
    return Bounds(name, dim, is_coord=name in ds.coords)


def _values(coord: xr.DataArray) -> np.ndarray:
    name = coord.name
    if coord.dtype.kind not in "iuf":
        msg = f"{name!r} does not hold numbers."
        raise GridError(
            msg,
            found=f"{name} of type {coord.dtype}",
            needed="degrees",
            hint=f"ds.assign_coords({name}=ds[{name!r}].astype(float))",
        )
    units = text(coord.attrs, "units")
    if units.lower().startswith("rad"):
        msg = f"{name!r} is in radians."
        raise GridError(
            msg,
            found=f"{name} in {units}",
            needed="degrees",
            hint=f"ds.assign_coords({name}=np.rad2deg(ds[{name!r}]))",
        )
    x = np.asarray(coord.values, dtype=np.float64)
    if x.size < 2:
        msg = f"There are fewer than two points along {name!r}."
        raise GridError(
            msg,
            found=f"{name} ({x.size})",
            needed="a map of at least 2 x 2 points",
            hint="select a region (slice), not a point",
        )
    if not np.isfinite(x).all():
        msg = f"{name!r} has missing values."
        raise GridError(
            msg,
            found=f"{(~np.isfinite(x)).sum()} of {x.size} values are not finite",
            needed="the place of each point, in degrees",
            hint=f"ds.dropna({name!r})",
        )
    return x


def _check_degrees(lat: xr.DataArray, lon: xr.DataArray) -> None:
    """Refuse what nobody calls degrees and makes a large map only in radians."""
    y, x = lat.values, lon.values
    said = {text(c.attrs, "units") for c in (lat, lon)} - {"", "1"}
    within = np.abs(y).max() <= _QUARTER and np.abs(x).max() <= 4 * _QUARTER
    if said or not within or min(np.ptp(y), np.ptp(x)) < _RADIAN_SPAN:
        return
    msg = f"{lat.name!r} and {lon.name!r} look like radians."
    raise GridError(
        msg,
        found=f"{lat.name} from {y.min():.4g} to {y.max():.4g}, "
        f"{lon.name} from {x.min():.4g} to {x.max():.4g}, without units",
        needed="degrees",
        hint=f"ds.assign_coords({lat.name}=np.rad2deg(ds[{lat.name!r}]), "
        f"{lon.name}=np.rad2deg(ds[{lon.name!r}])); if they are degrees, say so: "
        f'ds["{lat.name}"].attrs["units"] = "degrees_north"',
    )


def _ascends(y: np.ndarray, name: str) -> bool:
    steps = np.diff(y)
    if np.abs(y).max() > 90 + NOISE:
        msg = f"{name!r} goes beyond the poles."
        raise GridError(
            msg,
            found=f"{name} from {y.min():g} to {y.max():g}",
            needed="degrees between -90 and 90",
            hint="check the units; a projected grid has to be regridded first",
        )
    if (steps > 0).all() or (steps < 0).all():
        return bool(steps[0] > 0)
    repeated = y.size - np.unique(y).size
    what = "repeated" if repeated else "not in order"
    msg = f"Latitudes in {name!r} are {what}."
    raise GridError(
        msg,
        found=f"{y.size} values, {repeated} of them repeated",
        needed="latitudes from pole to pole, each once",
        hint=f"ds.drop_duplicates({name!r}).sortby({name!r})",
    )


def _unwrap(x: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return the user's position and the value of each longitude; if they close."""
    circle = np.mod(x, 360.0)
    circle[circle > 360.0 - NOISE] -= 360.0  # 359.99999 is 0 in single precision
    order = np.argsort(circle, kind="stable")
    order = _without_cyclic_point(order, circle, x, name)
    circle = circle[order]
    gaps = np.diff(circle, append=circle[0] + 360.0)
    step = float(np.median(gaps))
    if gaps.max() <= step * (1 + _NEARLY_EQUAL) + NOISE and order.size > 2:
        return order, np.maximum.accumulate(circle), True
    start = (int(np.argmax(gaps)) + 1) % order.size
    order, circle = np.roll(order, -start), np.roll(circle, -start)
    return order, np.where(circle < circle[0], circle + 360.0, circle), False


def _without_cyclic_point(
    order: np.ndarray, circle: np.ndarray, x: np.ndarray, name: str
) -> np.ndarray:
    """Drop the point that stands at both ends (0 and 360); refuse other repetitions."""
    keep = np.ones(order.size, dtype=bool)
    same = np.flatnonzero(np.diff(circle[order]) < NOISE)
    for i in same:
        first, second = sorted(order[[i, i + 1]])
        if 0.0 < abs(x[first] - x[second]) < NOISE:
            raise _merged(x, name)
        if abs(x[first] - x[second]) < 180.0:
            msg = f"Longitudes in {name!r} are repeated."
            raise GridError(
                msg,
                found=f"{name} = {x[first]:g} at positions {first} and {second}",
                needed="each longitude once",
                hint=f"ds.drop_duplicates({name!r})",
            )
        keep[i + (order[i] != second)] = False
    return order[keep]


def _unevenness(x: np.ndarray) -> float:
    """Largest departure from the median spacing, as a share of it."""
    steps = np.abs(np.diff(x))
    typical = np.median(steps)
    return float(max(np.abs(steps - typical).max() - NOISE, 0.0) / typical)


def _check_even(
    x: np.ndarray, uneven: float, most: float, name: str, user: np.ndarray
) -> None:
    if uneven <= most:
        return
    steps = np.abs(np.diff(x))
    if steps.min() < NOISE:
        raise _merged(user, name)
    msg = f"The grid is stretched or has gaps along {name!r}."
    raise GridError(
        msg,
        found=f"steps between {steps.min():g} and {steps.max():g} degrees",
        needed="equal steps (or Gaussian latitudes)",
        hint=_equal_steps(x, steps, name, user),
    )


def _equal_steps(x: np.ndarray, steps: np.ndarray, name: str, user: np.ndarray) -> str:
    """The call that gives equal steps; across a hole nothing is to be made up."""
    holes = np.flatnonzero(steps > _HOLE * np.median(steps))
    parts = np.split(x, holes + 1)
    part = max(parts, key=len)
    if holes.size and 2 * part.size > x.size and _unevenness(part) <= _NEARLY_EQUAL:
        inside = np.isin(np.mod(user, 360.0), np.mod(part, 360.0))
        places = np.flatnonzero(inside)
        runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
        kept = ", ".join(f"{run[0]}:{run[-1] + 1}" for run in runs)
        return f"ds.isel({name}=np.r_[{kept}])"
    low, high = float(user.min()), float(user.max())
    return f"ds.interp({name}=np.linspace({low!r}, {high!r}, {x.size}))"


def _merged(x: np.ndarray, name: str) -> GridError:
    steps = np.diff(np.sort(x))
    msg = f"Two nearly equal axes were merged along {name!r}."
    return GridError(
        msg,
        found=f"{x.size} values, some of them only {steps[steps > 0].min():.2g} "
        "degrees apart",
        needed="one axis for all variables",
        hint='xr.merge([u, v], join="override")',
    )


def _centres(x: np.ndarray, stride: int) -> np.ndarray:
    """Interpolate to where each cell lies, counted in points; ``x`` may descend."""
    first, step, size = 0.0, 1, x.size
    while step < stride:
        first += 0.0 if size % 2 else 0.5 * step
        size, step = -(-size // 2), 2 * step
    return np.interp(first + stride * np.arange(size), np.arange(x.size), x)


def _not_halvings(stride: int) -> OptionError:
    msg = f"Cells {stride} grid points apart have no known centres."
    return OptionError(
        msg,
        found=f"stride={stride}",
        needed="a power of two, as networks that halve the resolution have",
        hint="cell_coordinates(grid, 8), or the layer's stride in the model's card",
    )


def _round(step: float) -> float:
    """A spacing without the noise of single precision: 0.25, not 0.24999237."""
    return round(step, 4) if abs(round(step, 4) - step) < 2e-5 else step


def _kept(attrs: Any) -> dict[str, Any]:
    texts = {key: text(attrs, key) for key in _KEPT_ATTRS if key in attrs}
    return {key: value for key, value in texts.items() if value}
