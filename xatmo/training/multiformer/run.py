"""From the recipe of a Multiformer to what Lightning trains."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from xatmo.nets.multiformer_fields import FieldSpec
from xatmo.training.checks import hold_out
from xatmo.training.constants import Constants, fit_constants, table_of
from xatmo.training.data import NumberedData
from xatmo.training.multiformer.coupling import load_fields
from xatmo.training.multiformer.finer import finer_constants, load_coarse
from xatmo.training.multiformer.finer_module import FinerBoxes
from xatmo.training.multiformer.finer_sampling import FinerSampler
from xatmo.training.multiformer.module import MaskedBoxes
from xatmo.training.multiformer.recipe import MultiformerRecipe, read_recipe
from xatmo.training.multiformer.sampling import BoxSampler
from xatmo.training.recipe import Source
from xatmo.training.run import Job, load_initial
from xatmo.training.sampling import BLOCK_SECONDS, FieldStore
from xatmo.training.scenes import prepared, scenes_of

__all__ = ["begin", "constants_of", "fitted", "sampler_of"]


def begin(path: Path, asked: Callable[[Any, Any], Any], out: Path) -> Job:
    """Prepare the data of a recipe; ``asked`` changes it as the call wants."""
    recipe: MultiformerRecipe = asked(read_recipe(path), on_data)
    folder = out / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    stores = prepared(recipe, recipe.train, folder)
    constants = constants_of(recipe, stores, folder)
    train = sampler_of(recipe, recipe.train, stores, constants)
    held_out = None
    if recipe.validation:
        kept = prepared(recipe, recipe.validation, folder)
        held_out = sampler_of(recipe, recipe.validation, kept, constants, plain=True)
    s = recipe.optimizer
    data = NumberedData(
        train,
        held_out,
        batch_size=s.batch_size,
        steps=s.steps_per_epoch,
        held_out=s.validation_boxes,
        workers=s.workers,
    )
    kind = FinerBoxes if recipe.factor > 1 else MaskedBoxes
    module = partial(kind, recipe=recipe, numbers=train.numbers)
    return Job(
        recipe,
        folder,
        table_of(constants),
        module,
        data,
        "boxes",
        leaves_out=True,
        initial=partial(_begin_with, recipe=recipe, out=out),
    )


def _begin_with(network: nn.Module, recipe: MultiformerRecipe, out: Path) -> None:
    """Give a network the weights that the recipe names: of a run, and of fields."""
    if recipe.factor > 1:
        load_coarse(network, recipe, out)
    elif recipe.init_from:
        load_initial(network, recipe.init_from, out)
    load_fields(network, recipe, out)


def on_data(recipe: MultiformerRecipe, source: Source) -> MultiformerRecipe:
    """Return the recipe on one data set, its last part held out behind three days."""
    gap = dt.timedelta(seconds=BLOCK_SECONDS)
    source = replace(source, quantities=recipe.train[0].quantities)
    train, validation = hold_out(source, gap, least=dt.timedelta(days=1))
    return replace(recipe, train=train, validation=validation)


def constants_of(
    recipe: MultiformerRecipe, stores: Sequence[FieldStore], folder: Path
) -> Constants:
    """Return the constants of what the network reads; ``folder`` is the run's."""
    if recipe.factor > 1:
        return finer_constants(recipe, stores, folder)
    return fitted(recipe, stores)


def fitted(recipe: MultiformerRecipe, stores: Sequence[FieldStore]) -> Constants:
    """Measure the constants of the training data."""
    monthly = recipe.normalization.by == "month"
    return fit_constants(recipe.fields, recipe.train, stores, monthly=monthly)


def sampler_of(
    recipe: MultiformerRecipe,
    sources: Sequence[Source],
    stores: Sequence[FieldStore],
    constants: Constants,
    *,
    plain: bool = False,
) -> BoxSampler:
    """Join sources to scenes, and draw boxes from them."""
    monthly: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]] = constants
    scenes = scenes_of(sources, stores, recipe.fields, monthly)
    if plain:
        scenes = [replace(scene, weight=1.0) for scene in scenes]
    specs = [FieldSpec.of(field) for field in recipe.network["fields"]]
    kind: Callable[..., BoxSampler] = BoxSampler
    if recipe.factor > 1:
        kind = partial(FinerSampler, factor=recipe.factor)
    return kind(
        scenes,
        recipe.fields,
        {spec.name: (spec.box, spec.token_size) for spec in specs},
        recipe.sampling,
        recipe.masking,
        seed=recipe.optimizer.seed + plain,
        plain=plain,
    )
