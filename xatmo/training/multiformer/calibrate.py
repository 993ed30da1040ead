"""The spread of members, scaled at release to the errors on days not trained on."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from xatmo.nets.multiformer_tail import EnsembleTail, MemberLinear
from xatmo.training.data import NumberedBatches
from xatmo.training.multiformer.finer_module import FinerBoxes
from xatmo.training.multiformer.module import MaskedBoxes
from xatmo.training.multiformer.recipe import MultiformerRecipe
from xatmo.training.multiformer.sampling import BoxSampler

__all__ = ["calibrate", "spread_factors", "widen"]

_BATCH = 16
_RANGE = (0.5, 2.0)


def calibrate(
    network: Any, recipe: MultiformerRecipe, sampler: BoxSampler, boxes: int = 512
) -> dict[str, float]:
    """Scale the deviations of each field's members from their mean, in its weights.

    A network is more sure of weather it was not trained on than it should be. One
    factor a field, for all levels, times and kinds of masking.

    Returns
    -------
    dict
        The factor of each field.
    """
    factors = spread_factors(network, recipe, sampler, boxes)
    for name, factor in factors.items():
        widen(cast("EnsembleTail", network.network(name).tail), factor)
    return factors


@torch.inference_mode()
def spread_factors(
    network: Any, recipe: MultiformerRecipe, sampler: BoxSampler, boxes: int
) -> dict[str, float]:
    """Error over spread of each field: the mean by logarithm of those of batches."""
    kind = FinerBoxes if recipe.factor > 1 else MaskedBoxes
    module = kind(network.eval(), recipe, sampler.numbers)
    ratios: dict[str, list[Tensor]] = {}
    batches = NumberedBatches(sampler, range(-(-boxes // _BATCH)), _BATCH)
    for number in range(len(batches)):
        for name, (members, truth) in module.scored(batches[number]).items():
            spread, mean = torch.std_mean(members, 1)
            error = (mean - truth).square().mean().sqrt()
            ratio = error / spread.square().mean().sqrt()
            ratios.setdefault(name, []).append(ratio)
    return {
        name: float(torch.stack(found).log().mean().exp().clamp(*_RANGE))
        for name, found in ratios.items()
    }


@torch.no_grad()
def widen(tail: EnsembleTail, factor: float) -> None:
    """Scale the deviations of members from their mean; the mean stays.

    Exact for tails of one layer, and for the last layer of deeper ones as far as their
    members share what is below.
    """
    last = cast("MemberLinear", tail.layers[-1])
    for parameter in (last.weight, last.bias):
        mean = parameter.mean(0, keepdim=True)
        parameter.copy_(mean + factor * (parameter - mean))
