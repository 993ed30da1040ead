"""Which dimensions of the data are latitude, longitude, time and level.

Attributes come first (cf-xarray), then names; what neither settles is an error that
lists what was there. Only coordinates are looked at, never the data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from xatmo.errors import FieldNotFoundError, GridError
from xatmo.fields.attributes import text, with_text_only
from xatmo.fields.levels import is_vertical

__all__ = ["Axes", "find_axes", "level_dim_of"]

_HORIZONTAL_NAMES = {
    "latitude": re.compile(r"y?(nav_?)?lat(itude)?(_?\d+)?s?"),
    "longitude": re.compile(r"x?(nav_?)?lon(gitude)?(_?\d+)?s?"),
}
_TIME_NAMES = re.compile(
    r"(valid_?|forecast_?|reference_?)?time(_?steps?|_counter|_?\d+)?|t|date|datetime"
    r"|initial_time\d*(_hours)?|xtime"
)
# Months or hours of a climatology follow each other in no time: they are batches.
_CALENDAR_NAMES = re.compile(
    r"months?|seasons?|hours?(_?of_?day)?|day_?of_?year|years?|weeks?|days?"
)
_PROJECTED = {"projection_x_coordinate", "projection_y_coordinate"}
_ROTATED = {"grid_longitude", "grid_latitude"}
_REGRID = (
    "regrid to a regular latitude-longitude grid first, e.g. "
    "xesmf.Regridder(ds, xesmf.util.grid_global(1, 1), 'bilinear')(ds), "
    "or cdo remapbil,r360x181 in.nc out.nc"
)


@dataclass(frozen=True)
class Axes:
    """The user's names of the four dimensions that mean something to a model."""

    latitude: str
    longitude: str
    time: str | None = None
    level: str | None = None


@dataclass(frozen=True)
class _Roles:
    """What attributes and names say of the coordinates."""

    latitude: list[str] = field(default_factory=list)
    longitude: list[str] = field(default_factory=list)
    time: list[str] = field(default_factory=list)


def find_axes(ds: xr.Dataset) -> Axes:
    """Find latitude, longitude, time and level among the dimensions of a dataset.

    Parameters
    ----------
    ds : Dataset

    Returns
    -------
    Axes
        ``time`` and ``level`` are None where there is no such dimension.

    Raises
    ------
    xatmo.errors.FieldNotFoundError
        If latitude or longitude is missing, or claimed by several dimensions.
    xatmo.errors.GridError
        If the grid is projected, rotated, curvilinear or unstructured.
    """
    roles = _roles(ds)
    latitude = _horizontal(ds, roles, "latitude")
    longitude = _horizontal(ds, roles, "longitude")
    rest = [str(d) for d in ds.dims if d not in (latitude, longitude)]
    time = _time(ds, roles, rest)
    level = next((d for d in rest if d != time and level_dim_of(ds, (d,))), None)
    return Axes(latitude, longitude, time, level)


def horizontal_candidates(ds: xr.Dataset) -> tuple[set[str], set[str]]:
    """Return the dimensions that could be a latitude, and those for longitude.

    A staggered grid has two of each.
    """
    roles = _roles(ds)
    return {d for d in roles.latitude if d in ds.dims}, {
        d for d in roles.longitude if d in ds.dims
    }


def level_dim_of(ds: xr.Dataset, dims: tuple[str, ...]) -> str | None:
    """Return the dimension among ``dims`` that counts levels, if there is one."""
    for dim in dims:
        coords = [ds.variables[dim]] if dim in ds.variables else []
        if is_vertical(dim, coords[0].attrs if coords else {}):
            return dim
        # A dimension without a coordinate of its own may carry one of another name.
        if not coords and vertical_coordinate(ds, dim) is not None:
            return dim
    return None


def vertical_coordinate(ds: xr.Dataset, dim: str) -> str | None:
    """Return the coordinate that holds the levels along a dimension."""
    if dim in ds.coords:
        return dim
    for name, coord in ds.coords.items():
        if coord.dims == (dim,) and is_vertical(str(name), coord.attrs):
            return str(name)
    return None


def _roles(ds: xr.Dataset) -> _Roles:
    import cf_xarray  # noqa: F401 - registers .cf; slow to import

    coords = with_text_only(ds.coords.to_dataset())
    said = coords.cf.coordinates
    roles = {key: [str(n) for n in said.get(key, [])] for key in vars(_Roles())}
    for key, pattern in _HORIZONTAL_NAMES.items():
        if not roles[key]:
            roles[key] = _guess(coords, key) or [
                str(d) for d in ds.dims if pattern.fullmatch(str(d).lower())
            ]
    roles["time"] += [str(n) for n in coords.cf.axes.get("T", [])]
    return _Roles(**roles)


def _guess(coords: xr.Dataset, key: str) -> list[str]:
    named = [n for n in coords.variables if _HORIZONTAL_NAMES[key].fullmatch(_low(n))]
    if named:
        return [str(n) for n in named]
    return [str(n) for n in coords.cf.guess_coord_axis().cf.coordinates.get(key, [])]


def _low(name: object) -> str:
    return str(name).lower()


def _horizontal(ds: xr.Dataset, roles: _Roles, key: str) -> str:
    names: list[str] = getattr(roles, key)
    dims = [str(d) for d in ds.dims if d in names]
    if len(dims) > 1:
        dims = _most_used(ds, dims)
    if len(dims) > 1:
        raise _ambiguous(key, dims)
    if not dims:
        raise _no_axis(ds, key, names)
    if dims[0] not in ds.coords:
        raise _no_values(ds, dims[0], key)
    return dims[0]


def _most_used(ds: xr.Dataset, dims: list[str]) -> list[str]:
    uses = {d: sum(d in v.dims for v in ds.data_vars.values()) for d in dims}
    return [d for d in dims if uses[d] == max(uses.values())]


def _time(ds: xr.Dataset, roles: _Roles, dims: list[str]) -> str | None:
    dims = [d for d in dims if not _CALENDAR_NAMES.fullmatch(_low(d))]
    dated = [d for d in dims if d in ds.coords and _holds_dates(ds, d)]
    # The step of a forecast from one start carries its times in valid_time(step).
    dated += [
        str(coord.dims[0])
        for name, coord in ds.coords.items()
        if coord.ndim == 1
        and name not in ds.dims
        and coord.dims[0] in dims
        and _holds_dates(ds, str(name))
        and text(coord.attrs, "standard_name") == "time"
    ]
    said = [d for d in roles.time if d in dims]
    named = [d for d in dims if _TIME_NAMES.fullmatch(_low(d))]
    valid = [d for d in dated if d in said or _low(d) == "valid_time"]
    return next(iter(valid + dated + said + named), None)


def _holds_dates(ds: xr.Dataset, name: str) -> bool:
    if isinstance(ds.indexes.get(name), xr.CFTimeIndex):
        return True
    return np.issubdtype(ds[name].dtype, np.datetime64)


def _ambiguous(key: str, dims: list[str]) -> FieldNotFoundError:
    msg = f"Several dimensions claim to be the {key}."
    return FieldNotFoundError(
        msg,
        found=", ".join(dims),
        needed=f"one {key}",
        hint=f"select the variables on one of them: ds.drop_dims({dims[1]!r})",
    )


def _no_values(ds: xr.Dataset, dim: str, key: str) -> FieldNotFoundError:
    msg = f"Dimension {dim!r} has no coordinate values."
    return FieldNotFoundError(
        msg,
        found=f"{dim} ({ds.sizes[dim]} points) without values",
        needed=f"the {key} of each point, in degrees",
        hint=f"ds.assign_coords({dim}=np.linspace(...))",
    )


def _no_axis(ds: xr.Dataset, key: str, names: list[str]) -> Exception:
    standard = {text(v.attrs, "standard_name") for v in ds.variables.values()}
    dims = ", ".join(f"{name} ({size})" for name, size in ds.sizes.items())
    flat = [n for n in names or _fields_named(ds, key) if n in ds.variables]
    if flat and all(ds.variables[n].ndim == 0 for n in flat):
        return _point(flat[0], key)
    if any(ds.variables[n].ndim > 1 for n in flat):
        return _grid_error("curvilinear", f"two-dimensional {', '.join(flat)}; {dims}")
    along = [ds.variables[n].dims[0] for n in flat if ds.variables[n].ndim == 1]
    if along and _shared(ds, str(along[0])):
        return _grid_error("unstructured", f"{flat[0]} along {along[0]!r}; {dims}")
    if along:
        return _swap(flat[0], str(along[0]), dims)
    if standard & _ROTATED or {"rlat", "rlon"} <= set(ds.dims):
        return _grid_error("rotated", f"dimensions {dims}")
    if standard & _PROJECTED or {"x", "y"} <= set(map(_low, ds.dims)):
        return _grid_error("projected", f"dimensions {dims}")
    msg = f"No {key} was found."
    return FieldNotFoundError(
        msg,
        found=f"dimensions {dims or 'none'}",
        needed=f"a dimension of {key}s in degrees, known by its name or attributes",
        hint=f"ds.rename({{'old name': '{key}'}}), or "
        f"ds['old name'].attrs['standard_name'] = '{key}'",
    )


def _fields_named(ds: xr.Dataset, key: str) -> list[str]:
    pattern = _HORIZONTAL_NAMES[key]
    return [
        str(n)
        for n, v in ds.variables.items()
        if text(v.attrs, "standard_name") == key or pattern.fullmatch(_low(n))
    ]


def _shared(ds: xr.Dataset, dim: str) -> bool:
    """Whether both latitude and longitude run along one dimension."""
    names = [n for key in _HORIZONTAL_NAMES for n in _fields_named(ds, key)]
    return sum(ds.variables[n].dims == (dim,) for n in names) > 1


def _grid_error(kind: str, found: str) -> GridError:
    msg = f"The grid is {kind}: latitude and longitude are not its dimensions."
    needed = "one-dimensional latitude and longitude, in degrees"
    return GridError(msg, found=found, needed=needed, hint=_REGRID)


def _point(name: str, key: str) -> GridError:
    msg = f"There is a single {key}: {name!r} is no dimension."
    return GridError(
        msg,
        found=f"a scalar coordinate {name!r}",
        needed="a map of at least 2 x 2 points",
        hint=f"select a region, not a point: ds.sel({name}=slice(...))",
    )


def _swap(name: str, dim: str, dims: str) -> GridError:
    msg = f"Coordinate {name!r} is not a dimension, but lies along {dim!r}."
    return GridError(
        msg,
        found=f"dimensions {dims}",
        needed=f"{name!r} as a dimension",
        hint=f"ds.swap_dims({{{dim!r}: {name!r}}})",
    )
