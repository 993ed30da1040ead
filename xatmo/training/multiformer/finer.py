"""What finer tails begin with: weights and constants of a Multiformer without them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from torch import Tensor, nn

from xatmo.errors import OptionError
from xatmo.nets.multiformer import Multiformer
from xatmo.nets.multiformer_fields import FieldSpec
from xatmo.nets.multiformer_surgery import couple
from xatmo.training.constants import Constants, fit_constants
from xatmo.training.multiformer.recipe import MultiformerRecipe
from xatmo.training.run import initial_state
from xatmo.training.sampling import FieldStore
from xatmo.training.scenes import prepared
from xatmo.zoo import load_model

__all__ = ["finer_constants", "load_coarse"]

_MONTHS = 12


def load_coarse(network: nn.Module, recipe: MultiformerRecipe, out: Path) -> None:
    """Give a network with finer tails the weights of one without.

    All but the last layer of its tails, which stays as it is. Of fields that the recipe
    does not have nothing is taken, nor of the heads on them.

    Parameters
    ----------
    network : Multiformer
    recipe : MultiformerRecipe
        Names a run below ``out``, or a released model, in ``init_from``.
    out : Path

    Raises
    ------
    xatmo.errors.OptionError
        If there is none, or other sizes than the tails' differ.
    """
    own = cast("Multiformer", network)
    if not recipe.init_from:
        return
    state = initial_state(recipe.init_from, out)
    after = list(own.fields.values())
    try:
        before = [replace(spec, sources=_sources(state, spec)) for spec in after]
        found = couple(state, before, after, **recipe.heads)
        fine = own.state_dict()
        # A run of the same recipe, or of another stage, has fine tails already.
        found |= {k: fine[k] for k in _last(own) if found[k].shape != fine[k].shape}
        own.load_state_dict(found)
    except (KeyError, RuntimeError, OptionError) as error:
        msg = f"The weights {recipe.init_from!r} do not fit this recipe's network."
        raise OptionError(
            msg,
            found=str(error).splitlines()[-1].strip(),
            needed="the same [network] in both recipes, but for finer",
            hint=f"compare [network] with the recipe of {recipe.init_from!r}",
        ) from error


def finer_constants(
    recipe: MultiformerRecipe, stores: Sequence[FieldStore], folder: Path
) -> Constants:
    """Return what coarse fields are normalised by.

    The constants of what the network begins with, which it is used to; those of block
    means of the training data for levels that it has none of.

    Parameters
    ----------
    recipe : MultiformerRecipe
    stores : sequence of FieldStore
        Fine fields of the training data.
    folder : Path
        Of the run.
    """
    known = _known(recipe.init_from, folder.parent) if recipe.init_from else {}
    needed = {
        (field.name, store.level)
        for field in recipe.fields
        for store in stores
        if field.quantity in store.quantities
    }
    if needed - set(known):
        coarse = [replace(s, coarsen=s.coarsen * recipe.factor) for s in recipe.train]
        means = prepared(recipe, coarse, folder)
        monthly = recipe.normalization.by == "month"
        known = {**fit_constants(recipe.fields, coarse, means, monthly=monthly)} | known
    return {
        (field.name, level): known[field.name, level]
        for field in recipe.fields
        for level in (name for names in field.slots for name in names)
        if (field.name, level) in needed
    }


def _known(name: str, out: Path) -> Constants:
    """Constants of an earlier run below ``out``, or of a released model."""
    if (out / name / "checkpoints" / "last.ckpt").exists():
        told = json.loads((out / name / "run.json").read_text("utf-8"))["levels"]
        return {
            (field, level): (_twelve(values["mean"]), _twelve(values["std"]))
            for key, values in told.items()
            for field, _, level in [key.partition(", ")]
        }
    return {
        (field.name, level.level): (_twelve(level.mean), _twelve(level.std))
        for field in load_model(name).card.fields
        for level in field.levels
        if level.mean is not None and level.std is not None
    }


def _twelve(values: Sequence[float]) -> np.ndarray:
    return np.broadcast_to(np.asarray(values, float), (_MONTHS,)).copy()


def _sources(state: Mapping[str, Tensor], spec: FieldSpec) -> tuple[str, ...]:
    """What a field heard of, in the order of its heads."""
    start = f"networks.{spec.name}.encoder.0.attention.key_value."
    heard = [key[len(start) :].partition(".")[0] for key in state if start in key]
    return tuple(name for name in heard if name != spec.name)


def _last(network: Multiformer) -> list[str]:
    """Keys of the last layers of tails."""
    keys = []
    for name in network.predicted:
        layers = network.network(name).tail.layers  # type: ignore[union-attr]
        start = f"networks.{name}.tail.layers.{len(layers) - 1}"
        keys += [f"{start}.{part}" for part in ("weight", "bias")]
    return keys
