"""From the recipe of a network that fills a hole to what Lightning trains."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from xatmo.training.data import NumberedData
from xatmo.training.downscale.run import on_data, prepare_all, zscore
from xatmo.training.hole.module import HoleFiller
from xatmo.training.hole.recipe import HoleRecipe, read_recipe
from xatmo.training.run import Job

__all__ = ["begin"]


def begin(path: Path, asked: Callable[[Any, Any], Any], out: Path) -> Job:
    """Prepare the data of a recipe; ``asked`` changes it as the call wants."""
    recipe: HoleRecipe = asked(read_recipe(path), on_data)
    folder = out / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    levels, patches, held_out = prepare_all(recipe, folder)
    s = recipe.optimizer
    data = NumberedData(
        patches,
        held_out,
        batch_size=s.batch_size,
        steps=s.steps_per_epoch,
        held_out=s.validation_crops,
    )
    normalizers = [zscore(constants) for constants in levels.values()]
    module = partial(
        HoleFiller, normalizers=normalizers, recipe=recipe, levels=list(levels)
    )
    return Job(recipe, folder, levels, module, data, "crops")
