"""From a finished run of a ClimaX to a model: a draft, or released."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xatmo.errors import OptionError
from xatmo.fields.names import canonical_units
from xatmo.training import releasing
from xatmo.training.checkpoints import check_unchanged
from xatmo.training.climax.evaluate import evaluate
from xatmo.training.climax.figures import save_figures, save_learning
from xatmo.training.climax.page import model_page, short_scores
from xatmo.training.climax.recipe import ClimaXRecipe, Variables, read_recipe
from xatmo.training.climax.run import constants_of, on_grid
from xatmo.training.constants import Constants, short, table_of
from xatmo.training.recipe import Source
from xatmo.training.release import drafts, head_of, last_checkpoint, saved
from xatmo.training.releasing import Task
from xatmo.training.rescore import Telling, keyed
from xatmo.training.run import build_network, network_state
from xatmo.training.sampling import FieldStore
from xatmo.training.scenes import prepared
from xatmo.zoo import Model, write_card

__all__ = [
    "draft_model",
    "release",
    "rescore",
    "scene_name",
    "scenes_of_sources",
    "scores_of",
]


def scores_of(
    model: Model,
    recipe: ClimaXRecipe,
    recipe_path: str | Path,
    out: str | Path,
    times: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a model on each scene of its recipe's evaluation data, beside others."""
    rivals = [
        draft_model(Path(recipe_path).parent / name, out)
        for name in recipe.card.get("against", ())
    ]
    reference = scenes_of_sources(recipe.train)
    with drafts([model, *rivals]):
        return {
            scene_name(scene): evaluate(
                [model, *rivals],
                scene,
                reference=reference,
                times=times,
                progress=progress,
            )
            for scene in scenes_of_sources(recipe.evaluation)
        }


def draft_model(recipe_path: str | Path, out: str | Path = "runs") -> Model:
    """Make a model of a run's last checkpoint, in the run's own folder.

    It is found by verbs inside :func:`xatmo.training.release.drafts` only.

    Parameters
    ----------
    recipe_path : path
        The recipe that was trained.
    out : path
        Where the run is.

    Raises
    ------
    xatmo.errors.OptionError
        If it was not trained, or as another recipe, or to make fields finer.
    """
    recipe = read_recipe(recipe_path)
    if recipe.sampling.factor > 1:
        raise _no_verb(recipe_path)
    run = Path(out) / recipe.name
    checkpoint = last_checkpoint(recipe_path, run)
    stores = prepared(recipe, recipe.train, run)
    recipe = on_grid(recipe, stores)
    constants = constants_of(recipe, stores)
    told = table_of(constants)
    check_unchanged(recipe, told, run, "make a model of the recipe that was trained")
    network: Any = build_network(recipe)
    network.load_state_dict(network_state(checkpoint))
    # Made and scored aside, so that a released model is never half of two.
    folder = run / "release" / recipe.name
    card = _card(recipe, stores[0], constants)
    network = network.eval().half() if recipe.half_precision else network.eval()
    card["weights"] = saved(network, folder / "weights.safetensors", card)
    written = write_card(folder / "card.toml", card)
    return Model(written, written.key())


def scenes_of_sources(sources: Iterable[Source]) -> list[list[Source]]:
    """Put sources that are read together into one list."""
    groups: dict[tuple[object, ...], list[Source]] = {}
    for source in sources:
        key = (source.scene or source.path, source.start, source.coarsen, source.grid)
        groups.setdefault(key, []).append(source)
    return list(groups.values())


def scene_name(scene: list[Source]) -> str:
    """Name the scores on a scene."""
    return scene[0].scene or next(keyed(scene))[0]


def _card(
    recipe: ClimaXRecipe, store: FieldStore, constants: Constants
) -> dict[str, Any]:
    tables = {k: v for k, v in recipe.card.items() if isinstance(v, dict)}
    s, stride = recipe.sampling, int(recipe.network.get("patch", 2))
    fields = [_field(field, constants) for field in recipe.fields]
    return {
        **head_of(recipe),
        "fields": [field for field in fields if field["levels"]],
        "normalization": {"kind": "zscore"},
        "leads": {
            "step": f"{s.step_hours}h",
            "shortest": s.hours[0],
            "longest": s.hours[-1],
        },
        "layers": {
            "names": ["encoder"],
            "stride": {"encoder": stride},
            "features": {"encoder": recipe.network["width"]},
        },
        **tables,
        "grid": {
            **tables.get("grid", {}),
            **_grid(recipe, store),
            "stride": stride,
            "halo": "global",
        },
    }


def _grid(recipe: ClimaXRecipe, store: FieldStore) -> dict[str, Any]:
    """Say where the cells are: on the whole globe, or between which ones."""
    rows, columns = (int(n) for n in recipe.network["grid"])
    told: dict[str, Any] = {"patch": [rows, columns]}
    if recipe.northward:
        told["northward"] = True
    north, east = store.latitude[:rows], store.longitude[:columns]
    whole = columns == store.longitude.size and store.periodic
    if whole and abs(north[0]) + abs(north[-1]) > 180 - 1.6 * 180 / rows:
        return {**told, "spacing": sorted((180 / rows, 360 / columns))}
    return {
        **told,
        "spacing": sorted(float(f"{x:.6g}") for x in store.spacing),
        "latitude": [float(f"{x:.7g}") for x in (north[0], north[-1])],
        "longitude": [float(f"{x:.7g}") for x in (east[0], east[-1])],
    }


def _field(field: Variables, constants: Constants) -> dict[str, Any]:
    levels = [
        {
            "level": level,
            "slot": slot,
            "variable": variable,
            **_told(constants[field.name, level]),
        }
        for slot, (level, variable) in enumerate(field.levels.items())
        if (field.name, level) in constants
    ]
    return {
        "name": field.name,
        "quantity": field.quantity,
        "units": canonical_units(field.quantity),
        "levels": levels,
    }


def _told(constants: tuple[np.ndarray, np.ndarray]) -> dict[str, list[float]]:
    mean, std = constants
    return {"mean": short(mean), "std": short(std)}


def _no_verb(recipe_path: str | Path) -> OptionError:
    msg = f"{recipe_path} trains a ClimaX to make fields finer: it is no model."
    return OptionError(
        msg,
        found="factor above 1 in [sampling]",
        needed="a recipe that looks ahead",
        hint=f"xatmo compare {recipe_path} ..., to score it beside others",
    )


TASK = Task(
    read_recipe,
    draft_model,
    scores_of,
    Telling(model_page, save_figures, save_learning, short_scores),
)
release, rescore = (partial(f, TASK) for f in (releasing.release, releasing.rescore))
