"""From the recipe of projections to what Lightning trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from xatmo.training.data import NumberedData
from xatmo.training.projection.initial import begin_with
from xatmo.training.projection.module import Projector
from xatmo.training.projection.recipe import (
    ProjectionRecipe,
    folder_of,
    on_data,
    read_recipe,
)
from xatmo.training.projection.windows import (
    WindowSampler,
    constants_of,
    read_training,
)
from xatmo.training.run import Job

__all__ = ["begin"]


def begin(path: Path, asked: Callable[[Any, Any], Any], out: Path) -> Job:
    """Read the data of a recipe; ``asked`` changes it as the call wants."""
    recipe: ProjectionRecipe = asked(read_recipe(path), on_data)
    train, held_out = read_training(recipe, folder_of(recipe))
    constants = constants_of(train, recipe.variables)
    folder = out / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    s = recipe.optimizer
    if not s.steps_per_epoch:
        s = replace(s, steps_per_epoch=-(-len(train) // s.batch_size))
        recipe = replace(recipe, optimizer=s)
    drawn, kept, count = WindowSampler(train, constants, s.seed), None, 0
    if held_out:
        count = -(-len(held_out) // s.batch_size) * s.batch_size  # whole batches
        kept = WindowSampler(held_out, constants, s.seed, plain=True)
    data = NumberedData(
        drawn, kept, batch_size=s.batch_size, steps=s.steps_per_epoch, held_out=count
    )
    latitude, _ = recipe.places
    initial = None
    if recipe.init_from:
        initial = partial(begin_with, recipe=recipe, out=out, folder=folder)
    module = partial(Projector, settings=s, latitude=latitude)
    return Job(recipe, folder, constants, module, data, "windows", initial=initial)
