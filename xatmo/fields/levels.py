"""The height at which a field lives: written, read, and recognised in coordinates.

A model knows "850 hPa" or "10 m"; files write 850, 85000, ``u850``, ``level`` without
units. Nothing here guesses where two readings are possible: a model level is never
taken for a pressure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from xatmo.errors import LevelError
from xatmo.fields.attributes import text as attribute

__all__ = [
    "LEVEL_DIMS",
    "Kind",
    "Level",
    "coordinate_levels",
    "coordinate_values",
    "describe_levels",
    "example_levels",
    "is_vertical",
    "level_coordinate",
    "text_level",
    "unknown_levels",
]

Kind = Literal["pressure", "height", "sigma", "model_level", "surface", "unknown"]

LEVEL_DIMS = {
    "pressure": ("pressure_level", {"units": "hPa", "standard_name": "air_pressure"}),
    "height": ("height", {"units": "m", "standard_name": "height"}),
    "sigma": ("sigma", {"units": "1", "standard_name": "atmosphere_sigma_coordinate"}),
    "model_level": ("model_level", {"units": "1"}),
}
"""What coordinates of levels are called where the user has no name, and attributes."""

_PRESSURE_UNITS = {
    **dict.fromkeys(("hpa", "mb", "mbar", "mbars", "millibar", "millibars"), 1.0),
    **dict.fromkeys(("hectopascal", "hectopascals"), 1.0),
    **dict.fromkeys(("pa", "pascal", "pascals"), 0.01),
    "kpa": 10.0,
}
_METRES = {"m", "metre", "metres", "meter", "meters"}

_NUMBER = r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)"
_PRESSURE_UNIT = r"(hpa|mb(?:ar)?s?|millibars?|hectopascals?|pa|pascals?|kpa)"
_WRITTEN = (
    ("pressure", re.compile(rf"{_NUMBER}\s*{_PRESSURE_UNIT}")),
    ("height", re.compile(rf"{_NUMBER}\s*(?:m|metres?|meters?)(?:\s*above.*)?")),
    ("sigma", re.compile(rf"sigma(?:[ _]level)?\s*=?\s*{_NUMBER}")),
    ("model_level", re.compile(rf"(?:model|hybrid)[ _]level\s*=?\s*{_NUMBER}")),
)
# A level inside a longer text, such as "850 hPa U wind component" or "Geopotential at
# 500 hPa": only at the start or after "at", so that a remark is not taken for a level.
_MENTIONED = re.compile(
    rf"(?:^|\bat\s)(?:the\s)?({_NUMBER}\s*(?:{_PRESSURE_UNIT}|m|metres?|meters?))\b"
)

# Standard pressure levels reach 1000; no model in use has more levels than this, so
# larger numbers in a coordinate without units cannot be model levels.
_MOST_MODEL_LEVELS = 200
# fmt: off
_USUAL_PRESSURES = frozenset((
    1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 125, 150, 175, 200, 225, 250, 300, 350,
    400, 450, 500, 550, 600, 650, 700, 750, 775, 800, 825, 850, 875, 900, 925,
    950, 975, 1000,
))
# fmt: on
_PLAIN_NAMES = frozenset({"level", "levels", "lev", "levelist", "lvl", "z"})
_PRESSURE_NAMES = re.compile(
    r"plevs?|p_?levels?|pressure(_?levels?)?|pres|isobaric.*|lv_isbl.*|air_pressure"
)
_HEIGHT_NAMES = re.compile(r"height(_?above_?ground)?\d*|lv_htgl.*")
_SIGMA_NAMES = re.compile(r"sigma(_?levels?)?|lv_sigl.*")
_MODEL_NAMES = re.compile(
    r"hybrid|ml|mlev|model_?levels?(_number)?|nhlevs?|bottom_top(_stag)?|lv_hybl.*"
)
_SURFACE_NAMES = frozenset({"surface", "meansea", "mean_sea"})
_VERTICAL_STANDARD_NAMES = re.compile(
    r"air_pressure|height|altitude|depth|atmosphere_.*_coordinate|model_level_number"
    r"|(geopotential|height_above)_.*"
)


@dataclass(frozen=True)
class Level:
    """A vertical level.

    Parameters
    ----------
    kind : str
        ``"pressure"``, ``"height"``, ``"sigma"``, ``"model_level"``, ``"surface"`` or
        ``"unknown"``.
    value : float or None
        In hPa, metres, 1, or a number; ``None`` for the surface. Kept to six
        significant digits, so that levels from single-precision files are equal to
        (and hash like) those written in a model card.

    Examples
    --------
    >>> str(Level.parse("85000 Pa"))
    '850 hPa'
    >>> Level.parse(850) == Level("pressure", 850.0)
    True
    >>> str(Level.parse("sigma 0.95")), str(Level.parse("10 m"))
    ('sigma 0.95', '10 m')
    """

    kind: Kind
    value: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise _cannot_read(self.kind)
        if self.value is not None:
            object.__setattr__(self, "value", float(f"{float(self.value):.6g}"))

    def __str__(self) -> str:
        if self.value is None:
            return "surface" if self.kind == "surface" else "unknown level"
        number = f"{self.value:g}"
        return {
            "pressure": f"{number} hPa",
            "height": f"{number} m",
            "sigma": f"sigma {number}",
            "model_level": f"model level {number}",
            "surface": "surface",
            "unknown": f"{number} (kind of level unknown)",
        }[self.kind]

    @classmethod
    def parse(cls, text: str | float | Level) -> Level:
        """Read a level as people write it; a bare number is a pressure in hPa.

        Raises
        ------
        xatmo.errors.LevelError
            When the text is not a level.
        """
        if isinstance(text, Level):
            return text
        if isinstance(text, Real) and not isinstance(text, bool):
            return cls("pressure", float(text))
        level = text_level(text) if isinstance(text, str) else None
        if level is None:
            raise _cannot_read(text)
        return level


def text_level(text: str, *, within: bool = False) -> Level | None:
    """Return the level that a text is, or None; ``within`` also looks inside it."""
    clean = " ".join(text.strip().lower().split())
    if clean in {"surface", "sfc"}:
        return Level("surface")
    if re.fullmatch(_NUMBER, clean):
        return Level("pressure", float(clean))
    for kind, pattern in _WRITTEN:
        if match := pattern.fullmatch(clean):
            factor = _PRESSURE_UNITS[match[2]] if kind == "pressure" else 1.0
            return Level(kind, float(match[1]) * factor)  # type: ignore[arg-type]
    if within and (match := _MENTIONED.search(clean)):
        return text_level(match[1])
    return None


def coordinate_levels(coord: xr.DataArray) -> tuple[Level, ...]:
    """Return the levels that a vertical coordinate holds, in its order.

    Parameters
    ----------
    coord : DataArray
        Scalar or one-dimensional. A lazy one is not computed: its levels are unknown.

    Returns
    -------
    tuple of Level
        One per value.
    """
    if coord.chunks is not None or coord.dtype.kind not in "iuf":
        return unknown_levels(coord.size)
    values = np.atleast_1d(np.asarray(coord.values, dtype=float))
    kind, factor = _kind(str(coord.name), coord.attrs, values)
    if kind == "surface":
        return (Level("surface"),) * coord.size
    return tuple(Level(kind, value * factor) for value in values.tolist())


def coordinate_values(coord: xr.DataArray, levels: Iterable[Level]) -> list[Any]:
    """Return the values that levels have in the user's own coordinate."""
    held, values = coordinate_levels(coord), coord.values.tolist()
    return [values[held.index(level)] for level in levels]


def level_coordinate(level: Level) -> tuple[str, xr.DataArray]:
    """Return a scalar coordinate that says where a field is, and its name.

    Raises
    ------
    xatmo.errors.LevelError
        If the level is none that has a number.

    Examples
    --------
    >>> name, value = level_coordinate(Level.parse("850 hPa"))
    >>> name, value.item(), value.attrs["units"]
    ('pressure_level', 850.0, 'hPa')
    """
    if level.value is None or level.kind not in LEVEL_DIMS:
        raise _cannot_read(str(level))
    name, attrs = LEVEL_DIMS[level.kind]
    return name, xr.DataArray(level.value, attrs=dict(attrs))


def unknown_levels(count: int) -> tuple[Level, ...]:
    """Return levels of which only the position is known."""
    if count == 1:
        return (Level("unknown"),)
    return tuple(Level("unknown", position) for position in range(count))


def is_vertical(name: str, attrs: Mapping[Any, Any]) -> bool:
    """Whether a coordinate of that name and attributes counts levels."""
    lower = name.lower()
    named = lower in _PLAIN_NAMES - {"z"} or lower in _SURFACE_NAMES
    patterns = (_PRESSURE_NAMES, _HEIGHT_NAMES, _SIGMA_NAMES, _MODEL_NAMES)
    if named or any(pattern.fullmatch(lower) for pattern in patterns):
        return True
    if _text(attrs, "axis") == "z":
        return True
    return (
        _text(attrs, "positive") in {"up", "down"}
        or _text(attrs, "units") in _PRESSURE_UNITS
        or bool(_VERTICAL_STANDARD_NAMES.fullmatch(_text(attrs, "standard_name")))
    )


def describe_levels(levels: Iterable[Level], most: int = 6) -> str:
    """Return "850 hPa, 500 hPa": no more than ``most`` of them are written out."""
    texts = [str(level) for level in levels]
    if len(texts) <= most:
        return ", ".join(texts)
    return f"{', '.join(texts[: most - 1])}, ... ({len(texts)} levels)"


def example_levels(dim: str) -> tuple[tuple[float, ...], str]:
    """Return values that a dimension of that name could have, and their unit."""
    if _HEIGHT_NAMES.fullmatch(dim.lower()):
        return (10, 50, 100), "m"
    if _SIGMA_NAMES.fullmatch(dim.lower()):
        return (0.95, 0.85, 0.5), "shares of surface pressure"
    return (850, 500, 250), "hPa"


def _kind(
    name: str, attrs: Mapping[Any, Any], values: np.ndarray
) -> tuple[Kind, float]:
    lower, units = name.lower(), _text(attrs, "units")
    standard = _text(attrs, "standard_name")
    if _counts_model_levels(lower, standard, attrs):
        return "model_level", 1.0
    if lower in _SURFACE_NAMES:
        return "surface", 1.0
    if units in _PRESSURE_UNITS:
        return "pressure", _PRESSURE_UNITS[units]
    if _SIGMA_NAMES.fullmatch(lower) or standard == "atmosphere_sigma_coordinate":
        return "sigma", 1.0
    if _HEIGHT_NAMES.fullmatch(lower) or standard == "height":
        return ("height", 1.0) if units in _METRES | {""} else ("unknown", 1.0)
    if not units:
        return _kind_without_units(lower, standard, values)
    return "unknown", 1.0


def _counts_model_levels(lower: str, standard: str, attrs: Mapping[Any, Any]) -> bool:
    # CAM writes hybrid levels in hPa (1000 * (A + B)): the attributes tell, the units
    # would mislead.
    long_name = _text(attrs, "long_name")
    return (
        bool(_MODEL_NAMES.fullmatch(lower))
        or "hybrid" in standard
        or standard == "model_level_number"
        or "hybrid" in long_name
        or "model level" in long_name
    )


def _kind_without_units(
    lower: str, standard: str, values: np.ndarray
) -> tuple[Kind, float]:
    largest = values.max(initial=0.0)
    if _PRESSURE_NAMES.fullmatch(lower) or standard == "air_pressure":
        if lower == "isobaricinpa" or largest > 1100:
            return "pressure", 0.01
        return "pressure", 1.0
    usual = set(values.tolist()) <= _USUAL_PRESSURES
    if lower in _PLAIN_NAMES and usual and largest > _MOST_MODEL_LEVELS:
        return "pressure", 1.0
    if lower == "levelist":
        return "model_level", 1.0
    return "unknown", 1.0


def _text(attrs: Mapping[Any, Any], key: str) -> str:
    return attribute(attrs, key).lower()


def _cannot_read(text: object) -> LevelError:
    msg = f"{text!r} is not a level."
    return LevelError(
        msg,
        found=repr(text),
        needed='text such as "850 hPa", "10 m", "sigma 0.95", "model level 120", or '
        "a number of hPa; or a list of these",
        hint='level="850 hPa"',
    )
