"""A card in words: the repr of a model, and what `xatmo models show` prints."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from xatmo.zoo.card import Card, Grid, Level
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
    else:
        yield "inputs", "any quantity, at any level"
    yield "grid", _grid(card.grid)
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
    if card.infill is not None:
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
