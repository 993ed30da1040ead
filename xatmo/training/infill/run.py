"""From the recipe of a network that fills gaps to what Lightning trains."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from xatmo.training.checks import hold_out
from xatmo.training.data import NumberedData
from xatmo.training.infill.module import GapFiller
from xatmo.training.infill.recipe import InfillRecipe, read_recipe
from xatmo.training.infill.series import SeriesSampler
from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import Source
from xatmo.training.run import Job
from xatmo.training.sampling import BLOCK_SECONDS, open_stores

__all__ = ["begin", "sampler_of"]


def begin(path: Path, asked: Callable[[Any, Any], Any], out: Path) -> Job:
    """Prepare the data of a recipe; ``asked`` changes it as the call wants."""
    recipe: InfillRecipe = asked(read_recipe(path), on_data)
    folder = out / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    s = recipe.optimizer
    train = sampler_of(recipe, recipe.train, folder)
    held_out = None
    if recipe.validation:
        held_out = sampler_of(recipe, recipe.validation, folder, plain=True)
    data = NumberedData(
        train,
        held_out,
        batch_size=s.batch_size,
        steps=s.steps_per_epoch,
        held_out=s.validation_pieces,
        workers=s.workers,
    )
    # Nothing is measured of the data: each series is read in its own units.
    levels: dict[str, dict[str, Any]] = {}
    return Job(
        recipe, folder, levels, partial(GapFiller, recipe=recipe), data, "pieces"
    )


def on_data(recipe: InfillRecipe, source: Source) -> InfillRecipe:
    """Return the recipe on one data set, its last part held out behind three days."""
    gap = dt.timedelta(seconds=BLOCK_SECONDS)
    source = replace(source, quantities=recipe.train[0].quantities)
    train, validation = hold_out(source, gap, least=dt.timedelta(days=1))
    return replace(recipe, train=train, validation=validation)


def sampler_of(
    recipe: InfillRecipe,
    sources: tuple[Source, ...],
    folder: Path,
    *,
    plain: bool = False,
) -> SeriesSampler:
    """Prepare sources, and draw from them."""
    paths = [prepare_source(s, s.quantities, folder / "data") for s in sources]
    stores = open_stores(paths, recipe.sampling.cache_mb)
    weights = [1.0 if plain else source.weight for source in sources]
    seed = recipe.optimizer.seed + plain
    return SeriesSampler(stores, weights, recipe.sampling, seed=seed, plain=plain)
