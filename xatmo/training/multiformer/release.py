"""From a finished run of a Multiformer to a model: a draft, or released."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xatmo.fields.names import canonical_units
from xatmo.nets.multiformer_fields import FieldSpec
from xatmo.nets.multiformer_surgery import couple
from xatmo.training import releasing
from xatmo.training.checkpoints import check_unchanged
from xatmo.training.constants import (
    Constants,
    short,
    table_of,
)
from xatmo.training.multiformer.calibrate import calibrate
from xatmo.training.multiformer.evaluate import evaluate
from xatmo.training.multiformer.figures import save_figures, save_learning
from xatmo.training.multiformer.finer_release import finer_task
from xatmo.training.multiformer.page import model_page, short_scores
from xatmo.training.multiformer.recipe import (
    MultiformerRecipe,
    read_recipe,
    released_part,
)
from xatmo.training.multiformer.run import constants_of, sampler_of
from xatmo.training.release import drafts, head_of, last_checkpoint, saved
from xatmo.training.releasing import Task
from xatmo.training.rescore import Telling, keyed
from xatmo.training.run import build_network, network_state
from xatmo.training.scenes import prepared
from xatmo.zoo import Model, write_card

__all__ = ["draft_model", "release", "rescore", "scores_of"]


def scores_of(
    model: Model,
    recipe: MultiformerRecipe,
    recipe_path: str | Path,
    out: str | Path,
    times: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a model on each of its recipe's evaluation data, beside plain methods."""
    folder = Path(out) / recipe.name / "data"
    with drafts([model]):
        return {
            key: evaluate(model, source, times=times, folder=folder, progress=progress)
            for key, source in keyed(released_part(recipe).evaluation)
        }


def draft_model(recipe_path: str | Path, out: str | Path = "runs") -> Model:
    """Make a model of a run's last checkpoint, in the run's own folder.

    It is found by verbs inside :func:`xatmo.training.release.drafts` only.

    Parameters
    ----------
    recipe_path : path
        The recipe that was trained.
    out : path
        Where the run is.

    Raises
    ------
    xatmo.errors.OptionError
        If it was not trained, or as another recipe.
    """
    recipe = read_recipe(recipe_path)
    run = Path(out) / recipe.name
    checkpoint = last_checkpoint(recipe_path, run)
    stores = prepared(recipe, recipe.train, run)
    constants = constants_of(recipe, stores, run)
    told = table_of(constants)
    check_unchanged(recipe, told, run, "make a model of the recipe that was trained")
    state = network_state(checkpoint)
    recipe, whole = released_part(recipe), recipe
    network: Any = build_network(recipe)
    network.load_state_dict(_part_of(state, whole, recipe))
    if recipe.calibration:
        kept = prepared(recipe, recipe.calibration, run)
        sampler = sampler_of(recipe, recipe.calibration, kept, constants, plain=True)
        calibrate(network, recipe, sampler)
    # Made and scored aside, so that a released model is never half of two.
    folder = run / "release" / recipe.name
    card = _card(recipe, network.eval(), constants)
    network = network.half() if recipe.half_precision else network
    card["weights"] = saved(network, folder / "weights.safetensors", card)
    written = write_card(folder / "card.toml", card)
    return Model(written, written.key())


def _part_of(
    state: dict[str, Any], whole: MultiformerRecipe, part: MultiformerRecipe
) -> dict[str, Any]:
    """Return the weights of the fields that are released."""
    before, after = (
        [FieldSpec.of(field) for field in recipe.network["fields"]]
        for recipe in (whole, part)
    )
    return couple(state, before, after, **whole.heads)


def _card(
    recipe: MultiformerRecipe, network: Any, constants: Constants
) -> dict[str, Any]:
    tables = {k: v for k, v in recipe.card.items() if isinstance(v, dict)}
    finer = {"downscale": {"factor": recipe.factor}} if recipe.factor > 1 else {}
    # Tokens may differ from field to field: the coarsest cells are those of all.
    strides = [max(spec.token_size[1:]) for spec in network.fields.values()]
    grid = {"stride": max(strides), "halo": max(network.box[1:])}
    return {
        **head_of(recipe),
        "fields": [_field(field, constants) for field in recipe.fields],
        "normalization": {"kind": "zscore"},
        "box": {
            "step": f"{recipe.sampling.step_hours}h",
            "ahead": recipe.masking.ahead,
        },
        "layers": _layers(network, max(strides)),
        **finer,
        **tables,
        "grid": {**tables.get("grid", {}), **grid},
    }


def _field(field: Any, constants: Constants) -> dict[str, Any]:
    levels = [
        _level(level, slot, constants[field.name, level])
        for slot, names in enumerate(field.slots)
        for level in names
        if (field.name, level) in constants
    ]
    return {
        "name": field.name,
        "quantity": field.quantity,
        "units": canonical_units(field.quantity),
        "levels": levels,
    }


def _level(
    level: str, slot: int, constants: tuple[np.ndarray, np.ndarray]
) -> Mapping[str, Any]:
    mean, std = map(short, constants)
    count = max(len(mean), len(std))  # both of months, or neither
    mean, std = (v if len(v) == count else v * count for v in (mean, std))
    return {"level": level, "slot": slot, "mean": mean, "std": std}


def _layers(network: Any, stride: int) -> dict[str, Any]:
    names = [f"encoder{n}" for n in range(network.encoder_layers, 0, -1)]
    width = sum(spec.width for spec in network.fields.values())
    return {
        "names": names,
        "stride": dict.fromkeys(names, stride),
        "features": dict.fromkeys(names, width),
    }


TASK = Task(
    read_recipe,
    draft_model,
    scores_of,
    Telling(model_page, save_figures, save_learning, short_scores),
)


def release(recipe_path: str | Path, **options: Any) -> Path:
    """Release a run: see :func:`xatmo.training.releasing.release`."""
    return releasing.release(_task(recipe_path), recipe_path, **options)


def rescore(folder: str | Path, recipe_path: str | Path, **options: Any) -> Path:
    """Measure a released model: see :func:`xatmo.training.releasing.rescore`."""
    return releasing.rescore(_task(recipe_path), folder, recipe_path, **options)


def _task(recipe_path: str | Path) -> Task:
    """How the model of a recipe is scored and told of: by what it does."""
    return finer_task(draft_model) if read_recipe(recipe_path).factor > 1 else TASK
