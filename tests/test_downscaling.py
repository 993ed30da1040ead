"""downscale(): fine fields, conserved and drawn, in the user's form; bad input."""

from __future__ import annotations

import json
import warnings

import cftime
import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.fields import vorticity_divergence
from xatmo.testing import synthetic_winds

pytestmark = pytest.mark.usefixtures("refiners")

LATITUDE = np.arange(52.0, 36.0, -1.0)
LONGITUDE = np.arange(2.0, 22.0)


@pytest.fixture(scope="module")
def coarse() -> xr.Dataset:
    """Three times of 10 m winds on 16 x 20 points at 1°."""
    return synthetic_winds(3, LATITUDE, LONGITUDE)


@pytest.fixture(scope="module")
def fine(coarse, refiners) -> xr.Dataset:
    return coarse.atmo.downscale(model="tiny")


def _means(ds, lat="latitude", lon="longitude"):
    return ds.coarsen({lat: 4, lon: 4}).mean()


def _same(a, b, **tolerance):
    """Equal values on equal coordinates, in whatever order."""
    a, b = xr.align(a, b, join="exact")
    assert list(a) == list(b)
    for name in a:
        b_values = b[name].transpose(*a[name].dims)
        np.testing.assert_allclose(a[name], b_values, **(tolerance or {"atol": 1e-5}))


# --- The result ----------------------------------------------------------------------


def test_winds_in_winds_out(coarse, fine):
    assert list(fine) == ["u10", "v10"]
    assert dict(fine.sizes) == {"time": 3, "latitude": 64, "longitude": 80}
    for name in fine:
        assert fine[name].dims == coarse[name].dims
        assert fine[name].dtype == np.float32
        assert fine[name].attrs["units"] == "m s-1"
        assert fine[name].attrs["long_name"] == coarse[name].attrs["long_name"]
    assert fine.u10.attrs["standard_name"] == "eastward_wind"
    assert np.isfinite(fine.to_dataarray()).all()
    np.testing.assert_allclose(fine.latitude[:4], [52.375, 52.125, 51.875, 51.625])
    np.testing.assert_allclose(fine.longitude[:2], [1.625, 1.875])
    xr.testing.assert_equal(fine.time, coarse.time)


def test_is_the_network_on_normalised_fields(coarse):
    """The verb adds nothing of its own: the same numbers by hand."""
    import torch

    model = xatmo.load_model("tiny-plain")
    level = model.card.levels[0]
    mean, std = (np.float32(x)[:, None, None] for x in (level.mean, level.std))
    x = np.stack([coarse.u10.values, coarse.v10.values], axis=1)
    with torch.inference_mode():
        raw = model.network()(torch.from_numpy((x - mean) / std)).numpy()
    expected = raw * std + mean
    got = coarse.atmo.downscale(model="tiny-plain", conserve=False)
    np.testing.assert_allclose(got.u10, expected[:, 0], atol=2e-5)
    np.testing.assert_allclose(got.v10, expected[:, 1], atol=2e-5)
    block = x - raw.reshape(3, 2, 16, 4, 20, 4).mean((3, 5)) * std - mean
    expected += block.repeat(4, -1).repeat(4, -2)
    conserved = coarse.atmo.downscale(model="tiny-plain")
    np.testing.assert_allclose(conserved.v10, expected[:, 1], atol=2e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-14)]
)
def test_block_means_are_the_input(coarse, dtype, tolerance):
    ds = coarse.astype(dtype)
    fine = ds.atmo.downscale(model="tiny", realizations=2)
    assert fine.u10.dtype == dtype
    for name in ds:
        means = _means(fine[name].astype(np.float64))
        error = np.abs(means - ds[name].values).max()
        assert error <= tolerance * np.abs(ds[name]).max()


def test_what_the_network_says_is_not_conserved_by_itself(coarse):
    fine = coarse.atmo.downscale(model="tiny", conserve=False)
    assert np.abs(_means(fine).u10 - coarse.u10.values).max() > 1e-2
    assert fine.attrs["xatmo_conserve"] == "false"


def test_rows_at_the_poles_keep_the_parts_on_this_side():
    globe = synthetic_winds(1, np.arange(90.0, -90.1, -1.0), np.arange(360.0))
    fine = globe.atmo.downscale(model="tiny")
    assert dict(fine.sizes) == {"time": 1, "latitude": 720, "longitude": 1440}
    assert np.abs(fine.latitude).max() == 89.875
    inner = _means(fine.isel(latitude=slice(2, -2)))
    np.testing.assert_allclose(inner.u10, globe.u10[:, 1:-1], atol=2e-5)
    for rows, pole in ((slice(2), 0), (slice(-2, None), -1)):
        cap = fine.v10.isel(latitude=rows).coarsen(longitude=4).mean().mean("latitude")
        np.testing.assert_allclose(cap, globe.v10[:, pole], atol=2e-5)


def test_turning_the_globe_turns_the_result():
    """Without noise and land, longitudes are all alike: the date line has no trace."""
    globe = synthetic_winds(1, np.arange(90.0, -90.1, -1.0), np.arange(360.0))
    turned = globe.roll(longitude=150, roll_coords=False)
    a, b = (ds.atmo.downscale(model="tiny-plain").u10 for ds in (globe, turned))
    np.testing.assert_allclose(np.roll(a, 600, axis=2), b, atol=1e-5)


def test_realizations_differ_and_agree_in_their_means(coarse):
    fine = coarse.atmo.downscale(model="tiny", realizations=3)
    assert fine.u10.dims == ("realization", "time", "latitude", "longitude")
    assert fine.realization.values.tolist() == [0, 1, 2]
    assert fine.realization.attrs["standard_name"] == "realization"
    assert (fine.u10.std("realization") > 0).mean() > 0.99
    means = _means(fine.u10)
    np.testing.assert_allclose(means.std("realization"), 0, atol=1e-5)
    single = coarse.atmo.downscale(model="tiny")
    np.testing.assert_array_equal(single.u10, fine.u10.isel(realization=0))


def test_seeds(coarse, fine):
    again = coarse.atmo.downscale(model="tiny", seed=0)
    np.testing.assert_array_equal(again.u10, fine.u10)
    other = coarse.atmo.downscale(model="tiny", seed=1)
    assert float(np.abs(other.u10 - fine.u10).mean()) > 1e-3
    assert other.attrs["xatmo_seed"] == 1


def test_a_part_of_the_domain_draws_what_the_whole_does(coarse):
    """Beyond the reach of its edges."""
    halo = xatmo.load_model("tiny").card.grid.halo
    wide = synthetic_winds(3, np.arange(60.0, 20.0, -1.0), np.arange(0.0, 50.0))
    whole = wide.atmo.downscale(model="tiny", realizations=2)
    part = wide.isel(time=1, latitude=slice(5, 35), longitude=slice(3, 45))
    inner = slice(4 * halo, -4 * halo)
    got = part.atmo.downscale(model="tiny", realizations=2)
    got = got.isel(latitude=inner, longitude=inner)
    expected = whole.isel(time=1).sel(latitude=got.latitude, longitude=got.longitude)
    assert min(got.sizes["latitude"], got.sizes["longitude"]) >= 16
    np.testing.assert_allclose(got.u10, expected.u10, atol=1e-5)


def test_vorticity_and_divergence_in_the_same_out(coarse):
    vo, d = vorticity_divergence(coarse.u10, coarse.v10, periodic=False)
    alone = xr.Dataset(
        {
            "vo": vo.assign_attrs(units="1/s", level="10 m"),
            "d": d.assign_attrs(level="10 m"),
        }
    )
    fine = alone.atmo.downscale(model="tiny-vortdiv", level="10 m")
    assert set(fine) == {"vo", "d"}
    assert fine.vo.attrs["units"] == "1/s"
    assert fine.vo.attrs["standard_name"] == "atmosphere_relative_vorticity"
    np.testing.assert_allclose(_means(fine.d), alone.d, atol=1e-10)
    derived = coarse.atmo.downscale(model="tiny-vortdiv")
    assert set(derived) == {"divergence_of_wind", "atmosphere_relative_vorticity"}
    assert derived["divergence_of_wind"].attrs["units"] == "s-1"
    assert "derived from u10, v10" in derived.attrs["comment"]
    np.testing.assert_allclose(derived["divergence_of_wind"], fine.d, atol=1e-9)


# --- The user's form -----------------------------------------------------------------


@pytest.mark.parametrize(
    "order", [("longitude", "time", "latitude"), ("latitude", "longitude", "time")]
)
def test_comes_back_in_the_users_order(coarse, fine, order):
    got = coarse.transpose(*order).atmo.downscale(model="tiny")
    assert got.u10.dims == order
    _same(got, fine)


def test_comes_back_in_the_users_orientation(coarse, fine):
    got = coarse.isel(latitude=slice(None, None, -1)).atmo.downscale(model="tiny")
    assert got.latitude[0] < got.latitude[-1]
    _same(got.sortby("latitude", ascending=False), fine)


def test_both_conventions_of_longitude_draw_the_same():
    west = synthetic_winds(2, LATITUDE, np.arange(-12.0, 8.0))
    east = west.assign_coords(longitude=west.longitude % 360)
    a, b = (ds.atmo.downscale(model="tiny") for ds in (west, east))
    np.testing.assert_allclose(a.u10, b.u10, atol=1e-5)
    assert a.longitude.min() < 0


def test_names_units_and_packing_of_the_user(coarse, fine):
    knots = 1.943844
    ds = xr.Dataset(
        {
            "10u": coarse.u10 * knots,
            "10v": (coarse.v10 * 100).round().astype(np.int16),
        }
    ).rename(latitude="lat", longitude="lon")
    ds["10u"].attrs = {"units": "knots", "valid_max": 60.0}
    ds["10v"].attrs = {"units": "m/s", "scale_factor": 0.01, "add_offset": 0.0}
    got = ds.atmo.downscale(model="tiny")
    assert got["10u"].dims == ("time", "lat", "lon")
    assert got["10u"].dtype == got["10v"].dtype == np.float32
    assert got["10u"].attrs["units"] == "knots"
    assert not {"valid_max", "scale_factor"} & {*got["10u"].attrs, *got["10v"].attrs}
    np.testing.assert_allclose(_means(got["10u"], "lat", "lon"), ds["10u"], atol=2e-5)
    np.testing.assert_allclose(got["10u"] / knots, fine.u10, atol=0.02)


def test_data_arrays_and_trees(coarse, fine):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.UnitsWarning)
        stacked = coarse.to_dataarray("variable").atmo.downscale(model="tiny")
    np.testing.assert_allclose(stacked.u10, fine.u10, atol=1e-5)
    tree = xr.DataTree.from_dict({"/surface": coarse})
    xr.testing.assert_equal(tree["surface"].atmo.downscale(model="tiny"), fine)


def test_without_time(coarse, fine):
    got = coarse.isel(time=2).atmo.downscale(model="tiny")
    assert got.u10.dims == ("latitude", "longitude")
    np.testing.assert_allclose(got.u10, fine.u10.isel(time=2), atol=1e-5)


def test_other_calendars(coarse):
    noleap = [cftime.DatetimeNoLeap(2001, 2, day) for day in (26, 27, 28)]
    ds = coarse.assign_coords(time=noleap)
    fine = ds.atmo.downscale(model="tiny")
    np.testing.assert_array_equal(fine.time, ds.time)
    lazy = ds.chunk(time=1).atmo.downscale(model="tiny")
    np.testing.assert_allclose(lazy.u10, fine.u10, atol=1e-5)


def test_members_and_levels(coarse):
    levels = xr.DataArray([850, 500], dims="level", attrs={"units": "hPa"})
    ds = coarse.rename(u10="u", v10="v").expand_dims(level=levels, number=[0, 1])
    fine = ds.atmo.downscale(model="tiny", level=[850])
    assert fine.u.dims == ("level", "number", "time", "latitude", "longitude")
    members = fine.u.isel(level=0)
    assert np.abs(members.isel(number=0) - members.isel(number=1)).mean() > 1e-3
    one = ds.isel(number=1).atmo.downscale(model="tiny", level=850)
    np.testing.assert_allclose(one.u, members.isel(number=1), atol=1e-5)
    assert one.attrs["level"] == "850 hPa"


def test_several_levels_that_the_model_does_not_know(coarse):
    levels = xr.DataArray([300, 700], dims="level", attrs={"units": "hPa"})
    ds = coarse.rename(u10="u", v10="v").expand_dims(level=levels)
    with pytest.raises(errors.LevelError, match="knows none of the levels") as caught:
        ds.atmo.downscale(model="tiny")
    call = caught.value.hint.split("or measure its constants: ")[1]
    assert call.endswith("level='700 hPa'")
    with pytest.warns(errors.ExtrapolationWarning, match="at 700 hPa"):
        fine = eval(  # noqa: S307 - the message's promise
            f"ds.atmo.downscale({call})", {"ds": ds, "xatmo": xatmo}
        )
    assert fine.u.dims == ("time", "latitude", "longitude")


def test_bounds_follow(coarse):
    ds = coarse.copy()
    ds["lat_bnds"] = ("latitude", "bnds"), np.stack([LATITUDE + 0.5, LATITUDE - 0.5], 1)
    ds.latitude.attrs["bounds"] = "lat_bnds"
    fine = ds.atmo.downscale(model="tiny")
    assert fine.lat_bnds.dims == ("latitude", "bnds")
    np.testing.assert_allclose(fine.lat_bnds.mean("bnds"), fine.latitude)


@pytest.mark.parametrize(
    "chunks",
    [
        {"time": 1},
        {"latitude": 3, "longitude": 7},
        {"time": (2, 1), "latitude": (1, 15), "longitude": -1},
    ],
)
def test_chunks_are_the_users_and_leave_no_trace(coarse, fine, chunks):
    ds = coarse.chunk(chunks)
    lazy = ds.atmo.downscale(model="tiny")
    cut = ds.chunksizes
    assert lazy.chunksizes["time"] == cut["time"]
    for dim in ("latitude", "longitude"):
        assert lazy.chunksizes[dim] == tuple(4 * n for n in cut[dim])
    _same(lazy.compute(), fine, atol=1e-5)


def test_chunks_of_a_globe_with_poles_and_a_date_line():
    globe = synthetic_winds(1, np.arange(-90.0, 90.1, 1.25), np.arange(-180.0, 180.0))
    whole = globe.atmo.downscale(model="tiny")
    lazy = globe.chunk(latitude=50, longitude=100).atmo.downscale(model="tiny")
    assert lazy.chunksizes["latitude"] == (200, 200, 176)
    assert lazy.chunksizes["longitude"] == (400, 400, 400, 240)
    _same(lazy.compute(), whole, atol=1e-5)


def test_a_cyclic_point_has_no_cells_of_its_own():
    longitude = np.arange(0.0, 361.0, 1.25)
    globe = synthetic_winds(1, np.arange(-60.0, 61.0, 1.25), longitude)
    lazy = globe.chunk(longitude=100).atmo.downscale(model="tiny")
    assert lazy.sizes["longitude"] == 4 * 288
    assert lazy.chunksizes["longitude"] == (400, 400, 352)
    _same(lazy.compute(), globe.atmo.downscale(model="tiny"), atol=1e-5)


def test_says_what_was_done(coarse):
    ds = coarse.assign_attrs(history="made", title="gone")
    fine = ds.atmo.downscale(model="tiny", realizations=2, seed=7)
    sha256 = xatmo.load_model("tiny").card.weights.sha256
    for attrs in (fine.attrs, fine.u10.attrs):
        assert attrs["xatmo_model_sha256"] == sha256
        assert (attrs["xatmo_seed"], attrs["xatmo_realizations"]) == (7, 2)
        assert attrs["level"] == "10 m"
        first, last = attrs["history"].split("\n")
        assert first == "made"
        assert "downscale(model='tiny', factor=4, realizations=2" in last
    assert "title" not in fine.attrs
    skill = {"data": ["week.nc"], "units": "m s-1", "rmse": 0.5}
    assert json.loads(fine.attrs["skill"]) == skill


def test_the_models_repr_leaves_other_methods_to_its_page():
    told = repr(xatmo.load_model("tiny"))
    assert "score held out.rmse" in told
    assert "ridge" not in told


def test_can_be_written_and_read_again(coarse, tmp_path):
    fine = coarse.chunk(time=1).atmo.downscale(model="tiny", realizations=2)
    fine.to_netcdf(tmp_path / "fine.nc")
    with xr.open_dataset(tmp_path / "fine.nc") as again:
        assert again.attrs["xatmo_conserve"] == "true"
        np.testing.assert_array_equal(again.u10, fine.u10)


@pytest.mark.parametrize("step", [-1.0, 1.0])
def test_chunks_of_a_globe_go_into_a_zarr_store(step, tmp_path):
    """Whose chunks are all alike, but for the last: also beside a row at a pole."""
    latitude = np.arange(-90.0, 90.1)[:: int(step)]
    globe = synthetic_winds(1, latitude, np.arange(360.0)).chunk(latitude=50)
    fine = globe.atmo.downscale(model="tiny-plain")
    assert fine.chunksizes["latitude"] == (200, 200, 200, 120)
    fine.to_zarr(tmp_path / "fine.zarr", consolidated=False)
    with xr.open_zarr(tmp_path / "fine.zarr", consolidated=False) as again:
        assert np.isfinite(again.u10).all()


# --- Real files ----------------------------------------------------------------------


def test_michael(data):
    file = data / "test/gfs_uv10_global_1deg_6h_2018_michael.nc"
    with xr.open_dataset(file) as ds:
        part = ds.isel(time=[16]).load()
    fine = part.atmo.downscale(model="tiny")
    assert dict(fine.sizes) == {"time": 1, "latitude": 720, "longitude": 1440}
    inner = _means(fine.isel(latitude=slice(2, -2))).u10
    np.testing.assert_allclose(inner, part.u10[:, 1:-1], atol=1e-12)


def test_block_means_of_a_fine_analysis(data):
    file = data / "train/gfs_uv10_japan_0p25_3h_20260707-20260808.nc"
    with xr.open_dataset(file) as ds:
        truth = ds.isel(time=slice(2)).load()
    coarse = truth.coarsen(latitude=4, longitude=4, boundary="trim").mean()
    fine = coarse.atmo.downscale(model="tiny")
    same = truth.sel(latitude=fine.latitude, longitude=fine.longitude, method="nearest")
    np.testing.assert_allclose(fine.latitude, same.latitude, atol=1e-6)
    np.testing.assert_allclose(fine.longitude, same.longitude, atol=1e-6)


# --- Bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"factor": 3}, r"(?s)tiny does not refine by a factor of 3.*factor=4"),
        ({"factor": 4.5}, r"(?s)factor cannot be 4\.5.*float.*downscale\(factor=4\)"),
        ({"factor": 1}, r"(?s)factor cannot be 1.*at least 2"),
        ({"realizations": 0}, r"(?s)realizations cannot be 0.*at least 1"),
        ({"realizations": True}, r"(?s)realizations cannot be True.*whole number"),
        ({"seed": "a"}, r"(?s)seed cannot be 'a'.*downscale\(seed=0\)"),
        ({"seed": None}, r"(?s)seed cannot be None"),
        ({"conserve": "mean"}, r"(?s)'mean'.*True \(block means equal the input\)"),
    ],
)
def test_arguments_that_cannot_be(coarse, arguments, match):
    with pytest.raises(errors.OptionError, match=match):
        coarse.atmo.downscale(model="tiny", **arguments)


def test_numpy_integers_are_whole_numbers(coarse):
    fine = coarse.isel(time=0).atmo.downscale(
        model="tiny", factor=np.int64(4), realizations=np.int32(1), seed=np.uint8(0)
    )
    assert fine.sizes["latitude"] == 64


def test_a_network_without_noise_has_one_answer(coarse):
    with pytest.raises(
        errors.OptionError,
        match=r"(?s)tiny-plain reads no noise.*=2.*='(tiny|downscale-winds)'",
    ):
        coarse.atmo.downscale(model="tiny-plain", realizations=2)


def test_a_dimension_that_is_called_realization(coarse):
    ds = coarse.expand_dims(realization=[0, 1])
    assert "realization" in ds.atmo.downscale(model="tiny").u10.dims
    with pytest.raises(
        errors.FieldError, match=r'(?s)\'realization\'.*rename\(realization="member"\)'
    ):
        ds.atmo.downscale(model="tiny", realizations=2)
    one = ds.isel(realization=1).atmo.downscale(model="tiny", realizations=2)
    assert one.u10.dims == ("realization", "time", "latitude", "longitude")


def test_another_model_reads_this_grid(coarse):
    with pytest.raises(
        errors.GridError,
        match=r"(?s)tiny-4deg.*1 x 1°.*3 and 5\.2°.*='(tiny|downscale-winds)'",
    ):
        coarse.atmo.downscale(model="tiny-4deg")
    wide = synthetic_winds(1, np.arange(70.0, -71, -4), np.arange(0.0, 360, 4))
    with pytest.raises(
        errors.GridError,
        match=r"(?s)too coarse for tiny\b.*='(tiny|downscale-winds)-4deg'",
    ):
        wide.atmo.downscale(model="tiny")


def test_data_that_are_fine_already():
    ds = synthetic_winds(1, np.arange(50, 40, -0.25), np.arange(0, 20, 0.25))
    with pytest.raises(
        errors.GridError,
        match=r"(?s)as fine already as what tiny makes.*0\.25 x 0\.25°.*ds\.coarsen\(",
    ) as caught:
        ds.atmo.downscale(model="tiny")
    call = str(caught.value).split("try:")[1].strip()
    again = eval(call, {"ds": ds}).atmo.downscale(model="tiny")  # noqa: S307 - it promises
    assert again.sizes["latitude"] == 40


def test_half_a_degree_is_too_fine_but_not_as_fine_as_results():
    ds = synthetic_winds(1, np.arange(60, 40, -0.5), np.arange(0, 20, 0.5))
    with pytest.raises(errors.GridError, match=r"(?s)too fine for tiny.*ds\.coarsen"):
        ds.atmo.downscale(model="tiny")


def test_gaussian_grids(globe):
    latitude = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(180)[0][::-1]))
    ds = synthetic_winds(1, latitude, np.arange(0.0, 360.0))
    with pytest.raises(
        errors.GridError, match=r"(?s)tiny does not read Gaussian grids.*regrid"
    ):
        ds.atmo.downscale(model="tiny")


def test_stretched_and_projected_grids(coarse):
    ds = coarse.assign_coords(latitude=50 - LATITUDE[::-1] ** 2 / 100)
    with pytest.raises(errors.GridError, match=r"(?s)stretched.*ds\.interp"):
        ds.atmo.downscale(model="tiny")
    ds = coarse.rename(latitude="y", longitude="x").drop_vars(["y", "x"])
    ds = ds.assign_coords(
        lat=(("y", "x"), np.ones((16, 20))), lon=(("y", "x"), np.ones((16, 20)))
    )
    with pytest.raises(errors.FieldError, match=r"(?s)try:"):
        ds.atmo.downscale(model="tiny")


def test_too_small(coarse):
    with pytest.raises(errors.GridError, match=r"(?s)too small.*4 x 20.*8 x 8 points"):
        coarse.isel(latitude=slice(4)).atmo.downscale(model="tiny")


def test_one_of_two_winds(coarse):
    with pytest.raises(errors.FieldNotFoundError, match="northward_wind"):
        coarse[["u10"]].atmo.downscale(model="tiny")


def test_models_that_cannot(coarse):
    with pytest.raises(
        errors.ModelNotFoundError,
        match=r"(?s)'atmodist-small' cannot downscale.*model='",
    ):
        coarse.atmo.downscale(model="atmodist-small")


def test_missing_values_raise_and_name_infill(coarse):
    ds = coarse.copy(deep=True)
    ds["u10"][1, 5, 5] = np.nan
    match = r"(?s)NaN.*in u10:.*ds\.atmo\.infill\(\).*set_options"
    with pytest.raises(errors.MissingValuesError, match=match):
        ds.atmo.downscale(model="tiny")
    lazy = ds.chunk(time=1).atmo.downscale(model="tiny")
    with pytest.raises(errors.MissingValuesError, match=match):
        lazy.compute()


def test_missing_values_propagate_as_far_as_they_are_seen():
    ds = synthetic_winds(2, np.arange(60.0, 20.0, -1.0), np.arange(0.0, 50.0))
    halo = xatmo.load_model("tiny").card.grid.halo
    holed = ds.copy(deep=True)
    holed["u10"][1, 3, 20] = np.nan
    with xatmo.set_options(missing="propagate"):
        got = holed.atmo.downscale(model="tiny")
        lazy = holed.chunk(time=1, latitude=9).atmo.downscale(model="tiny")
    gone = _means(np.isnan(got.v10)).values
    expected = np.zeros((2, 40, 50))
    expected[1, : 3 + halo + 1, 20 - halo : 20 + halo + 1] = 1
    np.testing.assert_array_equal(gone, expected)
    whole = ds.atmo.downscale(model="tiny")
    np.testing.assert_allclose(got.u10, whole.u10.where(~np.isnan(got.u10)), atol=1e-5)
    np.testing.assert_allclose(lazy.u10, got.u10, atol=1e-5)
