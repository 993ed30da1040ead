"""The tables of a card that say what a network reads in boxes of space and time."""

from __future__ import annotations

from xatmo.zoo.card import Box, BoxField, FieldLevel
from xatmo.zoo.tables import FLAG, NUMBER, TEXT, Table, listed, number, pattern, whole

__all__ = ["MONTHS", "box_of", "fields_of"]

MONTHS = 12

_STEP = pattern(r"[1-9]\d*(min|h|d)", "a duration such as '6h', '30min' or '1d'")
_NAME = pattern(r"[A-Za-z_][A-Za-z0-9_]*", "letters, digits and '_'")
_FILE = pattern(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors", "a bare '*.safetensors'")
_SHA256 = pattern(r"[0-9a-f]{64}", "64 hexadecimal digits in lower case")


def fields_of(root: Table) -> tuple[BoxField, ...]:
    """Read ``[[fields]]``: nothing if the card has ``[[inputs]]``."""
    root.asked.add("fields")
    if "fields" not in root.values:
        return ()
    if {"inputs", "levels"} & set(root.values):
        root.refuse("fields", "no [[inputs]] and [[levels]] beside [[fields]]")
    root.asked |= {"inputs", "levels"}
    fields = tuple(
        BoxField(
            name=table.take("name", _NAME),
            quantity=table.take("quantity", TEXT),
            units=table.take("units", TEXT),
            levels=_levels(table),
        )
        for table in root.tables("fields")
    )
    if len({field.name for field in fields}) < len(fields):
        root.refuse("fields", "every name once")
    return fields


def box_of(root: Table, fields: tuple[BoxField, ...]) -> Box | None:
    """Read ``[box]``, which goes with ``[[fields]]``."""
    root.asked.add("box")
    if not fields:
        if "box" in root.values:
            root.lacks("fields", "tables, [[fields]], since there is a [box]")
        return None
    with root.table("box") as table:
        local = table.take("local", _FILE, None)
        return Box(
            step=table.take("step", _STEP),
            ahead=table.take("ahead", whole(least=1)),
            local=local,
            local_sha256=table.take("local_sha256", _SHA256) if local else None,
        )


def _levels(field: Table) -> tuple[FieldLevel, ...]:
    levels = tuple(
        FieldLevel(
            level=table.take("level", TEXT),
            slot=table.take("slot", whole()),
            mean=table.take("mean", listed(NUMBER, least=1), None),
            std=table.take("std", listed(number(above=0), least=1), None),
            trained=table.take("trained", FLAG, default=True),
        )
        for table in field.tables("levels")
    )
    if len({level.level for level in levels}) < len(levels):
        field.refuse("levels", "every level once")
    for level in levels:
        counts = {len(level.mean or ()), len(level.std or ())}
        if len(counts) > 1 or not counts <= {0, 1, MONTHS}:
            field.refuse("levels", "mean and std: one number each, or one a month")
    return levels
