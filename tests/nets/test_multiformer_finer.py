"""Multiformers whose tails give a finer grid than is read."""

from __future__ import annotations

import pytest
import torch

from xatmo.errors import OptionError
from xatmo.nets.multiformer_box import BoxMultiformer
from xatmo.nets.multiformer_fields import FieldSpec
from xatmo.nets.multiformer_finer import smooth_field
from xatmo.nets.multiformer_guess import from_both
from xatmo.nets.multiformer_surgery import couple
from xatmo.nets.resample import block_mean, conserve, interpolate

SIZES = {"width": 32, "levels": 2, "tokens": (2, 2, 3), "token_size": (2, 4, 4)}
FIELDS = (
    {"name": "u", "sources": ["v"], **SIZES},
    {"name": "v", "sources": ["u"], **SIZES},
)
LEVELS = {"u": (1.0, 0.85), "v": (1.0, 0.85)}
OPTIONS = {"encoder_layers": 2, "decoder_layers": 1, "encoder_heads": 4}
OPTIONS |= {"decoder_heads": 4, "members": 3, "guess": "around", "info": "periodic"}


def _network(**options):
    torch.manual_seed(0)
    return BoxMultiformer(FIELDS, LEVELS, **{**OPTIONS, **options}).eval()


@pytest.fixture(scope="module")
def network():
    return _network(finer=3)


@pytest.fixture
def box():
    torch.manual_seed(1)
    return torch.randn(2, 4, 4, 8, 12), (
        torch.tensor([2020.0, 5.0, 6.0]).repeat(2, 4, 1),
        torch.linspace(40, 12, 8).repeat(2, 1),
        torch.linspace(0, 44, 12).repeat(2, 1),
        4.0,
    )


def _loud(network):
    """The same with tails that say much, so that nothing hides in rounding."""
    with torch.no_grad():
        for name in network.predicted:
            for parameter in network.network(name).tail.parameters():
                parameter.mul_(50)
    return network


# --- The network ----------------------------------------------------------------------


def test_only_the_last_layer_of_tails_differs():
    fine, plain = (_network(finer=f, tail_layers=1).state_dict() for f in (3, 1))
    assert list(fine) == list(plain)
    other = {key for key in fine if fine[key].shape != plain[key].shape}
    last = "networks.{}.tail.layers.1.{}"
    assert other == {last.format(f, p) for f in "uv" for p in ("weight", "bias")}
    for key in other:
        assert fine[key].shape[1] == 9 * plain[key].shape[1]


def test_a_network_that_is_not_finer_is_what_it_was(box):
    one, two = _network(finer=1), _network()
    for key, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[key])
    x, place = box
    x[:, :, -1] = torch.nan
    found = [network.predict(x, *place) for network in (one, two)]
    torch.testing.assert_close(*found, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("frames", [1, 2, 3, None])
def test_every_time_is_refined(network, box, frames):
    x, place = box
    with torch.inference_mode():
        fine = network.refine(x, *place, frames=frames)
        whole = network.refine(x, *place)
    count = frames or 4
    assert fine.shape == (2, 3, 4, count, 24, 36)
    assert torch.isfinite(fine).all()
    torch.testing.assert_close(fine, whole[:, :, :, -count:])


def test_cells_keep_their_means(box):
    x, place = box
    network = _loud(_network(finer=3))
    with torch.inference_mode():
        fine = network.refine(x, *place, frames=2)
        free = network.refine(x, *place, frames=2, conserve=False)
    coarse = x[:, None, :, -2:].expand(-1, 3, -1, -1, -1, -1).flatten(0, 2)
    means = block_mean(fine.flatten(0, 2), 3)
    torch.testing.assert_close(means, coarse, rtol=0, atol=1e-5)
    assert (block_mean(free.flatten(0, 2), 3) - coarse).abs().mean() > 0.1
    assert fine.std(1).mean() > 0.1  # and members differ within cells


def test_a_network_begins_as_its_guess(box):
    x, place = box
    with torch.inference_mode():
        fine = _network(finer=3).refine(x, *place, frames=1)
    last = x[:, :, -1]
    guess = conserve(smooth_field(last, 3), last, 3)
    assert (fine - guess[:, None, :, None]).square().mean().sqrt() < 0.1
    assert (fine[:, 0] != fine[:, 1]).any()  # though no member is another


@pytest.mark.parametrize("guess", ["zero", "time", "around"])
def test_one_time_alone_is_refined(box, guess):
    x, place = box
    x[:, :, :-1] = torch.nan
    network = _loud(_network(finer=3, guess=guess))
    with torch.inference_mode():
        fine = network.refine(x, *place, frames=1)
    assert torch.isfinite(fine).all()
    means = block_mean(fine[:, 1, :, 0], 3)
    torch.testing.assert_close(means, x[:, :, -1], rtol=0, atol=1e-5)


def test_what_is_missing_is_filled_before_it_is_refined(network, box):
    x, place = box
    x[0, 1, -1, 2:4, 5:9] = torch.nan
    with torch.inference_mode():
        fine = network.refine(x, *place, frames=1)[:, :, :, 0]
    assert torch.isfinite(fine).all()
    known = x[:, :, -1].isfinite()
    off = block_mean(fine[:, 0], 3) - x[:, :, -1]
    assert off[known].abs().max() < 1e-5
    filled = from_both(x.nan_to_num(0.0), x.isfinite())[:, :, -1]
    guess = block_mean(smooth_field(filled, 3), 3)[~known]
    assert guess.abs().max() > 0.2
    assert (block_mean(fine[:, 0], 3)[~known] - guess).abs().max() < 0.1


def test_some_members_of_some_fields(network, box):
    x, place = box
    present = (("u", (1,)), ("v", (0, 1)))
    with torch.inference_mode():
        part = network.refine(x[:, 1:], *place, frames=1, present=present)
        some = torch.tensor([2, 0])
        two = network.refine(x[:, 1:], *place, frames=1, present=present, members=some)
    assert part.shape == (2, 3, 3, 1, 24, 36)
    torch.testing.assert_close(two, part[:, [2, 0]])


def test_fields_that_are_only_read_are_not_refined(box):
    x, place = box
    network = _network(finer=3, predicted=["v"])
    with torch.inference_mode():
        fine = network.refine(x, *place, frames=1)
    assert torch.isnan(fine[:, :, :2]).all()
    assert torch.isfinite(fine[:, :, 2:]).all()


def test_fields_can_be_taken_away(network, box):
    before = [FieldSpec.of(field) for field in FIELDS]
    after = [FieldSpec.of({**FIELDS[0], "sources": []})]
    state = couple(network.state_dict(), before, after, encoder_heads=4)
    alone = BoxMultiformer(after, {"u": (1.0, 0.85)}, **OPTIONS, finer=3).eval()
    alone.load_state_dict(state)
    x, place = box
    assert alone.refine(x[:, :2], *place, frames=1).shape == (2, 3, 2, 1, 24, 36)


def test_a_smooth_field_keeps_means_better_than_interpolation():
    torch.manual_seed(0)
    x = interpolate(torch.randn(1, 2, 6, 8), 3)  # no finer than nature
    smooth, plain = smooth_field(x, 4), interpolate(x, 4)
    off = [(block_mean(fine, 4) - x).square().mean().sqrt() for fine in (smooth, plain)]
    assert off[0] < 0.1 * off[1]


# --- What cannot be asked for ---------------------------------------------------------


def test_networks_do_one_or_the_other(network, box):
    x, place = box
    with pytest.raises(OptionError, match="3 times finer") as error:
        network.predict(x, *place)
    assert "refine" in error.value.hint
    with pytest.raises(OptionError, match="no finer tails"):
        _network().refine(x, *place)
    with pytest.raises(OptionError, match="cannot be 0 times finer"):
        _network(finer=0)
