"""ClimaX: what depends on what, whatever its weights."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from xatmo.errors import OptionError
from xatmo.nets import ARCHITECTURES
from xatmo.nets.climax import VARIABLES, ClimaX
from xatmo.nets.climax_blocks import Block
from xatmo.nets.climax_loss import latitude_mse, latitude_weights
from xatmo.nets.climax_position import place_code, resize_positions
from xatmo.nets.climax_region import Patches, patches_of_box
from xatmo.nets.climax_series import ClimaXSeries
from xatmo.nets.climax_variables import (
    QueryPool,
    VariablePool,
    join_patches,
    patches_of,
)

NAMES = ("2m_temperature", "u_500", "v_500", "z_500", "q_850")
SIZES = {"grid": (8, 12), "patch": 2, "width": 24, "depth": 2, "heads": 3}
HOURS = torch.tensor([6.0, 72.0])
LATITUDE = np.arange(-78.75, 90, 22.5)  # of the grid
LONGITUDE = np.arange(0.0, 360, 30)


def _random(network):
    """Weights all of which matter: in a new network the query is zero."""
    generator = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        scale = 0.5 if parameter.ndim == 1 else 1.5 * parameter.shape[-1] ** -0.5
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.data.copy_(scale * drawn)
    return network.eval()


def _build(variables=NAMES, **options):
    return _random(ClimaX(variables, **{**SIZES, **options}))


def _fields(network=None, count=5, samples=2):
    generator = torch.Generator().manual_seed(1)
    grid = network.grid if network is not None else SIZES["grid"]
    return torch.randn(samples, count, *grid, generator=generator)


def _close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, atol=atol, rtol=1e-5)


@pytest.fixture
def network():
    return _build()


# --- Predictions ----------------------------------------------------------------------


def test_it_has_a_name_for_model_cards():
    assert ARCHITECTURES["climax"] == "xatmo.nets.climax:ClimaX"


def test_variables_of_published_networks():
    assert len(VARIABLES) == len(set(VARIABLES)) == 48
    assert VARIABLES.index("geopotential_500") == 8


def test_shapes(network):
    fields = _fields()
    assert network(fields, HOURS).shape == (2, 5, 8, 12)
    assert network(fields[:, :2], 6.0, NAMES[:2]).shape == (2, 2, 8, 12)
    found = network(fields[:, :2], 6.0, NAMES[:2], ["q_850"])
    assert found.shape == (2, 1, 8, 12)
    assert network.encode(fields, HOURS).shape == (2, 24, 24)
    assert network.variable_weights(fields).shape == (2, 24, 3, 5)


def test_parameters_are_found_by_names_of_variables(network):
    keys = network.state_dict().keys()
    for name in NAMES:
        for key in (f"tokens.{name}.weight", f"tokens.{name}.code"):
            assert key in keys
        assert network.get_parameter(f"pixels.{name}.weight").shape == (4, 24)


def test_the_order_of_variables_does_not_matter(network):
    other = [3, 0, 4, 1, 2]
    names = [NAMES[n] for n in other]
    fields = _fields()
    expected = network(fields, HOURS)
    _close(network(fields[:, other], HOURS, names, NAMES), expected)
    _close(network(fields, HOURS, targets=names), expected[:, other])
    reordered = _build(names)
    reordered.load_state_dict(network.state_dict(), strict=True)
    _close(reordered(fields[:, other], HOURS), expected[:, other])


def test_a_network_of_fewer_variables_is_the_same(network):
    some = _build(NAMES[1:3])
    state = network.state_dict()
    some.load_state_dict({k: state[k] for k in some.state_dict()}, strict=True)
    fields = _fields()[:, 1:3]
    _close(some(fields, HOURS), network(fields, HOURS, NAMES[1:3]))


def test_each_variable_that_is_read_matters(network):
    fields, expected = _fields(), network(_fields(), HOURS)
    for number in range(len(NAMES)):
        other = fields.clone()
        other[:, number] += 1
        assert (network(other, HOURS) - expected).abs().max() > 1e-2


def test_what_is_not_asked_for_is_not_computed(network):
    rows = []
    network.pixels["u_500"].register_forward_hook(lambda *a: rows.append("module"))
    real = F.linear

    def counted(x, weight, bias=None):
        rows.append(weight.shape[0])
        return real(x, weight, bias)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xatmo.nets.climax.F.linear", counted)
        network(_fields(), HOURS, targets=NAMES[1:3])
    assert rows[-1] == 2 * 4  # pixels of two variables
    assert "module" not in rows


def test_lead_times_are_of_samples(network):
    fields = _fields()
    both = network(fields, HOURS)
    for number, hours in enumerate(HOURS):
        one = fields[number : number + 1]
        for lead in (hours, hours[None], float(hours), int(hours)):
            _close(network(one, lead), both[number : number + 1])
    _close(network(fields, torch.tensor([72])), network(fields, 72.0))
    assert (network(fields, 6.0) - network(fields, 72.0)).abs().max() > 1e-2


def test_samples_do_not_see_each_other(network):
    fields = _fields()
    _close(network(fields, 6.0)[:1], network(fields[:1], 6.0))


def test_a_new_network_takes_plain_means_of_variables():
    torch.manual_seed(0)
    network = ClimaX(NAMES, **SIZES)
    weights = network.variable_weights(_fields())
    _close(weights, torch.full_like(weights, 1 / len(NAMES)))
    assert torch.equal(network.position.data, place_code(4, 6, 24).float())
    assert not torch.equal(*(network.tokens[name].code for name in NAMES[:2]))
    assert network.blocks[0].qkv.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not network.blocks[1].second.bias.any()
    bound = (6 / (24 + 72)) ** 0.5
    assert network.pool.attention.project.weight.abs().max() <= bound
    assert network.pool.attention.project.weight.std() > 0.4 * bound


def test_patches_by_hand():
    fields = torch.arange(2 * 4 * 6.0).view(1, 2, 4, 6)
    patches = patches_of(fields, 2)
    assert patches.shape == (1, 6, 2, 4)
    assert patches[0, 4, 1].tolist() == fields[0, 1, 2:, 2:4].flatten().tolist()
    assert torch.equal(join_patches(patches, (2, 3), 2), fields)


# --- Folding --------------------------------------------------------------------------

WAYS = pytest.mark.parametrize("folded", [True, False], ids=["folded", "plain"])
PRECISIONS = pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)]
)
CASES = [
    {},
    {"patch": 1, "heads": 1},
    {"patch": 4, "heads": 6},
    {"variables": NAMES[:1]},
    {"variables": [f"v{n}" for n in range(40)], "heads": 2},
]


def _both(dtype, **options):
    """A network, and the same one in the plain way."""
    network = _build(**options).to(dtype)
    plain = copy.deepcopy(network)
    plain.pool.folded = False
    return network, plain


@pytest.mark.parametrize("options", CASES)
@PRECISIONS
def test_folded_is_plain(options, dtype, atol):
    """Outputs, weights of variables, gradients of weights and of fields."""
    networks = _both(dtype, **options)
    names = networks[0].variables
    some = names[:1] + names[2:] if len(names) > 2 else names
    results = []
    for network in networks:
        fields = _fields(network, len(some)).to(dtype).requires_grad_()
        found = network(fields, HOURS, some, names)
        weights = network.variable_weights(fields, some)
        (found.square().mean() + weights.square().mean()).backward()
        grads = {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in network.named_parameters()
        }
        results.append({"out": found, "w": weights, "in": fields.grad, **grads})
    folded, plain = results
    assert folded["out"].std() > 0.1
    for name, found in folded.items():
        with torch.no_grad():
            error = (found - plain[name]).abs().max()
            assert error <= atol * max(1.0, plain[name].abs().max()), name


def test_the_module_makes_the_same_weights_both_ways():
    network, plain = _both(torch.float64)
    fields = _fields().double()
    found = network.variable_weights(fields)
    assert (found - plain.variable_weights(fields)).abs().max() < 1e-12
    _close(found.sum(-1), torch.ones(2, 24, 3).double(), 1e-12)
    assert found.max() - found.min() > 0.5


class _Largest(TorchDispatchMode):
    """Sees the size of everything that is computed."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(one, torch.Tensor):
                self.numel = max(self.numel, one.numel())
        return out


@WAYS
def test_tokens_are_never_made(folded):
    names = [f"v{n}" for n in range(60)]
    network = _build(names, folded=folded, width=96)
    network.blocks = torch.nn.ModuleList()
    fields = _fields(count=60)
    tokens = 2 * 24 * 60 * 96
    with torch.no_grad(), _Largest() as seen:
        network.encode(fields, 6.0)
    assert (seen.numel < tokens / 8) == folded
    sizes = []
    keep = torch.autograd.graph.saved_tensors_hooks(
        lambda x: (sizes.append(x.numel()), x)[1], lambda x: x
    )
    with keep:
        network.encode(fields, 6.0).sum().backward()
    assert (max(sizes) < tokens / 4) == folded


def test_gradients_of_a_training_step_are_equal():
    """With dropout and drop path, drawn alike: the pool comes before either."""
    networks = _both(torch.float64)
    grads = []
    for network in networks:
        torch.manual_seed(3)
        network.train()(_fields().double(), HOURS).square().mean().backward()
        grads.append([p.grad for p in network.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-8)


# --- What is kept ---------------------------------------------------------------------


@pytest.fixture
def folds(monkeypatch):
    """How often weights were folded."""
    count = []
    real = VariablePool.fold
    monkeypatch.setattr(VariablePool, "fold", lambda *a: (count.append(1), real(*a))[1])
    return count


def test_weights_are_folded_once(network, folds):
    fields = _fields()
    with torch.inference_mode():
        found = [network(fields, lead) for lead in (6.0, 6.0, 12.0)]
        network.variable_weights(fields)
    assert len(folds) == 1
    assert torch.equal(found[0], found[1])
    with torch.no_grad():
        network(fields[:, :2], 6.0, NAMES[:2])
        network(fields[:, :2], 6.0, NAMES[:2])
        assert len(folds) == 2
        again = network(fields, 6.0)
    assert len(folds) == 3
    assert torch.equal(again, found[0])


def test_nothing_is_kept_where_gradients_are_wanted(network, folds):
    for _ in range(2):
        network(_fields(), 6.0).sum().backward()
    assert len(folds) == 2
    network.train()
    with torch.no_grad():
        network(_fields(), 6.0), network(_fields(), 6.0)
    assert len(folds) == 4


def _step(network):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with torch.enable_grad():
        network(_fields(), 6.0).square().mean().backward()
    optimizer.step()


def _in_place(network):
    network.tokens["u_500"].weight.mul_(2)


def _load(network):
    state = {k: t + 0.1 for k, t in network.state_dict().items()}
    network.load_state_dict(state)


def _assign(network):
    network.pool.attention.query = torch.nn.Parameter(torch.ones(24))


def _again(network):
    """Perhaps in the memory that the one before has left."""
    network.pool.attention.query = None
    network.pool.attention.query = torch.nn.Parameter(torch.ones(24))


def _data(network):
    network.pool.attention.query.data = torch.ones(24)


def _behind(network):
    network.pool.attention.query.data.add_(1)
    network.eval()


CHANGES = [_step, _in_place, _load, _assign, _again, _data, _behind]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_weights_is_seen(network, change):
    fields = _fields()
    with torch.no_grad():
        before = network(fields, 6.0)
        change(network)
        found = network(fields, 6.0)
        network.pool.folded = False
        expected = network(fields, 6.0)
    assert (before - expected).abs().max() > 1e-3
    _close(found, expected)


def test_what_is_kept_has_the_weights_precision(network):
    fields = _fields()
    with torch.no_grad():
        network(fields, 6.0)
        double = network.double()(fields.double(), 6.0)
        assert double.dtype == torch.float64
        network.pool.folded = False
        assert (double - network(fields.double(), 6.0)).abs().max() < 1e-10


def test_copies_keep_nothing(network):
    fields = _fields()
    with torch.inference_mode():
        expected = network(fields, 6.0)
        for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):  # noqa: S301
            assert other.pool._kept is None
            _in_place(other)
            assert (other(fields, 6.0) - expected).abs().max() > 1e-3
        assert network.pool._kept is not None
        assert torch.equal(network(fields, 6.0), expected)


def test_weights_made_in_inference_mode(folds):
    """Torch does not count their versions: they are folded each time."""
    with torch.inference_mode():
        network = _build()
        before = network(_fields(), 6.0)
        _in_place(network)
        assert (network(_fields(), 6.0) - before).abs().max() > 1e-3
    assert len(folds) == 2


def test_threads_may_ask_for_different_variables(network):
    fields = _fields()
    some = [NAMES[:3], NAMES[2:], NAMES[1:4]]

    def forecast(names):
        first = NAMES.index(names[0])
        with torch.inference_mode():
            return network(fields[:, first : first + len(names)], 6.0, names)

    expected = [forecast(names) for names in some]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(forecast, some * 10))
    for number, one in enumerate(found):
        _close(one, expected[number % 3])


# --- Precision and training -----------------------------------------------------------


@WAYS
@pytest.mark.parametrize("no_grad", [True, False])
def test_half_precision(folded, no_grad):
    network = _build(folded=folded)
    with torch.set_grad_enabled(not no_grad):
        expected = network(_fields(), HOURS)
        with torch.autocast("cpu", torch.bfloat16):
            cast = network(_fields(), HOURS)
        half = copy.deepcopy(network).bfloat16()(_fields().bfloat16(), HOURS)
    assert half.dtype == torch.bfloat16
    for found in (cast, half):
        assert (found - expected).abs().mean() < 0.05 * expected.std()


def test_autocast_leaves_the_folded_pool_in_single_precision(network):
    names = network._tokens(NAMES)
    patches = patches_of(_fields(), 2)
    expected = network.pool(patches, names)
    with torch.autocast("cpu", torch.bfloat16):
        found = network.pool(patches, names)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("autocast", [False, True])
def test_without_gradients_the_numbers_are_the_same(network, autocast):
    """Though what is not needed again is overwritten."""
    fields = _fields()
    before = fields.clone()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        with torch.no_grad():
            found = network(fields, HOURS)
        _close(found, network(fields, HOURS), atol=1e-2 if autocast else 1e-5)
    assert torch.equal(fields, before)


def test_gradients_reach_every_weight():
    network = _build().train()
    network(_fields(), HOURS).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_the_keys_bias_does_not_matter():
    network = _build()
    found = network(_fields(), HOURS)
    found.sum().backward()
    assert not network.pool.attention.project.bias.grad[24:48].any()
    with torch.no_grad():
        network.pool.attention.project.bias[24:48] += 1
        network.pool.folded = False
        _close(network(_fields(), HOURS), found.detach())


def test_dropout_is_for_training_only(network):
    assert torch.equal(network(_fields(), 6.0), network(_fields(), 6.0))
    network.train()
    assert not torch.equal(network(_fields(), 6.0), network(_fields(), 6.0))


def test_drop_path_passes_by_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    block = Block(8, 2, 16, drop_path=0.25).train()
    torch.nn.init.zeros_(block.second.weight), torch.nn.init.zeros_(block.second.bias)
    x = torch.randn(1, 3, 8).expand(4000, 3, 8)
    with torch.no_grad():
        added = block(x) - x
        whole = block.eval()(x[:1]) - x[:1]
    passed = (added == 0).all(-1).all(-1)
    assert passed.float().mean() == pytest.approx(0.25, abs=0.03)
    _close(added[~passed], (whole / 0.75).expand_as(added[~passed]))
    rates = [b.drop_path for b in ClimaX(NAMES, **{**SIZES, "depth": 3}).blocks]
    assert rates == pytest.approx([0.0, 0.05, 0.1])


def test_a_few_steps_learn():
    torch.manual_seed(0)
    network = ClimaX(NAMES, **SIZES, dropout=0.0, drop_path=0.0).train()
    fields = _fields()
    truth = fields.roll(1, -1)
    latitude = torch.from_numpy(LATITUDE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = latitude_mse(network(fields, HOURS), truth, latitude)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert network.pool.attention.query.any()


def test_attention_to_variables_is_what_was_used():
    torch.manual_seed(0)
    pool = QueryPool(12, 3)
    torch.nn.init.normal_(pool.query)
    tokens = torch.randn(2, 4, 5, 12)
    weights = pool.weights(tokens)  # (2, 4, 3, 5)
    value = F.linear(tokens, pool.project.weight[24:], pool.project.bias[24:])
    mean = torch.einsum("abhn,abnhd->abhd", weights, value.unflatten(-1, (3, 4)))
    _close(pool.out(mean.flatten(-2)), pool(tokens))


# --- The loss -------------------------------------------------------------------------


def test_loss_by_hand():
    latitude = torch.tensor([60.0, 0.0])
    _close(latitude_weights(latitude), torch.tensor([2 / 3, 4 / 3]))
    prediction = torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])
    target = torch.zeros(1, 2, 2)
    expected = (2 / 3 * (1 + 4) + 4 / 3 * 9) / 4
    assert float(latitude_mse(prediction, target, latitude)) == pytest.approx(expected)
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    expected = (2 / 3 * 1 + 4 / 3 * 9) / 3
    masked = latitude_mse(prediction, target, latitude, mask)
    assert float(masked) == pytest.approx(expected)
    several = [x.expand(5, 3, 2, 2) for x in (prediction, target)]
    _close(latitude_mse(*several, latitude, mask), masked)
    assert torch.equal(latitude_mse(*several, latitude, mask > 0), masked)


def test_weights_at_the_poles_are_not_negative():
    weights = latitude_weights(torch.arange(-90.0, 91.0, 30.0))
    assert weights.min() >= 0
    assert weights.mean() == pytest.approx(1.0)


def test_loss_of_other_rows_is_refused():
    with pytest.raises(OptionError, match=r"(?s)\(2, 3, 4\), \(2, 3, 4\), 4 rows"):
        latitude_mse(torch.ones(2, 3, 4), torch.ones(2, 3, 4), torch.ones(4))
    with pytest.raises(OptionError, match=r"(?s)\(1, 3, 4\), \(2, 3, 4\)"):
        latitude_mse(torch.ones(1, 3, 4), torch.ones(2, 3, 4), torch.ones(3))


# --- Regions and grids ----------------------------------------------------------------


def test_a_region_is_read_as_a_part_of_the_grid(network):
    """Tokens of its patches are those of the whole grid, before they see each other."""
    region = patches_of_box(LATITUDE, LONGITUDE, (-30, 60), (-100, 70), 2)
    assert region.columns == (4, 5, 0, 1)
    fields = _fields()
    whole = network._pooled(fields, None, None) + network._place(None)
    part = network._pooled(region.crop(fields), None, region) + network._place(region)
    ids = [6 * row + column for row in region.rows for column in region.columns]
    _close(part, whole[:, ids])
    found = network(region.crop(fields), HOURS, region=region)
    assert found.shape == (2, 5, 2 * len(region.rows), 8)
    weights = network.variable_weights(region.crop(fields), region=region)
    _close(weights, network.variable_weights(fields)[:, ids])


def test_the_whole_grid_is_a_region(network):
    everything = patches_of_box(LATITUDE, LONGITUDE, (-90, 90), (0, 360), 2)
    assert len(everything) == 24
    fields = _fields()
    assert torch.equal(everything.crop(fields), fields)
    _close(network(fields, HOURS, region=everything), network(fields, HOURS))


FINE = np.arange(-88.75, 90, 2.5), np.arange(0, 360, 2.5)  # 72 x 144


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("start", [0.0, -180.0])
@pytest.mark.parametrize(
    ("latitudes", "longitudes"),
    [
        ((15, 65), (220, 300)),
        ((15, 65), (-140, -60)),
        ((-25, -10), (165, -170)),
        ((-25, -10), (165, 190)),
        ((35, 70), (-12.5, 40)),
        ((35, 70), (347.5, 40)),
        ((-90, 90), (0, 360)),
        ((-90, 90), (-180, 180)),
        ((60, 20), (10, 5)),
        ((1, 2), (0, 0)),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_boxes(latitudes, longitudes, start, turned, whole):
    """Cell by cell: what is in the box, and what lies in its patches."""
    latitude, longitude = FINE[0][:: -1 if turned else 1], FINE[1] + start
    south, north = sorted(latitudes)
    west, span = longitudes[0], longitudes[1] - longitudes[0]
    span = 360 if span >= 360 else span % 360
    inside = {
        (row, column)
        for row, y in enumerate(latitude)
        for column, x in enumerate(longitude)
        if south <= y <= north and (x - west) % 360 <= span
    }
    box = (latitude, longitude, latitudes, longitudes, 4)
    if whole and latitudes == (1, 2):
        with pytest.raises(OptionError, match="No patch lies wholly in the box"):
            patches_of_box(*box, whole=True)
        return
    region = patches_of_box(*box, whole=whole)
    rows, columns = region.cells
    covered = {(row, column) for row in rows.tolist() for column in columns.tolist()}
    assert len(covered) == 16 * len(region) == len(rows) * len(columns)
    assert covered <= inside if whole else covered >= inside
    taken = {(row, column) for row in region.rows for column in region.columns}
    for row, column in {(r // 4, c // 4) for r, c in inside}:
        cells = {(4 * row + i, 4 * column + j) for i in range(4) for j in range(4)}
        assert ((row, column) in taken) == (not whole or cells <= inside)
    # From west to east without a jump, and rows as the grid has them.
    np.testing.assert_allclose(np.diff(longitude[columns]) % 360, 2.5)
    assert list(rows) == sorted(rows)


def test_a_box_on_a_part_of_the_globe():
    latitude, longitude = np.arange(30.0, 70), np.arange(-20.0, 40)
    region = patches_of_box(latitude, longitude, (45, 55), (350, 380), 5)
    assert longitude[region.cells[1]].tolist() == list(range(-10, 25))
    with pytest.raises(OptionError, match=r"(?s)No cell lies.*30 to 69.*-20 to 39"):
        patches_of_box(latitude, longitude, (45, 55), (100, 120), 5)


def test_edges_of_a_box_in_single_precision():
    latitude = np.arange(-89.95, 90, 0.1).astype(np.float32)
    longitude = np.arange(0.05, 360, 0.1).astype(np.float32)
    assert float(longitude[3000]) < 300.05 - 1e-5  # rounded, out of the box
    box = (10.05, 11.95), (300.05, 301.95)
    region = patches_of_box(latitude, longitude, *box, 10, whole=True)
    assert (region.shape, region.columns) == ((2, 2), (300, 301))


def test_crops_of_arrays_and_tensors_are_the_same():
    region = Patches(rows=(1,), columns=(3, 0), size=2)
    fields = _fields()
    found = region.crop(fields)
    assert np.array_equal(region.crop(fields.numpy()), found.numpy())
    assert torch.equal(found, fields[..., 2:4, [6, 7, 0, 1]])
    assert (len(region), region.shape) == (2, (1, 2))


def test_grids_that_are_not_made_of_patches():
    with pytest.raises(OptionError, match=r"(?s)9 x 12 cells, patches of 2 x 2"):
        patches_of_box(np.arange(9.0), LONGITUDE, (0, 5), (0, 5), 2)


def test_positions_on_another_grid(network):
    positions = network.position.detach()
    finer = resize_positions(positions, (8, 12))
    assert finer.shape == (8, 12, 24)
    assert resize_positions(positions, (4, 6)) is positions
    smooth = torch.linspace(0, 1, 6)[None, :, None].expand(4, 6, 24)
    found = resize_positions(smooth, (4, 12))
    assert found[0, :, 0].diff().min() > 0
    other = _build(grid=(16, 24))
    other.load_state_dict({**network.state_dict(), "position": finer}, strict=True)
    assert other(_fields(other), HOURS).shape == (2, 5, 16, 24)
    for shape in ((4,), (0, 6)):
        with pytest.raises(OptionError, match=r"(?s)cannot be resized.*\(4, 6, 24\)"):
            resize_positions(positions, shape)
    with pytest.raises(OptionError, match="cannot be resized"):
        resize_positions(positions.flatten(0, 1), (4, 6))


# --- Series ---------------------------------------------------------------------------


def _series(**options):
    names = ("CO2", "SO2", "CH4", "BC")
    return _random(ClimaXSeries(names, **{**SIZES, "times": 3, **options}))


def _series_fields(samples=2):
    return _fields(count=samples * 12, samples=1).view(samples, 3, 4, 8, 12)


@PRECISIONS
def test_series_folded_is_plain(dtype, atol):
    network = _series().to(dtype)
    plain = copy.deepcopy(network)
    plain.pool.folded = False
    fields = _series_fields().to(dtype)
    results = [n(fields) for n in (network, plain)]
    for found in results:
        found.square().mean().backward()
    torch.testing.assert_close(*results, atol=atol, rtol=1e-5)
    for one, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=atol, rtol=1e-4)


def test_series_tell_times_apart_and_samples_too():
    network, fields = _series(), _series_fields()
    found = network(fields)
    assert found.shape == (2, 1, 8, 12)
    _close(network(fields[1:]), found[1:])
    assert (network(fields.flip(1)) - found).abs().max() > 1e-3
    for time in range(3):
        other = fields.clone()
        other[:, time] += 1
        assert (network(other) - found).abs().max() > 1e-3
    some = [0, 2]
    _close(
        network(fields[:, :, [2, 0]], ["CH4", "CO2"]),
        network(fields[:, :, some], ["CO2", "CH4"]),
    )


def test_series_begin_with_the_weights_of_forecasts():
    forecast, series = _build(), _series()
    shared = {
        key: tensor
        for key, tensor in forecast.state_dict().items()
        if not key.startswith(("tokens", "pixels", "decoder"))
    }
    left = series.load_state_dict(shared, strict=False)
    assert not left.unexpected_keys
    own = ("tokens", "time", "map")
    assert all(key.startswith(own) for key in left.missing_keys)


def test_series_of_another_length_are_refused():
    network = _series()
    with pytest.raises(OptionError, match=r"(?s)\(2, 2, 4, 8, 12\).*\(B, 3, V, H, W\)"):
        network(_series_fields()[:, :2])
    with pytest.raises(OptionError, match=r"(?s)\(2, 4, 8, 12\)"):
        network(_series_fields()[:, 0])
    with pytest.raises(OptionError, match="a time at least"):
        _series(times=0)


# --- What cannot be -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": (9, 12)}, r"(?s)whole patches.*9 x 12 cells"),
        ({"patch": 0}, r"(?s)whole patches.*patches of 0"),
        ({"width": 30}, r"(?s)impossible size.*width 30, 3 heads"),
        ({"heads": 5}, r"(?s)impossible size.*5 heads"),
        ({"heads": 0}, r"(?s)impossible size.*0 heads"),
        ({"depth": 0}, r"(?s)impossible size.*0 blocks"),
        ({"variables": []}, r"(?s)names of their own.*found:  none"),
        ({"variables": ["u", "u"]}, r"(?s)names of their own.*'u', 'u'"),
        ({"variables": ["u.1"]}, r"(?s)names of their own.*'u\.1'.*without dots"),
        ({"variables": ["keys"]}, r"(?s)names of their own.*'keys'.*torch uses"),
    ],
)
def test_networks_that_cannot_be(options, message):
    with pytest.raises(OptionError, match=message):
        ClimaX(**{"variables": NAMES, **SIZES, **options})


def test_variables_that_are_not_there(network):
    fields = _fields()
    with pytest.raises(OptionError, match=r"(?s)not variables.*ozone.*some of: 2m_t"):
        network(fields[:, :2], 6.0, ["u_500", "ozone"])
    with pytest.raises(OptionError, match=r"(?s)found:  u_500, u_500"):
        network(fields[:, :2], 6.0, ["u_500", "u_500"])
    with pytest.raises(OptionError, match=r"(?s)found:  none"):
        network(fields, 6.0, targets=[])
    with pytest.raises(OptionError, match=r"(?s)found:  ozone"):
        network(fields, 6.0, targets=["ozone"])


def test_fields_that_do_not_fit(network):
    fields = _fields()
    with pytest.raises(OptionError, match=r"(?s)\(2, 5, 8, 12\).*\(B, 2, 8, 12\)"):
        network(fields, 6.0, NAMES[:2])
    with pytest.raises(OptionError, match=r"(?s)\(2, 5, 8, 10\).*resize_positions"):
        network(fields[..., :10], 6.0)
    with pytest.raises(OptionError, match=r"(?s)\(5, 8, 12\)"):
        network(fields[0], 6.0)
    region = Patches((0, 1), (5, 0), 2)
    with pytest.raises(OptionError, match=r"(?s)\(B, 5, 4, 4\).*region\.crop"):
        network(fields, 6.0, region=region)
    for rows, columns, size in (((0,), (6,), 2), ((4,), (0,), 2), ((0,), (0,), 4)):
        other = Patches(rows, columns, size)
        with pytest.raises(OptionError, match="region is one of another grid"):
            network(other.crop(F.pad(fields, (0, 8, 0, 8))), 6.0, region=other)


@pytest.mark.parametrize("lead", [torch.ones(3), torch.ones(2, 1), [6.0, 12.0, 18.0]])
def test_lead_times_that_do_not_fit(network, lead):
    with pytest.raises(OptionError, match=r"(?s)as many lead times.*\(2,\)"):
        network(_fields(), lead)
