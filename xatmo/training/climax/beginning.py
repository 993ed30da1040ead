"""The weights that a ClimaX begins with: what fits of another one's."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xatmo.errors import ModelNotFoundError, OptionError
from xatmo.nets.climax_position import resize_positions
from xatmo.training.climax.recipe import ClimaXRecipe
from xatmo.training.climax.sampling import LeadSampler
from xatmo.training.run import initial_state
from xatmo.zoo import get_card

__all__ = ["begin_with", "check_order", "places"]

_POSITION = "position"
_OF_VARIABLES = ("tokens", "pixels")
_OF_DATA = "usual"  # what is measured, not taken over


def begin_with(
    network: nn.Module, recipe: ClimaXRecipe, sampler: LeadSampler, out: Path
) -> None:
    """Give a network the usual states, and the weights of a run or model.

    Parameters
    ----------
    network : ClimaX
        That of the recipe.
    recipe : ClimaXRecipe
        Names the run below ``out``, or the model, in ``init_from``; if not, weights
        stay as they were drawn.
    sampler : LeadSampler
        Of the training data: where they lie, and what is usual there.
    out : Path

    Raises
    ------
    xatmo.errors.OptionError
        If they are not there, of another size, or of rows in the other order.
    """
    if recipe.network.get("damped"):
        maps = {k: v for k, v in network.named_buffers() if k.startswith(_OF_DATA)}
        for name, usual in sampler.usual().items():
            maps[f"{_OF_DATA}.{name}.field"].copy_(torch.from_numpy(usual))
    if not recipe.init_from:
        return
    check_order(recipe.init_from, recipe.northward, out)
    theirs = initial_state(recipe.init_from, out)
    own = network.state_dict()
    renamed = _renamed(theirs, recipe.init_variables)
    wanted = {k for k in own if k.partition(".")[0] not in (_POSITION, _OF_DATA)}
    taken = {k: renamed[k] for k in wanted if k in renamed}
    new = sorted(wanted - set(taken))
    wrong = [k for k in taken if taken[k].shape != own[k].shape]
    wrong += [k for k in new if k.partition(".")[0] not in _OF_VARIABLES]
    if wrong:
        raise _misfit(recipe, wrong[0], own, renamed)
    taken[_POSITION] = places(theirs[_POSITION], own[_POSITION].shape, recipe, sampler)
    network.load_state_dict({**own, **taken})
    fresh = [v for v in recipe.variables if any(k.split(".")[1] == v for k in new)]
    if fresh:
        warnings.warn(
            f"{recipe.init_from} has no {', '.join(fresh)}: they begin as drawn at "
            "random; init_variables says which others they could begin as.",
            stacklevel=2,
        )


def places(
    codes: Tensor, shape: Any, recipe: ClimaXRecipe, sampler: LeadSampler
) -> Tensor:
    """Interpolate codes of places on the globe (rows, columns, D) to a grid's patches.

    Parameters
    ----------
    codes : Tensor, shape (rows, columns, D)
        Of equal patches of the globe, the first cell of which is at longitude 0.
    shape : sequence of int
        Rows, columns and features that are needed.
    recipe : ClimaXRecipe
    sampler : LeadSampler

    Returns
    -------
    Tensor, shape (rows, columns, D)
    """
    rows, columns = int(shape[0]), int(shape[1])
    grid = sampler.scenes[0].grid
    whole = grid.periodic and abs(grid.latitude[0]) + grid.spacing[0] > 89
    if whole:
        return resize_positions(codes, (rows, columns))
    patch = int(recipe.network["patch"])
    north = grid.latitude[: rows * patch].reshape(rows, patch).mean(1)
    north = north[::-1] if recipe.northward else north
    east = grid.longitude[: columns * patch].reshape(columns, patch).mean(1)
    south_first = -1 if recipe.northward else 1
    high, wide, _ = codes.shape
    row = (90 - south_first * north) / 180 * high - 0.5
    # The first cell is around longitude 0: that of a patch begins half a cell before.
    column = (east % 360) / 360 * wide - 0.5 + 0.5 / patch
    down = _weights(row.clip(0, high - 1), high)
    across = _weights(column, wide)
    return torch.einsum("rh,cw,hwd->rcd", down, across, codes.float())


def _weights(at: np.ndarray, count: int) -> Tensor:
    """Of linear interpolation between equal cells, which close on themselves."""
    below = np.floor(at).astype(int)
    out = np.zeros((at.size, count), np.float32)
    np.add.at(out, (np.arange(at.size), below % count), 1 - (at - below))
    np.add.at(out, (np.arange(at.size), (below + 1) % count), at - below)
    return torch.from_numpy(out)


def _renamed(
    state: Mapping[str, Tensor], begins_as: Mapping[str, str]
) -> dict[str, Tensor]:
    """Add the parameters of variables under the names of those that begin as them."""
    out = dict(state)
    for new, old in begins_as.items():
        for part in _OF_VARIABLES:
            start = f"{part}.{old}."
            found = {k: v for k, v in state.items() if k.startswith(start)}
            out |= {f"{part}.{new}.{k[len(start) :]}": v for k, v in found.items()}
    return out


def check_order(name: str, northward: bool, out: Path) -> None:
    """Refuse weights that have learnt to see the Earth the other way up.

    Parameters
    ----------
    name : str
        Of a run below ``out``, or of a model.
    northward : bool
        Whether rows of the recipe go from south to north.
    out : Path

    Raises
    ------
    xatmo.errors.OptionError
    """
    run = out / name / "run.json"
    try:
        if run.exists():
            theirs = json.loads(run.read_text("utf-8"))["recipe"].get("northward")
        else:
            theirs = get_card(name).grid.northward
    except ModelNotFoundError:
        return  # which is said where its weights are asked for
    if theirs is None or theirs == northward:
        return
    told = [str(way).lower() for way in (northward, theirs)]
    msg = f"The rows of {name!r} are in the other order."
    raise OptionError(
        msg,
        found=f"northward = {told[0]} in the recipe",
        needed=f"northward = {told[1]}, as there",
        hint=f"northward = {told[1]} at the head of the recipe",
    )


def _misfit(
    recipe: ClimaXRecipe, key: str, own: Mapping[str, Tensor], held: Mapping[str, Any]
) -> OptionError:
    shape = tuple(held[key].shape) if key in held else "missing"
    msg = f"The weights {recipe.init_from!r} do not fit this recipe's network."
    return OptionError(
        msg,
        found=f"{key}: {shape}",
        needed=f"{tuple(own[key].shape)}, the same [network] in both recipes",
        hint="width, depth, heads, patch and decoder_depth of the other recipe",
    )
