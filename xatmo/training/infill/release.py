"""From a finished run of a network that fills gaps to a model: a draft, or released."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from xatmo.training import releasing
from xatmo.training.checkpoints import check_unchanged
from xatmo.training.infill.calibrate import fit_spread_factor, seen_ranges
from xatmo.training.infill.evaluate import evaluate
from xatmo.training.infill.figures import save_figures, save_learning
from xatmo.training.infill.page import model_page, short
from xatmo.training.infill.recipe import InfillRecipe, read_recipe
from xatmo.training.infill.run import sampler_of
from xatmo.training.release import drafts, head_of, last_checkpoint, saved
from xatmo.training.releasing import Task
from xatmo.training.rescore import Telling, keyed
from xatmo.training.run import build_network, network_state
from xatmo.zoo import Model, write_card

__all__ = ["draft_model", "release", "rescore", "scores_of"]
_RADIUS = 64  # points beyond which no observation says anything


def scores_of(
    model: Model,
    recipe: InfillRecipe,
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
            for key, source in keyed(recipe.evaluation)
        }


def draft_model(
    recipe_path: str | Path, out: str | Path = "runs", *, ranges: bool = True
) -> Model:
    """Make a model of a run's last checkpoint, in the run's own folder.

    It is found by verbs inside :func:`xatmo.training.release.drafts` only.

    Parameters
    ----------
    recipe_path : path
        The recipe that was trained.
    out : path
        Where the run is.
    ranges : bool
        Describe the training data in the card, for warnings.

    Raises
    ------
    xatmo.errors.OptionError
        If it was not trained, or as another recipe.
    """
    recipe = read_recipe(recipe_path)
    run = Path(out) / recipe.name
    checkpoint = last_checkpoint(recipe_path, run)
    check_unchanged(recipe, {}, run, "make a model of the recipe that was trained")
    network: Any = build_network(recipe)
    network.load_state_dict(network_state(checkpoint))
    # Made and scored aside, so that a released model is never half of two.
    folder = run / "release" / recipe.name
    card = _card(recipe, network.eval())
    card["infill"] |= _measured(recipe, network, run, ranges)
    card["weights"] = saved(network, folder / "weights.safetensors", card)
    written = write_card(folder / "card.toml", card)
    return Model(written, written.key())


def _measured(
    recipe: InfillRecipe, network: nn.Module, run: Path, ranges: bool
) -> dict[str, Any]:
    """The spread's factor, where the recipe has days for it; what was trained on."""
    told: dict[str, Any] = {}
    if recipe.calibration:
        sampler = sampler_of(recipe, recipe.calibration, run, plain=True)
        told["factor"] = round(fit_spread_factor(network, sampler), 3)
    if ranges:
        told["seen"] = seen_ranges(sampler_of(recipe, recipe.train, run))
    return told


def _card(recipe: InfillRecipe, network: Any) -> dict[str, Any]:
    tables = {k: v for k, v in recipe.card.items() if isinstance(v, dict)}
    grid = {"halo": network.reach, "stride": network.stride}
    return {
        **head_of(recipe),
        "normalization": {"kind": "none"},
        **tables,
        "grid": {**tables.get("grid", {}), **grid},
        "infill": {"radius": _RADIUS, **tables.get("infill", {})},
    }


TASK = Task(
    read_recipe,
    draft_model,
    scores_of,
    Telling(model_page, save_figures, save_learning, short),
)
release, rescore = (partial(f, TASK) for f in (releasing.release, releasing.rescore))
