"""Which variable holds which quantity, at which levels.

Resolution goes from what the file says to what is customary: CF attributes, then names
(of the variable, of its GRIB origin), then its long name. All of it is looked up in
``aliases.toml``; nothing is computed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import xarray as xr

from xatmo.fields.attributes import text, units_of
from xatmo.fields.axes import (
    Axes,
    find_axes,
    horizontal_candidates,
    level_dim_of,
    vertical_coordinate,
)
from xatmo.fields.levels import (
    Level,
    coordinate_levels,
    is_vertical,
    text_level,
    unknown_levels,
)

__all__ = [
    "Axes",
    "Found",
    "assumed_units",
    "canonical_name",
    "canonical_units",
    "find_axes",
    "find_quantities",
    "is_surface",
    "known_name",
]

_SURFACE = Level("surface")
_UNKNOWN = Level("unknown")

# What NCEP's tools append to a name, and the level it stands for: None where the
# coordinates have to tell.
_SUFFIXES: tuple[tuple[re.Pattern[str], str | None], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"_(?:gds)?\d+_(?:isbl|htgl|sigl|hybl|tdel)(?:_\d+)?", None),
        (r"_(?:gds)?\d+_(?:sfc|msl)(?:_\d+)?", "surface"),
        (r"_p\d+_l(?:100|103|104|105)_g[a-z]+\d+", None),
        (r"_p\d+_l(?:1|101)_g[a-z]+\d+", "surface"),
        (r"_(?:surface|sfc|meansealevel)", "surface"),
        (r"_(?:isobaric|height_above_ground|sigma|hybrid)", None),
        (r"[_ ]?(\d+)[_ ]?(?:hpa|mb)", "pressure"),
        (r"[_ ]?(\d+)[_ ]?m(?:etres?)?(?:_?above_?ground)?", "height"),
        (r"_?(\d+)", "bare"),
    )
)
_LEVEL_IN_LONG_NAME = re.compile(
    r"^\d+ ?(?:hpa|mb|m|metres?|meters?) |( at)? \d+ ?(?:hpa|mb|m|metres?|meters?)$"
)
# u50 is a pressure, u10 a height that the table lists; below this a short name with a
# bare number is anybody's guess. Long names (u_component_of_wind_10) have no heights.
_LOWEST_BARE_PRESSURE = 20
_HIGHEST_PRESSURE = 1100


@dataclass(frozen=True)
class Found:
    """A variable that holds a known quantity.

    Parameters
    ----------
    name : str
        The user's name.
    quantity : str
        CF standard name.
    levels : tuple of Level
        In the order of ``level_dim``, or one.
    level_dim : str or None
        The user's dimension of levels.
    units : str or None
        As the attributes have them.
    how : str
        What it was recognised by: ``"standard_name"``, ``"name"``,
        ``"GRIB_shortName"``, ``"short_name"``, ``"GRIB_cfVarName"`` or ``"long_name"``.
    """

    name: str
    quantity: str
    levels: tuple[Level, ...]
    level_dim: str | None
    units: str | None
    how: str


class _Meaning(NamedTuple):
    quantity: str
    level: Level | None = None


def find_quantities(ds: xr.Dataset) -> dict[str, list[Found]]:
    """Find the variables that hold known quantities.

    Parameters
    ----------
    ds : Dataset

    Returns
    -------
    dict
        CF standard name -> the variables that hold it, in the order of the dataset.
        Variables without horizontal dimensions are left out.
    """
    latitudes, longitudes = horizontal_candidates(ds)
    found: dict[str, list[Found]] = {}
    for name in ds.data_vars:
        dims = {str(d) for d in ds[name].dims}
        if (latitudes and not latitudes & dims) or (
            longitudes and not longitudes & dims
        ):
            continue
        entry = _recognise(ds, name) if isinstance(name, str) else None
        if entry is not None:
            found.setdefault(entry.quantity, []).append(entry)
    return found


def known_name(name: str) -> tuple[str, Level | None] | None:
    """Return the quantity and level that a bare name stands for.

    Examples
    --------
    >>> quantity, level = known_name("u850")
    >>> quantity, str(level)
    ('eastward_wind', '850 hPa')
    >>> str(known_name("u10")[1])
    '10 m'
    """
    meaning = _meaning_of_name(name)
    return None if meaning is None else (meaning.quantity, meaning.level)


def canonical_name(standard_name: str) -> str:
    """Return the CF standard name that a quantity goes by here.

    Another standard name of a known quantity gives the known one; any other text is
    returned as it is.
    """
    return _tables().standard.get(standard_name, standard_name)


def canonical_units(quantity: str) -> str | None:
    """Return the units in which models read a quantity, None if it is not known."""
    entry = _tables().entries.get(quantity)
    return None if entry is None else entry["units"]


def assumed_units(name: str, attrs: Mapping[Any, Any], quantity: str) -> str | None:
    """Return the units a variable must be in if it does not say.

    A height (``zg``, ``gh``) is in metres although geopotential is read in m2 s-2.
    """
    tables = _tables()
    long_name = tables.long.get(_bare_long_name(attrs))
    told = [text(attrs, "standard_name"), *tables.names.get(_strip(name), ())]
    for table in [*told, long_name, quantity]:
        entry = tables.entries.get(table)
        if entry is not None and tables.quantity(table) == quantity:
            return entry.get("assume", entry["units"])
    return None


def is_surface(quantity: str) -> bool:
    """Whether a quantity has no level (surface pressure, precipitation)."""
    return _tables().surface(quantity)


class _Tables:
    """``aliases.toml``, turned round: from what a file says to what it means."""

    def __init__(self) -> None:
        path = resources.files("xatmo.fields") / "aliases.toml"
        self.entries: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        self.standard: dict[str, str] = {}
        self.names: dict[str, list[str]] = {}  # name -> tables, without a level
        self.exact: dict[str, _Meaning] = {}
        self.long: dict[str, str] = {}  # long name -> table
        for key, entry in self.entries.items():
            self._add(key, entry)
        lower = {name.lower(): m for name, m in reversed(self.exact.items())}
        self.lower: dict[str, _Meaning] = lower

    def _add(self, key: str, entry: dict[str, Any]) -> None:
        quantity = self.quantity(key)
        for standard in (key, *entry.get("standard_names", ())):
            self.standard[standard] = quantity
        level = _SURFACE if entry.get("surface") else None
        for name in entry.get("names", ()):
            self.exact[name] = _Meaning(quantity, level)
            self.names.setdefault(name, []).append(key)
        for where, names in entry.get("at", {}).items():
            at = _Meaning(quantity, Level.parse(where))
            self.exact |= dict.fromkeys(names, at)
        self.long |= dict.fromkeys(entry.get("long_names", ()), key)

    def quantity(self, table: str) -> str:
        return str(self.entries.get(table, {}).get("converts_to", table))

    def surface(self, quantity: str) -> bool:
        return bool(self.entries.get(quantity, {}).get("surface"))


@cache
def _tables() -> _Tables:
    return _Tables()


def _recognise(ds: xr.Dataset, name: str) -> Found | None:
    variable = ds.variables[name]
    attrs = variable.attrs
    meaning, how = _meaning(name, attrs)
    if meaning is None:
        return None
    level_dim = level_dim_of(ds, tuple(str(d) for d in variable.dims))
    if level_dim is not None:
        levels = _levels_along(ds, level_dim)
    else:
        levels = (_single_level(ds, name, meaning),)
    return Found(
        name=name,
        quantity=meaning.quantity,
        levels=levels,
        level_dim=level_dim,
        units=units_of(attrs),
        how=how,
    )


def _meaning(name: str, attrs: Mapping[Any, Any]) -> tuple[_Meaning | None, str]:
    by_name = [(_meaning_of_name(word), how) for word, how in _names_of(name, attrs)]
    standard = text(attrs, "standard_name")
    if standard and standard != "unknown":
        # The standard name says what it is; a name that agrees may say where.
        quantity = canonical_name(standard.split()[0])
        for meaning, _ in by_name:
            if meaning is not None and meaning.quantity == quantity:
                return meaning, "standard_name"
        level = _SURFACE if _tables().surface(quantity) else None
        return _Meaning(quantity, level), "standard_name"
    for meaning, how in by_name:
        if meaning is not None:
            return meaning, how
    table = _tables().long.get(_bare_long_name(attrs))
    if table is None:
        return None, ""
    quantity = _tables().quantity(table)
    return _Meaning(quantity, _SURFACE if _tables().surface(quantity) else None), (
        "long_name"
    )


def _names_of(name: str, attrs: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    yield name, "name"
    for key in ("GRIB_shortName", "short_name", "GRIB_cfVarName"):
        if (word := text(attrs, key)) not in ("", "unknown", "~"):
            yield word, key


def _meaning_of_name(name: str) -> _Meaning | None:
    tables = _tables()
    if name in tables.exact:
        return tables.exact[name]
    # Numbers after a name first: "T2" is in the table, "t850" is not.
    if name.lower() in tables.lower:
        return tables.lower[name.lower()]
    for pattern, kind in _SUFFIXES:
        match = re.search(f"(?:{pattern.pattern})$", name, re.IGNORECASE)
        stem = name[: match.start()] if match else ""
        base = tables.exact.get(stem) or tables.lower.get(stem.lower())
        if match is None or base is None or base.level not in (None, _SURFACE):
            continue
        if base.level == _SURFACE and kind in ("pressure", "height", "bare"):
            continue
        return _with_suffix(base, stem, kind, match)
    return None


def _with_suffix(
    base: _Meaning, stem: str, kind: str | None, match: re.Match[str]
) -> _Meaning | None:
    if kind is None:
        return _Meaning(base.quantity)
    if kind == "surface":
        return _Meaning(base.quantity, _SURFACE)
    value = float(match[1])
    if kind == "height":
        return _Meaning(base.quantity, Level("height", value))
    lowest = (
        1
        if kind == "pressure" or "_" in stem or len(stem) > 5
        else (_LOWEST_BARE_PRESSURE)
    )
    if not lowest <= value <= _HIGHEST_PRESSURE:
        return None
    return _Meaning(base.quantity, Level("pressure", value))


def _strip(name: str) -> str:
    """The name without what stands for a level."""
    for pattern, _ in _SUFFIXES:
        match = re.search(f"(?:{pattern.pattern})$", name, re.IGNORECASE)
        if match and name[: match.start()] in _tables().names:
            return name[: match.start()]
    return name


def _bare_long_name(attrs: Mapping[Any, Any]) -> str:
    """The long name in small letters, without a level at its start or end."""
    clean = re.sub(r"[_\s]+", " ", text(attrs, "long_name").lower())
    return _LEVEL_IN_LONG_NAME.sub("", clean)


def _levels_along(ds: xr.Dataset, dim: str) -> tuple[Level, ...]:
    name = vertical_coordinate(ds, dim)
    if name is None:
        return unknown_levels(ds.sizes[dim])
    return coordinate_levels(ds[name])


def _single_level(ds: xr.Dataset, name: str, meaning: _Meaning) -> Level:
    """The level of a variable without a dimension of levels."""
    if meaning.level == _SURFACE:
        return _SURFACE
    # "u950" with the comment "sigma level 0.95" is not at 950 hPa; but a scalar
    # coordinate of a dataset (after ``ds.sel(level=850)``) does not move its u10.
    written = _level_in(ds.variables[name].attrs)
    return written or meaning.level or _scalar_level(ds, name) or _UNKNOWN


def _level_in(attrs: Mapping[Any, Any]) -> Level | None:
    for key in ("level", "comment", "level_desc"):
        if (word := text(attrs, key)) and (level := text_level(word)):
            return level
    return text_level(text(attrs, "long_name"), within=True)


def _scalar_level(ds: xr.Dataset, name: str) -> Level | None:
    for key, coord in ds[name].coords.items():
        if coord.ndim == 0 and is_vertical(str(key), coord.attrs):
            levels = coordinate_levels(coord)
            if levels[0].kind != "unknown":
                return levels[0]
    return None
