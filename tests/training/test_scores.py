"""The parts of an evaluation, each against what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.testing import synthetic_winds
from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import Sampling, Source
from xatmo.training.sampling import FieldStore
from xatmo.training.scores.curves import curves, scale
from xatmo.training.scores.draws import Draws
from xatmo.training.scores.naming import Answers, classification
from xatmo.training.scores.ordering import ordering

QUANTITIES = ("divergence_of_wind", "atmosphere_relative_vorticity")
SAMPLING = Sampling(6, 3, (16, 16), 50.0, mirror=False)


@pytest.fixture(scope="module")
def store(winds_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    return FieldStore(prepare_source(Source(str(winds_file)), QUANTITIES, folder))


def _store(ds, folder):
    path = folder / "winds.nc"
    ds.to_netcdf(path)
    return FieldStore(prepare_source(Source(str(path)), QUANTITIES, folder))


# --- Draws --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 255, 257])
def test_draws_exactly_as_many_as_were_asked_for(store, count):
    draws = Draws([store], SAMPLING, 1)
    for plan, states in ((draws.pairs(count), 2), (draws.triplets(count), 3)):
        read = list(draws.read(plan))
        assert len(plan) == count
        assert sum(len(d.states[0]) for d in read) == count
        assert {len(d.states) for d in read} == {states}


def test_states_are_as_far_apart_as_they_say(store):
    draws = Draws([store], SAMPLING, 1)
    plan = draws.triplets(300)
    hours = (store.times[plan.times] - store.times[plan.times[:, :1]]) / 3600
    np.testing.assert_array_equal(hours[:, 1:], (plan.lags + 1) * 6)
    assert (plan.lags[:, 0] < plan.lags[:, 1]).all()


def test_patches_are_those_of_the_plan(store):
    draws = Draws([store], SAMPLING, 1)
    plan = draws.pairs(50)
    states = np.concatenate([d.states[1] for d in draws.read(plan, batch=16)])
    fields = np.asarray(store.fields)
    closed = np.concatenate([fields, fields[..., :15]], axis=-1)
    for i, patch in enumerate(states):
        y, x = plan.row[i], plan.column[i]
        np.testing.assert_array_equal(
            patch, closed[plan.times[i, 1], :, y : y + 16, x : x + 16]
        )
        assert plan.latitude[i] == store.latitude[y : y + 16].mean()
    assert (plan.column > fields.shape[-1] - 16).any()  # longitudes wrap


def test_lags_and_places_are_drawn_alike(store):
    plan = Draws([store], SAMPLING, 3).pairs(6000)
    counts = np.bincount(plan.lags[:, 0], minlength=3)
    assert counts.min() > 0.94 * 2000
    assert np.abs(plan.latitude).max() <= 50
    assert abs(plan.latitude.mean()) < 2


def test_the_seed_decides(store):
    one, same, other = (Draws([store], SAMPLING, s).pairs(64) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.times, same.times)
    assert not np.array_equal(one.times, other.times)


def test_reads_in_the_order_of_time(store):
    plan = Draws([store], SAMPLING, 1).pairs(200)
    assert (np.diff(plan.start) >= 0).all()


def test_makes_do_with_the_lags_there_are(tmp_path):
    lat, lon = np.arange(60, -61, -3.0), np.arange(0, 360, 3.0)
    store = _store(synthetic_winds(3, lat, lon), tmp_path)  # 12 hours
    draws = Draws([store], SAMPLING, 1)
    assert draws.missing_hours == [18]
    assert set(draws.pairs(100).lags.ravel()) == {0, 1}
    assert (draws.triplets(10).lags == [0, 1]).all()


def test_too_short_for_two_lags(tmp_path):
    lat, lon = np.arange(60, -61, -3.0), np.arange(0, 360, 3.0)
    store = _store(synthetic_winds(2, lat, lon), tmp_path)
    with pytest.raises(
        errors.TimeAxisError,
        match=r"(?s)too few pairs.*pairs 6 h apart only; 2 times, 6 h apart.*longer",
    ):
        Draws([store], SAMPLING, 1)


def test_no_patch_within_the_latitudes(tmp_path):
    lat, lon = np.arange(88, 30, -3.0), np.arange(0, 360, 3.0)
    store = _store(synthetic_winds(4, lat, lon), tmp_path)
    narrow = Sampling(6, 3, (16, 16), 20.0, mirror=False)
    with pytest.raises(
        errors.GridError, match=r"(?s)No patch.*latitudes from 31 to 88.*equator"
    ):
        Draws([store], narrow, 1)


# --- Tables -------------------------------------------------------------------------


def _answers():
    probability = np.array(
        [[0.7, 0.2, 0.1, 0], [0.1, 0.2, 0.3, 0.4], [0, 0.1, 0.6, 0.3], [0.5, 0.5, 0, 0]]
    )
    return Answers(
        probability,
        label=np.array([0, 0, 1, 1]),
        block=np.array([0, 0, 1, 1]),
        month=np.array([12, 1, 7, 7]),
        latitude=np.array([5.0, -45.0, 45.0, 20.0]),
    )


def test_naming_by_hand():
    c = classification(_answers(), [6, 12, 18, 24])
    assert c["pairs"] == 4
    assert c["blocks"] == 2
    assert c["accuracy"] == 0.25
    assert c["within_one_class"] == 0.75
    assert c["top3"] == 0.75
    likely = np.maximum([0.7, 0.1, 0.1, 0.5], 1e-12)
    assert c["cross_entropy"] == pytest.approx(-np.log(likely).mean())
    assert c["confusion"] == [[1, 0, 0, 1], [1, 0, 1, 0], [0] * 4, [0] * 4]
    assert c["accuracy_chance"] == 0.25
    assert c["within_one_class_chance"] == 10 / 16


def test_groups_add_up():
    c = classification(_answers(), [6, 12, 18, 24])
    assert [(g["lag_hours"], g["pairs"]) for g in c["by_lag"]] == [(6, 2), (12, 2)]
    assert {k: g["pairs"] for k, g in c["by_season"].items()} == {"DJF": 2, "JJA": 2}
    assert {k: g["latitude"] for k, g in c["by_band"].items()} == {
        "40-60N": [40, 60],
        "20-40N": [20, 40],
        "20S-20N": [-20, 20],
        "40-60S": [-60, -40],
    }
    for groups in (c["by_season"], c["by_band"]):
        total = np.sum([g["confusion"] for g in groups.values()], axis=0)
        assert total.tolist() == c["confusion"]


def test_curves_by_hand():
    label = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    l2 = np.array([1.0, 1, 2, 2, 4, 4, 4, 4])
    d = np.array([1.0, 3, 1, 1, 1, 3, 2, 2])
    found = curves({"l2": l2, "atmodist": d, "psnr": d}, label, [6, 12, 18, 24])
    curve = found["metrics"]["atmodist"]
    assert found["pairs"] == [2, 2, 2, 2]
    assert curve["mean"] == [2, 1, 2, 2]
    assert curve["std"] == [1, 0, 1, 0]
    assert curve["alpha"] == 2  # of the longer half
    assert curve["scaled_mean"] == [4, 2, 4, 4]
    assert curve["variation"] == [0.5, 0, 0.5, 0]
    assert found["metrics"]["l2"]["alpha"] == 1
    assert "variation" not in found["metrics"]["psnr"]


def test_share_at_a_day():
    label = np.repeat(np.arange(5), 2)
    l2 = label + 1.0
    found = curves({"l2": l2}, label, [6, 12, 18, 24, 30])
    assert found["metrics"]["l2"]["share_at_24h"] == pytest.approx(0.8)
    assert scale(np.array([1.0, 2]), np.array([1.0, 3])) == 1.5


def test_ordering_by_hand():
    closer = {"atmodist": np.array([1, 1, 1, 0], bool), "rmse": np.array([1, 0, 0, 0])}
    lags = np.array([[1, 2], [1, 8], [4, 5], [4, 12]])
    table = ordering(closer, lags, np.arange(4), 6)
    assert table["all"]["atmodist"]["accuracy"] == 0.75
    assert table["all"]["rmse"]["accuracy"] == 0.25
    assert table["both_at_least_24h"]["triplets"] == 2
    assert table["6h_apart"]["triplets"] == 2
    low, high = table["all"]["rmse"]["atmodist_gain_95"]
    assert 0 <= low <= 0.5 <= high


def test_months_of_the_plan(tmp_path):
    lat, lon = np.arange(60, -61, -3.0), np.arange(0, 360, 3.0)
    ds = synthetic_winds(8, lat, lon)
    times = np.datetime64("2019-12-31T00", "ns") + np.arange(8) * np.timedelta64(6, "h")
    ds = ds.assign_coords(time=("time", times))
    assert isinstance(ds, xr.Dataset)
    plan = Draws([_store(ds, tmp_path)], SAMPLING, 1).pairs(100)
    np.testing.assert_array_equal(plan.month == 12, plan.start < 1577836800)
