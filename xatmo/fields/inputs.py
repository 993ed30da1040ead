"""Whatever form the user's data have, the rest of the package sees one Dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import FieldError, FieldNotFoundError
from xatmo.fields.attributes import text

__all__ = ["as_dataset", "unpack"]

_PACKING = {"scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned"}

_NAME_DIMS = ("variable", "channel", "var", "param", "parameter", "field", "band")


def as_dataset(obj: Any) -> xr.Dataset:
    """Return a Dataset with one variable per quantity, still lazy.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree node
        An array may hold several variables along a dimension of names (``variable``,
        ``channel``).

    Raises
    ------
    xatmo.errors.FieldNotFoundError
        If there are no variables (a tree whose data are further down, say).
    xatmo.errors.FieldError
        If it is no xarray object.
    """
    if isinstance(obj, xr.DataTree):
        ds = _from_tree(obj)
    elif isinstance(obj, xr.DataArray):
        ds = _from_array(obj)
    elif isinstance(obj, xr.Dataset):
        ds = obj
    else:
        msg = f"{type(obj).__name__} is not an xarray object."
        raise FieldError(
            msg,
            found=str(type(obj)),
            needed="a Dataset, DataArray or DataTree with named dimensions",
            hint="xr.open_dataset('file.nc')",
        )
    return ds


def names_dim(da: xr.DataArray) -> str | None:
    """Return the dimension along which an array holds variables by name."""
    for dim in _NAME_DIMS:
        if dim in da.dims and dim in da.coords and da[dim].dtype.kind in "OUST":
            return dim
    return None


def _from_array(da: xr.DataArray) -> xr.Dataset:
    dim = names_dim(da)
    if dim is not None:
        _check_names(da, dim)
        ds = da.to_dataset(dim=dim)
        # Units of the whole array would be wrong for all variables but one.
        if len(ds) > 1:
            for variable in ds.data_vars.values():
                variable.attrs = _without(variable.attrs)
        return ds
    name = da.name if da.name is not None else text(da.attrs, "standard_name") or "data"
    if name in da.coords:
        name = f"{name}_data"
    return da.to_dataset(name=name)


def _check_names(da: xr.DataArray, dim: str) -> None:
    names = da.indexes[dim]
    if names.is_unique:
        return
    twice = names[names.duplicated()][0]
    msg = f"Dimension {dim!r} holds the same name more than once."
    raise FieldNotFoundError(
        msg,
        found=f"{twice!r} repeated in {dim!r}",
        needed="each variable once",
        hint=f"da.drop_duplicates({dim!r})",
    )


def _without(attrs: dict[Any, Any]) -> dict[Any, Any]:
    alike = ("units", "standard_name", "long_name", "GRIB_shortName", "short_name")
    return {k: v for k, v in attrs.items() if k not in alike}


def _from_tree(node: xr.DataTree) -> xr.Dataset:
    ds = node.to_dataset()
    if ds.data_vars:
        return ds
    paths = [n.path for n in node.subtree if n.data_vars]
    listed = ", ".join(paths[:8]) or "no data anywhere below it"
    msg = f"Node {node.path!r} of the tree has no variables of its own."
    raise FieldNotFoundError(
        msg,
        found=listed,
        needed="the node that holds the fields",
        hint=f"tree[{paths[0]!r}].atmo" if paths else "open the group with the data",
    )


def unpack(da: xr.DataArray) -> xr.DataArray:
    """Decode a variable that is still packed (opened with ``mask_and_scale=False``).

    Lazily; packed integers become float32.
    """
    if not _PACKING & set(da.attrs):
        return da
    packed = xr.Dataset({"x": da.variable})
    decoded = xr.decode_cf(packed, decode_times=False, decode_timedelta=False)["x"]
    result = da.copy(data=decoded.data)
    result.attrs = {k: v for k, v in da.attrs.items() if k not in _PACKING}
    return result.astype(np.float32) if da.dtype.kind in "iu" else result
