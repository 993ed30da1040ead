"""From a finished run of a network that fills gaps to a model: a draft, or released."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from xatmo.training.checkpoints import check_unchanged
from xatmo.training.infill.calibrate import fit_spread_factor, seen_ranges
from xatmo.training.infill.evaluate import evaluate
from xatmo.training.infill.figures import save_figures, save_learning
from xatmo.training.infill.page import model_page, short
from xatmo.training.infill.recipe import InfillRecipe, read_recipe
from xatmo.training.infill.run import sampler_of
from xatmo.training.logs import write_curve
from xatmo.training.release import drafts, head_of, last_checkpoint, saved
from xatmo.training.rescore import Telling, keyed, publish, rescored, write_scores
from xatmo.training.run import build_network, network_state
from xatmo.zoo import Card, Model, write_card

__all__ = ["draft_model", "release", "rescore", "scores_of"]

TELLING = Telling(model_page, save_figures, save_learning, short)
_RADIUS = 64  # points beyond which no observation says anything


def release(
    recipe_path: str | Path,
    *,
    out: str | Path = "runs",
    models: str | Path = "models",
    times: int | None = None,
    progress: bool = False,
) -> Path:
    """Write ``models/<name>/`` from the last checkpoint of a run.

    Parameters
    ----------
    recipe_path : path
        The recipe that was trained.
    out, models : path
        Where the run is, and where the model goes.
    times : int, optional
        How many are scored of each data set; see
        :func:`~xatmo.training.infill.evaluate.evaluate`.
    progress : bool
        Show progress bars.

    Returns
    -------
    Path
        The model's folder: ``weights.safetensors``, ``card.toml``, and the scores on
        the recipe's ``evaluation`` data: ``README.md``, ``scores.json``, ``figures``.
    """
    recipe = read_recipe(recipe_path)
    model = draft_model(recipe_path, out)
    folder = model.card.folder
    assert folder is not None  # noqa: S101 - it was just written
    scores = scores_of(model, recipe, out, times, progress)
    curve = write_curve(Path(out) / recipe.name)
    write_scores(folder, scores, recipe, recipe_path, curve, TELLING)
    return publish(folder, Path(models) / recipe.name)


def rescore(
    folder: str | Path,
    recipe_path: str | Path,
    *,
    out: str | Path = "runs",
    times: int | None = None,
    progress: bool = False,
) -> Path:
    """Measure a released model again: its weights stay, its scores are written anew.

    Parameters as for :func:`release`; ``folder`` is the model's.
    """
    recipe = read_recipe(recipe_path)

    def measure(card: Card) -> dict[str, Any]:
        return scores_of(Model(card, card.key()), recipe, out, times, progress)

    return rescored(Path(folder), recipe, recipe_path, out, measure, TELLING)


def scores_of(
    model: Model,
    recipe: InfillRecipe,
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
