"""downscale() with models of boxes: what comes back, from which times, in what form."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.testing import count_forwards, raise_if_computes, synthetic_winds

LATITUDE = np.arange(50.0, 32.0, -1.0)
LONGITUDE = np.arange(350.0, 372.0)
FIELDS = ("u", "v", "t")


@pytest.fixture(scope="module")
def model(make_box_model):
    """Refines winds and temperature two times; boxes of 4 times and 8 x 8 points."""
    scores = {"held out": {"data": ["week.nc"], "units": "m s-1", "rmse": 0.5}}
    changed = {"scores": scores}
    return make_box_model("tiny-finer", fields=FIELDS, finer=2, card=changed)


@pytest.fixture(scope="module")
def winds():
    """Five times of 10 m winds on 18 x 22 points at 1°."""
    return synthetic_winds(5, LATITUDE, LONGITUDE)


@pytest.fixture(scope="module")
def fine(winds, model):
    return winds.atmo.downscale(2, 3, model=model)


@pytest.fixture(scope="module")
def states(winds):
    """Temperature and winds at three levels, one of which the model does not know."""
    level = xr.DataArray([500, 300, 850], dims="level", attrs={"units": "hPa"})
    factor = xr.DataArray([2.0, 3.0, 1.0], dims="level")
    ds = xr.Dataset(
        {
            "temp": (270 + winds.u10 * factor).assign_attrs(
                standard_name="air_temperature", units="K"
            ),
            "ua": winds.u10 * factor,
            "va": winds.v10 * factor,
        }
    )
    ds.ua.attrs = {"standard_name": "eastward_wind", "units": "m s-1"}
    ds.va.attrs = {"standard_name": "northward_wind", "units": "m s-1"}
    return ds.assign_coords(level=level).transpose("time", "level", ...)


def _means(ds, lat="latitude", lon="longitude", factor=2):
    return ds.coarsen({lat: factor, lon: factor}).mean()


def _same(a, b, atol=1e-5):
    """Equal values on equal coordinates, in whatever order."""
    a, b = xr.align(a, b, join="exact")
    assert list(a) == list(b)
    for name in a:
        other = b[name].transpose(*a[name].dims)
        np.testing.assert_allclose(a[name], other, rtol=0, atol=atol)


# --- The result ----------------------------------------------------------------------


def test_winds_in_winds_out(winds, fine):
    assert list(fine) == ["u10", "v10"]
    sizes = {"realization": 3, "time": 5, "latitude": 36, "longitude": 44}
    for name in fine:
        assert dict(fine[name].sizes) == sizes
        assert fine[name].dims == ("realization", *winds[name].dims)
        assert fine[name].dtype == np.float32
        assert fine[name].attrs["units"] == "m s-1"
        assert fine[name].attrs["long_name"] == winds[name].attrs["long_name"]
    assert np.isfinite(fine.to_dataarray()).all()
    np.testing.assert_allclose(fine.latitude[:3], [50.25, 49.75, 49.25])
    np.testing.assert_allclose(fine.longitude[:2], [349.75, 350.25])
    assert fine.realization.values.tolist() == [0, 1, 2]
    assert fine.realization.attrs["standard_name"] == "realization"
    xr.testing.assert_equal(fine.time, winds.time)


@pytest.mark.parametrize("conserve", [False, True])
def test_is_what_the_network_says_of_one_box(model, conserve):
    import torch

    ds = synthetic_winds(4, np.arange(40.0, 32.0, -1.0), np.arange(10.0, 18.0))
    x = np.stack([ds.u10.values, ds.v10.values])[None] / 8.0
    when = [[2020, 0, 6.0 * hour] for hour in range(4)]
    with torch.inference_mode():
        said = model.network().refine(
            torch.tensor(x).float(),
            torch.tensor([when]).float(),
            torch.tensor(ds.latitude.values[None]).float(),
            torch.tensor(ds.longitude.values[None]).float(),
            1.0,
            frames=1,
            present=(("u", (0,)), ("v", (0,))),
            conserve=conserve,
        )
    got = ds.atmo.downscale(2, 3, conserve, model).isel(time=-1)
    for channel, name in enumerate(["u10", "v10"]):
        np.testing.assert_allclose(got[name], 8 * said[0, :, channel, 0], atol=2e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 2e-7)]
)
def test_block_means_are_the_input(winds, model, dtype, tolerance):
    """In single precision, which is that of the network and of what it reads."""
    ds = winds.astype(dtype)
    got = ds.atmo.downscale(2, 2, model=model)
    for name in ds:
        assert got[name].dtype == dtype
        means = _means(got[name].astype(np.float64))
        error = np.abs(means - ds[name].values).max()
        assert error <= tolerance * np.abs(ds[name]).max()


def test_what_the_network_says_is_not_conserved_by_itself(winds, model):
    got = winds.atmo.downscale(2, conserve=False, model=model)
    assert np.abs(_means(got).u10 - winds.u10.values).max() > 1e-2
    assert got.attrs["xatmo_conserve"] == "false"


def test_realizations_are_the_first_members(winds, model, fine):
    assert float(fine.u10.std("realization").mean()) > 1e-2
    for n in (1, 2):
        got = winds.atmo.downscale(2, n, model=model)
        first = fine.isel(realization=slice(n) if n > 1 else 0, drop=True)
        xr.testing.assert_allclose(got, first)
    again = winds.atmo.downscale(2, 3, model=model, seed=7)
    np.testing.assert_array_equal(again.u10, fine.u10)  # members are fixed


def test_rows_at_the_poles_keep_the_parts_on_this_side(model):
    globe = synthetic_winds(1, np.arange(90.0, -90.1, -2.0), np.arange(0.0, 360.0, 2))
    got = globe.atmo.downscale(2, model=model)
    assert dict(got.sizes) == {"time": 1, "latitude": 180, "longitude": 360}
    assert np.abs(got.latitude).max() == 89.5
    inner = _means(got.isel(latitude=slice(1, -1)))
    np.testing.assert_allclose(inner.u10, globe.u10[:, 1:-1], atol=2e-5)
    for pole in (0, -1):
        cap = got.v10.isel(latitude=pole).coarsen(longitude=2).mean()
        np.testing.assert_allclose(cap, globe.v10[:, pole], atol=2e-5)


# --- Which times count ----------------------------------------------------------------


def test_the_times_before_are_read_and_no_later_ones(winds, model, fine):
    four = winds.isel(time=slice(1, 5)).atmo.downscale(2, 3, model=model)
    _same(four.isel(time=-1), fine.isel(time=-1))
    fewer = winds.isel(time=slice(2, 5)).atmo.downscale(2, 3, model=model)
    assert float(np.abs(fewer.u10[:, -1] - fine.u10[:, -1]).max()) > 1e-4
    first = winds.isel(time=slice(0, 2)).atmo.downscale(2, 3, model=model)
    _same(first, fine.isel(time=slice(0, 2)))


def test_one_time_alone(winds, model):
    with_dim = winds.isel(time=[3]).atmo.downscale(2, model=model)
    alone = winds.isel(time=3).atmo.downscale(2, model=model)
    assert alone.u10.dims == ("latitude", "longitude")
    assert alone.time.values == winds.time.values[3]
    _same(alone, with_dim.isel(time=0))


def test_other_time_steps(winds, model, fine):
    """Times that lie some of the model's steps before count, whatever lies between."""
    twelve = winds.isel(time=[0, 2, 4])
    got = twelve.atmo.downscale(2, model=model)
    alone = winds.isel(time=[2]).atmo.downscale(2, model=model)
    assert float(np.abs(got.u10[1] - alone.u10[0]).max()) > 1e-4
    odd = winds.assign_coords(time=winds.time + np.arange(5) * np.timedelta64(7, "m"))
    got = odd.atmo.downscale(2, model=model)
    single = odd.isel(time=slice(4, 5)).atmo.downscale(2, model=model)
    _same(got.isel(time=[4]), single)
    hourly = winds.assign_coords(time=winds.time - 3 * np.timedelta64(1, "h"))
    both = xr.concat([winds, hourly], "time").sortby("time")
    got = both.atmo.downscale(2, 3, model=model)
    _same(got.sel(time=winds.time), fine)


# --- The user's form -----------------------------------------------------------------


@pytest.mark.parametrize(
    "chunks",
    [
        {"time": 1},
        {"time": (3, 2), "latitude": 5, "longitude": 7},
        {"latitude": (1, 17), "longitude": 1},
    ],
    ids=str,
)
def test_chunks_are_the_users_and_leave_no_trace(winds, model, fine, chunks):
    ds = winds.chunk(chunks)
    with raise_if_computes(), count_forwards() as counted:
        lazy = ds.atmo.downscale(2, 3, model=model)
    assert counted.calls == 0
    cut = ds.chunksizes
    assert lazy.chunksizes["time"] == cut["time"]
    for dim in ("latitude", "longitude"):
        assert lazy.chunksizes[dim] == tuple(2 * n for n in cut[dim])
    _same(lazy.compute(), fine)


def test_options_change_nothing(winds, model, fine):
    with xatmo.set_options(batch_size=2):
        _same(winds.atmo.downscale(2, 3, model=model), fine)
    with xatmo.set_options(precision="bfloat16"):
        rough = winds.atmo.downscale(2, 3, model=model)
    np.testing.assert_allclose(rough.u10, fine.u10, atol=0.5)
    assert float(np.abs(rough.u10 - fine.u10).max()) > 0


def test_a_globe_in_any_orientation_and_chunks(model):
    globe = synthetic_winds(1, np.arange(90.0, -90.1, -2.0), np.arange(0.0, 361.0, 2))
    known = globe.isel(longitude=slice(180)).atmo.downscale(2, model=model)
    cyclic = globe.chunk(longitude=50).atmo.downscale(2, model=model)
    assert cyclic.chunksizes["longitude"] == (100, 100, 100, 60)
    _same(cyclic.compute(), known)
    west = globe.isel(longitude=slice(180), latitude=slice(None, None, -1))
    west = west.assign_coords(longitude=(west.longitude + 180) % 360 - 180)
    west = west.sortby("longitude").chunk(latitude=50)
    got = west.atmo.downscale(2, model=model)
    assert got.chunksizes["latitude"] == (100, 80)
    assert float(got.longitude.min()) == -180.5
    assert float(got.latitude[0]) == -89.5
    got = got.assign_coords(longitude=(got.longitude + 0.5) % 360 - 0.5)
    _same(got.sortby("longitude").sortby("latitude", ascending=False), known)


def test_order_names_units_and_type_of_the_user(winds, model, fine):
    knots = 1.943844
    ds = xr.Dataset({"10u": winds.u10 * knots, "10v": winds.v10.astype("float64")})
    ds["10u"].attrs = {"units": "knots", "valid_max": 60.0}
    ds["10v"].attrs = {"units": "m/s"}
    ds = ds.rename(latitude="lat", longitude="lon").transpose("lon", "time", "lat")
    got = ds.atmo.downscale(2, 3, model=model)
    assert got["10u"].dims == ("realization", "lon", "time", "lat")
    assert got["10u"].attrs["units"] == "knots"
    assert "valid_max" not in got["10u"].attrs
    assert (got["10u"].dtype, got["10v"].dtype) == (np.float32, np.float64)
    means = _means(got["10u"].isel(realization=0), "lat", "lon")
    np.testing.assert_allclose(means, ds["10u"], atol=2e-5)
    order = ("realization", "time", "latitude", "longitude")
    u = got["10u"].rename(lat="latitude", lon="longitude").transpose(*order)
    np.testing.assert_allclose(u / knots, fine.u10, atol=1e-5)


def test_several_variables_and_levels(states, model):
    with warnings.catch_warnings():
        warnings.simplefilter("error", errors.ExtrapolationWarning)
        got = states.atmo.downscale(2, model=model)
    assert list(got) == ["temp", "ua", "va"]
    assert got.temp.dims == ("time", "level", "latitude", "longitude")
    assert got.level.values.tolist() == [500, 850]  # what the model knows, in order
    assert got.temp.attrs["units"] == "K"
    assert set(got.attrs["level"].split(", ")) == {"500 hPa", "850 hPa"}
    np.testing.assert_allclose(
        _means(got.temp.astype("f8")), states.temp.sel(level=[500, 850]), atol=1e-4
    )
    lazy = states.chunk(level=1, time=2, latitude=6).atmo.downscale(2, model=model)
    _same(lazy.compute(), got, atol=4e-5)
    one = states.atmo.downscale(2, model=model, level=850)
    assert one.ua.dims == ("time", "latitude", "longitude")
    np.testing.assert_allclose(_means(one.ua), states.ua.sel(level=850), atol=2e-5)
    assert one.attrs["fields_used"] == "u at 850 hPa, v at 850 hPa, t at 850 hPa"


def test_one_field_is_enough(states, model):
    got = states[["temp"]].sel(level=500).atmo.downscale(2, model=model, level=500)
    assert list(got) == ["temp"]
    assert "u at 10 m" in got.attrs["fields_left_out"]
    other = states.sel(level=500).atmo.downscale(2, model=model, level=500)
    assert float(np.abs(got.temp - other.temp).max()) > 1e-4


def test_vorticity_is_derived_from_winds(make_box_model, winds):
    field = {
        "name": "u",
        "quantity": "atmosphere_relative_vorticity",
        "units": "s-1",
        "levels": [{"level": "10 m", "slot": 0, "mean": [0.0], "std": [3e-5]}],
    }
    levels = (("10 m", 0),)
    said = {"fields": ("u",), "levels": levels, "finer": 2, "card": {"fields": [field]}}
    model = make_box_model("tiny-vorticity", **said)
    got = winds.atmo.downscale(2, model=model)
    assert list(got) == ["atmosphere_relative_vorticity"]
    vorticity = got["atmosphere_relative_vorticity"]
    assert vorticity.attrs["units"] == "s-1"
    assert vorticity.attrs["standard_name"] == "atmosphere_relative_vorticity"
    assert "derived from u10, v10" in got.attrs["comment"]
    # Of quantities of any size, memory is told as well.
    assert xatmo.memory_estimate(winds, "downscale", 2, model=model).peak > 4e8


def test_constants_of_months(make_box_model, winds):
    model = make_box_model("tiny-months", monthly=True, finer=2)
    times = pd.date_range("2020-01-31", periods=5, freq="6h")
    ds = winds.assign_coords(time=times)
    got = ds.atmo.downscale(2, model=model)
    np.testing.assert_allclose(_means(got).u10, ds.u10, atol=2e-5)
    _same(ds.chunk(time=2).atmo.downscale(2, model=model).compute(), got)


def test_constants_of_places_are_those_of_the_cell(model):
    """So that means of cells are kept, on a globe whose polar rows are cut."""
    axes = (np.arange(90.0, -90.1, -2.0), np.arange(0.0, 360.0, 2.0))
    globe = synthetic_winds(6, *axes)
    fitted = xatmo.fit_normalization(globe, model, local=True)
    local = model.with_normalization(fitted)
    ds = globe.isel(time=[0])
    got = ds.atmo.downscale(2, model=local)
    inner = _means(got.isel(latitude=slice(1, -1)).astype("f8"))
    np.testing.assert_allclose(inner.u10, ds.u10[:, 1:-1], atol=5e-5)
    assert "given by the user" in got.attrs["comment"]
    lazy = ds.chunk(latitude=40).atmo.downscale(2, model=local)
    _same(lazy.compute(), got)


def test_members_of_the_input_are_kept(winds, model, fine):
    ds = winds.expand_dims(member=[4, 9], axis=1)
    got = ds.atmo.downscale(2, 3, model=model)
    assert got.u10.dims == ("realization", "time", "member", "latitude", "longitude")
    for member in (4, 9):
        np.testing.assert_allclose(got.u10.sel(member=member), fine.u10, atol=1e-5)
    as_realization = ds.rename(member="realization")
    one = as_realization.atmo.downscale(2, model=model)
    assert one.u10.dims == ("time", "realization", "latitude", "longitude")
    assert one.realization.values.tolist() == [4, 9]
    with pytest.raises(errors.FieldError, match=r"(?s)'realization'.*rename\(realiz"):
        as_realization.atmo.downscale(2, 2, model=model)
    scalar = as_realization.isel(realization=1).atmo.downscale(2, 2, model=model)
    assert scalar.realization.values.tolist() == [0, 1]


def test_bounds_follow(winds, model):
    ds = winds.copy()
    ds["lat_bnds"] = ("latitude", "bnds"), np.stack([LATITUDE + 0.5, LATITUDE - 0.5], 1)
    ds.latitude.attrs["bounds"] = "lat_bnds"
    ends = np.stack([ds.time.values] * 2, 1)
    ds["time_bnds"] = (("time", "bnds"), ends)
    ds.time.attrs["bounds"] = "time_bnds"
    got = ds.atmo.downscale(2, model=model)
    np.testing.assert_allclose(got.lat_bnds.mean("bnds"), got.latitude)
    assert got.time.attrs["bounds"] == "time_bnds"
    np.testing.assert_array_equal(got.time_bnds, ends)


def test_says_what_was_done(winds, model):
    got = winds.assign_attrs(history="made").atmo.downscale(2, 2, model=model)
    for attrs in (got.attrs, got.u10.attrs):
        assert attrs["xatmo_model_sha256"] == model.card.weights.sha256
        assert (attrs["xatmo_factor"], attrs["xatmo_realizations"]) == (2, 2)
        assert attrs["level"] == "10 m"
        assert attrs["fields_used"] == "u at 10 m, v at 10 m"
        first, last = attrs["history"].split("\n")
        assert first == "made"
        assert "downscale(model='tiny-finer', factor=2, realizations=2" in last
    skill = {"data": ["week.nc"], "units": "m s-1", "rmse": 0.5}
    assert json.loads(got.attrs["skill"]) == skill


def test_a_job_writes_the_same(winds, model, fine, tmp_path):
    from xatmo.cli import main

    winds.to_netcdf(tmp_path / "in.nc")
    out = tmp_path / "fine.zarr"
    command = ["downscale", str(tmp_path / "in.nc"), str(out), "--model", "tiny-finer"]
    options = ["--factor", "2", "--realizations", "3", "--chunks", "time=2"]
    assert main([*command, *options]) == 0
    with xr.open_zarr(out) as again:
        _same(again[["u10", "v10"]].load(), fine)


def test_the_summary_and_the_model_say_so(winds, model):
    said = repr(winds.isel(time=slice(None, None, 2)).atmo)
    assert ".downscale()" in said.split("tiny-finer")[1].split("\n")[0]
    told = repr(model)
    assert "2 times" in told
    assert "forecasts" not in told


def test_memory_is_told(winds, model):
    few, many = (
        xatmo.memory_estimate(
            winds.chunk(time=n), "downscale", 2, realizations=3, model=model
        )
        for n in (1, 5)
    )
    assert 0 < few.work == many.work
    assert many.written == 5 * few.written
    # All variables of a time, twice: as they are, and as they are handed on.
    assert few.written == 2 * 2 * 3 * 36 * 44 * 4


# --- Missing values -------------------------------------------------------------------


def test_missing_values_raise_and_name_infill(winds, model):
    ds = winds.copy(deep=True)
    ds["u10"][1, 5, 5] = np.nan
    match = r"(?s)NaN.*in u10:.*ds\.atmo\.infill\(\).*set_options"
    with pytest.raises(errors.MissingValuesError, match=match):
        ds.atmo.downscale(2, model=model)
    lazy = ds.chunk(time=1).atmo.downscale(2, model=model)
    with pytest.raises(errors.MissingValuesError, match=match):
        lazy.compute()
    later = lazy.isel(time=[0, 2, 3]).compute()  # a gap before is only unknown
    assert np.isfinite(later.to_dataarray()).all()


@pytest.mark.parametrize("conserve", [False, True])
def test_missing_values_propagate_to_their_cells(winds, model, conserve):
    ds = winds.copy(deep=True)
    ds["u10"][1, 5, 5] = np.nan
    ds["v10"][2] = np.nan
    with xatmo.set_options(missing="propagate"):
        got = ds.atmo.downscale(2, 2, conserve, model)
        lazy = ds.chunk(time=2, latitude=9).atmo.downscale(2, 2, conserve, model)
    for name in ds:
        gone = np.isnan(ds[name].values).repeat(2, -1).repeat(2, -2)
        np.testing.assert_array_equal(np.isnan(got[name]), np.stack([gone] * 2))
    _same(lazy.compute(), got)


def test_gaps_of_what_is_only_read_are_no_harm(make_box_model, states):
    network = {"predicted": ["u", "v"]}
    said = {"fields": FIELDS, "finer": 2, "network": network}
    model = make_box_model("tiny-reads-more", **said)
    ds = states.copy(deep=True)
    ds["temp"][:, :, :9] = np.nan
    got = ds.atmo.downscale(2, model=model)
    assert list(got) == ["ua", "va"]
    assert np.isfinite(got.to_dataarray()).all()
    with pytest.raises(errors.FieldNotFoundError, match=r"(?s)none.*refines.*temp"):
        ds[["temp"]].atmo.downscale(2, model=model)


# --- Bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"factor": 4}, r"(?s)tiny-finer does not refine by a factor of 4.*factor=2"),
        ({"factor": 1}, r"(?s)factor cannot be 1.*at least 2"),
        ({"factor": 2, "realizations": 4}, r"(?s)ensemble of 3.*=4.*1 to 3.*=3, mod"),
        ({"factor": 2, "realizations": 0}, r"(?s)realizations cannot be 0"),
        ({"factor": 2, "conserve": 1}, r"(?s)conserve is yes or no"),
    ],
)
def test_arguments_that_cannot_be(winds, model, arguments, match):
    with pytest.raises(errors.OptionError, match=match):
        winds.atmo.downscale(model=model, **arguments)


def test_data_that_cannot_be_read(winds, states, model):
    def refused(error, match, ds, **said):
        with pytest.raises(error, match=match):
            ds.atmo.downscale(2, model=model, **said)

    refused(errors.GridError, r"(?s)too small.*3 x 22", winds.isel(latitude=slice(3)))
    wide = winds.assign_coords(latitude=60 - 4 * np.arange(18.0))
    wide = wide.assign_coords(longitude=4 * np.arange(22.0))
    refused(errors.GridError, r"(?s)too coarse for tiny-finer", wide)
    near = winds.assign_coords(latitude=60 - np.arange(18) / 2)
    near = near.assign_coords(longitude=np.arange(22) / 2)
    refused(errors.GridError, r"(?s)as fine already as what tiny-finer makes", near)
    other = winds.rename(u10="pr").drop_vars("v10")
    other["pr"].attrs = {"units": "mm", "standard_name": "precipitation_amount"}
    refused(errors.FieldNotFoundError, "none of the fields", other)
    refused(errors.LevelError, "no level that", states.sel(level=[300]))
    refused(errors.LevelError, "does not know", states, level=300)
    refused(errors.TimeAxisError, "when the fields are", winds.drop_vars("time"))


def test_a_model_that_only_downscales_does_nothing_else(winds, model):
    with pytest.raises(errors.ModelNotFoundError, match="cannot forecast"):
        winds.atmo.forecast(model=model)
    with pytest.raises(errors.ModelNotFoundError, match="cannot downscale"):
        winds.atmo.downscale(model="multiformer-small")


# --- Cards ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "match"),
    [
        ({"downscale": {"factor": 4}}, r"the factor of \[network\], finer = 2"),
        ({"capabilities": ["downscale", "infill"]}, "'downscale' alone"),
        ({"capabilities": ["infill"]}, "'downscale' alone"),
        (
            {"downscale": {"factor": 2, "statics": ["land_area_fraction"]}},
            "no statics",
        ),
    ],
)
def test_cards_say_what_tails_do(make_box_model, card, match):
    with pytest.raises(errors.CardError, match=match):
        make_box_model("tiny-wrong", finer=2, card=card)


def test_a_card_without_finer_tails_cannot_downscale(make_box_model):
    wrong = {"capabilities": ["downscale"], "downscale": {"factor": 2}}
    with pytest.raises(errors.CardError, match="finer = 1"):
        make_box_model("tiny-plain-boxes", card=wrong)
