"""The loss is the distance, differentiable, and no part of what is trained."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import xatmo
from xatmo.errors import GridError, LevelError, ModelNotFoundError, OptionError
from xatmo.losses import AtmoDistLoss
from xatmo.nets.normalization import SignLog
from xatmo.zoo import normalizer

CARD = xatmo.load_model(capability="distance").card
C = len(CARD.inputs)
LEVEL = next(lv for lv in CARD.levels if lv.trained)


def physical(batch: int = 2, rows: int = 40, columns: int = 48, seed: int = 0):
    """Fields in physical units, of the size of the model's own."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, C, rows, columns, generator=random)
    mean, std = (torch.tensor(v)[:, None, None] for v in (LEVEL.mean, LEVEL.std))
    return mean + std * x


@pytest.fixture
def loss() -> AtmoDistLoss:
    return AtmoDistLoss(autocast=False)


@pytest.fixture(scope="module")
def states() -> tuple[torch.Tensor, torch.Tensor]:
    return physical(seed=1), physical(seed=2)


# Values


@pytest.mark.filterwarnings("ignore:.*was trained at")
@pytest.mark.parametrize("layer", CARD.layers.names)
def test_is_the_distance_of_the_verb(sample, layer):
    from xatmo.fields import read

    level = "sigma 0.95"
    loss = AtmoDistLoss(layer=layer, level=level, periodic=True, autocast=False)
    data = read(sample, [i.quantity for i in loss.inputs]).data
    x = np.stack([data[i.quantity].values for i in loss.inputs], axis=1)
    x = torch.from_numpy(x).float()
    distance = xatmo.distance(
        sample.isel(time=slice(3)),
        sample.isel(time=slice(4, 7)),
        layer=layer,
        level=level,
        join="override",
    )
    assert loss.alpha == pytest.approx(distance.attrs["alpha"])
    loss.reduction = "none"
    found = loss(x[:3], x[4:7])
    expected = distance.mean(["lat", "lon"]).values
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_is_the_formula(loss, states):
    network = loss.model.network()
    p, t = (normalizer(CARD, LEVEL)(x) for x in states)
    expected = (network.encode(p, loss.layer) - network.encode(t, loss.layer)).square()
    torch.testing.assert_close(
        loss(*states), loss.alpha * expected.mean(), rtol=1e-5, atol=0
    )
    mixed = AtmoDistLoss(alpha=2.5, pixel_weight=0.3, autocast=False)
    expected = 2.5 * expected.mean() + 0.3 * (p - t).square().mean()
    torch.testing.assert_close(mixed(*states), expected, rtol=1e-5, atol=0)
    assert mixed.alpha_space == "given by the caller"


def test_normalised_fields_give_the_same(loss, states):
    normalised = AtmoDistLoss(normalized=True, autocast=False)
    p, t = (normalizer(CARD, LEVEL)(x) for x in states)
    torch.testing.assert_close(normalised(p, t), loss(*states), rtol=1e-5, atol=0)


def test_a_normalisation_of_the_callers(states):
    def scale(x):
        return 1e4 * x

    loss = AtmoDistLoss(normalization=scale, autocast=False)
    expected = AtmoDistLoss(normalized=True, autocast=False)(*map(scale, states))
    torch.testing.assert_close(loss(*states), expected)
    known = normalizer(CARD, LEVEL)
    if isinstance(known, SignLog):
        same = AtmoDistLoss(normalization=known, autocast=False)
        assert torch.equal(same(*states), AtmoDistLoss(autocast=False)(*states))


def test_constants_fitted_to_the_users_data(sample, states):
    norm = xatmo.fit_normalization(sample)
    model = xatmo.load_model().with_normalization(norm)
    loss = AtmoDistLoss(model, level=norm.level, autocast=False)
    np.testing.assert_allclose(loss.normalize.exact.mean, norm.mean)
    assert loss(*states) > 0
    direct = AtmoDistLoss(normalization=norm, autocast=False)
    assert direct.level == norm.level
    assert torch.equal(direct(*states), loss(*states))


def test_one_number_for_each_member(states):
    each = AtmoDistLoss(reduction="none", pixel_weight=0.5, autocast=False)
    found = each(*states)
    assert found.shape == (2,)
    mean = AtmoDistLoss(pixel_weight=0.5, autocast=False)(*states)
    torch.testing.assert_close(found.mean(), mean)


def test_equal_fields_have_loss_and_gradient_zero(states):
    for autocast in (False, True):
        loss = AtmoDistLoss(autocast=autocast, pixel_weight=1.0)
        x = states[0].clone().requires_grad_()
        value = loss(x, states[0])
        value.backward()
        assert value == 0
        assert (x.grad == 0).all()


def test_symmetric(loss, states):
    torch.testing.assert_close(loss(*states), loss(*states[::-1]))


@pytest.mark.parametrize("shape", [(8, 8), (33, 57), (96, 40)])
def test_any_size(loss, shape):
    assert loss(physical(1, *shape), physical(1, *shape, seed=3)) > 0


def test_exact_zeros_get_a_gradient(loss, states):
    x = torch.zeros_like(states[0])
    x += torch.tensor(LEVEL.mean)[:, None, None]  # where |z| has no slope of its own
    loss(x.requires_grad_(), states[0]).backward()
    assert (x.grad != 0).float().mean() > 0.99


# Gradients


def test_gradients_are_right_in_double(states):
    loss = AtmoDistLoss(pixel_weight=0.2, normalized=True).double()
    target = torch.randn(1, C, 8, 9, dtype=torch.float64)
    prediction = torch.randn(1, C, 8, 9, dtype=torch.float64, requires_grad=True)
    assert loss(prediction, target).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda p: loss(p, target), (prediction,))


def test_double_reaches_into_physical_units(states):
    p, t = (x.double() for x in states)
    exact = AtmoDistLoss(autocast=False).double()(p, t)
    found = AtmoDistLoss(autocast=False)(*states)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)


def test_the_target_gets_no_gradient_unless_it_asks(loss, states):
    p, t = (x.clone().requires_grad_() for x in states)
    loss(p, t.detach()).backward()
    alone = p.grad.clone()
    p.grad = None
    loss(p, t).backward()
    torch.testing.assert_close(p.grad, alone)
    assert t.grad.abs().sum() > 0


def test_no_graph_where_none_is_wanted(loss, states):
    p = states[0].clone().requires_grad_()
    with torch.no_grad():
        assert not loss(p, states[1]).requires_grad
    with torch.inference_mode():
        value = loss(*states)
    torch.testing.assert_close(value, loss(*states))


def test_bfloat16_is_close(states):
    gradients, values = [], []
    for autocast in (False, True):
        p = states[0].clone().requires_grad_()
        value = AtmoDistLoss(autocast=autocast)(p, states[1])
        value.backward()
        assert value.dtype == p.grad.dtype == torch.float32
        values.append(value.detach())
        gradients.append(p.grad.flatten())
    torch.testing.assert_close(*values, rtol=0.02, atol=0)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.98


def test_the_surrounding_precision_does_not_matter(loss, states):
    expected = loss(*states)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(*states), expected)
    p, t = (normalizer(CARD, LEVEL)(x) for x in states)
    normalised = AtmoDistLoss(normalized=True, autocast=False)
    assert normalised(p.bfloat16(), t).dtype == torch.float32


def test_a_generator_learns():
    torch.manual_seed(0)
    target = torch.randn(2, C, 32, 32)
    field = nn.Parameter(torch.zeros_like(target))
    loss = AtmoDistLoss(normalized=True, pixel_weight=0.1)
    optimizer = torch.optim.Adam([field], lr=0.1)
    values = []
    for _ in range(15):
        optimizer.zero_grad()
        value = loss(field, target)
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.5 * values[0]


# A module that is no part of what is trained


class Task(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Conv2d(C, C, 3, padding=1)
        self.loss = AtmoDistLoss(autocast=False)


def test_adds_nothing_to_checkpoints_and_optimizers(states):
    task = Task()
    assert {n.split(".")[0] for n, _ in task.named_parameters()} == {"generator"}
    assert {n.split(".")[0] for n in task.state_dict()} == {"generator"}
    assert task.loss.state_dict() == {}
    Task().load_state_dict(task.state_dict(), strict=True)
    expected = task.loss(*states)
    assert torch.equal(task.train().loss(*states), expected)
    task.requires_grad_(True)
    task.loss(task.generator(states[0]), states[1]).backward()
    assert torch.equal(task.loss(*states), expected)
    assert all(b.grad is None for b in task.loss.buffers())


def test_moves_as_a_whole(loss):
    moved = copy.deepcopy(loss).to("meta")
    assert {b.device.type for b in moved.buffers()} == {"meta"}
    double = copy.deepcopy(loss).double()
    assert {b.dtype for b in double.buffers()} == {torch.float64}


@pytest.mark.parametrize(
    "again",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],  # noqa: S301
    ids=["copied", "pickled"],
)
def test_survives_copying(loss, states, again):
    assert torch.equal(again(loss)(*states), loss(*states))


def test_compiles(loss, states):
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    p, q = (states[0].clone().requires_grad_() for _ in range(2))
    found, expected = compiled(p, states[1]), loss(q, states[1])
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    assert (p.grad - q.grad).abs().max() <= 1e-5 * q.grad.abs().max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(loss, states):
    expected = loss(*states)
    p, t = (x.cuda() for x in states)
    for autocast, rtol in ((False, 5e-3), ("auto", 0.03)):
        moved = AtmoDistLoss(autocast=autocast).cuda()
        found = moved(p.requires_grad_(), t)
        torch.testing.assert_close(found.cpu(), expected, rtol=rtol, atol=0)
        found.backward()
        assert p.grad.isfinite().all()
    with pytest.raises(OptionError, match=r"different devices(?s:.*)loss.to\('cuda"):
        loss(p, t)


def test_its_repr_says_what_it_compares(loss):
    text = repr(loss)
    for part in (CARD.name, CARD.version, loss.layer, loss.alpha_space, LEVEL.level):
        assert part in text
    assert all(f"{i.quantity} [{i.units}]" in text for i in CARD.inputs)


# Levels


@pytest.mark.parametrize("level", CARD.levels, ids=lambda lv: lv.level)
def test_levels_by_name(level):
    for written in (level.level, level.level.replace(" ", "").upper()):
        assert AtmoDistLoss(level=written).level == level.level


def test_numbers_are_pressures():
    pressures = [lv.level for lv in CARD.levels if lv.level.endswith(" hPa")]
    if not pressures:
        pytest.skip(f"{CARD.name} has no pressure levels")
    for name in pressures:
        number = float(name.removesuffix(" hPa"))
        assert AtmoDistLoss(level=number).level == name
        assert AtmoDistLoss(level=str(int(number))).level == name


# Errors


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"model": "atmodust"}, ModelNotFoundError, "no model 'atmodust'"),
        ({"layer": "block9"}, OptionError, r"no layer 'block9'(?s:.*)one of 'block"),
        ({"level": "3 hPa"}, LevelError, rf"'3 hPa'(?s:.*){CARD.levels[0].level}"),
        ({"alpha": 0.0}, OptionError, "alpha=0.0(?s:.*)above 0"),
        ({"alpha": float("nan")}, OptionError, "alpha=nan"),
        ({"alpha": "auto"}, OptionError, "alpha='auto'"),
        ({"pixel_weight": -1}, OptionError, "pixel_weight=-1(?s:.*)0 or above"),
        ({"reduction": "sum"}, OptionError, "'sum'(?s:.*)'mean' or 'none'"),
        ({"autocast": "always"}, OptionError, "'always'(?s:.*)'auto', True or False"),
        ({"normalization": 3}, OptionError, "xatmo.fit_normalization"),
        ({"level": 850, "normalized": True}, OptionError, "exclude each other"),
    ],
)
def test_arguments_that_cannot_be(arguments, error, text):
    with pytest.raises(error, match=text):
        AtmoDistLoss(**arguments)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda x: x[:, :1], OptionError, rf"needed: \(B, {C}, H, W\)"),
        (lambda x: x[0], OptionError, r"prediction does not have(?s:.*)\[None\]"),
        (lambda x: x.movedim(1, -1), OptionError, r"movedim\(-1, 1\)"),
        (
            lambda x: x[..., :32],
            OptionError,
            r"\(2, \d, 40, 32\) and \(2, ",
        ),
        (lambda x: x[:1], OptionError, "nothing is broadcast"),
        (lambda x: x.long(), OptionError, r"found:  torch.int64(?s:.*)\.float\(\)"),
        (lambda x: x.numpy(), OptionError, r"ndarray(?s:.*)torch.as_tensor"),
        (lambda x: x.to("meta"), OptionError, r"on meta, the loss on cpu"),
    ],
)
def test_tensors_that_cannot_be(loss, states, change, error, text):
    with pytest.raises(error, match=text):
        loss(change(states[0]), states[1])


def test_too_small(loss):
    small = loss._stride - 1
    with pytest.raises(GridError, match=rf"{small} x 40(?s:.*)at least {small + 1} x"):
        loss(physical(1, small, 40), physical(1, small, 40))


# Without xarray

_ALONE = """
import sys
{block}
from xatmo.losses import AtmoDistLoss
import torch, xatmo
loss = AtmoDistLoss()
x = torch.full((1, len(loss.inputs), 32, 32), 1e-5, requires_grad=True)
loss(x, torch.zeros_like(x)).backward()
assert x.grad.isfinite().all()
assert not sys.modules.get("xarray"), "xarray was imported"
print(xatmo.load_model().name, "embed" in dir(xatmo))
try:
    xatmo.embed
except ImportError as error:
    print("embed needs", error)
"""


_BLOCK = """
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('xarray', 'dask', 'pandas'):
            raise ImportError(f'{name} is not here')
sys.meta_path.insert(0, Block())
"""


@pytest.mark.parametrize(
    "block",
    ["sys.modules['xarray'] = None", _BLOCK],
    ids=["None in sys.modules", "not installed"],
)
def test_needs_no_xarray(block):
    code = _ALONE.format(block=block)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert CARD.name in done.stdout
    assert "embed needs" in done.stdout


def test_import_is_light_until_it_is_used():
    code = (
        "import sys, xatmo\n"
        "assert 'torch' not in sys.modules\n"
        "import xarray\n"
        "assert xarray.Dataset.atmo is xatmo.AtmoAccessor\n"
        "from xatmo import *\n"
        "assert 'torch' not in sys.modules and callable(embed)\n"
        "assert 'losses' in dir(xatmo)\n"
        "assert xatmo.losses.AtmoDistLoss and 'torch' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    assert all(getattr(xatmo, name) is not None for name in xatmo.__all__)
    assert set(xatmo.__all__) <= set(dir(xatmo))
    with pytest.raises(AttributeError, match="'xatmo' has no attribute 'embedd'"):
        xatmo.embedd  # noqa: B018
