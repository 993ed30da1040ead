"""The tables of a card that say what a network knows, where it does without some."""

from __future__ import annotations

from xatmo.zoo.card import Box, BoxField, Card, FieldLevel, Leads
from xatmo.zoo.tables import FLAG, NUMBER, TEXT, Table, listed, number, pattern, whole

__all__ = ["MONTHS", "box_of", "check_finer", "fields_of", "leads_of"]

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
            levels=_levels(table, leads="leads" in root.values),
        )
        for table in root.tables("fields")
    )
    if len({field.name for field in fields}) < len(fields):
        root.refuse("fields", "every name once")
    variables = [lv.variable for f in fields for lv in f.levels if lv.variable]
    if len(set(variables)) < len(variables):
        root.refuse("fields", "every variable once")
    return fields


def box_of(root: Table, fields: tuple[BoxField, ...]) -> Box | None:
    """Read ``[box]``, which goes with ``[[fields]]`` unless ``[leads]`` does."""
    root.asked.add("box")
    if not fields:
        if "box" in root.values:
            root.lacks("fields", "tables, [[fields]], since there is a [box]")
        return None
    if "leads" in root.values:
        if "box" in root.values:
            root.refuse("box", "no [box] beside [leads]")
        return None
    with root.table("box") as table:
        local = table.take("local", _FILE, None)
        return Box(
            step=table.take("step", _STEP),
            ahead=table.take("ahead", whole(least=1)),
            local=local,
            local_sha256=table.take("local_sha256", _SHA256) if local else None,
        )


def leads_of(root: Table, fields: tuple[BoxField, ...]) -> Leads | None:
    """Read ``[leads]``, which goes with ``[[fields]]`` in place of ``[box]``."""
    root.asked.add("leads")
    if "leads" not in root.values:
        return None
    if not fields:
        root.lacks("fields", "tables, [[fields]], since there is a [leads]")
    with root.table("leads") as table:
        leads = Leads(
            step=table.take("step", _STEP),
            shortest=table.take("shortest", whole(least=1)),
            longest=table.take("longest", whole(least=1)),
        )
        if leads.shortest > leads.longest:
            table.refuse("longest", "at least the shortest")
        return leads


def check_finer(root: Table, card: Card) -> None:
    """Refuse tails of networks of boxes that give another grid than verbs expect.

    Raises
    ------
    xatmo.errors.CardError
    """
    finer = card.network.get("finer", 1)
    if finer != 1 and card.capabilities != ("downscale",):
        root.refuse("capabilities", "'downscale' alone, since [network] has finer")
    if card.downscale is None or "downscale" not in card.capabilities:
        return
    if finer != card.downscale.factor:
        root.refuse("downscale", f"the factor of [network], finer = {finer}")
    if card.downscale.statics:
        root.refuse("downscale", "no statics, which networks of boxes do not read")


def _levels(field: Table, *, leads: bool) -> tuple[FieldLevel, ...]:
    levels = tuple(
        FieldLevel(
            level=table.take("level", TEXT),
            slot=table.take("slot", whole()),
            mean=table.take("mean", listed(NUMBER, least=1), None),
            std=table.take("std", listed(number(above=0), least=1), None),
            trained=table.take("trained", FLAG, default=True),
            variable=table.take("variable", TEXT) if leads else None,
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
