"""What comparisons of networks share: the recipes, their runs, and the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from xatmo.errors import OptionError
from xatmo.training.logs import learning_curve
from xatmo.training.recipe import Source, task
from xatmo.training.run import train

__all__ = [
    "evaluation_data",
    "facts",
    "opening",
    "read_all",
    "train_all",
    "without_maps",
]

Recipe = TypeVar("Recipe")


def read_all(
    paths: Sequence[str | Path],
    kind: str,
    read: Callable[[str | Path], Recipe],
    *,
    does: str,
    example: str,
) -> dict[str, Recipe]:
    """Read recipes that are all of one task, in order.

    Parameters
    ----------
    paths : sequence of path
    kind : str
        The task.
    read : callable
        Reads a recipe of it.
    does : str
        What such a network does, such as ``"downscales"``.
    example : str
        A recipe to compare.

    Raises
    ------
    xatmo.errors.OptionError
        If one of them is of another task.
    """
    for path in paths:
        if task(path) != kind:
            msg = f"{path} trains no network that {does}."
            raise OptionError(
                msg,
                found=f'task = "{task(path)}"',
                needed=f'recipes with task = "{kind}"',
                hint=f"xatmo compare {example} ...",
            )
    return {str(path): read(path) for path in paths}


def evaluation_data(recipes: Sequence[Any], part: str = "evaluation") -> list[Source]:
    """Return what all recipes are scored on, each part once.

    Parameters
    ----------
    recipes : sequence of recipes
    part : str
        Of ``[data]``: ``"evaluation"``, or ``"validation"``.

    Raises
    ------
    xatmo.errors.OptionError
        If that is nothing.
    """
    sources = list(dict.fromkeys(s for r in recipes for s in getattr(r, part)))
    if sources:
        return sources
    msg = "There are no data to compare on."
    raise OptionError(
        msg,
        found=f"no [[data.{part}]] in any of the recipes",
        needed="data that no recipe was trained on",
        hint=f"--data FILE, or [[data.{part}]] in a recipe",
    )


def train_all(recipes: dict[str, Any], out: Path, progress: bool) -> None:
    """Train what is not trained yet; runs that were interrupted go on."""
    for path, recipe in recipes.items():
        if not _is_trained(recipe, out):
            train(path, out=out, progress=progress)


def facts(recipe: Any, out: Path) -> dict[str, Any]:
    """Say what was trained, how long."""
    return {
        "name": recipe.name,
        "title": recipe.title,
        "objective": vars(getattr(recipe, "objective", recipe.sampling)),
        "epochs": len(learning_curve(out / recipe.name)),
        "seed": recipe.optimizer.seed,
    }


def opening(result: dict[str, Any]) -> list[str]:
    """Return the first paragraphs of a comparison's page: what was trained."""
    recipes = result["recipes"]
    lines = [
        f"- `{path}`: {told['title']}; {told['epochs']} epochs, seed {told['seed']}"
        for path, told in recipes.items()
    ]
    return ["# " + " / ".join(told["name"] for told in recipes.values()), *lines]


def without_maps(result: dict[str, Any]) -> dict[str, Any]:
    """Return what is worth keeping as JSON: the maps are for figures alone."""
    data = {
        key: {name: value for name, value in told.items() if name != "example"}
        for key, told in result["data"].items()
    }
    return {**result, "data": data}


def _is_trained(recipe: Any, out: Path) -> bool:
    """Whether all epochs are done."""
    run = out / recipe.name
    if not (run / "checkpoints" / "last.ckpt").exists():
        return False
    return len(learning_curve(run)) >= recipe.optimizer.epochs
