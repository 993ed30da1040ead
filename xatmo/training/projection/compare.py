"""Train several networks for projections, and score them on the same scenario."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xatmo.errors import OptionError
from xatmo.training.comparing import read_all
from xatmo.training.logs import learning_curve
from xatmo.training.projection.evaluate import evaluate, score_page
from xatmo.training.projection.recipe import ProjectionRecipe, read_recipe
from xatmo.training.recipe import Source
from xatmo.training.run import train

__all__ = ["compare", "comparison_page", "comparison_tables", "without_maps"]

_EXAMPLE = "train/climax/projection.toml"


def compare(
    recipes: Sequence[str | Path],
    *,
    data: Sequence[Source] = (),
    out: str | Path = "runs",
    progress: bool = True,
) -> dict[str, Any]:
    """Train what is not trained yet, and score all.

    Parameters
    ----------
    recipes : sequence of path
    data : sequence of Source
        A folder in place of the recipes'.
    out : path
        Folder of runs.
    progress : bool
        Show progress bars.

    Returns
    -------
    dict
        As :func:`xatmo.training.projection.evaluate.evaluate`, with a method for each
        recipe, by its name.

    Raises
    ------
    xatmo.errors.OptionError
        If a recipe is of another task or projects something else, or there are several
        folders.
    """
    does = "projects the climate"
    known = read_all(recipes, "projection", read_recipe, does=does, example=_EXAMPLE)
    _check_alike(known, data)
    folder = data[0].path if data else None
    results = []
    for path, recipe in known.items():
        if len(learning_curve(Path(out) / recipe.name)) < recipe.optimizer.epochs:
            train(path, data=folder, out=out, progress=progress)
        results.append(evaluate(path, data=folder, out=out))
    return _joined(results)


def comparison_page(result: dict[str, Any]) -> str:
    """Return scores as a table, for people."""
    return score_page(result)


def comparison_tables(result: dict[str, Any]) -> dict[str, Any]:
    """Return the scores alone."""
    tables: dict[str, Any] = result["methods"]
    return tables


def without_maps(result: dict[str, Any]) -> dict[str, Any]:
    """Return what is worth keeping as JSON: all of it."""
    return result


def _joined(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One table of all networks, and once what is beside them."""
    *_, last = results
    methods = {told["name"]: told["methods"]["network"] for told in results}
    beside = {k: v for k, v in last["methods"].items() if k != "network"}
    began = [
        f"- {told['name']}: {told['began'] or 'began from scratch'}" for told in results
    ]
    return {
        **last,
        "name": " / ".join(methods),
        "methods": methods | beside,
        "began": "\n" + "\n".join(began),
    }


def _check_alike(known: dict[str, ProjectionRecipe], data: Sequence[Source]) -> None:
    """Refuse recipes whose scores cannot stand side by side."""
    tasks = {
        (r.sampling, r.places[0].size, None if data else r.train)
        for r in known.values()
    }
    names = [recipe.name for recipe in known.values()]
    if len(tasks) == 1 and len(set(names)) == len(names) and len(data) < 2:
        return
    msg = "The recipes do not project the same from the same data."
    found = ", ".join(f"{r.name}: {r.sampling.target}" for r in known.values())
    needed = "one [sampling], one grid and one folder, and names of their own"
    hint = f'like = "projection.toml" in a recipe beside {_EXAMPLE}'
    raise OptionError(msg, found=found, needed=needed, hint=hint)
