"""Which variables, at which levels, a model gets: all its inputs at the same ones.

A quantity is *offered* at a level by a variable that holds it, or by two winds from
which it follows. The levels that all wanted quantities are offered at are narrowed by
what the user asks for and what the model knows; whatever stays open is an error here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import xarray as xr

from xatmo.errors import FieldNotFoundError, LevelError
from xatmo.fields.levels import Level, describe_levels
from xatmo.fields.names import Found

__all__ = ["Choice", "WINDS", "choose", "derivable"]

WINDS = ("eastward_wind", "northward_wind")
_FROM_WINDS = ("atmosphere_relative_vorticity", "divergence_of_wind")

Offers = dict[Level, list[Found]]


@dataclass(frozen=True)
class Choice:
    """The variables to read.

    Parameters
    ----------
    levels : tuple of Level
        What all quantities are read at; one ``surface`` for surface fields alone.
    asked : tuple of Level
        What these levels are called by: the user's word where the data have none.
    direct, derived : dict
        Quantity -> the variable at each level; derived ones have a pair of winds.
    as_dim : bool
        Whether the result has a dimension of levels.
    notes : tuple of str
    """

    levels: tuple[Level, ...]
    asked: tuple[Level, ...]
    direct: dict[str, dict[Level, Found]]
    derived: dict[str, dict[Level, tuple[Found, Found]]]
    as_dim: bool
    notes: tuple[str, ...] = field(default=())


def derivable(found: Mapping[str, Sequence[Found]]) -> tuple[str, ...]:
    """Return the quantities that are not there but follow from winds that are."""
    u, v = (offers(found, q) for q in WINDS)
    if not u.keys() & v.keys():
        return ()
    return tuple(q for q in _FROM_WINDS if q not in found)


def choose(
    ds: xr.Dataset,
    found: Mapping[str, Sequence[Found]],
    quantities: Sequence[str],
    levels: Sequence[Level] | None,
    level: object,
) -> Choice:
    """Choose variables and levels for ``quantities``.

    Raises
    ------
    xatmo.errors.FieldNotFoundError
        If a quantity is missing, or two variables claim to be it.
    xatmo.errors.LevelError
        If there is no common level, or not one that was asked for or is known.
    """
    offered = {q: _offered(found, q) for q in quantities}
    for quantity, offer in offered.items():
        if not offer:
            raise _missing(ds, found, quantity)
    common = _common(offered)
    if not common:
        raise _no_common(offered)
    picked = _picked(level)
    if picked is not None:
        chosen, asked = _pick(common, picked, levels)
    else:
        chosen = asked = _acceptable(ds, found, offered, common, levels)
    as_dim = isinstance(level, list | tuple) or (
        picked is None and (len(chosen) > 1 or _along_dim(found, quantities, chosen))
    )
    direct, derived = _sources(found, quantities, chosen)
    notes = ()
    if chosen != asked:
        notes = (f"the data name no level; taken as {asked[0]} as asked",)
    return Choice(chosen, asked, direct, derived, as_dim, notes)


def offers(found: Mapping[str, Sequence[Found]], quantity: str) -> Offers:
    """Return level -> the variables that hold a quantity there."""
    table: Offers = {}
    for entry in found.get(quantity, ()):
        for level in entry.levels:
            table.setdefault(level, []).append(entry)
    return table


def _offered(found: Mapping[str, Sequence[Found]], quantity: str) -> list[Level]:
    """Levels at which a quantity is there or can be derived, in the data's order."""
    levels = list(offers(found, quantity))
    if quantity in _FROM_WINDS:
        u, v = (offers(found, q) for q in WINDS)
        levels += [level for level in u if level in v and level not in levels]
    return levels


def _common(offered: Mapping[str, list[Level]]) -> list[Level]:
    """Levels of all quantities; surface fields go with any level."""
    surface = Level("surface")
    profiles = [levels for levels in offered.values() if levels != [surface]]
    if not profiles:
        return [surface]
    return [lv for lv in profiles[0] if all(lv in other for other in profiles)]


def _picked(level: object) -> tuple[Level, ...] | None:
    if level is None:
        return None
    several = level if isinstance(level, list | tuple) else [level]
    return tuple(Level.parse(item) for item in several)


def _pick(
    common: list[Level], picked: tuple[Level, ...], levels: Sequence[Level] | None
) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    strange = [lv for lv in picked if levels is not None and lv not in levels]
    if strange:
        msg = f"The model does not know {describe_levels(strange)}."
        raise LevelError(
            msg,
            found=f"level={_literal(picked)}",
            needed=f"one of {describe_levels(levels or ())}",
            hint=f"level={_literal(tuple(levels or ())[:1])}",
        )
    if len({lv.kind for lv in picked}) > 1:
        msg = "Levels of different kinds cannot be read together."
        raise LevelError(
            msg,
            found=f"level={_literal(picked)}",
            needed="pressures only, or heights only",
            hint=f"level={_literal(picked[:1])}, then the others in calls of their own",
        )
    if all(lv in common for lv in picked):
        return picked, picked
    if len(picked) == 1 and [lv for lv in common if lv.kind == "unknown"] == common:
        # The file does not say; the user does.
        if len(common) == 1:
            return tuple(common), picked
    msg = f"The data have no {describe_levels(lv for lv in picked if lv not in common)}."
    known = [lv for lv in common if levels is None or lv in levels]
    raise LevelError(
        msg,
        found=describe_levels(common),
        needed=f"level={_literal(picked)}",
        hint=f"level={_literal((known or common)[:1])}",
    )


def _acceptable(
    ds: xr.Dataset,
    found: Mapping[str, Sequence[Found]],
    offered: Mapping[str, list[Level]],
    common: list[Level],
    levels: Sequence[Level] | None,
) -> tuple[Level, ...]:
    if common == [Level("surface")]:
        return tuple(common)
    if levels is None:
        kinds = {lv.kind for lv in common}
        if len(kinds) > 1:
            raise _open(common)
        return tuple(common)
    first = next((lv for lv in levels if lv in common), None)
    if first is None:
        raise _unacceptable(ds, found, offered, common, levels)
    # All of the kind that the model likes best, in the order of the data.
    kind = [lv for lv in common if lv.kind == first.kind]
    strange = [lv for lv in kind if lv not in levels]
    chosen = tuple(lv for lv in kind if lv in levels)
    dim = _dim_of(found, offered, strange) if strange else None
    if dim is not None:
        raise _too_many(ds, dim, strange, chosen, levels)
    return chosen


def _entries(
    found: Mapping[str, Sequence[Found]], quantities: Sequence[str]
) -> list[Found]:
    derived = [q for q in quantities if q in _FROM_WINDS]
    names = [*quantities, *(WINDS if derived else ())]
    return [entry for q in names for entry in found.get(q, ())]


def _dim_of(
    found: Mapping[str, Sequence[Found]],
    quantities: Mapping[str, object] | Sequence[str],
    levels: Sequence[Level],
) -> str | None:
    """Return the dimension of levels on which some of these levels lie."""
    for entry in _entries(found, list(quantities)):
        if entry.level_dim is not None and set(levels) & set(entry.levels):
            return entry.level_dim
    return None


def _along_dim(
    found: Mapping[str, Sequence[Found]],
    quantities: Sequence[str],
    levels: tuple[Level, ...],
) -> bool:
    return _dim_of(found, quantities, levels) is not None


def _sources(
    found: Mapping[str, Sequence[Found]],
    quantities: Sequence[str],
    levels: tuple[Level, ...],
) -> tuple[
    dict[str, dict[Level, Found]], dict[str, dict[Level, tuple[Found, Found]]]
]:
    direct: dict[str, dict[Level, Found]] = {}
    derived: dict[str, dict[Level, tuple[Found, Found]]] = {}
    for quantity in quantities:
        table = offers(found, quantity)
        wanted = [lv for lv in levels if lv in table]
        if not wanted and list(table) == [Level("surface")]:
            wanted = [Level("surface")]
        direct[quantity] = {lv: _only(table[lv], quantity, lv) for lv in wanted}
        rest = [lv for lv in levels if lv not in table] if quantity in _FROM_WINDS else []
        derived[quantity] = {lv: _winds(found, lv) for lv in rest}
    return direct, derived


def _winds(found: Mapping[str, Sequence[Found]], level: Level) -> tuple[Found, Found]:
    u, v = (_only(offers(found, q)[level], q, level) for q in WINDS)
    return u, v


def _only(entries: list[Found], quantity: str, level: Level) -> Found:
    if len(entries) == 1:
        return entries[0]
    names = [entry.name for entry in entries]
    msg = f"Several variables claim to be {quantity} at {level}."
    raise FieldNotFoundError(
        msg,
        found=", ".join(f"{e.name} ({e.units}, by its {e.how})" for e in entries),
        needed="one of them",
        hint=f"ds.drop_vars({names[1]!r})",
    )


def _literal(levels: Sequence[Level]) -> str:
    texts = [f'"{level}"' for level in levels]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _missing(
    ds: xr.Dataset, found: Mapping[str, Sequence[Found]], quantity: str
) -> FieldNotFoundError:
    known = [
        f"{e.name} ({q}, {describe_levels(e.levels, 3)})"
        for q, entries in found.items()
        for e in entries
    ]
    named = {e.name for entries in found.values() for e in entries}
    strange = [str(n) for n in ds.data_vars if n not in named]
    parts = [", ".join(known[:8]) + (", ..." if len(known) > 8 else "")]
    if strange:
        parts.append("not recognised: " + ", ".join(strange[:8]))
    needed, lacking = quantity, quantity
    if quantity in _FROM_WINDS:
        lacking = next((q for q in WINDS if q not in found), WINDS[0])
        needed = f"{quantity}, or eastward_wind and northward_wind at one level"
    msg = f"No variable holds {quantity}."
    name = strange[0] if strange else "name"
    return FieldNotFoundError(
        msg,
        found="; ".join(p for p in parts if p) or "no variables",
        needed=needed,
        hint=f'add it, or if it is there: ds["{name}"].attrs["standard_name"] = '
        f'"{lacking}"',
    )


def _no_common(offered: Mapping[str, list[Level]]) -> LevelError:
    msg = "The variables share no level."
    return LevelError(
        msg,
        found="; ".join(f"{q} at {describe_levels(lv)}" for q, lv in offered.items()),
        needed="all of them at the same level",
        hint="open them at one level and xr.merge([...]) the results",
    )


def _open(common: Sequence[Level]) -> LevelError:
    msg = "The data have levels of several kinds."
    clear = [lv for lv in common if lv.kind != "unknown"] or list(common)
    return LevelError(
        msg,
        found=describe_levels(common),
        needed="a choice between them",
        hint=f"level={_literal(clear[:1])}",
    )


def _unacceptable(
    ds: xr.Dataset,
    found: Mapping[str, Sequence[Found]],
    offered: Mapping[str, list[Level]],
    common: Sequence[Level],
    levels: Sequence[Level],
) -> LevelError:
    accepted = describe_levels(levels)
    if all(lv.kind == "unknown" for lv in common):
        dim = _dim_of(found, offered, list(common))
        msg = "The data do not say what level they are at."
        hint = f"level={_literal(levels[:1])}, if that is where they are"
        if dim is not None and len(common) > 1:
            hint = f'ds["{dim}"].attrs["units"] = "hPa", if it is a pressure'
        return LevelError(
            msg, found=describe_levels(common), needed=f"one of {accepted}", hint=hint
        )
    msg = "The model knows none of the levels of the data."
    return LevelError(
        msg,
        found=describe_levels(common),
        needed=f"one of {accepted}",
        hint=f"select or interpolate one of {accepted}, or choose another model",
    )


def _too_many(
    ds: xr.Dataset,
    dim: str,
    strange: Sequence[Level],
    chosen: Sequence[Level],
    levels: Sequence[Level],
) -> LevelError:
    hint = f"level={_literal(chosen)}"
    if dim in ds.indexes:
        held = coordinate_values(ds, dim, chosen)
        hint = f"ds.sel({dim}={held}), or {hint}"
    msg = f"The model does not know all levels along {dim!r}."
    return LevelError(
        msg,
        found=f"also {describe_levels(strange)}",
        needed=f"only {describe_levels(levels)}",
        hint=hint,
    )


def coordinate_values(ds: xr.Dataset, dim: str, levels: Sequence[Level]) -> list[object]:
    """Return the values that levels have in the user's own coordinate."""
    from xatmo.fields.levels import coordinate_levels  # noqa: PLC0415

    held = coordinate_levels(ds[dim])
    values = ds[dim].values.tolist()
    return [values[held.index(level)] for level in levels]
