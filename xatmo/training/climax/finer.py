"""How good a ClimaX is that makes fields finer: beside plain interpolation.

It reads means over blocks, interpolated to the grid that they are wanted on, and is
asked for the fields there, no hours ahead. The scores are those of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xatmo.fields.names import canonical_units
from xatmo.nets.climax_loss import latitude_weights
from xatmo.training.climax.recipe import ClimaXRecipe
from xatmo.training.climax.run import constants_of, on_grid, sampler_of
from xatmo.training.climax.sampling import LeadSampler, blurred
from xatmo.training.recipe import Source
from xatmo.training.run import build_network, network_state
from xatmo.training.scenes import prepared
from xatmo.training.series import evenly
from xatmo.training.source import said

__all__ = ["score_finer"]

_TIMES = 60
_LINEAR = "bilinear interpolation"
_USUAL = "mean of the training data"


def score_finer(
    recipes: Sequence[ClimaXRecipe],
    scene: Sequence[Source],
    out: Path,
    *,
    times: int | None = None,
) -> dict[str, Any]:
    """Score trained networks on one scene.

    Parameters
    ----------
    recipes : sequence of ClimaXRecipe
        Trained, with ``factor`` above 1.
    scene : sequence of Source
        On the grid of the recipes.
    out : Path
        Where the runs are.
    times : int, optional
        How many are scored, 60 by default, spread over the series.

    Returns
    -------
    dict
        ``finer``: for each variable and method the RMSE weighted by latitude (the mean
        over times), the correlation of all values, and the mean bias, in the units of
        the variable.
    """
    first = recipes[0]
    run = out / first.name
    stores = prepared(first, first.train, run)
    first = on_grid(first, stores)
    constants = constants_of(first, stores)
    trained = sampler_of(first, first.train, stores, constants)
    kept = prepared(first, scene, run)
    sampler = sampler_of(first, scene, kept, constants, plain=True)
    x, y, names = _fields(sampler, times or _TIMES)
    known = trained.usual()
    usual = np.stack([known[name] for name in names])
    found = {_USUAL: np.broadcast_to(usual, y.shape), _LINEAR: x}
    grid = first.network["grid"]
    for recipe in recipes:
        found[recipe.name] = _predicted(recipe, grid, x, names, out)
    weights = latitude_weights(torch.tensor(sampler.latitude.copy())).numpy()
    rows = [
        {"variable": name, "units": units, "by": by, **score}
        for number, name in enumerate(names)
        for units, scale in [_units(first, name, sampler)]
        for by, fields in found.items()
        for score in [_score(fields[:, number], y[:, number], weights, scale)]
    ]
    return {
        "data": list(dict.fromkeys(map(said, scene))),
        "factor": first.sampling.factor,
        "times": len(y),
        "finer": rows,
    }


def _fields(
    sampler: LeadSampler, most: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """What is read and what is wanted (T, V, H, W), normalised; the variables."""
    view = max(sampler.views, key=lambda v: len(v.channels))
    held = sampler.scenes[view.scene]
    starts = view.pairs[0]
    chosen = starts[evenly(len(starts), most)]
    truth = np.stack(sampler.state(held, chosen, view.channels))
    coarse = blurred(truth, sampler.sampling.factor, held.grid.periodic)
    channels = [held.channels[c] for c in view.channels]
    return coarse, truth, [sampler.variables[c.field, c.slot] for c in channels]


def _predicted(
    recipe: ClimaXRecipe, grid: Any, x: np.ndarray, names: Sequence[str], out: Path
) -> np.ndarray:
    network = build_network(
        replace(recipe, network={**recipe.network, "grid": list(grid)})
    )
    checkpoint = out / recipe.name / "checkpoints" / "last.ckpt"
    network.load_state_dict(network_state(checkpoint))
    network.eval()
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(one[None].copy()), 0.0, names).numpy() for one in x
        ]
    return np.concatenate(parts)


def _units(recipe: ClimaXRecipe, name: str, sampler: LeadSampler) -> tuple[str, float]:
    """Units of a variable, and how much of them is 1 normalised."""
    for scene in sampler.scenes:
        for channel in scene.channels:
            if sampler.variables[channel.field, channel.slot] == name:
                field = next(f for f in recipe.fields if f.name == channel.field)
                return canonical_units(field.quantity) or "", float(channel.std[0])
    raise AssertionError(name)  # it was just read from one of them


def _score(
    found: np.ndarray, true: np.ndarray, weights: np.ndarray, scale: float
) -> dict[str, float]:
    errors = np.square(found - true) * weights[:, None]
    flat = np.stack([found.ravel(), true.ravel()]).astype(float)
    return {
        "rmse": float(np.sqrt(errors.mean((1, 2))).mean() * scale),
        "pearson": float(np.corrcoef(flat)[0, 1]),
        "bias": float((found - true).mean() * scale),
    }
