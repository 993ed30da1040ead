"""``xatmo compare RECIPE...``: train alike, score alike, and tell all of it.

The comparison of the AtmoDist paper as one command: networks that differ in their
objective alone, beside plain methods, on every score, whichever way it comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xatmo.errors import OptionError
from xatmo.training.downscale.evaluate import EXAMPLE, evaluate
from xatmo.training.downscale.page import score_page, tables_of
from xatmo.training.downscale.recipe import DownscaleRecipe, read_recipe
from xatmo.training.downscale.release import draft_model, drafts
from xatmo.training.logs import learning_curve
from xatmo.training.recipe import Source, task
from xatmo.training.rescore import keyed
from xatmo.training.run import train

__all__ = ["compare", "comparison_page", "comparison_tables"]


def compare(
    recipes: Sequence[str | Path],
    *,
    data: Sequence[Source] = (),
    out: str | Path = "runs",
    realizations: int = 8,
    seed: int = 7,
    progress: bool = False,
) -> dict[str, Any]:
    """Train what is not trained yet, and score all of it on the same data.

    Parameters
    ----------
    recipes : sequence of path
        In an order in which each finds the weights it begins with. Runs that were
        interrupted go on.
    data : sequence of Source, optional
        What to score on; the ``evaluation`` data of all recipes if not given.
    out : path
        Runs go into ``<out>/<name>``.
    realizations : int
        Of networks that read noise.
    seed : int
        Of noise and of the variogram's places; the same for all.
    progress : bool
        Show progress bars.

    Returns
    -------
    dict
        ``recipes``: what was trained; ``data``: a result of
        :func:`~xatmo.training.downscale.evaluate.evaluate` for each data set.

    Raises
    ------
    xatmo.errors.OptionError
        If a recipe trains no downscaling network, or there are no data to score on.
    """
    told = {str(path): _read(path) for path in recipes}
    sources = list(data) or _evaluation(list(told.values()))
    for path, recipe in told.items():
        if not _is_trained(recipe, Path(out)):
            train(path, out=out, progress=progress)
    models = [draft_model(path, out) for path in told]
    results = {}
    with drafts(models):
        for key, source in keyed(sources):
            results[key] = evaluate(
                models,
                source,
                realizations=realizations,
                folder=Path(out) / "compare",
                seed=seed,
                progress=progress,
            )
    return {
        "recipes": {path: _facts(recipe, Path(out)) for path, recipe in told.items()},
        "data": results,
    }


def comparison_page(result: dict[str, Any]) -> str:
    """Return the whole comparison as Markdown."""
    parts = ["# " + " / ".join(r["name"] for r in result["recipes"].values())]
    parts += [
        f"- `{path}`: {r['title']}; {r['epochs']} epochs, seed {r['seed']}"
        for path, r in result["recipes"].items()
    ]
    return "\n\n".join([*parts, *map(score_page, result["data"].values())]) + "\n"


def comparison_tables(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a recipe's ``comparison`` reads: tables for a model's page."""
    return [table for told in result["data"].values() for table in tables_of(told)]


def without_maps(result: dict[str, Any]) -> dict[str, Any]:
    """Return what is worth keeping as JSON: the maps are for figures alone."""
    data = {
        key: {name: value for name, value in told.items() if name != EXAMPLE}
        for key, told in result["data"].items()
    }
    return {**result, "data": data}


def _read(path: str | Path) -> DownscaleRecipe:
    if task(path) == "downscale":
        return read_recipe(path)
    msg = f"{path} trains no network that downscales."
    raise OptionError(
        msg,
        found=f'task = "{task(path)}"',
        needed='recipes with task = "downscale"',
        hint="xatmo compare train/downscale/compare-mse.toml ...",
    )


def _evaluation(recipes: Sequence[DownscaleRecipe]) -> list[Source]:
    sources = list(dict.fromkeys(s for recipe in recipes for s in recipe.evaluation))
    if sources:
        return sources
    msg = "There are no data to compare on."
    raise OptionError(
        msg,
        found="no [[data.evaluation]] in any of the recipes",
        needed="data that no recipe was trained on",
        hint="--data FILE, or [[data.evaluation]] in a recipe",
    )


def _is_trained(recipe: DownscaleRecipe, out: Path) -> bool:
    """Whether all epochs are done."""
    run = out / recipe.name
    if not (run / "checkpoints" / "last.ckpt").exists():
        return False
    return len(learning_curve(run)) >= recipe.optimizer.epochs


def _facts(recipe: DownscaleRecipe, out: Path) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "title": recipe.title,
        "objective": vars(recipe.objective),
        "epochs": len(learning_curve(out / recipe.name)),
        "seed": recipe.optimizer.seed,
    }
