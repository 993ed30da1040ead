"""Scores against what can be worked out by hand."""

from __future__ import annotations

import cftime
import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.metrics import by_lag, lag_hours, pairwise_rmse
from xatmo.metrics.ordering import block_bootstrap


def test_pairwise_rmse_is_that_of_each_pair():
    rng = np.random.default_rng(0)
    field = xr.DataArray(rng.normal(size=(4, 5, 6)), dims=("t", "y", "x"))
    weights = xr.DataArray([1.0, 2, 3, 2, 1], dims="y")
    got = pairwise_rmse(field, weights, "t")
    for i in range(4):
        for j in range(4):
            square = ((field[i] - field[j]) ** 2).weighted(weights).mean(["y", "x"])
            assert float(got[i, j]) == pytest.approx(float(square) ** 0.5, abs=1e-7)


def test_means_by_lag():
    hours = np.array([[0.0, 6, 12], [-6, 0, 6], [-12, -6, 0]])
    matrix = np.array([[0.0, 1, 5], [1, 0, 3], [5, 3, 0]])
    curve = by_lag(matrix, hours, longest=24)
    assert curve.lag.values.tolist() == [6, 12]
    assert curve["mean"].values.tolist() == [2, 5]
    assert curve["std"].values.tolist() == [1, 0]
    assert curve["count"].values.tolist() == [2, 1]


def test_lags_of_other_calendars():
    times = [cftime.DatetimeNoLeap(2000, 2, 28), cftime.DatetimeNoLeap(2000, 3, 1)]
    lags = lag_hours(xr.DataArray(times, dims="time"))
    assert lags.tolist() == [[0, 24], [-24, 0]]


def test_lags_of_no_dates():
    with pytest.raises(
        errors.TimeAxisError, match=r"(?s)'month' are not dates.*decode_cf"
    ):
        lag_hours(xr.DataArray([1, 7], dims="month", name="month"))


def test_bootstrap_of_blocks_is_wider_than_of_values():
    rng = np.random.default_rng(0)
    block = np.repeat(np.arange(20), 50)
    values = rng.normal(size=20)[block]
    low, high = block_bootstrap(values, block)
    narrow = block_bootstrap(values, np.arange(1000))
    assert high - low > 4 * (narrow[1] - narrow[0])
    assert low < values.mean() < high


def test_bootstrap_of_nothing():
    assert np.isnan(block_bootstrap(np.array([]), np.array([]))).all()
