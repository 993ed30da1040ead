"""Scale the channels of the last layer, so that its distance orders time lags best.

A network that names lags need not keep the distance of its features in step with them:
one channel may answer a detail, loudly. Each channel of the last layer gets a factor,
found on training data alone. The factors go into the weights around it, so that the
network names lags exactly as before; only the scale of its features is another.

An extension of the published method, which takes the features as they come. The idea of
weighting channels for a perceptual distance is that of Zhang et al. (2018), LPIPS.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.atmodist import AtmoDist
from xatmo.nets.layers import ResidualBlock
from xatmo.training.sampling import PairSampler
from xatmo.training.scores.scorer import Scorer

__all__ = ["calibrate", "fit_scales", "scale_channels"]

_BATCH = 256
_STEPS = 400
# Keeps factors near each other where the data do not ask for more.
_PENALTY = 1e-3
# No channel is lost: the head divides by its factor.
_SMALLEST = 0.01


def calibrate(
    network: AtmoDist, scorer: Scorer, sampler: PairSampler, triplets: int = 10_240
) -> Tensor:
    """Scale the last layer of a network in place; return the factors.

    Parameters
    ----------
    network : AtmoDist
    scorer : Scorer
        Of that network.
    sampler : PairSampler
        Training data at one level.
    triplets : int
        How many the factors are fitted to.
    """
    squares = [
        _squares(scorer, sampler, number) for number in range(-(-triplets // _BATCH))
    ]
    scales = fit_scales(torch.cat(squares))
    scale_channels(network, scales)
    return scales


def _squares(scorer: Scorer, sampler: PairSampler, number: int) -> Tensor:
    """Mean squared differences by channel, (n, 2, C): to the nearer lag, the longer."""
    zero, near, far = (
        scorer.encode(x) for x in sampler.triplets(number, _BATCH).fields
    )
    return torch.stack([(zero - x).square().mean((2, 3)) for x in (near, far)], dim=1)


def fit_scales(squares: Tensor) -> Tensor:
    """Find the factors by which the longer lag is most often the farther state.

    Parameters
    ----------
    squares : Tensor, shape (n, 2, C)
        Mean squared differences by channel, for the shorter and for the longer lag.

    Returns
    -------
    Tensor, shape (C,)
        Positive factors of the features, the largest 1: logistic regression with
        weights that cannot be negative.
    """
    size = squares.mean((0, 1)).clamp_min(1e-12)
    gain = (squares[:, 1] - squares[:, 0]) / size
    raw = torch.zeros_like(size, requires_grad=True)
    steepness = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([raw, steepness], lr=0.05)
    for _ in range(_STEPS):
        margin = 3 * steepness.exp() * (gain @ raw.softmax(0))
        loss = F.softplus(-margin).mean() + _PENALTY * raw.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scales = (raw.detach().exp() / size).sqrt()
    return (scales / scales.max()).clamp_min(_SMALLEST)


@torch.no_grad()
def scale_channels(network: AtmoDist, scales: Tensor) -> None:
    """Multiply the last layer's channels; what reads them divides again.

    Exact up to rounding, since a ReLU commutes with positive factors.
    """
    stage = network.encoder.stages[-1]
    assert isinstance(stage, nn.ModuleList)  # noqa: S101 - for type checkers
    for number, block in enumerate(stage):
        assert isinstance(block, ResidualBlock)  # noqa: S101 - for type checkers
        if number:
            block.conv1.weight.div_(scales[None, :, None, None])
        elif block.projection is None:
            msg = "the last stage has to begin with a projection"
            raise ValueError(msg)
        else:
            block.projection.weight.mul_(scales[:, None, None, None])
        block.bn2.weight.mul_(scales)
        block.bn2.bias.mul_(scales)
    both = torch.cat([scales, scales])
    network.head.conv1.weight.div_(both[None, :, None, None])
