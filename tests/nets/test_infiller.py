"""The network that fills gaps."""

from __future__ import annotations

import pickle

import pytest
import torch

from xatmo import frames
from xatmo.nets.infiller import Infiller

SMALL = {"context": 1, "extra": 3, "about": 3, "widths": (8, 12, 16), "depth": 1}


def build(seed=0, **options):
    torch.manual_seed(seed)
    network = Infiller(**{**SMALL, **options}).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def read(network, h, w, seed=1):
    torch.manual_seed(seed)
    x = torch.randn(1, network.channels, h, w)
    masks = (torch.rand(1, network.seen, h, w) < 0.4).float()
    x[:, network.seen : 2 * network.seen] = masks
    x[:, : network.seen] *= masks
    x[:, 2 * network.seen + 2] = torch.linspace(-1, 1, h)[:, None]
    return x, torch.randn(1, SMALL["about"])


@torch.no_grad()
def run(network, x, about):
    return network(x, about)


def test_reads_what_frames_gives():
    network = Infiller()
    assert network.channels == frames.CHANNELS
    assert network.about.in_features == frames.ABOUT
    assert network.times == frames.BLOCK


@pytest.mark.parametrize("convolution", ["plain", "gated", "partial"])
@pytest.mark.parametrize("size", [(1, 1), (7, 20), (33, 49)])
def test_any_domain_has_a_mean_and_a_positive_spread(size, convolution):
    network = build(convolution=convolution)
    out = run(network, *read(network, *size))
    assert out.shape == (1, 2, 4, *size)
    assert torch.isfinite(out).all()
    assert (out[:, 1] > 0).all()


def test_other_convolutions_are_refused():
    with pytest.raises(ValueError, match="no such convolution: 'deformable'"):
        Infiller(convolution="deformable")


def test_what_lies_beyond_its_reach_does_not_matter():
    network = build()
    x, about = read(network, 8, 4 * network.reach)
    near = run(network, x, about)
    x[..., 2 * network.reach] += 10
    changed = (run(network, x, about) - near).abs().amax((0, 1, 2, 3))
    where = torch.nonzero(changed > 0).flatten()
    assert where.min() >= network.reach
    assert where.max() <= 3 * network.reach
    assert where.numel() > 2 * network.stride


def test_a_piece_that_begins_on_a_cell_equals_the_whole():
    network = build()
    x, about = read(network, 4 * network.reach, 12)
    whole = run(network, x, about)
    start = network.reach // network.stride * network.stride
    halo = -(-network.reach // network.stride) * network.stride
    piece = run(network, x[..., start : start + 2 * halo + 8, :], about)
    inside = slice(halo, halo + 8)
    torch.testing.assert_close(
        piece[..., inside, :],
        whole[..., start + halo : start + halo + 8, :],
        atol=1e-5,
        rtol=1e-5,
    )


def test_untrained_it_interpolates():
    torch.manual_seed(0)
    network = Infiller(**SMALL)
    x = torch.zeros(1, network.channels, 16, 16)
    masks = (torch.rand(1, 1, 16, 16) < 0.5).float()
    x[:, network.seen : 2 * network.seen] = masks
    x[:, : network.seen] = 3.0 * masks
    out = run(network, x, torch.zeros(1, 3))
    torch.testing.assert_close(out[:, 0], torch.full_like(out[:, 0], 3.0))


def test_interpolation_weighs_times_by_how_far_they_are():
    network = Infiller(**SMALL, horizons=(0.0, 1.0))
    x = torch.zeros(1, network.channels, 4, 4)
    # The times from one before the block to one after it: 10 at the second of the
    # block, 2 at the third, nothing else.
    for time, value in ((2, 10.0), (3, 2.0)):
        x[:, time], x[:, network.seen + time] = value, 1.0
    alone, weighted = network.interpolate(x).unflatten(1, (2, 4)).unbind(1)
    assert alone[0, :, 0, 0].tolist() == [0, 10, 2, 0]
    e = torch.exp(torch.tensor(-1.0))
    wanted = (10 + 2 * e) / (1 + e)
    torch.testing.assert_close(weighted[0, 1, 0, 0], wanted)


def test_interpolation_is_not_trained():
    network = build()
    x, about = read(network, 8, 8)
    assert not network.interpolate(x.requires_grad_()).requires_grad
    assert not any(p is network.mix for p in network.kernels())
    network(x, about).sum().backward()
    assert network.mix.grad is not None


# --- Faster, for inference ------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    return build(widths=(16, 24, 32), depth=2)


def both(network, fast, x, about):
    with torch.inference_mode():
        found, wanted = fast(x, about), network(x, about)
    assert found.shape == wanted.shape
    return found, wanted


@pytest.mark.parametrize("size", [(1, 1), (7, 20), (16, 32), (33, 49)])
def test_the_fast_copy_gives_the_same(trained, size):
    x, about = read(trained, *size)
    found, wanted = both(trained, trained.for_inference(), x, about)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_the_fast_copy_is_fused_where_torch_has_onednn(trained):
    assert (trained.for_inference().fused is not None) == (
        torch.backends.mkldnn.is_available()
    )


@pytest.mark.parametrize("convolution", ["gated", "partial"])
def test_other_convolutions_are_not_fused_but_copied(convolution):
    network = build(convolution=convolution)
    fast = network.for_inference()
    assert fast.fused is None
    torch.testing.assert_close(*both(network, fast, *read(network, 9, 17)))


def test_the_fast_copy_leaves_its_input_alone(trained):
    x, about = read(trained, 16, 32)
    x = x.contiguous(memory_format=torch.channels_last)
    before = x.clone(), about.clone()
    both(trained, trained.for_inference(), x, about)
    torch.testing.assert_close((x, about), before, atol=0, rtol=0)


def test_the_fast_copy_survives_pickling_and_later_training(trained):
    x, about = read(trained, 12, 20)
    network = build(widths=(16, 24, 32), depth=2)
    fast = network.for_inference()
    wanted = run(fast, x, about)
    again = pickle.loads(pickle.dumps(fast))  # noqa: S301 - its own
    with torch.no_grad():
        network.first.weight.zero_()
    for copied in (fast, again):
        torch.testing.assert_close(run(copied, x, about), wanted)


def test_the_fast_copy_is_plain_for_gradients_of_the_input(trained):
    x, about = read(trained, 8, 8)
    fast = trained.for_inference()
    fast(x.requires_grad_(), about).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0
