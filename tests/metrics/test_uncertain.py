"""Scores of a mean with a spread: known integrals, and data whose slope is known."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.metrics import (
    crps,
    crps_normal,
    mae,
    rmse,
    spread_error_curve,
    spread_error_slope,
    spread_ratio,
)
from xatmo.testing import raise_if_computes


def _points(values, **attrs):
    return xr.DataArray(np.asarray(values, float), dims="time", attrs=attrs)


def _honest(factor=1.0, offset=0.0, n=200_000, seed=0):
    """Mean, spread and truth, where the error is factor x spread + offset."""
    rng = np.random.default_rng(seed)
    spread = rng.uniform(1, 5, n)
    mean = rng.normal(size=n)
    truth = mean + (factor * spread + offset) * rng.normal(size=n)
    return _points(mean), _points(spread), _points(truth, units="K")


def _map(values):
    coords = {"lat": [60.0, 0.0], "lon": [0.0, 1.0, 2.0]}
    return xr.DataArray(values, coords=coords, dims=("lat", "lon"), name="t")


# --- CRPS ---


@pytest.mark.parametrize("spread", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("away", [0.0, -0.3, 2.0, 40.0])
def test_crps_is_the_integral_that_defines_it(away, spread):
    stats = pytest.importorskip("scipy.stats")
    x = np.linspace(-60, 60, 2_000_001)
    steps = (stats.norm.cdf(x, 0, spread) - (x >= away)) ** 2
    found = crps_normal(_points([0]), _points([spread]), _points([away]), "time")
    assert found.item() == pytest.approx(np.trapezoid(steps, x), rel=1e-3)


def test_crps_is_that_of_many_draws():
    rng = np.random.default_rng(0)
    mean, truth = rng.normal(size=(2, 50))
    spread = rng.uniform(0.2, 2, 50)
    draws = _points(mean) + _points(spread) * xr.DataArray(
        rng.normal(size=(20_000, 50)), dims=("realization", "time")
    )
    wanted = crps(draws, _points(truth), dim=[])
    found = crps_normal(_points(mean), _points(spread), _points(truth), [])
    np.testing.assert_allclose(found, wanted, atol=0.05)
    assert found.mean().item() == pytest.approx(wanted.mean().item(), rel=5e-3)


def test_crps_of_certainty_is_the_absolute_error():
    truth = _points([1, 2, 3], units="K")
    mean = _points([1, 0, 6])
    score = crps_normal(mean, mean * 0, truth, "time")
    assert score.item() == mae(mean, truth, "time").item() == pytest.approx(5 / 3)
    assert score.attrs["units"] == "K"


def test_crps_far_away_does_not_overflow():
    score = crps_normal(_points([0]), _points([1e-300]), _points([1e9]), "time")
    assert score.item() == pytest.approx(1e9)


def test_crps_leaves_out_what_is_not_known():
    nan = np.nan
    mean, spread = _points([0, nan, 0, 0, 0]), _points([0, 1, nan, -1, 1])
    score = crps_normal(mean, spread, _points([2, 0, 0, 0, nan]), [])
    np.testing.assert_array_equal(score, [2, nan, nan, nan, nan])


def test_crps_is_weighted_by_area():
    truth = _map([[0.0] * 3, [0.0] * 3])
    mean = _map([[1.0] * 3, [0.0] * 3])
    found = crps_normal(mean, mean * 0, truth).item()
    assert found == mae(mean, truth).item()
    assert found < crps_normal(mean, mean * 0, truth, weighted=False).item() == 0.5


def test_points_have_to_agree():
    truth = _map(np.zeros((2, 3)))
    moved = truth.assign_coords(lon=truth.lon + 0.5)
    with pytest.raises(errors.AlignmentError, match="differ along 'lon'"):
        crps_normal(truth, moved, truth)
    flipped = truth.isel(lat=slice(None, None, -1))
    assert crps_normal(flipped, flipped, truth).item() == 0


# --- Spread against error ---


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_slopes_are_those_of_the_data(factor):
    data = _honest(factor)
    slope = spread_error_slope(*data, weighted=False)
    assert slope.item() == pytest.approx(factor, rel=0.02)
    assert spread_ratio(*data, "time").item() == pytest.approx(1 / factor, rel=0.01)


def test_the_slope_has_an_intercept():
    assert spread_error_slope(*_honest(1, offset=3), weighted=False).item() == (
        pytest.approx(1, rel=0.04)
    )
    assert spread_ratio(*_honest(1, offset=3), "time").item() < 0.6


def test_a_spread_that_knows_nothing_has_no_slope():
    mean, spread, truth = _honest()
    shuffled = _points(np.random.default_rng(1).permutation(spread))
    slope = spread_error_slope(mean, shuffled, truth, weighted=False).item()
    assert abs(slope) < 0.03
    assert spread_ratio(mean, shuffled, truth, "time").item() == pytest.approx(
        1, rel=0.01
    )


def test_one_spread_everywhere_has_no_slope():
    mean, spread, truth = _honest(n=1000)
    constant = spread * 0 + 0.1
    assert np.isnan(spread_error_slope(mean, constant, truth, weighted=False).item())


def test_bins_hold_the_same():
    spread = np.arange(1.0, 13.0)
    truth = _points(spread * 2)
    curve = spread_error_curve(truth * 0, _points(spread), truth, 4, weighted=False)
    wanted = np.sqrt((spread.reshape(4, 3) ** 2).mean(1))
    np.testing.assert_allclose(curve.sel(of="spread"), wanted)
    np.testing.assert_allclose(curve.sel(of="error"), 2 * wanted)
    assert curve.dims == ("of", "bin")


def test_bins_hold_the_same_area():
    spread = _map([[1.0, 1.0, 1.0], [2.0, 3.0, 4.0]])
    truth = spread * 0
    # The northern row is cut by the pole of its band: smaller than the other.
    curve = spread_error_curve(spread, spread, truth, 2)
    assert curve.sel(of="spread")[0].item() > 1
    even = spread_error_curve(spread, spread, truth, 2, weighted=False)
    assert even.sel(of="spread")[0].item() == 1


def test_what_is_not_known_is_in_no_bin():
    nan = np.nan
    mean = _points([1, 2, nan, 1, 1, 1])
    spread = _points([1, 2, 1, nan, -5, 1])
    truth = _points([0, 0, 0, 0, 0, nan])
    curve = spread_error_curve(mean, spread, truth, 2, weighted=False)
    np.testing.assert_array_equal(curve, [[1, 2], [1, 2]])
    assert spread_ratio(mean, spread, truth, "time").item() == 1
    nothing = spread_error_curve(mean * nan, spread, truth, 2, weighted=False)
    assert np.isnan(nothing).all()


def test_fewer_points_than_bins():
    points = _points([1, 2, 3])
    curve = spread_error_curve(points, points, points * 0, 10, weighted=False)
    assert np.isfinite(curve).sum().item() == 6
    slope = spread_error_slope(points, points, points * 0, 10, weighted=False)
    assert slope.item() == pytest.approx(1)


@pytest.mark.parametrize("bins", [1, 0, -3])
def test_too_few_bins(bins):
    points = _points([1, 2])
    with pytest.raises(errors.OptionError, match=f"bins={bins}(.|\n)*from 2 on"):
        spread_error_slope(points, points, points, bins)


def test_ratio_is_root_over_root():
    mean, spread, truth = _honest(n=100)
    wanted = np.sqrt((spread**2).mean()) / rmse(mean, truth, "time")
    assert spread_ratio(mean, spread, truth, "time").item() == pytest.approx(
        wanted.item()
    )


@pytest.mark.parametrize(
    "score", [crps_normal, spread_ratio, spread_error_curve, spread_error_slope]
)
def test_lazy_and_by_variable(score):
    rng = np.random.default_rng(0)
    coords = {"lat": np.arange(50.0, 30, -1), "lon": np.arange(30.0)}
    shape = (6, 20, 30)
    dims = ("time", "lat", "lon")
    mean, truth = (
        xr.Dataset(
            {k: (dims, rng.normal(size=shape).astype("float32")) for k in "ab"}, coords
        )
        for _ in range(2)
    )
    spread = abs(mean) + 0.1
    eager = score(mean, spread, truth)
    assert list(eager) == ["a", "b"]
    assert eager.a.dtype == float
    chunked = [ds.chunk(time=2, lat=7) for ds in (mean, spread, truth)]
    with raise_if_computes():
        lazy = score(*chunked)
    xr.testing.assert_allclose(lazy, eager)
    xr.testing.assert_identical(score(mean.a, spread.a, truth.a), eager.a)
