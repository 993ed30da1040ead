"""``xatmo compare`` for ClimaX: several networks, ahead or finer, on the same data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xatmo.training.climax.evaluate import evaluate
from xatmo.training.climax.finer import score_finer
from xatmo.training.climax.page import score_page
from xatmo.training.climax.recipe import ClimaXRecipe, read_recipe
from xatmo.training.climax.release import draft_model, scene_name, scenes_of_sources
from xatmo.training.comparing import (
    evaluation_data,
    facts,
    opening,
    read_all,
    train_all,
    without_maps,
)
from xatmo.training.modelpage import comparison
from xatmo.training.recipe import Source
from xatmo.training.release import drafts

__all__ = ["compare", "comparison_page", "comparison_tables", "without_maps"]


def compare(
    recipes: Sequence[str | Path],
    *,
    data: Sequence[Source] = (),
    out: str | Path = "runs",
    times: int | None = None,
    seed: int = 7,
    progress: bool = False,
) -> dict[str, Any]:
    """Train what is not trained yet, and score all of it on the same data.

    Parameters
    ----------
    recipes : sequence of path
        With ``task = "climax"``: all look ahead, or all make fields finer.
    data : sequence of Source, optional
        What to score on; the ``evaluation`` data of all recipes if not given.
    out : path
        Runs go into ``<out>/<name>``.
    times : int, optional
        How many are scored of each data set.
    seed : int
        Of the points that linear regression is fitted on.
    progress : bool
        Show progress bars.

    Returns
    -------
    dict
        ``recipes``: what was trained; ``data``: the scores on each data set, ready for
        JSON.

    Raises
    ------
    xatmo.errors.OptionError
        If a recipe is of another task, or there are no data to score on.
    """
    read = {"does": "reads any variables", "example": "train/climax/small.toml"}
    told: dict[str, ClimaXRecipe] = read_all(recipes, "climax", read_recipe, **read)
    every = list(told.values())
    scenes = scenes_of_sources(data or evaluation_data(every))
    train_all(told, Path(out), progress)
    if every[0].sampling.factor > 1:
        scored = {
            scene_name(scene): score_finer(every, scene, Path(out), times=times)
            for scene in scenes
        }
    else:
        models = [draft_model(path, out) for path in told]
        reference = scenes_of_sources(every[0].train)
        said: dict[str, Any] = {"times": times, "seed": seed, "progress": progress}
        with drafts(models):
            scored = {
                scene_name(scene): evaluate(models, scene, reference=reference, **said)
                for scene in scenes
            }
    runs = {path: facts(recipe, Path(out)) for path, recipe in told.items()}
    return {"recipes": runs, "data": scored}


def comparison_page(result: dict[str, Any]) -> str:
    """Return the whole comparison as Markdown."""
    parts = opening(result)
    for told in result["data"].values():
        if "finer" not in told:
            parts.append(score_page(told))
    return "\n\n".join([*parts, *map(comparison, comparison_tables(result))]) + "\n"


def comparison_tables(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one table for each data set, as a recipe's ``comparison`` has them."""
    return [_finer_table(told) for told in result["data"].values() if "finer" in told]


def _finer_table(told: dict[str, Any]) -> dict[str, Any]:
    rows = [
        [
            f"{row['variable']} ({row['units']})",
            row["by"],
            f"{row['rmse']:.4g}",
            f"{row['pearson']:.4f}",
            f"{row['bias']:+.3g}",
        ]
        for row in told["finer"]
    ]
    columns = ["variable", "by", "RMSE", "correlation", "mean bias"]
    title = f"Finer by {told['factor']}: {'; '.join(told['data'])}"
    return {"title": title, "columns": columns, "rows": rows}
