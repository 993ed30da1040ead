"""Scaling the channels of the last layer: same answers, another distance."""

from __future__ import annotations

import torch

from xatmo.nets.atmodist import AtmoDist
from xatmo.training.calibrate import fit_scales, scale_channels


def _network():
    torch.manual_seed(0)
    network = AtmoDist(
        n_classes=3, patch=(16, 16), stem=(3, 1), pool=False, widths=(4, 8),
        depths=(1, 3), strides=(2, 2), head_width=8,
    )  # fmt: skip
    for _ in range(5):  # running statistics of their own
        network(torch.randn(8, 2, 16, 16), torch.randn(8, 2, 16, 16))
    return network.eval()


@torch.inference_mode()
def test_scales_the_features_and_leaves_the_answers():
    network, scales = _network(), torch.linspace(0.1, 1, 8)
    x, y = torch.randn(4, 2, 16, 16), torch.randn(4, 2, 16, 16)
    features, answers, lower = (
        network.encode(x),
        network(x, y),
        network.encode(x, "block1"),
    )
    scale_channels(network, scales)
    expected = features * scales[:, None, None]
    torch.testing.assert_close(network.encode(x), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(network(x, y), answers, rtol=1e-4, atol=1e-5)
    assert torch.equal(network.encode(x, "block1"), lower)


def test_finds_the_channel_that_knows_the_order():
    torch.manual_seed(0)
    noise = torch.rand(4000, 2, 4) * torch.tensor([1.0, 10.0, 1.0, 100.0])
    noise[:, 0, 2] *= 0.5  # nearer for the shorter lag, most of the time
    scales = fit_scales(noise)
    assert scales.argmax() == 2
    assert (scales > 0).all()
    plain = (noise[:, 1].sum(1) > noise[:, 0].sum(1)).float().mean()
    weighted = ((noise[:, 1] - noise[:, 0]) @ scales**2 > 0).float().mean()
    assert weighted > 0.7 > plain
