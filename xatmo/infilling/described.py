"""Filled fields as infill() gives them: values, their spread, what they are from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from xatmo.infilling.asked import Asked
from xatmo.infilling.inputs import Marked
from xatmo.infilling.methods import FLAGS

__all__ = ["described"]

_TEMPERATURES = {"k", "kelvin", "degc", "degree_celsius", "celsius", "deg_c", "c", "°c"}


def described(
    asked: Asked,
    marked: Marked,
    part: Mapping[str, xr.DataArray],
    quantity: str | None,
    about: Mapping[str, Any] | None = None,
) -> dict[Hashable, xr.DataArray]:
    """Put together what there is to say of a variable.

    Parameters
    ----------
    asked : Asked
    marked : Marked
        What was observed, and where to fill it.
    part : mapping of DataArray
        ``"filled"``, ``"spread"`` and ``"flag"`` (a number of ``FLAGS``), along the
        dimensions of the variable; of no meaning where nothing is to be filled.
    quantity : str or None
        CF standard name of the variable, for where it has none.
    about : mapping, optional
        Further attributes.

    Returns
    -------
    dict of DataArray
        The variable, and those that say something of it.
    """
    own = marked.values
    name = str(own.name)
    gone: xr.Variable = xr.apply_ufunc(np.isnan, own.variable, dask="allowed")
    wanted = gone if marked.wanted is None else marked.wanted.variable
    filled, spread, flag = (part[p].variable for p in ("filled", "spread", "flag"))

    def made(values: xr.Variable, dtype: Any, attrs: dict[str, Any]) -> Any:
        da = own.copy(data=values.astype(dtype, copy=False).data)
        da.attrs, da.encoding = attrs, {}
        return da

    def where(condition: xr.Variable, a: Any, b: Any) -> xr.Variable:
        return xr.where(condition, a, b).transpose(*own.dims)

    parts = [p for p in asked.parts if p != "scores"]
    attrs = {**own.attrs, "ancillary_variables": _ancillary(own, name, parts)}
    result = made(where(wanted, filled, own.variable), own.dtype, attrs)
    result.encoding = _unpacked(own.encoding)
    out: dict[Hashable, xr.DataArray] = {name: result}
    if asked.spread:
        # Outside of the mask: 0 where there is something, NaN where there is not.
        outside = where(gone, np.nan, 0.0)
        said = _spread_attrs(own, name, quantity)
        values = where(wanted, spread, outside)
        out[f"{name}_spread"] = made(values, own.dtype, said)
    outside = where(gone, FLAGS.index("unfilled"), 0)
    said = _flag_attrs(own, name)
    out[f"{name}_provenance"] = made(where(wanted, flag, outside), np.int8, said)
    asked.signed(result, {**result.attrs, **(about or {})}, "")
    return out


def _spread_attrs(own: xr.DataArray, name: str, quantity: str | None) -> dict[str, Any]:
    said = {"long_name": f"standard deviation of the error of {_called(own, name)}"}
    standard, *_ = [*str(own.attrs.get("standard_name", "")).split(), "unknown"]
    if standard == "unknown":  # what cfgrib writes
        standard = quantity or ""
    if standard:
        said["standard_name"] = f"{standard} standard_error"
    if "units" in own.attrs:
        said["units"] = own.attrs["units"]
        if str(said["units"]).lower() in _TEMPERATURES:
            said["units_metadata"] = "temperature: difference"
    return said


def _unpacked(encoding: Mapping[Any, Any]) -> dict[Any, Any]:
    """Encoding without the packing, whose range is that of what was observed."""
    packed = {"scale_factor", "add_offset"} & set(encoding)
    if not packed and np.dtype(encoding.get("dtype", float)).kind == "f":
        return dict(encoding)
    packing = ("dtype", "scale_factor", "add_offset", "_FillValue", "missing_value")
    return {k: v for k, v in encoding.items() if k not in (*packing, "_Unsigned")}


def _ancillary(own: xr.DataArray, name: str, parts: list[str]) -> str:
    old = str(own.attrs.get("ancillary_variables", "")).split()
    return " ".join(dict.fromkeys([*old, *(f"{name}_{p}" for p in parts)]))


def _called(own: xr.DataArray, name: str) -> str:
    return str(own.attrs.get("long_name") or own.attrs.get("standard_name") or name)


def _flag_attrs(own: xr.DataArray, name: str) -> dict[str, Any]:
    return {
        "long_name": f"what the values of {_called(own, name)} are from",
        "standard_name": "status_flag",
        "flag_values": np.arange(len(FLAGS), dtype=np.int8),
        "flag_meanings": " ".join(FLAGS),
    }
