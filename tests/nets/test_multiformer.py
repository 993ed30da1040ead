"""The Multiformer: what depends on what, whatever its weights."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from xatmo.errors import OptionError
from xatmo.nets import multiformer_attention
from xatmo.nets.multiformer import FieldSpec, Multiformer
from xatmo.nets.multiformer_loss import ensemble_loss, member_loss, statistical_loss
from xatmo.nets.multiformer_tail import EnsembleTail, MemberLinear, mean_and_spread
from xatmo.nets.multiformer_tokens import (
    detokenize,
    position_code,
    token_info,
    tokenize,
)

# Different in all that may differ; "alone" is coupled with nothing.
U = FieldSpec("u", 32, 2, (3, 2, 4), (2, 2, 3), ("t",))
T = FieldSpec("t", 48, 3, (1, 1, 2), (6, 4, 6), ("u",))
ALONE = FieldSpec("alone", 24, 1, (2, 2, 2), (3, 2, 6))
SIZES = {
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_heads": 4,
    "decoder_heads": 4,
    "coupling_heads": 2,
    "members": 3,
    "info_width": 8,
}


def _build(fields=(U, T, ALONE), **options):
    """A network whose weights and token info all matter, without dropout."""
    torch.manual_seed(0)
    network = Multiformer(fields, **{**SIZES, **options}).eval()
    for name in network.fields:
        torch.nn.init.normal_(network.network(name).embedding.info.weight)
    return network


def _inputs(network, boxes=2):
    generator = torch.Generator().manual_seed(1)
    fields = network.fields.values()
    tokens = {f.name: torch.randn(boxes, *f.shape, generator=generator) for f in fields}
    info = {f.name: torch.rand(boxes, f.count, 8, generator=generator) for f in fields}
    return tokens, info


def _masks(network, share=0.4, boxes=2):
    """Some tokens of each field; not as many in one box as in the other."""
    generator = torch.Generator().manual_seed(2)
    draw = {
        f.name: torch.rand(boxes, *f.plane, generator=generator) < share
        for f in network.fields.values()
    }
    assert len(set(draw["u"].flatten(1).sum(1).tolist())) > 1
    return draw


def _close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, atol=atol, rtol=1e-5)


@pytest.fixture(scope="module")
def network():
    return _build()


# --- Predictions ----------------------------------------------------------------------


def test_shapes(network):
    members = network(*_inputs(network))
    assert {name: tuple(x.shape) for name, x in members.items()} == {
        "u": (2 * 48, 3, 2, 2, 3),
        "t": (2 * 6, 3, 6, 4, 6),
        "alone": (2 * 8, 3, 3, 2, 6),
    }


@pytest.mark.parametrize("tail_layers", [0, 2])
@pytest.mark.parametrize("qk_norm", ["none", "plain", "affine"])
def test_only_some_tokens_are_the_same_numbers(tail_layers, qk_norm):
    norms = {"qk_norm": qk_norm, "decoder_qk_norm": qk_norm}
    network = _build(tail_layers=tail_layers, **norms)
    inputs, masks = _inputs(network), _masks(network)
    with torch.no_grad():
        whole = network(*inputs)
        some = network(*inputs, masks)
    for name, mask in masks.items():
        _close(some[name], whole[name][mask.flatten()])


def test_the_same_tokens_of_all_boxes(network):
    inputs = _inputs(network)
    last = torch.zeros(U.plane).bool()
    last[:, -1] = True
    with torch.no_grad():
        whole, some = network(*inputs), network(*inputs, {"u": last})
    assert list(some) == ["u"]
    _close(some["u"], whole["u"][last.expand(2, *U.plane).flatten()])


def test_the_end_of_the_decoder_sees_wanted_tokens_only(network):
    """All others serve as keys and values, and are not computed any further."""
    rows = {}
    decoder = network.network("u").decoder

    def keep(number):
        return lambda module, inputs, output: rows.update({number: output.shape[1]})

    hooks = [m.mlp.register_forward_hook(keep(i)) for i, m in enumerate(decoder)]
    last = torch.zeros(U.plane).bool()
    last[:, -1] = True
    network(*_inputs(network), {"u": last})
    for hook in hooks:
        hook.remove()
    assert rows == {0: U.count, 1: int(last.sum())}


def test_no_token_may_be_wanted_in_one_box_or_in_any(network):
    inputs, masks = _inputs(network), _masks(network)
    masks["u"][0] = False
    masks["t"][:] = False
    with torch.no_grad():
        whole, some = network(*inputs), network(*inputs, masks)
    _close(some["u"], whole["u"][masks["u"].flatten()])
    assert some["t"].shape == (0, 3, 6, 4, 6)


def test_boxes_do_not_see_each_other(network):
    tokens, info = _inputs(network)
    one = {name: x[:1] for name, x in tokens.items()}
    with torch.no_grad():
        both = network(tokens, info)
        first = network(one, {name: x[:1] for name, x in info.items()})
    for name, found in first.items():
        _close(found, both[name][: len(found)])


def _changed(network, changed):
    """Fields whose prediction changes with the tokens of one."""
    tokens, info = _inputs(network)
    other = {**tokens, changed: tokens[changed] + 1.0}
    with torch.no_grad():
        before, after = network(tokens, info), network(other, info)
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_coupling_is_what_fields_hear_of_each_other(network):
    assert _changed(network, "u") == {"u", "t"}
    assert _changed(network, "t") == {"u", "t"}
    assert _changed(network, "alone") == {"alone"}


def test_coupling_is_directed():
    network = _build([FieldSpec("u", 32, 2, (3, 2, 4), (2, 2, 3)), T])
    assert _changed(network, "u") == {"u", "t"}
    assert _changed(network, "t") == {"t"}


def test_an_uncoupled_field_is_a_network_of_its_own(network):
    single = _build([ALONE])
    state = network.state_dict()
    own = {k: state[k] for k in single.state_dict()}
    single.load_state_dict(own, strict=True)
    tokens, info = _inputs(network)
    with torch.no_grad():
        _close(single(tokens, info)["alone"], network(tokens, info)["alone"])


def test_the_order_of_fields_does_not_matter(network):
    other = _build([ALONE, T, U])
    other.load_state_dict(network.state_dict(), strict=True)
    with torch.no_grad():
        expected, found = network(*_inputs(network)), other(*_inputs(network))
    for name, members in expected.items():
        _close(found[name], members)


def test_fields_that_are_only_read(network):
    some = _build(predicted=["t"])
    assert not any("u.decoder" in key or "u.tail" in key for key in some.state_dict())
    state = network.state_dict()
    some.load_state_dict({k: state[k] for k in some.state_dict()}, strict=True)
    with torch.no_grad():
        expected, found = network(*_inputs(network)), some(*_inputs(network))
    assert list(found) == ["t"]
    _close(found["t"], expected["t"])


def test_each_field_is_normalised_once_a_layer(network, monkeypatch):
    """However many others attend to it."""
    calls = []
    real = F.layer_norm

    def counted(x, *arguments):
        calls.append(tuple(x.shape))
        return real(x, *arguments)

    monkeypatch.setattr(multiformer_attention.F, "layer_norm", counted)
    network.encode(*_inputs(network))
    # Twice: before the attention and before the MLP. Heads are normalised by modules.
    for field in (U, T, ALONE):
        assert calls.count((2, field.count, field.width)) == 2 * SIZES["encoder_layers"]


@pytest.mark.parametrize("flag", ["cross_query_norm", "published_positions"])
def test_quirks_change_the_numbers(network, flag):
    other = _build(**{flag: not {"cross_query_norm": True}.get(flag, False)})
    other.load_state_dict(network.state_dict(), strict=True)
    with torch.no_grad():
        expected, found = network(*_inputs(network)), other(*_inputs(network))
    assert (expected["u"] - found["u"]).abs().max() > 1e-3


def test_a_network_may_be_copied_and_halved(network):
    half = copy.deepcopy(network).bfloat16()
    tokens, info = ({n: x.bfloat16() for n, x in d.items()} for d in _inputs(network))
    with torch.no_grad():
        found, expected = half(tokens, info), network(*_inputs(network))
    assert found["u"].dtype == torch.bfloat16
    assert (found["u"] - expected["u"]).abs().mean() < 0.1


@pytest.mark.parametrize("autocast", [False, True])
def test_without_gradients_the_numbers_are_the_same(network, autocast):
    """Though what is not needed again is overwritten."""
    tokens, info = _inputs(network)
    before = {name: x.clone() for name, x in tokens.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        with torch.no_grad():
            found = network(tokens, info)
            states = network.encode(tokens, info)
        expected = network(tokens, info)
        for name, kept in network.encode(tokens, info).items():
            for ours, theirs in zip(states[name], kept, strict=True):
                assert ours.dtype == theirs.dtype == torch.float32
                _close(ours, theirs)
    for name, members in expected.items():
        _close(found[name], members)
        assert torch.equal(tokens[name], before[name])


def test_autocast_leaves_the_ensemble_in_single_precision(network):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = network(*_inputs(network))
    assert found["u"].dtype == torch.float32


# --- Training -------------------------------------------------------------------------


def test_gradients_reach_every_weight():
    network = _build(tail_layers=1).train()
    tokens, info = _inputs(network)
    masks = _masks(network)
    members = network(tokens, info, masks)
    targets = {name: tokens[name][mask] for name, mask in masks.items()}
    ensemble_loss(members, targets).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_dropout_is_for_training_only(network):
    inputs = _inputs(network)
    other = copy.deepcopy(network).train()
    with torch.no_grad():
        assert torch.equal(network(*inputs)["u"], network(*inputs)["u"])
        assert not torch.equal(other(*inputs)["u"], other(*inputs)["u"])


def test_a_few_steps_learn():
    network = _build([ALONE], dropout=0.0).train()
    tokens, info = _inputs(network)
    target = {"alone": torch.ones(ALONE.plane).bool()}
    truth = {"alone": tokens["alone"].flatten(0, 4)}
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = ensemble_loss(network(tokens, info, target), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_losses_by_hand():
    members = torch.tensor([[0.0, 2.0], [1.0, 4.0]])[..., None]  # 2 tokens, 2 members
    target = torch.tensor([[1.0], [4.0]])
    assert float(member_loss(members, target)) == pytest.approx((1 + 1 + 9 + 0) / 4)
    spread = np.sqrt([2.0, 4.5])
    likely = np.exp(-0.5 * np.array([0.0, 1.5**2 / 4.5]))
    expected = ((1 - likely) ** 2).mean() + np.sqrt(spread).mean()
    assert float(statistical_loss(members, target)) == pytest.approx(expected)


def test_losses_of_fields_are_weighted():
    torch.manual_seed(0)
    found = {name: torch.randn(4, 3, 2) for name in "ab"}
    truth = {name: torch.randn(4, 2) for name in "ab"}
    a, b = (
        float(member_loss(found[n], truth[n]) + statistical_loss(found[n], truth[n]))
        / 2
        for n in "ab"
    )
    assert float(ensemble_loss(found, truth)) == pytest.approx((a + b) / 2)
    weights = {"a": 3.0, "b": 1.0}
    loss = ensemble_loss(found, truth, weights)
    assert float(loss) == pytest.approx((3 * a + b) / 4)


def test_a_single_member_has_no_spread():
    members = torch.randn(5, 1, 4)
    mean, spread = mean_and_spread(members)
    assert torch.equal(mean, members[:, 0])
    assert not spread.any()
    with pytest.raises(OptionError, match=r"(?s)one member.*two at least"):
        statistical_loss(members, torch.zeros(5, 4))


# --- The ensemble ---------------------------------------------------------------------


def test_members_are_networks_of_their_own():
    torch.manual_seed(0)
    tail = EnsembleTail(members=3, width=8, points=5, depth=2)
    x = torch.randn(7, 8)
    found = tail(x)
    for member in range(3):
        y = F.layer_norm(x, (8,))
        for number, layer in enumerate(tail.layers):
            y = F.gelu(y) if number else y
            y = F.linear(y, layer.weight[member], layer.bias[member])
        _close(found[:, member], y, atol=1e-6)


def test_members_differ_from_the_start():
    layer = MemberLinear(members=4, c_in=8, c_out=5)
    assert layer(torch.ones(1, 8)).std(1).min() > 0


# --- Attention ------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_attention_adds_up_and_is_what_was_used(network, part, monkeypatch):
    """Weighted with it, the values give what the kernel has computed."""
    used = []
    real = F.scaled_dot_product_attention

    def kept(q, k, v):
        used.append((q, k, v, real(q, k, v)))
        return used[-1][-1]

    functional = multiformer_attention.F
    monkeypatch.setattr(functional, "scaled_dot_product_attention", kept)
    tokens, info = _inputs(network)
    with torch.no_grad():
        network(tokens, info)
        kernels = list(used)
        checked = 0
        for field in network.fields:
            count = SIZES[f"{part}_layers"]
            for layer in range(count):
                weights = network.attention(tokens, info, field, layer, part)
                for found in weights.values():
                    _close(found.sum(-1), torch.ones(found.shape[:-1]))
                    assert found.min() >= 0
                    matches = [
                        out
                        for _, _, v, out in kernels
                        if v.shape[1:3] == (found.shape[1], found.shape[3])
                        and out.shape[1:3] == found.shape[1:3]
                        and torch.allclose(found @ v, out, atol=1e-5)
                    ]
                    checked += len(matches) == 1
    sources = 2 * 2 + 1 if part == "encoder" else 3 * 2
    assert checked == sources * SIZES[f"{part}_layers"]


def test_sources_of_attention(network):
    inputs = _inputs(network)
    encoder = network.attention(*inputs, "u", 1)
    shapes = {name: tuple(x.shape) for name, x in encoder.items()}
    assert shapes == {"u": (2, 4, 48, 48), "t": (2, 2, 48, 6)}
    decoder = network.attention(*inputs, "t", 1, part="decoder")
    shapes = {name: tuple(x.shape) for name, x in decoder.items()}
    assert shapes == {"decoder": (2, 2, 6, 6), "encoder": (2, 2, 6, 6)}


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_attention_of_a_few_tokens(network, part):
    inputs = _inputs(network)
    index = torch.tensor([5, 40])
    of_each = torch.tensor([[5, 40], [0, 47]])
    with torch.no_grad():
        whole = network.attention(*inputs, "u", 1, part)
        few = network.attention(*inputs, "u", 1, part, index)
        each = network.attention(*inputs, "u", 1, part, of_each)
    for source, weights in whole.items():
        _close(few[source], weights[:, :, index])
        _close(each[source][0], weights[0][:, of_each[0]])
        _close(each[source][1], weights[1][:, of_each[1]])


# --- Tokens ---------------------------------------------------------------------------


def test_tokens_by_hand():
    box = torch.arange(2 * 4 * 6 * 6.0).view(1, 2, 4, 6, 6)
    tokens = tokenize(box, (2, 3, 2))
    assert tokens.shape == (1, 2, 2, 2, 3, 2, 3, 2)
    assert torch.equal(tokens[0, 1, 1, 0, 2], box[0, 1, 2:4, 0:3, 4:6])
    assert torch.equal(detokenize(tokens), box)
    with pytest.raises(OptionError, match=r"(?s)4, 6, 6.*multiples of \(2, 4, 2\)"):
        tokenize(box, (2, 4, 2))


def test_token_info_by_hand():
    times = np.array(["2020-12-31T20", "2021-06-01T00"], "datetime64[h]")
    times = times[:, None] + np.arange(6)
    y, x = (
        np.array([[0.0, 1, 2, 3], [50, 51, 52, 53]]),
        np.array([[359.0, 0, 1, 2]] * 2),
    )
    info = token_info(times, y, x, [850, 500], (3, 2, 4), 1.0)
    assert info.shape == (2, 2 * 2 * 2 * 1, 8)
    # Level, time, row: the last of a token's times, the point at half its size.
    assert info[0, 0].tolist() == [2020, 365, 22, 850, 1, 1, 850, 1]
    assert info[0, 7].tolist() == [2021, 0, 1, 500, 3, 1, 500, 1]
    assert info[1, 3].tolist() == [2021, 151, 5, 850, 53, 1, 850, 1]
    fraction = token_info(times, y, x, [850, 500], (3, 2, 4), 1.0, fractional_day=True)
    assert fraction[1, 3, 1] == pytest.approx(151 + 5 / 24)
    rest = [0, 2, 3, 4, 5, 6, 7]
    assert torch.equal(fraction[..., rest], info[..., rest])


def test_token_info_is_the_callers_own():
    """What is kept of a place is not changed with it."""
    box = (
        np.datetime64("2021-01-01T00") + np.arange(3)[None],
        *[np.arange(3.0)[None]] * 2,
    )
    info = token_info(*box, [1], (3, 3, 3), 1.0)
    expected = info.clone()
    info += 1
    assert torch.equal(token_info(*box, [1], (3, 3, 3), 1.0), expected)


@pytest.mark.parametrize("published", [False, True])
def test_position_code_tells_all_tokens_apart(published):
    field = FieldSpec("u", 192, 2, (3, 5, 6), (2, 2, 3))  # as narrow as may be
    code = position_code(field, published)
    assert code.shape == (180, 192)
    assert len(torch.unique(code.mul(1e3).round(), dim=0)) == 180


def test_position_code_of_published_networks():
    """It counts rows otherwise, unless there are as many as columns."""
    square = FieldSpec("s", 32, 2, (3, 4, 4), (2, 2, 3))
    assert torch.equal(position_code(square, published=True), position_code(square))
    assert not torch.equal(position_code(U, published=True), position_code(U))


def test_position_code_is_made_once_and_not_saved(network):
    assert not any("position" in key for key in network.state_dict())
    assert network.network("u").embedding.position.shape == (48, 32)


# --- What cannot be -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ([], {}, r"(?s)names of their own.*found:  none"),
        ([U, U], {}, r"(?s)names of their own.*found:  u, u"),
        ([U], {}, r"(?s)'u' cannot be coupled.*found:  t\n.*some of: none"),
        ([T, ALONE], {}, r"(?s)'t' cannot be coupled.*found:  u\n.*some of: alone"),
        ([ALONE], {"predicted": ["q"]}, r"(?s)'q' cannot be predicted.*found:  alone"),
        (
            [ALONE],
            {"encoder_heads": 5},
            r"(?s)'alone' does not fit.*24.*heads: \(5, 4\)",
        ),
        ([ALONE], {"decoder_heads": 1}, r"(?s)found:  1\n.*two at least"),
        ([ALONE], {"decoder_layers": 4}, r"(?s)3 and 4 layers.*decoder_layers=3"),
        ([ALONE], {"members": 0}, r"(?s)0 members.*one of each"),
        ([ALONE], {"info_width": 24}, r"(?s)found:  24\n.*more than 24"),
    ],
)
def test_networks_that_cannot_be(fields, options, message):
    with pytest.raises(OptionError, match=message):
        Multiformer(fields, **{**SIZES, **options})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "10u"}, r"(?s)cannot be called '10u'.*letters"),
        ({"name": "keys"}, r"(?s)cannot be called 'keys'.*torch uses"),
        ({"width": 31}, r"(?s)'u' has an impossible size.*width 31.*even"),
        ({"levels": 0}, r"(?s)impossible size.*0 levels.*one level"),
        ({"tokens": (3, 2)}, r"(?s)tokens of the field 'u'.*\(3, 2\).*three positive"),
        ({"token_size": (3, 0, 2)}, r"(?s)token_size of.*\(3, 0, 2\).*three positive"),
    ],
)
def test_fields_that_cannot_be(change, message):
    good = {"name": "u", "width": 32, "levels": 2, "tokens": [3, 2, 4]}
    good["token_size"] = [2, 2, 3]
    assert FieldSpec.of({**good, "sources": ["t"]}) == U
    with pytest.raises(OptionError, match=message):
        FieldSpec.of({**good, **change})


def test_coupling_names_a_field_once():
    twice = FieldSpec("u", 32, 2, (3, 2, 4), (2, 2, 3), ("t", "t"))
    with pytest.raises(OptionError, match=r"(?s)found:  t, t\n.*each once"):
        Multiformer([twice, T], **SIZES)


def test_inputs_that_do_not_fit(network):
    tokens, info = _inputs(network)
    some = {name: x for name, x in tokens.items() if name != "t"}
    with pytest.raises(OptionError, match=r"(?s)no tokens of t.*found:  u, alone"):
        network(some, info)
    with pytest.raises(OptionError, match=r"(?s)no info of u, t, alone.*found:  none"):
        network(tokens, {})
    with pytest.raises(
        OptionError, match=r"(?s)tokens of 'u'.*\(1, 3, 2, 4, 2, 2, 3\)"
    ):
        network({**tokens, "u": tokens["u"][:, :1]}, info)
    with pytest.raises(OptionError, match=r"(?s)info of 't'.*\(6, 7\).*\(6, 8\)"):
        network(tokens, {**info, "t": info["t"][..., 1:]})


def test_targets_that_are_not_predicted(network):
    some = _build(predicted=["t"])
    masks = {"u": torch.ones(U.plane).bool()}
    with pytest.raises(OptionError, match=r"(?s)does not predict 'u'.*needed: t\n"):
        some(*_inputs(some), masks)


def test_attention_that_is_not_there(network):
    inputs = _inputs(network)
    with pytest.raises(OptionError, match=r"(?s)no layer 3.*0 to 2"):
        network.attention(*inputs, "u", 3)
    with pytest.raises(OptionError, match=r"(?s)no layer -1.*0 to 1"):
        network.attention(*inputs, "u", -1, part="decoder")
    with pytest.raises(OptionError, match=r"(?s)encoder of 'q'.*of u, t, alone"):
        network.attention(*inputs, "q", 0)
    with pytest.raises(OptionError, match=r"(?s)tail of 'u'.*encoder or decoder"):
        network.attention(*inputs, "u", 0, part="tail")
