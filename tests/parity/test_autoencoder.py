"""The autoencoder computes what the original computes."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from xatmo.errors import WeightsError
from xatmo.nets.autoencoder import AutoencoderSmall
from xatmo.zoo.importers.autoencoder import autoencoder_from_keras

RTOL = 1e-5  # of the largest value
SMALL = {"channels": 3, "patch": (64, 96), "widths": (4, 6, 8, 10), "depth": 2}


def _near(got, expected):
    expected = torch.as_tensor(expected)
    if got.shape != expected.shape:
        return False
    return bool((got - expected).abs().max() <= RTOL * expected.abs().max())


def _close(got, expected):
    assert _near(got, expected)


def _nchw(array):
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


# The original written out: its variables, and what is computed of them (NHWC, HWIO).


def _shapes(channels=2, cells=(5, 5), widths=(16, 32, 64, 128), depth=6):
    """All variables of the original, by the table of its layers."""
    shapes = {}

    def norm(name, width):
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        shapes.update({f"{name}/{n}:0": (width,) for n in names})

    def conv(name, size, a, b, bias=False):
        shapes[f"{name}/kernel:0"] = (size, size, a, b)
        if bias:
            shapes[f"{name}/bias:0"] = (b,)

    def block(name, a, b):
        for part, width in ((1, a), (2, b)):
            conv(f"{name}_conv{part}", 3, width, b)
            norm(f"{name}_bn{part}", b)
        if a != b:
            conv(f"{name}_projection", 1, a, b)

    conv("encoder/in_conv", 8, channels, widths[0], bias=True)
    norm("encoder/in_bn", widths[0])
    for i, width in enumerate(widths):
        for j in range(depth):
            before = widths[max(i - 1, 0)] if j == 0 else width
            block(f"encoder/block{i + 1}_{j + 1}", before, width)
    positions, last = math.prod(cells), widths[-1]
    shapes["decoder/spatial_mixing_dense/kernel:0"] = (positions, positions)
    shapes["decoder/spatial_mixing_dense/bias:0"] = (positions,)
    norm("decoder/spatial_mixing_bn", positions)
    conv("decoder/channel_mixing_conv", 1, last, last, bias=True)
    norm("decoder/channel_mixing_bn", last)
    block(f"decoder/block{len(widths)}_upconv", last, widths[-2])
    before = widths[-2]
    for i in reversed(range(len(widths) - 1)):
        for j in range(depth):
            block(f"decoder/block{i + 1}_{j + 1}", before, widths[i])
            before = widths[i]
    block("decoder/inp_up", before, before)
    conv("decoder/out_conv", 8, before, channels, bias=True)
    return shapes


def _variables(seed=0, **options):
    """Every one of them drawn: no mean is 0, no variance 1."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, shape in _shapes(**options).items():
        if name.endswith("kernel:0"):
            values = rng.normal(0, math.sqrt(2 / math.prod(shape[:-1])), shape)
        elif name.endswith(("gamma:0", "variance:0")):
            values = rng.uniform(0.7, 1.4, shape)
        else:
            values = rng.normal(0, 0.2, shape)
        out[name] = values.astype(np.float32)
    return out


class _Original:
    """The network in numpy, in double precision: every padding by hand."""

    def __init__(self, variables, depth):
        self.depth = depth
        self.values = {k.removesuffix(":0"): v for k, v in variables.items()}

    def __call__(self, x):
        z = self.encode(x.astype(np.float64))
        return z, self.decode(z)

    def encode(self, x):
        self.scope = "encoder"
        x = np.maximum(self.norm(self.conv(x, "in_conv", 2), "in_bn"), 0)
        x = self.windows(x, 3, 2, -np.inf).max(axis=(4, 5))
        stage = 1
        while f"encoder/block{stage}_1_conv1/kernel" in self.values:
            for i in range(1, self.depth + 1):
                stride = 2 if stage > 1 and i == 1 else 1
                x = self.block(x, f"block{stage}_{i}", stride)
            stage += 1
        self.stages = stage - 1
        return x

    def decode(self, z):
        self.scope = "decoder"
        n, h, w, c = z.shape
        x = np.moveaxis(z, 3, 1).reshape(n, c, h * w)
        x = x @ self["spatial_mixing_dense/kernel"] + self["spatial_mixing_dense/bias"]
        x = np.maximum(self.norm(x, "spatial_mixing_bn"), 0)  # the last axis: positions
        x = np.moveaxis(x.reshape(n, c, h, w), 1, 3)
        x = self.norm(self.conv(x, "channel_mixing_conv"), "channel_mixing_bn")
        x = np.maximum(x, 0)
        x = self.block(self.twice(x), f"block{self.stages}_upconv")
        for stage in range(self.stages - 1, 0, -1):
            for i in range(1, self.depth + 1):
                x = self.twice(x) if i == self.depth else x
                x = self.block(x, f"block{stage}_{i}")
        return self.conv(self.block(self.twice(x), "inp_up"), "out_conv")

    def __getitem__(self, name):
        return self.values[f"{self.scope}/{name}"].astype(np.float64)

    def block(self, x, name, stride=1):
        y = self.norm(self.conv(x, f"{name}_conv1", stride), f"{name}_bn1")
        y = self.norm(self.conv(np.maximum(y, 0), f"{name}_conv2"), f"{name}_bn2")
        if f"{self.scope}/{name}_projection/kernel" in self.values:
            x = self.conv(x, f"{name}_projection", stride)
        return np.maximum(x + y, 0)

    def norm(self, x, name):
        scale = self[f"{name}/gamma"] / np.sqrt(
            self[f"{name}/moving_variance"] + 1.001e-5
        )
        return (x - self[f"{name}/moving_mean"]) * scale + self[f"{name}/beta"]

    def conv(self, x, name, stride=1):
        kernel = self[f"{name}/kernel"]
        windows = self.windows(x, kernel.shape[0], stride, 0.0)
        y = np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True)
        has_bias = f"{self.scope}/{name}/bias" in self.values
        return y + self[f"{name}/bias"] if has_bias else y

    @staticmethod
    def windows(x, k, stride, fill):
        pads = [(0, 0)]
        for n in x.shape[1:3]:
            total = max((-(-n // stride) - 1) * stride + k - n, 0)
            pads.append((total // 2, total - total // 2))
        x = np.pad(x, [*pads, (0, 0)], constant_values=fill)
        found = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))
        return found[:, ::stride, ::stride]  # (n, h, w, c, k, k)

    @staticmethod
    def twice(x):
        """Bilinear, with centres of points half a step inside their edges."""
        for axis in (1, 2):
            n = x.shape[axis]
            place = np.clip((np.arange(2 * n) + 0.5) / 2 - 0.5, 0, n - 1)
            low = np.floor(place).astype(int)
            high = np.minimum(low + 1, n - 1)
            shape = [1] * 4
            shape[axis] = -1
            share = (place - low).reshape(shape)
            x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
        return x


@pytest.fixture(scope="module")
def small():
    cells = tuple(n // 32 for n in SMALL["patch"])
    told = {k: v for k, v in SMALL.items() if k != "patch"}
    return _variables(cells=cells, **told)


def _load(variables, **options):
    network = AutoencoderSmall(**options)
    network.load_state_dict(autoencoder_from_keras(variables, network), strict=True)
    return network.eval()


def test_parameters_are_the_papers():
    def count(module):
        statistics = [b for n, b in module.named_buffers() if "running" in n]
        return sum(x.numel() for x in [*module.parameters(), *statistics])

    network = AutoencoderSmall()
    assert count(network) == 3_021_632
    assert count(network.decoder) == 743_920
    assert sum(math.prod(s) for s in _shapes().values()) == 3_021_632


# Weights and numbers of the unmodified code, where the folder of references has them.
_REFERENCE = Path(os.environ.get("XATMO_DATA", "")) / "reference" / "atmodist"
REFERENCES = [*_REFERENCE.glob("autoencoder_weights.safetensors")]


@pytest.mark.parametrize("file", [None, *REFERENCES], ids=str)
def test_published_size(file):
    variables = load_file(file) if file else _variables(seed=1)
    network = _load(variables)
    x = np.random.default_rng(2).normal(size=(1, 160, 160, 2)).astype(np.float32)
    x[:, 59:99, 59:99] = 0
    z, expected = _Original(variables, 6)(x)
    with torch.inference_mode():
        _close(network.encoder(_nchw(x)), _nchw(z))
        _close(network(_nchw(x)), _nchw(expected))
        if file:
            told = load_file(file.with_name("autoencoder_io.safetensors")).values()
            images = [_nchw(t) for t in told if t.shape[1:] == (160, 160, 2)]
            made = [network(image) for image in images]
            # One of them is what the network makes of another one.
            assert any(_near(a, b) for a in made for b in images)


def test_any_size(small):
    network = _load(small, **SMALL)
    x = np.random.default_rng(2).normal(size=(2, 64, 96, 3)).astype(np.float32)
    _, expected = _Original(small, 2)(x)
    with torch.inference_mode():
        _close(network(_nchw(x)), _nchw(expected))


# --- the importer


def _flat(variables):
    return {name.removeprefix("encoder/"): x for name, x in variables.items()}


def _paths(variables):
    """As Keras writes them into HDF5."""
    return {f"/{name}": x for name, x in variables.items()}


def _bars(variables):
    return {n.removesuffix(":0").replace("/", "|"): x for n, x in variables.items()}


def _only_encoder_named(variables):
    return {name.removeprefix("decoder/"): x for name, x in variables.items()}


@pytest.mark.parametrize("names", [dict, _flat, _paths, _bars, _only_encoder_named])
def test_names(small, names):
    network = AutoencoderSmall(**SMALL)
    expected = autoencoder_from_keras(small, network)
    state = autoencoder_from_keras(names(small), network)
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_no_tensor_is_used_twice(small):
    """Layers of encoder and decoder share their names, not their weights."""
    state = autoencoder_from_keras(small, AutoencoderSmall(**SMALL))
    sums = [float(x.double().sum()) for x in state.values() if x.ndim]
    assert len(set(sums)) == len(sums) == len(small)


def test_arrays_are_not_shared(small):
    given = {name: x.copy() for name, x in small.items()}
    state = autoencoder_from_keras(given, AutoencoderSmall(**SMALL))
    for array in given.values():
        array[:] = np.nan
    assert all(tensor.isfinite().all() for tensor in state.values())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"decoder/out_conv/bias:0": None},
            r"not those of this AutoencoderSmall.*missing: decoder/out_conv/bias\n",
        ),
        (
            {"decoder/pred/kernel:0": np.zeros((3, 4))},
            r"unknown: decoder/pred/kernel\n",
        ),
        (
            {"decoder/spatial_mixing_dense/kernel:0": np.zeros((25, 25))},
            r"spatial_mixing_dense/kernel' has another shape.*\(25, 25\).*\(6, 6\)",
        ),
    ],
)
def test_wrong_variables(small, changes, text):
    given = {n: x for n, x in (small | changes).items() if x is not None}
    with pytest.raises(WeightsError, match=f"(?s){text}"):
        autoencoder_from_keras(given, AutoencoderSmall(**SMALL))


def test_an_encoder_alone_is_refused(small):
    given = {
        n.removeprefix("encoder/"): x
        for n, x in small.items()
        if n.startswith("encoder")
    }
    with pytest.raises(WeightsError, match="missing: decoder/block1_1_bn1/beta"):
        autoencoder_from_keras(given, AutoencoderSmall(**SMALL))


# --- the network


@pytest.mark.parametrize("patch", [(100, 160), (0, 32), (160, 161)])
def test_patches_are_whole_cells(patch):
    with pytest.raises(ValueError, match="patch must be multiples of 32"):
        AutoencoderSmall(patch=patch)


def test_fields_of_another_size_are_refused():
    network = AutoencoderSmall(**SMALL)
    with pytest.raises(ValueError, match=r"reads \(64, 96\) points, not \(96, 64\)"):
        network(torch.zeros(1, 3, 96, 64))


def test_every_weight_learns():
    network = AutoencoderSmall(**SMALL).train()
    network(torch.randn(2, 3, 64, 96)).square().mean().backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for p in network.kernels()
    )
    assert all(p.grad.abs().sum() > 0 for p in network.kernels())
