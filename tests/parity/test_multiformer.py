"""The Multiformer computes what both generations of the original compute."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from xatmo.errors import WeightsError
from xatmo.nets.multiformer import FieldSpec, Multiformer
from xatmo.nets.multiformer_loss import ensemble_loss, member_loss, statistical_loss
from xatmo.nets.multiformer_tail import mean_and_spread
from xatmo.nets.multiformer_tokens import detokenize, token_info, tokenize
from xatmo.zoo.importers.multiformer import (
    is_first_generation,
    multiformer_from_atmorep,
    multiformer_options,
)

ATOL = 1e-5
CASES = ("tiny1f", "tiny2f", "legacy1f")


@dataclass
class Case:
    """One miniature model of the original, with what it reads and what it computes."""

    name: str
    config: dict[str, Any]
    state: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]
    network: Multiformer

    @property
    def fields(self) -> list[str]:
        return list(self.network.fields)

    def of(self, key: str) -> dict[str, torch.Tensor]:
        """An input of each field."""
        return {f: self.inputs[f"{key}.{i}"] for i, f in enumerate(self.fields)}

    def arguments(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        return self.of("source_masked"), self.of("token_info")

    def targets(self) -> dict[str, torch.Tensor]:
        """Hidden tokens of each field, as masks."""
        masks = {}
        for i, (name, spec) in enumerate(self.network.fields.items()):
            mask = torch.zeros(2, spec.levels, spec.count // spec.levels).bool()
            for level in range(spec.levels):
                chosen = torch.zeros(mask[:, level].numel()).bool()
                chosen[self.inputs[f"masked_idx.{i}.{level}"]] = True
                mask[:, level] = chosen.view(2, -1)
            masks[name] = mask.view(2, *spec.plane)
        return masks

    def expected(self, key: str, name: str) -> torch.Tensor:
        """Rows of the original, which come by level, in the order of ours: by box."""
        field = self.fields.index(name)
        source = self.inputs if key == "target" else self.outputs
        mask = self.targets()[name].flatten(2).transpose(0, 1)  # (V, B, tokens)
        numbers = torch.full((mask.shape[1], mask.shape[0], mask.shape[2]), -1)
        numbers[mask.transpose(0, 1)] = torch.arange(int(mask.sum()))
        numbers = numbers.transpose(0, 1).flatten(1)  # of each token among ours
        theirs = [
            level[self.inputs[f"masked_idx.{field}.{v}"]]
            for v, level in enumerate(numbers)
        ]
        return source[f"{key}.{field}"][torch.cat(theirs).argsort()]


def _case(folder: Path) -> Case:
    name = folder.name
    config = json.loads((folder / f"model_id{name}.json").read_text())
    file = folder / "models" / f"id{name}" / f"AtmoRep_id{name}.mod"
    state = torch.load(file, map_location="cpu", weights_only=True)
    network = _network(config, state)
    inputs, outputs = (
        load_file(folder / f"{k}puts.safetensors") for k in ("in", "out")
    )
    return Case(name, config, state, inputs, outputs, network)


def _network(config, state):
    network = Multiformer(**multiformer_options(config, is_first_generation(state)))
    network.load_state_dict(multiformer_from_atmorep(state, network), strict=True)
    return network.eval()


@pytest.fixture(scope="module", params=CASES)
def case(request, reference) -> Case:
    return _case(reference / "atmorep" / request.param)


def _close(found, expected, atol=ATOL):
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


def _states(case: Case) -> dict[str, torch.Tensor]:
    """States of all parts of all fields, by the original's names."""
    kept = {}

    def keep(name):
        return lambda module, inputs, output: kept.update({name: output})

    handles = []
    for i, field in enumerate(case.fields):
        parts = case.network.network(field)
        handles.append(parts.embedding.register_forward_hook(keep(f"embed.{i}")))
        for part, layers in (("enc", parts.encoder), ("dec", parts.decoder)):
            for number, layer in enumerate(layers):
                name = f"{part}.{i}.block.{number}"
                for kind, module in (("att", layer.attention), ("mlp", layer.mlp)):
                    handles.append(module.register_forward_hook(keep(f"{name}.{kind}")))
        handles.append(
            parts.tail.register_forward_hook(
                lambda module, inputs, output, i=i: kept.update(
                    {f"tail_in.{i}": inputs[0]}
                )
            )
        )
    with torch.no_grad():
        case.network(*case.arguments())
    for handle in handles:
        handle.remove()
    return kept


def test_states_after_every_part(case):
    kept = _states(case)
    names = [n for n in case.outputs if n.split(".")[0] in ("embed", "enc", "dec")]
    layers = case.network.encoder_layers
    assert len(names) == len(case.fields) * (1 + 4 * layers)
    for name in names:
        expected = case.outputs[name]
        _close(kept[name].view(expected.shape), expected)


def test_the_fields_are_in_the_order_in_which_they_are_predicted(case):
    # Which is what lets the test above name decoders by the number of the field.
    assert case.fields == list(case.network.predicted)


def test_members_mean_and_spread(case):
    with torch.no_grad():
        members = case.network(*case.arguments(), case.targets())
    assert set(members) == set(case.fields)
    for name, found in members.items():
        found = found.flatten(2)
        mean, spread = mean_and_spread(found)
        _close(found, case.expected("pred_ens", name))
        _close(mean, case.expected("pred_mean", name))
        _close(spread, case.expected("pred_std", name))


def test_only_hidden_tokens_reach_the_tail(case):
    kept = {}
    for name in case.fields:
        tail = case.network.network(name).tail
        handle = tail.register_forward_hook(
            lambda module, inputs, output, name=name: kept.update({name: inputs[0]})
        )
        with torch.no_grad():
            case.network(*case.arguments(), {name: case.targets()[name]})
        handle.remove()
        _close(kept[name], case.expected("tail_in", name))


def test_losses(case):
    masks = case.targets()
    with torch.no_grad():
        members = case.network(*case.arguments(), masks)
    targets = {name: case.of("tokens")[name][mask] for name, mask in masks.items()}
    for i, name in enumerate(case.fields):
        _close(targets[name].flatten(1), case.expected("target", name), atol=0)
        pairs = {"mse_ensemble": member_loss, "stats": statistical_loss}
        for key, loss in pairs.items():
            found = loss(members[name], targets[name])
            _close(found, case.outputs[f"loss.{key}"][i])
    weights = dict(case.config["fields_prediction"])
    total = ensemble_loss(members, targets, weights)
    _close(total, case.outputs["loss_total.mse_ensemble+stats"][0])


def test_gradients(case):
    """Norms of those of weights that have the same layout as the original's."""
    network, masks = case.network, case.targets()
    members = network(*case.arguments(), masks)
    targets = {name: case.of("tokens")[name][mask] for name, mask in masks.items()}
    network.zero_grad()
    weights = dict(case.config["fields_prediction"])
    ensemble_loss(members, targets, weights).backward()
    checked = 0
    for i, name in enumerate(case.fields):
        parts = network.network(name)
        for number, layer in enumerate(parts.encoder):
            own = {
                f"mlps.{number}.blocks.0": layer.mlp.first,
                f"mlps.{number}.blocks.3": layer.mlp.second,
                f"heads.{number}.proj_out": layer.attention.out,
            }
            for key, linear in own.items():
                for kind in ("weight", "bias"):
                    full = f"gradnorm.encoders.{i}.{key}.{kind}"
                    if full in case.outputs:
                        norm = getattr(linear, kind).grad.norm()
                        torch.testing.assert_close(
                            norm, case.outputs[full][0], rtol=1e-4, atol=1e-7
                        )
                        checked += 1
    network.zero_grad()
    assert checked >= 8


def test_attention_of_encoders(case):
    found = 0
    for i, name in enumerate(case.fields):
        for number in range(case.network.encoder_layers):
            weights = case.network.attention(*case.arguments(), name, number)
            key = f"attn.enc.{i}.block.{number}"
            theirs = {name: f"{key}.self"}
            theirs |= {s: f"{key}.cross.{s}" for s in case.fields if s != name}
            for source, full in theirs.items():
                if full in case.outputs:
                    _close(weights[source], case.outputs[full])
                    found += 1
    assert found == sum(key.startswith("attn.enc") for key in case.outputs)


def test_attention_of_decoders(case):
    found = 0
    for i, name in enumerate(case.fields):
        for number in range(case.network.encoder_layers):
            weights = case.network.attention(
                *case.arguments(), name, number, part="decoder"
            )
            for source, theirs in (("decoder", "self"), ("encoder", "cross")):
                full = f"attn.dec.{i}.block.{number}.{theirs}"
                if full in case.outputs:
                    _close(weights[source], case.outputs[full])
                    found += 1
    assert found == sum(key.startswith("attn.dec") for key in case.outputs)


def test_tokens(case):
    for i, (name, spec) in enumerate(case.network.fields.items()):
        tokens = tokenize(case.inputs[f"raw.{i}"], spec.token_size)
        assert torch.equal(tokens, case.of("tokens")[name])
        assert torch.equal(detokenize(tokens), case.inputs[f"raw.{i}"])


def test_token_info(case):
    """From times and places that make what the original was given."""
    hours = np.arange(12)[None]
    # The first three hours of the boxes end on the hour of their first token.
    ends = np.array(["1984-02-16T21", "2000-06-26T05"], "datetime64[h]")
    times = ends[:, None] - 2 + hours
    rows, columns = np.arange(18)[None], np.arange(36)[None]
    for i, (name, spec) in enumerate(case.network.fields.items()):
        _, half, _ = (size // 2 for size in spec.token_size)
        theirs = case.of("token_info")[name]
        first = theirs[:, 0].double().numpy()  # of each box
        info = token_info(
            times,
            first[:, 4:5] + 0.25 * (rows - half),
            first[:, 5:6] + 0.25 * (columns - half),
            case.config["fields"][i][2],
            spec.token_size,
            0.25,
        )
        torch.testing.assert_close(info, theirs, atol=1e-4, rtol=0)


# The original written out, for what the miniature models do not have: three fields, of
# which one is coupled with none, several heads for each coupling, hidden layers in the
# tails. Its weights have the names and layouts of either generation.

THREE = {
    "fields": [
        ["u", [1, 32, ["t", "v"], 0], [1, 2], [3, 2, 4], [2, 2, 3], []],
        ["v", [1, 24, [], 0], [7], [2, 2, 2], [3, 2, 6], []],
        ["t", [1, 48, ["u"], 0], [1, 2, 3], [1, 1, 2], [6, 4, 6], []],
    ],
    "fields_prediction": [["u", 0.5], ["t", 0.5]],
    "encoder_num_layers": 3,
    "decoder_num_layers": 2,
    "encoder_num_heads": 4,
    "decoder_num_heads": 4,
    "coupling_num_heads_per_field": 2,
    "net_tail_num_nets": 3,
    "net_tail_num_layers": 2,
    "size_token_info_net": 8,
    "dropout_rate": 0.05,
    "with_qk_lnorm": True,
}
FUSED, MODULES = "2024", "2023"


class _Original:
    """Draws weights and computes with them, in double precision, head by head."""

    def __init__(self, config, generation):
        self.config, self.generation = config, generation
        self.rng = np.random.default_rng(0)
        self.state: dict[str, torch.Tensor] = {}
        self.layers = config["encoder_num_layers"]
        self.coupling = config["coupling_num_heads_per_field"]
        self.fields = {f[0]: f for f in config["fields"]}
        self.names = list(self.fields)
        self.width = {name: f[1][1] for name, f in self.fields.items()}

    def get(self, key, *shape, scale=None):
        """A tensor of the checkpoint, drawn when it is first asked for."""
        if key not in self.state:
            scale = scale or shape[-1] ** -0.5
            drawn = torch.from_numpy(self.rng.normal(0, scale, shape)).float()
            self.state[key] = drawn
        assert self.state[key].shape == shape
        return self.state[key].double()

    def linear(self, x, key, c_out):
        weight = self.get(f"{key}.weight", c_out, x.shape[-1])
        return x @ weight.T + self.get(f"{key}.bias", c_out, scale=0.2)

    def __call__(self, tokens, info):
        self.attention = {}
        x = {n: self.embed(n, tokens[n], info[n]) for n in self.names}
        states = {n: [x[n]] for n in self.names}
        for layer in range(self.layers):
            z = {n: _norm(x[n]) for n in self.names}
            after = {n: x[n] + self.encode(n, layer, z) for n in self.names}
            keys = {n: f"encoders.{i}.mlps.{layer}" for i, n in enumerate(self.names)}
            x = {n: after[n] + self.mlp(after[n], keys[n]) for n in self.names}
            for n in self.names:
                states[n].append(x[n])
        members = {}
        for p, (name, _) in enumerate(self.config["fields_prediction"]):
            y = x[name]
            for layer in range(self.config["decoder_num_layers"]):
                z, memory = _norm(y), _norm(states[name][self.layers - layer])
                y = y + self.decode(name, p, layer, z, memory)
                y = y + self.mlp(y, f"decoders.{p}.blocks.{2 * layer + 1}")
            members[name] = self.tails(name, p, y)
        return members

    def embed(self, name, tokens, info):
        i, width = self.names.index(name), self.width[name]
        values = tokens.double().flatten(5).flatten(1, 4)
        values = self.linear(values, f"encoders.{i}.embed", width - 8)
        self.state[f"embeds.{i}.weight"] = self.state[f"encoders.{i}.embed.weight"]
        self.state[f"embeds.{i}.bias"] = self.state[f"encoders.{i}.embed.bias"]
        about = self.linear(info.double(), f"embeds_token_info.{i}", 8)
        x = torch.cat([values, about], -1)
        _, _, levels, (times, rows, columns), *_ = self.fields[name]
        n = 0
        for v in range(len(levels)):
            for t in range(times):
                for r in range(rows * columns):
                    for k in range(0, width, 2):
                        w = 2 * np.pi * k / width
                        la, lo = r // rows, r % columns
                        x[:, n, k] += np.sin(t * w) + 0.5 * np.sin(8 * la * w)
                        x[:, n, k + 1] += np.cos(v * w) + 0.5 * np.cos(8 * lo * w)
                    n += 1
        return x

    def encode(self, name, layer, z):
        i, width = self.names.index(name), self.width[name]
        heads, d = 4, width // 4
        key = f"encoders.{i}.heads.{layer}"
        coupled = self.fields[name][1][2]
        out, kept = [], {name: []}
        for h in range(heads):
            q, k, v = self.own(f"{key}", "heads_self", h, heads, d, z[name])
            result, weights = _attend(_norm(q), _norm(k), v)
            out.append(result)
            kept[name].append(weights)
        total = len(coupled) * self.coupling
        for c, source in enumerate(coupled):
            kept[source] = []
            for h in range(self.coupling):
                j = c * self.coupling + h
                shape, other = (d, width), (d, self.width[source])
                if self.generation == MODULES:
                    one = f"{key}.heads_coupling.{j}.proj_"
                    q = self.get(f"{one}qs.weight", *shape)
                    k, v = (self.get(f"{one}{x}s.weight", *other) for x in "kv")
                else:
                    one = f"{key}.proj_heads_other"
                    q = self.get(f"{one}.0.weight", total * d, width)
                    q = q[j * d : (j + 1) * d]
                    rows = (2 * self.coupling * d, self.width[source])
                    kv = self.get(f"{one}.{c + 1}.weight", *rows)[2 * h * d :]
                    k, v = kv[:d], kv[d : 2 * d]
                q, k, v = z[name] @ q.T, z[source] @ k.T, z[source] @ v.T
                q = _norm(q) if self.generation == MODULES else q
                result, weights = _attend(q, _norm(k), v)
                out.append(result)
                kept[source].append(weights)
        if not coupled and self.generation == FUSED:
            self.state[f"{key}.proj_heads_other.0.weight"] = torch.zeros(0, width)
        self.attention[name, layer] = {s: torch.stack(w, 1) for s, w in kept.items()}
        projection = self.get(f"{key}.proj_out.weight", width, width + total * d)
        return torch.cat(out, -1) @ projection.T

    def own(self, key, modules, h, heads, d, z):
        """Queries, keys and values of one head on the field itself."""
        width = z.shape[-1]
        if self.generation == MODULES:
            names = [f"{key}.{modules}.{h}.proj_{x}s.weight" for x in "qkv"]
            rows = [self.get(name, d, width) for name in names]
        else:
            rows = self.get(f"{key}.proj_heads.weight", 3 * heads * d, width)
            rows = rows[3 * h * d : 3 * (h + 1) * d].split(d)
        return [z @ row.T for row in rows]

    def decode(self, name, p, layer, z, memory):
        width = self.width[name]
        key, d, out = f"decoders.{p}.blocks.{2 * layer}", width // 4, []

        def normal(x, which):
            x = _norm(x)
            if self.generation == MODULES:
                return x
            scale = self.get(f"{key}.ln_{which}.weight", d, scale=1.0)
            return x * scale + self.get(f"{key}.ln_{which}.bias", d, scale=0.3)

        for h in range(2):
            q, k, v = self.own(key, "heads", h, 2, d, z)
            out.append(_attend(normal(q, "q"), normal(k, "k"), v)[0])
        for h in range(2):
            if self.generation == MODULES:
                one = f"{key}.heads_other.{h}.proj_"
                q, k, v = (self.get(f"{one}{x}s.weight", d, width) for x in "qkv")
            else:
                q = self.get(f"{key}.proj_heads_o_q.weight", 2 * d, width)
                kv = self.get(f"{key}.proj_heads_o_kv.weight", 4 * d, width)
                q, (k, v) = q[h * d : (h + 1) * d], kv[2 * h * d :][: 2 * d].split(d)
            q, k, v = z @ q.T, memory @ k.T, memory @ v.T
            out.append(_attend(normal(q, "q"), normal(k, "k"), v)[0])
        return torch.cat(out, -1) @ self.get(f"{key}.proj_out.weight", width, width).T

    def mlp(self, x, key):
        hidden = F.gelu(self.linear(_norm(x), f"{key}.blocks.0", 2 * x.shape[-1]))
        return F.gelu(self.linear(hidden, f"{key}.blocks.3", x.shape[-1]))

    def tails(self, name, p, x):
        width, points = self.width[name], int(np.prod(self.fields[name][4]))
        members = []
        for e in range(3):
            key = f"tails.{p}.tail_nets.{e}"
            scale = self.get(f"{key}.0.weight", width, scale=1.0)
            y = _norm(x) * scale + self.get(f"{key}.0.bias", width, scale=0.3)
            for hidden in (1, 3):
                y = F.gelu(self.linear(y, f"{key}.{hidden}", width))
            members.append(self.linear(y, f"{key}.5", points))
        return torch.stack(members, 2)  # (B, N, E, points)


def _norm(x):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def _attend(q, k, v):
    weights = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
    return weights @ v, weights


def _three(generation):
    """Three fields: what the original computes, its weights, and our network."""
    torch.manual_seed(0)
    original = _Original(THREE, generation)
    options = multiformer_options(THREE, generation == MODULES)
    network = Multiformer(**options).eval()
    fields = network.fields.values()
    tokens = {f.name: torch.randn(2, *f.shape) for f in fields}
    info = {f.name: torch.rand(2, f.count, 8) for f in fields}
    return original, network, (tokens, info), original(tokens, info)


@pytest.mark.parametrize("generation", [FUSED, MODULES])
def test_three_fields(generation):
    original, network, arguments, expected = _three(generation)
    state = multiformer_from_atmorep(original.state, network)
    network.load_state_dict(state, strict=True)
    with torch.no_grad():
        members = network(*arguments)
    assert list(members) == ["u", "t"]
    for name, found in members.items():
        truth = expected[name].flatten(0, 1).float()
        assert truth.abs().max() > 0.1
        _close(found.flatten(2), truth)
    for (name, layer), sources in original.attention.items():
        weights = network.attention(*arguments, name, layer)
        assert weights.keys() == sources.keys()
        for source, theirs in sources.items():
            _close(weights[source], theirs.float())


def test_generations_are_told_apart(case):
    assert is_first_generation(case.state) == (case.name == "legacy1f")


@pytest.mark.parametrize("emptied", [True, False])
def test_shared_token_info_stands_in(emptied):
    """Models of 2023 have one map for all fields, and perhaps zeros beside it."""
    original, network, *_ = _three(MODULES)
    state = dict(original.state)
    own = [key for key in state if key.startswith("embeds_token_info")]
    shared = torch.randn(8, 8), torch.randn(8)
    state |= {
        "embed_token_info.weight": shared[0],
        "embed_token_info.bias": shared[1],
    }
    for key in own:
        tensor = state.pop(key)
        if emptied:
            state[key] = torch.zeros_like(tensor)
    found = multiformer_from_atmorep(state, network)
    for name in network.fields:
        info = f"networks.{name}.embedding.info"
        assert torch.equal(found[f"{info}.weight"], shared[0])
        assert torch.equal(found[f"{info}.bias"], shared[1])


def test_a_field_keeps_its_own_token_info():
    original, network, *_ = _three(MODULES)
    state = original.state | {
        "embed_token_info.weight": torch.randn(8, 8),
        "embed_token_info.bias": torch.randn(8),
    }
    found = multiformer_from_atmorep(state, network)
    own = original.state["embeds_token_info.1.weight"]
    assert torch.equal(found["networks.v.embedding.info.weight"], own)


@pytest.mark.parametrize("generation", [FUSED, MODULES])
def test_missing_and_foreign_weights_are_named(generation):
    original, network, *_ = _three(generation)
    state = dict(original.state)
    del state["encoders.2.mlps.1.blocks.3.bias"]
    with pytest.raises(WeightsError, match=r"encoders\.2\.mlps\.1\.blocks\.3\.bias"):
        multiformer_from_atmorep(state, network)
    state = original.state | {"encoders.3.embed.weight": torch.ones(1)}
    with pytest.raises(WeightsError, match=r"unknown: encoders\.3\.embed\.weight"):
        multiformer_from_atmorep(state, network)


def test_weights_of_another_size_are_refused():
    original, network, *_ = _three(FUSED)
    key = "encoders.0.heads.1.proj_heads.weight"
    state = original.state | {key: torch.ones(95, 32)}
    with pytest.raises(WeightsError, match=r"(?s)another shape.*95, 32.*96, 32"):
        multiformer_from_atmorep(state, network)


def test_settings_that_no_published_model_has_are_refused():
    for key, value in (("encoder_att_type", "axial"), ("decoder_self_att", True)):
        with pytest.raises(WeightsError, match=f"{key} = {value!r}"):
            multiformer_options({**THREE, key: value}, first_generation=False)
    static = [["oro", [0, 32, [], 0], [0], [1, 2, 4], [1, 2, 3], []]]
    with pytest.raises(WeightsError, match="'oro' does not change with time"):
        multiformer_options({**THREE, "fields": static}, first_generation=False)


def test_settings_that_are_not_there_are_named():
    config = {key: value for key, value in THREE.items() if key != "dropout_rate"}
    with pytest.raises(WeightsError, match="missing: dropout_rate"):
        multiformer_options(config, first_generation=True)


def test_settings_are_plain(case):
    """They can stand in a model card."""
    options = multiformer_options(case.config, is_first_generation(case.state))
    assert json.loads(json.dumps(options)) == options
    again = Multiformer(**json.loads(json.dumps(options)))
    again.load_state_dict(case.network.state_dict(), strict=True)


# Fields of the published models of 2024: levels, tokens, their size, and sources.
PUBLISHED = {
    "u": (5, (12, 3, 6), (3, 18, 18), ("v", "t")),
    "v": (5, (12, 3, 6), (3, 18, 18), ("u", "t")),
    "q": (5, (12, 3, 6), (3, 18, 18), ("u", "v", "t")),
    "w": (5, (12, 3, 6), (3, 18, 18), ("u", "v", "t")),
    "t": (5, (12, 2, 4), (3, 27, 27), ("u", "v", "q")),
    "tp": (1, (12, 6, 12), (3, 9, 9), ("u", "v", "w", "q")),
}


def test_as_many_parameters_as_the_six_coupled_fields_of_2024():
    fields = [FieldSpec(name, 1024, *rest) for name, rest in PUBLISHED.items()]
    with torch.device("meta"):
        network = Multiformer(fields, cross_query_norm=False)
    count = sum(p.numel() for p in network.parameters())
    # Folded into other weights here: scale and offset before each of 16 members. And
    # the original keeps token info that fields share beside that of each.
    folded, shared = 6 * 16 * 2 * 1024, 16 * 8 + 16
    assert count + folded + shared == 741_136_272
