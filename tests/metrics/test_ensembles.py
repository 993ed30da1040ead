"""Scores of ensembles against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.metrics import (
    crps,
    flatness,
    mae,
    rank_histogram,
    spread,
    spread_error_ratio,
)

RNG = np.random.default_rng(0)
DIMS = ("time", "realization")


def _ensemble(n, members, scale=1.0, shift=0.0):
    x = xr.DataArray(RNG.normal(shift, scale, size=(n, members)), dims=DIMS)
    return x, xr.DataArray(RNG.normal(size=n), dims="time")


@pytest.mark.parametrize("fair", [True, False])
def test_crps_is_the_mean_over_all_pairs(fair):
    x, y = _ensemble(6, 5)
    a = x.values
    pairs = np.abs(a[:, :, None] - a[:, None, :]).sum((1, 2)) / (5 * (4 if fair else 5))
    wanted = np.abs(a - y.values[:, None]).mean(1) - 0.5 * pairs
    np.testing.assert_allclose(crps(x, y, dim=[], fair=fair), wanted)


def test_crps_of_a_normal_distribution():
    """Closed form for N(0, 1) at y: y (2Φ(y) - 1) + 2φ(y) - 1/√π."""
    from scipy.stats import norm

    y = xr.DataArray([0.0, 0.7, -2.0], dims="time")
    members = norm.ppf((np.arange(20000) + 0.5) / 20000)
    x = xr.DataArray(np.tile(members, (3, 1)), dims=DIMS)
    wanted = y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / np.sqrt(np.pi)
    np.testing.assert_allclose(crps(x, y, dim=[]), wanted, atol=2e-4)


def test_fair_crps_does_not_depend_on_the_number_of_members():
    scores = [crps(*_ensemble(40000, n), dim="time").item() for n in (2, 8)]
    assert scores == pytest.approx([1 / np.sqrt(np.pi)] * 2, abs=0.01)
    small = crps(*_ensemble(40000, 2), dim="time", fair=False).item()
    assert small > scores[0] + 0.2


def test_crps_of_one_member_is_the_absolute_error():
    x, y = _ensemble(9, 1)
    one = crps(x, y, dim="time", fair=False).item()
    assert one == pytest.approx(mae(x, y, ["time", "realization"]).item())
    with pytest.raises(errors.OptionError, match=r"(?s)two members.*metrics.mae"):
        crps(x, y)


def test_crps_leaves_out_what_is_missing():
    x, y = _ensemble(3, 4)
    x[0, 1] = x[1, :3] = np.nan
    y[2] = np.nan
    got = crps(x, y, dim=[])
    whole = crps(x[:1].isel(realization=[0, 2, 3]), y[:1], dim=[])
    assert got[0].item() == pytest.approx(whole.item())
    assert np.isnan(got[1:]).all()
    assert crps(x, y, dim="time").item() == pytest.approx(whole.item())


def test_ranks_by_hand():
    x = xr.DataArray([[1.0, 2.0, 4.0]] * 4, dims=DIMS)
    y = xr.DataArray([0.0, 3.0, 3.5, 9.0], dims="time")
    got = rank_histogram(x, y, dim="time")
    assert got.values.tolist() == [0.25, 0, 0.5, 0.25]
    assert got["rank"].values.tolist() == [0, 1, 2, 3]


def test_ties_are_shared():
    x = xr.DataArray([[0.0, 0.0, 1.0]], dims=DIMS)
    y = xr.DataArray([0.0], dims="time")
    got = rank_histogram(x, y, dim="time").values
    np.testing.assert_allclose(got, [1 / 3, 1 / 3, 1 / 3, 0])


def test_ranks_leave_out_what_is_missing():
    x, y = _ensemble(5, 3)
    y[3], x[4, 0] = np.nan, np.nan
    got = rank_histogram(x, y, dim="time")
    assert got.sum().item() == pytest.approx(1)
    xr.testing.assert_allclose(got, rank_histogram(x[:3], y[:3], dim="time"))


def test_an_honest_ensemble_is_flat_and_others_are_not():
    def flat(**kwargs):
        return flatness(rank_histogram(*_ensemble(5000, 7, **kwargs), dim="time"))

    assert flat() < 0.03
    assert flat(scale=0.3) > 0.2
    assert flat(shift=1.0) > 0.3
    one_end = xr.DataArray([1.0] + [0.0] * 99, dims="rank")
    assert flatness(one_end).item() == pytest.approx(0.99)


def test_spread_and_error():
    x, y = _ensemble(40000, 4)
    assert spread(x, dim="time").item() == pytest.approx(1, abs=0.01)
    assert spread_error_ratio(x, y, dim="time").item() == pytest.approx(1, abs=0.01)
    narrow = spread_error_ratio(*_ensemble(4000, 4, scale=0.5), dim="time")
    assert narrow.item() < 0.6


@pytest.mark.parametrize("score", [crps, rank_histogram, spread_error_ratio])
def test_no_members(score):
    x = xr.DataArray(np.zeros((2, 3)), dims=("time", "number"))
    with pytest.raises(
        errors.FieldNotFoundError,
        match=r"(?s)no dimension .real.*member_dim=.number",
    ):
        score(x, x.isel(number=0))
