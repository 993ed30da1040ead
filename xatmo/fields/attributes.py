"""Attributes as text: files also hold bytes, numbers and arrays under the same keys."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["kept_attrs", "text", "units_of", "with_text_only"]

_KEPT = ("standard_name", "long_name", "short_name", "units", "cell_methods")


def text(attrs: Mapping[Any, Any], key: str) -> str:
    """Return an attribute as text; empty if it is not there, or is none."""
    value = _only(attrs.get(key))
    if isinstance(value, bytes):
        value = _decode(value)
    return str(value).strip() if isinstance(value, str) else ""


def units_of(attrs: Mapping[Any, Any]) -> str | None:
    """Return the units, None if there are none; the number 1 is a unit, too."""
    value = _only(attrs.get("units"))
    if isinstance(value, Real) and not isinstance(value, bool):
        return f"{float(value):g}"
    return text(attrs, "units") if isinstance(value, str | bytes) else None


def kept_attrs(da: xr.DataArray, quantity: str | None = None) -> dict[str, Any]:
    """Attributes of the user's variable that stay true of finer values of the same.

    Name, units and cell methods; not the range, the packing, the grid it came on, nor
    references to variables that are not there.

    Parameters
    ----------
    da : DataArray
        The user's variable.
    quantity : str, optional
        CF standard name, for where the variable has none.

    Examples
    --------
    >>> import xarray as xr
    >>> attrs = {"units": "m/s", "standard_name": "unknown", "GRIB_Nx": 360}
    >>> kept_attrs(xr.DataArray(0.0, attrs=attrs), "eastward_wind")
    {'standard_name': 'eastward_wind', 'units': 'm/s'}
    """
    kept = {key: text(da.attrs, key) for key in _KEPT}
    kept["units"] = units_of(da.attrs) or ""
    if kept["standard_name"] in ("", "unknown"):  # what cfgrib writes
        kept["standard_name"] = quantity or ""
    if "(" in kept["cell_methods"]:  # the interval of the coarse points, as a rule
        kept["cell_methods"] = ""
    return {key: value for key, value in kept.items() if value}


def with_text_only(ds: xr.Dataset) -> xr.Dataset:
    """Return a dataset of the same variables, whose attributes are all text.

    cf_xarray compares attributes with ``==``, which arrays do not survive.
    """
    ds = ds.copy()
    for variable in ds.variables.values():
        texts = {str(key): text(variable.attrs, key) for key in variable.attrs}
        variable.attrs = {key: value for key, value in texts.items() if value}
    return ds


def _only(value: Any) -> Any:
    """Take a text out of an array of one, as HDF5 files have them."""
    if isinstance(value, np.ndarray | list | tuple) and np.size(value) == 1:
        return np.ravel(value)[0]
    return value


def _decode(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")  # a degree sign, as older files have it
