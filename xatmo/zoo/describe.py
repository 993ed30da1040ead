"""A card in words: the repr of a model, and what `xatmo models show` prints."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from xatmo.zoo.card import Box, BoxField, Card, Grid, Leads, Level
from xatmo.zoo.fetch import where

__all__ = ["describe", "describe_html"]


def describe(card: Card) -> str:
    """Return the card as lines of text."""
    rows = list(_rows(card))
    width = max(len(label) for label, _ in rows)
    lines = [f"{label.ljust(width)}  {value}".rstrip() for label, value in rows]
    return "\n".join([f"<xatmo model {card.name} {card.version}>", card.title, *lines])


def describe_html(card: Card) -> str:
    """Return the card as an HTML table, for notebooks."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(label)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for label, value in _rows(card)
    )
    name = html.escape(f"{card.name} {card.version}")
    title = html.escape(card.title)
    return f"<div><b>xatmo model {name}</b><br>{title}<table>{rows}</table></div>"


def _rows(card: Card) -> Iterator[tuple[str, str]]:
    yield "can", ", ".join(card.capabilities)
    if card.inputs:
        yield "inputs", ", ".join(f"{i.quantity} [{i.units}]" for i in card.inputs)
        yield "levels", ", ".join(map(_level, card.levels))
    elif card.fields:
        yield from ((f"field {field.name}", _field(field)) for field in card.fields)
    else:
        yield "inputs", "any quantity, at any level"
    yield "grid", _grid(card.grid)
    if card.box is not None:
        yield "box", _box(card, card.box)
    if card.leads is not None:
        yield "leads", _leads(card.leads)
    if card.time is not None:
        yield "time step", card.time.step
        if card.time.lags:
            yield "lags", f"{', '.join(map(str, card.time.lags))} h"
    if card.layers is not None:
        for name in card.layers.names:
            stride, features = card.layers.stride[name], card.layers.features[name]
            yield f"layer {name}", f"{features} features, every {stride} grid points"
    if card.downscale is not None:
        reads = ", ".join(card.downscale.statics)
        yield (
            "refines",
            f"{card.downscale.factor} times" + (f", reads {reads}" if reads else ""),
        )
    if card.infill is not None and card.box is None:
        yield "trusted", f"within {card.infill.radius} grid points of an observation"
    for name, score in _flat(card.scores):
        if ".methods." not in name:  # the model's page has them in a table
            yield f"score {name}", score
    for name, value in _flat(card.training):
        yield f"training {name}", value
    weights = card.weights
    yield "weights", f"{weights.file}, {weights.size / 1e6:.1f} MB, {where(card)}"
    yield "sha256", weights.sha256
    yield "licence", card.licence
    yield "citation", card.citation


def _level(level: Level) -> str:
    notes = ["constants fitted to your data"] if level.fitted else []
    notes += [] if level.trained else ["not trained"]
    return f"{level.level} ({', '.join(notes)})" if notes else level.level


def _field(field: BoxField) -> str:
    """Quantity and levels; those that share a slot of the network are alternatives."""
    slots: dict[int, list[str]] = {}
    for level in field.levels:
        note = "" if level.trained else " (not trained)"
        slots.setdefault(level.slot, []).append(f"{level.level}{note}")
    levels = ", ".join(" or ".join(slots[slot]) for slot in sorted(slots))
    return f"{field.quantity} [{field.units}] at {levels}"


def _box(card: Card, box: Box) -> str:
    text = f"times every {box.step}"
    if "forecast" in card.capabilities:
        text += f", forecasts {box.ahead} of them at once"
    sizes = [(f["tokens"], f["token_size"]) for f in card.network.get("fields", ())]
    if not sizes:
        return text
    times, rows, columns = (n * size for n, size in zip(*sizes[0], strict=True))
    return f"{times} {text}; {rows} x {columns} points"


def _leads(leads: Leads) -> str:
    trained = f"{leads.shortest} to {leads.longest} h"
    return f"told how far ahead to look; trained with {trained}, every {leads.step}"


def _grid(grid: Grid) -> str:
    low, high = (f"{value:g}" for value in grid.spacing)
    text = f"{low} to {high} degrees, at least {grid.patch[0]} x {grid.patch[1]} points"
    if grid.halo == "global":
        text += ", sees the whole field"
    else:
        text += f", sees {grid.halo} points around"
    if grid.latitude_limit is not None:
        text += f", trained up to latitude {grid.latitude_limit:g}"
    return text + (", Gaussian grids too" if grid.gaussian else "")


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
