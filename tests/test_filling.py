"""Plain methods that fill gaps: exact where they can be, honest where they cannot."""

from __future__ import annotations

import builtins
import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.methods import fill_gaps
from xatmo.methods.gaps import FILLERS, fill
from xatmo.methods.kriging import fit_variogram, krige_map
from xatmo.methods.local import Correlation, spread_out
from xatmo.methods.series import Gappy, hide
from xatmo.testing import raise_if_computes, synthetic_winds
from xatmo.testing.gaps import gap_mask

LAT = 60.0 - 0.5 * np.arange(16)
LON = 5.0 + 0.5 * np.arange(20)
HOURS = 6.0 * np.arange(24)
EXTRAS = {"biharmonic": "skimage", "kriging": "gstools"}


def _smooth(times=24, rows=16, columns=20, seed=0):
    """Waves that travel, and a little noise: (T, H, W)."""
    t, y, x = np.ogrid[:times, :rows, :columns]
    rng = np.random.default_rng(seed)
    waves = np.sin(0.3 * x + 0.2 * t) + np.cos(0.25 * y - 0.1 * t) + 0.5 * np.sin(t / 4)
    return 280.0 + 5 * waves + 0.1 * rng.normal(size=(times, rows, columns))


def _available(method):
    if method in EXTRAS:
        pytest.importorskip(EXTRAS[method], reason=f"no {EXTRAS[method]} here")
    return method


@pytest.fixture(params=FILLERS)
def method(request):
    return _available(request.param)


def _rmse(found, truth, gaps):
    return np.sqrt(np.mean((found - truth)[gaps] ** 2))


# --- What holds for all of them -----------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_observed_cells_stay_to_the_last_bit(method, dtype):
    truth = _smooth().astype(dtype)
    gaps = gap_mask("clouds", truth.shape, scale=2, duration=2)
    filled = fill(method, np.where(gaps, np.nan, truth), LAT, LON, HOURS)
    assert filled.values.dtype == dtype
    np.testing.assert_array_equal(filled.values[~gaps], truth[~gaps])
    if filled.spread is not None:
        assert filled.spread.dtype == dtype
        assert not filled.spread[~gaps].any()


def test_gaps_are_filled_better_than_by_the_mean(method):
    truth = _smooth()
    gaps = gap_mask("blocks", truth.shape, size=3, duration=2)
    filled = fill(method, np.where(gaps, np.nan, truth), LAT, LON, HOURS)
    assert np.isfinite(filled.values).all()
    assert _rmse(filled.values, truth, gaps) < truth.std()


def test_the_same_again(method):
    truth = _smooth()
    gaps = gap_mask("random_50", truth.shape)
    first, second = (
        fill(method, np.where(gaps, np.nan, truth), LAT, LON, HOURS) for _ in range(2)
    )
    np.testing.assert_array_equal(first.values, second.values)


def test_units_do_not_matter(method):
    truth = _smooth()
    gaps = gap_mask("blocks", truth.shape, size=3)
    some, tiny = (
        fill(method, np.where(gaps, np.nan, scale * truth), LAT, LON, HOURS)
        for scale in (1.0, 1e-9)
    )
    # Iterations stop where they will; rounding moves that a little.
    tolerance = {"kriging": 0.1, "dineof": 0.01}.get(method, 1e-6)
    np.testing.assert_allclose(1e9 * tiny.values, some.values, rtol=0, atol=tolerance)


def test_nothing_to_do_and_nothing_to_go_by(method):
    truth = _smooth()
    np.testing.assert_array_equal(fill(method, truth, LAT, LON).values, truth)
    assert np.isnan(fill(method, truth * np.nan, LAT, LON).values).all()


def test_a_constant_field(method):
    truth = np.full((12, 16, 20), 7.0)
    gaps = gap_mask("random_50", truth.shape)
    filled = fill(method, np.where(gaps, np.nan, truth), LAT, LON)
    np.testing.assert_allclose(filled.values, 7.0, rtol=1e-6)


@pytest.mark.parametrize("name", [m for m in FILLERS if m != "dineof"])
def test_a_single_time(name):
    truth = _smooth(1)
    gaps = gap_mask("blocks", truth.shape, size=2)
    filled = fill(_available(name), np.where(gaps, np.nan, truth), LAT, LON).values
    # The climatology of a cell that was never observed is not known.
    assert np.isnan(filled[gaps]).all() == (name == "climatology")


@pytest.mark.parametrize("name", ["climatology", "nearest", "interpolate", "dineof"])
def test_missing_times_are_filled_from_others(name):
    truth = _smooth()
    gaps = gap_mask("missing_times", truth.shape, share=0.2)
    filled = fill(name, np.where(gaps, np.nan, truth), LAT, LON, HOURS)
    assert np.isfinite(filled.values).all()


@pytest.mark.parametrize("name", ["biharmonic", "kriging"])
def test_methods_without_time_leave_a_missing_one(name):
    truth = _smooth(3)
    gaps = np.zeros(truth.shape, bool)
    gaps[1] = gaps[2, 4:6, 4:6] = True
    filled = fill(_available(name), np.where(gaps, np.nan, truth), LAT, LON).values
    assert np.isnan(filled[1]).all()
    assert np.isfinite(filled[2]).all()


# --- What each can do exactly -------------------------------------------------------


@pytest.mark.parametrize("name", ["interpolate", "biharmonic"])
def test_a_plane_is_met_inside(name):
    y, x = np.mgrid[:16, :20].astype(float)
    truth = (2 * y - 3 * x)[None]
    gaps = np.zeros(truth.shape, bool)
    gaps[0, 4:9, 5:9] = True
    filled = fill(_available(name), np.where(gaps, np.nan, truth), LAT, LON).values
    np.testing.assert_allclose(filled, truth, atol=1e-6)


def test_interpolation_is_that_of_xarray():
    truth = _smooth()
    gaps = gap_mask("random_50", truth.shape)
    da = xr.DataArray(
        np.where(gaps, np.nan, truth),
        dims=("time", "lat", "lon"),
        coords={"time": HOURS, "lat": LAT, "lon": LON},
    )
    want = da.interpolate_na("time").values
    found = fill("interpolate", da.values, LAT, LON, HOURS).values
    inside = np.isfinite(want)
    np.testing.assert_allclose(found[inside], want[inside], rtol=1e-12)


def test_nearest_is_nearest_on_the_sphere():
    lat, lon = np.linspace(85, -85, 18), 10.0 * np.arange(36)
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(1, 18, 36))
    gaps = rng.random(truth.shape) < 0.9
    found = fill("nearest", np.where(gaps, np.nan, truth), lat, lon, periodic=True)
    y, x = np.deg2rad(np.meshgrid(lat, lon, indexing="ij"))
    places = np.stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)], -1)
    known = places[~gaps[0]]
    closeness = places.reshape(-1, 3) @ known.T
    source = np.isclose(truth[~gaps][None], found.values.reshape(-1, 1))
    np.testing.assert_allclose(
        np.where(source, closeness, -1).max(1), closeness.max(1), atol=1e-12
    )


@pytest.mark.parametrize("name", ["nearest", "interpolate", "biharmonic", "kriging"])
def test_the_seam_of_a_globe_is_no_edge(name):
    lat, lon = np.linspace(88, -88, 45), 4.0 * np.arange(90)
    y, x = np.deg2rad(np.meshgrid(lat, lon, indexing="ij"))
    truth = (np.cos(y) * np.cos(x))[None]
    gaps = np.zeros(truth.shape, bool)
    gaps[0, 10:30, :4] = gaps[0, 10:30, -4:] = True
    holed = np.where(gaps, np.nan, truth)
    at_seam = fill(_available(name), holed, lat, lon, periodic=True).values
    turned = fill(name, np.roll(holed, 45, 2), lat, lon, periodic=True).values
    # Kriging looks at a sample of cells, which is another one; ties go either way.
    tolerance = {"kriging": 0.02, "nearest": 0.1}.get(name, 1e-3)
    np.testing.assert_allclose(np.roll(turned, -45, 2), at_seam, atol=tolerance)


def test_climatology_knows_the_hour():
    hours = np.arange(240.0)
    rng = np.random.default_rng(0)
    cycle = 5 * np.sin(2 * np.pi * hours / 24)[:, None, None]
    truth = np.broadcast_to(cycle, (240, 4, 5)) + 0.2 * rng.normal(size=(240, 4, 5))
    gaps = gap_mask("random_50", truth.shape)
    holed = np.where(gaps, np.nan, truth)
    filled = fill("climatology", holed, LAT[:4], LON[:5], hours)
    assert _rmse(filled.values, truth, gaps) < 0.25
    np.testing.assert_allclose(filled.spread[gaps].mean(), 0.2, rtol=0.15)
    timeless = fill("climatology", holed, LAT[:4], LON[:5])
    assert _rmse(timeless.values, truth, gaps) > 3


# --- DINEOF -------------------------------------------------------------------------


def test_a_field_of_rank_two_is_recovered():
    rng = np.random.default_rng(0)
    t = np.arange(60)
    amplitudes = np.stack([np.sin(t / 5), np.cos(t / 8)], 1)
    truth = (amplitudes @ rng.normal(size=(2, 320))).reshape(60, 16, 20)
    gaps = gap_mask("random_50", truth.shape)
    filled = fill("dineof", np.where(gaps, np.nan, truth), LAT, LON)
    assert _rmse(filled.values, truth, gaps) < 1e-3 * truth.std()


def test_dineof_needs_times():
    truth = _smooth(7)
    truth[:, 3, 3] = np.nan
    with pytest.raises(
        errors.TimeAxisError, match=r"7 times with observations(.|\n)*8"
    ):
        fill("dineof", truth, LAT, LON)


def test_dineof_says_nothing_of_cells_never_observed():
    truth = _smooth()
    gaps = gap_mask("random_50", truth.shape)
    gaps[:, 5, 5] = True
    filled = fill("dineof", np.where(gaps, np.nan, truth), LAT, LON, HOURS)
    assert np.isnan(filled.values[:, 5, 5]).all()
    assert np.isfinite(np.delete(filled.values.reshape(24, -1), 105, 1)).all()


def test_its_spread_grows_where_nothing_is_seen():
    truth = _smooth(48)
    gaps = gap_mask("random_50", truth.shape)
    gaps[20:24] = True
    filled = fill("dineof", np.where(gaps, np.nan, truth), LAT, LON)
    assert (filled.spread[gaps] > 0).all()
    lost, seen = filled.spread[21:23], filled.spread[30:40]
    assert lost.mean() > 1.5 * seen[seen > 0].mean()


def test_an_uneven_series_and_dates_of_any_kind():
    truth = _smooth(48)
    keep = np.sort(np.random.default_rng(0).permutation(48)[:30])
    gaps = gap_mask("blocks", truth.shape, size=3)
    holed = np.where(gaps, np.nan, truth)[keep]
    filled = fill("dineof", holed, LAT, LON, 6.0 * keep)
    assert _rmse(filled.values, truth[keep], gaps[keep]) < 0.5 * truth.std()


@pytest.mark.slow
@pytest.mark.skipif("XATMO_DATA" not in os.environ, reason="no XATMO_DATA")
def test_dineof_on_temperatures_under_clouds():
    path = Path(os.environ["XATMO_DATA"], "data/edge/era5_2t_uk_201903.grib")
    ds = xr.open_dataset(path, engine="cfgrib", backend_kwargs={"indexpath": ""})
    truth = ds["t2m"].values
    gaps = gap_mask("clouds", truth.shape)
    filled = fill(
        "dineof",
        np.where(gaps, np.nan, truth),
        ds["latitude"].values,
        ds["longitude"].values,
        np.arange(len(truth), dtype=float),
    )
    assert _rmse(filled.values, truth, gaps) < 0.75
    errors_of = (filled.values - truth)[gaps]
    said = np.sqrt(np.mean(filled.spread[gaps] ** 2))
    assert 0.75 < np.sqrt(np.mean(errors_of**2)) / said < 1.33


# --- Kriging, residuals, hidden cells -----------------------------------------------


def test_kriging_is_that_of_the_library():
    gstools = pytest.importorskip("gstools", reason="no gstools here")
    truth = _smooth(1)[0]
    gaps = gap_mask("random_90", (1, 16, 20))[0]
    holed = np.where(gaps, np.nan, truth)
    model = gstools.Exponential(
        latlon=True, geo_scale=6371.0, var=25.0, len_scale=300.0, nugget=0.5
    )
    found, spread = krige_map(holed, LAT, LON, model)
    y, x = np.meshgrid(LAT, LON, indexing="ij")
    seen = ~gaps
    assert seen.sum() <= 32  # as many as neighbours: nothing is left out
    theirs = gstools.krige.Ordinary(model, (y[seen], x[seen]), truth[seen])
    want, variance = theirs((y[gaps], x[gaps]))
    np.testing.assert_allclose(found[gaps], want, rtol=1e-6)
    np.testing.assert_allclose(spread[gaps], np.sqrt(variance), rtol=1e-4)


def test_the_spread_of_kriging_grows_with_distance():
    pytest.importorskip("gstools", reason="no gstools here")
    truth = _smooth(1)
    gaps = np.zeros(truth.shape, bool)
    gaps[0, 2:14, 4:16] = True
    spread = fill("kriging", np.where(gaps, np.nan, truth), LAT, LON).spread[0]
    assert 0 < spread[2, 9] < spread[4, 9] < spread[8, 9]


def test_the_variogram_is_found_again():
    gstools = pytest.importorskip("gstools", reason="no gstools here")
    lat, lon = np.linspace(60, 20, 41), np.linspace(0, 60, 61)
    model = gstools.Exponential(
        latlon=True, geo_scale=6371.0, var=4.0, len_scale=400.0, nugget=0.0
    )
    y, x = np.meshgrid(lat, lon, indexing="ij")
    field = gstools.SRF(model, seed=1)
    maps = np.stack([field((y, x), seed=s, mesh_type="unstructured") for s in range(8)])
    found = fit_variogram(Gappy(maps.reshape(8, 41, 61), lat, lon, None, False))
    assert 200 < found.len_scale < 800
    assert found.nugget < 0.5


def test_residuals_are_spread_as_by_a_full_matrix():
    rng = np.random.default_rng(0)
    correlation = Correlation(time=0.5, latitude=0.6, longitude=0.7, noise=0.2)
    residual = rng.normal(size=(4, 3, 5))
    residual[rng.random(residual.shape) < 0.4] = np.nan
    steps = np.array([1.0, 2.0, 1.0])
    at = np.append(0.0, steps.cumsum())

    def kernel(base, places, around=None):
        away = np.abs(np.subtract.outer(places, places))
        if around is None:
            return base**away
        turns = np.arange(-30, 31)[:, None, None] * around
        signed = np.subtract.outer(places, places) + turns
        return (base ** np.abs(signed)).sum(0)

    for periodic in (False, True):
        full = np.kron(
            np.kron(kernel(0.5, at), kernel(0.6, np.arange(3.0))),
            kernel(0.7, np.arange(5.0), 5 if periodic else None),
        )
        known = np.isfinite(residual).ravel()
        inner = full[np.ix_(known, known)] + 0.2 * np.eye(known.sum())
        want = full[:, known] @ np.linalg.solve(inner, residual.ravel()[known])
        found = spread_out(residual, correlation, steps, periodic=periodic)
        np.testing.assert_allclose(found.ravel(), want, atol=0.02)


def test_hidden_cells_are_observed_ones():
    gaps = gap_mask("clouds", (48, 30, 40), scale=3, duration=3)
    hidden, tested = hide(gaps)
    assert not (hidden & gaps).any()
    assert not (tested & ~hidden).any()
    assert tested.any()
    assert 0.03 < hidden.sum() / (~gaps).sum() < 0.3
    np.testing.assert_array_equal(hidden, hide(gaps)[0])
    assert not hide(np.zeros((4, 5, 6), bool))[0].any()


def test_lost_times_do_not_hide_everything():
    gaps = gap_mask("missing_times", (30, 8, 9), share=0.7)
    hidden, _ = hide(gaps)
    seen = ~gaps.all(axis=(1, 2))
    assert (~gaps & ~hidden).any(axis=(1, 2)).sum() >= seen.sum() / 2


# --- Labelled -----------------------------------------------------------------------


def _labelled():
    return synthetic_winds(10, LAT[::-1], LON)["u10"]


def test_labels_and_attributes_are_the_users():
    u = _labelled()
    lat = next(d for d in u.dims if d.startswith("lat"))
    gaps = xr.DataArray(gap_mask("random_50", u.shape), dims=u.dims)
    holed = u.where(~gaps).transpose(..., "time")
    filled = fill_gaps(holed, "interpolate")
    assert filled.dims == holed.dims
    assert filled.attrs == u.attrs
    xr.testing.assert_equal(filled.where(~gaps), holed)
    np.testing.assert_array_equal(filled[lat], u[lat])
    spread = fill_gaps(holed, "climatology", spread=True)
    assert (spread.where(gaps).isnull() | (spread > 0)).all()


def test_lazy_stays_lazy_and_is_the_same():
    u = _labelled()
    gaps = xr.DataArray(gap_mask("blocks", u.shape, size=2), dims=u.dims)
    holed = u.where(~gaps).expand_dims(member=2)
    with raise_if_computes():
        lazy = fill_gaps(holed.chunk(time=3, member=1), "dineof")
    xr.testing.assert_allclose(lazy.compute(), fill_gaps(holed, "dineof"))


def test_without_time():
    u = _labelled().isel(time=0)
    gaps = xr.DataArray(gap_mask("blocks", (1, *u.shape), size=2)[0], dims=u.dims)
    assert not fill_gaps(u.where(~gaps), "nearest").isnull().any()


# --- Errors -------------------------------------------------------------------------


def test_an_unknown_method():
    with pytest.raises(errors.OptionError, match=r"'spline'(.|\n)*'kriging'"):
        fill("spline", _smooth(), LAT, LON)


def test_infinite_values():
    truth = _smooth()
    truth[0, 0, 0] = np.inf
    with pytest.raises(errors.MissingValuesError, match="1 infinite values"):
        fill("nearest", truth, LAT, LON)


def test_coordinates_of_another_size():
    with pytest.raises(errors.AlignmentError, match=r"\(24, 16, 20\)(.|\n)*19"):
        fill("nearest", _smooth(), LAT, LON[:-1])


def test_times_that_go_back():
    with pytest.raises(errors.TimeAxisError, match="sortby"):
        fill("nearest", _smooth(), LAT, LON, HOURS[::-1])


@pytest.mark.parametrize("name", EXTRAS)
def test_a_missing_package_is_named(name, monkeypatch):
    usual = builtins.__import__

    def without(package, *args, **kwargs):
        if package.split(".")[0] == EXTRAS[name]:
            raise ImportError(package)
        return usual(package, *args, **kwargs)

    truth = _smooth(1)
    truth[0, 3, 3] = np.nan
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(errors.MissingDependencyError, match=r"xatmo\[infill\]"):
        fill(name, truth, LAT, LON)
