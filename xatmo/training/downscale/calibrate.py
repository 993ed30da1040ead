"""Scale the noise of a trained network, so that its spread is that of its errors.

On weather it was not trained on a network is a little less right than it learnt to be,
and draws too little. One factor for all noise makes up for it: it is fitted to days
that are neither trained nor scored on, and goes into the weights that read the noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xatmo.nets.generator import Generator
from xatmo.training.data import NumberedBatches
from xatmo.training.downscale.crops import CropSampler
from xatmo.training.downscale.module import Downscaler
from xatmo.training.module import seed_step

__all__ = ["fit_noise_scale", "scale_noise"]

_MEMBERS = 8
_BATCHES, _CROPS = 8, 8
_RANGE = (0.7, 1.5)  # far beyond it the network has never been
_STEPS = 8  # halvings: to 0.003


def scale_noise(network: Generator, scale: float) -> None:
    """Make a network read noise as if it were ``scale`` times as strong, in place."""
    noise = slice(network.channels, network.channels + network.noise)
    with torch.no_grad():
        network.first.weight[:, noise] *= scale


def fit_noise_scale(module: Downscaler, crops: CropSampler) -> float:
    """Return the factor with which the spread of draws is the error of their mean.

    Parameters
    ----------
    module : Downscaler
        Its network is the same afterwards.
    crops : CropSampler
        Of days that the network was not trained on.

    Returns
    -------
    float
        Between 0.7 and 1.5.
    """
    network = module.network.eval()
    trained = network.first.weight.detach().clone()
    # Cut once: every scale is tried on the same crops.
    numbered = NumberedBatches(crops, range(_BATCHES), _CROPS)
    batches = [numbered[i] for i in range(_BATCHES)]
    low, high = _RANGE
    for _ in range(_STEPS):
        scale = 0.5 * (low + high)
        scale_noise(network, scale)
        too_little = _spread_over_error(module, batches) < 1.0
        low, high = (scale, high) if too_little else (low, scale)
        with torch.no_grad():
            network.first.weight.copy_(trained)
    return 0.5 * (low + high)


def _spread_over_error(
    module: Downscaler, batches: Sequence[dict[str, Tensor]]
) -> float:
    """Root mean square spread of an ensemble over the error of its mean, both fair."""
    spread = error = 0.0
    for number, batch in enumerate(batches):
        seed_step(module.settings.seed, number, 0)  # the same noise for every scale
        with torch.inference_mode():
            drawn = module.draw(batch, _MEMBERS)
        spread += float(drawn.fields.var(0).mean())
        error += float((drawn.fields.mean(0) - drawn.truth).square().mean())
    # The mean of a few members has a part of the spread in its error.
    return ((1 + 1 / _MEMBERS) * spread / error) ** 0.5
