"""Which models fit which data: asked by every verb, and by the accessor's repr."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xarray as xr

from xatmo.engine.advice import too_small
from xatmo.errors import (
    AtmoError,
    ChunkWarning,
    ExtrapolationWarning,
    FieldNotFoundError,
    LevelError,
)
from xatmo.fields import Fields, Level, as_dataset, find_axes, read, read_grid
from xatmo.gridfit import grid_problem
from xatmo.zoo import Card, Model, list_models, load_model
from xatmo.zoo.card import Level as CardLevel

__all__ = [
    "Prepared",
    "card_level",
    "model_for",
    "outside",
    "prepare",
    "warn_of",
    "warn_of_chunks",
    "why_not",
]

# Constants are for one grid: the spread of a derivative grows with finer spacing.
_SAME_SPACING = 0.02


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
    that is left to :func:`warn_of`.

    Raises
    ------
    xatmo.errors.AtmoError
        What is missing or does not fit, before anything is computed.
    """
    found = load_model(model, capability=capability)
    try:
        fields = _read(obj, found.card, level)
    except FieldNotFoundError:
        default, found = found, model_for(obj, model, capability=capability)
        if found == default:
            raise
        fields = _read(obj, found.card, level)
    card = found.card
    problem = grid_problem(fields.grid, fields.axes, card)
    if problem:
        raise problem
    data = Prepared(_with_notes(fields, card), found)
    if warn:
        warn_of(data)
    return data


def warn_of(data: Prepared) -> None:
    """Say what the model was not trained for, though it reads it; and of chunks."""
    _warn_untrained(data.fields, data.card)
    _warn_other_spacing(data.fields, data.card)
    finer = data.card.downscale.factor**2 if data.card.downscale else 1.0
    warn_of_chunks(list(data.fields.data.values()), growth=finer)


def warn_of_chunks(
    arrays: Sequence[xr.DataArray],
    space: Sequence[str] = ("latitude", "longitude"),
    growth: float = 1.0,
) -> None:
    """Say which chunks would do where those of the data are far too small.

    Parameters
    ----------
    arrays : sequence of DataArray
        With the user's dimensions besides those of ``space``.
    space : sequence of str
    growth : float
        As in :func:`xatmo.engine.advice.too_small`.
    """
    if said := too_small(arrays, space, growth):
        warnings.warn(said, ChunkWarning, stacklevel=outside())


def model_for(obj: Any, model: str | Model | None, *, capability: str) -> Model:
    """Return the model that is named, or the default one that the data are for.

    Where the data lack what the default model reads, a model of the same kind may read
    what they hold: vorticity and divergence in place of winds.
    """
    found = load_model(model, capability=capability)
    if model is None and isinstance(why_not(obj, found.card), FieldNotFoundError):
        sibling = _sibling(obj, found.card, capability)
        return load_model(sibling, capability=capability) if sibling else found
    return found


def _sibling(obj: Any, card: Card, capability: str) -> str | None:
    """Return the model of the default's kind whose inputs the data do hold, if any."""
    for other in list_models(capability):
        if other.architecture == card.architecture and other.name != card.name:
            error = why_not(obj, other)
            # Any other problem is told by the model that comes nearest.
            if not isinstance(error, FieldNotFoundError):
                return other.name
    return None


def card_level(card: Card, level: Level) -> CardLevel:
    """Return the card's entry for a level that ``read`` has accepted."""
    return next(lv for lv in card.levels if Level.parse(lv.level) == level)


def why_not(obj: Any, card: Card) -> AtmoError | None:
    """Return what keeps a model from reading these data, or None if it can."""
    if not card.inputs:
        return _no_map(obj)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fields = _read(obj, card, None)
    except AtmoError as error:
        return error
    return grid_problem(fields.grid, fields.axes, card)


def _no_map(obj: Any) -> AtmoError | None:
    """Return what keeps a model that reads any quantity from finding one on a grid."""
    try:
        ds = as_dataset(obj)
        axes = find_axes(ds)
        read_grid(ds, axes)
    except AtmoError as error:
        return error
    names = {axes.latitude, axes.longitude}
    if any(names <= set(v.dims) and v.dtype.kind == "f" for v in ds.values()):
        return None
    msg = "No variable holds floating-point numbers on the grid."
    return FieldNotFoundError(
        msg,
        found=", ".join(f"{n} ({v.dtype})" for n, v in ds.items()) or "no variables",
        needed=f"floating-point values along {axes.latitude!r} and {axes.longitude!r}",
        hint="select the variables of a field, or ds.astype('float32')",
    )


def _read(obj: Any, card: Card, level: Any) -> Fields:
    quantities = [i.quantity for i in card.inputs]
    known = [Level.parse(lv.level) for lv in card.levels]
    try:
        return read(obj, quantities, levels=known, level=level)
    except LevelError as error:
        if new := _new_levels(obj, quantities, known, level):
            raise _with_way_out(error, new, card) from None
        raise


def _new_levels(
    obj: Any, quantities: list[str], known: list[Level], level: Any
) -> list[Level]:
    """Return the levels of the data, if the model knows none and could learn of all."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            levels = read(obj, quantities, level=level).levels
    except AtmoError:
        return []
    able = all(lv not in known and lv.kind != "unknown" for lv in levels)
    return list(levels) if able else []


def _with_way_out(error: LevelError, levels: list[Level], card: Card) -> LevelError:
    """The same error, naming also the calls by which a model learns of a level."""
    # Of several the one nearest the ground, which the models come nearest to.
    level = min(levels, key=_above_ground)
    fit = f"xatmo.fit_normalization(ds, {card.name!r}, level='{level}')"
    call = f"model=xatmo.load_model({card.name!r}).with_normalization({fit})"
    if len(levels) > 1:
        call += f", level='{level}'"
    return LevelError(
        error.problem,
        found=error.found,
        needed=error.needed,
        hint=f"{error.hint}; or measure its constants: {call}",
    )


def _above_ground(level: Level) -> float:
    value = level.value or 0.0
    return value if level.kind == "height" else -value


def _with_notes(fields: Fields, card: Card) -> Fields:
    fitted = [str(lv) for lv in fields.levels if card_level(card, lv).fitted]
    if not fitted:
        return fields
    note = f"normalisation at {', '.join(fitted)} fitted to the user's data"
    return replace(fields, notes=(*fields.notes, note))


def _warn_untrained(fields: Fields, card: Card) -> None:
    used = [card_level(card, level) for level in fields.levels]
    trained = ", ".join(lv.level for lv in card.levels if lv.trained)
    new = [lv for lv in used if not lv.trained]
    groups = (
        ([lv for lv in new if not lv.fitted], "only its normalisation is known"),
        ([lv for lv in new if lv.fitted], "only its normalisation was fitted"),
    )
    for levels, what in groups:
        if levels:
            warnings.warn(
                f"{card.name} was trained at {trained}; at "
                f"{', '.join(lv.level for lv in levels)} {what}: read the results as "
                "extrapolation",
                ExtrapolationWarning,
                stacklevel=outside(),
            )


def _warn_other_spacing(fields: Fields, card: Card) -> None:
    for level in fields.levels:
        fitted = card_level(card, level).fitted
        pairs = zip(fitted or (), fields.grid.spacing, strict=bool(fitted))
        if any(abs(x - y) > _SAME_SPACING * x for x, y in pairs):
            warnings.warn(
                f"The constants at {level} were fitted on a grid of "
                f"{_degrees(fitted)}, and these data have "
                f"{_degrees(fields.grid.spacing)}: fit them again on these",
                ExtrapolationWarning,
                stacklevel=outside(),
            )


def _degrees(spacing: tuple[float, float] | None) -> str:
    return " x ".join(f"{step:g}" for step in spacing or ()) + "°"


def outside() -> int:
    """Return the stack level of the user's own line, however deep the call is."""
    package = str(Path(__file__).parent)
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    return level
