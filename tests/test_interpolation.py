"""interpolate_time(): what is known stays, what is between, and every bad input."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import cftime
import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.fields import vorticity_divergence
from xatmo.testing import count_forwards, raise_if_computes, synthetic_winds

_REGION = (np.arange(50.0, 40.0, -1.0), np.arange(350.0, 364.0))


@pytest.fixture(scope="module")
def model(make_box_model):
    return make_box_model("tiny-between", monthly=True)


@pytest.fixture(scope="module")
def coarse():
    """Five times, 12 hours apart."""
    return synthetic_winds(5, *_REGION, step_hours=12)


@pytest.fixture(scope="module")
def fine(coarse, model):
    return coarse.atmo.interpolate_time("6h", model)


def _canonical(da):
    da = da.assign_coords(longitude=da.longitude % 360)
    da = da.sortby("latitude", ascending=False).sortby("longitude")
    return da.transpose("time", "latitude", "longitude")


def _levels(ds, *levels):
    """The same winds at pressure levels."""
    along = xr.DataArray(list(levels), dims="level", attrs={"units": "hPa"})
    several = ds.rename(u10="u", v10="v").expand_dims(level=along, axis=1)
    return several * (1 + 0.1 * np.arange(len(levels)))[None, :, None, None]


# --- What comes back ------------------------------------------------------------------


def test_times_values_and_spread(fine, coarse):
    assert list(fine) == ["u10", "v10", "u10_spread", "v10_spread"]
    assert fine.u10.dims == ("time", "latitude", "longitude")
    assert fine.sizes["time"] == 9
    assert (np.diff(fine.time) == np.timedelta64(6, "h")).all()
    for name in ("u10", "v10"):
        known = fine.sel(time=coarse.time)
        np.testing.assert_array_equal(known[name], coarse[name])
        assert (known[f"{name}_spread"] == 0).all()
        new = fine.isel(time=slice(1, None, 2))
        assert np.isfinite(new[name]).all()
        assert (new[f"{name}_spread"] > 0).all()
        assert fine[name].dtype == fine[f"{name}_spread"].dtype == np.float32


def test_attributes(fine, model):
    assert fine.u10.attrs["units"] == fine.u10_spread.attrs["units"] == "m s-1"
    assert fine.u10.attrs["standard_name"] == "eastward_wind"
    said = fine.u10_spread.attrs
    assert said["cell_methods"] == "realization: standard_deviation"
    assert said["long_name"].startswith("standard deviation of the ensemble")
    for attrs in (fine.attrs, fine.u10.attrs):
        assert attrs["fields_used"] == "u at 10 m, v at 10 m"
        assert "times every 12 h from the first on are those of" in attrs["comment"]
        assert "means of 3 members" in attrs["comment"]
        assert "interpolate_time(model='tiny-between', freq='6h'" in attrs["history"]
        assert model.card.weights.sha256 in attrs["history"]


def test_is_the_network_on_normalised_fields(make_box_model):
    """One box: the same numbers by hand, with the constants of each month."""
    import torch

    model = make_box_model("tiny-hand-between", monthly=True)
    ds = synthetic_winds(2, np.arange(40.0, 32.0, -1.0), np.arange(10.0, 18.0))
    times = np.array(["2020-01-31T12", "2020-02-01T00"], "datetime64[ns]")
    ds = ds.assign_coords(time=times)
    got = ds.atmo.interpolate_time("6h", model)
    x = np.full((2, 4, 8, 8), np.nan)
    # January: mean 0, std 8; February: mean 0.16, std 8.16.
    x[:, 0] = [ds.u10.values[0] / 8, ds.v10.values[0] / 8]
    x[:, 2] = [(v.values[1] - 0.16) / 8.16 for v in (ds.u10, ds.v10)]
    when = [[2020, 30, 12], [2020, 30, 18], [2020, 31, 0], [2020, 31, 6]]
    with torch.inference_mode():
        said = model.network().predict(
            torch.from_numpy(x.astype(np.float32))[None],
            torch.tensor([when]).float(),
            torch.tensor(ds.latitude.values[None]).float(),
            torch.tensor(ds.longitude.values[None]).float(),
            1.0,
            present=(("u", (0,)), ("v", (0,))),
        )[0, :, :, 1]
    for name, members in zip(("u10", "v10"), said.unbind(1), strict=True):
        members = 8.0 * members.numpy()
        np.testing.assert_allclose(got[name][1], members.mean(0), atol=1e-4)
        spread = members.std(0, ddof=1)
        np.testing.assert_allclose(got[f"{name}_spread"][1], spread, atol=1e-4)


def test_without_spread(coarse, fine, model):
    got = coarse.atmo.interpolate_time("6h", model, spread=False)
    assert list(got) == ["u10", "v10"]
    np.testing.assert_array_equal(got.u10, fine.u10)


@pytest.mark.parametrize("freq", [dt.timedelta(hours=6), np.timedelta64(6, "h")])
def test_lengths_of_time(coarse, fine, model, freq):
    np.testing.assert_array_equal(
        coarse.atmo.interpolate_time(freq, model).u10, fine.u10
    )


def test_from_days(make_box_model):
    """Four steps between: windows that begin with a time of the data hold two."""
    model = make_box_model("tiny-days", box=(6, 8, 8))
    ds = synthetic_winds(4, *_REGION, step_hours=24)
    six = ds.atmo.interpolate_time("6h", model)
    assert six.sizes["time"] == 13
    np.testing.assert_array_equal(six.u10[::4], ds.u10)
    assert (six.u10_spread.isel(time=[1, 2, 3]) > 0).all()
    twelve = ds.atmo.interpolate_time("12h", model)
    np.testing.assert_array_equal(twelve.time, six.time[::2])
    np.testing.assert_allclose(twelve.u10, six.u10[::2], atol=1e-6)
    with count_forwards() as forwards:
        ds.atmo.interpolate_time("12h", model)
    assert forwards.fields == 3 * 6  # three windows of six boxes


def test_each_time_is_between_two_that_a_window_knows(coarse, fine, model):
    """What is further away than a box has no part in a time."""
    other = coarse.copy(deep=True)
    other.u10[4] += 5
    got = other.atmo.interpolate_time("6h", model)
    same = (got.u10 == fine.u10).all(("latitude", "longitude")).values
    np.testing.assert_array_equal(same, [True] * 7 + [False, False])


def test_a_multiple_of_the_step(make_box_model):
    model = make_box_model("tiny-long", box=(8, 8, 8))
    ds = synthetic_winds(3, *_REGION, step_hours=36)
    assert ds.atmo.interpolate_time("18h", model).sizes["time"] == 5
    twelve = ds.atmo.interpolate_time("12h", model)
    assert twelve.sizes["time"] == 7
    np.testing.assert_array_equal(twelve.u10[::3], ds.u10)


def test_the_summary_says_how_it_is_called(coarse, model):
    assert ".interpolate_time()" in repr(synthetic_winds(3, *_REGION).atmo)


# --- In the user's form ---------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.isel(latitude=slice(None, None, -1)),
        lambda ds: ds.assign_coords(longitude=(ds.longitude + 180) % 360 - 180),
        lambda ds: ds.isel(longitude=slice(None, None, -1)),
        lambda ds: ds.transpose("longitude", "time", "latitude"),
        lambda ds: ds.astype(np.float64),
        lambda ds: ds.astype(">f4"),
    ],
)
def test_orientation_order_and_type(coarse, fine, model, change):
    ds = change(coarse)
    got = ds.atmo.interpolate_time("6h", model)
    assert got.u10.dims == ds.u10.dims
    assert got.u10.dtype == ds.u10.dtype.newbyteorder("=")
    xr.testing.assert_identical(got.longitude.drop_attrs(), ds.longitude.drop_attrs())
    np.testing.assert_array_equal(got.latitude, ds.latitude)
    known = got.u10.sel(time=ds.time)
    np.testing.assert_array_equal(known, ds.u10)
    for name in fine:
        a, b = _canonical(got[name]), _canonical(fine[name])
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_units_and_names(coarse, fine, model):
    ds = (coarse * 3.6).rename(u10="U10M", latitude="lat", time="t")
    for name in ("U10M", "v10"):
        ds[name].attrs = {"units": "km/h", "long_name": "10 metre wind component"}
    ds["U10M"].attrs["standard_name"] = "eastward_wind"
    ds = ds.assign_coords(height=10.0).drop_vars("v10")
    got = ds.atmo.interpolate_time("6h", model)
    assert list(got) == ["U10M", "U10M_spread"]
    assert got.U10M.dims == ("t", "lat", "longitude")
    assert got.U10M.attrs["units"] == got.U10M_spread.attrs["units"] == "km/h"
    np.testing.assert_array_equal(got.U10M[::2], ds.U10M)
    only = coarse[["u10"]].atmo.interpolate_time("6h", model)
    np.testing.assert_allclose(got.U10M, 3.6 * only.u10, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(got.U10M_spread, 3.6 * only.u10_spread, rtol=1e-3)


def test_degrees_celsius(make_box_model):
    """A spread in °C has no offset."""
    model = make_box_model("tiny-warm", fields=("t",))
    u = synthetic_winds(2, *_REGION, step_hours=12).u10
    kelvin = (u + 280).assign_attrs(units="K", standard_name="air_temperature")
    kelvin = kelvin.rename("t").assign_coords(pressure_level=850.0)
    celsius = (kelvin - 273.15).assign_attrs(kelvin.attrs, units="degC")
    k, c = (da.atmo.interpolate_time("6h", model) for da in (kelvin, celsius))
    np.testing.assert_allclose(c.t + 273.15, k.t, atol=1e-3)
    np.testing.assert_allclose(c.t_spread, k.t_spread, atol=1e-4)
    assert c.t_spread.attrs["units_metadata"] == "temperature: difference"


def test_levels(coarse, model):
    ds = _levels(coarse, 1000, 850, 500, 250)
    got = ds.atmo.interpolate_time("6h", model)
    assert got.u.dims == ("time", "level", "latitude", "longitude")
    assert got.level.values.tolist() == [850, 500]
    np.testing.assert_array_equal(got.u[::2], ds.u.sel(level=[850, 500]))
    one = ds.atmo.interpolate_time("6h", model, level=850)
    assert one.u.dims == ("time", "latitude", "longitude")
    np.testing.assert_array_equal(one.u[::2], ds.u.sel(level=850))
    last = ds.transpose("level", ...).atmo.interpolate_time("6h", model)
    np.testing.assert_array_equal(last.u.transpose(*got.u.dims), got.u)


def test_members_of_the_user(coarse, fine, model):
    ds = xr.concat([coarse, coarse * 0.5], "number").assign_coords(number=[3, 4])
    got = ds.transpose("time", "number", ...).atmo.interpolate_time("6h", model)
    assert got.u10.dims == ("time", "number", "latitude", "longitude")
    assert got.number.values.tolist() == [3, 4]
    np.testing.assert_allclose(got.u10.isel(number=0), fine.u10, atol=1e-5)


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_calendars(coarse, model, calendar):
    times = xr.date_range(
        "2000-02-28", periods=5, freq="12h", calendar=calendar, use_cftime=True
    )
    got = coarse.assign_coords(time=times).atmo.interpolate_time("6h", model)
    expected = xr.date_range(
        "2000-02-28", periods=9, freq="6h", calendar=calendar, use_cftime=True
    )
    assert got.time.values.tolist() == expected.values.tolist()
    assert isinstance(got.time.values[0], cftime.datetime)
    assert np.isfinite(got.u10).all()


def test_other_coordinates(coarse, fine, model):
    """More of them along time, and some that do not change."""
    ds = coarse.rename(time="t").assign_coords(
        age=("t", np.arange(5) * np.timedelta64(12, "h")),
        season=("t", list("abcde")),
        land=(("latitude", "longitude"), np.ones((10, 14))),
    )
    got = ds.atmo.interpolate_time("6h", model)
    np.testing.assert_array_equal(got.t, fine.time)
    np.testing.assert_array_equal(got.age, np.arange(9) * np.timedelta64(6, "h"))
    assert got.age.dims == ("t",)
    np.testing.assert_array_equal(got.land, ds.land)
    assert "season" not in got.coords
    np.testing.assert_array_equal(got.u10, fine.u10)
    lazy = ds.assign_coords(age=ds.age.chunk(t=2)).chunk(t=2)
    with raise_if_computes():
        lazy.atmo.interpolate_time("6h", model)


def test_goes_to_netcdf_and_back(coarse, model, tmp_path):
    """Though times in whole half days, as in the file, would not do for the result."""
    packed = {"time": {"units": "days since 2020-01-01T12", "dtype": "f8"}}
    coarse.to_netcdf(tmp_path / "a.nc", encoding=packed)
    with xr.open_dataset(tmp_path / "a.nc") as ds:
        got = ds.atmo.interpolate_time("6h", model)
    got.to_netcdf(tmp_path / "b.nc")
    with xr.open_dataset(tmp_path / "b.nc") as back:
        xr.testing.assert_equal(back, got)


def test_a_longitude_that_is_there_twice(model):
    globe = synthetic_winds(
        2, np.arange(87.0, -88.0, -2.0), np.arange(0.0, 360.0, 2.0), step_hours=12
    )
    twice = xr.concat([globe, globe.isel(longitude=[0])], "longitude")
    twice = twice.assign_coords(longitude=np.arange(0.0, 361.0, 2.0))
    ds = twice[["u10"]]
    got = ds.atmo.interpolate_time("6h", model)
    assert got.sizes["longitude"] == 181
    np.testing.assert_array_equal(got.longitude, ds.longitude)
    np.testing.assert_array_equal(got.u10[::2], ds.u10)
    np.testing.assert_array_equal(got.u10[..., 0], got.u10[..., -1])


# --- Derived fields -------------------------------------------------------------------


def test_fields_made_of_winds(make_box_model, coarse):
    model = make_box_model("tiny-vor", fields=("t",))
    card = model.card
    vorticity = replace(
        card.fields[0], quantity="atmosphere_relative_vorticity", units="s-1",
        levels=tuple(replace(lv, mean=0.0, std=3e-5) for lv in card.fields[0].levels),
    )  # fmt: skip
    model = replace(model, card=replace(card, fields=(vorticity,)))
    got = coarse.atmo.interpolate_time("6h", model)
    name = "atmosphere_relative_vorticity"
    assert list(got) == [name, f"{name}_spread"]
    own, _ = vorticity_divergence(coarse.u10, coarse.v10, periodic=False)
    np.testing.assert_allclose(got[name][::2], own, rtol=1e-4, atol=1e-9)


# --- Gaps -----------------------------------------------------------------------------


def test_gaps_stay(coarse, fine, model):
    ds = coarse.copy(deep=True)
    ds.u10[2, 3:6, 4:8] = np.nan  # once
    ds.u10[:, 8, 1] = np.nan  # always
    got = ds.atmo.interpolate_time("6h", model)
    known = got.sel(time=ds.time)
    np.testing.assert_array_equal(known.u10, ds.u10)
    np.testing.assert_array_equal(known.u10_spread.isnull(), ds.u10.isnull())
    assert np.isfinite(got.u10[[3, 5], 3:6, 4:8]).all()
    assert np.isnan(got.u10[:, 8, 1]).all()
    assert np.isnan(got.u10_spread[:, 8, 1]).all()
    assert np.isfinite(got.v10).all()


def test_a_lost_time(coarse, model):
    """As asfreq() gives it: it stays lost, what is beside it does not."""
    ds = coarse.isel(time=[0, 1, 3, 4]).resample(time="12h").asfreq()
    got = ds.atmo.interpolate_time("6h", model)
    assert got.sizes["time"] == 9
    lost = got.u10.isnull().all(("latitude", "longitude")).values
    np.testing.assert_array_equal(lost, np.arange(9) == 4)


# --- Lazy -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunks",
    [{"time": 1}, {"time": 2}, {"time": -1, "latitude": 3}, {"longitude": 5}],
)
def test_lazy_in_any_chunks(coarse, fine, model, chunks):
    with raise_if_computes():
        lazy = coarse.chunk(chunks).atmo.interpolate_time("6h", model)
    for name in fine:
        assert lazy[name].chunks is not None
        np.testing.assert_allclose(lazy[name], fine[name], atol=1e-5)


def test_chunks_grow_with_the_times(coarse, model):
    ds = coarse.chunk(time=2, latitude=4, longitude=7)
    got = ds.atmo.interpolate_time("6h", model)
    for name in got:
        assert got[name].chunks == ((4, 4, 1), (4, 4, 2), (7, 7))


def test_a_file(coarse, fine, model, tmp_path):
    coarse.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as ds:
        got = ds.atmo.interpolate_time("6h", model)
    np.testing.assert_array_equal(got.u10, fine.u10)


def test_real_winds(data, make_box_model):
    """Six-hourly winds of which every other time is taken away."""
    model = make_box_model("tiny-real-between", box=(4, 12, 12), token=(1, 6, 6))
    file = data / "test" / "gfs_uv10_global_1deg_6h_2018_michael.nc"
    with xr.open_dataset(file, chunks={}) as ds:
        region = {"latitude": slice(60, 75), "longitude": slice(260, 276)}
        six = ds.isel(time=slice(5), **region)
        twelve = six.isel(time=slice(None, None, 2))
        got = twelve.atmo.interpolate_time("6h", model).compute()
        names = [n for n in got if not n.endswith("_spread")]
        assert len(names) == 2
        for name in names:
            np.testing.assert_array_equal(got[name][::2], twelve[name])
            error = np.abs(got[name] - six[name]).max()
            assert 0 < error < 30


# --- Bad input ------------------------------------------------------------------------


def test_a_single_time(coarse, model):
    for one in (coarse.isel(time=0), coarse.isel(time=[0])):
        with pytest.raises(errors.TimeAxisError, match=r"(?s)single one.*forecast\("):
            one.atmo.interpolate_time("6h", model)


def test_times_that_are_irregular(coarse, model):
    ds = coarse.isel(time=[0, 1, 3, 4])
    match = r"(?s)not equally.*from 12 h to 24 h.*resample\(time=\"12h\"\)\.asfreq\(\)"
    with pytest.raises(errors.TimeAxisError, match=match):
        ds.atmo.interpolate_time("6h", model)


@pytest.mark.parametrize(
    ("step", "freq", "error", "match"),
    [
        (12, "3h", "OptionError", '(?s)no finer time step than 6 h.*freq="6h"'),
        (6, "3h", "OptionError", "(?s)no finer.*data every 12 h.*list_models"),
        (12, "12h", "OptionError", '(?s)have this time step already.*freq="6h"'),
        (6, "6h", "OptionError", r"(?s)have this time step already.*infill\(\)"),
        (18, "12h", "OptionError", '(?s)12 h does not divide.*one of 6 h.*freq="6h"'),
        (12, "24h", "OptionError", '(?s)24 h does not divide.*freq="6h"'),
        (12, "9h", "OptionError", '(?s)9 h does not divide.*freq="6h"'),
        (9, "6h", "TimeAxisError", '(?s)no multiple.*every 9 h.*resample.time="12h"'),
        (3, "6h", "TimeAxisError", "(?s)no multiple.*every 3 h.*12 h, 18 h"),
        (24, "6h", "TimeAxisError", "(?s)too far apart.*every 24 h.*18 h or less"),
        (12, "fast", "OptionError", "(?s)'fast' is no time step.*freq="),
        (12, 6, "OptionError", '(?s)6 is no time step.*freq="6h"'),
        (12, "0h", "OptionError", "(?s)longer than nothing.*freq="),
    ],
)
def test_steps_that_cannot_be(model, step, freq, error, match):
    ds = synthetic_winds(4, *_REGION, step_hours=step)
    with pytest.raises(getattr(errors, error), match=match):
        ds.atmo.interpolate_time(freq, model)


def test_other_bad_input(coarse, model):
    with pytest.raises(errors.OptionError, match="spread is yes or no"):
        coarse.atmo.interpolate_time("6h", model, spread="yes")
    with pytest.raises(errors.ModelNotFoundError, match="cannot interpolate"):
        coarse.atmo.interpolate_time("6h", "atmodist-small")
    with pytest.raises(errors.FieldNotFoundError, match="none of the fields"):
        coarse.rename(u10="a", v10="b").drop_attrs().atmo.interpolate_time("6h", model)
    with pytest.raises(errors.LevelError, match=r"850 hPa.*"):
        coarse.atmo.interpolate_time("6h", model, level=700)
