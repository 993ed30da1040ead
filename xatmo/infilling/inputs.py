"""What infill() finds in a dataset to fill, and what a mask says of it; no values."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import AlignmentError, ExtrapolationWarning, FieldError, OptionError
from xatmo.fields import Axes, unpack
from xatmo.matching import outside

__all__ = ["Marked", "check_dims", "fields_of", "masks_of"]

_CATEGORIES = ("flag_values", "flag_meanings", "flag_masks")


@dataclass(frozen=True)
class Marked:
    """A variable, and where to fill it: None for wherever it is NaN."""

    values: xr.DataArray
    wanted: xr.DataArray | None


def fields_of(obj: Any, ds: xr.Dataset, axes: Axes) -> list[str]:
    """Return the names of the variables that can be filled.

    Raises
    ------
    xatmo.errors.FieldError
        If there are none.

    Warns
    -----
    UserWarning
        Of variables that hold categories, which are left as they are.
    """
    space = {axes.latitude, axes.longitude}
    maps = [str(n) for n, v in ds.items() if space <= set(v.dims) and v.size]
    able = [n for n in maps if unpack(ds[n]).dtype.kind == "f"]
    names = [n for n in able if not set(_CATEGORIES) & set(ds[n].attrs)]
    categories = [n for n in able if n not in names]
    if not names:
        raise _nothing(ds, maps, categories, axes)
    if categories:
        warnings.warn(
            f"{', '.join(categories)}: categories are not filled, and stay as they are",
            ExtrapolationWarning,
            stacklevel=outside(),
        )
    return names


def check_dims(ds: xr.Dataset, names: Iterable[str], parts: Iterable[str]) -> None:
    """Refuse names that the result needs for other things than the user does."""
    new = {f"{name}_{part}": name for name in names for part in parts}
    taken = [n for n in new if n in ds.variables or n in ds.dims]
    if taken:
        msg = f"There is a variable of a name that the result needs: {taken[0]!r}."
        raise FieldError(
            msg,
            found=", ".join(map(repr, taken)),
            needed=f"{taken[0]!r} for what is said of {new[taken[0]]!r}",
            hint=f"ds.drop_vars({taken}), or ds.rename(...)",
        )
    if "scores" in parts and "method" in (*ds.dims, *ds.variables):
        msg = "There is a dimension or variable of a name that the result needs."
        raise FieldError(
            msg,
            found="'method'",
            needed="'method' for the methods that are compared",
            hint='ds.rename(method="method_"), or ds.atmo.infill(method="network")',
        )


def masks_of(mask: Any, ds: xr.Dataset, names: Iterable[str]) -> dict[str, Marked]:
    """Return each variable with the cells of it that are to be filled.

    Raises
    ------
    xatmo.errors.OptionError
        If the mask does not hold truth values.
    xatmo.errors.AlignmentError
        If it does not lie on the coordinates of the data.
    """
    if not isinstance(mask, xr.DataArray | xr.Dataset | None):
        msg = f"A mask of type {type(mask).__name__} has no named dimensions."
        raise OptionError(
            msg,
            found=f"mask of type {type(mask)}",
            needed="a DataArray of bool, or a Dataset with one for each variable",
            hint='mask=xr.DataArray(mask, dims=("time", "latitude", "longitude"))',
        )
    each = {
        name: mask.get(name) if isinstance(mask, xr.Dataset) else mask for name in names
    }
    if isinstance(mask, xr.Dataset) and all(m is None for m in each.values()):
        msg = "The mask has none of the variables that can be filled."
        raise OptionError(
            msg,
            found=f"masks of {', '.join(map(str, mask)) or 'nothing'}",
            needed=f"one of {', '.join(each)}",
            hint=f'mask=xr.Dataset({{"{next(iter(each))}": ...}})',
        )
    return {name: _marked(unpack(ds[name]), m) for name, m in each.items()}


def _marked(da: xr.DataArray, mask: xr.DataArray | None) -> Marked:
    if mask is None:
        return Marked(da, None)
    if mask.dtype != bool:
        msg = f"The mask for {da.name!r} does not hold truth values."
        raise OptionError(
            msg,
            found=f"a mask of type {mask.dtype}",
            needed="bool: True where to fill",
            hint="mask=mask.astype(bool), or mask=(mask > 0.5)",
        )
    _check_same_axes(da, mask)
    # By position: the coordinates were found to be the same.
    bare = mask.variable.set_dims({d: da.sizes[d] for d in da.dims})
    wanted = xr.DataArray(bare.transpose(*da.dims))
    return Marked(da, wanted if da.chunks is None else wanted.chunk(da.chunksizes))


def _check_same_axes(da: xr.DataArray, mask: xr.DataArray) -> None:
    beyond = [str(d) for d in mask.dims if d not in da.dims]
    other = [
        str(d)
        for d in mask.dims
        if d in da.dims
        and (
            mask.sizes[d] != da.sizes[d]
            or (
                d in mask.indexes
                and d in da.indexes
                and not mask.indexes[d].equals(da.indexes[d])
            )
        )
    ]
    if not beyond and not other:
        return
    what = (
        f"has dimensions of its own: {', '.join(beyond)}"
        if beyond
        else (f"differs along {' and '.join(map(repr, other))}")
    )
    msg = f"The mask {what}; it does not lie on the points of {da.name!r}."
    along = ", ".join(f'{d}=ds["{d}"]' for d in other) or "..."
    raise AlignmentError(
        msg,
        found=f"mask {dict(mask.sizes)}, {da.name} {dict(da.sizes)}",
        needed=f"some of the dimensions {da.dims}, with the same coordinates",
        hint=f"mask.isel({beyond[0]}=0)"
        if beyond
        else f"mask.reindex({along}, fill_value=False)",
    )


def _nothing(
    ds: xr.Dataset, maps: list[str], categories: list[str], axes: Axes
) -> FieldError:
    if categories:
        msg = f"{categories[0]!r} holds categories: between them there is nothing."
        return FieldError(
            msg,
            found=f"{categories[0]} with {_said(ds[categories[0]])}",
            needed="a quantity that has values in between",
            hint=f'fields of it, e.g. (ds["{categories[0]}"] == 1).astype("float32")',
        )
    msg = "There is nothing whose gaps could be filled."
    listed = ", ".join(f"{n} ({v.dtype}, {v.dims})" for n, v in ds.items())
    first = maps[0] if maps else None
    return FieldError(
        msg,
        found=listed or "no variables",
        needed="floating-point values (NaN where missing) along "
        f"{axes.latitude!r} and {axes.longitude!r}",
        hint=f'ds["{first}"].where(...).astype("float32"), if it is no category'
        if first
        else "select a variable on the grid",
    )


def _said(da: xr.DataArray) -> str:
    key = next(k for k in _CATEGORIES if k in da.attrs)
    value = da.attrs[key]
    return f"{key} = {value if isinstance(value, str) else np.asarray(value).tolist()}"
