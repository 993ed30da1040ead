"""Semivariogram and total variation against closed forms and the original's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.metrics import semivariogram, total_variation
from xatmo.metrics.common import canonical, nearest


def _labelled(x, lat, lon):
    return xr.DataArray(x, coords={"lat": lat, "lon": lon}, dims=("lat", "lon"))


def _polynomial(spacing):
    """The height above the equator's plane, sin(latitude)."""
    lat = np.arange(90 - spacing / 2, -90, -spacing)
    lon = np.arange(0, 360, spacing)
    x = np.sin(np.deg2rad(lat))[:, None] + np.zeros(lon.size)
    return _labelled(x, lat, lon)


def test_semivariogram_in_closed_form():
    """A harmonic of degree one has the correlation cos(angle), and variance 1/3."""
    x = _polynomial(0.25)
    lags = [200.0, 1000, 5000, 10000]
    wanted = 1 - np.cos(np.array(lags) / 6371.229)
    got = semivariogram(x, lags, samples=100_000, normalise_by=x)
    np.testing.assert_allclose(got, wanted, rtol=0.02)
    plain = semivariogram(x, lags, samples=100_000)
    np.testing.assert_allclose(plain, wanted / 3, rtol=0.02)


def test_semivariogram_of_noise_is_its_variance():
    rng = np.random.default_rng(0)
    lat, lon = np.arange(60.0, 30, -0.25), np.arange(100.0, 140, 0.25)
    x = _labelled(rng.normal(size=(lat.size, lon.size)), lat, lon)
    got = semivariogram(x, [100, 500], samples=20_000)
    np.testing.assert_allclose(got, 1, atol=0.04)


def test_semivariogram_beside_the_originals(published):
    """At large lags they agree; at small ones the original has pairs a row apart.

    It looks longitudes up as ``round(lon * (W - 1) / 360)``, and partners west of
    Greenwich as negative ones: half of its pairs are off by a grid point.
    """
    field = published["spectrum|div_vort"]
    lat, lon = 90 - np.arange(64) * 180 / 64, np.arange(128) * 360 / 128
    for i in (0, 1):
        x = _labelled(field[..., i], lat, lon)
        got = semivariogram(x, published["semivariogram|lags_km"], samples=30_000)
        ours = got / field[..., i].var()  # unweighted, as there
        theirs = published["semivariogram|normalised"][i]
        np.testing.assert_allclose(ours[-2:], theirs[-2:], rtol=0.12)
        assert ours[0] < 0.3 * theirs[0]
        # Pairs in different cells, and with them the curve, grow with the lag.
        assert ours[1] / ours[0] == pytest.approx(2, rel=0.15)


def test_lags_do_not_depend_on_their_company():
    x = _polynomial(5.0)
    both, one = semivariogram(x, [500, 900]), semivariogram(x, [900])
    assert both[1].item() == one[0].item()
    assert semivariogram(x, [900], seed=1)[0].item() != one[0].item()


def test_a_lag_that_does_not_fit(winds):
    curve = semivariogram(winds, [100, 9000])
    assert curve.u10.isnull().all("time").values.tolist() == [False, True]


def test_lags_that_are_no_distances(winds):
    with pytest.raises(errors.OptionError, match=r"(?s)lags_km=\[0.0\].*20015"):
        semivariogram(winds, [0])


def test_semivariogram_leaves_out_gaps(globe_field):
    gaps = globe_field.where(globe_field.longitude > 180)
    assert semivariogram(gaps, [500]).notnull().all()


def test_nearest_points_are_nearest():
    rng = np.random.default_rng(0)
    lat, lon = np.arange(-40.0, 41, 2), np.arange(-20.0, 21, 2)
    field, grid = canonical(_labelled(np.zeros((lat.size, lon.size)), lat, lon))
    y, x = rng.uniform(-41, 41, 99), rng.uniform(-21, 21, 99)
    rows, columns = nearest(grid, y, x % 360)
    assert (np.abs(field.latitude.values[rows] - y) <= 1).all()
    away = np.mod(field.longitude.values[columns] - x + 180, 360) - 180
    assert (np.abs(away) <= 1).all()


def test_total_variation_is_the_originals(published):
    x = xr.DataArray(
        published["tv|x"],
        coords={"lat": np.linspace(31, 0, 32), "lon": np.arange(48.0)},
        dims=("time", "lat", "lon", "field"),
    )
    got = total_variation(x, weighted=False)
    np.testing.assert_allclose(got, published["tv|value"], rtol=1e-12)


def test_total_variation_by_area():
    lat = np.arange(-88.0, 89, 4)
    lon = np.arange(0.0, 360, 4)
    x = _labelled(np.broadcast_to(lat[:, None], (lat.size, lon.size)), lat, lon)
    # Each point but the last row differs by 4 from the next.
    assert total_variation(x, weighted=False).item() == 4 * 44 * 90
    area = total_variation(x).item() / x.size
    assert area == pytest.approx(4 * (1 - np.diff(np.sin(np.deg2rad([86, 90])))[0] / 2))


def test_total_variation_crosses_greenwich_on_the_globe():
    lat, lon = np.array([2.0, 0, -2]), np.arange(0.0, 360, 90)
    x = _labelled(np.tile([0.0, 0, 0, 8], (3, 1)), lat, lon)
    assert total_variation(x, weighted=False).item() == 3 * 16
    region = x.assign_coords(lon=lon / 2)
    assert total_variation(region, weighted=False).item() == 3 * 8


def test_total_variation_of_gaps():
    lat = lon = np.array([0.0, 1.0, 2.0])
    x = _labelled(np.arange(9.0).reshape(3, 3), lat, lon)
    whole = total_variation(x, weighted=False)
    assert 0 < total_variation(x.where(x != 4), weighted=False) < whole
    assert total_variation(x * np.nan).isnull()
