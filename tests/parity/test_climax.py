"""ClimaX computes what the original computes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from xatmo.errors import WeightsError
from xatmo.nets.climax import VARIABLES, ClimaX
from xatmo.nets.climax_loss import latitude_mse
from xatmo.nets.climax_position import number_code, place_code, resize_positions
from xatmo.nets.climax_region import Patches, patches_of_box
from xatmo.nets.climax_series import ClimaXSeries
from xatmo.nets.climax_variables import patches_of, plain_tokens
from xatmo.zoo.importers.climax import climax_from_original, climax_options

ATOL = 1e-5
WAYS = pytest.mark.parametrize("folded", [True, False], ids=["folded", "plain"])
NO_GRAD = pytest.mark.parametrize("no_grad", [True, False], ids=["no_grad", "grad"])


@dataclass
class Case:
    """The miniature model of the original, with what it reads and what it computes."""

    config: dict[str, Any]
    states: dict[str, dict[str, torch.Tensor]]
    arrays: dict[str, torch.Tensor]

    @property
    def variables(self) -> list[str]:
        return self.config["model_kwargs"]["default_vars"]

    def network(self, vintage: str = "published", folded: bool = True) -> ClimaX:
        state = self.states[vintage]
        options = climax_options(state, self.variables, heads=4)
        network = ClimaX(**options, folded=folded)
        ours = climax_from_original(state, network, self.variables)
        network.load_state_dict(ours, strict=True)
        return network.eval()

    def arguments(self) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        hours = torch.tensor(self.config["lead_hours"])
        return self.arrays["input"], hours, self.config["in_variables"]

    @property
    def targets(self) -> list[str]:
        return self.config["out_variables"]


@pytest.fixture(scope="module")
def case(reference) -> Case:
    folder = reference / "climax" / "tiny_p4_32x64"
    config = json.loads((folder / "config.json").read_text())
    with np.load(folder / "io.npz") as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    states = {}
    for vintage in ("published", "current"):
        file = folder / f"checkpoint_like_{vintage}.ckpt"
        states[vintage] = torch.load(file, map_location="cpu", weights_only=True)
    return Case(config, states, arrays)


@pytest.fixture(scope="module")
def published(reference):
    file = reference / "climax" / "published_state_dict_shapes.json"
    return json.loads(file.read_text())


def _close(found, expected, atol=ATOL):
    torch.testing.assert_close(found, expected, atol=atol, rtol=0, check_dtype=False)


# --- The miniature model --------------------------------------------------------------


@WAYS
@NO_GRAD
def test_states_after_every_part(case, folded, no_grad):
    network, arrays = case.network(folded=folded), case.arrays
    kept = {}

    def keep(name):
        return lambda module, inputs, output: kept.update({name: output.clone()})

    network.pool.register_forward_hook(keep("after_aggregation"))
    network.norm.register_forward_hook(keep("encoder_output"))
    network.lead.register_forward_hook(keep("lead_time_embedding"))
    for number, block in enumerate(network.blocks):
        block.register_forward_hook(keep(f"after_block_{number}"))
    network.blocks[0].register_forward_pre_hook(
        lambda module, inputs: kept.update({"block_input": inputs[0].clone()})
    )
    with torch.set_grad_enabled(not no_grad):
        found = network(*case.arguments(), case.targets)
        encoded = network.encode(*case.arguments())
    assert len(kept) == 6
    kept["lead_time_embedding"] = kept["lead_time_embedding"].squeeze(1)
    for name, state in kept.items():
        assert arrays[name].abs().max() > 0.1
        _close(state, arrays[name])
    _close(encoded, arrays["encoder_output"])
    _close(found, arrays["predictions"], atol=1e-6)


@WAYS
def test_all_variables_are_predicted_from_some(case, folded):
    network = case.network(folded=folded)
    found = network(*case.arguments(), case.variables)
    _close(found, case.arrays["predictions_all_vars"], atol=1e-6)


def test_pixels_of_the_head(case):
    network = case.network()
    x = case.arrays["encoder_output"]
    for layer in network.decoder:
        x = F.gelu(layer(x))
    pixels = network._pixels(x, case.variables)  # (B, N, V, p p)
    _close(pixels.transpose(2, 3).flatten(2), case.arrays["head_output"])


def test_tokens(case):
    network, (fields, _, names) = case.network(), case.arguments()
    tokens = plain_tokens(patches_of(fields, 4), network._tokens(names))
    _close(tokens.transpose(1, 2), case.arrays["tokens_plus_var_embed"])


@WAYS
def test_weights_of_variables(case, folded):
    fields, _, names = case.arguments()
    weights = case.network(folded=folded).variable_weights(fields, names)
    assert weights.shape == (3, 128, 4, 3)
    expected = case.arrays["var_attention_weights_mean_heads"]
    assert expected.max() - expected.min() > 0.9
    _close(weights.mean(2), expected)


@WAYS
def test_loss_and_gradients(case, folded):
    """Gradients are translated as weights are: all of them are compared."""
    network, arrays = case.network(folded=folded), case.arrays
    found = network(*case.arguments(), case.targets)
    loss = latitude_mse(found, arrays["target"], arrays["lat"])
    _close(loss, arrays["loss/lat_weighted_mse/loss"])
    loss.backward()
    theirs = {
        key: arrays.get(f"grad/{key}", torch.zeros(shape))
        for key, shape in case.config["state_dict"].items()
    }
    expected = climax_from_original(theirs, network, case.variables)
    for name, parameter in network.named_parameters():
        gradient = parameter.grad
        if gradient is None:  # of a variable that was neither read nor asked for
            gradient = torch.zeros_like(parameter)
        _close(gradient, expected[name], atol=1e-8)
    largest = [float(gradient.abs().max()) for gradient in expected.values()]
    assert sorted(largest)[len(largest) // 4] > 1e-5


def test_losses_of_variables(case):
    arrays = case.arrays
    for number, name in enumerate(case.targets):
        fields = (arrays[key][:, number] for key in ("predictions", "target"))
        loss = latitude_mse(*fields, arrays["lat"])
        _close(loss, arrays[f"loss/lat_weighted_mse/{name}"])
        fields = (arrays[key][:, number] for key in ("predictions", "target"))
        _close(F.mse_loss(*fields), arrays[f"loss/mse/{name}"])


def test_losses_with_and_without_mask(reference):
    with np.load(reference / "climax" / "metrics.npz") as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    fields = arrays["pred"], arrays["y"], arrays["lat"]
    _close(latitude_mse(*fields), arrays["lat_weighted_mse/loss"])
    # The original's grows with the number of samples.
    masked = latitude_mse(*fields, arrays["mask"]) * len(arrays["y"])
    _close(masked, arrays["lat_weighted_mse_mask/loss"])
    for number, name in enumerate("ab"):
        one = arrays["pred"][:, number], arrays["y"][:, number], arrays["lat"]
        _close(latitude_mse(*one), arrays[f"lat_weighted_mse/{name}"])
        masked = latitude_mse(*one, arrays["mask"]) * len(arrays["y"])
        _close(masked, arrays[f"lat_weighted_mse_mask/{name}"])


# --- Places ---------------------------------------------------------------------------


def test_codes_of_places(reference):
    with np.load(reference / "climax" / "pos_embed" / "sincos.npz") as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    of_places = place_code(8, 16, 64).flatten(0, 1)
    _close(of_places, arrays["pos_2d_D64_h8_w16"], atol=1e-12)
    _close(place_code(2, 3, 1024).flatten(0, 1), arrays["pos_2d_D1024_h2_w3"], 1e-12)
    _close(number_code(range(5), 64), arrays["var_1d_D64_n5"], atol=1e-12)


@pytest.mark.parametrize("pair", ["16x32_to_8x16_down", "8x16_to_32x64_patchgrid"])
def test_codes_on_another_grid(reference, pair):
    file = reference / "climax" / "pos_embed" / f"posinterp_{pair}.npz"
    with np.load(file) as arrays:
        source, expected = (torch.from_numpy(arrays[key]) for key in ("src", "dst"))
        shapes = [
            [int(n) // int(arrays["patch"]) for n in arrays[f"{key}_img"]]
            for key in ("src", "dst")
        ]
    found = resize_positions(source[0].unflatten(0, shapes[0]), shapes[1])
    _close(found.flatten(0, 1), expected[0], atol=1e-6)


# Boxes of the original, and how many cells their whole patches have: on 32 x 64 points
# in patches of 2, and on 128 x 256 in patches of 4.
REGIONS = {
    "North America": ((15, 65), (220, 300), (8, 14), (32, 52)),
    "South America": ((-55, 20), (270, 330), (14, 10), (48, 40)),
    "Europe": ((30, 65), (0, 40), (6, 8), (20, 28)),
    "South Asia": ((-15, 45), (25, 110), (10, 14), (40, 56)),
    "East Asia": ((5, 65), (70, 150), (10, 12), (40, 52)),
    "Australia": ((-50, 10), (100, 180), (10, 14), (40, 56)),
}


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("name", REGIONS)
def test_regions_have_the_originals_sizes_and_lie_where_they_should(name, descending):
    latitudes, longitudes, *sizes = REGIONS[name]
    for step, patch, size in zip((5.625, 1.40625), (2, 4), sizes, strict=True):
        latitude = np.arange(-90 + step / 2, 90, step)[:: -1 if descending else 1]
        longitude = np.arange(0, 360, step)
        grid = (latitude, longitude, latitudes, longitudes, patch)
        region = patches_of_box(*grid, whole=True)
        rows, columns = region.cells
        assert (len(rows), len(columns)) == size
        # Where the original is right only if rows go from north to south.
        assert latitudes[0] <= latitude[rows].min() <= latitude[rows].max()
        assert latitude[rows].max() <= latitudes[1]
        assert longitudes[0] <= longitude[columns].min()
        assert longitude[columns].max() <= longitudes[1]


# --- The original written out ---------------------------------------------------------
# In double precision, for what the miniature model does not have.

SIZES = {
    "variables": [f"v{n}" for n in range(6)],
    "grid": [6, 20],
    "patch": 2,
    "width": 24,
    "depth": 3,
    "heads": 3,
    "decoder_depth": 1,
    "mlp_ratio": 2.0,
}


class _Original:
    """Draws weights under the original's names, and computes with them step by step."""

    def __init__(self, sizes):
        self.sizes, self.state = sizes, {}
        self.generator = torch.Generator().manual_seed(0)

    def get(self, key, *shape):
        """A tensor of the checkpoint, drawn when it is first asked for."""
        if key not in self.state:
            drawn = torch.randn(shape, generator=self.generator) * shape[-1] ** -0.5
            self.state[key] = drawn
        assert self.state[key].shape == shape
        return self.state[key].double()

    def linear(self, x, key, c_out):
        weight = self.get(f"{key}.weight", c_out, x.shape[-1])
        return x @ weight.T + self.get(f"{key}.bias", c_out)

    def norm(self, x, key):
        width = x.shape[-1]
        weight, bias = (self.get(f"{key}.{k}", width) for k in ("weight", "bias"))
        return F.layer_norm(x, (width,), weight, bias, eps=1e-5)

    def pool(self, x, key, query):
        """Attend to (M, n, D) with one query: (M, D)."""
        width, heads = self.sizes["width"], self.sizes["heads"]
        attention = torch.nn.MultiheadAttention(width, heads, batch_first=True)
        shapes = {name: p.shape for name, p in attention.named_parameters()}
        own = {name: self.get(f"{key}.{name}", *s) for name, s in shapes.items()}
        attention.double().load_state_dict(own)
        query = self.get(query, 1, 1, width).repeat(len(x), 1, 1)
        return attention(query, x, x)[0][:, 0]

    def tokens(self, fields, indices):
        """Tokens of variables with their codes: (B, V, L, D)."""
        width, patch = self.sizes["width"], self.sizes["patch"]
        count = len(self.sizes["variables"])
        tokens = []
        for number in range(count):  # all are in the checkpoint
            weight = self.get(
                f"token_embeds.{number}.proj.weight", width, 1, *2 * [patch]
            )
            bias = self.get(f"token_embeds.{number}.proj.bias", width)
            if number in indices:
                field = fields[:, indices.index(number)][:, None].double()
                token = F.conv2d(field, weight, bias, stride=patch)
                tokens.append((indices.index(number), token.flatten(2).transpose(1, 2)))
        x = torch.stack([token for _, token in sorted(tokens, key=lambda t: t[0])], 1)
        return x + self.get("var_embed", 1, count, width)[:, indices, None]

    def blocks(self, x):
        width, heads = self.sizes["width"], self.sizes["heads"]
        for number in range(self.sizes["depth"]):
            key = f"blocks.{number}"
            three = self.linear(
                self.norm(x, f"{key}.norm1"), f"{key}.attn.qkv", 3 * width
            )
            q, k, v = three.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
            weights = (q @ k.transpose(2, 3) / (width // heads) ** 0.5).softmax(-1)
            found = (weights @ v).transpose(1, 2).flatten(2)
            x = x + self.linear(found, f"{key}.attn.proj", width)
            hidden = int(width * self.sizes["mlp_ratio"])
            y = self.linear(self.norm(x, f"{key}.norm2"), f"{key}.mlp.fc1", hidden)
            x = x + self.linear(F.gelu(y), f"{key}.mlp.fc2", width)
        return self.norm(x, "norm")

    def place_and_lead(self, x, hours, ids):
        rows, columns = (n // self.sizes["patch"] for n in self.sizes["grid"])
        width = self.sizes["width"]
        x = x + self.get("pos_embed", 1, rows * columns, width)[:, ids]
        ahead = self.linear(hours.double()[:, None] / 100, "lead_time_embed", width)
        return x + ahead[:, None]

    def __call__(self, fields, hours, indices, targets, ids=None, shape=None):
        """Forecast, on the patches of some numbers, which make a box."""
        width, patch = self.sizes["width"], self.sizes["patch"]
        rows, columns = shape or (n // patch for n in self.sizes["grid"])
        x = self.tokens(fields, indices)
        ids = torch.arange(x.shape[2]) if ids is None else ids
        x = x[:, :, ids].transpose(1, 2)  # (B, L, V, D)
        pooled = self.pool(x.flatten(0, 1), "var_agg", "var_query")
        x = self.place_and_lead(pooled.unflatten(0, x.shape[:2]), hours, ids)
        x = self.blocks(x)
        for number in range(self.sizes["decoder_depth"]):
            x = F.gelu(self.linear(x, f"head.{2 * number}", width))
        count = len(self.sizes["variables"])
        last = f"head.{2 * self.sizes['decoder_depth']}"
        x = self.linear(x, last, patch * patch * count)
        x = x.reshape(len(x), rows, columns, patch, patch, count)
        x = torch.einsum("nhwpqc->nchpwq", x)
        return x.reshape(len(x), count, rows * patch, columns * patch)[:, targets]


def _pair(double=True, folded=True, **sizes):
    """The original, once its weights are drawn, and our network with them."""
    sizes = {**SIZES, **sizes}
    original, network = _Original(sizes), ClimaX(**sizes, folded=folded).eval()
    fields = torch.randn(1, len(sizes["variables"]), *sizes["grid"])
    original(fields, torch.zeros(1), list(range(len(sizes["variables"]))), [0])
    names, grid = sizes["variables"], sizes["grid"]
    state = climax_from_original(original.state, network, names, grid)
    network.load_state_dict(state, strict=True)
    return original, network.double() if double else network


def _fields(count, sizes=SIZES, samples=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, count, *sizes["grid"])
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@WAYS
@pytest.mark.parametrize(
    ("read", "asked"),
    [
        ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
        ([5, 0, 3], [2]),
        ([4], [5, 4, 0]),
        ([1, 2], [2, 1]),
    ],
)
def test_any_variables_in_any_order(read, asked, folded):
    original, network = _pair(folded=folded)
    fields, hours = _fields(len(read)), torch.tensor([6.0, 162.0])
    expected = original(fields, hours, read, asked)
    names = [[f"v{n}" for n in numbers] for numbers in (read, asked)]
    found = network(fields, hours, *names)
    assert expected.std() > 0.1
    _close(found, expected, atol=1e-12)


@pytest.mark.parametrize("sizes", [{"decoder_depth": 3}, {"patch": 1}, {"heads": 1}])
def test_other_sizes(sizes):
    original, network = _pair(**sizes)
    fields, hours = _fields(6), torch.tensor([24.0, 720.0])
    numbers = list(range(6))
    _close(network(fields, hours), original(fields, hours, numbers, numbers), 1e-12)


@WAYS
def test_regions_by_their_cells_alone(folded):
    """The original makes tokens of the whole grid, and leaves out most of them."""
    original, network = _pair(folded=folded)
    fields, hours = _fields(2), torch.tensor([6.0, 48.0])
    region = Patches(rows=(1, 2), columns=(8, 9, 0), size=2)
    ids = torch.tensor([18, 19, 10, 28, 29, 20])
    expected = original(fields, hours, [3, 1], [0, 5], ids, (2, 3))
    names = ["v3", "v1"]
    found = network(region.crop(fields), hours, names, ["v0", "v5"], region)
    assert found.shape == (2, 2, 4, 6)
    _close(found, expected, atol=1e-12)


SERIES = {**SIZES, "variables": ["CO2", "SO2", "CH4", "BC"]}
TIMES = 5


def _series(original, fields):
    """The variant for climate projections: (B, T, V, H, W) -> (B, 1, H, W)."""
    width = SERIES["width"]
    samples, times = fields.shape[:2]
    x = original.tokens(fields.flatten(0, 1), [0, 1, 2, 3]).transpose(1, 2)
    pooled = original.pool(x.flatten(0, 1), "var_agg", "var_query")
    hours = torch.zeros(samples * times)
    x = original.place_and_lead(pooled.unflatten(0, x.shape[:2]), hours, slice(None))
    x = x.unflatten(0, (samples, times))
    x = x + original.get("time_pos_embed", 1, times, width)[:, :, None]
    x = original.blocks(x.flatten(0, 1)).mean(1).unflatten(0, (samples, times))
    x = original.pool(x, "time_agg", "time_query")
    rows, columns = SERIES["grid"]
    return original.linear(x, "head", rows * columns).view(samples, 1, rows, columns)


@WAYS
def test_series(folded):
    original = _Original(SERIES)
    options = {k: v for k, v in SERIES.items() if k != "decoder_depth"}
    network = ClimaXSeries(**options, times=TIMES, folded=folded).eval()
    fields = _fields(3 * TIMES * 4, samples=1).view(3, TIMES, 4, *SERIES["grid"])
    expected = _series(original, fields)
    # The encoder is that of the network for forecasts, in its weights too.
    for key, rows in (("head.0", 24), ("head.2", 16)):
        original.linear(torch.zeros(1, 24).double(), key, rows)
    own = ("time", "head.weight", "head.bias")
    shared = {k: t for k, t in original.state.items() if not k.startswith(own)}
    names, grid = SERIES["variables"], SERIES["grid"]
    state = climax_from_original(shared, ClimaX(**SERIES), names, grid)
    left = {k: t for k, t in state.items() if not k.startswith(("decoder", "pixels"))}
    theirs = {
        "time": "time_pos_embed",
        "time_attention.query": "time_query",
        "time_attention.project.weight": "time_agg.in_proj_weight",
        "time_attention.project.bias": "time_agg.in_proj_bias",
        "time_attention.out.weight": "time_agg.out_proj.weight",
        "time_attention.out.bias": "time_agg.out_proj.bias",
        "map.weight": "head.weight",
        "map.bias": "head.bias",
    }
    for ours, key in theirs.items():
        shape = network.get_parameter(ours).shape
        left[ours] = original.state[key].reshape(shape)
    network.load_state_dict(left, strict=True)
    assert expected.std() > 0.1
    _close(network.double()(fields), expected, atol=1e-12)


# --- Checkpoints ----------------------------------------------------------------------


def _grouped(state):
    """The same weights as the original's other tokenizer keeps them."""
    pattern = "token_embeds."
    rest = {k: t for k, t in state.items() if pattern not in k}
    prefix = "net." if any(k.startswith("net.") for k in state) else ""
    for kind, name in (("weight", "proj_weights"), ("bias", "proj_biases")):
        keys = [k for k in state if pattern in k and k.endswith(kind)]
        keys.sort(key=lambda k: int(k.split(pattern)[1].split(".")[0]))
        rest[f"{prefix}{pattern}{name}"] = torch.stack([state[k] for k in keys])
    return rest


def test_files_of_all_kinds_are_the_same_network(case):
    expected = case.network("published").state_dict()
    inner = case.states["current"]["state_dict"]
    forms = {
        "current": case.states["current"],
        "without its file": inner,
        "without prefix": {k.removeprefix("net."): t for k, t in inner.items()},
        "grouped": {"state_dict": _grouped(inner)},
        "half": {k: t.double() for k, t in inner.items()},
    }
    assert any(".channel_agg." in k for k in case.states["published"]["state_dict"])
    for state in forms.values():
        options = climax_options(state, case.variables, heads=4)
        network = ClimaX(**options)
        found = climax_from_original(state, network, case.variables)
        assert found.keys() == expected.keys()
        for key, tensor in found.items():
            assert tensor.dtype == torch.float32
            assert tensor.is_contiguous()
            assert torch.equal(tensor, expected[key])


def test_published_sizes(published):
    """Nothing but the shapes is needed to build a network."""
    grids = {"5.625deg": ([32, 64], 2), "1.40625deg": ([128, 256], 4)}
    assert published["default_vars"] == list(VARIABLES)
    for name, (grid, patch) in grids.items():
        options = climax_options(published[name]["keys"])
        assert json.loads(json.dumps(options)) == options  # can stand in a model card
        with torch.device("meta"):
            network = ClimaX(**options)
        assert options["grid"] == grid
        assert options == {
            "variables": list(VARIABLES),
            "grid": grid,
            "patch": patch,
            "width": 1024,
            "depth": 8,
            "heads": 16,
            "decoder_depth": 2,
            "mlp_ratio": 4.0,
        }
        count = sum(parameter.numel() for parameter in network.parameters())
        assert count == published[name]["n_params"]


def test_published_weights_fill_the_network(published):
    """All 209 tensors have a place; each number comes to another."""
    shapes = published["5.625deg"]["keys"]
    assert len(shapes) == 209
    with torch.device("meta"):
        network = ClimaX(**climax_options(shapes))
        state = {key: torch.empty(shape) for key, shape in shapes.items()}
        ours = climax_from_original(state, network)
    expected = {key: tuple(p.shape) for key, p in network.state_dict().items()}
    assert {key: tuple(t.shape) for key, t in ours.items()} == expected


def test_fewer_variables_in_another_order(case):
    """The rest of the weights stays what it is, and so do the forecasts."""
    state, whole = case.states["published"], case.network()
    options = climax_options(state, case.variables, heads=4)
    names = ["temperature_850", "geopotential_500", "2m_temperature"]
    network = ClimaX(**{**options, "variables": names}).eval()
    ours = climax_from_original(state, network, case.variables)
    network.load_state_dict(ours, strict=True)
    fields, hours, read = case.arguments()
    found = network(fields, hours, read, case.targets)
    _close(found, case.arrays["predictions"], atol=1e-6)
    _close(found, whole(fields, hours, read, case.targets), atol=1e-6)


def test_another_grid(case):
    state = case.states["published"]
    options = climax_options(state, case.variables, heads=4)
    network = ClimaX(**{**options, "grid": [64, 64]})
    ours = climax_from_original(state, network, case.variables)
    network.load_state_dict(ours, strict=True)
    source = state["state_dict"]["net.pos_embed"][0].view(8, 16, -1)
    assert torch.equal(network.position.data, resize_positions(source, (16, 16)))
    # As many patches in other rows: only the original's grid can tell.
    narrow = ClimaX(**{**options, "grid": [64, 32]})
    ours = climax_from_original(state, narrow, case.variables, grid=(32, 64))
    assert torch.equal(ours["position"], resize_positions(source, (16, 8)))
    as_is = climax_from_original(state, narrow, case.variables)
    assert torch.equal(as_is["position"], source.reshape(16, 8, -1))


def _weights(case):
    return dict(case.states["current"]["state_dict"])


def test_missing_and_foreign_weights_are_named(case):
    network, names = case.network(), case.variables
    state = _weights(case)
    del state["net.blocks.1.mlp.fc2.bias"]
    with pytest.raises(WeightsError, match=r"'blocks\.1\.mlp\.fc2\.bias' is missing"):
        climax_from_original(state, network, names)
    state = _weights(case) | {"net.mask_token": torch.ones(1), "net.x": torch.ones(1)}
    with pytest.raises(WeightsError, match=r"more parts(?s:.*)unknown: mask_token, x"):
        climax_from_original(state, network, names)
    for key in ("var_embed", "pos_embed"):
        state = {k: t for k, t in _weights(case).items() if key not in k}
        with pytest.raises(WeightsError, match=rf"'{key}' is missing"):
            climax_options(state, names, heads=4)
        with pytest.raises(WeightsError, match=rf"'{key}' is missing"):
            climax_from_original(state, network, names)
    with pytest.raises(WeightsError, match=r"'var_embed' is missing(?s:.*)none"):
        climax_options({})


def test_weights_of_another_size_are_refused(case):
    network, names = case.network(), case.variables
    state = _weights(case) | {"net.head.4.weight": torch.ones(81, 64)}
    with pytest.raises(WeightsError, match=r"(?s)another shape.*81, 64.*80, 64"):
        climax_from_original(state, network, names)
    state = _weights(case) | {"net.var_embed": torch.ones(5, 64)}
    with pytest.raises(WeightsError, match=r"(?s)\(5, 64\).*3 axes"):
        climax_options(state, names, heads=4)
    deeper = ClimaX(**{**climax_options(_weights(case), names, heads=4), "depth": 3})
    with pytest.raises(WeightsError, match=r"'blocks\.2\.norm1\.weight' is missing"):
        climax_from_original(_weights(case), deeper, names)
    shallow = ClimaX(**{**climax_options(_weights(case), names, heads=4), "depth": 1})
    with pytest.raises(WeightsError, match=r"unknown: blocks\.1\.attn"):
        climax_from_original(_weights(case), shallow, names)


def test_what_is_said_beside_the_weights_has_to_fit(case):
    state, names = _weights(case), case.variables
    with pytest.raises(WeightsError, match=r"(?s)as many variables.*48.*5 names"):
        climax_options(state)
    with pytest.raises(WeightsError, match=r"(?s)5 heads cannot share 64 features"):
        climax_options(state, names, heads=5)
    with pytest.raises(WeightsError, match=r"(?s)128 places, for 8 x 8 patches"):
        climax_options(state, names, grid=(32, 32), heads=4)
    options = climax_options(state, names, grid=(64, 32), heads=4)
    assert options["grid"] == [64, 32]
    other = ClimaX(**{**options, "variables": [*names[:4], "ozone"]})
    with pytest.raises(WeightsError, match=r"(?s)does not know all.*found:  ozone"):
        climax_from_original(state, other, names)
