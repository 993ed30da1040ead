"""The Multiformer on boxes with gaps: what is read, what is predicted, and where."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xatmo.errors import OptionError
from xatmo.nets.multiformer_box import PERIODIC, BoxMultiformer
from xatmo.nets.multiformer_guess import between_times, from_around, from_both
from xatmo.nets.multiformer_loss import crps_loss
from xatmo.nets.multiformer_tokens import detokenize, token_info, tokenize

B, T, Y, X = 2, 4, 8, 12


def _field(name, levels=2, token=(2, 4, 4), width=32, sources=()):
    tokens = [n // s for n, s in zip((T, Y, X), token, strict=True)]
    sizes = {"levels": levels, "tokens": tokens, "token_size": list(token)}
    return {"name": name, "width": width, "sources": list(sources), **sizes}


def _network(guess="time", info="periodic", fields=None, seed=0, **options):
    fields = fields or [
        _field("u", sources=["t"]),
        _field("t", 1, (1, 8, 4), width=48, sources=["u"]),
    ]
    numbers = {f["name"]: [1.0, 0.5][: f["levels"]] for f in fields}
    heads = {"encoder_layers": 2, "decoder_layers": 2, "members": 3}
    heads |= {"encoder_heads": 4, "decoder_heads": 4, **options}
    torch.manual_seed(seed)
    network = BoxMultiformer(fields, numbers, guess=guess, info=info, **heads)
    for p in network.parameters():  # features of place begin at zero: give them a say
        torch.nn.init.normal_(p, std=0.2)
    return network.eval()


@pytest.fixture
def box():
    torch.manual_seed(1)
    times = np.datetime64("2020-02-28T06") + 6 * np.arange(B * T).reshape(B, T)
    days = times.astype("datetime64[D]")
    years = times.astype("datetime64[Y]")
    when = np.stack(
        [
            years.astype(int) + 1970,
            (days - years).astype(int),
            (times - days).astype(float),
        ],
        -1,
    )
    return {
        "x": torch.randn(B, 3, T, Y, X),
        "when": torch.from_numpy(when).float(),
        "latitude": torch.stack([50.0 - torch.arange(Y), 10.0 - torch.arange(Y)]),
        "longitude": torch.stack([torch.arange(X) + 5.0, torch.arange(X) + 355.0]),
        "times": times,
    }


def _args(box):
    return [box[key] for key in ("x", "when", "latitude", "longitude")] + [1.0]


# --- The first guess ------------------------------------------------------------------


def test_the_guess_is_numpys_interpolation():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 2, 7, 2, 2)).astype("f4")
    seen = rng.random(x.shape) < 0.5
    got = between_times(
        torch.from_numpy(np.where(seen, x, 0)), torch.from_numpy(seen)
    ).numpy()
    for index in np.ndindex(3, 2, 2, 2):
        b, c, i, j = index
        own = seen[b, c, :, i, j]
        wanted = np.zeros(7)
        if own.any():
            wanted = np.interp(np.arange(7), np.flatnonzero(own), x[b, c, own, i, j])
        np.testing.assert_allclose(got[b, c, :, i, j], wanted, atol=1e-5)


def test_points_around_make_a_smooth_surface():
    y = torch.linspace(0, 3, 24)
    field = (y.sin()[:, None] + y.cos()).expand(3, 24, 24)
    seen = torch.ones(3, 24, 24, dtype=torch.bool)
    seen[:, 6:18, 6:18] = False
    got, away = from_around(torch.where(seen, field, 1e6 * ~seen), seen)
    torch.testing.assert_close(got[seen], field[seen], rtol=0, atol=0)
    error = (got - field)[~seen].square().mean().sqrt()
    assert error < 0.2 * field[~seen].std()
    assert (away[seen] == 0).all()
    assert away[0, 11, 11] > away[0, 7, 11] > 0  # farther within
    same, seen = torch.full_like(field, 3.0), torch.rand(3, 24, 24) < 0.05
    torch.testing.assert_close(from_around(same * seen, seen)[0], same)
    nothing, away = from_around(field, torch.zeros_like(seen))
    assert (nothing == 0).all()
    assert (away >= 1e6).all()


def test_nearer_of_times_and_points_counts_more():
    x = torch.zeros(1, 1, 9, 24, 24)
    seen = torch.zeros_like(x, dtype=torch.bool)
    seen[:, :, 0] = seen[:, :, :, :12] = True
    x[:, :, :, :12] = 1.0  # the north is 1 and known, the south was 0 at first
    got = from_both(x, seen)[0, 0, :, :, 12]
    assert (got[:, :12] == 1).all()
    assert got[1, 23] < 0.3  # soon after, and far from the north
    assert got[8, 12] > 0.7  # long after, and near to it
    assert (got[1:, 23].diff() >= 0).all()
    assert (got[4, 12:].diff() <= 1e-6).all()


def test_hidden_times_are_guessed_from_times_alone(box):
    network = _network("around")
    box["x"][:, :, -1] = torch.nan
    box["x"][0, 0, :, 2:4, 3:7] = torch.nan
    guess = detokenize(network.read(*_args(box)).guess["u"])
    assert guess.isfinite().all()
    torch.testing.assert_close(guess[1, :, -1], box["x"][1, :2, -2])
    assert guess[0, 0, :, 2:4, 3:7].abs().max() > 0


def test_tails_begin_near_the_guess(box):
    torch.manual_seed(0)
    fields = [_field("u", 3)]
    near = BoxMultiformer(
        fields, {"u": [1, 2, 3]}, guess="time", info="periodic", members=4
    ).eval()
    box["x"][:, :, -1] = torch.nan
    got = near.predict(*_args(box), frames=1)
    guess = box["x"][:, None, :, -2:-1]
    assert (got - guess).abs().max() < 0.5


# --- What is read ---------------------------------------------------------------------


def test_published_numbers_of_place_are_those_of_token_info(box):
    network = _network("zero", "published")
    read = network.read(*_args(box))
    spec = network.fields["u"]
    wanted = token_info(
        box["times"],
        90 - box["latitude"].numpy(),
        box["longitude"].numpy(),
        [1.0, 0.5],
        spec.token_size,
        1.0,
    )
    torch.testing.assert_close(read.info["u"], wanted)
    fractional = _network("zero", "published")
    fractional.fractional_day = True
    wanted = token_info(
        box["times"],
        90 - box["latitude"].numpy(),
        box["longitude"].numpy(),
        [1.0, 0.5],
        spec.token_size,
        1.0,
        fractional_day=True,
    )
    torch.testing.assert_close(fractional.read(*_args(box)).info["u"], wanted)


def test_zero_stands_where_nothing_is_known(box):
    network = _network("zero", "published")
    box["x"][0, 0, 1, 2, 3] = torch.nan
    read = network.read(*_args(box))
    back = detokenize(read.tokens["u"])
    assert back[0, 0, 1, 2, 3] == 0
    assert read.guess is None
    known = box["x"][:, :2].isfinite()
    torch.testing.assert_close(back[known], box["x"][:, :2][known])


def test_periodic_numbers_say_place_time_and_share(box):
    network = _network()
    box["x"][0, 0, :2, :4, :4] = torch.nan  # the first token of the first level
    box["x"][0, 0, 2, :4, :4] = torch.nan  # half of the one after
    info = network.read(*_args(box)).info["u"].unflatten(1, (2, 2, 2, 3))
    assert info.shape[-1] == PERIODIC
    assert info[0, 0, :, 0, 0, -1].tolist() == [0.0, 0.5]
    assert (info[1, ..., -1] == 1).all()
    # Half past the rows and columns of the token, at its last time.
    angle = np.deg2rad(box["latitude"][0, 2].item())
    torch.testing.assert_close(
        info[0, 0, 0, 0, 0, 5:7], torch.tensor([np.sin(angle), np.cos(angle)]).float()
    )
    hour = 2 * np.pi * box["when"][0, 1, 2].item() / 24
    torch.testing.assert_close(
        info[0, 0, 0, 0, 0, :2], torch.tensor([np.sin(hour), np.cos(hour)]).float()
    )
    assert info[0, :, 0, 0, 0, 4].tolist() == [1.0, 0.5]  # the level


def test_the_date_line_is_no_jump_to_it(box):
    network = _network()
    box["x"][:, :, -1] = torch.nan
    here = network.predict(*_args(box))
    box["longitude"] = box["longitude"] - 360.0
    torch.testing.assert_close(
        network.predict(*_args(box)), here, equal_nan=True, atol=1e-4, rtol=1e-4
    )


# --- What is predicted ----------------------------------------------------------------


def test_tokens_with_gaps_are_predicted_and_others_are_not(box):
    network = _network()
    box["x"][0, 1, 3, 5, 7] = torch.nan
    got = network.predict(*_args(box))
    assert got.shape == (B, 3, 3, T, Y, X)
    wanted = torch.zeros(B, 3, T, Y, X, dtype=torch.bool)
    wanted[0, 1, 2:, 4:, 4:8] = True
    assert (got.isfinite().all(1) == wanted).all()
    assert (got.isfinite().any(1) == wanted).all()


@pytest.mark.parametrize("guess", ["zero", "time"])
def test_prediction_is_the_networks(box, guess):
    network = _network(guess, "published" if guess == "zero" else "periodic")
    box["x"][:, :, -2:] = torch.nan
    got = network.predict(*_args(box), frames=2)
    read = network.read(*_args(box))
    late = torch.zeros(2, 2, 2, 3, dtype=torch.bool)
    late[:, -1] = True
    direct = network(read.tokens, read.info, {"u": late})["u"]
    if guess == "time":
        held = tokenize(box["x"][:, :2, 1:2].expand(-1, -1, T, -1, -1), (2, 4, 4))
        direct = direct + held[late.expand(B, *late.shape)][:, None]
    tokens = direct.unflatten(0, (B, 2, 1, 2, 3)).movedim(5, 1)
    torch.testing.assert_close(got[:, :, :2], detokenize(tokens), atol=1e-5, rtol=1e-5)


def test_only_the_last_times_are_asked_for(box):
    network = _network()
    box["x"][:, :, 0] = torch.nan
    box["x"][:, :, -1] = torch.nan
    got = network.predict(*_args(box), frames=1)
    assert got.shape[3] == 1
    assert got.isfinite().all()
    whole = network.predict(*_args(box))
    torch.testing.assert_close(got, whole[:, :, :, -1:])


def test_nothing_to_predict_costs_no_forward(box, monkeypatch):
    network = _network()
    monkeypatch.setattr(network, "forward", None)
    assert network.predict(*_args(box)).isnan().all()


def test_boxes_do_not_know_of_each_other(box):
    network = _network()
    box["x"][0, :, -1] = torch.nan
    box["x"][1, :, 1:3, 2:5] = torch.nan
    both = network.predict(*_args(box))
    for i in range(B):
        own = [a[i : i + 1] if torch.is_tensor(a) else a for a in _args(box)]
        alone = network.predict(*own)[0]
        torch.testing.assert_close(alone, both[i], equal_nan=True, atol=1e-5, rtol=1e-5)


# --- Fields and levels that are not there ---------------------------------------------


def test_all_fields_present_is_the_same_as_saying_nothing(box):
    network = _network()
    box["x"][:, :, -1] = torch.nan
    said = (("u", (0, 1)), ("t", (0,)))
    torch.testing.assert_close(
        network.predict(*_args(box), present=said),
        network.predict(*_args(box)),
        equal_nan=True,
    )


def test_absent_fields_cost_nothing_and_are_not_asked(box):
    """A network of one field alone gives what the coupled one does without the other.

    As far as the weights of its own heads go: that is what a missing field costs.
    """
    coupled = _network()
    alone = _network(fields=[_field("u")])
    state = alone.state_dict()
    for key, tensor in coupled.state_dict().items():
        if key in state:
            state[key] = tensor[tuple(slice(0, n) for n in state[key].shape)]
    alone.load_state_dict(state)
    box["x"] = box["x"][:, :2]
    box["x"][:, :, -1] = torch.nan
    got = coupled.predict(*_args(box), present=(("u", (0, 1)),))
    wanted = alone.predict(*_args(box))
    torch.testing.assert_close(got, wanted, equal_nan=True, atol=1e-5, rtol=1e-5)


def test_one_level_keeps_its_own_code(box):
    network = _network(fields=[_field("u")])
    args = _args(box)
    args[0] = box["x"][:, :1].clone()
    args[0][:, :, -1] = torch.nan
    first = network.predict(*args, present=(("u", (0,)),))
    second = network.predict(*args, present=(("u", (1,)),))
    assert not torch.allclose(first, second, equal_nan=True, atol=1e-3)


def test_states_are_means_over_levels_of_the_last_tokens(box):
    network = _network()
    got = network.states(*_args(box), layer=1)
    assert got.shape == (B, 32 + 48, 2, 3)
    read = network.read(*_args(box))
    states = network.encode(read.tokens, read.info, 1)["u"][-1]
    wanted = states.unflatten(1, (2, 2, 2, 3))[:, :, -1].mean(1).movedim(-1, 1)
    torch.testing.assert_close(got[:, :32], wanted)


# --- Errors ---------------------------------------------------------------------------


def test_unknown_levels_are_refused(box):
    network = _network()
    with pytest.raises(OptionError, match="no such fields or levels") as caught:
        network.predict(*_args(box), present=(("u", (0, 2)), ("t", (0,))))
    assert "u: 0 to 1" in caught.value.needed


def test_fields_of_different_boxes_are_refused():
    other = _field("t")
    other["tokens"] = [4, 2, 3]
    with pytest.raises(OptionError, match="cover the same box"):
        _network(fields=[_field("u"), other])


def test_each_level_needs_a_number():
    with pytest.raises(OptionError, match="needs a number") as caught:
        BoxMultiformer([_field("u")], {"u": [1.0]}, encoder_heads=4, decoder_heads=4)
    assert caught.value.found == "1 numbers"


# --- The score ------------------------------------------------------------------------


def test_score_of_an_ensemble_is_that_of_all_pairs():
    torch.manual_seed(0)
    members, truth = torch.randn(7, 5, 3), torch.randn(7, 3)
    pairs = (members[:, :, None] - members[:, None]).abs().mean()
    wanted = (members - truth[:, None]).abs().mean() - pairs / 2
    torch.testing.assert_close(crps_loss(members, truth), wanted)


def test_members_that_make_the_score_least_are_quantiles():
    """Members that are learnt do not drift away, as those of a fair score would."""
    torch.manual_seed(0)
    truth = torch.randn(4000)
    members = torch.linspace(-3, 3, 8)[None].clone().requires_grad_()
    optimizer = torch.optim.Adam([members], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        crps_loss(members.expand(len(truth), -1), truth).backward()
        optimizer.step()
    wanted = truth.quantile((2 * torch.arange(1, 9) - 1) / 16)
    torch.testing.assert_close(members[0].detach(), wanted, atol=0.05, rtol=0)
