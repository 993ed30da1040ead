"""``xatmo evaluate MODEL --data FILE``: how well a siamese model tells time lags apart.

Three questions. Does it name the lag of a pair, and for which lags, seasons and
latitudes? How does its distance grow with the lag, beside plain distances? And is it
larger for the longer of two lags, which plain distances can be asked as well?
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from xatmo.errors import (
    AtmoError,
    FieldNotFoundError,
    GridError,
    LevelError,
    OptionError,
)
from xatmo.fields import Level, read
from xatmo.matching import card_level, prepare
from xatmo.training.prepare import open_source, prepare_source
from xatmo.training.recipe import Sampling, Source
from xatmo.training.sampling import FieldStore
from xatmo.training.scores.curves import curves, fit_alpha
from xatmo.training.scores.draws import Draws
from xatmo.training.scores.naming import Answers, classification
from xatmo.training.scores.ordering import ordering
from xatmo.training.scores.scorer import Scorer
from xatmo.training.scores.spaces import ORDERED, Spaces
from xatmo.training.source import said
from xatmo.zoo import Card, Model, load_model, normalizer

__all__ = [
    "Scorer",
    "classification",
    "evaluate",
    "fit_alpha",
    "ordering",
    "sampling_of",
    "write_json",
]

_WINDS = ("eastward_wind", "northward_wind")


def evaluate(
    model: str | Model,
    data: Iterable[Source],
    *,
    pairs: int = 24_000,
    triplets: int = 12_000,
    reference: Iterable[Source] = (),
    folder: str | Path = "runs/evaluate",
    seed: int = 7,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a released model on data.

    Pairs and triplets of patches are drawn at random times and places, with lags that
    the model knows; lags of which the data have no pair are left out and named.

    Parameters
    ----------
    model : str or Model
        A model that compares pairs.
    data : iterable of Source
        Files or stores that xarray opens and xatmo reads, at one level.
    pairs, triplets : int
        How many are drawn.
    reference : iterable of Source
        Data that the EOFs and scales of plain distances are taken from, as far as they
        are at the level of ``data``; ``data`` itself if there are none (which favours
        the EOFs).
    folder : path
        Prepared data are kept there.
    seed : int
        Of the draws.
    progress : bool
        Show a progress bar on the standard error stream.

    Returns
    -------
    dict
        ``classification``, ``curves`` and ``ordering``, ready for JSON; see
        :mod:`xatmo.training.scores` for what is in them.

    Raises
    ------
    xatmo.errors.FieldError
        If the model cannot read the data, or they hold fewer than two of its lags.
    """
    _check_counts(pairs=pairs, triplets=triplets)
    found = load_model(model, capability="distance")
    sources = list(data)
    draws, level, winds = _draws(found, sources, folder, seed)
    others = _at(level, found, list(reference))
    basis = draws
    if others:
        # The reference must offer what the data are compared in.
        basis, _, has_winds = _draws(found, others, folder, seed + 1, level)
        winds = winds if has_winds else None
    basis = Draws(basis.stores, basis.sampling, seed + 1)
    scorer = Scorer(
        found.network(), normalizer(found.card, card_level(found.card, level))
    )
    spaces = Spaces(scorer, basis, len(found.card.inputs), winds)
    with tqdm(total=pairs + triplets, unit="patch", disable=not progress) as bar:
        named, grown = _on_pairs(scorer, draws, spaces, pairs, bar)
        ordered = _on_triplets(draws, spaces, triplets, bar)
    return {
        "model": f"{found.card.name} {found.card.version}",
        "sha256": found.card.weights.sha256,
        "data": [said(source) for source in sources],
        "level": str(level),
        "level_trained": card_level(found.card, level).trained,
        "reference": [said(source) for source in others] or "the data themselves",
        "seed": seed,
        "patch": list(draws.sampling.patch),
        "latitude_limit": draws.sampling.latitude_limit,
        "lags_missing_hours": draws.missing_hours,
        "classification": named,
        "curves": grown,
        "ordering": ordered,
    }


def sampling_of(card: Card) -> Sampling:
    """Return how a model was trained: lags, patch and latitudes, from its card.

    Raises
    ------
    xatmo.errors.OptionError
        If the card names no equally spaced lags to score.
    """
    lags = card.time.lags if card.time else ()
    if not lags or list(lags) != [lags[0] * (i + 1) for i in range(len(lags))]:
        msg = f"{card.name} cannot be evaluated: it names no time lags."
        raise OptionError(
            msg,
            found=f"lags {list(lags)}" if lags else "no lags in its card",
            needed="classes of equally spaced lags, [time] lags in card.toml",
            hint="xatmo models list, for another model",
        )
    return Sampling(
        step_hours=lags[0],
        n_lags=len(lags),
        patch=card.grid.patch,
        latitude_limit=card.grid.latitude_limit or 90.0,
        mirror=False,
    )


def write_json(result: dict[str, Any], path: str | Path) -> None:
    """Write scores, readable by people as well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", "utf-8")


# --- The data -----------------------------------------------------------------------


def _draws(
    model: Model,
    sources: list[Source],
    folder: str | Path,
    seed: int,
    level: Level | None = None,
) -> tuple[Draws, Level, tuple[int, int] | None]:
    """Prepare sources; winds, if all have them, come behind the model's inputs."""
    inputs = [i.quantity for i in model.card.inputs]
    told, levels = [], []
    for source in sources:
        one = replace(source, level=str(level)) if level else source
        levels.append(_level(model, one))
        told.append(replace(one, level=str(levels[-1])))
    _check_one(levels)
    quantities = inputs
    if all(_has_winds(source) for source in told):
        quantities = inputs + [w for w in _WINDS if w not in inputs]
    paths = [prepare_source(s, quantities, Path(folder)) for s in told]
    draws = Draws([FieldStore(p) for p in paths], sampling_of(model.card), seed)
    winds = None
    if set(_WINDS) <= set(quantities):
        winds = (quantities.index(_WINDS[0]), quantities.index(_WINDS[1]))
    return draws, levels[0], winds


def _level(model: Model, source: Source) -> Level:
    """Check that a model reads a source, and return the level it is read at."""
    ds = open_source(source)
    try:
        levels = _read_at(ds, model, source.level, warn=False)
    except GridError as error:
        raise _with_coarsen(error, model, source) from error
    _check_one(levels)
    _read_at(ds, model, str(levels[0]), warn=True)
    return levels[0]


def _read_at(
    ds: xr.Dataset, model: Model, level: str | None, *, warn: bool
) -> tuple[Level, ...]:
    return prepare(
        ds, model, capability="distance", level=level, warn=warn
    ).fields.levels


def _at(level: Level, model: Model, sources: list[Source]) -> list[Source]:
    """Those of some sources that have a level; an error if none of them has."""
    kept = []
    for source in sources:
        try:
            _read_at(open_source(source), model, str(level), warn=False)
        except LevelError:
            continue
        kept.append(source)
    if sources and not kept:
        names = ", ".join(said(source) for source in sources)
        msg = "None of the reference data are at the level that is scored."
        raise LevelError(
            msg,
            found=names,
            needed=f"data at {level}",
            hint="a reference at that level, or none",
        )
    return kept


def _has_winds(source: Source) -> bool:
    try:
        read(open_source(source), _WINDS, level=source.level)
    except (FieldNotFoundError, LevelError):
        return False
    return True


def _check_one(levels: Iterable[Level]) -> None:
    names = list(dict.fromkeys(str(level) for level in levels))
    if len(names) > 1:
        msg = "The data have several levels; a score is of one."
        raise LevelError(
            msg,
            found=", ".join(names),
            needed="a choice between them",
            hint=f'level="{names[0]}"',
        )


def _with_coarsen(error: GridError, model: Model, source: Source) -> GridError:
    """The same, naming the coarsening that this model reads, if there is one."""
    for factor in _factors(error, source):
        try:
            other = open_source(replace(source, coarsen=factor))
            _read_at(other, model, source.level, warn=False)
        except AtmoError:
            continue
        hint = f"coarsen={factor} for block means of {factor} x {factor} points"
        return GridError(
            error.problem, found=error.found, needed=error.needed, hint=hint
        )
    return error


def _factors(error: GridError, source: Source) -> range:
    """Coarser if the grid is too fine, finer if that has made it too small."""
    if source.coarsen > 1:
        return range(source.coarsen - 1, 0, -1)
    return range(2, 17) if "too fine" in error.problem else range(0)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            msg = f"{name} cannot be {count}."
            raise OptionError(
                msg,
                found=f"{name}={count}",
                needed="a positive number",
                hint=f"{name}=2000, for a first look",
            )


# --- The scores ---------------------------------------------------------------------


def _on_pairs(
    scorer: Scorer, draws: Draws, spaces: Spaces, count: int, bar: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Name the lags of pairs, and measure every distance of the same pairs."""
    plan = draws.pairs(count)
    probability, distances = [], []
    for drawn in draws.read(plan):
        first, second = (spaces.states(x) for x in drawn.states)
        probability.append(scorer.probabilities(first.features, second.features))
        distances.append(spaces.between(first, second))
        bar.update(len(first.fields))
    label = plan.lags[:, 0]
    answers = Answers(
        np.concatenate(probability), label, plan.block, plan.month, plan.latitude
    )
    hours = _hours(draws.sampling)
    return classification(answers, hours), curves(_joined(distances), label, hours)


def _on_triplets(draws: Draws, spaces: Spaces, count: int, bar: Any) -> dict[str, Any]:
    """Ask every distance which of two later states is the farther one."""
    plan = draws.triplets(count)
    closer = []
    for drawn in draws.read(plan):
        zero, near, far = (spaces.states(x) for x in drawn.states)
        one, other = spaces.between(zero, near), spaces.between(zero, far)
        closer.append({k: one[k] < other[k] for k in ORDERED if k in one})
        bar.update(len(zero.fields))
    return ordering(
        _joined(closer), plan.lags + 1, plan.block, draws.sampling.step_hours
    )


def _hours(sampling: Sampling) -> list[int]:
    return [sampling.step_hours * (i + 1) for i in range(sampling.n_lags)]


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
