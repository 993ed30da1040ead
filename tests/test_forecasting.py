"""forecast(): what comes back, in whose form, and every bad input."""

from __future__ import annotations

import datetime as dt

import cftime
import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.testing import count_forwards, raise_if_computes, synthetic_winds

_REGION = (np.arange(50.0, 30.0, -1.0), np.arange(350.0, 372.0))


@pytest.fixture(scope="module")
def model(make_box_model):
    return make_box_model(monthly=True)


@pytest.fixture(scope="module")
def winds():
    return synthetic_winds(6, *_REGION)


@pytest.fixture(scope="module")
def known(winds, model):
    return winds.atmo.forecast("12h", model)


def _levels(ds, *levels):
    """The same winds at pressure levels."""
    several = ds.rename(u10="u", v10="v").expand_dims(level=list(levels), axis=1)
    several = several * (1 + 0.1 * np.arange(len(levels)))[None, :, None, None]
    several.level.attrs = {"units": "hPa"}
    return several


def _canonical(da):
    da = da.assign_coords(longitude=da.longitude % 360)
    da = da.sortby("latitude", ascending=False).sortby("longitude")
    return da.transpose("member", "time", "lead_time", "latitude", "longitude")


# --- What comes back ------------------------------------------------------------------


def test_members_times_and_leads(known, winds):
    assert known.u10.dims == ("member", "time", "lead_time", "latitude", "longitude")
    assert known.u10.shape == (3, 5, 2, 20, 22)
    assert list(known) == ["u10", "v10"]
    assert np.isfinite(known.u10).all()
    assert float(known.u10.std("member").mean()) > 0.01
    # Two times of history, of which the start is one.
    np.testing.assert_array_equal(known.time, winds.time[1:])
    assert known.lead_time.dtype == "timedelta64[ns]"
    assert known.lead_time.attrs["standard_name"] == "forecast_period"
    assert known.time.attrs["standard_name"] == "forecast_reference_time"
    expected = known.time + known.lead_time
    np.testing.assert_array_equal(known.valid_time, expected)
    assert known.valid_time.dims == ("time", "lead_time")


def test_attributes_say_what_was_used(known, model):
    assert known.u10.attrs["units"] == "m s-1"
    assert known.u10.attrs["standard_name"] == "eastward_wind"
    assert known.attrs["fields_used"] == "u at 10 m, v at 10 m"
    assert known.attrs["fields_left_out"].startswith("u at 850 hPa, u at 500 hPa")
    assert "less certain without them" in known.attrs["comment"]
    assert model.card.weights.sha256 in known.attrs["history"]
    assert "forecast(" in known.attrs["history"]


def test_is_the_network_on_normalised_fields(make_box_model):
    """One box, one time: the same numbers by hand, with the constants of each month."""
    import torch

    model = make_box_model("tiny-hand", fields=("u", "v"), monthly=True)
    ds = synthetic_winds(2, np.arange(40.0, 32.0, -1.0), np.arange(10.0, 18.0))
    start = np.array(["2020-01-31T12", "2020-01-31T18"], "datetime64[ns]")
    ds = ds.assign_coords(time=start)
    got = ds.atmo.forecast("12h", model)
    x = np.stack([ds.u10.values, ds.v10.values]) / 8.0  # of January: mean 0, std 8
    x = np.concatenate([x, np.full_like(x, np.nan)], 1)[None]
    when = [[2020, 30, 12], [2020, 30, 18], [2020, 31, 0], [2020, 31, 6]]
    with torch.inference_mode():
        said = model.network().predict(
            torch.from_numpy(x.astype(np.float32)),
            torch.tensor([when]).float(),
            torch.tensor(ds.latitude.values[None]).float(),
            torch.tensor(ds.longitude.values[None]).float(),
            1.0,
            frames=2,
            present=(("u", (0,)), ("v", (0,))),
        )[0]
    # February: mean 0.16, std 8.16.
    expected = said.numpy() * 8.16 + 0.16
    np.testing.assert_allclose(got.u10[:, 0], expected[:, 0], atol=1e-4)
    np.testing.assert_allclose(got.v10[:, 0], expected[:, 1], atol=1e-4)


def test_mean_and_spread(known, winds, model):
    both = winds.atmo.forecast("12h", model, members=False)
    assert list(both) == ["u10", "v10", "u10_spread", "v10_spread"]
    assert both.u10.dims == ("time", "lead_time", "latitude", "longitude")
    np.testing.assert_allclose(both.u10, known.u10.mean("member"), atol=1e-4)
    spread = known.u10.std("member", ddof=1)
    np.testing.assert_allclose(both.u10_spread, spread, atol=1e-4)
    assert both.u10_spread.attrs["cell_methods"] == "realization: standard_deviation"


def test_a_list_of_leads(winds, model, known):
    one = winds.atmo.forecast(["12h"], model)
    assert one.lead_time.values == [np.timedelta64(12, "h")]
    np.testing.assert_allclose(one.u10, known.u10.isel(lead_time=[1]), atol=1e-6)
    lead = np.timedelta64(12, "h")
    xr.testing.assert_allclose(winds.atmo.forecast(lead, model), known)


def test_short_leads_take_more_history(winds, model):
    assert winds.atmo.forecast("6h", model).sizes["time"] == 4


def test_beyond_what_is_forecast_at_once(winds, model, known):
    """The first leads are the same; later ones are of members that go on."""
    few = winds.isel(latitude=slice(8), longitude=slice(8))
    long = few.atmo.forecast("30h", model)
    assert long.sizes["lead_time"] == 5
    short = few.atmo.forecast("12h", model)
    np.testing.assert_allclose(long.u10[:, :, :2], short.u10, atol=1e-5)
    assert np.isfinite(long.u10).all()
    last = few.atmo.forecast(["30h"], model, members=False)
    spread = long.u10.std("member", ddof=1).isel(lead_time=[4])
    np.testing.assert_allclose(last.u10_spread, spread, atol=1e-4)


# --- In the user's form ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "dims"),
    [
        (
            ("longitude", "time", "latitude"),
            ("member", "longitude", "time", "lead_time", "latitude"),
        ),
        (
            ("latitude", "longitude", "time"),
            ("member", "latitude", "longitude", "time", "lead_time"),
        ),
    ],
)
def test_order_orientation_and_longitudes(winds, model, known, order, dims):
    ds = winds.transpose(*order).isel(latitude=slice(None, None, -1))
    ds = ds.assign_coords(longitude=(ds.longitude + 180) % 360 - 180)
    fc = ds.atmo.forecast("12h", model)
    assert fc.u10.dims == dims
    np.testing.assert_array_equal(fc.latitude, ds.latitude)
    np.testing.assert_array_equal(fc.longitude, ds.longitude)
    np.testing.assert_allclose(_canonical(fc.u10), _canonical(known.u10), atol=1e-5)


# As users cut times, and as the five of them that are forecast from are cut then.
_CHUNKS = [
    ({"time": 1}, (1, 1, 1, 1, 1)),
    ({"time": (1, 4, 1), "latitude": 7, "longitude": 5}, (1, 4)),
    ({"time": 6, "latitude": (3, 17)}, (5,)),
    ({"time": (2, 4), "longitude": (21, 1)}, (2, 3)),
    ({}, (5,)),
]


@pytest.mark.parametrize(("chunks", "times"), _CHUNKS, ids=str)
def test_any_chunks_give_the_same(winds, model, known, chunks, times):
    with raise_if_computes(), count_forwards() as counted:
        lazy = winds.chunk(chunks).atmo.forecast("12h", model)
    assert counted.calls == 0
    for dim in ("latitude", "longitude"):
        assert lazy.chunksizes[dim] == winds.chunk(chunks).chunksizes[dim]
    assert lazy.chunksizes["time"] == times
    got = lazy.compute(scheduler="threads")
    for name in ("u10", "v10"):
        np.testing.assert_allclose(got[name], known[name], rtol=0, atol=1e-5)
        assert got[name].attrs == known[name].attrs | {
            "history": got[name].attrs["history"]
        }


def test_same_call_same_name(winds, model):
    ds = winds.chunk(time=2)
    names = [
        ds.atmo.forecast(lead, model).u10.data.name for lead in ("6h", "6h", "12h")
    ]
    assert names[0] == names[1] != names[2]


def test_double_precision_comes_back_double(winds, model, known):
    fc = winds.astype("float64").atmo.forecast("12h", model)
    assert fc.u10.dtype == np.float64
    np.testing.assert_allclose(fc.u10, known.u10, atol=1e-4)


def test_units_of_the_user(winds, model, known):
    ds = winds * 3.6
    ds.u10.attrs = ds.v10.attrs = {"units": "km/h"}
    fc = ds.atmo.forecast("12h", model)
    assert fc.u10.attrs["units"] == "km/h"
    np.testing.assert_allclose(fc.u10, known.u10 * 3.6, atol=1e-3)
    both = ds.atmo.forecast("12h", model, members=False)
    spread = 3.6 * known.u10.std("member", ddof=1)
    np.testing.assert_allclose(both.u10_spread, spread, atol=1e-3)


def test_celsius_has_no_offset_in_its_spread(make_box_model, winds):
    model = make_box_model("tiny-t", fields=("t",), levels=(("850 hPa", 0),))
    kelvin = (winds.u10 + 270).rename("t850").to_dataset()
    kelvin.t850.attrs["units"] = "K"
    celsius = kelvin - 273.15
    celsius.t850.attrs["units"] = "degC"
    a, b = (ds.atmo.forecast("6h", model, members=False) for ds in (kelvin, celsius))
    np.testing.assert_allclose(a.t850 - 273.15, b.t850, atol=1e-3)
    np.testing.assert_allclose(a.t850_spread, b.t850_spread, atol=1e-3)
    assert b.t850_spread.attrs["units_metadata"] == "temperature: difference"


def test_levels_in_the_users_order(winds, model):
    ds = _levels(winds, 500, 850)
    fc = ds.atmo.forecast("12h", model)
    assert fc.u.dims == (
        "member",
        "time",
        "lead_time",
        "level",
        "latitude",
        "longitude",
    )
    assert fc.level.values.tolist() == [500, 850]
    assert fc.level.attrs == {"units": "hPa"}
    several = xr.Dataset(
        {f"{n}{p}": ds[n].sel(level=p, drop=True) for n in "uv" for p in (850, 500)}
    )
    for name in several:
        several[name].attrs["units"] = "m s-1"
    apart = several.atmo.forecast("12h", model)
    assert set(apart) == {"u850", "u500", "v850", "v500"}
    np.testing.assert_allclose(apart.u500, fc.u.sel(level=500), atol=1e-5)
    np.testing.assert_allclose(apart.v850, fc.v.sel(level=850), atol=1e-5)


def test_some_levels(winds, model):
    ds = _levels(winds, 500, 850, 250)  # the model does not know 250 hPa
    fc = ds.atmo.forecast("12h", model)
    assert fc.level.values.tolist() == [500, 850]
    one = ds.atmo.forecast("12h", model, level=850)
    assert "level" not in one.u.dims
    assert one.attrs["fields_used"] == "u at 850 hPa, v at 850 hPa"
    assert ds.atmo.forecast("12h", model, level=[850]).u.sizes["level"] == 1


def test_levels_that_share_a_slot(winds, model):
    """The first of the card's that is there counts."""
    ds = winds.copy()
    ds["u950"] = ds.u10.assign_attrs(comment="sigma level 0.95", units="m s-1")
    assert ds.atmo.forecast("6h", model).attrs["fields_used"] == "u at 10 m, v at 10 m"
    only = ds[["u950"]].atmo.forecast("6h", model)
    assert only.attrs["fields_used"] == "u at sigma 0.95"
    assert list(only) == ["u950"]


def test_one_field_is_enough(winds, model):
    fc = winds[["v10"]].atmo.forecast("6h", model)
    assert list(fc) == ["v10"]
    assert "u at 10 m" in fc.attrs["fields_left_out"]


def test_data_that_name_no_level(winds, model, known):
    ds = winds.rename(u10="u", v10="v")
    for name in ds:
        ds[name].attrs = {"units": "m s-1"}
    with pytest.raises(errors.LevelError, match=r'(?s)do not say.*level="10 m"'):
        ds.atmo.forecast("12h", model)
    fc = ds.atmo.forecast("12h", model, level="10 m")
    np.testing.assert_allclose(fc.u, known.u10, atol=1e-6)
    assert "taken as 10 m as asked" in fc.attrs["comment"]


def test_ensembles_of_data(winds, model, known):
    ds = xr.concat([winds, 0.5 * winds], dim="number").assign_coords(number=[3, 5])
    for lazy in (ds, ds.chunk(number=1, time=2)):
        fc = lazy.atmo.forecast("12h", model)
        assert fc.u10.dims[:2] == ("member", "number")
        assert fc.number.values.tolist() == [3, 5]
        got = fc.u10.sel(number=3).transpose(*known.u10.dims)
        np.testing.assert_allclose(got, known.u10, atol=1e-5)


def test_missing_times_are_unknown(winds, model, known):
    ds = winds.isel(time=[0, 1, 2, 4, 5])
    fc = ds.atmo.forecast("12h", model)
    np.testing.assert_array_equal(fc.time, ds.time[1:])
    same = {"time": known.time[[0, 1]]}
    np.testing.assert_allclose(fc.u10.sel(same), known.u10.sel(same), atol=1e-5)
    gap = winds.where(winds.time != winds.time[3]).atmo.forecast("12h", model)
    last = ds.time[3]
    np.testing.assert_allclose(fc.u10.sel(time=last), gap.u10.sel(time=last), atol=1e-5)
    lazy = ds.chunk(time=2).atmo.forecast("12h", model).compute()
    np.testing.assert_allclose(lazy.u10, fc.u10, atol=1e-5)


def test_missing_values_are_unknown(winds, model, known):
    ds = winds.copy(deep=True)
    ds.u10[2, 3, 3] = np.nan
    fc = ds.atmo.forecast("12h", model)
    assert np.isfinite(fc.u10).all()
    changed = abs(fc.u10 - known.u10).max(["member", "lead_time"]) > 1e-6
    assert changed.isel(time=slice(1, 3)).any(["latitude", "longitude"]).all()
    assert not changed.isel(time=slice(3, None)).any()


def test_calendars_without_leap_days(winds, model, known):
    start = cftime.DatetimeNoLeap(2019, 12, 31, 18)
    times = [start + dt.timedelta(hours=6 * i) for i in range(6)]
    ds = winds.assign_coords(time=xr.CFTimeIndex(times))
    fc = ds.atmo.forecast("12h", model)
    assert fc.valid_time.values[0, 1] == cftime.DatetimeNoLeap(2020, 1, 1, 12)
    same = winds.assign_coords(time=winds.time - np.timedelta64(6, "h"))
    expected = same.atmo.forecast("12h", model)
    np.testing.assert_allclose(fc.u10, expected.u10, atol=1e-5)


def test_times_called_valid_time(winds, model, known):
    fc = winds.rename(time="valid_time").atmo.forecast("12h", model)
    assert fc.u10.dims == known.u10.dims
    xr.testing.assert_allclose(fc, known)


def test_a_single_time_is_enough_where_all_others_are_forecast(winds, make_box_model):
    model = make_box_model("tiny-ahead", ahead=3)
    one = winds.isel(time=0)
    fc = one.atmo.forecast("18h", model)
    assert fc.u10.dims == ("member", "lead_time", "latitude", "longitude")
    assert fc.valid_time.dims == ("lead_time",)
    assert fc.time.values == one.time.values
    again = winds.isel(time=[0]).atmo.forecast("18h", model)
    np.testing.assert_allclose(again.u10.isel(time=0), fc.u10, atol=1e-6)


def test_fields_that_are_read_only(winds, make_box_model):
    model = make_box_model("tiny-part", network={"predicted": ["u"]})
    fc = winds.atmo.forecast("24h", model)
    assert list(fc) == ["u10"]
    assert np.isfinite(fc.u10).all()


def test_derived_fields(winds, make_box_model):
    quantity = "atmosphere_relative_vorticity"
    level = {"level": "10 m", "slot": 0, "mean": [0.0], "std": [5e-5]}
    fields = [{"name": "u", "quantity": quantity, "units": "s-1", "levels": [level]}]
    model = make_box_model(
        "tiny-vorticity", fields=("u",), levels=(("10 m", 0),), card={"fields": fields}
    )
    fc = winds.atmo.forecast("6h", model)
    assert list(fc) == [quantity]
    assert fc[quantity].attrs["units"] == "s-1"
    assert fc[quantity].dims[-2:] == ("latitude", "longitude")


def test_chunks_go_into_zarr(winds, model, tmp_path):
    lazy = winds.chunk(time=2).atmo.forecast("12h", model, members=False)
    lazy.to_zarr(tmp_path / "fc.zarr", consolidated=False)
    kwargs = {"consolidated": False, "decode_timedelta": True}
    back = xr.open_zarr(tmp_path / "fc.zarr", **kwargs)
    np.testing.assert_array_equal(back.lead_time, lazy.lead_time)


def test_constants_of_places_and_months(winds, model, known):
    """Each place has its own, whatever the orientation; results say whose they are."""
    ds = winds.assign_coords(time=winds.time + np.timedelta64(29, "D"))  # to February
    months = xr.DataArray(
        np.arange(1, 13), dims="month", coords={"month": range(1, 13)}
    )
    place = 0.1 * ds.latitude + 0.01 * (ds.longitude % 360)
    given = xr.Dataset()
    for name in ("u", "v"):
        given[f"{name}_mean"] = (place * (1 + 0.1 * months)).assign_coords(level="10 m")
        given[f"{name}_std"] = 5.0 + 0.05 * (place + months)
    given = given.drop_vars("level")
    norm = xatmo.BoxNormalization.from_dataset(given, model)
    own = model.with_normalization(norm)
    fc = ds.atmo.forecast("12h", own)
    assert norm.digest in fc.attrs["comment"]
    # The network sees the same as if the data were normalised by hand.
    table = given.sel(month=ds.time.dt.month)
    by_hand = (ds.u10 - table.u_mean) / table.u_std * 8.0
    plain = ds.assign(u10=by_hand.transpose(*ds.u10.dims).assign_attrs(units="m s-1"))
    other = (ds.v10 - table.v_mean) / table.v_std * 8.0
    plain["v10"] = other.transpose(*ds.v10.dims).assign_attrs(units="m s-1")
    same = xatmo.BoxNormalization.from_dataset(
        xr.Dataset(
            {f"{n}_{k}": x for n in "uv" for k, x in (("mean", 0.0), ("std", 8.0))}
        ),
        model,
    )
    raw = plain.astype("float32").atmo.forecast("12h", model.with_normalization(same))
    table = given.sel(month=fc.valid_time.dt.month)
    expected = raw.u10 / 8.0 * table.u_std + table.u_mean
    np.testing.assert_allclose(fc.u10, expected.transpose(*fc.u10.dims), atol=1e-4)
    flipped = ds.isel(latitude=slice(None, None, -1)).chunk(time=2, latitude=7)
    back = flipped.assign_coords(longitude=(ds.longitude + 180) % 360 - 180)
    again = _canonical(back.atmo.forecast("12h", own).u10)
    np.testing.assert_allclose(again, _canonical(fc.u10), atol=1e-4)


def test_the_input_is_not_changed(winds, model):
    before = winds.copy(deep=True)
    winds.atmo.forecast("6h", model)
    winds.isel(time=slice(3)).chunk(time=1).atmo.forecast("6h", model)
    xr.testing.assert_identical(winds, before)
    assert winds.time.attrs == before.time.attrs


# --- Real files -----------------------------------------------------------------------


def test_on_analyses_of_the_globe(data, model):
    path = data / "train" / "gfs_uv10_global_1deg_6h_20260324-20260506.nc"
    with xr.open_dataset(path) as ds:
        part = ds.isel(time=slice(3)).chunk(time=1)
        with raise_if_computes():
            fc = part.atmo.forecast("12h", model, members=False)
        one = fc.u10.isel(time=0, lead_time=1).compute()
    assert one.shape == (181, 360)
    assert np.isfinite(one).all()
    # No seam: neighbours across it differ like any others.
    steps = abs(one.diff("longitude")).mean()
    seam = abs(one.isel(longitude=0) - one.isel(longitude=-1)).mean()
    assert float(seam) < 2 * float(steps)


def test_hourly_analyses_name_the_call(data, model):
    path = data / "multi" / "era5_uvz_850-500-250_global_1deg_1h_20170801.nc"
    with xr.open_dataset(path, chunks={}) as ds:
        with pytest.raises(
            errors.TimeAxisError,
            match=r"(?s)24 times.*every 1 h.*every 6 h.*ds\.sel\(valid_time=",
        ) as caught:
            ds.atmo.forecast("12h", model)
        call = str(caught.value).split("try:")[1].strip()
        coarse = eval(call, {"ds": ds})  # noqa: S307 - the message promises that it runs
        fc = coarse.atmo.forecast("12h", model)
    assert fc.u.sizes["pressure_level"] == 2
    assert fc.u.dims[:3] == ("member", "time", "lead_time")


# --- Bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lead", "said"),
    [
        ("10h", r'(?s)steps of 6 h.*lead="10h".*multiple of 6 h.*lead="12h"'),
        ("0h", r'(?s)time to come.*lead="0h".*lead="6h"'),
        ("-6h", r"(?s)time to come.*greater than 0"),
        (24, r'(?s)24 is no lead time.*text such as.*lead="24h"'),
        ("tomorrow", r"(?s)no lead time.*lead="),
        ([], r"(?s)no lead time in the list"),
    ],
)
def test_leads_that_cannot_be(winds, model, lead, said):
    with pytest.raises(errors.OptionError, match=said):
        winds.atmo.forecast(lead, model)


def test_members_is_yes_or_no(winds, model):
    with pytest.raises(errors.OptionError, match=r"(?s)members.*16.*members=True"):
        winds.atmo.forecast("6h", model, members=16)


def test_too_few_times(winds, model):
    with pytest.raises(
        errors.TimeAxisError, match=r"(?s)too few.*1 of them.*2 of them, every 6h"
    ):
        winds.isel(time=[0]).atmo.forecast("12h", model)
    with pytest.raises(errors.TimeAxisError, match=r'forecast\(lead="12h"\)'):
        winds.isel(time=slice(2)).atmo.forecast("6h", model)


def test_other_time_steps(winds, model):
    with pytest.raises(
        errors.TimeAxisError, match=r'(?s)every 12 h.*interpolate_time\("6h"\)'
    ):
        winds.isel(time=slice(None, None, 2)).atmo.forecast("6h", model)
    odd = synthetic_winds(6, *_REGION, step_hours=5)
    with pytest.raises(
        errors.TimeAxisError, match=r'(?s)every 5 h.*resample\(time="6h"'
    ):
        odd.atmo.forecast("6h", model)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda ds: ds.isel(time=[0, 2, 1, 3]), r"not in order.*ds\.sortby\('time'\)"),
        (lambda ds: ds.isel(time=[0, 1, 1, 2]), r"1 of them again.*drop_duplicates"),
        (lambda ds: ds.drop_vars("time"), r"without dates.*pd\.date_range"),
        (lambda ds: ds.isel(time=0, drop=True), r"no date.*expand_dims\(time="),
    ],
)
def test_times_that_cannot_serve(winds, model, change, hint):
    with pytest.raises(errors.TimeAxisError, match=f"(?s){hint}"):
        change(winds).atmo.forecast("6h", model)


def test_no_field_of_the_model(winds, model):
    ds = winds.rename(u10="t2m", v10="d2m")
    for name in ds:
        ds[name].attrs = {"units": "K"}
    with pytest.raises(
        errors.FieldNotFoundError,
        match=r"(?s)none of the fields that tiny-boxes reads.*t2m.*one or more of east",
    ):
        ds.atmo.forecast("6h", model)


def test_no_level_of_the_model(winds, model):
    with pytest.raises(
        errors.LevelError, match=r"(?s)no level.*250 hPa.*10 m, sigma 0.95, 850 hPa"
    ):
        _levels(winds, 250).atmo.forecast("6h", model)
    with pytest.raises(errors.LevelError, match=r"(?s)does not know 700 hPa.*10 m"):
        winds.atmo.forecast("6h", model, level=700)
    with pytest.raises(errors.LevelError, match=r'(?s)have no 850 hPa.*level="10 m"'):
        winds.atmo.forecast("6h", model, level=850)


def test_other_grids(model):
    coarse = synthetic_winds(4, np.arange(60.0, 0.0, -3.0), np.arange(0.0, 60.0, 3.0))
    with pytest.raises(errors.GridError, match=r"(?s)too coarse.*0\.9 and 2\.1"):
        coarse.atmo.forecast("6h", model)


def test_a_name_that_is_needed(winds, model):
    ds = winds.expand_dims(member=2)
    with pytest.raises(errors.FieldError, match=r"(?s)\'member\'.*ds\.rename\(member="):
        ds.atmo.forecast("6h", model)


def test_fill_values_that_were_not_decoded(winds, model):
    ds = winds.where(winds.latitude > 35, 1e20)
    with pytest.raises(errors.MissingValuesError, match=r"(?s)'u10' holds.*mask_and"):
        ds.atmo.forecast("6h", model)


def test_models_that_do_not_forecast(winds):
    with pytest.raises(errors.ModelNotFoundError, match=r"(?s)cannot forecast"):
        winds.atmo.forecast("6h", "atmodist-small")


def test_untrained_levels_warn(winds, make_box_model):
    known = {"mean": [0.0], "std": [8.0]}
    values = [
        {"level": level, "slot": slot, "trained": slot > 0, **known}
        for slot, level in enumerate(("10 m", "850 hPa", "500 hPa"))
    ]
    field = {"name": "u", "quantity": "eastward_wind", "units": "m s-1"}
    other = {"name": "v", "quantity": "northward_wind", "units": "m s-1"}
    tables = [{**field, "levels": values}, {**other, "levels": values}]
    model = make_box_model("tiny-new", card={"fields": tables})
    with pytest.warns(errors.ExtrapolationWarning, match="u at 10 m, v at 10 m"):
        winds.atmo.forecast("6h", model)


# --- What the accessor says -----------------------------------------------------------


def test_the_repr_knows_models_of_boxes(winds, model):
    with raise_if_computes():
        text = repr(winds.chunk(time=2).atmo)
    fit, not_fit = text.split("Models that do not:")
    assert "tiny-boxes" in fit
    assert ".forecast()" in fit
    assert ".interpolate_time()" in fit
    hourly = winds.assign_coords(
        time=winds.time[0].values + np.arange(6) * np.timedelta64(1, "h")
    )
    not_fit = repr(hourly.atmo).split("Models that do not:")[1]
    assert "ds.sel(time=ds.time[::6])" in not_fit


def test_the_model_says_what_it_reads(model):
    text = repr(model)
    assert "eastward_wind [m s-1] at 10 m or sigma 0.95, 850 hPa, 500 hPa" in text
    assert "4 times every 6h, forecasts 2 of them at once; 8 x 8 points" in text


def test_public_name():
    assert "forecast" in xatmo.__all__
    assert xatmo.forecast.__module__ == "xatmo.forecasting"
