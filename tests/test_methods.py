"""Plain methods: the numbers of their definitions, on any grid."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.methods import Ridge, another_day, interpolate
from xatmo.methods.downscaling import partners
from xatmo.testing import raise_if_computes, synthetic_winds

METHODS = ("nearest", "bilinear", "bicubic")


def _region(times=4, rows=32, columns=48, start=50.0):
    """Winds on a fine regional grid, latitudes descending."""
    lat = start - 0.25 * np.arange(rows)
    lon = 120.0 + 0.25 * np.arange(columns)
    return _rough(times, lat, lon)


def _rough(times, lat, lon):
    """Synthetic winds with something at every scale."""
    ds = synthetic_winds(times, lat, lon)
    rng = np.random.default_rng(0)
    return ds + xr.Dataset(
        {
            name: (da.dims, rng.normal(size=da.shape).astype(da.dtype).cumsum(-1) * 0.1)
            for name, da in ds.items()
        }
    )


def _axes(ds):
    lat, lon = (next(n for n in ds.dims if n.startswith(k)) for k in ("lat", "lon"))
    return lat, lon


def _means(ds, factor=4):
    lat, lon = _axes(ds)
    return ds.coarsen({lat: factor, lon: factor}).mean()


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_stays_one(method):
    coarse = _means(_region()) * 0 + 3.0
    fine = interpolate(coarse, method)
    for name in coarse:
        np.testing.assert_allclose(fine[name], 3.0, rtol=1e-6)


def test_bilinear_meets_a_plane_inside():
    fine = _region()
    lat, lon = _axes(fine)
    plane = 2.0 * fine[lat] - 3.0 * fine[lon]
    found = interpolate(_means(plane), "bilinear")
    inside = {lat: slice(8, -8), lon: slice(8, -8)}
    xr.testing.assert_allclose(
        found.isel(inside), plane.transpose(*found.dims).isel(inside), rtol=1e-5
    )


def test_coordinates_are_those_of_the_truth():
    fine = _region()
    found = interpolate(_means(fine))
    for axis in _axes(fine):
        np.testing.assert_allclose(found[axis], fine[axis], atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_conserving_keeps_block_means(method):
    coarse = _means(_region())
    found = _means(interpolate(coarse, method, conserve=True))
    for name in coarse:
        np.testing.assert_allclose(found[name], coarse[name], rtol=1e-5, atol=1e-5)


def test_a_region_is_interpolated_as_torch_does():
    import torch
    import torch.nn.functional as F

    coarse = _means(_region())["u10"]
    found = interpolate(coarse, "bicubic").values
    x = torch.from_numpy(coarse.values[:, None])
    expected = F.interpolate(x, scale_factor=4, mode="bicubic")[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_a_global_grid_closes(method):
    """Turned round, it gives the same, turned round."""
    lat, lon = 88.0 - 4.0 * np.arange(45), 4.0 * np.arange(90)
    coarse = _rough(2, lat, lon)
    _, x = _axes(coarse)
    turned = coarse.roll({x: 30}, roll_coords=True).assign_coords(
        {x: np.roll(lon, 30) - 360.0 * (np.roll(lon, 30) >= 240)}
    )
    here, there = interpolate(coarse, method), interpolate(turned, method)
    np.testing.assert_allclose(
        np.roll(here["u10"], 120, axis=-1), there["u10"], rtol=1e-6, atol=1e-6
    )


def test_orientation_does_not_matter():
    coarse = _means(_region())
    lat, lon = _axes(coarse)
    flipped = coarse.isel({lat: slice(None, None, -1)}).transpose(lon, "time", lat)
    found = interpolate(flipped)
    assert found["u10"].dims == (lon, "time", lat)
    back = found.transpose("time", lat, lon).isel({lat: slice(None, None, -1)})
    np.testing.assert_allclose(back["u10"], interpolate(coarse)["u10"], rtol=1e-6)


def test_rows_beyond_a_pole_are_dropped():
    lat, lon = np.linspace(90, -90, 46), 4.0 * np.arange(90)
    coarse = _rough(1, lat, lon)
    found = interpolate(coarse, conserve=True)
    y, _ = _axes(found)
    assert found.sizes[y] == 46 * 4 - 4
    assert abs(found[y]).max() < 90
    # What is left of the first block, half of it, keeps the mean.
    first = found["u10"].values[0, :2].reshape(2, 90, 4).mean(axis=(0, 2))
    np.testing.assert_allclose(first, coarse["u10"].values[0, 0], rtol=1e-4, atol=1e-4)


def test_nothing_is_computed_early():
    coarse = _means(_region()).chunk(time=1)
    with raise_if_computes():
        found = interpolate(coarse, conserve=True)
    xr.testing.assert_allclose(
        found.compute(), interpolate(coarse.compute(), conserve=True)
    )


def test_whole_numbers_and_other_variables():
    coarse = _means(_region())
    ds = coarse.assign(
        steps=("time", np.arange(4)), whole=(coarse.u10 * 10).astype(int)
    )
    found = interpolate(ds)
    assert set(found) == {"u10", "v10", "whole"}
    assert found["whole"].dtype == np.float32


def test_the_byte_order_of_old_files():
    fine = _region()
    coarse, old = _means(fine), [ds.astype(">f4") for ds in (_means(fine), fine)]
    found = interpolate(old[0], factor=np.int64(4))
    assert found.u10.dtype == np.float32
    xr.testing.assert_allclose(found, interpolate(coarse))
    xr.testing.assert_allclose(another_day(*old), another_day(coarse, fine))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"method": "cubic"}, "one of 'nearest', 'bilinear', 'bicubic'"),
        ({"factor": 1}, "whole number above 1"),
        ({"factor": 2.5}, "factor=2.5"),
        ({"factor": True}, "factor=True"),
    ],
)
def test_wrong_arguments_are_named(arguments, said):
    with pytest.raises(errors.OptionError, match=said):
        interpolate(_means(_region()), **arguments)


# --- Ridge --------------------------------------------------------------------------


def test_ridge_finds_a_linear_rule():
    """Fine points that are a linear function of the window are met exactly."""
    fine = _region(times=6)
    coarse = _means(fine)
    rule = interpolate(coarse, "bicubic")
    rule = rule.assign_coords({a: fine[a] for a in _axes(fine)})
    rule = rule.assign(v10=rule.u10 - 2.0 * rule.v10 + 1.0)
    ridge = Ridge.fit(coarse, rule, penalty=1e-12)
    found = ridge.apply(coarse)
    for name in rule:
        np.testing.assert_allclose(found[name], rule[name], atol=2e-3)


def test_ridge_is_the_least_squares_solution():
    fine = _region()
    coarse = _means(fine)
    ridge = Ridge.fit(coarse, fine, window=3, penalty=1e-13)
    x = np.stack([np.pad(coarse[n].values, ((0, 0), (1, 1), (1, 1)), "edge")
                  for n in fine], 1)  # fmt: skip
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
    rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 18).astype(float)
    rows = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    targets = fine["v10"].values[:, 2::4, 1::4].ravel()
    expected = np.linalg.lstsq(rows, targets, rcond=None)[0]
    # Second variable, row 2 and column 1 of the block.
    np.testing.assert_allclose(ridge.coefficients[:, 16 + 9], expected, atol=1e-4)


def test_ridge_of_lazy_data_is_the_same():
    fine = _region()
    coarse = _means(fine)
    eager = Ridge.fit(coarse, fine)
    lazy = Ridge.fit(coarse.chunk(time=1), fine.chunk(time=2, latitude=8))
    np.testing.assert_allclose(lazy.coefficients, eager.coefficients, atol=1e-8)
    with raise_if_computes():
        found = eager.apply(coarse.chunk(time=1))
    xr.testing.assert_allclose(found.compute(), eager.apply(coarse), rtol=1e-5)


def test_ridge_ignores_gaps():
    fine = _region()
    coarse = _means(fine)
    whole = Ridge.fit(coarse.isel(time=slice(3)), fine.isel(time=slice(3)))
    fine["u10"][3] = np.nan
    holed = Ridge.fit(_means(fine), fine)
    np.testing.assert_allclose(holed.coefficients, whole.coefficients, atol=1e-9)


def test_ridge_refuses_what_does_not_fit():
    fine = _region()
    with pytest.raises(errors.AlignmentError, match="8 x 12 coarse points, 31 x 48"):
        Ridge.fit(_means(fine), fine.isel(latitude=slice(31)))
    ridge = Ridge.fit(_means(fine), fine)
    with pytest.raises(errors.FieldNotFoundError, match="no v10"):
        ridge.apply(_means(fine)[["u10"]])


# --- The control --------------------------------------------------------------------


def test_the_control_has_the_block_means_and_not_the_details():
    fine = _region(times=24)
    coarse = _means(fine)
    control = another_day(coarse, fine)
    for name in fine:
        np.testing.assert_allclose(_means(control)[name], coarse[name], atol=1e-4)
    control, plain = (
        float(((x - fine) ** 2)["u10"].mean())
        for x in (
            control,
            interpolate(coarse, conserve=True).assign_coords(fine.coords),
        )
    )
    assert control > 1.5 * plain


def test_the_control_needs_another_time():
    fine = _region(times=1)
    with pytest.raises(errors.TimeAxisError, match="at least two times"):
        another_day(_means(fine), fine)
    with pytest.raises(errors.TimeAxisError, match="no other day"):
        another_day(_means(fine).isel(time=0), fine.isel(time=0))


def test_partners_are_at_the_same_hour_days_away():
    times = np.datetime64("2020-01-01") + np.arange(40) * np.timedelta64(6, "h")
    other = partners(times.astype("datetime64[ns]"))
    away = np.abs(times[other] - times) / np.timedelta64(1, "h")
    assert set(away.astype(int)) == {72}


def test_partners_in_a_short_series_are_the_farthest():
    times = np.datetime64("2020-01-01", "ns") + np.arange(4) * np.timedelta64(6, "h")
    assert partners(times).tolist() == [3, 3, 0, 0]


# --- On real winds ------------------------------------------------------------------


def test_the_floor_on_winds_over_japan(data):
    """Errors as they were measured elsewhere with other code."""
    path = data / "train/gfs_uv10_japan_0p25_3h_20260707-20260808.nc"
    ds = xr.open_dataset(path)[["u10", "v10"]].astype("float32")
    ds = ds.isel(latitude=slice(104), longitude=slice(120))
    fine, before = ds.isel(time=slice(208, None, 2)), ds.isel(time=slice(184))
    coarse = _means(fine)
    ridge = Ridge.fit(_means(before), before)
    estimates = {
        "nearest": interpolate(coarse, "nearest"),
        "bilinear": interpolate(coarse, "bilinear"),
        "bicubic": interpolate(coarse),
        "conserving": interpolate(coarse, conserve=True),
        "ridge": ridge.apply(coarse),
    }
    rmse = {
        name: float(
            np.sqrt(np.mean([(x[n].values - fine[n].values) ** 2 for n in fine]))
        )
        for name, x in estimates.items()
    }
    assert rmse["nearest"] > rmse["bilinear"] > rmse["bicubic"] > rmse["conserving"]
    assert rmse["bicubic"] == pytest.approx(0.850, abs=1e-3)
    assert rmse["conserving"] == pytest.approx(0.819, abs=1e-3)
    assert rmse["ridge"] == pytest.approx(0.7915, abs=1e-3)
