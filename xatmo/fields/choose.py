"""Which variables, at which levels, a model gets: all its inputs at the same ones.

A quantity is *offered* at a level by a variable that holds it, or by two winds from
which it follows. The levels that all wanted quantities are offered at are narrowed by
what the user asks for and what the model knows; whatever stays open is an error here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import FieldNotFoundError, LevelError
from xatmo.fields.axes import vertical_coordinate
from xatmo.fields.levels import (
    Level,
    coordinate_values,
    describe_levels,
    example_levels,
)
from xatmo.fields.missing import missing
from xatmo.fields.names import Found, is_surface
from xatmo.fields.winds import FROM_WINDS, WINDS

__all__ = ["Choice", "choose", "derivable"]

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


@dataclass(frozen=True)
class _Question:
    """What the data offer and what the model accepts, seen together."""

    ds: xr.Dataset
    found: Mapping[str, Sequence[Found]]
    offered: dict[str, list[Level]]
    levels: tuple[Level, ...]

    @property
    def common(self) -> tuple[Level, ...]:
        """Levels of all quantities; surface fields go with any level."""
        profiles = [lvs for q, lvs in self.offered.items() if not is_surface(q)]
        if not profiles:
            return (Level("surface"),)
        rest = profiles[1:]
        return tuple(lv for lv in profiles[0] if all(lv in other for other in rest))

    @property
    def unsaid(self) -> bool:
        """Whether the data do not tell what level they are at."""
        return all(lv.kind == "unknown" for lv in self.common)

    def accepts(self, level: Level) -> bool:
        """Whether the model knows a level."""
        return not self.levels or level in self.levels

    def dim_of(self, levels: Sequence[Level]) -> str | None:
        """Return the dimension of levels on which some of these lie."""
        derived = any(q in FROM_WINDS for q in self.offered)
        for quantity in (*self.offered, *(WINDS if derived else ())):
            for entry in self.found.get(quantity, ()):
                if entry.level_dim is not None and set(levels) & set(entry.levels):
                    return entry.level_dim
        return None


def derivable(found: Mapping[str, Sequence[Found]]) -> tuple[str, ...]:
    """Return the quantities that are not there but follow from winds that are."""
    u, v = (offers(found, q) for q in WINDS)
    if not u.keys() & v.keys():
        return ()
    return tuple(q for q in FROM_WINDS if q not in found)


def choose(
    ds: xr.Dataset,
    found: Mapping[str, Sequence[Found]],
    quantities: Sequence[str],
    levels: Sequence[Level] | None,
    level: Any,
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
        if offer:
            continue
        if quantity in FROM_WINDS and all(q in found for q in WINDS):
            raise _no_common({q: list(offers(found, q)) for q in WINDS})
        raise missing(ds, found, quantity)
    question = _Question(ds, found, offered, tuple(levels or ()))
    if not question.common:
        raise _no_common(offered)
    picked = _picked(level)
    notes: tuple[str, ...] = ()
    if picked is None:
        chosen = asked = _acceptable(question)
        if passed := [lv for lv in question.common if lv.kind != chosen[0].kind]:
            read, left = describe_levels(chosen), describe_levels(passed)
            text = f"of several kinds of level {read} read, not {left}; "
            notes = (text + "level= chooses others",)
        as_dim = len(chosen) > 1 or question.dim_of(chosen) is not None
    else:
        chosen, asked = _pick(question, picked), picked
        as_dim = _is_list(level)
        if chosen != asked:
            notes = (f"the data name no level; taken as {asked[0]} as asked",)
    direct, derived = _sources(found, quantities, chosen)
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
    if quantity in FROM_WINDS:
        u, v = (offers(found, q) for q in WINDS)
        levels += [level for level in u if level in v and level not in levels]
    return levels


def _picked(level: Any) -> tuple[Level, ...] | None:
    if level is None:
        return None
    if _is_list(level) and len(level) == 0:
        raise _nothing_picked(level)
    several = list(level) if _is_list(level) else [_number(level)]
    return tuple(dict.fromkeys(Level.parse(item) for item in several))


def _is_list(level: Any) -> bool:
    """Whether several levels are asked for; ``np.array(850)`` is one."""
    if isinstance(level, np.ndarray):
        return level.ndim > 0
    return isinstance(level, list | tuple)


def _number(level: Any) -> Any:
    return level.item() if isinstance(level, np.ndarray) else level


def _pick(question: _Question, picked: tuple[Level, ...]) -> tuple[Level, ...]:
    """Return the levels of the data that the user's choice stands for."""
    strange = [lv for lv in picked if not question.accepts(lv)]
    common = question.common
    if strange:
        raise _unknown_to_model(question, picked, strange)
    if len({lv.kind for lv in picked}) > 1:
        raise _mixed(picked)
    if all(lv in common for lv in picked):
        return picked
    if question.unsaid and len(picked) == len(common) == 1:
        return common  # the file does not say; the user does
    if question.unsaid:
        raise _unsaid(question, picked)
    raise _not_there(question, picked)


def _acceptable(question: _Question) -> tuple[Level, ...]:
    """Return all levels of the kind that the model likes best, in the data's order."""
    common, levels = question.common, question.levels
    if all(is_surface(q) for q in question.offered):
        return common
    if not levels:
        if len({lv.kind for lv in common}) > 1:
            raise _open(common)
        return common
    first = next((lv for lv in levels if lv in common), None)
    if first is None:
        raise _unsaid(question, levels) if question.unsaid else _none_known(question)
    alike = [lv for lv in common if lv.kind == first.kind]
    chosen = tuple(lv for lv in alike if lv in levels)
    strange = [lv for lv in alike if lv not in levels]
    dim = question.dim_of(strange)
    if dim is not None:
        raise _too_many(question, dim, strange, chosen)
    return chosen


def _sources(
    found: Mapping[str, Sequence[Found]],
    quantities: Sequence[str],
    levels: tuple[Level, ...],
) -> tuple[dict[str, dict[Level, Found]], dict[str, dict[Level, tuple[Found, Found]]]]:
    direct: dict[str, dict[Level, Found]] = {}
    derived: dict[str, dict[Level, tuple[Found, Found]]] = {}
    for quantity in quantities:
        table = offers(found, quantity)
        wanted = [lv for lv in levels if lv in table]
        if is_surface(quantity):
            wanted = list(table)[:1]
        direct[quantity] = {lv: _only(table[lv], quantity, lv) for lv in wanted}
        rest = (
            [lv for lv in levels if lv not in table] if quantity in FROM_WINDS else []
        )
        derived[quantity] = {lv: _winds(found, lv) for lv in rest}
    return direct, derived


def _winds(found: Mapping[str, Sequence[Found]], level: Level) -> tuple[Found, Found]:
    u, v = (_only(offers(found, q)[level], q, level) for q in WINDS)
    return u, v


def _only(entries: list[Found], quantity: str, level: Level) -> Found:
    if len(entries) == 1:
        return entries[0]
    names = [entry.name for entry in entries]
    if len(set(names)) == 1:
        raise _twice(entries[0], level)
    msg = f"Several variables claim to be {quantity} at {level}."
    raise FieldNotFoundError(
        msg,
        found=", ".join(f"{e.name} ({e.units}, by its {e.how})" for e in entries),
        needed="one of them",
        hint=f"ds.drop_vars({names[1]!r})",
    )


def _twice(entry: Found, level: Level) -> LevelError:
    msg = f"{entry.name!r} holds {level} more than once."
    return LevelError(
        msg,
        found=describe_levels(entry.levels),
        needed=f"each level along {entry.level_dim!r} once",
        hint=f"ds.drop_duplicates({entry.level_dim!r})",
    )


def _literal(levels: Sequence[Level]) -> str:
    texts = [f'"{level}"' for level in levels]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _no_common(offered: Mapping[str, list[Level]]) -> LevelError:
    msg = "The variables share no level."
    return LevelError(
        msg,
        found="; ".join(f"{q} at {describe_levels(lv)}" for q, lv in offered.items()),
        needed="all of them at the same level",
        hint="open them at one level and xr.merge([...]) the results",
    )


def _nothing_picked(level: Any) -> LevelError:
    msg = "The list of levels is empty."
    return LevelError(
        msg,
        found=f"level={level!r}, nothing",
        needed="one level or more, or no argument at all",
        hint='level="850 hPa"',
    )


def _unknown_to_model(
    question: _Question, picked: Sequence[Level], strange: Sequence[Level]
) -> LevelError:
    msg = f"The model does not know {describe_levels(strange)}."
    usable = [lv for lv in question.levels if lv in question.common]
    return LevelError(
        msg,
        found=f"level={_literal(picked)}",
        needed=f"one of {describe_levels(question.levels)}",
        hint=f"level={_literal((usable or list(question.levels))[:1])}",
    )


def _mixed(picked: Sequence[Level]) -> LevelError:
    msg = "Levels of different kinds cannot be read together."
    return LevelError(
        msg,
        found=f"level={_literal(picked)}",
        needed="pressures only, or heights only",
        hint=f"level={_literal(picked[:1])}, then the others in calls of their own",
    )


def _not_there(question: _Question, picked: Sequence[Level]) -> LevelError:
    absent = [lv for lv in picked if lv not in question.common]
    known = [lv for lv in question.common if question.accepts(lv)]
    msg = f"The data have no {describe_levels(absent)}."
    return LevelError(
        msg,
        found=describe_levels(question.common),
        needed=f"level={_literal(picked)}",
        hint=f"level={_literal((known or list(question.common))[:1])}",
    )


def _open(common: Sequence[Level]) -> LevelError:
    msg = "The data have levels of several kinds."
    clear = [lv for lv in common if lv.kind != "unknown"]
    return LevelError(
        msg,
        found=describe_levels(common),
        needed="a choice between them",
        hint=f"level={_literal(clear[:1])}",
    )


def _unsaid(question: _Question, wanted: Sequence[Level]) -> LevelError:
    dim = question.dim_of(question.common)
    hint = f"level={_literal(wanted[:1])}, if that is where they are"
    if dim is not None and len(question.common) > 1:
        hint = f'ds["{dim}"].attrs["units"] = "hPa", if it is a pressure'
        if vertical_coordinate(question.ds, dim) is None:
            hint = _name_levels(dim, len(question.common))
    msg = "The data do not say what level they are at."
    return LevelError(
        msg,
        found=describe_levels(question.common),
        needed=f"one of {describe_levels(wanted)}",
        hint=hint,
    )


def _name_levels(dim: str, count: int) -> str:
    values, unit = example_levels(dim)
    shown = ", ".join(map(str, values[:count])) + (", ..." if count > 3 else "")
    return f"ds.assign_coords({dim}=[{shown}]), the {count} levels in {unit}"


def _none_known(question: _Question) -> LevelError:
    accepted = describe_levels(question.levels)
    msg = "The model knows none of the levels of the data."
    return LevelError(
        msg,
        found=describe_levels(question.common),
        needed=f"one of {accepted}",
        hint=f"select or interpolate one of {accepted}, or choose another model",
    )


def _too_many(
    question: _Question, dim: str, strange: Sequence[Level], chosen: Sequence[Level]
) -> LevelError:
    hint = f"level={_literal(chosen)}"
    if dim in question.ds.indexes:
        held = coordinate_values(question.ds[dim], chosen)
        hint = f"ds.sel({dim}={held}), or {hint}"
    msg = f"The model does not know all levels along {dim!r}."
    return LevelError(
        msg,
        found=f"also {describe_levels(strange)}",
        needed=f"only {describe_levels(question.levels)}",
        hint=hint,
    )
