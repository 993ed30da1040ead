"""The discriminator, its losses, and the rule that keeps both networks apace."""

import math

import pytest
import torch
from torch import nn

from xatmo.losses import AtmoDistLoss
from xatmo.nets.adversarial import (
    Balance,
    ContentLoss,
    adversarial_loss,
    discriminator_loss,
    judgement,
    mixed_loss,
)
from xatmo.nets.discriminator import Discriminator
from xatmo.nets.generator import Generator

SMALL = {"widths": (4, 4, 8, 8), "hidden": 16}


def logits(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def softplus(x):
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("size", "features"), [(96, 9216), (32, 1024), (90, 9216), ((16, 33), 768)]
)
def test_shapes(size, features):
    with torch.device("meta"):
        network = Discriminator(size)
        rows, columns = (size, size) if isinstance(size, int) else size
        assert network(torch.empty(3, 2, rows, columns)).shape == (3, 1)
    assert network.dense.in_features == features
    assert [conv.stride[0] for conv in network.convs] == [1, 2] * 4


def test_begins_as_published():
    torch.manual_seed(0)
    network = Discriminator(32)
    assert all(p.abs().max() == 0 for p in network.parameters() if p.ndim == 1)
    dense = network.dense.weight.detach()
    assert dense.abs().max() <= 0.04  # cut at two standard deviations
    assert dense.std() == pytest.approx(0.02 * 0.88, rel=0.01)  # which takes 12 %
    conv = network.convs[4].weight.detach()  # 64 to 128 features
    assert 0.98 < conv.abs().max() / math.sqrt(6 / (9 * (64 + 128))) <= 1


def test_other_sizes_are_refused():
    network = Discriminator(16, **SMALL)
    with pytest.raises(ValueError, match=r"fields of \(2, 16, 16\), not \(2, 16, 20\)"):
        network(torch.zeros(1, 2, 16, 20))


def test_adversarial_loss():
    expected = (softplus(-2.0) + softplus(1.0)) / 2
    assert adversarial_loss(logits(2.0, -1.0)).item() == pytest.approx(expected)
    assert adversarial_loss(logits(0.0)).item() == pytest.approx(math.log(2))


def test_discriminator_loss():
    expected = (softplus(-2.0) + softplus(1.0) + softplus(-3.0)) / 3
    found = discriminator_loss(logits(2.0, -1.0), logits(-3.0))
    assert found.item() == pytest.approx(expected)
    assert discriminator_loss(logits(1e4), logits(-1e4)).item() == 0
    assert discriminator_loss(logits(-1e4), logits(1e4)).item() == 1e4


def test_mixed_loss():
    fake = logits(2.0, -1.0)
    content = torch.tensor([1.0, 3.0], dtype=torch.float64)
    adversarial = adversarial_loss(fake).item()
    assert mixed_loss(content, fake).item() == pytest.approx(2 + 0.001 * adversarial)
    assert mixed_loss(content.mean(), fake, 0.5).item() == pytest.approx(
        2 + 0.5 * adversarial
    )


def test_judgement():
    found = judgement(logits(1.0, 2.0, 3.0, -1.0), logits(-2.0, -1.0, 3.0, -4.0))
    assert [float(share) for share in found] == [0.75, 0.75, 0.25, 0.25]
    assert found.true_negative == 0.75
    assert found.false_negative == 0.25
    found = judgement(logits(1.0, 1.0), logits(-1.0, 1.0, 1.0, 1.0))
    assert [float(share) for share in found] == [1.0, 0.25, 0.75, 0.0]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (0.0, "generator"),
        (0.459, "generator"),
        (0.46, None),
        (0.6, None),
        (0.601, "discriminator"),
        (float("inf"), "discriminator"),
        (float("nan"), None),
    ],
)
def test_balance(loss, expected):
    assert Balance().extra(loss) == expected  # noqa: S610 - not Django's


def test_balance_of_ones_own():
    assert Balance(0.1, 0.2).extra(0.3) == "discriminator"  # noqa: S610
    assert Balance(0.0, float("inf")).extra(0.0) is None  # noqa: S610
    for low, high in ((0.6, 0.46), (-1.0, 0.5), (float("nan"), 0.6)):
        with pytest.raises(ValueError, match="low and high must be 0 <= low <= high"):
            Balance(low, high)


@pytest.mark.parametrize(
    "content", [nn.MSELoss(), AtmoDistLoss(normalized=True)], ids=["mse", "atmodist"]
)
def test_both_learn_by_their_losses(content: ContentLoss):
    """A few steps of each bring each its own loss down."""
    torch.manual_seed(0)
    generator = Generator(width=8, blocks=1, kernel=3)
    discriminator = Discriminator(32, **SMALL)
    coarse, true = torch.randn(4, 2, 8, 8), torch.randn(4, 2, 32, 32)

    def loss_of(network):
        fake = generator(coarse)
        if network is generator:
            return mixed_loss(content(fake, true), discriminator(fake), 1.0)
        return discriminator_loss(discriminator(true), discriminator(fake.detach()))

    for network in (discriminator, generator):
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        first = loss_of(network).item()
        for _ in range(8):
            optimizer.zero_grad()
            loss_of(network).backward()
            optimizer.step()
        assert loss_of(network).item() < 0.98 * first
        optimizer.zero_grad()
