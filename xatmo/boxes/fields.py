"""Which of a network's fields and levels the user's data hold, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import FieldNotFoundError, LevelError
from xatmo.fields import Found, Level, find_quantities
from xatmo.fields.choose import offers
from xatmo.fields.levels import describe_levels
from xatmo.fields.missing import missing
from xatmo.fields.winds import FROM_WINDS, WINDS
from xatmo.zoo import Card
from xatmo.zoo.card import BoxField, FieldLevel

__all__ = ["Held", "held_channels", "used_and_left_out"]


@dataclass(frozen=True, eq=False)
class Held:
    """A field at one of its levels, and the variable that holds it.

    Parameters
    ----------
    field : BoxField
    level : FieldLevel
    found : Found
        The user's variable; of a field that is derived, the eastward wind.
    level_dim : str or None
        Dimension of levels that results have.
    position, at : int and object
        Which level along the user's dimension it is, and what it is called there.
    """

    field: BoxField
    level: FieldLevel
    found: Found
    level_dim: str | None
    position: int
    at: Any

    @property
    def asked(self) -> Level:
        """The level, as it is asked for in reading."""
        return Level.parse(self.level.level)

    @property
    def derived(self) -> bool:
        """Whether the field is derived from others."""
        return self.found.quantity != self.field.quantity

    @property
    def variable(self) -> str:
        """What results are called."""
        return self.field.quantity if self.derived else self.found.name

    def __str__(self) -> str:
        return f"{self.field.name} at {self.level.level}"


def held_channels(ds: xr.Dataset, card: Card, level: Any) -> list[Held]:
    """Find the fields and levels of a card in a dataset, in the network's order.

    Of several levels that share a slot of the network the first that is there counts.

    Parameters
    ----------
    ds : Dataset
    card : Card
    level : str, number, list or None
        The user's choice; None for all levels.

    Raises
    ------
    xatmo.errors.FieldNotFoundError, xatmo.errors.LevelError
        If there is nothing to read.
    """
    found = find_quantities(ds)
    wanted = _wanted(card, level)
    single = level is not None and len(wanted or ()) == 1 and not _is_list(level)
    channels = []
    for field in card.fields:
        sources = _sources(found, field.quantity, wanted)
        for slot in sorted({lv.slot for lv in field.levels}):
            for lv in (lv for lv in field.levels if lv.slot == slot):
                known = Level.parse(lv.level)
                if known in sources and (wanted is None or known in wanted):
                    own = sources[known]
                    channels.append(_held(ds, field, lv, own, known, single=single))
                    break
    if not channels:
        raise _nothing(ds, found, card, wanted)
    return channels


def used_and_left_out(card: Card, held: Sequence[Held]) -> tuple[list[str], list[str]]:
    """Return in words which fields are read, and which of the card's are not there."""
    there = {(h.field.name, h.level.slot) for h in held}
    absent = []
    for field in card.fields:
        firsts: dict[int, str] = {}
        for lv in field.levels:
            firsts.setdefault(lv.slot, lv.level)
        absent += [
            f"{field.name} at {name}"
            for slot, name in sorted(firsts.items())
            if (field.name, slot) not in there
        ]
    return [str(h) for h in held], absent


def _held(
    ds: xr.Dataset,
    field: BoxField,
    level: FieldLevel,
    own: Found,
    known: Level,
    *,
    single: bool,
) -> Held:
    dim = own.level_dim
    position = own.levels.index(known) if known in own.levels else 0
    if dim is None:
        return Held(field, level, own, None, position, None)
    at = ds[dim].values[position] if dim in ds.indexes else position
    return Held(field, level, own, None if single else dim, position, at)


def _sources(
    found: Mapping[str, Sequence[Found]],
    quantity: str,
    wanted: tuple[Level, ...] | None,
) -> dict[Level, Found]:
    """Level -> the variable that holds a quantity, or the wind it is derived from."""
    sources = {lv: entries[0] for lv, entries in offers(found, quantity).items()}
    if quantity in FROM_WINDS:
        u, v = (offers(found, q) for q in WINDS)
        sources = {lv: u[lv][0] for lv in u if lv in v} | sources
    # The file does not say its level; the user does.
    unsaid = len(sources) == 1 and all(lv.kind == "unknown" for lv in sources)
    if unsaid and wanted is not None and len(wanted) == 1:
        return {wanted[0]: next(iter(sources.values()))}
    return sources


def _wanted(card: Card, level: Any) -> tuple[Level, ...] | None:
    if level is None:
        return None
    several = list(level) if _is_list(level) else [level]
    wanted = tuple(
        Level.parse(one.item() if isinstance(one, np.generic | np.ndarray) else one)
        for one in several
    )
    known = _levels(card)
    strange = [lv for lv in wanted if lv not in known]
    if wanted and not strange:
        return wanted
    what = describe_levels(strange) if strange else "a list without levels"
    msg = f"{card.name} does not know {what}."
    raise LevelError(
        msg,
        found=f"level={level!r}",
        needed=f"some of {describe_levels(known, 12)}",
        hint=f'level="{known[0]}"',
    )


def _is_list(level: Any) -> bool:
    if isinstance(level, np.ndarray):
        return level.ndim > 0
    return isinstance(level, list | tuple)


def _levels(card: Card) -> list[Level]:
    texts = [lv.level for field in card.fields for lv in field.levels]
    return list(dict.fromkeys(Level.parse(text) for text in texts))


def _nothing(
    ds: xr.Dataset,
    found: Mapping[str, Sequence[Found]],
    card: Card,
    wanted: tuple[Level, ...] | None,
) -> FieldNotFoundError | LevelError:
    """What to say of data of which the network can read nothing."""
    held = {f: _sources(found, f.quantity, None) for f in card.fields}
    held = {f: sources for f, sources in held.items() if sources}
    if not held:
        said = missing(ds, found, card.fields[0].quantity)
        names = ", ".join(f.quantity for f in card.fields)
        msg = f"The data hold none of the fields that {card.name} reads."
        needed = f"one or more of {names}"
        return FieldNotFoundError(msg, found=said.found, needed=needed, hint=said.hint)
    have = list(dict.fromkeys(lv for sources in held.values() for lv in sources))
    known = _levels(card) if wanted is None else list(wanted)
    names = ", ".join(f.quantity for f in held)
    unsaid = all(lv.kind == "unknown" for lv in have)
    msg = f"The data hold no level that {card.name} reads."
    hint = f"select or interpolate one of {describe_levels(known)}"
    if wanted is not None and (there := [lv for lv in _levels(card) if lv in have]):
        msg = f"The data have no {describe_levels(wanted)}."
        hint = f'level="{there[0]}"'
    elif unsaid:
        msg = "The data do not say what level they are at."
        hint = f'level="{known[0]}", if that is where they are'
    return LevelError(
        msg,
        found=f"{names} at {describe_levels(have)}",
        needed=f"one or more of {describe_levels(known, 12)}",
        hint=hint,
    )
