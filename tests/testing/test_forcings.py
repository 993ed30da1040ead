"""The simulated climate answers to emissions as physics on a page says."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo.testing.forcings import SCENARIOS, emissions, two_boxes, write_scenarios

FILES = ("historical", "hist-GHG", "hist-aer", *SCENARIOS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forcings")
    files = write_scenarios(folder, (16, 32), members=2, seed=3)
    assert [f.name for f in files[:2]] == [
        "inputs_historical.nc",
        "outputs_historical.nc",
    ]
    assert len(files) == 2 * len(FILES)
    return folder


def _end(folder, scenario, name="tas", years=20):
    """Mean of the last years and of the members, and its mean by area."""
    with xr.open_dataset(folder / f"outputs_{scenario}.nc") as ds:
        field = ds[name].isel(time=slice(-years, None)).mean(("member", "time")).load()
    return field, float(field.weighted(np.cos(np.deg2rad(field.lat))).mean())


def test_files_are_laid_out_as_those_of_climatebench(folder):
    with xr.open_dataset(folder / "inputs_ssp245.nc") as ds:
        assert {name: ds[name].dims for name in ("CO2", "CH4")} == {
            "CO2": ("time",),
            "CH4": ("time",),
        }
        assert ds["SO2"].dims == ("time", "latitude", "longitude")
        assert ds["time"].values[[0, -1]].tolist() == [2015, 2100]
        assert "simulated" in ds.attrs["title"]
    with xr.open_dataset(folder / "outputs_historical.nc") as ds:
        assert set(ds.data_vars) == {"tas", "diurnal_temperature_range", "pr", "pr90"}
        assert ds["pr"].dims == ("member", "time", "lat", "lon")
        assert dict(ds.sizes) == {"member": 2, "time": 165, "lat": 16, "lon": 32}
        assert "quantile" in ds.coords


def test_two_boxes_are_in_balance_and_slow():
    warmth = two_boxes(np.full(3000, 2.4), feedback=1.2)
    assert warmth[-1] == pytest.approx(2.0, abs=1e-3)
    assert 0.5 < warmth[20] / warmth[-1] < 0.8  # the deep ocean takes its time
    assert np.all(np.diff(warmth) > -1e-9)


def test_scenarios_are_in_order_and_land_and_arctic_warm_more(folder):
    ends = [_end(folder, name)[1] for name in ("ssp126", "ssp245", "ssp370", "ssp585")]
    assert ends == sorted(ends)
    assert 1 < ends[0] < ends[-1] < 6
    field, mean = _end(folder, "ssp585")
    assert float(field.sel(lat=slice(70, 90)).mean()) > 1.5 * mean
    assert float(field.sel(lat=25, lon=10, method="nearest")) > float(
        field.sel(lat=25, lon=200, method="nearest")
    )


def test_sulphate_cools_where_it_is_emitted(folder):
    field, mean = _end(folder, "hist-aer")
    assert mean < -0.2
    assert float(field.sel(lat=33, lon=113, method="nearest")) < 2 * mean
    assert _end(folder, "hist-GHG")[1] > _end(folder, "historical")[1]
    assert emissions("hist-aer").totals["CO2"].max() == 0
    assert np.ptp(emissions("hist-GHG").totals["SO2"]) == 0


def test_emitted_mass_is_that_of_the_totals(folder):
    with xr.open_dataset(folder / "inputs_ssp370.nc") as ds:
        edges = np.linspace(-90, 90, 17)
        area = np.diff(np.sin(np.deg2rad(edges))) / 2 / 32 * 5.1e14  # m2 of a cell
        mass = (ds["SO2"].isel(time=-1).values * area[:, None]).sum() * 365 * 86_400
    assert mass / 1e9 == pytest.approx(emissions("ssp370").totals["SO2"][-1], rel=0.02)


def test_members_differ_by_weather_that_the_seed_says(folder, tmp_path):
    again = write_scenarios(tmp_path, (16, 32), scenarios=["ssp126"], members=2, seed=3)
    other = write_scenarios(
        tmp_path / "other", (16, 32), scenarios=["ssp126"], members=2, seed=4
    )
    with (
        xr.open_dataset(folder / "outputs_ssp126.nc") as first,
        xr.open_dataset(again[1]) as second,
        xr.open_dataset(other[1]) as third,
    ):
        assert first.identical(second)
        apart = (first["tas"][0] - first["tas"][1]).load()
        assert 0.1 < float(apart.std()) < 0.6
        assert float(abs(first["tas"][0] - third["tas"][0]).max()) > 0.1
        memory = float(xr.corr(apart[1:], apart.shift(time=1)[1:], "time").mean())
        assert 0.2 < memory < 0.6
