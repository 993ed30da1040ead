"""Which models fit which data: asked by every verb, and by the accessor's repr."""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xatmo.errors import AtmoError, ExtrapolationWarning, GridError
from xatmo.fields import Axes, Fields, Grid, Level, read
from xatmo.zoo import Card, Model, load_model
from xatmo.zoo.card import Level as CardLevel

__all__ = ["Prepared", "card_level", "grid_problem", "prepare", "why_not"]

# A grid is what its spacing says to within this share: 0.7 is not 0.703125.
_TOLERANCE = 0.02


@dataclass(frozen=True)
class Prepared:
    """A user's data as a model reads them, and that model."""

    fields: Fields
    model: Model

    @property
    def card(self) -> Card:
        """The model's card."""
        return self.model.card


def prepare(
    obj: Any,
    model: str | Model | None,
    *,
    capability: str,
    level: Any = None,
    warn: bool = True,
) -> Prepared:
    """Find the model, read its inputs from the data, and check that they fit.

    With ``warn`` False nothing is said of levels that the model was not trained at:
    somebody else has.

    Raises
    ------
    xatmo.errors.AtmoError
        What is missing or does not fit, before anything is computed.
    """
    found = load_model(model, capability=capability)
    card = found.card
    fields = read(
        obj,
        [i.quantity for i in card.inputs],
        levels=[Level.parse(lv.level) for lv in card.levels],
        level=level,
    )
    problem = grid_problem(fields.grid, fields.axes, card)
    if problem:
        raise problem
    if warn:
        _warn_untrained(fields, card)
    return Prepared(fields, found)


def card_level(card: Card, level: Level) -> CardLevel:
    """Return the card's entry for a level that ``read`` has accepted."""
    return next(lv for lv in card.levels if Level.parse(lv.level) == level)


def why_not(obj: Any, card: Card) -> AtmoError | None:
    """Return what keeps a model from reading these data, or None if it can."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fields = read(
                obj,
                [i.quantity for i in card.inputs],
                levels=[Level.parse(lv.level) for lv in card.levels],
            )
    except AtmoError as error:
        return error
    return grid_problem(fields.grid, fields.axes, card)


def grid_problem(grid: Grid, axes: Axes, card: Card) -> GridError | None:
    """Return what is wrong with a grid for a model: spacing, size or kind."""
    fine, coarse = card.grid.spacing
    lat, lon = grid.spacing
    found = f"{grid.latitude.size} x {grid.longitude.size} points, {lat:g} x {lon:g}°"
    spacing = f"a spacing between {fine:g} and {coarse:g}°"
    patch = f"at least one patch: {card.grid.patch[0]} x {card.grid.patch[1]} points"
    if max(lat, lon) > coarse * (1 + _TOLERANCE):
        msg = f"The grid is too coarse for {card.name}."
        interp = _interp(grid, axes, card)
        hint = f"take finer data, or interpolate (no detail is added): {interp}"
        return GridError(msg, found=found, needed=spacing, hint=hint)
    factors = _factors(grid, card)
    if not _has_patch(grid, card, factors):
        msg = f"The domain is too small for {card.name}."
        needed = patch if factors == (1, 1) else f"{patch}, at {spacing}"
        return GridError(msg, found=found, needed=needed, hint="select a larger region")
    if factors != (1, 1):
        msg = f"The grid is too fine for {card.name}."
        hint = (
            f"ds.coarsen({axes.latitude}={factors[0]}, {axes.longitude}={factors[1]}, "
            "boundary='trim').mean()"
        )
        return GridError(msg, found=found, needed=spacing, hint=hint)
    if grid.gaussian and not card.grid.gaussian:
        msg = f"{card.name} does not read Gaussian grids."
        return GridError(
            msg,
            found=f"{found}, Gaussian latitudes",
            needed="equally spaced latitudes",
            hint=_interp(grid, axes, card),
        )
    return None


def _factors(grid: Grid, card: Card) -> tuple[int, int]:
    """Rows and columns to average so that the spacing is in range: (1, 1) if it is.

    Into the middle of the range if the domain is large enough, else as little as will
    do.
    """
    fine, coarse = card.grid.spacing
    if min(grid.spacing) >= fine * (1 - _TOLERANCE):
        return 1, 1
    middle = (fine * coarse) ** 0.5
    rows, columns = (max(1, round(middle / step)) for step in grid.spacing)
    if _has_patch(grid, card, (rows, columns)):
        return rows, columns
    least = fine * (1 - _TOLERANCE)
    rows, columns = (max(1, math.ceil(least / step)) for step in grid.spacing)
    return rows, columns


def _has_patch(grid: Grid, card: Card, factors: tuple[int, int]) -> bool:
    sizes = (grid.latitude.size, grid.longitude.size)
    blocks = (n // f for n, f in zip(sizes, factors, strict=True))
    return all(n >= m for n, m in zip(blocks, card.grid.patch, strict=True))


def _interp(grid: Grid, axes: Axes, card: Card) -> str:
    """The call that interpolates to a spacing in range, within what the data cover."""
    fine, coarse = card.grid.spacing
    step = (fine * coarse) ** 0.5
    names = (axes.latitude, axes.longitude)
    parts = []
    for name, x in zip(names, (grid.user_latitude, grid.user_longitude), strict=True):
        low, high = float(x.min()), float(x.max())
        count = math.ceil((high - low) / step) + 1
        first, last = (low, high) if x[0] < x[-1] else (high, low)
        parts.append(f"{name}=np.linspace({first:.8g}, {last:.8g}, {count})")
    return f"ds.interp({', '.join(parts)})"


def _warn_untrained(fields: Fields, card: Card) -> None:
    new = [str(level) for level in fields.levels if not card_level(card, level).trained]
    if new:
        trained = ", ".join(lv.level for lv in card.levels if lv.trained)
        warnings.warn(
            f"{card.name} was trained at {trained}; at {', '.join(new)} only its "
            "normalisation is known: read the results as extrapolation",
            ExtrapolationWarning,
            stacklevel=_outside(),
        )


def _outside() -> int:
    """Return the stack level of the user's own line, however deep the call is."""
    package = str(Path(__file__).parent)
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    return level
