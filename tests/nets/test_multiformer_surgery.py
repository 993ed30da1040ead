"""Fields come and go, and what was learnt stays what it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from xatmo.errors import OptionError
from xatmo.nets.multiformer import FieldSpec, Multiformer
from xatmo.nets.multiformer_surgery import couple, coupled_fields, fields_without

OPTIONS = {
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_heads": 4,
    "decoder_heads": 4,
    "coupling_heads": 2,
    "members": 3,
    "qk_norm": "affine",
}
HEADS = {"encoder_heads": 4, "coupling_heads": 2}
U = FieldSpec("u", 32, 2, (2, 3, 3), (1, 4, 4), ("v",))
V = FieldSpec("v", 32, 2, (2, 3, 3), (1, 4, 4), ("u",))
T = FieldSpec("t", 48, 1, (2, 2, 2), (1, 6, 6))
Q = FieldSpec("q", 24, 1, (2, 2, 2), (1, 6, 6), ("t",))


def _network(*fields, seed=0, **options):
    torch.manual_seed(seed)
    network = Multiformer(fields, **OPTIONS | options)
    for parameter in network.parameters():  # no part is silent
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def _inputs(*fields, seed=3):
    torch.manual_seed(seed)
    tokens = {f.name: torch.randn(2, *f.shape) for f in fields}
    info = {f.name: torch.randn(2, f.count, 8) for f in fields}
    return tokens, info


def _rebuilt(state, before, after, **options):
    network = Multiformer(after, **OPTIONS | options).eval()
    made = couple(state, before, after, **HEADS)
    network.load_state_dict(made, strict=True)
    return network


def test_new_fields_change_nothing_at_first():
    wind, heat = _network(U, V), _network(T, Q, seed=1)
    state = wind.state_dict() | heat.state_dict()
    all_ = coupled_fields([U, V], [T, Q])
    assert all_[0].sources == ("v", "t", "q")
    assert all_[3].sources == ("t", "u", "v")
    network = _rebuilt(state, [U, V, T, Q], all_)
    inputs = _inputs(U, V, T, Q)
    with torch.no_grad():
        found = network(*inputs)
        expected = wind(*inputs) | heat(*inputs)
    assert list(found) == ["u", "v", "t", "q"]
    for name, members in expected.items():
        # Other kernels may sum in another order: a rounding of numbers of size 10.
        torch.testing.assert_close(found[name], members, atol=1e-5, rtol=1e-5)


def test_new_heads_learn():
    state = _network(U, V).state_dict() | _network(T).state_dict()
    all_ = coupled_fields([U, V], [T], {"u": ["t"]})
    assert [f.sources for f in all_] == [("v", "t"), ("u",), ()]
    network = _rebuilt(state, [U, V, T], all_)
    inputs = _inputs(U, V, T)
    target = {"u": torch.ones((), dtype=torch.bool)}
    step = torch.optim.SGD(network.parameters(), lr=0.1)

    def heard():
        """How much u hears of t."""
        with torch.no_grad():
            other = inputs[0] | {"t": inputs[0]["t"] + 1.0}
            apart = (
                network(*inputs, target)["u"] - network(other, inputs[1], target)["u"]
            )
        return apart.abs().max().item()

    assert heard() == 0
    for _ in range(2):
        step.zero_grad()
        network(*inputs, target)["u"].square().mean().backward()
        step.step()
    attention = network.network("u").encoder[0].attention
    # The outputs in the first step, keys and values in the second.
    assert attention.key_value["t"].weight.grad.abs().max() > 0
    assert heard() > 1e-4


def test_without_a_field_is_as_if_it_were_never_there():
    fields = [replace(U, sources=("t", "v")), V, T]
    network = _network(*fields)
    left = fields_without(fields, ["t"])
    assert left == [U, V]
    smaller = _rebuilt(network.state_dict(), fields, left)
    inputs = _inputs(*fields)
    present = {"u": [0, 1], "v": [0, 1]}
    with torch.no_grad():
        expected = network(*inputs, present=present)
        found = smaller(*inputs)
    for name in found:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)


def test_there_and_back_is_the_same_network():
    network = _network(U, V)
    state = network.state_dict() | _network(T).state_dict()
    more = coupled_fields([U, V], [T])
    grown = couple(state, [U, V, T], more, **HEADS)
    back = couple(grown, more, fields_without(more, ["t"]), **HEADS)
    assert back.keys() == network.state_dict().keys()
    for key, tensor in network.state_dict().items():
        assert torch.equal(back[key], tensor), key


def test_fields_that_are_only_read():
    network = _network(U, V, predicted=["u"])
    left = fields_without([U, V], ["v"])
    smaller = _rebuilt(network.state_dict(), [U, V], left, predicted=["u"])
    assert smaller.predicted == ("u",)


def test_the_order_of_sources_is_free():
    fields = [replace(U, sources=("t", "v")), V, T]
    network = _network(*fields)
    turned = [T, V, replace(U, sources=("v", "t"))]
    other = _rebuilt(network.state_dict(), fields, turned)
    inputs = _inputs(U, V, T)
    with torch.no_grad():
        expected, found = network(*inputs), other(*inputs)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)


def test_draws_are_the_same_every_time():
    state = _network(U, V).state_dict() | _network(T).state_dict()
    more = coupled_fields([U, V], [T])
    first, second, other = (
        couple(state, [U, V, T], more, **HEADS, seed=seed) for seed in (0, 0, 1)
    )
    key = "networks.u.encoder.0.attention.key_value.t.weight"
    assert torch.equal(first[key], second[key])
    assert not torch.equal(first[key], other[key])
    layers = [first[key.replace("encoder.0", f"encoder.{n}")] for n in range(2)]
    assert not torch.equal(*layers)
    assert 0.5 / 48**0.5 < first[key].abs().max() <= 1 / 48**0.5


def test_the_dtype_stays():
    state = _network(U, V).half().state_dict() | _network(T).half().state_dict()
    made = couple(state, [U, V, T], coupled_fields([U, V], [T]), **HEADS)
    assert {tensor.dtype for tensor in made.values()} == {torch.float16}


@pytest.mark.parametrize(
    ("before", "after", "match"),
    [
        ([U, V], [U, V, T], r"(?s)no weights for the field 't'.*no such field"),
        ([U, V], [replace(U, levels=3), V], r"(?s)'u' of this size.*levels=3"),
        ([U, V, T], [T], r"(?s)no weights of the field 't'.*state dict"),
    ],
)
def test_weights_that_are_not_there(before, after, match):
    state = _network(U, V).state_dict()
    with pytest.raises(OptionError, match=match):
        couple(state, before, after, **HEADS)


def test_couplings_to_nothing():
    with pytest.raises(OptionError, match=r"(?s)not there.*x.*u, v, t"):
        coupled_fields([U, V], [T], {"u": ["x"]})
    assert coupled_fields([U, V], [T], False) == [U, V, T]
