"""The fast encoder computes what the plain one computes."""

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from xatmo.nets import inference
from xatmo.nets.atmodist import AtmoDist, Encoder
from xatmo.nets.inference import FastEncoder, fast_encoder, for_inference

SMALL = {"widths": (8, 16), "depths": (2, 1), "strides": (1, 2)}
CONFIGURATIONS = [
    pytest.param({}, id="published"),
    pytest.param(SMALL | {"pool": False}, id="no pool"),
    pytest.param(SMALL | {"widths": (10, 21), "strides": (2, 3)}, id="odd widths"),
    pytest.param(SMALL | {"stem": (7, 4), "in_channels": 1}, id="stem 7/4"),
    pytest.param(SMALL | {"stem": (3, 1), "stem_width": 4}, id="stem 3/1"),
    pytest.param({"stem": (4, 1), "widths": (8,), "depths": (3,), "strides": (1,)}),
]
SIZES = [(64, 96), (45, 91), (33, 7), (5, 9), (4, 4)]


def trained(module: nn.Module) -> nn.Module:
    """Give batch normalisation values that cannot cancel, as training would."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for bn in module.modules():
            if isinstance(bn, nn.BatchNorm2d):
                bn.running_mean.normal_(0.0, 0.3, generator=random)
                bn.running_var.uniform_(0.5, 2.0, generator=random)
                bn.weight.uniform_(0.5, 1.5, generator=random)
                bn.bias.normal_(0.0, 0.3, generator=random)
    return module.eval()


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.fixture
def plain() -> Encoder:
    torch.manual_seed(0)
    return trained(Encoder(**SMALL)).requires_grad_(False)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_same_features(configuration, periodic):
    torch.manual_seed(0)
    plain = trained(Encoder(**configuration))
    fast = FastEncoder(plain)
    with torch.inference_mode():
        for rows, columns in SIZES:
            x = normal(2, plain.in_conv.in_channels, rows, columns)
            for layer in (None, *plain.layers):
                expected = plain(x, layer, periodic)
                assert_same(fast(x, layer, periodic), expected)


def test_fused_where_torch_has_onednn(plain):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch was built without oneDNN")
    assert FastEncoder(plain).fused is not None


@pytest.mark.parametrize("layer", ["block3", None])
def test_published_network(reference, layer):
    from safetensors.torch import load_file

    from xatmo.zoo.importers.atmodist import from_keras

    folder = reference / "atmodist"
    weights = load_file(folder / "atmodist23_weights.safetensors")
    numbers = load_file(folder / "atmodist23_io.safetensors")
    network = AtmoDist()
    state = from_keras({name: value.numpy() for name, value in weights.items()})
    network.load_state_dict(state)
    fast = fast_encoder(network)
    for size in ("40x40", "96x96"):
        found = fast(numbers[f"size/{size}/input"].permute(0, 3, 1, 2), layer)
        expected = numbers[f"size/{size}/{layer or 'block4'}_6_act2"]
        assert_same(found.permute(0, 2, 3, 1), expected)


@pytest.mark.parametrize("periodic", [False, True])
def test_any_memory_layout(plain, periodic):
    x = normal(2, 2, 30, 50).transpose(2, 3)
    assert_same(FastEncoder(plain)(x, periodic=periodic), plain(x, periodic=periodic))


def test_input_is_left_alone(plain):
    for encoder in (plain, Encoder(**SMALL, pool=False).eval()):
        x = normal(1, 2, 32, 32)
        FastEncoder(encoder)(x)
        assert torch.equal(x, normal(1, 2, 32, 32))


def test_copies_the_weights(plain):
    x = normal(1, 2, 32, 32)
    fast, before = FastEncoder(plain), plain(x)
    nn.init.zeros_(plain.in_conv.weight)
    assert_same(fast(x), before)
    assert_same(fast.double()(x.double()), before)


def test_evaluates_a_network_left_in_training(plain):
    x = normal(2, 2, 32, 32)
    before = plain(x)
    assert_same(FastEncoder(plain.train())(x), before)
    assert plain.training


@pytest.mark.parametrize("layer", ["block9", ""])
def test_unknown_layer_as_in_the_plain_encoder(plain, layer):
    with pytest.raises(ValueError, match="not in tuple"):
        FastEncoder(plain)(normal(1, 2, 32, 32), layer)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (2, 32, 32), (32, 32)])
def test_wrong_shape_as_in_the_plain_encoder(plain, shape):
    with pytest.raises((RuntimeError, ValueError)) as expected:
        plain(normal(*shape))
    with pytest.raises(expected.type) as found:
        FastEncoder(plain)(normal(*shape))
    assert str(found.value) == str(expected.value)


def test_too_narrow_to_be_periodic_as_in_the_plain_encoder(plain):
    x = normal(1, 2, 32, 1)
    for encoder in (plain, FastEncoder(plain)):
        with pytest.raises(RuntimeError, match="wrapping around more than once"):
            encoder(x, periodic=True)


def test_threads_agree(plain):
    fast = FastEncoder(plain)
    batches = [normal(2, 2, 40 + n % 3, 48) for n in range(24)]
    alone = [fast(x, periodic=True) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda x: fast(x, periodic=True), batches))
    assert all(map(torch.equal, alone, together))


def test_nothing_global_changes(plain):
    def settings():
        return (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.backends.mkldnn.enabled,
            torch.get_rng_state().tolist(),
        )

    before = settings()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FastEncoder(plain)(normal(1, 2, 32, 32))
    assert settings() == before


def fails(*args, **kwargs):
    raise RuntimeError("no such operator")


def lacks(*args, **kwargs):
    raise AttributeError("no such operator")


def lies(self, x, last, periodic):
    return torch.zeros(1, 16, 5, 7)


@pytest.mark.parametrize("broken", [fails, lacks, lies])
def test_plain_where_the_operators_do_not_work(plain, monkeypatch, broken):
    monkeypatch.setattr(inference.FusedEncoder, "__call__", broken)
    fast = FastEncoder(plain)
    assert fast.fused is None
    x = normal(2, 2, 40, 40)
    assert_same(fast(x, "block1", True), plain(x, "block1", True))


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_plain_where_onednn_is_switched_off(plain, monkeypatch):
    fast = FastEncoder(plain)
    monkeypatch.setattr(inference.FusedEncoder, "__call__", fails)
    x = normal(2, 2, 40, 40)
    with torch.backends.mkldnn.flags(enabled=False):
        assert_same(fast(x), plain(x))


def test_plain_for_other_types(plain):
    x = normal(2, 2, 40, 40).double()
    assert_same(FastEncoder(plain.double())(x), plain(x))


def test_plain_under_autocast(plain):
    fast, x = FastEncoder(plain), normal(2, 2, 40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert fast(x).dtype == plain(x).dtype
        built_inside = FastEncoder(plain)
    assert (built_inside.fused is None) == (fast.fused is None)


def test_plain_for_gradients_of_the_input(plain):
    with torch.inference_mode():
        fast = FastEncoder(plain)
    gradients = []
    for encoder in (plain, fast):
        x = normal(1, 2, 32, 32).requires_grad_()
        encoder(x).square().mean().backward()
        gradients.append(x.grad)
    assert_same(*gradients)


def test_empty_batch(plain):
    assert FastEncoder(plain)(normal(0, 2, 32, 32)).shape == (0, 16, 4, 4)


@pytest.mark.parametrize(
    "again",
    [copy.deepcopy, FastEncoder, lambda fast: pickle.loads(pickle.dumps(fast))],  # noqa: S301
    ids=["copied", "fast twice", "pickled"],
)
def test_survives_copying(plain, again):
    fast, x = FastEncoder(plain), normal(1, 2, 32, 32)
    other = again(fast)
    assert (other.fused is None) == (fast.fused is None)
    assert torch.equal(other(x), fast(x))


def test_whole_network_for_inference():
    torch.manual_seed(0)
    network = trained(AtmoDist(patch=(64, 64), **SMALL)).train()
    fast = for_inference(network)
    assert network.training
    assert not fast.training
    x1, x2 = normal(4, 2, 64, 64).chunk(2)
    with torch.inference_mode():
        network.eval()
        assert_same(fast(x1, x2), network(x1, x2))
        assert_same(fast.embed(x1, "block1"), network.embed(x1, "block1"))
        assert fast.embed(x1).is_contiguous()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_plain_on_a_gpu(plain):
    x = normal(2, 2, 64, 128).cuda()
    plain = plain.cuda()
    assert_same(FastEncoder(plain)(x, periodic=True), plain(x, periodic=True))
