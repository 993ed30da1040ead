"""The downscaling networks compute what the originals compute."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from xatmo.errors import WeightsError
from xatmo.nets.adversarial import (
    adversarial_loss,
    discriminator_loss,
    judgement,
    mixed_loss,
)
from xatmo.nets.discriminator import Discriminator
from xatmo.nets.generator import Generator
from xatmo.zoo.importers.generator import (
    discriminator_from_tensorflow,
    generator_from_tensorflow,
)

RTOL = 1e-5  # of the largest value


@pytest.fixture(scope="module")
def weights(reference):
    return reference / "atmodist" / "sr_atmodist_generator_weights.npz"


@pytest.fixture(scope="module")
def variables(weights):
    with np.load(weights) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def io(reference):
    with np.load(reference / "atmodist" / "sr_atmodist_io.npz") as file:
        return {name.removesuffix(":0"): file[name] for name in file.files}


@pytest.fixture
def network(variables):
    network = Generator()
    network.load_state_dict(generator_from_tensorflow(variables), strict=True)
    return network.eval()


def _nchw(array):
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def _close(got, expected, rtol=RTOL):
    expected = torch.as_tensor(expected)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= rtol * expected.abs().max()


@pytest.mark.parametrize("size", ["", "_24x24", "_13x17"])
@pytest.mark.parametrize("fast", [False, True], ids=["plain", "fast"])
def test_generator(network, io, size, fast):
    network = network.for_inference() if fast else network
    with torch.inference_mode():
        _close(network(_nchw(io[f"LR{size}"])), _nchw(io[f"SR{size}"]))


def test_sizes_are_the_papers():
    assert sum(p.numel() for p in Generator().parameters()) == 1_534_850
    assert len(Generator().state_dict()) == 74
    with torch.device("meta"):
        discriminator = Discriminator()
    assert sum(p.numel() for p in discriminator.parameters()) == 10_611_201


def test_losses(io):
    true, fake = (torch.from_numpy(io[name]) for name in ("disc_HR", "disc_SR"))
    each = torch.stack([adversarial_loss(logit) for logit in fake])
    _close(each, io["g_advers_loss"][:, 0], 1e-6)
    _close(discriminator_loss(true, fake), io["d_loss"], 1e-6)
    content = F.mse_loss(_nchw(io["SR"]), _nchw(io["HR"]), reduction="none")
    content = content.mean((1, 2, 3))
    _close(content, io["content_loss"], 1e-6)
    _close(mixed_loss(content, fake), io["g_loss"], 1e-6)
    _close(torch.stack([*judgement(true, fake)]), io["advers_perf"], 1e-6)


def test_gradient_of_the_mixed_loss(network, io):
    content = F.mse_loss(network(_nchw(io["LR"])), _nchw(io["HR"]))
    mixed_loss(content, torch.from_numpy(io["disc_SR"])).backward()
    for parameter in network.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


# The originals' layers written out as TensorFlow has them, to import from any network.


def _variables(shapes, seed=0):
    random = np.random.default_rng(seed)
    out = {}
    for layer, shape in shapes.items():
        scale = 1 / math.sqrt(math.prod(shape[:-1]))
        out[f"{layer}/weight"] = random.normal(0, scale, shape).astype(np.float32)
        out[f"{layer}/bias"] = random.normal(0, 0.1, shape[-1]).astype(np.float32)
    return out


def _generator_variables(c=2, w=4, blocks=2, k=5, tail=(4, 3)):
    shapes = {"in_conv": (k, k, c, w)}
    for i in range(blocks):
        shapes |= {f"block_{i + 1}{part}": (3, 3, w, w) for part in "ab"}
    shapes["mid_conv"] = (3, 3, w, w)
    for i, (a, b) in enumerate(zip((w, *tail), tail, strict=False)):
        shapes[f"subpixel_conv{i + 1}"] = (3, 3, a, 4 * b)
    return _variables(shapes | {"out_conv": (k, k, tail[-1], c)})


def _conv(x, variables, layer, stride=1):
    """SAME convolution of NHWC with HWIO, by sums."""
    kernel, k = variables[f"{layer}/weight"], variables[f"{layer}/weight"].shape[0]
    pads = [(0, 0)]
    for n in x.shape[1:3]:
        total = max((-(-n // stride) - 1) * stride + k - n, 0)
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, [*pads, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]  # (n, h, w, in, k, k)
    return np.einsum("nhwcij,ijco->nhwo", windows, kernel) + variables[f"{layer}/bias"]


def _leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def _depth_to_space(x):
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * h, 2 * w, c // 4)


def _original_generator(x, variables):
    x = first = _leaky(_conv(x, variables, "in_conv"))
    for i in range(sum("a/weight" in name for name in variables)):
        y = _leaky(_conv(x, variables, f"block_{i + 1}a"))
        x = x + _conv(y, variables, f"block_{i + 1}b")
    x = _conv(x, variables, "mid_conv") + first
    for i in range(sum("subpixel" in name for name in variables) // 2):
        x = _leaky(_depth_to_space(_conv(x, variables, f"subpixel_conv{i + 1}")))
    return _conv(x, variables, "out_conv")


def _discriminator_variables(shape=(11, 14), channels=2, widths=(4, 4, 6, 5), hidden=7):
    shapes, rows, columns = {}, *shape
    for i, (a, b) in enumerate(zip((channels, *widths), widths, strict=False)):
        shapes[f"conv{i + 1}"] = (3, 3, a, b)
        if i % 2:
            rows, columns = -(-rows // 2), -(-columns // 2)
    shapes["fully_connected1"] = (rows * columns * widths[-1], hidden)
    return _variables(shapes | {"fully_connected2": (hidden, 1)}, seed=1)


def _original_discriminator(x, variables):
    for i in range(sum("/bias" in name for name in variables) - 2):
        x = _leaky(_conv(x, variables, f"conv{i + 1}", 1 + i % 2))
    x = x.reshape(len(x), -1) @ variables["fully_connected1/weight"]
    x = _leaky(x + variables["fully_connected1/bias"])
    return x @ variables["fully_connected2/weight"] + variables["fully_connected2/bias"]


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"tail": (4, 3)}, {}),
        ({"factor": 2, "kernel": 9, "blocks": 0, "tail": (6,)}, {"k": 9, "blocks": 0}),
        ({"factor": 8, "channels": 1, "tail": (2, 3, 4)}, {"c": 1}),
    ],
)
def test_generator_of_any_size(options, sizes):
    variables = _generator_variables(tail=options["tail"], **sizes)
    network = Generator(**{"width": 4, "blocks": 2, "kernel": 5} | options)
    network.load_state_dict(generator_from_tensorflow(variables, network))
    shape = (2, 5, 6, network.channels)
    x = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    with torch.inference_mode():
        _close(network(_nchw(x)), _nchw(_original_generator(x, variables)))


def test_discriminator_of_any_size():
    variables = _discriminator_variables()
    network = Discriminator((11, 14), widths=(4, 4, 6, 5), hidden=7)
    state = discriminator_from_tensorflow(variables, network)
    network.load_state_dict(state)
    x = np.random.default_rng(2).normal(size=(3, 11, 14, 2)).astype(np.float32)
    with torch.inference_mode():
        got = network(_nchw(x))
    _close(got, _original_discriminator(x, variables).astype(np.float32))


SMALL = {"width": 4, "blocks": 2, "kernel": 5, "tail": (4, 3)}


@pytest.mark.parametrize(
    "name", ["{}", "{}:0", "generator/{}", "generator/{}:0", "model/generator/{}"]
)
@pytest.mark.parametrize("separator", ["/", "|"])
def test_names(name, separator, tmp_path):
    variables = _generator_variables()
    network = Generator(**SMALL)
    expected = generator_from_tensorflow(variables, network)
    named = {name.format(n).replace("/", separator): a for n, a in variables.items()}
    np.savez(tmp_path / "gan.npz", **named)
    for given in (named, tmp_path / "gan.npz", str(tmp_path / "gan.npz")):
        state = generator_from_tensorflow(given, network)
        assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_whole_checkpoint():
    """As the originals save it: both networks, what else there is, and optimizers."""
    g, d = _generator_variables(), _discriminator_variables()
    whole = {f"generator/{n}": a for n, a in g.items()}
    whole |= {f"discriminator/{n}": a for n, a in d.items()}
    whole |= {f"{n}/{slot}": a for n, a in whole.items() for slot in ("Adam", "Adam_1")}
    whole |= {"beta1_power": np.array(0.9), "beta2_power_1": np.array(0.999)}
    whole |= {"encoder/in_conv/kernel": np.zeros((8, 8, 2, 16))}
    generator = Generator(**SMALL)
    state = generator_from_tensorflow(whole, generator)
    generator.load_state_dict(state, strict=True)
    discriminator = Discriminator((11, 14), widths=(4, 4, 6, 5), hidden=7)
    state = discriminator_from_tensorflow(whole, discriminator)
    discriminator.load_state_dict(state, strict=True)


def test_arrays_are_not_shared():
    variables = _generator_variables()
    state = generator_from_tensorflow(variables, Generator(**SMALL))
    for array in variables.values():
        array[:] = np.nan
    assert all(tensor.isfinite().all() for tensor in state.values())


def _without(*names):
    return {n: a for n, a in _generator_variables().items() if n not in names}


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        (
            _without("mid_conv/bias"),
            r"not those of this Generator.*missing: mid_conv/bias\n.*network=Generator",
        ),
        (_without() | {"res/weight": np.zeros(3)}, r"found:  unknown: res/weight\n"),
        (
            _without() | {"mid_conv/weight": np.zeros((3, 3, 4, 5))},
            r"'mid_conv/weight' has another shape.*\(3, 3, 4, 5\).*\(3, 3, 4, 4\)",
        ),
        (_discriminator_variables(), r"missing: block_1a/bias.*and \d+ more; unknown"),
        ({}, r"missing: block_1a/bias"),
        (
            {"generator/deconv1/weight:0": np.zeros((3, 3, 64, 2))},
            r"weights of PhIRE's generator.*deconv1/weight: transposed convolutions",
        ),
    ],
)
def test_wrong_variables(variables, text):
    with pytest.raises(WeightsError, match=f"(?s){text}"):
        generator_from_tensorflow(variables, Generator(**SMALL))


def test_wrong_size_of_discriminator():
    with pytest.raises(
        WeightsError,
        match=r"(?s)'fully_connected1/weight' has another shape.*\(60, 7\).*\(80, 7\)",
    ):
        discriminator_from_tensorflow(
            _discriminator_variables(),
            Discriminator(16, widths=(4, 4, 6, 5), hidden=7),
        )


def _damaged(path):
    np.savez(path, a=np.zeros(1000))
    path.write_bytes(path.read_bytes()[:-40])


def _text(path):
    path.write_text("weights")


def _pickled(path):
    np.savez(path, a=np.array([{}], dtype=object))


def _lone(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize("write", [_damaged, _text, _pickled, _lone, lambda path: None])
def test_wrong_file(write, tmp_path):
    write(tmp_path / "gan.npz")
    with pytest.raises(
        WeightsError, match=r"(?s)gan.npz' is not an archive of arrays.*load_checkpoint"
    ):
        generator_from_tensorflow(tmp_path / "gan.npz")
