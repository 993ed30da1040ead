"""Cells are hidden as the gaps are; the method that does best there is chosen."""

from __future__ import annotations

import json

import numpy as np
import pytest

from xatmo.errors import MissingDependencyError, TimeAxisError
from xatmo.holdout import (
    Hidden,
    character,
    choose,
    distance_to_observed,
    hide_like,
    spread_by_distance,
    unlike,
)
from xatmo.testing.gaps import FAMILIES, gap_mask

SHAPE = (40, 36, 60)


def _smooth(shape=SHAPE, seed=0, scale=5.0):
    """Smooth random fields with a standard deviation of 1."""
    noise = np.fft.rfftn(np.random.default_rng(seed).normal(size=shape))
    for axis, n in enumerate(shape):
        k = np.fft.rfftfreq(n) if axis == 2 else np.fft.fftfreq(n)
        passed = np.exp(-2 * (np.pi * scale * k) ** 2)
        noise = noise * np.expand_dims(passed, [i for i in range(3) if i != axis])
    field = np.fft.irfftn(noise, shape, axes=(0, 1, 2))
    return (field - field.mean()) / field.std()


def _run_length(mask):
    """Mean length of runs along the rows."""
    begun = mask[..., 0].sum() + (mask[..., 1:] & ~mask[..., :-1]).sum()
    return mask.sum() / begun


# --- What is hidden -----------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_only_observed_cells_are_hidden_and_half_of_a_time_stays(family):
    observed = ~gap_mask(family, SHAPE, seed=1)
    hidden = hide_like(observed, 3)
    assert hidden.times.size
    assert (np.diff(hidden.times) > 0).all()
    assert not (hidden.mask & ~observed).any()
    assert hidden.mask[hidden.times].any(axis=(1, 2)).all()
    gone = hidden.mask[hidden.times].sum((1, 2)) / observed[hidden.times].sum((1, 2))
    if family == "missing_times":
        assert (gone == 1).all()
        left = (observed & ~hidden.mask).any(axis=(1, 2)).sum()
        assert left >= observed.any(axis=(1, 2)).sum() / 2
    else:
        assert gone.max() <= 0.51


@pytest.mark.parametrize("family", ["random_50", "random_90", "blocks", "swaths"])
def test_the_share_is_about_what_was_asked_for(family):
    observed = ~gap_mask(family, (24, 60, 90), seed=2)
    tested = hide_like(observed, 0, share=0.05)
    share = tested.mask[tested.times].sum() / observed.sum()
    assert tested.times.size <= 24
    assert 0.03 < share < 0.15


def test_long_series_are_tested_at_few_times_in_whole_runs():
    observed = ~gap_mask("clouds", (200, 20, 30), seed=2)
    hidden = hide_like(observed, 0, times=12)
    assert 8 <= hidden.times.size <= 12
    assert np.unique(hidden.times // 4).size == 3


def test_seeds_fix_what_is_hidden():
    observed = ~gap_mask("clouds", SHAPE, seed=1)
    one, same, other = (hide_like(observed, seed).mask for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_clouds_stay_clouds():
    cloudy, noisy = (gap_mask(f, SHAPE, seed=5) for f in ("clouds", "random_50"))
    length = {}
    for name, gaps in (("clouds", cloudy), ("noise", noisy)):
        hidden = hide_like(~gaps, 0)
        length[name] = _run_length((gaps | hidden.mask)[hidden.times])
        length[name, "hidden"] = _run_length(hidden.mask[hidden.times])
    assert length["clouds", "hidden"] > 0.4 * _run_length(cloudy)
    assert length["noise", "hidden"] < 2


@pytest.mark.parametrize("family", ["random_50", "random_90", "blocks", "clouds"])
def test_hidden_cells_lie_as_deep_as_the_gaps(family):
    gaps = gap_mask(family, SHAPE, seed=5)
    depth = distance_to_observed(~gaps, step=100.0)[gaps].mean()
    found = []
    for seed in range(3):
        hidden = hide_like(~gaps, seed)
        away = distance_to_observed(~gaps & ~hidden.mask, step=100.0)
        found.append(away[hidden.times][hidden.mask[hidden.times]].mean())
    assert np.mean(found) == pytest.approx(depth, rel=0.4)


def test_weights_make_up_for_a_different_depth():
    gaps = gap_mask("clouds", SHAPE, seed=5)
    depth = distance_to_observed(~gaps, step=100.0)[gaps].mean()
    hidden = hide_like(~gaps, 1)
    at = hidden.mask[hidden.times]
    away = distance_to_observed(~gaps & ~hidden.mask, step=100.0)[hidden.times][at]
    plain, weighted = away.mean(), np.average(away, weights=hidden.weights[at])
    assert abs(weighted - depth) < abs(plain - depth)
    assert (hidden.weights[at] > 0).all()
    assert not hidden.weights[~at].any()


def test_a_gap_that_stays_is_not_seen_just_before():
    gaps = np.zeros((80, 20, 20), bool)
    gaps[20:60, 5:10, 5:10] = True
    hidden = hide_like(~gaps, 0, times=4)
    first = hidden.times[0]
    here = hidden.mask[first]
    assert hidden.mask[first - 4 : first + 8, here].all()


def test_a_lasting_hole_is_hidden_at_all_times():
    gaps = gap_mask("centre_hole", SHAPE)
    hidden = hide_like(~gaps, 0)
    assert (hidden.mask == hidden.mask[0]).all()
    assert hidden.mask[0].any()
    assert 4 <= hidden.times.size <= 24


def test_missing_times_are_hidden_whole_and_of_the_same_hour():
    gaps = np.zeros((40, 6, 8), bool)
    gaps[np.arange(10) * 4] = True  # all at midnight
    gaps[0] = False
    hidden = hide_like(~gaps, 0, hours=6.0 * np.arange(40))
    # Midnight was seen once only: what is missing there is looked for there first.
    assert 0 in hidden.times
    assert hidden.mask[hidden.times].all()


def test_a_long_outage_leaves_something():
    gaps = np.zeros((30, 6, 8), bool)
    gaps[4:] = True
    hidden = hide_like(~gaps, 0)
    assert hidden.times.size == 1
    assert (~gaps & ~hidden.mask).any(axis=(1, 2)).sum() == 3


def test_one_time_is_tested_by_moving_its_gaps():
    gaps = gap_mask("clouds", (1, 40, 60), seed=1)
    hidden = hide_like(~gaps, 0)
    assert hidden.times.tolist() == [0]
    assert 0.04 < hidden.mask.sum() / (~gaps).sum() < 0.3


@pytest.mark.parametrize(
    ("family", "shape"),
    [("blocks", (1, 2, 2)), ("random_50", (2, 1, 9)), ("clouds", (7, 5, 1))],
)
def test_tiny_grids(family, shape):
    observed = ~gap_mask(family, shape, seed=0)
    for seed in range(5):
        hidden = hide_like(observed, seed)
        assert not (hidden.mask & ~observed).any()


def test_without_gaps_or_without_data_nothing_is_hidden():
    for observed in (np.ones(SHAPE, bool), np.zeros(SHAPE, bool)):
        hidden = hide_like(observed)
        assert not hidden.mask.any()
        assert not hidden.times.size


def test_what_is_not_to_be_filled_is_no_gap():
    observed = np.ones(SHAPE, bool)
    observed[:, :, :30] = False  # land
    gaps = np.zeros(SHAPE, bool)
    gaps[:, 5:8, 40:43] = True
    hidden = hide_like(observed & ~gaps, gaps=gaps)
    assert 0 < hidden.mask[0].sum() <= 9


# --- What is chosen -----------------------------------------------------------------


def _candidate(truth, error, spread=None, gone=0.0):
    rng = np.random.default_rng(0)

    def fill(values, times):
        assert np.isnan(values[times]).any()
        filled = truth[times] + error * rng.normal(size=truth[times].shape)
        filled[rng.random(filled.shape) < gone] = np.nan
        return filled, None if spread is None else np.full(filled.shape, spread)

    return fill


@pytest.fixture
def problem():
    truth = _smooth()
    gaps = gap_mask("clouds", SHAPE, seed=1)
    return truth, np.where(gaps, np.nan, truth), hide_like(~gaps, 0)


def test_the_best_is_chosen_and_the_table_can_be_written(problem):
    truth, values, hidden = problem
    ways = {"far": _candidate(truth, 1.0, 0.5), "near": _candidate(truth, 0.1, 0.2)}
    choice = choose(ways, values, hidden)
    assert choice.method == "near"
    assert list(choice.table) == ["far", "near"]
    assert choice.factor == pytest.approx(0.5, rel=0.05)
    assert choice.table["far"]["rmse"] == pytest.approx(1.0, rel=0.05)
    assert choice.table["far"]["ratio"] == pytest.approx(0.5, rel=0.05)
    assert choice.table["near"]["filled"] == 1
    assert choice.by_distance is None
    assert json.loads(json.dumps(choice.table)) == choice.table


def test_candidates_see_nothing_that_is_hidden(problem):
    truth, values, hidden = problem

    def fill(seen, times):
        assert np.isnan(seen[hidden.mask]).all()
        assert (np.isfinite(seen) == np.isfinite(values) & ~hidden.mask).all()
        return truth[times], None

    assert choose({"any": fill}, values, hidden).method == "any"


def test_crps_is_that_of_the_metrics(problem):
    import xarray as xr

    from xatmo.metrics import crps_normal

    truth, values, hidden = problem
    at = hidden.mask[hidden.times]

    def fill(seen, times):
        return truth[times] + 0.3, np.full(truth[times].shape, 0.2)

    table = choose({"one": fill}, values, hidden).table["one"]
    said = xr.DataArray(truth[hidden.times][at], dims="cell")
    expected = crps_normal(said + 0.3, 0 * said + 0.2, said, weighted=False)
    assert table["crps"] == pytest.approx(expected.item())
    assert table["bias"] == pytest.approx(0.3)


def test_reasons_are_kept(problem):
    truth, values, hidden = problem

    def missing(values, times):
        msg = "Kriging needs gstools."
        raise MissingDependencyError(msg, found="none", needed="1.6", hint="pip")

    choice = choose({"a": missing, "b": _candidate(truth, 1)}, values, hidden)
    assert choice.method == "b"
    assert choice.table["a"] == {"reason": "Kriging needs gstools."}


def test_the_first_error_is_raised_if_nothing_is_left(problem):
    def short(values, times):
        msg = "Too few times."
        raise TimeAxisError(msg, found="2", needed="8", hint="none")

    with pytest.raises(TimeAxisError, match="Too few times"):
        choose({"a": short}, *problem[1:])


def test_errors_that_are_no_answer_are_not_swallowed(problem):
    with pytest.raises(ZeroDivisionError):
        choose({"a": lambda values, times: 1 / 0}, *problem[1:])


def test_who_fills_little_comes_last(problem):
    truth, values, hidden = problem
    ways = {
        "picky": _candidate(truth, 0.01, gone=0.5),
        "fair": _candidate(truth, 0.5, gone=0.05),
    }
    choice = choose(ways, values, hidden)
    assert choice.method == "fair"
    assert choice.table["picky"]["filled"] == pytest.approx(0.5, abs=0.05)
    assert choice.table["picky"]["rmse"] < 0.1


def test_all_are_compared_where_all_have_filled(problem):
    truth, values, hidden = problem
    bad = np.zeros(truth.shape, bool)
    bad[..., ::20] = True

    def wary(seen, times):
        return np.where(bad, np.nan, truth + 0.2)[times], None

    def bold(seen, times):
        return np.where(bad, 50.0, truth + 0.1)[times], None

    assert choose({"wary": wary, "bold": bold}, values, hidden).method == "bold"


def test_of_equals_the_first_is_taken(problem):
    truth, values, hidden = problem
    ways = {k: lambda v, times: (truth[times] + 1, None) for k in ("one", "two")}
    assert choose(ways, values, hidden).method == "one"


def test_without_hidden_cells_the_first_is_taken(problem):
    truth, values, _ = problem
    nothing = Hidden(np.zeros(SHAPE, bool), np.zeros(0, int))
    choice = choose({"a": _candidate(truth, 9), "b": None}, values, nothing)
    assert (choice.method, choice.table, choice.factor) == ("a", {}, 1.0)


def test_areas_weigh(problem):
    truth, values, hidden = problem
    north = np.arange(SHAPE[1]) < SHAPE[1] // 2
    wrong = np.where(north, 1.0, 0.1)[:, None]
    ways = {
        "north": lambda v, times: (truth[times] + wrong, None),
        "south": lambda v, times: (truth[times] + 1.1 - wrong, None),
    }
    for weights, best in ((north + 0.01, "south"), (~north + 0.01, "north")):
        assert choose(ways, values, hidden, weights=weights).method == best


def test_hidden_cells_count_as_they_are_weighted(problem):
    truth, values, hidden = problem
    first = np.zeros(hidden.times.size)
    first[0] = 1
    weights = np.broadcast_to(first[:, None, None], hidden.weights.shape)
    only = Hidden(hidden.mask, hidden.times, weights)

    def late(seen, times):
        return truth[times] + (times == times[0])[:, None, None], None

    assert choose({"a": late}, values, only).table["a"]["rmse"] == pytest.approx(1)
    assert choose({"a": late}, values, hidden).table["a"]["rmse"] < 0.9


@pytest.mark.parametrize(("real", "factor"), [(0.5, 0.5), (2.0, 2.0), (40.0, 4.0)])
def test_the_factor_is_bounded_and_robust(problem, real, factor):
    truth, values, hidden = problem
    rng = np.random.default_rng(1)

    def fill(seen, times):
        spread = rng.uniform(0.5, 2, truth[times].shape)
        error = real * spread * rng.normal(size=spread.shape)
        error[rng.random(error.shape) < 1e-3] = 1e3
        return truth[times] + error, spread

    choice = choose({"a": fill}, values, hidden)
    assert choice.factor == pytest.approx(factor, rel=0.1)


def test_few_cells_say_nothing_about_the_spread(problem):
    truth, values, hidden = problem
    few = np.zeros_like(hidden.mask)
    few.flat[np.flatnonzero(hidden.mask)[:40]] = True
    times = np.flatnonzero(few.any(axis=(1, 2)))
    choice = choose({"a": _candidate(truth, 3.0, 1.0)}, values, Hidden(few, times))
    assert choice.factor == 1.0


def test_methods_without_a_spread_get_one_from_the_distance(problem):
    truth, values, hidden = problem

    def nothing(seen, times):
        away = distance_to_observed(np.isfinite(seen), step=100.0)
        noise = np.random.default_rng(0).normal(size=seen.shape)
        return (truth + away * noise)[times], None

    spread = choose({"a": nothing}, values, hidden).by_distance
    assert 0.5 <= spread.step <= 32
    said = spread(np.array([0.0, 1.0, 2.0, 4.0, 500.0]))
    assert said[0] == 0
    assert (np.diff(said) >= 0).all()
    assert said[-1] > 2 * said[1] > 1


# --- Distances ----------------------------------------------------------------------


def test_spread_by_distance_is_monotone_and_finds_the_errors():
    rng = np.random.default_rng(0)
    away = rng.uniform(1, 10, 20_000)
    spread = spread_by_distance(away * rng.normal(size=away.size), away, step=2.0)
    places = np.arange(2.0, 9.0)
    np.testing.assert_allclose(spread(places), places, rtol=0.1)
    fallen = spread_by_distance(rng.normal(size=away.size) / away, away)
    assert (np.diff(fallen(np.linspace(0.5, 50, 99))) >= 0).all()
    assert spread(np.array([1e6])) == spread(np.array([spread.reach]))


def test_spread_by_distance_of_nothing_is_not_known():
    spread = spread_by_distance(np.full(3, np.nan), np.ones(3))
    assert np.isnan(spread(np.array([2.0]))).all()
    assert spread(np.zeros(1)) == 0


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("step", [1.0, 3.5])
def test_distances_are_exact(periodic, step):
    ndimage = pytest.importorskip("scipy.ndimage")
    observed = np.random.default_rng(0).random((9, 20, 31)) < 0.003
    found = distance_to_observed(observed, periodic, step=step, farthest=1000)
    wide = np.tile(observed, 3) if periodic else observed
    expected = ndimage.distance_transform_edt(~wide, sampling=(step, 1, 1))
    middle = slice(31, 62) if periodic else slice(None)
    np.testing.assert_allclose(found, expected[..., middle], rtol=1e-5)
    near = distance_to_observed(observed, periodic, step=step, farthest=6.0)
    np.testing.assert_allclose(near, np.minimum(found, 6.0), rtol=1e-5)


def test_distances_without_any_observation_are_the_farthest():
    assert (distance_to_observed(np.zeros((2, 3, 4), bool), farthest=9.0) == 9).all()


# --- What a series is like ----------------------------------------------------------


def test_noise_is_told_from_smooth_fields():
    noise = np.random.default_rng(0).normal(size=SHAPE)
    rough, smooth = character(noise), character(_smooth())
    for name in ("x", "y", "time"):
        assert rough[name] == pytest.approx(2**0.5, rel=0.1)
        assert smooth[name] < 0.5


def test_character_has_no_units_and_bears_gaps():
    values = _smooth()
    whole = character(values)
    scaled = character(300 + 0.01 * values)
    gappy = character(np.where(gap_mask("random_50", SHAPE), np.nan, values))
    for name in ("x", "y", "time", "tails"):
        assert scaled[name] == pytest.approx(whole[name], rel=1e-3, abs=1e-3)
        assert gappy[name] == pytest.approx(whole[name], rel=0.2, abs=0.2)
    assert gappy["observed"] == pytest.approx(0.5, abs=0.01)


def test_outliers_and_climatology_are_seen():
    values = _smooth()
    spiky = values.copy()
    spiky[::7, ::9, ::9] += 30
    assert character(spiky)["tails"] > 10 > abs(character(values)["tails"])
    hills = values + 20 * np.sin(np.arange(SHAPE[2]))
    assert character(hills)["contrast"] > 1.5 + character(values)["contrast"]


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_what_cannot_be_known_is_left_out(value):
    assert set(character(np.full((1, 4, 5), value))) == {"observed"}
    assert "time" not in character(_smooth()[:1])


def test_unlike_says_what_and_by_how_much():
    said = unlike({"x": 1.41, "tails": 0.5}, {"x": [0.02, 0.9], "tails": [-1.0, 5.0]})
    (text,) = said
    assert text.startswith("neighbours along longitude differ by 1.41 standard")
    assert text.endswith("; the training data had 0.02 to 0.9")
    assert unlike({}, {"x": [0.02, 0.9], "new": [0, 1]}) == []


def test_the_factor_waits_for_more_than_one_hard_day(problem):
    """One run of times with large errors says little of all the others."""
    truth, values, hidden = problem
    error = np.random.default_rng(0).normal(size=truth.shape)
    error[hidden.times[:4]] *= 6

    def fill(seen, times):
        return truth[times] + error[times], np.ones((len(times), *truth.shape[1:]))

    factor = choose({"a": fill}, values, hidden).factor
    assert hidden.times.size >= 8
    assert 1.0 < factor < 0.7 * np.sqrt(np.mean(error[hidden.mask] ** 2))
