"""From the user's data to what networks read, and back.

``read`` gives arrays in canonical quantity, units and orientation, still lazy;
``restore`` puts a result back into the user's names, order and orientation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import AlignmentError, FieldError
from xatmo.fields.attributes import units_of
from xatmo.fields.axes import Axes, find_axes
from xatmo.fields.choose import Choice, choose
from xatmo.fields.grid import Grid, read_grid
from xatmo.fields.inputs import as_dataset, unpack
from xatmo.fields.levels import LEVEL_DIMS, Level, coordinate_values
from xatmo.fields.names import (
    Found,
    assumed_units,
    canonical_name,
    canonical_units,
    find_quantities,
    is_surface,
)
from xatmo.fields.orientation import from_canonical, to_canonical
from xatmo.fields.units import changes_values, convert
from xatmo.fields.winds import vorticity_divergence

__all__ = ["Fields", "read", "restore"]


@dataclass(frozen=True)
class Fields:
    """What a model reads, and what is needed to write its result back.

    Parameters
    ----------
    data : dict
        Quantity (CF standard name) -> DataArray ``(..., "latitude", "longitude")`` in
        canonical orientation and units. Floats keep their dtype, integers and
        half precision become float32; lazy stays lazy.
    grid : Grid
    axes : Axes
        The user's names.
    levels : tuple of Level
        The levels that the data hold, in order.
    level_dim : str or None
        Name of their dimension, if there is one.
    dims : tuple of str
        The user's names and order of dimensions.
    sources : dict
        Quantity -> the user's variables it was taken or derived from.
    notes : tuple of str
        What was done to the data, in sentences.
    """

    data: dict[str, xr.DataArray]
    grid: Grid
    axes: Axes
    levels: tuple[Level, ...]
    level_dim: str | None
    dims: tuple[str, ...]
    sources: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]

    def at_level(self, quantity: str, index: int) -> xr.DataArray:
        """Return a quantity at one of the levels, (..., latitude, longitude)."""
        field = self.data[quantity]
        if self.level_dim is None:
            return field
        return field.isel({self.level_dim: index}, drop=True)


def read(
    obj: xr.Dataset | xr.DataArray | xr.DataTree,
    quantities: Sequence[str],
    *,
    levels: Sequence[Level] | None = None,
    level: Any = None,
) -> Fields:
    """Read quantities from the user's data; nothing is computed.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree node
    quantities : sequence of str
        CF standard names. Vorticity and divergence are derived from winds if absent.
    levels : sequence of Level, optional
        What the model knows, best first; anything goes if not given.
    level : str, number or list, optional
        The user's choice, as :meth:`Level.parse` reads it. A single one gives no
        dimension of levels, a list does. Data that name no level are taken at their
        word: the user's.

    Returns
    -------
    Fields

    Raises
    ------
    xatmo.errors.FieldNotFoundError
        If a quantity or axis is missing, or claimed by several variables.
    xatmo.errors.LevelError, xatmo.errors.GridError, xatmo.errors.UnitsError
        If levels, grid or units are not what can be read.
    xatmo.errors.AlignmentError
        If the variables do not share their dimensions.
    xatmo.errors.FieldError
        If a dimension has a name that is needed for something else.

    Warns
    -----
    xatmo.errors.UnitsWarning
        If a variable has no units.
    """
    quantities = list(dict.fromkeys(canonical_name(q) for q in quantities))
    ds = as_dataset(obj)
    axes = find_axes(ds)
    grid = read_grid(ds, axes)
    choice = choose(ds, find_quantities(ds), quantities, levels, level)
    reader = _Reader(ds, axes, grid, choice)
    reader.check_names()
    data = {q: reader.quantity(q) for q in quantities}
    _check_aligned(data, reader.sources)
    dims = reader.user_dims()
    batch = [d for d in dims if d not in grid.names]
    order = (*batch, "latitude", "longitude")
    data = {q: da.transpose(*order, missing_dims="ignore") for q, da in data.items()}
    return Fields(
        data=data,
        grid=grid,
        axes=replace(axes, level=reader.level_dim),
        levels=choice.asked,
        level_dim=reader.level_dim,
        dims=dims,
        sources=reader.sources,
        notes=tuple(dict.fromkeys([*_grid_notes(grid), *choice.notes, *reader.notes])),
    )


def restore(result: xr.DataArray, fields: Fields) -> xr.DataArray:
    """Put a result back into the user's names, order and orientation, lazily.

    Parameters
    ----------
    result : DataArray
        Dimensions of the data (or some of them), ``"latitude"`` and ``"longitude"`` in
        canonical orientation, and new ones such as ``"feature"``.
    fields : Fields
        What the result was computed from.

    Returns
    -------
    DataArray
        The user's dimensions in the user's order, new ones after them; coordinates
        along batch dimensions (``valid_time``, ``number``) come back.
    """
    result = with_batch_coords(from_canonical(result, fields.grid), fields)
    own = [d for d in fields.dims if d in result.dims]
    new = [d for d in result.dims if d not in own]
    return result.transpose(*own, *new)


class _Reader:
    """Makes canonical arrays of chosen variables, each only once."""

    def __init__(self, ds: xr.Dataset, axes: Axes, grid: Grid, choice: Choice) -> None:
        self.ds, self.axes, self.grid, self.choice = ds, axes, grid, choice
        self.sources: dict[str, tuple[str, ...]] = {}
        self.notes: list[str] = []
        self.level_dim = self._name_level_dim() if choice.as_dim else None
        self._winds: dict[tuple[str, ...], tuple[xr.DataArray, xr.DataArray]] = {}

    def check_names(self) -> None:
        """Refuse names that results need for other things than the user does."""
        dims = {"feature", "latitude", "longitude"} - set(self.grid.names)
        for name in dict.fromkeys(f.name for f in self._chosen()):
            da = self.ds[name]
            # Coordinates called latitude or longitude (of a station) do no harm.
            taken = dims & set(da.dims) | {"feature"} & set(da.coords)
            if taken:
                raise _name_taken(min(taken), da)

    def quantity(self, quantity: str) -> xr.DataArray:
        """Return a quantity at all levels, (..., latitude, longitude)."""
        direct = self.choice.direct[quantity]
        pairs = self.choice.derived[quantity]
        names = [f.name for f in direct.values()]
        names += [f.name for pair in pairs.values() for f in pair]
        self.sources[quantity] = tuple(dict.fromkeys(names))
        parts = []
        if direct:
            parts.append(self._variable(quantity, direct))
        if pairs:
            parts.append(self._derive(quantity, pairs))
        da = self._join(parts) if len(parts) > 1 else parts[0]
        if len(parts) > 1:  # levels in their order again
            da = da.sel({self.level_dim: self._values(self.choice.levels)})
        da.attrs = {"standard_name": quantity}
        if (units := canonical_units(quantity)) is not None:
            da.attrs["units"] = units
        return da.rename(quantity)

    def user_dims(self) -> tuple[str, ...]:
        """Return the user's dimensions in the user's order."""
        names = [n for names in self.sources.values() for n in names]
        largest = max(names, key=lambda n: self.ds[n].ndim)
        gone = {"expver"} | set(self._level_dims())
        dims = [
            str(d)
            for d in self.ds[largest].dims
            if d not in gone or d == self.level_dim
        ]
        if self.level_dim is not None and self.level_dim not in dims:
            time = self.axes.time
            dims.insert(dims.index(time) + 1 if time in dims else 0, self.level_dim)
        return tuple(dims)

    def _derive(
        self, quantity: str, pairs: dict[Level, tuple[Found, Found]]
    ) -> xr.DataArray:
        u, v = ({lv: pair[i] for lv, pair in pairs.items()} for i in (0, 1))
        names = tuple(f.name for f in (*u.values(), *v.values()))
        key = (*names, *map(str, pairs))
        if key not in self._winds:
            eastward = self._variable("eastward_wind", u)
            northward = self._variable("northward_wind", v)
            used = {"eastward_wind": names[: len(u)], "northward_wind": names[len(u) :]}
            _check_aligned(
                {"eastward_wind": eastward, "northward_wind": northward}, used
            )
            self._winds[key] = vorticity_divergence(
                eastward, northward, periodic=self.grid.is_global
            )
        self.notes.append(
            "vorticity and divergence derived from "
            f"{', '.join(dict.fromkeys(names))} by finite volumes on the sphere"
        )
        return self._winds[key][quantity == "divergence_of_wind"].copy(deep=False)

    def _variable(self, quantity: str, table: dict[Level, Found]) -> xr.DataArray:
        """Join the variables that hold a quantity, one per level or one for all."""
        groups: dict[str, dict[Level, Found]] = {}
        for level, found in table.items():
            groups.setdefault(found.name, {})[level] = found
        parts = [self._canonical(quantity, group) for group in groups.values()]
        if len(parts) == 1:
            return parts[0]
        return self._join(parts)

    def _canonical(self, quantity: str, table: dict[Level, Found]) -> xr.DataArray:
        found = next(iter(table.values()))
        da = unpack(self.ds[found.name])
        self._check_dims(da)
        da = self._at_levels(da, found, list(table))
        if "expver" in da.dims:
            self.notes.append("expver merged: the first value that is not missing")
            da = _merge_expver(da)
        da = self._in_units(_as_float(da), quantity)
        return to_canonical(da, self.grid)

    def _at_levels(
        self, da: xr.DataArray, found: Found, levels: list[Level]
    ) -> xr.DataArray:
        if found.level_dim is not None:
            index = [found.levels.index(level) for level in levels]
            if self.level_dim is None:
                return da.isel({found.level_dim: index[0]})
            if index == list(range(len(found.levels))):
                return da
            return da.isel({found.level_dim: index})
        if self.level_dim is None or levels[0].kind == "surface":
            return da
        dim, values = self.level_dim, self._values(levels)
        return da.drop_vars(dim, errors="ignore").expand_dims({dim: values})

    def _in_units(self, da: xr.DataArray, quantity: str) -> xr.DataArray:
        to = canonical_units(quantity)
        if to is None:
            return da
        units = units_of(da.attrs)
        if units is not None and changes_values(units, to, quantity):
            self.notes.append(f"{da.name} converted from {units} to {to}")
        assume = assumed_units(str(da.name), da.attrs, quantity)
        return convert(da, to, quantity, assume=assume)

    def _join(self, parts: list[xr.DataArray]) -> xr.DataArray:
        dim = self.level_dim
        assert dim is not None  # noqa: S101 - several levels make a dimension
        joined = xr.concat(
            parts, dim=dim, coords="minimal", compat="override", combine_attrs="drop"
        )
        if dim not in self.ds.dims:
            attrs = LEVEL_DIMS.get(self.choice.levels[0].kind, ("", {}))[1]
            joined[dim].attrs = dict(attrs)
        return joined

    def _values(self, levels: Iterable[Level]) -> list[Any]:
        levels = list(levels)
        if self.level_dim in self.ds.indexes:
            return coordinate_values(self.ds[self.level_dim], levels)
        return [level.value for level in levels]

    def _chosen(self) -> list[Found]:
        direct = [f for t in self.choice.direct.values() for f in t.values()]
        pairs = [pair for t in self.choice.derived.values() for pair in t.values()]
        return direct + [f for pair in pairs for f in pair]

    def _level_dims(self) -> list[str]:
        dims = [f.level_dim for f in self._chosen()]
        return list(dict.fromkeys(d for d in dims if d is not None))

    def _name_level_dim(self) -> str:
        dims = self._level_dims()
        return dims[0] if dims else LEVEL_DIMS[self.choice.levels[0].kind][0]

    def _check_dims(self, da: xr.DataArray) -> None:
        absent = {self.axes.latitude, self.axes.longitude} - set(da.dims)
        if not absent:
            return
        msg = f"{da.name!r} lies on other points than the rest of the data."
        raise AlignmentError(
            msg,
            found=f"{da.name} {tuple(da.dims)}",
            needed=f"dimensions {self.axes.latitude!r} and {self.axes.longitude!r}",
            hint=f'ds["{da.name}"].interp(...) to ds.{self.axes.latitude} '
            f"and ds.{self.axes.longitude}",
        )


def _name_taken(name: str, da: xr.DataArray) -> FieldError:
    meaning = "the vectors of a result" if name == "feature" else f"the {name} itself"
    kind = "dimension" if name in da.dims else "coordinate"
    msg = f"{da.name!r} has a {kind} of a name that is needed: {name!r}."
    return FieldError(
        msg,
        found=f"{da.name} {da.dims}",
        needed=f"{name!r} for {meaning} alone",
        hint=f'ds.rename({name}="{name}_")',
    )


def _as_float(da: xr.DataArray) -> xr.DataArray:
    if da.dtype.kind == "f":
        # Bytes in the order of another machine (classic netCDF) are no torch dtype; in
        # half precision pressure (1e5 Pa) overflows and vorticity (1e-5) has no digits.
        native = np.promote_types(da.dtype.newbyteorder("="), np.float32)
        return da if native == da.dtype else da.astype(native)
    if da.dtype.kind in "iub":
        return da.astype(np.float32)
    msg = f"{da.name!r} does not hold numbers."
    raise FieldError(
        msg,
        found=f"{da.name} of type {da.dtype}",
        needed="floating point or integer values",
        hint=f'ds["{da.name}"] = ds["{da.name}"].astype("float32")',
    )


def _merge_expver(da: xr.DataArray) -> xr.DataArray:
    """Final (1) and preliminary (5) ERA5 overlap nowhere: take what is there."""
    parts = [da.isel(expver=i, drop=True) for i in range(da.sizes["expver"])]
    merged = reduce(lambda a, b: a.where(a.notnull(), b), parts)
    return merged.assign_attrs(da.attrs).rename(da.name)


def _check_aligned(
    data: dict[str, xr.DataArray], sources: dict[str, tuple[str, ...]]
) -> None:
    arrays = {q: da for q, da in data.items() if not is_surface(q)}
    if len({frozenset(da.dims) for da in arrays.values()}) <= 1:
        return
    shapes = [f"{', '.join(sources[q])} {da.dims}" for q, da in arrays.items()]
    msg = "The variables do not have the same dimensions."
    raise AlignmentError(
        msg,
        found="; ".join(shapes),
        needed="the same dimensions and coordinates for all of them",
        hint="select or broadcast first, e.g. xr.broadcast(u, v)",
    )


def _grid_notes(grid: Grid) -> list[str]:
    lat, lon = grid.names
    notes = []
    if grid.lat_flipped:
        notes.append(f"latitude flipped: {lat} runs from south to north")
    if grid.lon_order.size < grid.user_longitude.size:
        notes.append(f"the last point of {lon} repeats the first and was left out")
    if not np.array_equal(grid.lon_order, np.arange(grid.lon_order.size)):
        start = grid.user_longitude[grid.lon_order[0]]
        notes.append(f"longitude reordered to run eastward from {start:g}")
    return notes


def with_batch_coords(result: xr.DataArray, fields: Fields) -> xr.DataArray:
    """Bring back coordinates along batch dimensions that the network has lost."""
    coords: dict[Any, Any] = {}
    for source in fields.data.values():
        batch = set(source.dims) - {"latitude", "longitude"}
        for name, coord in source.coords.items():
            if name in result.coords or not set(coord.dims) <= batch & set(result.dims):
                continue
            if all(_same_axis(result, source, str(d)) for d in coord.dims):
                coords[name] = coord.variable
    return result.assign_coords(coords)


def _same_axis(result: xr.DataArray, source: xr.DataArray, dim: str) -> bool:
    if result.sizes[dim] != source.sizes[dim]:
        return False
    if dim not in result.indexes or dim not in source.indexes:
        return True
    return result.indexes[dim].equals(source.indexes[dim])
