"""What a release measures of a trained network: its honesty, and what it has seen."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from xatmo.holdout import character
from xatmo.training.data import NumberedBatches
from xatmo.training.infill.series import SeriesSampler, draw_gaps

__all__ = ["fit_spread_factor", "seen_ranges"]

_BATCH = 8
_RANGE = (0.5, 2.0)
_PERCENTILES = (1.0, 99.0)
_MARGIN = 0.25  # of the width of a range: what lies beyond is far, not just outside


def fit_spread_factor(
    network: nn.Module, sampler: SeriesSampler, pieces: int = 224
) -> float:
    """Return what the spread has to be multiplied by to be the size of the error.

    On weather it was not trained on a network is a little less right than it learnt to
    be, and too sure.

    Parameters
    ----------
    network : Infiller
    sampler : SeriesSampler
        Of fields that the network was not trained on.
    pieces : int
        How many the factor is fitted to: the mean of their ratios, by the logarithm,
        so that all families of gaps count alike.

    Returns
    -------
    float
        Between 0.5 and 2.
    """
    count = -(-pieces // _BATCH)
    batches = NumberedBatches(sampler, range(count), _BATCH)
    network.eval()
    ratios = torch.cat([_ratios(network, batches[i]) for i in range(count)])
    return float(ratios.log().mean().exp().clamp(*_RANGE))


@torch.inference_mode()
def _ratios(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Error over spread in the gaps, for each piece that has any."""
    mean, spread = network(batch["frames"], batch["about"]).unbind(1)
    inside = batch["hidden"]
    error, said = (
        (x.square() * inside).sum((1, 2, 3)) for x in (mean - batch["truth"], spread)
    )
    there = (error > 0) & (said > 0)
    return (error[there] / said[there]).sqrt()


def seen_ranges(sampler: SeriesSampler, pieces: int = 256) -> dict[str, list[float]]:
    """Describe the series that a network was trained on, with a margin.

    Parameters
    ----------
    sampler : SeriesSampler
        As in training.
    pieces : int
        How many are looked at.

    Returns
    -------
    dict
        For each number of :func:`xatmo.holdout.character` its lowest and highest: the
        1st and 99th percentiles, and a quarter of what lies between them beyond.
    """
    found: dict[str, list[float]] = {}
    for number in range(pieces):
        rng = np.random.default_rng([sampler.seed, number])
        piece = sampler.drawn(rng)
        values = np.where(draw_gaps(rng, piece.values.shape[1:]), np.nan, piece.values)
        for name, value in character(values[0], piece.hours).items():
            if np.isfinite(value):
                found.setdefault(name, []).append(value)
    ranges = {name: _wide(values) for name, values in found.items()}
    low, high = ranges["observed"]
    return {**ranges, "observed": [low, min(high, 1.0)]}  # a share


def _wide(values: list[float]) -> list[float]:
    low, high = np.percentile(values, _PERCENTILES)
    margin = _MARGIN * (high - low)
    # What is never negative stays so.
    least = 0.0 if min(values) >= 0 else low - margin
    return [float(f"{v:.4g}") for v in (max(low - margin, least), high + margin)]
