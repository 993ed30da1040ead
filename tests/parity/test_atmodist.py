"""The network computes what the original computes: numbers of its unmodified code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from xatmo.errors import WeightsError
from xatmo.nets.atmodist import AtmoDist
from xatmo.nets.layers import same_padding
from xatmo.zoo.importers.atmodist import from_keras

RTOL = 1e-5  # of the largest value


@pytest.fixture(scope="module")
def variables(reference):
    return load_file(reference / "atmodist" / "atmodist23_weights.safetensors")


@pytest.fixture
def network(variables):
    network = AtmoDist(n_classes=23)
    network.load_state_dict(from_keras(variables), strict=True)
    return network.eval()


@pytest.fixture(scope="module")
def io(reference):
    return load_file(reference / "atmodist" / "atmodist23_io.safetensors")


@pytest.fixture(scope="module")
def step(reference):
    return load_file(reference / "atmodist" / "atmodist23_trainstep.safetensors")


def _nchw(array):
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def _close(got, expected):
    expected = torch.as_tensor(expected)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= RTOL * expected.abs().max()


def test_parameters_are_the_papers(network):
    assert sum(p.numel() for p in network.parameters()) == 2_747_856 - _buffers(network)


def _buffers(network):
    return sum(b.numel() for n, b in network.named_buffers() if "running" in n)


@pytest.mark.parametrize("image", ["img1", "img2"])
@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_stages(network, io, image, stage):
    with torch.inference_mode():
        got = network.encode(_nchw(io[f"input/{image}"]), f"block{stage}")
    _close(got, _nchw(io[f"enc/{image}/block{stage}_6_act2"]))


@pytest.mark.parametrize("layer", ["block3", "block4"])
def test_every_size_of_the_reference(network, io, layer):
    sizes = {name.split("/")[1] for name in io if name.startswith("size/")}
    assert sizes
    for size in sizes:
        with torch.inference_mode():
            got = network.encode(_nchw(io[f"size/{size}/input"]), layer)
        _close(got, _nchw(io[f"size/{size}/{layer}_6_act2"]))


def test_logits_and_distances(network, io):
    first, second = _nchw(io["input/img1"]), _nchw(io["input/img2"])
    with torch.inference_mode():
        logits = network(first, second)
        _close(logits, io["tail/logits"])
        _close(logits.softmax(1), io["tail/probs"])
        for layer in ("block3", "block4"):
            d = (network.encode(first, layer) - network.encode(second, layer)).square()
            _close(d.flatten(1).mean(1), io[f"distance/msd_{layer}_6_act2"])


def test_training_step(network, io, step):
    network.train()
    logits = network(_nchw(io["input/img1"]), _nchw(io["input/img2"]))
    _close(logits.softmax(1), step["probs"])
    entropy = torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(step["labels"])
    )
    penalty = 1e-4 * sum(p.square().sum() for p in network.kernels())
    _close(entropy[None], step["ce"])
    _close(penalty[None], step["l2_reg"])
    (entropy + penalty).backward()
    grads = {
        "block1_1_conv1": network.encoder.stages[0][0].conv1,
        "block2_1_projection": network.encoder.stages[1][0].projection,
        "combined2_conv": network.head.conv2,
        "in_conv": network.encoder.in_conv,
    }
    for name, module in grads.items():
        expected = torch.from_numpy(step[f"grad/{name}/kernel:0"]).permute(3, 2, 0, 1)
        _close(module.weight.grad, expected)
    _close(network.head.pred.weight.grad.T, step["grad/pred/kernel:0"])
    gamma = network.encoder.stages[3][5].bn2.weight.grad
    _close(gamma, step["grad/block4_6_bn2/gamma:0"])
    norm = torch.sqrt(sum(p.grad.square().sum() for p in network.parameters()))
    _close(norm[None], step["grad_global_norm"])


def test_batch_statistics_after_a_step(network, io, step):
    network.train()
    network(_nchw(io["input/img1"]), _nchw(io["input/img2"]))
    modules = {
        "in_bn": network.encoder.in_bn,
        "block4_6_bn2": network.encoder.stages[3][5].bn2,
        "combined1_bn": network.head.bn1,
    }
    for name, module in modules.items():
        _close(module.running_mean, step[f"after_update/{name}/moving_mean"])
        _close(module.running_var, step[f"after_update/{name}/moving_variance"])


def test_normalisation(reference):
    from xatmo.nets.normalization import SignLog

    pairs = np.load(reference / "atmodist" / "metrics.npz")
    physical, normalised = pairs["pre|physical"], pairs["pre|normalised"]  # (n, 2)
    normalize = SignLog(
        mean=(1.9464334e-08, 2.0547947e-07),
        std=(2.8568757e-05, 5.081943e-05),
        log_mean=(0.0008821452, 0.00032483143),
        log_std=(0.15794525, 0.16044095),
    )
    x = torch.from_numpy(physical.T[:, :, None].astype(np.float32))  # (2, n, 1)
    got = normalize(x)
    _close(got[:, :, 0].T, normalised.astype(np.float32))
    _close(normalize.inverse(got), x)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (160, 8, 2, (3, 3)),
        (161, 8, 2, (3, 4)),
        (80, 3, 2, (0, 1)),
        (5, 3, 2, (1, 1)),
        (10, 3, 1, (1, 1)),
    ],
)
def test_padding_rule(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected


def test_foreign_variables_are_refused():
    with pytest.raises(
        WeightsError, match=r"(?s)'decoder/kernel:0' is not one of AtmoDist's"
    ):
        from_keras({"decoder/kernel:0": np.zeros((1, 1), np.float32)})


@pytest.mark.parametrize("size", [(101, 75), (91, 181), (64, 128), (33, 47)])
def test_odd_sizes_by_the_rule_written_out(network, variables, size):
    """The Keras variables, layer by layer, every convolution padded by hand."""

    def tensor(name):
        return torch.from_numpy(variables[name])

    def pad(x, kernel, stride, value=0.0):
        sides = []
        for n in (x.shape[3], x.shape[2]):
            out = (n + stride - 1) // stride
            total = max((out - 1) * stride + kernel - n, 0)
            sides += [total // 2, total - total // 2]
        return torch.nn.functional.pad(x, sides, value=value)

    def conv(x, name, stride=1):
        kernel = tensor(f"{name}/kernel:0").permute(3, 2, 0, 1)
        bias = tensor(f"{name}/bias:0") if f"{name}/bias:0" in variables else None
        x = pad(x, kernel.shape[-1], stride)
        return torch.nn.functional.conv2d(x, kernel, bias, stride)

    def norm(x, name):
        names = ("moving_mean", "moving_variance", "gamma", "beta")
        return torch.nn.functional.batch_norm(
            x, *(tensor(f"{name}/{n}:0") for n in names), eps=1.001e-5
        )

    torch.manual_seed(0)
    first = torch.randn(1, 2, *size)
    x = torch.relu(norm(conv(first, "in_conv", 2), "in_bn"))
    x = torch.nn.functional.max_pool2d(pad(x, 3, 2, float("-inf")), 3, 2)
    for stage in range(1, 5):
        for block in range(1, 7):
            name = f"block{stage}_{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            y = torch.relu(norm(conv(x, f"{name}_conv1", stride), f"{name}_bn1"))
            y = norm(conv(y, f"{name}_conv2"), f"{name}_bn2")
            shortcut = conv(x, f"{name}_projection", stride) if stride == 2 else x
            x = torch.relu(y + shortcut)
        with torch.inference_mode():
            _close(network.encode(first, f"block{stage}"), x)
