"""``xatmo compare RECIPE...``: train alike, score alike, and tell all of it.

The comparison of the AtmoDist paper as one command: networks that differ in their
objective alone, beside plain methods, on every score, whichever way it comes out.
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
from xatmo.training.downscale.evaluate import evaluate
from xatmo.training.downscale.page import score_page, tables_of
from xatmo.training.downscale.recipe import read_recipe
from xatmo.training.downscale.release import draft_model
from xatmo.training.recipe import Source
from xatmo.training.release import drafts
from xatmo.training.rescore import keyed

__all__ = ["compare", "comparison_page", "comparison_tables", "without_maps"]


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
    told = read_all(
        recipes,
        "downscale",
        read_recipe,
        does="downscales",
        example="train/downscale/compare-mse.toml",
    )
    sources = list(data) or evaluation_data(list(told.values()))
    train_all(told, Path(out), progress)
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
        "recipes": {path: facts(recipe, Path(out)) for path, recipe in told.items()},
        "data": results,
    }


def comparison_page(result: dict[str, Any]) -> str:
    """Return the whole comparison as Markdown."""
    return (
        "\n\n".join([*opening(result), *map(score_page, result["data"].values())])
        + "\n"
    )


def comparison_tables(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a recipe's ``comparison`` reads: tables for a model's page."""
    return [table for told in result["data"].values() for table in tables_of(told)]
