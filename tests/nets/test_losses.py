"""The frozen encoder computes what the plain one computes, and can only measure."""

import copy
import pickle

import pytest
import torch
from torch import nn

from xatmo.nets.atmodist import Encoder
from xatmo.nets.layers import batch_norm
from xatmo.nets.losses import FrozenEncoder, FrozenNormalization
from xatmo.nets.normalization import SignLog, ZScore

SMALL = {"widths": (4, 6), "depths": (1, 2), "strides": (1, 2)}
CONFIGURATIONS = [
    pytest.param(SMALL, id="pool"),
    pytest.param(SMALL | {"pool": False, "stem": (5, 1)}, id="no pool"),
    pytest.param(SMALL | {"stem": (3, 1), "stem_width": 3, "in_channels": 1}),
]


def trained(encoder: Encoder) -> Encoder:
    """Give batch normalisation values that cannot cancel, as training would."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for bn in encoder.modules():
            if isinstance(bn, type(batch_norm(1))):
                bn.running_mean.normal_(0.0, 0.3, generator=random)
                bn.running_var.uniform_(0.5, 2.0, generator=random)
                bn.weight.uniform_(0.5, 1.5, generator=random)
                bn.bias.normal_(0.0, 0.3, generator=random)
    return encoder.eval()


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def plain() -> Encoder:
    torch.manual_seed(0)
    return trained(Encoder(**SMALL))


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_same_features_and_gradients(configuration, periodic):
    torch.manual_seed(0)
    encoder = trained(Encoder(**configuration))
    channels = encoder.in_conv.in_channels
    for layer in encoder.layers:
        frozen = FrozenEncoder(encoder, layer)
        for rows, columns in [(32, 48), (33, 21), (9, 8)]:
            first = normal(2, channels, rows, columns).requires_grad_()
            again = first.detach().clone().requires_grad_()
            expected, found = encoder(first, layer, periodic), frozen(again, periodic)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            expected.square().sum().backward()
            found.square().sum().backward()
            scale = first.grad.abs().max()
            assert (again.grad - first.grad).abs().max() <= 1e-5 * scale


def test_is_the_published_network(reference):
    from safetensors.torch import load_file

    from xatmo.nets.atmodist import AtmoDist
    from xatmo.zoo.importers.atmodist import from_keras

    folder = reference / "atmodist"
    weights = load_file(folder / "atmodist23_weights.safetensors")
    io = load_file(folder / "atmodist23_io.safetensors")
    network = AtmoDist()
    network.load_state_dict(from_keras({n: w.numpy() for n, w in weights.items()}))
    for layer in ("block3", "block4"):
        frozen = FrozenEncoder(network.encoder, layer)
        x1, x2 = (io[f"input/{i}"].permute(0, 3, 1, 2) for i in ("img1", "img2"))
        f1, f2 = frozen(x1), frozen(x2)
        found = (f1 - f2).square().flatten(1).mean(1)
        expected = io[f"distance/msd_{layer}_6_act2"]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_has_nothing_to_train_or_to_save(plain):
    frozen = FrozenEncoder(plain, "block2")
    assert list(frozen.parameters()) == []
    assert frozen.state_dict() == {}
    frozen.load_state_dict({}, strict=True)


def test_stops_at_its_layer(plain):
    assert len(FrozenEncoder(plain, "block1").blocks) == SMALL["depths"][0]
    with pytest.raises(ValueError, match="not in tuple"):
        FrozenEncoder(plain, "block9")


def test_training_mode_changes_nothing(plain):
    x = normal(2, 2, 32, 32)
    expected = plain(x)
    frozen = FrozenEncoder(plain.train(), "block2").train()
    torch.testing.assert_close(frozen(x), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(frozen(x), frozen(x))


def test_copies_the_weights_and_leaves_the_input(plain):
    x = normal(2, 2, 32, 32)
    frozen = FrozenEncoder(plain, "block2")
    before = frozen(x)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.zero_()
    assert torch.equal(frozen(x), before)
    assert torch.equal(x, normal(2, 2, 32, 32))


@pytest.mark.parametrize(
    "again",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],  # noqa: S301
    ids=["copied", "pickled"],
)
def test_survives_copying(plain, again):
    frozen, x = FrozenEncoder(plain, "block2"), normal(1, 2, 32, 32)
    assert torch.equal(again(frozen)(x), frozen(x))


def test_built_in_inference_mode(plain):
    with torch.inference_mode():
        frozen = FrozenEncoder(plain, "block2")
    x = normal(1, 2, 32, 32).requires_grad_()
    frozen(x).sum().backward()
    assert x.grad.isfinite().all()


def test_constants_do_not_lose_digits():
    exact = SignLog((1e-7, 2e-7), (2.1e-5, 2.7e-5), (1e-3, 8e-4), (0.157, 0.16), 0.2)
    module = nn.Sequential(FrozenNormalization(exact))
    x = 3e-5 * normal(2, 2, 4, 4)
    for convert in (nn.Module.half, nn.Module.bfloat16, nn.Module.float):
        torch.testing.assert_close(convert(module)(x), exact(x), rtol=0, atol=0)
    torch.testing.assert_close(module.double()(x.double()), exact(x.double()))
    assert module(x.bfloat16()).dtype == torch.float32
    assert module.state_dict() == {}


@pytest.mark.parametrize(
    "normalization",
    [SignLog((0.5,), (2.0,), (0.1,), (0.2,), 0.2), ZScore((0.5,), (2.0,))],
    ids=["signlog", "zscore"],
)
def test_slope_is_right_everywhere_and_at_zero_too(normalization):
    x = torch.tensor([0.5, 0.5 - 1e-6, 3.0, -7.0], dtype=torch.float64)
    x = x.reshape(1, 1, 4).requires_grad_()
    (slope,) = torch.autograd.grad(normalization(x).sum(), x)
    step = 1e-7
    with torch.no_grad():
        numeric = (normalization(x + step) - normalization(x - step)) / (2 * step)
    torch.testing.assert_close(slope, numeric, rtol=1e-6, atol=0)
    y = normalization(x.detach()).requires_grad_()
    (inverse,) = torch.autograd.grad(normalization.inverse(y).sum(), y)
    torch.testing.assert_close(inverse * slope, torch.ones_like(slope))
