"""From a finished run of a downscaling network to a model: a draft, or released."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xatmo.fields.names import canonical_units
from xatmo.training.checkpoints import check_unchanged
from xatmo.training.downscale.calibrate import fit_noise_scale, scale_noise
from xatmo.training.downscale.evaluate import evaluate
from xatmo.training.downscale.figures import save_figures, save_learning
from xatmo.training.downscale.module import Downscaler
from xatmo.training.downscale.page import model_page, short
from xatmo.training.downscale.recipe import DownscaleRecipe, read_recipe
from xatmo.training.downscale.run import crops_as_they_are, zscore
from xatmo.training.logs import write_curve
from xatmo.training.release import drafts, head_of, last_checkpoint, saved
from xatmo.training.rescore import Telling, keyed, publish, rescored, write_scores
from xatmo.training.run import build_network, network_state
from xatmo.zoo import Card, Model, load_model, write_card

__all__ = [
    "draft_model",
    "models_of",
    "release",
    "rescore",
    "scores_of",
]

TELLING = Telling(model_page, save_figures, save_learning, short)
_STATICS = ("land_area_fraction",)  # in the order in which a network reads them


def release(
    recipe_path: str | Path,
    *,
    out: str | Path = "runs",
    models: str | Path = "models",
    realizations: int = 8,
    progress: bool = False,
) -> Path:
    """Write ``models/<name>/`` from the last checkpoint of a run.

    Parameters
    ----------
    recipe_path : path
        The recipe that was trained.
    out, models : path
        Where the run is, and where the model goes.
    realizations : int
        How many the scores are measured on.
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
    scores = scores_of(model, recipe, out, realizations, progress)
    write_scores(
        folder,
        scores,
        recipe,
        recipe_path,
        write_curve(Path(out) / recipe.name),
        TELLING,
    )
    return publish(folder, Path(models) / recipe.name)


def rescore(
    folder: str | Path,
    recipe_path: str | Path,
    *,
    out: str | Path = "runs",
    realizations: int = 8,
    progress: bool = False,
) -> Path:
    """Measure a released model again: its weights stay, its scores are written anew.

    Parameters as for :func:`release`; ``folder`` is the model's.
    """
    recipe = read_recipe(recipe_path)

    def measure(card: Card) -> dict[str, Any]:
        model = Model(card, card.key())
        return scores_of(model, recipe, out, realizations, progress)

    return rescored(Path(folder), recipe, recipe_path, out, measure, TELLING)


def scores_of(
    model: Model,
    recipe: DownscaleRecipe,
    out: str | Path,
    realizations: int,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a model on each of its recipe's evaluation data.

    Beside plain methods, and beside what the recipe names as ``against`` in ``[card]``:
    recipes of runs with the same ``--out``, or released models.
    """
    scores = {}
    several = [model, *models_of(recipe.card.get("against", ()), out)]
    with drafts(several):
        for key, source in keyed(recipe.evaluation):
            scores[key] = evaluate(
                several,
                source,
                realizations=realizations,
                folder=Path(out) / recipe.name / "data",
                progress=progress,
            )
    return scores


def draft_model(recipe_path: str | Path, out: str | Path = "runs") -> Model:
    """Make a model of a run's last checkpoint, in the run's own folder.

    It is found by verbs inside :func:`drafts` only.

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
    levels = json.loads((run / "run.json").read_text("utf-8"))["levels"]
    check_unchanged(recipe, levels, run, "make a model of the recipe that was trained")
    network = build_network(recipe)
    network.load_state_dict(network_state(checkpoint))
    told = _calibrated(recipe, network, levels, run)
    # Made and scored aside, so that a released model is never half of two.
    folder = run / "release" / recipe.name
    card = _card(recipe, network.eval(), levels)
    card["training"] = {**card.get("training", {}), **told}
    card["weights"] = saved(network, folder / "weights.safetensors", card)
    written = write_card(folder / "card.toml", card)
    return Model(written, written.key())


def models_of(names: Sequence[str], out: str | Path = "runs") -> list[Model]:
    """Return models by name, or by the recipe (``*.toml``) of a run."""
    return [
        draft_model(name, out)
        if str(name).endswith(".toml")
        else load_model(name, capability="downscale")
        for name in names
    ]


def _calibrated(
    recipe: DownscaleRecipe, network: Any, levels: dict[str, Any], run: Path
) -> dict[str, float]:
    """Scale the noise where the recipe has days for it; what the card tells of that."""
    if not recipe.calibration:
        return {}
    crops = crops_as_they_are(recipe, recipe.calibration, list(levels), run)
    normalizers = [zscore(constants) for constants in levels.values()]
    scale = fit_noise_scale(Downscaler(network, normalizers, recipe), crops)
    scale_noise(network, scale)
    return {"noise_scale": round(scale, 3)}


def _card(
    recipe: DownscaleRecipe, network: Any, levels: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    tables = {k: v for k, v in recipe.card.items() if isinstance(v, dict)}
    return {
        **head_of(recipe),
        "inputs": [
            {"quantity": q, "units": canonical_units(q)} for q in recipe.quantities
        ],
        "levels": [{"level": name, **values} for name, values in levels.items()],
        "normalization": {"kind": "zscore"},
        **tables,
        "grid": {**tables.get("grid", {}), "halo": network.reach, "stride": 1},
        "downscale": {
            "factor": recipe.factor,
            "statics": list(_STATICS[: network.statics]),
        },
    }
