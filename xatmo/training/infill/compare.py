"""``xatmo compare RECIPE...`` for networks that fill gaps: what the parts are worth.

Networks that differ in one thing are trained alike and fill the same gaps. They are
scored on what the recipes hold out for validation: who chooses among networks by the
data of the final scores has none left.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xatmo.training.comparing import (
    evaluation_data,
    facts,
    opening,
    read_all,
    train_all,
    without_maps,
)
from xatmo.training.infill.evaluate import evaluate
from xatmo.training.infill.page import score_page, tables_of
from xatmo.training.infill.recipe import read_recipe
from xatmo.training.infill.release import draft_model
from xatmo.training.recipe import Source
from xatmo.training.release import drafts
from xatmo.training.rescore import keyed

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
    """Train what is not trained yet, and score all of it on the same gaps.

    Parameters
    ----------
    recipes : sequence of path
        With ``task = "infill"``; runs that were interrupted go on.
    data : sequence of Source, optional
        What to score on; the ``validation`` data of all recipes if not given.
    out : path
        Runs go into ``<out>/<name>``.
    times : int, optional
        How many are scored of each data set.
    seed : int
        Of the gaps; the same for all.
    progress : bool
        Show progress bars.

    Returns
    -------
    dict
        ``recipes``: what was trained; ``data``: a result of
        :func:`~xatmo.training.infill.evaluate.evaluate` for each data set, of the
        networks alone.

    Raises
    ------
    xatmo.errors.OptionError
        If a recipe trains no network that fills gaps, or there are no data to score
        on.
    """
    told = read_all(
        recipes,
        "infill",
        read_recipe,
        does="fills gaps",
        example="train/infill/recipe.toml",
    )
    sources = list(data) or evaluation_data(list(told.values()), "validation")
    train_all(told, Path(out), progress)
    models = [draft_model(path, out, ranges=False) for path in told]
    results = {}
    with drafts(models):
        for key, source in keyed(sources):
            results[key] = evaluate(
                models,
                source,
                methods=(),
                times=times,
                folder=Path(out) / "compare",
                seed=seed,
                progress=progress,
            )
    return {
        "recipes": {path: facts(recipe, Path(out)) for path, recipe in told.items()},
        "data": results,
    }


def comparison_page(result: dict[str, Any]) -> str:
    """Return the whole comparison as Markdown."""
    pages = map(score_page, result["data"].values())
    return "\n\n".join([*opening(result), *pages]) + "\n"


def comparison_tables(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a recipe's ``comparison`` reads: tables for a model's page."""
    titles = "; ".join(
        f"`{r['name']}`: {r['title']}" for r in result["recipes"].values()
    )
    return [
        {**table, "note": f"{table['note']} {titles}."}
        for told in result["data"].values()
        for table in tables_of(told)
    ]
