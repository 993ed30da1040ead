"""What all metrics share: Datasets variable by variable, one grid, areas as weights.

Nothing here computes: lazy arrays stay lazy.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar, cast

import numpy as np
import xarray as xr

from xatmo.errors import (
    AlignmentError,
    FieldError,
    FieldNotFoundError,
    GridError,
    OptionError,
)
from xatmo.fields import Grid, area_weights, find_axes, read_grid, to_canonical
from xatmo.fields.attributes import text
from xatmo.fields.axes import horizontal_candidates
from xatmo.fields.grid import NOISE
from xatmo.fields.winds import EARTH_RADIUS

__all__ = [
    "KM_PER_DEGREE",
    "Dims",
    "aligned",
    "canonical",
    "each_variable",
    "edges",
    "in_names_of",
    "nearest",
    "one_chunk",
    "reduced_dims",
    "refuse_global",
    "row_areas",
    "scored",
    "weighted_mean",
]

KM_PER_DEGREE = EARTH_RADIUS / 1000 * np.pi / 180
"""Along a meridian."""

Dims = str | Iterable[Hashable] | None
_F = TypeVar("_F", bound=Callable[..., Any])


def each_variable(function: _F) -> _F:
    """Let a function of DataArrays take Datasets: the variables that all of them have.

    What is no number is left out, and what only describes the grid: bounds and such.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def over_variables(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        datasets = {k: v for k, v in given.items() if isinstance(v, xr.Dataset)}
        if not datasets:
            return function(*args, **kwargs)
        _refuse_mixture(given)
        scores = {}
        for name in _shared_names(list(datasets.values())):
            arrays = {key: ds[name] for key, ds in datasets.items()}
            scores[name] = function(**{**given, **arrays})
        return xr.Dataset(scores)

    return cast(_F, over_variables)


def _refuse_mixture(given: dict[str, Any]) -> None:
    for key, value in given.items():
        if isinstance(value, xr.DataArray):
            msg = "A Dataset and a DataArray cannot be compared variable by variable."
            raise FieldError(
                msg,
                found=f"{key} is a DataArray ({value.name!r}), the other a Dataset",
                needed="two Datasets or two DataArrays",
                hint=f"ds[{value.name!r}], or {key}.to_dataset(name=...)",
            )


def _shared_names(datasets: list[xr.Dataset]) -> list[Hashable]:
    first, *others = datasets
    helpers = {
        text(said, key)
        for variable in first.variables.values()
        for said in (variable.attrs, variable.encoding)
        for key in ("bounds", "climatology", "grid_mapping")
    }
    names = [
        name
        for name, da in first.data_vars.items()
        if da.dtype.kind in "iufb"
        and name not in helpers
        and all(name in ds.data_vars for ds in others)
    ]
    if names:
        return names
    msg = "The Datasets have no variable in common."
    raise AlignmentError(
        msg,
        found=" and ".join(", ".join(map(str, ds.data_vars)) for ds in datasets),
        needed="variables of numbers with the same names in all of them",
        hint="estimate.rename({'old name': 'new name'})",
    )


def scored(name: str, score: xr.DataArray, of: xr.DataArray, units: str) -> Any:
    """Write on a score what it is; ``units`` may hold those of the field as ``{}``."""
    own = of.attrs.get("units")
    score = score.rename(of.name)
    score.attrs = {"long_name": name}
    if "{}" not in units or isinstance(own, str):
        score.attrs["units"] = units.format(own)
    return score


def reduced_dims(da: xr.DataArray, dim: Dims) -> list[Hashable]:
    """Return the dimensions to reduce: all of them if ``dim`` is None."""
    if dim is None:
        return list(da.dims)
    dims: list[Hashable] = [dim] if isinstance(dim, str) else list(dim)
    for name in dims:
        if name not in da.dims:
            msg = f"There is no dimension {name!r}."
            raise OptionError(
                msg,
                found=f"dimensions {', '.join(map(str, da.dims)) or '(none)'}",
                needed="dimensions of the data, or None for all of them",
                hint=f"dim={[str(d) for d in da.dims]}",
            )
    return dims


def weighted_mean(da: xr.DataArray, dim: Dims, weighted: bool) -> xr.DataArray:
    """Mean over dimensions without NaN; by area where latitude is one of them."""
    dims = reduced_dims(da, dim)
    if not dims:
        return da
    areas = row_areas(da, dims if dim is not None else None) if weighted else None
    if areas is None:
        return da.mean(dims, keep_attrs=False)
    return da.weighted(areas).mean(dims, keep_attrs=False)


def row_areas(da: xr.DataArray, dims: list[Hashable] | None) -> xr.DataArray | None:
    """Area of the band around each latitude, relative to the mean.

    Parameters
    ----------
    da : DataArray
    dims : list of str, or None
        The dimensions that are averaged; None for all. Where they are named, and
        latitude is none of them, there is nothing to weight: None is returned.
    """
    ds = _with_any_name(da)
    found = horizontal_candidates(ds)[0]
    if dims is not None and not found & set(dims):
        return None
    if len(found) != 1:
        raise _no_latitude(da, found)
    (name,) = found
    if name not in da.coords:
        find_axes(ds)  # says what is missing
    values = area_weights(da[name].values)
    return xr.DataArray(values, dims=name, coords={name: da[name].variable})


def _no_latitude(da: xr.DataArray, found: set[str]) -> FieldNotFoundError:
    msg = "The areas to weight by are not known: there is no (single) latitude."
    dims = ", ".join(f"{name} ({size})" for name, size in da.sizes.items())
    return FieldNotFoundError(
        msg,
        found=f"dimensions {dims}"
        + (f"; latitude could be {', '.join(sorted(found))}" if found else ""),
        needed="one dimension of latitudes in degrees",
        hint="weighted=False for equal weights, or da.rename({'y': 'latitude'})",
    )


def canonical(da: xr.DataArray) -> tuple[xr.DataArray, Grid]:
    """Return an array as (..., latitude, longitude), north to south, and its grid."""
    ds = _with_any_name(da)
    grid = read_grid(ds, find_axes(ds))
    return to_canonical(da, grid), grid


def nearest(
    grid: Grid, latitude: np.ndarray, longitude: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (canonical) of the grid points nearest to places in degrees."""
    between = 0.5 * (grid.latitude[1:] + grid.latitude[:-1])
    rows = np.searchsorted(-between, -np.asarray(latitude))
    west = edges(grid)[2]
    between = 0.5 * (grid.longitude[1:] + grid.longitude[:-1])
    # Brought into the domain's own circle, whatever the convention.
    columns = np.searchsorted(between, np.mod(longitude - west, 360.0) + west)
    return rows, columns


def edges(grid: Grid) -> tuple[float, float, float, float]:
    """North, south, west and east (degrees) of the domain: its cells' outer edges."""
    dy, dx = (0.5 * step for step in grid.spacing)
    north, south = min(grid.latitude[0] + dy, 90.0), max(grid.latitude[-1] - dy, -90.0)
    west = grid.longitude[0] - dx
    east = west + 360.0 if grid.is_global else grid.longitude[-1] + dx
    return north, south, west, east


def _with_any_name(da: xr.DataArray) -> xr.Dataset:
    return da.to_dataset(name="__field__")


def one_chunk(da: xr.DataArray, dims: Iterable[Hashable]) -> xr.DataArray:
    """Join the chunks along dimensions that a function needs whole."""
    return da if da.chunks is None else da.chunk(dict.fromkeys(dims, -1))


def aligned(
    estimate: xr.DataArray, truth: xr.DataArray, *, free: Iterable[Hashable] = ()
) -> tuple[xr.DataArray, xr.DataArray]:
    """Bring an estimate onto the coordinates of the truth, without changing values.

    Names of latitude and longitude, their order and the longitudes' convention may
    differ; the points may not.

    Parameters
    ----------
    estimate, truth : DataArray
    free : iterable of str
        Dimensions along which they need not agree.

    Raises
    ------
    xatmo.errors.AlignmentError
        If the coordinates of a dimension differ.
    """
    estimate = in_names_of(estimate, truth)
    longitudes = horizontal_candidates(_with_any_name(truth))[1]
    for dim in truth.dims:
        if dim in estimate.dims and dim not in set(free):
            circle = dim in longitudes
            estimate = _in_order_of(estimate, truth, str(dim), circle)
    return estimate, truth


def in_names_of(estimate: xr.DataArray, truth: xr.DataArray) -> xr.DataArray:
    """Call latitude and longitude what the truth calls them."""
    if set(estimate.dims) <= set(truth.dims) or set(truth.dims) <= set(estimate.dims):
        return estimate
    pairs = zip(
        horizontal_candidates(_with_any_name(estimate)),
        horizontal_candidates(_with_any_name(truth)),
        strict=True,
    )
    names = {
        next(iter(theirs)): next(iter(ours))
        for theirs, ours in pairs
        if len(theirs) == len(ours) == 1 and theirs != ours
    }
    return estimate.rename(names) if names else estimate


def _in_order_of(
    estimate: xr.DataArray, truth: xr.DataArray, dim: str, circle: bool
) -> xr.DataArray:
    if estimate.sizes[dim] != truth.sizes[dim]:
        raise _differ(estimate, truth, dim)
    if dim not in estimate.coords or dim not in truth.coords:
        return estimate
    ours, theirs = truth.indexes[dim], estimate.indexes[dim]
    if ours.equals(theirs):
        return estimate
    if ours.dtype.kind in "iuf" and theirs.dtype.kind in "iuf":
        order = _order(ours.to_numpy(), theirs.to_numpy(), circle)
    else:
        order = theirs.get_indexer(ours) if theirs.is_unique else None
    if order is None or (order < 0).any():
        raise _differ(estimate, truth, dim)
    if not np.array_equal(order, np.arange(order.size)):
        estimate = estimate.isel({dim: order})
    return estimate.assign_coords({dim: truth[dim].variable})


def _order(ours: np.ndarray, theirs: np.ndarray, circle: bool) -> np.ndarray | None:
    """Where each of our points stands among theirs, None if they differ."""
    x, y = ours.astype(np.float64), theirs.astype(np.float64)
    if circle:
        x, y = np.mod(x + NOISE, 360.0), np.mod(y + NOISE, 360.0)
    here, there = np.argsort(x, kind="stable"), np.argsort(y, kind="stable")
    if not np.allclose(x[here], y[there], rtol=1e-6, atol=NOISE):
        return None
    order = np.empty_like(there)
    order[here] = there
    return order


def _differ(estimate: xr.DataArray, truth: xr.DataArray, dim: str) -> AlignmentError:
    msg = f"Estimate and truth differ along {dim!r}."
    index = truth.indexes.get(dim)
    if index is not None and index.dtype.kind in "iuf":
        hint = f"estimate.interp({dim}=truth[{dim!r}]), or the region both share"
    else:
        hint = 'xr.align(estimate, truth, join="inner"), for what both have'
    return AlignmentError(
        msg,
        found=f"{_span(estimate, dim)} and {_span(truth, dim)}",
        needed=f"the same {dim} in both, in any order",
        hint=hint,
    )


def _span(da: xr.DataArray, dim: str) -> str:
    count = f"{da.sizes[dim]} points"
    if dim not in da.coords or not da.sizes[dim]:
        return count
    ends = da[dim].values[[0, -1]]
    first, last = (f"{x:g}" if ends.dtype.kind in "iuf" else f"{x}"[:16] for x in ends)
    return f"{count} from {first} to {last}"


def refuse_global(grid: Grid, name: str) -> None:
    """Refuse a grid around the globe where a plane is meant."""
    if grid.is_global:
        msg = f"{name} is for regions: a global grid is no plane."
        raise GridError(
            msg,
            found=f"longitudes all around, {grid.longitude.size} of them",
            needed="a region",
            hint="xatmo.metrics.zonal_spectrum(da) or kinetic_energy_spectrum(ds), or "
            f"da.sel({grid.names[0]}=slice(...), {grid.names[1]}=slice(...))",
        )
