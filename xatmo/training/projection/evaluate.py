"""Score a run of projections on the scenario that it was not trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from xatmo.errors import OptionError
from xatmo.training.checkpoints import find_checkpoint
from xatmo.training.evaluate import write_json
from xatmo.training.projection.initial import began
from xatmo.training.projection.recipe import (
    TARGETS,
    ProjectionRecipe,
    folder_of,
    on_data,
    read_recipe,
)
from xatmo.training.projection.scores import (
    pattern_scaling,
    projection_scores,
    training_mean,
)
from xatmo.training.projection.windows import (
    Windowed,
    WindowSampler,
    read_test,
    read_training,
)
from xatmo.training.recipe import Source
from xatmo.training.run import build_network, network_state

__all__ = ["evaluate", "project", "score_page"]

_SCORES = {"nrmse_s": "NRMSE_s", "nrmse_g": "NRMSE_g", "total": "Total", "rmse": "RMSE"}


def evaluate(
    recipe_path: str | Path,
    *,
    data: str | None = None,
    out: str | Path = "runs",
) -> dict[str, Any]:
    """Score a finished run, and write ``scores.json`` into its folder.

    Parameters
    ----------
    recipe_path : path
    data : str, optional
        Folder in place of the recipe's.
    out : path
        Folder of runs.

    Returns
    -------
    dict
        ``methods`` has the scores of the network and of plain methods, as
        :func:`xatmo.training.projection.scores.projection_scores` names them.

    Raises
    ------
    xatmo.errors.OptionError
        If the recipe was not trained.
    """
    recipe = read_recipe(recipe_path)
    if data is not None:
        recipe = on_data(recipe, Source(data))
    folder = Path(out) / recipe.name
    network, constants = _trained(recipe, folder, recipe_path)
    source = folder_of(recipe)
    train, _ = read_training(recipe, source)
    test = read_test(recipe, source)
    maps = {"network": project(network, WindowSampler(test, constants, 0, plain=True))}
    maps |= _beside(recipe, train, test)
    result = _told(recipe, source, train, test) | {"began": _began(folder)}
    latitude, _ = recipe.places
    true = test.targets()
    result["methods"] = {
        name: projection_scores(found, true, latitude) for name, found in maps.items()
    }
    write_json(result, folder / "scores.json")
    return result


def project(network: nn.Module, sampler: WindowSampler, size: int = 8) -> np.ndarray:
    """Project all windows of a sampler: (n, H, W)."""
    network.eval()
    count, maps = len(sampler.windows), []
    with torch.inference_mode():
        for start in range(0, count, size):
            batch = sampler.of(range(start, min(start + size, count)))
            maps.append(network(torch.from_numpy(batch.forcings))[:, 0].numpy())
    return np.concatenate(maps)


def score_page(result: dict[str, Any]) -> str:
    """Return scores as a table, for people."""
    years, s = result["years"], result["windows"]
    head = f"# {result['name']}: {result['target']} of {result['scenario']}"
    units = f" ({result['units']})"
    names = [_SCORES[key] + units * (key == "rmse") for key in _SCORES]
    rows = [["", *names], ["---", *["---:"] * len(names)]]
    for method, scores in result["methods"].items():
        rows.append([method, *(f"{scores[key]:.3f}" for key in _SCORES)])
    table = ["| " + " | ".join(row) + " |" for row in rows]
    said = f"{years[0]} to {years[1]}; trained on {s['train']} windows of "
    lines = [said + f"{result['scenarios']}; data: {result['data']}"]
    if result["began"]:
        lines.append(result["began"])
    return "\n".join([head, "", *lines, "", *table])


def _trained(
    recipe: ProjectionRecipe, folder: Path, path: str | Path
) -> tuple[nn.Module, dict[str, Any]]:
    """Read the network of a run, and its constants."""
    checkpoint = find_checkpoint(folder / "checkpoints")
    if checkpoint is None:
        msg = f"{path} was not trained yet."
        found, needed = f"no checkpoint in {folder}", "a run of this recipe"
        hint = f"xatmo train {path}, with the same --out"
        raise OptionError(msg, found=found, needed=needed, hint=hint)
    known = json.loads((folder / "run.json").read_text("utf-8"))
    network = build_network(recipe)
    network.load_state_dict(network_state(checkpoint))
    return network, known["levels"]


def _beside(
    recipe: ProjectionRecipe, train: Windowed, test: Windowed
) -> dict[str, np.ndarray]:
    """Maps of plain methods."""
    numbers = range(len(recipe.variables))
    maps = {"regression on all forcings": pattern_scaling(train, test, numbers)}
    if "CO2" in recipe.variables:
        number = recipe.variables.index("CO2")
        maps["pattern scaling"] = pattern_scaling(train, test, [number])
    return {**maps, "mean of training": training_mean(train, test)}


def _told(
    recipe: ProjectionRecipe, source: Path, train: Windowed, test: Windowed
) -> dict[str, Any]:
    s = recipe.sampling
    (series,) = test.series
    last = series.years[test.ends[:, 1]]
    return {
        "name": recipe.name,
        "title": recipe.title,
        "target": s.target,
        "units": TARGETS[s.target],
        "scenario": s.test,
        "scenarios": ", ".join(s.scenarios),
        "years": [int(last[0]), int(last[-1])],
        "windows": {"train": len(train), "test": len(test)},
        "data": source.name,
    }


def _began(folder: Path) -> str | None:
    told = began(folder)
    return None if told is None else str(told)
