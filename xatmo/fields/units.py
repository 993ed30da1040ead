"""Units: read as people spell them, converted where the conversion is exact."""

from __future__ import annotations

import re
import sys
import warnings
from functools import cache
from typing import Any

import xarray as xr

from xatmo.errors import UnitsError, UnitsWarning
from xatmo.fields.attributes import units_of

__all__ = ["STANDARD_GRAVITY", "convert", "same_dimension"]

STANDARD_GRAVITY = 9.80665
"""m s-2; geopotential height is geopotential divided by this, by definition."""

# Spellings that pint does not read, or reads otherwise: "mb" is a millibarn there.
_SPELLINGS = {
    "mb": "hPa",
    "mbar": "hPa",
    "mbars": "hPa",
    "millibar": "hPa",
    "millibars": "hPa",
    "hpa": "hPa",
    "pa": "Pa",
    "c": "degC",
    "celsius": "degC",
    "deg c": "degC",
    "degc": "degC",
    "deg_c": "degC",
    "degree_c": "degC",
    "degrees_c": "degC",
    "°c": "degC",
    "degrees celsius": "degC",
    "kelvin": "K",
    "kelvins": "K",
    "degk": "K",
    "deg k": "K",
    "degrees kelvin": "K",
    "gpm": "m",
    "gpdm": "dam",
    "m of water equivalent": "m",
    "kt": "knot",
    "kts": "knot",
    "knots": "knot",
    "mps": "m s-1",
    "m/s": "m s-1",  # M/S
    "m s-1": "m s-1",  # M S-1
    "ms-1": "m s-1",  # not per millisecond, though UDUNITS says so
    "ms**-1": "m s-1",
    "ms^-1": "m s-1",
    "percent": "%",
    "(0 - 1)": "1",
    "0-1": "1",
    "numeric": "1",
    "fraction": "1",
    "proportion": "1",
    "dimensionless": "1",
    "unitless": "1",
    "none": "1",
    "~": "1",
    "-": "1",
    "": "1",
}


def convert(
    da: xr.DataArray, to: str, quantity: str, *, assume: str | None = None
) -> xr.DataArray:
    """Convert a variable to other units, lazily and exactly.

    Parameters
    ----------
    da : DataArray
        Its attribute ``units`` says what it is in.
    to : str
        The units that are needed.
    quantity : str
        CF standard name: heights (m, gpm) become geopotential by the standard gravity.
    assume : str, optional
        Units to assume, with a warning, where ``da`` has none; ``to`` if not given.

    Returns
    -------
    DataArray
        Of the same dtype, with ``units`` set; the same values if nothing had to change.

    Raises
    ------
    xatmo.errors.UnitsError
        If the units cannot be read or measure something else.

    Warns
    -----
    xatmo.errors.UnitsWarning
        If there are no units.
    """
    units = units_of(da.attrs)
    if units is None:
        units = assume or to
        _warn_missing(da, units)
    factor, offset = _conversion(units, to, da, quantity)
    result = da
    if factor != 1.0:
        result = result * factor
    if offset != 0.0:
        result = result + offset
    return result.assign_attrs({**da.attrs, "units": to})


def same_dimension(units: str, to: str) -> bool:
    """Whether one can be converted into the other."""
    try:
        return bool(_unit(units).is_compatible_with(_unit(to)))
    except Exception:  # pint raises a dozen kinds for text that is no unit
        return False


def changes_values(units: str, to: str, quantity: str) -> bool:
    """Whether a conversion is more than another spelling (False if there is none)."""
    if normalise(units) == normalise(to):
        return False
    try:
        return factor_offset(units, to, quantity) != (1.0, 0.0)
    except Exception:  # as above; convert() will say what is wrong
        return False


def normalise(units: str) -> str:
    """Return units in a spelling that pint reads."""
    text = " ".join(str(units).split())
    return _SPELLINGS.get(text.lower(), text)


def _conversion(
    units: str, to: str, da: xr.DataArray, quantity: str
) -> tuple[float, float]:
    if normalise(units) == normalise(to):
        return 1.0, 0.0
    try:
        return factor_offset(units, to, quantity)
    except Exception as error:
        raise _wrong(da, units, to, quantity) from error


@cache
def factor_offset(units: str, to: str, quantity: str = "") -> tuple[float, float]:
    """Return (a, b) so that a x + b is in the new units where x was in the old ones."""
    source, target = _unit(units), _unit(to)
    gravity = 1.0
    if quantity == "geopotential" and source.is_compatible_with("m"):
        gravity, source = STANDARD_GRAVITY, source * _unit("m s-2")
    quantity_of = _registry().Quantity
    zero = quantity_of(0.0, source).to(target).magnitude
    one = quantity_of(1.0, source).to(target).magnitude
    # 274.15 - 273.15 is 1 only to rounding.
    return gravity * float(f"{one - zero:.12g}"), float(f"{zero:.12g}")


@cache
def _registry() -> Any:
    import cf_xarray.units  # teaches pint to read CF; slow to import

    return cf_xarray.units.units


def _unit(units: str) -> Any:
    text = normalise(units)
    # "m s^-1" and "m s**-1" say the same; "m.s-1" is what UDUNITS writes.
    text = re.sub(r"(?<=[a-zA-Z0-9])\.(?=[a-zA-Z])", " ", text)
    return _registry().Unit(text)


def _wrong(da: xr.DataArray, units: str, to: str, quantity: str) -> UnitsError:
    name = da.name if da.name is not None else quantity
    label = f'ds["{name}"].attrs["units"] = "{to}"'
    try:
        _unit(units)
    except Exception:
        msg = f"The units of {name!r} cannot be read: {units!r}."
        hint = f"{label}, if that is what the values are in"
    else:
        msg = f"{name!r} is in {units!r}, which cannot become {to!r} ({quantity})."
        hint = f"{label}, if the label is wrong; else give the variable that is it"
    needed = f"units that convert exactly to {to!r}"
    return UnitsError(msg, found=f"units={units!r}", needed=needed, hint=hint)


def _warn_missing(da: xr.DataArray, units: str) -> None:
    warnings.warn(
        f"{str(da.name)!r} has no units; {units!r} assumed. "
        f'Say so to silence this: ds["{da.name}"].attrs["units"] = "{units}"',
        UnitsWarning,
        stacklevel=_outside(),
    )


def _outside() -> int:
    """Levels up the stack to the line of the user's that led here."""
    frame, level = sys._getframe(1), 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith(
        "xatmo."
    ):
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    return level
