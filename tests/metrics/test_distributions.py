"""Percentiles and the Wasserstein distance against numpy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.metrics import percentiles, wasserstein

stats = pytest.importorskip("scipy.stats")
RNG = np.random.default_rng(0)


def test_equal_weights_are_numpys_quantiles():
    x = xr.DataArray(RNG.normal(size=(3, 40)), dims=("time", "place"))
    got = percentiles(x, [0, 13, 50, 100], "place")
    assert got.dims == ("percentile", "time")
    np.testing.assert_allclose(got, np.quantile(x, [0, 0.13, 0.5, 1], axis=1))


def test_percentiles_by_area():
    lat = np.arange(-89.75, 90, 0.5)
    x = xr.DataArray(lat, coords={"lat": lat}, dims="lat")
    # Half of the sphere lies between 30° south and 30° north.
    got = percentiles(x, [25, 50, 75])
    np.testing.assert_allclose(got, [-30, 0, 30], atol=0.01)


def test_percentiles_without_gaps():
    x = xr.DataArray([1.0, np.nan, 3.0], dims="time")
    assert percentiles(x, 50, "time").item() == 2
    assert np.isnan(percentiles(x * np.nan, 50, "time")).all()


def test_percentiles_are_percent():
    with pytest.raises(errors.OptionError, match="outside 0 to 100"):
        percentiles(xr.DataArray([1.0], dims="time"), 101)


@pytest.mark.parametrize("sizes", [(30, 30), (30, 47), (1, 5)])
def test_wasserstein_is_scipys(sizes):
    x, y = (RNG.normal(size=(2, n)) for n in sizes)
    y[0, 0] = np.nan
    dims = ("place", "time")
    got = wasserstein(xr.DataArray(x, dims=dims), xr.DataArray(y + 0.3, dims=dims))
    assert got.dims == ("place",)
    for i in range(2):
        there = y[i][np.isfinite(y[i])] + 0.3
        assert got[i].item() == pytest.approx(stats.wasserstein_distance(x[i], there))


def test_wasserstein_by_area_and_over_members():
    lat = np.array([0.0, 30.0, 60.0])
    coords = {"lat": lat}
    truth = xr.DataArray(RNG.normal(size=3), coords=coords, dims="lat")
    members = xr.DataArray(
        RNG.normal(size=(2, 3)), coords=coords, dims=("realization", "lat")
    )
    from xatmo.fields import area_weights

    w = area_weights(lat)
    wanted = stats.wasserstein_distance(
        members.values.ravel(), truth.values, np.tile(w, 2), w
    )
    assert wasserstein(members, truth, dim=None).item() == pytest.approx(wanted)
    by_member = wasserstein(members, truth, dim="lat")
    assert by_member.sizes == {"realization": 2}


def test_wasserstein_of_nothing():
    x = xr.DataArray([np.nan, np.nan], dims="time")
    assert np.isnan(wasserstein(x, x + 1).item())


def test_wasserstein_without_such_a_dimension():
    x = xr.DataArray([1.0], dims="place")
    with pytest.raises(errors.OptionError, match="no dimension 'time'"):
        wasserstein(x, x)
