"""How models of several tasks are released and scored again: what tasks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xatmo.training.logs import write_curve
from xatmo.training.rescore import Telling, publish, rescored, write_scores
from xatmo.zoo import Card, Model

__all__ = ["Task", "release", "rescore"]


@dataclass(frozen=True)
class Task:
    """What differs from task to task.

    Parameters
    ----------
    read : callable
        ``(path) -> recipe``.
    draft : callable
        ``(recipe_path, out) -> Model``, of a run's last checkpoint.
    scores : callable
        ``(model, recipe, recipe_path, out, times, progress) -> dict``: one table for
        each of the recipe's evaluation data.
    telling : Telling
    """

    read: Callable[[str | Path], Any]
    draft: Callable[[str | Path, str | Path], Model]
    scores: Callable[..., dict[str, Any]]
    telling: Telling


def release(
    task: Task,
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
    task : Task
    recipe_path : path
        The recipe that was trained.
    out, models : path
        Where the run is, and where the model goes.
    times : int, optional
        How many are scored of each data set.
    progress : bool
        Show progress bars.

    Returns
    -------
    Path
        The model's folder: ``weights.safetensors``, ``card.toml``, and the scores on
        the recipe's ``evaluation`` data: ``README.md``, ``scores.json``, ``figures``.
    """
    recipe = task.read(recipe_path)
    model = task.draft(recipe_path, out)
    folder = model.card.folder
    assert folder is not None  # noqa: S101 - it was just written
    scores = task.scores(model, recipe, recipe_path, out, times, progress)
    curve = write_curve(Path(out) / recipe.name)
    write_scores(folder, scores, recipe, recipe_path, curve, task.telling)
    return publish(folder, Path(models) / recipe.name)


def rescore(
    task: Task,
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
    recipe = task.read(recipe_path)

    def measure(card: Card) -> dict[str, Any]:
        model = Model(card, card.key())
        return task.scores(model, recipe, recipe_path, out, times, progress)

    return rescored(Path(folder), recipe, recipe_path, out, measure, task.telling)
