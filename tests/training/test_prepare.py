"""Any data set becomes a store to train from, or an error that says what to do."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.fields import read
from xatmo.testing import synthetic_winds
from xatmo.training import prepare
from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import Source
from xatmo.training.run import train
from xatmo.training.sampling import FieldStore

QUANTITIES = ("divergence_of_wind", "atmosphere_relative_vorticity")
LAT, LON = np.arange(-90, 91, 3.0), np.arange(0, 360, 3.0)


@pytest.fixture(scope="module")
def winds() -> xr.Dataset:
    return synthetic_winds(40, LAT, LON)


def _store(ds, tmp_path, name="data.nc", **source):
    path = tmp_path / name
    if path.suffix == ".zarr":
        ds.to_zarr(path, consolidated=False)
    else:
        ds.to_netcdf(path)
    return FieldStore(
        prepare_source(Source(str(path), **source), QUANTITIES, tmp_path / "data")
    )


def _expected(ds):
    fields = read(ds, QUANTITIES)
    return np.stack([fields.data[q].values for q in QUANTITIES], axis=1)


def _assert_fields(store, ds):
    assert store.fields.dtype == np.float32
    np.testing.assert_allclose(store.fields[:], _expected(ds), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    "chunks",
    [
        {"time": 7, "latitude": 20, "longitude": 50},
        {"time": 40, "latitude": 8, "longitude": 8},
        {"time": 1, "latitude": -1, "longitude": -1},
    ],
)
def test_any_chunks_give_the_same_fields(winds, tmp_path, chunks):
    store = _store(winds.chunk(chunks), tmp_path, "chunky.zarr")
    _assert_fields(store, winds)
    assert store.fields.chunks == (1, 2, 61, 120)


def test_any_orientation_gives_the_same_fields(winds, tmp_path):
    turned = winds.assign_coords(longitude=(winds.longitude + 180) % 360 - 180)
    turned = turned.sortby("longitude").isel(latitude=slice(None, None, -1))
    turned = turned.transpose("longitude", "time", "latitude")
    _assert_fields(_store(turned, tmp_path), winds)


def test_vorticity_and_divergence_need_no_winds(winds, tmp_path):
    fields = read(winds, QUANTITIES)
    direct = xr.Dataset(
        {n: fields.data[q] for n, q in zip("dz", QUANTITIES, strict=True)}
    )
    _assert_fields(_store(direct, tmp_path), winds)


def test_writes_a_few_times_after_the_other(winds, tmp_path, monkeypatch):
    """No more than the times of one window are ever held."""
    monkeypatch.setattr(prepare, "_WINDOW_BYTES", 20 * 2 * 61 * 120 * 4)
    held, original = [], prepare._channels

    def watched(ds, *args):
        held.append(ds.sizes["time"])
        return original(ds, *args)

    monkeypatch.setattr(prepare, "_channels", watched)
    _assert_fields(_store(winds, tmp_path), winds)
    assert held == [1, 16, 16, 8]


def test_what_was_interrupted_goes_on_and_is_not_taken_for_whole(
    winds, tmp_path, monkeypatch
):
    monkeypatch.setattr(prepare, "_WINDOW_BYTES", 20 * 2 * 61 * 120 * 4)
    original, calls = prepare._channels, []

    def interrupted(ds, *args):
        calls.append(ds.sizes["time"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(ds, *args)

    monkeypatch.setattr(prepare, "_channels", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _store(winds, tmp_path)
    assert not list((tmp_path / "data").glob("*.zarr"))
    source = Source(str(tmp_path / "data.nc"))
    store = FieldStore(prepare_source(source, QUANTITIES, tmp_path / "data"))
    assert calls == [1, 16, 16, 1, 16, 8]
    _assert_fields(store, winds)
    assert not list((tmp_path / "data").glob("*.partial"))


def test_a_store_begun_by_a_killed_process_is_begun_again(winds, tmp_path):
    store = _store(winds, tmp_path)
    broken = store.path.rename(store.path.with_suffix(".partial"))
    (broken / "state" / "zarr.json").write_text("{")
    source = Source(str(tmp_path / "data.nc"))
    again = FieldStore(prepare_source(source, QUANTITIES, tmp_path / "data"))
    _assert_fields(again, winds)


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_other_calendars_keep_their_hours(winds, tmp_path, calendar):
    times = xr.date_range(
        "2001-02-25", periods=40, freq="6h", calendar=calendar, use_cftime=True
    )
    store = _store(winds.assign_coords(time=times), tmp_path)
    assert np.all(np.diff(store.times) == 6 * 3600)
    np.testing.assert_array_equal(store.months, [t.month for t in times])
    assert len(store.starts(24 * 3600)) == 36


def test_hourly_data_make_pairs_six_hours_apart(tmp_path):
    store = _store(synthetic_winds(24, LAT, LON, step_hours=1), tmp_path)
    assert len(store.starts(6 * 3600)) == 18


def test_times_in_disorder_and_twice(winds, tmp_path):
    mixed = winds.isel(time=[*range(39, -1, -1), 5])
    _assert_fields(_store(mixed, tmp_path), winds)


def test_times_with_missing_values_make_no_pair(winds, tmp_path):
    holes = winds.copy(deep=True)
    holes.u10[7, 20:22, 3] = np.nan
    holes.v10[11] = np.nan
    with pytest.warns(UserWarning, match=r"2 of 40 times of data.nc have missing"):
        store = _store(holes, tmp_path)
    assert np.flatnonzero(~store.whole).tolist() == [7, 11]
    assert not np.isin(store.starts(6 * 3600), [7, 11]).any()
    assert len(store.starts(6 * 3600)) == 39 - 4


def test_a_mask_at_all_times_is_refused(winds, tmp_path):
    land = winds.where((winds.latitude < 20) | (winds.longitude > 90))
    with pytest.raises(
        errors.MissingValuesError,
        match=r"(?s)Every time of data.nc.*u10, v10 is missing.*ds.sel\(latitude=",
    ):
        _store(land, tmp_path)
    assert not [p for p in (tmp_path / "data").iterdir() if p.is_dir()]


def test_several_levels_need_a_choice(winds, tmp_path):
    levels = xr.concat([winds, 2 * winds], xr.Variable("level", [850, 500]))
    levels = levels.rename(u10="u", v10="v")
    levels.level.attrs["units"] = "hPa"
    with pytest.raises(
        errors.LevelError, match=r'(?s)several levels.*850 hPa, 500 hPa.*--level "850'
    ):
        _store(levels, tmp_path)
    store = _store(levels, tmp_path, "again.nc", level="500 hPa")
    assert store.level == "500 hPa"
    _assert_fields(store, 2 * winds)


def test_members_of_an_ensemble_need_a_choice(winds, tmp_path):
    members = winds.isel(time=slice(3)).expand_dims(number=[0, 1])
    with pytest.raises(errors.FieldError, match=r"(?s)number \(2\).*isel\(number=0"):
        _store(members, tmp_path)


def test_times_without_dates(winds, tmp_path):
    counted = winds.assign_coords(time=np.arange(40))
    with pytest.raises(errors.TimeAxisError, match=r"(?s)holds no dates.*decode_cf"):
        _store(counted, tmp_path)


def test_a_period_without_times(winds, tmp_path):
    with pytest.raises(errors.TimeAxisError, match=r"(?s)no times in the period.*2020"):
        _store(winds, tmp_path, start="1999-01-01", end="1999-02-01")


def test_a_file_that_is_no_data_set(tmp_path):
    (tmp_path / "data.nc").write_text("nothing")
    source = Source(str(tmp_path / "data.nc"))
    with pytest.raises(errors.OptionError, match="xarray cannot open"):
        prepare_source(source, QUANTITIES, tmp_path)


# --- Recipes and data that do not fit -----------------------------------------------


def _train(recipe, data, tmp_path, **options):
    return train(
        recipe(1), data=str(data), out=tmp_path / "runs", progress=False, **options
    )


def test_a_series_too_short_to_hold_out_is_trained_on(winds, recipe, tmp_path):
    winds.isel(time=slice(6)).to_netcdf(tmp_path / "short.nc")
    with pytest.warns(UserWarning, match="too short to hold a part of it out"):
        folder = _train(recipe, tmp_path / "short.nc", tmp_path)
    assert (folder / "curve.json").exists()


def test_a_series_shorter_than_the_longest_lag(winds, recipe, tmp_path):
    winds.isel(time=slice(3)).to_netcdf(tmp_path / "short.nc")
    with pytest.raises(
        errors.TimeAxisError, match=r"(?s)shorter than the longest lag.*3 times in 12 h"
    ):
        _train(recipe, tmp_path / "short.nc", tmp_path)


def test_a_region_smaller_than_a_patch(winds, recipe, tmp_path):
    winds.isel(longitude=slice(12)).to_netcdf(tmp_path / "small.nc")
    with pytest.raises(
        errors.GridError, match=r"(?s)smaller than a patch.*61 x 12 points in small"
    ):
        _train(recipe, tmp_path / "small.nc", tmp_path)


def test_a_region_beyond_the_latitudes_of_the_recipe(winds, recipe, tmp_path):
    winds.sel(latitude=slice(42, 90)).to_netcdf(tmp_path / "arctic.nc")
    with pytest.raises(
        errors.GridError, match=r"(?s)No patch lies within 50°.*latitude_limit = 65"
    ):
        _train(recipe, tmp_path / "arctic.nc", tmp_path)


def test_a_regional_series_trains(winds, recipe, tmp_path):
    region = winds.sel(latitude=slice(0, 60), longitude=slice(30, 120))
    region.to_netcdf(tmp_path / "region.nc")
    assert (_train(recipe, tmp_path / "region.nc", tmp_path) / "run.json").exists()


def test_a_grid_that_the_card_does_not_promise(recipe, tmp_path):
    fine = synthetic_winds(40, np.arange(20, -21, -0.5), np.arange(0, 40, 0.5))
    fine.to_netcdf(tmp_path / "fine.nc")
    with pytest.warns(
        errors.ExtrapolationWarning, match=r"fine has a grid of 0.5 x 0.5.*--coarsen 2"
    ):
        _train(recipe, tmp_path / "fine.nc", tmp_path)
    _train(recipe, tmp_path / "fine.nc", tmp_path / "coarse", coarsen=2)


def test_a_level_without_data(recipe, tmp_path):
    with pytest.raises(errors.OptionError, match="--level or --coarsen without --data"):
        train(recipe(), out=tmp_path, level="850 hPa")


def test_a_network_for_other_lags(recipe, tmp_path):
    path = recipe()
    path.write_text(path.read_text().replace("n_lags = 3", "n_lags = 4"))
    with pytest.raises(
        errors.OptionError, match=r"(?s)n_classes = 3 in \[network\], n_lags = 4"
    ):
        train(path, out=tmp_path)


def test_an_order_that_there_is_not(recipe, tmp_path):
    path = recipe()
    path.write_text(
        path.read_text().replace("n_lags = 3", 'n_lags = 3\norder = "fast"')
    )
    with pytest.raises(errors.OptionError, match=r"\[sampling\] order cannot be 'fast"):
        train(path, out=tmp_path)


def test_the_command_says_what_was_reached(recipe, winds_file, tmp_path, capsys):
    from xatmo.cli import main

    run = ["train", str(recipe(1)), "--out", str(tmp_path), "--quiet"]
    assert main(run) == 0
    said = capsys.readouterr()
    assert "1 epoch, " in said.out
    assert "pairs/s, validation accuracy" in said.out
    assert f"next: xatmo release {recipe(1)} --out {tmp_path}" in said.out
    assert "Tip" not in said.err


def test_data_of_the_call_are_not_released_as_those_of_the_recipe(
    recipe, winds_file, tmp_path
):
    from xatmo.training.release import release

    _train(recipe, winds_file, tmp_path)
    with pytest.raises(
        errors.OptionError, match=r"(?s)has changed.*train was winds.nc.*as it was"
    ):
        release(recipe(1), out=tmp_path / "runs", models=tmp_path / "models")
