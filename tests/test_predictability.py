"""predictability(): what it equals, which pairs it takes, and every bad input."""

from __future__ import annotations

import datetime as dt

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.testing import count_forwards, raise_if_computes, synthetic_winds
from xatmo.windows import _cut

CARD = xatmo.load_model().card
LAGS = CARD.time.lags
STEP = LAGS[0]
SHORT, LONG = (f"{n}h" for n in LAGS[:2])
ROWS, COLUMNS = CARD.grid.patch
SCORES = [
    "probability",
    "probability_within_one",
    "accuracy",
    "accuracy_within_one",
    "entropy",
]


@pytest.fixture(scope="module")
def series() -> xr.Dataset:
    """Seven states of a region that has room for three by five windows."""
    latitude = 50.0 - np.arange(ROWS + 16.0)
    longitude = 350.0 + np.arange(COLUMNS + 32.0)
    return synthetic_winds(7, latitude, longitude, step_hours=STEP)


@pytest.fixture(scope="module")
def maps(series) -> xr.Dataset:
    return series.atmo.predictability(LONG, by=None, stride=8)


def by_hand(ds: xr.Dataset, row: int, column: int, lag: int) -> dict[str, float]:
    """The scores of one window, by the network's own forward method."""
    import torch

    from xatmo.fields import read
    from xatmo.zoo import normalizer

    model = xatmo.load_model()
    fields = read(ds, [i.quantity for i in CARD.inputs]).data
    x = np.stack([fields[i.quantity].values for i in CARD.inputs], axis=1)
    columns = np.arange(column, column + COLUMNS) % x.shape[-1]
    x = torch.from_numpy(x[..., row : row + ROWS, :][..., columns])
    x = normalizer(CARD, CARD.levels[0])(x)
    steps, true = lag // STEP, LAGS.index(lag)
    with torch.inference_mode():
        p = model.network()(x[:-steps], x[steps:]).softmax(1).double()
    guess = p.argmax(1)
    near = slice(max(true - 1, 0), true + 2)
    return {
        "probability": p[:, true].mean(),
        "probability_within_one": p[:, near].sum(1).mean(),
        "accuracy": (guess == true).double().mean(),
        "accuracy_within_one": ((guess - true).abs() <= 1).double().mean(),
        "entropy": -(p * p.log()).sum(1).mean(),
        "pairs": len(p),
    }


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    assert set(found) == set(expected)
    for name in expected:
        expected_values = expected[name].transpose(*found[name].dims)
        np.testing.assert_allclose(found[name], expected_values, rtol=0, atol=1e-5)


# --- What it is ---------------------------------------------------------------------


@pytest.mark.parametrize("lag", LAGS[:2])
def test_is_the_network_on_patches(series, lag):
    found = series.atmo.predictability(f"{lag}h", by=None, stride=8)
    assert found.sizes == {"latitude": 3, "longitude": 5}
    for i, j in [(0, 0), (1, 3), (2, 4)]:
        expected = by_hand(series, 8 * i, 8 * j, lag)
        for name, value in expected.items():
            got = found[name].isel(latitude=i, longitude=j)
            np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_windows_close_on_themselves_around_the_globe():
    ds = synthetic_winds(2, step_hours=STEP)  # 2°, from 90°N and 0°E
    found = ds.atmo.predictability(SHORT, by=None, stride=20)
    last = found.isel(longitude=-1, latitude=0)
    assert float(last.longitude) < 360
    row = round((90 - float(last.latitude)) / 2 - (ROWS - 1) / 2)
    column = round(float(last.longitude) / 2 - (COLUMNS - 1) / 2) % 180
    crossing = [by_hand(ds, row, column, STEP), by_hand(ds, row, 160, STEP)]
    for name in SCORES:
        np.testing.assert_allclose(last[name], crossing[0][name], rtol=1e-5, atol=1e-6)
        near = found[name].sel(
            longitude=(320 + COLUMNS - 1) % 360, latitude=last.latitude
        )
        np.testing.assert_allclose(near, crossing[1][name], rtol=1e-5, atol=1e-6)


def test_lies_at_the_centres_of_windows(series, maps):
    x, y = series.longitude.values, series.latitude.values
    centre = [x[8 * j : 8 * j + COLUMNS].mean() for j in range(5)]
    np.testing.assert_allclose(maps.longitude, centre)
    np.testing.assert_allclose(
        maps.latitude, [y[8 * i :][:ROWS].mean() for i in (0, 1, 2)]
    )
    assert maps.latitude.attrs["units"] == "degrees_north"


def test_centres_stay_within_the_models_latitudes(globe):
    found = globe.chunk().atmo.predictability(SHORT, by=None, stride=2)
    assert abs(found.latitude).max() <= CARD.grid.latitude_limit
    assert abs(found.latitude).max() > CARD.grid.latitude_limit - 4
    assert found.sizes["longitude"] == 90


def test_default_stride_is_a_quarter_of_a_window(series):
    found = series.chunk().atmo.predictability(SHORT)
    assert np.diff(found.longitude)[0] == min(ROWS, COLUMNS) // 4


def test_says_what_it_is(maps):
    n = len(LAGS)
    assert maps.probability.attrs["units"] == "1"
    assert maps.entropy.attrs["units"] == "nat"
    assert maps.probability.attrs["chance"] == pytest.approx(1 / n)
    assert maps.probability_within_one.attrs["chance"] == pytest.approx(3 / n)
    assert maps.entropy.attrs["chance"] == pytest.approx(np.log(n))
    assert maps.lag == LAGS[1]
    assert maps.lag.attrs["units"] == "hours"
    for da in (maps, *maps.data_vars.values()):
        assert CARD.name in da.attrs["xatmo_model"]
        assert f"lag='{LONG}'" in da.attrs["history"]
    assert maps.pairs.dtype.kind == "i"
    assert maps.probability.dtype == np.float32


def test_can_be_written(maps, tmp_path):
    maps.to_netcdf(tmp_path / "maps.nc")
    again = xr.open_dataset(tmp_path / "maps.nc", decode_timedelta=False)
    xr.testing.assert_equal(again.load(), maps)


# --- Which pairs --------------------------------------------------------------------


def test_counts_pairs(maps):
    assert (maps.pairs == 5).all()


@pytest.mark.parametrize(
    "lag",
    [
        dt.timedelta(hours=LAGS[1]),
        np.timedelta64(LAGS[1] * 60, "m"),
        pd.Timedelta(hours=LAGS[1]),
        f"{LAGS[1]} hours",
    ],
)
def test_lags_as_people_write_them(series, maps, lag):
    assert_same(series.atmo.predictability(lag, by=None, stride=8), maps)


def test_several_lags(series, maps):
    both = series.atmo.predictability([SHORT, LONG], by=None, stride=8)
    assert both.probability.dims == ("lag", "latitude", "longitude")
    assert both.lag.values.tolist() == list(LAGS[:2])
    assert_same(both.sel(lag=LAGS[1]), maps)
    assert both.pairs.isel(latitude=0, longitude=0).values.tolist() == [6, 5]
    asked = np.array(LAGS[:2], "timedelta64[h]")
    assert_same(series.atmo.predictability(asked, by=None, stride=8), both)


def test_times_in_any_order(series, maps):
    mixed = series.isel(time=[3, 0, 6, 2, 5, 1, 4])
    assert_same(mixed.atmo.predictability(LONG, by=None, stride=8), maps)
    lazy = mixed.chunk(time=2).atmo.predictability(LONG, by=None, stride=8)
    assert_same(lazy, maps)


def test_states_that_are_missing(series):
    gaps = series.isel(time=[0, 2, 3, 6])
    found = gaps.atmo.predictability(LONG, by=None, stride=8)
    assert (found.pairs == 1).all()
    expected = series.isel(time=[0, 2]).atmo.predictability(LONG, by=None, stride=8)
    assert_same(found, expected)


def test_states_without_a_partner_are_not_encoded(series):
    gaps = series.isel(time=[0, 2, 3, 6]).chunk(time=1)
    with xatmo.set_options(batch_size=1):
        found = gaps.atmo.predictability(LONG, by=None, stride=8)
    with count_forwards() as counted:
        found.compute()
    assert counted.fields == 2 + 1  # two states, one pair


def test_other_calendars(series, maps):
    times = xr.date_range(
        "2001-02-29", periods=7, freq=f"{STEP}h", calendar="360_day", use_cftime=True
    )
    found = series.assign_coords(time=times)
    assert_same(found.atmo.predictability(LONG, by=None, stride=8), maps)
    assert found.atmo.predictability(LONG).season.values.tolist() == ["DJF"] + (
        ["MAM"] if times[-3].month == 3 else []
    )


def test_dates_off_by_a_rounding(series, maps):
    noise = np.array([0, 300, -200, 100, 0, -400, 200], "timedelta64[us]")
    off = series.assign_coords(time=series.time.values + noise)
    assert_same(off.atmo.predictability(LONG, by=None, stride=8), maps)


def _from(series: xr.Dataset, *starts: str) -> xr.Dataset:
    """A pair of states a short lag apart from each of several dates on."""
    lag = np.timedelta64(LAGS[0], "h")
    times = [np.datetime64(s, "ns") + d for s in starts for d in (lag * 0, lag)]
    return series.isel(time=np.arange(len(times)) % 7).assign_coords(time=times)


def test_seasons(series):
    ds = _from(series, "2019-07-01", "2020-01-15", "2020-02-27", "2020-12-31")
    found = ds.atmo.predictability(SHORT)
    assert found.probability.dims == ("season", "latitude", "longitude")
    assert found.season.values.tolist() == ["DJF", "JJA"]  # by the calendar
    assert found.pairs.isel(latitude=0, longitude=0).values.tolist() == [3, 1]
    summer = ds.isel(time=[0, 1]).atmo.predictability(SHORT, by=None)
    assert_same(found.sel(season="JJA", drop=True), summer)


def test_half_years(series):
    ds = _from(series, "2019-03-31", "2019-04-01", "2019-09-30", "2019-10-01")
    found = ds.atmo.predictability(SHORT, by="half-year")
    assert found.half_year.values.tolist() == ["apr-sep", "oct-mar"]
    assert found.pairs.isel(latitude=0, longitude=0).values.tolist() == [2, 2]


def test_all_pairs_are_the_groups_together(series):
    ds = _from(series, "2019-07-01", "2020-01-15", "2020-02-27")
    parts = ds.atmo.predictability(SHORT)
    whole = ds.atmo.predictability(SHORT, by=None)
    mean = (parts.probability * parts.pairs).sum("season") / parts.pairs.sum("season")
    np.testing.assert_allclose(mean, whole.probability, rtol=1e-5)


def test_a_group_that_one_lag_has_not(series):
    ds = xr.concat(
        [_from(series, "2020-07-01"), series.isel(time=slice(3))], dim="time"
    )
    found = ds.atmo.predictability([SHORT, LONG])
    empty = found.sel(season="JJA", lag=LAGS[1])
    assert (empty.pairs == 0).all()
    assert np.isnan(empty.probability).all()


def test_a_forecast_by_its_valid_times(series, maps):
    step = np.arange(7) * np.timedelta64(STEP, "h")
    attrs = {"standard_name": "time"}
    ds = series.rename(time="step").assign_coords(
        valid_time=("step", series.time.values, attrs), step=step
    )
    assert_same(ds.atmo.predictability(LONG, by=None, stride=8), maps)


# --- The user's data ----------------------------------------------------------------


def test_comes_back_in_names_order_and_orientation(series, maps):
    ds = series.rename(latitude="lat", longitude="lon", time="valid_time")
    ds = ds.isel(lat=slice(None, None, -1)).transpose("lon", "valid_time", "lat")
    ds = ds.assign_coords(lon=(ds.lon + 180) % 360 - 180)
    found = ds.atmo.predictability(LONG, stride=8)
    assert found.probability.dims == ("season", "lon", "lat")
    assert (np.diff(found.lat) > 0).all()
    assert float(found.lon.min()) >= -180
    found = found.isel(season=0).rename(lat="latitude", lon="longitude")
    assert_same(found.isel(latitude=slice(None, None, -1)), maps)


def test_members_and_levels(series):
    members = xr.concat([series, series * 0.9], "number").assign_coords(number=[3, 4])
    found = members.chunk(number=1).atmo.predictability(SHORT)
    assert found.entropy.dims == ("season", "number", "latitude", "longitude")
    assert found.number.values.tolist() == [3, 4]
    assert_same(found.isel(number=0), series.atmo.predictability(SHORT))


def test_several_levels(series):
    names = [lv.level for lv in CARD.levels if lv.level.endswith("hPa")][:2]
    if len(names) < 2:
        pytest.skip("the model knows fewer than two pressure levels")
    values = [float(name.split()[0]) for name in names]
    level = xr.DataArray(values, dims="level", attrs={"units": "hPa"})
    ds = series.rename(u10="u", v10="v").expand_dims(level=level, axis=1)
    with (
        pytest.warns(errors.ExtrapolationWarning)
        if not all(lv.trained for lv in CARD.levels if lv.level in names)
        else _nothing()
    ):
        both = ds.atmo.predictability(SHORT, level=names)
        one = ds.atmo.predictability(SHORT, level=names[1])
    assert both.accuracy.dims == ("season", "level", "latitude", "longitude")
    assert_same(both.sel(level=values[1], drop=True), one)


class _nothing:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


def test_coordinates_of_the_names_of_the_result(series, maps):
    ds = series.assign_coords(season=series.time.dt.season, lag=3.0)
    assert_same(ds.atmo.predictability(LONG, stride=8).isel(season=0), maps)


def test_of_arrays_and_trees(series, maps):
    stacked = series.to_dataarray("variable")
    with pytest.warns(errors.UnitsWarning):
        found = stacked.atmo.predictability(LONG, by=None, stride=8)
    assert_same(found, maps)
    tree = xr.DataTree(series)
    assert_same(tree.atmo.predictability(LONG, by=None, stride=8), maps)


def test_missing_values(series):
    gap = series.copy(deep=True)
    gap.u10[2, 3, 4] = np.nan
    with pytest.raises(errors.MissingValuesError, match=r"u10.*\n.*found"):
        gap.atmo.predictability(SHORT)
    with xatmo.set_options(missing="propagate"):
        found = gap.atmo.predictability(SHORT, by=None)
    assert (found.pairs == 4).all()
    assert np.isfinite(found.probability).all()
    kept = series.isel(time=[0, 1, 3, 4, 5, 6])
    assert_same(found, kept.atmo.predictability(SHORT, by=None))


# --- Chunks -------------------------------------------------------------------------


@pytest.mark.parametrize("time", [1, 2, 3, 7, (1, 4, 2)])
@pytest.mark.parametrize("latitude", [-1, 11])
def test_any_chunks_give_the_same(series, maps, time, latitude):
    ds = series.chunk(time=time, latitude=latitude)
    with count_forwards() as counted, raise_if_computes():
        lazy = ds.atmo.predictability(LONG, by=None, stride=8)
    assert counted.calls == 0
    assert all(da.chunks is not None for da in lazy.data_vars.values())
    assert_same(lazy.compute(scheduler="sync"), maps)


def test_one_variable_in_memory(series, maps):
    ds = series.assign(v10=series.v10.chunk(time=2))
    assert_same(ds.atmo.predictability(LONG, by=None, stride=8), maps)


def test_each_state_is_encoded_once(series):
    with xatmo.set_options(batch_size=1):
        found = series.chunk(time=2).atmo.predictability([SHORT, LONG])
    with count_forwards() as counted:
        found.compute()
    assert counted.fields == 7 + 6 + 5


def test_graphs_are_small(series):
    ds = series.isel(time=np.arange(500) % 7)
    ds = ds.assign_coords(time=pd.date_range("2020", periods=500, freq=f"{STEP}h"))
    ds = ds.chunk(time=1)
    found = ds.atmo.predictability(LONG)
    ours = dict(found.__dask_graph__())
    theirs = dict(ds.__dask_graph__())
    assert len(cloudpickle.dumps(ours)) - len(cloudpickle.dumps(theirs)) < 2_000_000


def test_chunks_are_cut_and_joined():
    assert _cut((100,), 4, 10) == (10,) * 10
    assert _cut((1,) * 10, 4, 10) == (4, 4, 2)
    assert _cut((3, 3, 3), 4, 10) == (3, 3, 3)
    assert _cut((0, 2), 4, 10) == (2,)
    assert sum(_cut((7, 1, 23), 2, 5)) == 31


def test_no_task_holds_the_features_of_many_states(series, monkeypatch):
    from xatmo import windows

    def tasks() -> int:
        """How many run the network."""
        with xatmo.set_options(batch_size=1):
            found = series.chunk().atmo.predictability(LONG, by=None, stride=8)
        names = [str(k[0]) for k in found.__dask_graph__() if isinstance(k, tuple)]
        return sum(name.startswith("on_blocks") for name in names)

    at_once = tasks()
    monkeypatch.setattr(windows, "_FEATURES", 1)
    assert tasks() >= at_once + 6  # each of the seven states in a task of its own


# --- Bad input ----------------------------------------------------------------------


@pytest.mark.parametrize("lag", [48, 48.0, np.int64(48), "48"])
def test_a_number_has_no_unit(series, lag):
    with pytest.raises(errors.OptionError, match=r'(?s)no unit.*lag="48h"'):
        series.atmo.predictability(lag)


@pytest.mark.parametrize("lag", ["soon", None, True, np.timedelta64("NaT"), {}])
def test_not_a_lag(series, lag):
    with pytest.raises(errors.OptionError, match=r'(?s)no time lag.*lag="48h"'):
        series.atmo.predictability(lag)


def test_no_lags_at_all(series):
    with pytest.raises(errors.OptionError, match=r"(?s)no lag in the list.*at least"):
        series.atmo.predictability([])


def test_a_lag_that_the_model_does_not_know(series):
    with pytest.raises(
        errors.OptionError,
        match=rf'(?s)does not know a lag of 7.5 h.*{LAGS[0]}, {LAGS[1]}.*lag="\d+h"',
    ):
        series.atmo.predictability("7.5h")


def test_a_model_without_lags(series, monkeypatch):
    from dataclasses import replace

    model = xatmo.load_model()
    bare = replace(model, card=replace(CARD, time=None))
    with pytest.raises(
        errors.ModelError, match=rf"(?s)does not tell time lags.*{CARD.name}"
    ):
        series.atmo.predictability(SHORT, bare)


def test_unknown_grouping(series):
    with pytest.raises(
        errors.OptionError, match=r"(?s)by 'month'.*'season', 'half-year', or None"
    ):
        series.atmo.predictability(by="month")


@pytest.mark.parametrize("stride", [0, -1, 2.5, True, "8"])
def test_impossible_stride(series, stride):
    with pytest.raises(
        errors.OptionError, match=r"(?s)stride=.*whole number.*stride=\d"
    ):
        series.atmo.predictability(SHORT, stride=stride)


def test_no_time(series):
    with pytest.raises(errors.TimeAxisError, match=r"(?s)need a time axis.*xr\.concat"):
        series.isel(time=0).atmo.predictability(SHORT)


def test_times_without_dates(series):
    with pytest.raises(
        errors.TimeAxisError, match=r"(?s)'time' has no dates.*without a coord.*assign"
    ):
        series.drop_vars("time").atmo.predictability(SHORT)
    with pytest.raises(
        errors.TimeAxisError, match=r"(?s)'time' has no dates.*int64.*decode_cf"
    ):
        series.assign_coords(time=np.arange(7)).atmo.predictability(SHORT)


def test_repeated_times(series):
    twice = series.isel(time=[0, 1, 1, 2])
    with pytest.raises(
        errors.TimeAxisError,
        match=r"(?s)more than once.*1 of 4.*drop_duplicates\('time'\)",
    ):
        twice.atmo.predictability(SHORT)


def test_no_pair(series):
    short = series.isel(time=slice(2))
    with pytest.raises(
        errors.TimeAxisError,
        match=rf"(?s)are {LAGS[1]} h apart.*2 times, 2020-01-01.* to 2020-01-01.*every "
        rf'{STEP} h.*longer period.*lag="{SHORT}"',
    ):
        short.atmo.predictability(LONG)
    with pytest.raises(ValueError, match="1 time, 2020"):
        series.isel(time=[0]).atmo.predictability(LONG)
    with pytest.raises(errors.TimeAxisError, match="0 times"):
        series.isel(time=[]).atmo.predictability(LONG)


def test_too_close_to_the_pole():
    latitude = 90.0 - np.arange(ROWS + 2)
    polar = synthetic_winds(2, latitude, np.arange(60.0), step_hours=STEP)
    first = 90 - (ROWS - 1) / 2
    said = f"{first - 2:g} to {first:g}.*within {CARD.grid.latitude_limit:g}°"
    with pytest.raises(errors.GridError, match=f"(?s)close to the poles.*{said}"):
        polar.atmo.predictability(SHORT)


def test_a_dimension_of_the_results_name(series):
    ds = series.expand_dims(lag=[1, 2])
    with pytest.raises(errors.FieldError, match=r'(?s)needs: \'lag\'.*lag="lag_"'):
        ds.atmo.predictability(SHORT)


# --- Real data ----------------------------------------------------------------------


def test_of_analyses(data):
    """Ten days of analyses: better than chance where a new network would not be."""
    (path,) = sorted((data / "test").glob("*michael*.nc"))[:1] or [None]
    if path is None:
        pytest.skip("no test analyses in the data folder")
    with xr.open_dataset(path, chunks={"time": 6}) as ds:
        lag = LAGS[min(3, len(LAGS) - 1)]
        found = ds.atmo.predictability(f"{lag}h", by=None, stride=48).load()
    assert (found.pairs > 0).all()
    assert float(found.entropy.mean()) < found.entropy.attrs["chance"]
