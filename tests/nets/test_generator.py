"""The downscaling network: its options, its reach, and its fast copy."""

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xatmo.nets import ARCHITECTURES, generator_inference
from xatmo.nets.generator import Generator
from xatmo.nets.generator_inference import (
    FastGenerator,
    FusedGenerator,
    before_doubling,
)
from xatmo.nets.resample import block_mean, conserve, interpolate

SMALL = {"width": 6, "blocks": 2, "kernel": 5}
FULL = SMALL | {"tail": (6, 3), "noise": 3, "statics": 1, "base": "bicubic"}
CONFIGURATIONS = [
    pytest.param({"blocks": 3}, id="published layers"),
    pytest.param(SMALL, id="small"),
    pytest.param(FULL, id="all options"),
    pytest.param(SMALL | {"factor": 2, "channels": 1}, id="factor 2"),
    pytest.param(SMALL | {"factor": 8, "tail": [4, 5, 3], "statics": 2}, id="factor 8"),
    pytest.param({"width": 5, "blocks": 0, "kernel": 1}, id="least"),
    pytest.param({"width": 3, "blocks": 1, "kernel": 7, "noise": 1}, id="kernel 7"),
]
SIZES = [(13, 17), (4, 4), (1, 9), (1, 1), (30, 2)]


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def made(**options):
    """A network whose biases are not zero, as training would have it."""
    torch.manual_seed(0)
    network = Generator(**options)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.normal_(0, 0.1)
    return network.eval()


def inputs(network, batch, rows, columns):
    """Fields, noise and statics, as the network reads them."""
    f = network.factor
    return (
        normal(batch, network.channels, rows, columns),
        normal(batch, network.noise, rows, columns) if network.noise else None,
        normal(1, network.statics, f * rows, f * columns) if network.statics else None,
    )


def assert_same(found, expected, rtol=1e-5):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= rtol * expected.abs().max()


def test_is_an_architecture():
    assert ARCHITECTURES["generator"] == "xatmo.nets.generator:Generator"


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_any_domain(configuration):
    network = made(**configuration)
    f = network.factor
    for rows, columns in SIZES:
        with torch.inference_mode():
            fine = network(*inputs(network, 2, rows, columns))
        assert fine.shape == (2, network.channels, f * rows, f * columns)
        assert fine.isfinite().all()


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_everything_learns(configuration):
    network = made(**configuration).train()
    given = [x if x is None else x.requires_grad_() for x in inputs(network, 2, 6, 7)]
    network(*given).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    assert all(x.grad.abs().sum() > 0 for x in given if x is not None)
    assert len(network.kernels()) == sum(
        1 for n in network.state_dict() if "weight" in n
    )


def touched(network, which, fine_column):
    """Columns of an input that the result in one fine column depends on."""
    width = 2 * network.reach + 9
    given = [
        x if x is None else x.double().requires_grad_()
        for x in inputs(network, 1, 1, width)
    ]
    fine = network(*given)
    (slope,) = torch.autograd.grad(fine[..., fine_column].sum(), given[which])
    return slope.abs().sum((0, 1, 2)).nonzero().flatten()


@pytest.mark.parametrize(
    "configuration", [pytest.param({}, id="published"), *CONFIGURATIONS]
)
def test_reach_is_exact(configuration):
    network = made(**configuration).double()
    f, middle = network.factor, network.reach + 4
    farthest = 0
    for pixel in (0, f - 1):
        columns = touched(network, 0, f * middle + pixel)
        farthest = max(farthest, (columns - middle).abs().max().item())
    assert farthest == network.reach


def test_reach_of_noise_and_statics():
    network = made(**FULL).double()
    f, middle = network.factor, network.reach + 4
    for which, per_column in ((1, 1), (2, f)):
        columns = touched(network, which, f * middle) // per_column
        assert 0 < (columns - middle).abs().max() <= network.reach


def test_reach_in_both_directions():
    """What lies farther than the reach changes nothing at all, what lies in it does."""
    network = made(**FULL)
    size, f = 2 * network.reach + 5, network.factor
    x, noise, statics = inputs(network, 1, size, size)
    with torch.inference_mode():
        before = network(x, noise, statics)
        middle = size // 2
        for axis in (2, 3):
            other = x.clone()
            other.select(axis, middle - network.reach - 1).add_(10.0)
            moved = (network(other, noise, statics) - before).abs()
            rest = moved.movedim(axis, 0)[f * middle :]
            assert rest.max() == 0
            assert moved.max() > 0.1


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "fast"])
def test_pieces_equal_the_whole(fast):
    network = made(**FULL)
    network = network.for_inference() if fast else network
    reach, f = network.reach, network.factor
    x, noise, statics = inputs(network, 1, 40, 44)
    with torch.inference_mode():
        whole = network(x, noise, statics)
        for top, bottom, left, right in (
            (0, 15, 0, 20),
            (15, 40, 7, 44),
            (18, 23, 20, 21),
        ):
            lows = max(top - reach, 0), max(left - reach, 0)
            y = slice(lows[0], bottom + reach), slice(lows[1], right + reach)
            fine_y = slice(f * lows[0], f * (bottom + reach))
            fine_x = slice(f * lows[1], f * (right + reach))
            part = network(
                x[..., y[0], y[1]], noise[..., y[0], y[1]], statics[..., fine_y, fine_x]
            )
            part = part[..., f * (top - lows[0]) :, f * (left - lows[1]) :]
            part = part[..., : f * (bottom - top), : f * (right - left)]
            expected = whole[..., f * top : f * bottom, f * left : f * right]
            assert_same(part, expected, 1e-6)


def test_a_realization_is_what_its_noise_makes_it():
    network = made(**FULL)
    x, noise, statics = inputs(network, 1, 8, 9)
    with torch.inference_mode():
        first, again = (network(x, noise, statics) for _ in range(2))
        second = network(x, noise.flip(1), statics)
    assert torch.equal(first, again)
    assert (first - second).abs().max() > 1e-3


def test_statics_are_those_of_each_field_or_of_all():
    network = made(**FULL)
    x, noise, statics = inputs(network, 3, 5, 6)
    with torch.inference_mode():
        one = network(x, noise, statics)
        each = network(x, noise, statics.repeat(3, 1, 1, 1))
    assert torch.equal(one, each)


def test_base_is_the_conserved_interpolation():
    network = made(**FULL)
    nn.init.zeros_(network.last.weight)
    nn.init.zeros_(network.last.bias)
    x, noise, statics = inputs(network, 2, 7, 9)
    fine = network(x, noise, statics)
    assert torch.equal(fine, conserve(interpolate(x, 4, "bicubic"), x, 4))
    assert_same(block_mean(fine, 4), x, 1e-6)


def test_begins_without_a_checkerboard():
    torch.manual_seed(0)
    network = Generator()
    for conv in network.doublings:
        kernels = conv.weight.unflatten(0, (-1, 4))
        assert torch.equal(kernels, kernels[:, :1].expand_as(kernels))
        # Xavier's range for one kernel of 64 to 64 features, not for all four.
        limit = (6 / (9 * 64 + 9 * 64)) ** 0.5
        assert 0.98 * limit < conv.weight.abs().max() <= limit
    assert all(p.abs().max() == 0 for p in network.parameters() if p.ndim == 1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"factor": 3}, r"factor must be a power of two, not 3"),
        ({"factor": 1}, r"factor must be a whole number of at least 2, not 1"),
        ({"factor": 4.0}, r"factor must be a whole number of at least 2, not 4\.0"),
        ({"kernel": 8}, r"kernel must be odd, so that it has a middle, not 8"),
        ({"channels": 0}, r"channels must be a whole number of at least 1, not 0"),
        ({"width": "64"}, r"width must be a whole number of at least 1, not '64'"),
        ({"blocks": -1}, r"blocks must be a whole number of at least 0, not -1"),
        ({"noise": True}, r"noise must be a whole number of at least 0, not True"),
        ({"statics": -2}, r"statics must be a whole number of at least 0, not -2"),
        ({"tail": (64,)}, r"tail must have 2 widths for factor 4, not 1"),
        ({"tail": (64, 0)}, r"tail must be a whole number of at least 1, not 0"),
        ({"base": "bilinear"}, r"base must be 'bicubic' or absent, not 'bilinear'"),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(ValueError, match=text):
        Generator(**options)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"noise": None},
            r"reads noise of shape \(2, 3, 5, 6\), but nothing was given",
        ),
        (
            {"statics": None},
            r"reads statics of shape \(2, 1, 20, 24\), but nothing was",
        ),
        (
            {"x": normal(2, 3, 5, 6)},
            r"reads x of shape \(2, 2, 5, 6\).*\(2, 3, 5, 6\) was",
        ),
        (
            {"noise": normal(1, 3, 5, 6)},
            r"noise of shape.*but \(1, 3, 5, 6\) was given",
        ),
        ({"statics": normal(1, 1, 5, 6)}, r"statics of shape.*but \(1, 1, 5, 6\) was"),
    ],
)
@pytest.mark.parametrize("fast", [False, True], ids=["plain", "fast"])
def test_wrong_tensors(change, text, fast):
    network = made(**FULL)
    network = network.for_inference() if fast else network
    given = dict(zip(("x", "noise", "statics"), inputs(network, 2, 5, 6), strict=True))
    with pytest.raises(ValueError, match=text):
        network(**(given | change))


# The fast copy.


@pytest.fixture
def plain():
    return made(**FULL).requires_grad_(False)


@pytest.mark.parametrize("side", [96, 5])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_fast_is_the_same(configuration, side, monkeypatch):
    monkeypatch.setattr(generator_inference, "_SIDE", {False: side, True: side})
    plain = made(**configuration)
    fast = plain.for_inference()
    assert fast.reach == plain.reach
    for rows, columns in SIZES:
        given = inputs(plain, 3, rows, columns)
        with torch.inference_mode():
            assert_same(fast(*given), plain(*given))


def test_tiles_change_nothing(plain, monkeypatch):
    fast, given = plain.for_inference(), inputs(plain, 2, 21, 34)
    with torch.inference_mode():
        whole = fast(*given)
        for side in (1, 4, 16, 33):
            monkeypatch.setattr(generator_inference, "_SIDE", {False: side})
            assert_same(fast(*given), whole, 1e-6)


def test_memory_behind_the_trunk_is_bounded(plain, monkeypatch):
    """However large the domain and the batch, a tile has no more points."""
    monkeypatch.setattr(generator_inference, "_SIDE", {False: 8})
    fast, points = plain.for_inference(), []

    class Watched:
        def refine(self, tile):
            points.append(tile.shape[0] * tile.shape[2] * tile.shape[3])
            return FusedGenerator.refine(fused, tile)

        def body(self, h):
            return FusedGenerator.body(fused, h)

    fused, fast.fused = fast.fused, Watched()
    for batch, rows, columns in ((9, 3, 5), (2, 100, 7), (1, 9, 200), (1, 41, 43)):
        fast(*inputs(plain, batch, rows, columns))
    assert max(points) <= (8 + 2 * fast.tail_reach) ** 2


def test_fused_where_torch_has_onednn(plain):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch was built without oneDNN")
    assert plain.for_inference().fused is not None


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9])
def test_convolution_before_the_doubling(kernel):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 2, kernel, padding=kernel // 2).double()
    x = normal(2, 12, 6, 5).double()
    with torch.no_grad():
        expected = conv(F.pixel_shuffle(x, 2))
        found = F.pixel_shuffle(before_doubling(conv).double()(x), 2)
    # The moved kernel is kept in single precision.
    assert_same(found, expected, 1e-6)


def test_input_is_left_alone(plain):
    given = inputs(plain, 2, 9, 9)
    kept = [x.clone() for x in given]
    plain.for_inference()(*given)
    assert all(map(torch.equal, given, kept))


def test_copies_the_weights(plain):
    given = inputs(plain, 1, 9, 9)
    fast, before = plain.for_inference(), plain(*given)
    nn.init.zeros_(plain.last.weight)
    assert_same(fast(*given), before)
    assert_same(fast.double()(*(x.double() for x in given)), before)


def test_leaves_the_network_in_training():
    network = Generator(**SMALL).train()
    fast = network.for_inference()
    assert network.training
    assert not fast.training
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_any_memory_layout(plain, memory):
    x, noise, statics = inputs(plain, 2, 9, 11)
    x, noise = (t.contiguous(memory_format=memory) for t in (x, noise))
    statics = statics.transpose(2, 3).contiguous().transpose(2, 3)
    expected = plain(x, noise, statics)
    assert_same(plain.for_inference()(x, noise, statics), expected)


def test_threads_agree(plain):
    fast = plain.for_inference()
    batches = [inputs(plain, 1, 12 + n % 3, 15) for n in range(16)]
    alone = [fast(*given) for given in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda given: fast(*given), batches))
    assert all(map(torch.equal, alone, together))


def test_nothing_global_changes(plain):
    def settings():
        return (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_num_threads(),
            torch.get_rng_state().tolist(),
        )

    before, given = settings(), inputs(plain, 1, 9, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain.for_inference()(*given)
    assert settings() == before


def fails(*args, **kwargs):
    raise RuntimeError("no such operator")


def lies(self, h):
    return torch.zeros(1, 2, 48, 68)


@pytest.mark.parametrize("broken", [fails, lies])
def test_plain_where_the_operators_do_not_work(plain, monkeypatch, broken):
    monkeypatch.setattr(FusedGenerator, "refine", broken)
    fast = plain.for_inference()
    assert fast.fused is None
    given = inputs(plain, 2, 20, 30)
    assert_same(fast(*given), plain(*given))


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_plain_where_onednn_is_switched_off(plain, monkeypatch):
    fast = plain.for_inference()
    monkeypatch.setattr(FusedGenerator, "body", fails)
    given = inputs(plain, 1, 9, 9)
    with torch.backends.mkldnn.flags(enabled=False):
        assert_same(fast(*given), plain(*given))


def test_plain_under_autocast(plain):
    fast, given = plain.for_inference(), inputs(plain, 1, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = fast(*given), plain(*given)
        assert found.dtype == expected.dtype
        assert plain.for_inference().fused is not None or fast.fused is None
    assert_same(found.float(), expected.float(), 0.03)


def test_plain_for_gradients_of_the_input(plain):
    with torch.inference_mode():
        fast = plain.for_inference()
    slopes = []
    for network in (plain, fast):
        x, noise, statics = inputs(plain, 1, 9, 9)
        network(x.requires_grad_(), noise, statics).square().mean().backward()
        slopes.append(x.grad)
    assert_same(*slopes)


def test_empty_batch(plain):
    x, noise, statics = inputs(plain, 1, 9, 9)
    assert plain.for_inference()(x[:0], noise[:0], statics).shape == (0, 2, 36, 36)


@pytest.mark.parametrize(
    "again",
    [copy.deepcopy, FastGenerator, lambda fast: pickle.loads(pickle.dumps(fast))],  # noqa: S301
    ids=["copied", "fast twice", "pickled"],
)
def test_survives_copying(plain, again):
    fast, given = plain.for_inference(), inputs(plain, 1, 9, 9)
    other = again(fast)
    assert (other.fused is None) == (fast.fused is None)
    assert torch.equal(other(*given), fast(*given))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_plain_on_a_gpu(plain, monkeypatch):
    monkeypatch.setattr(generator_inference, "_SIDE", {True: 20})
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    plain = plain.cuda()
    given = [x.cuda() for x in inputs(plain, 2, 45, 90)]
    assert_same(plain.for_inference()(*given), plain(*given))
