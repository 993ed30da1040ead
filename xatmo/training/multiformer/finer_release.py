"""Multiformers with finer tails are scored, and told of, as all that downscale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xatmo.errors import OptionError
from xatmo.training.downscale import page
from xatmo.training.downscale.evaluate import evaluate
from xatmo.training.downscale.figures import save_figures, save_learning
from xatmo.training.downscale.release import models_of
from xatmo.training.multiformer.page import fields_table
from xatmo.training.multiformer.recipe import (
    MultiformerRecipe,
    read_recipe,
    released_part,
)
from xatmo.training.release import drafts
from xatmo.training.releasing import Task
from xatmo.training.rescore import Telling, keyed
from xatmo.zoo import Card, Model

__all__ = ["finer_page", "finer_scores", "finer_task"]


def finer_task(draft: Callable[[str | Path, str | Path], Model]) -> Task:
    """Return how these models are released; ``draft`` makes one of a run."""
    telling = Telling(finer_page, save_figures, save_learning, page.short)
    return Task(read_recipe, draft, finer_scores, telling)


def finer_scores(
    model: Model,
    recipe: MultiformerRecipe,
    recipe_path: str | Path,
    out: str | Path,
    times: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a model on each of its recipe's evaluation data, beside plain methods.

    And beside the models that the recipe names as ``against`` in ``[card]``.

    Raises
    ------
    xatmo.errors.OptionError
        If a number of times is asked for: all of them are scored.
    """
    if times is not None:
        msg = "Models that downscale are scored on all times."
        hint = "start and end of [[data.evaluation]] in the recipe"
        raise OptionError(msg, found=f"times={times}", needed="none", hint=hint)
    several = [model, *models_of(recipe.card.get("against", ()), out)]
    with drafts(several):
        return {
            key: evaluate(
                several,
                source,
                # All members: some of them are no ensemble of their own.
                realizations=_members(model.card),
                folder=Path(out) / recipe.name / "data",
                progress=progress,
            )
            for key, source in keyed(released_part(recipe).evaluation)
        }


def finer_page(card: Card, scores: dict[str, Any], recipe: str, **told: Any) -> str:
    """Return the text of ``models/<name>/README.md``; arguments as for other pages."""
    return page.model_page(
        card, scores, recipe, about=_about(card), unit="boxes", **told
    )


def _about(card: Card) -> Sequence[str]:
    box: Mapping[str, Any] = card.network["fields"][0]
    times = box["tokens"][0] * box["token_size"][0]
    step = card.box.step if card.box else ""
    read = (
        "Fields; any of them, at any of their levels, may be missing. Beside a time "
        f"the {times - 1} before it are read, every {step}, as far as they are there."
    )
    drawn = (
        f"Realizations are members of an ensemble of {_members(card)} tails: there "
        "are no more of them."
    )
    return [read, fields_table(card), drawn]


def _members(card: Card) -> int:
    return int(card.network.get("members", 16))
