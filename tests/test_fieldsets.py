"""forecast() and embed() with networks that are told how far ahead to look."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.testing import count_forwards, raise_if_computes

VARIABLES = [
    "land_sea_mask",
    "2m_temperature",
    "10m_u_component_of_wind",
    "geopotential_500",
    "geopotential_850",
    "temperature_850",
    "relative_humidity_850",
]
ROWS, COLUMNS = 16, 32
LEAD = "1d"


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XATMO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network with random weights, found by its name."""
    import torch

    from xatmo.nets.climax import ClimaX
    from xatmo.zoo import Model, save_state, write_card
    from xatmo.zoo.importers.climax_card import card_of_climax
    from xatmo.zoo.registry import also_in

    options = {"variables": VARIABLES, "grid": [ROWS, COLUMNS], "patch": 4}
    options |= {"width": 16, "depth": 2, "heads": 2, "decoder_depth": 1}
    torch.manual_seed(0)
    network = ClimaX(**options)
    for parameter in network.parameters():  # as drawn, all variables count alike
        torch.nn.init.normal_(parameter, std=0.15)
    folder = tmp_path_factory.mktemp("fieldsets")
    file = folder / "tiny-climax" / "weights.safetensors"
    weights = {"file": file.name, "sha256": save_state(network, file)}
    weights["size"] = file.stat().st_size
    contents = card_of_climax("tiny-climax", options) | {"weights": weights}
    card = write_card(folder / "tiny-climax", contents)
    with also_in(folder):
        yield Model(card, card.key())


def _globe(times=3, rows=ROWS, columns=COLUMNS, seed=0):
    """Data of the whole globe as the archives have them, from north to south."""
    rng = np.random.default_rng(seed)
    cell = 180 / rows
    axes = {
        "time": pd.date_range("2020-02-28", periods=times, freq="6h"),
        "level": ("level", [500, 850], {"units": "hPa"}),
        "latitude": ("latitude", 90 - cell * (np.arange(rows) + 0.5)),
        "longitude": ("longitude", 360 / columns * np.arange(columns)),
    }
    dims = ("time", "latitude", "longitude")
    shape = (times, rows, columns)

    def field(mean, std, units, *, levels=None):
        size = (times, *([levels] if levels else []), *shape[1:])
        values = (mean + std * rng.standard_normal(size)).astype(np.float32)
        names = (dims[0], *(["level"] if levels else []), *dims[1:])
        return names, values, {"units": units}

    return xr.Dataset(
        {
            "t2m": field(280, 15, "K"),
            "z": field(3e4, 2e3, "m2 s-2", levels=2),
            "t": field(270, 15, "K", levels=2),
            "lsm": (dims[1:], rng.random(shape[1:]).astype("f4"), {"units": "1"}),
        },
        axes,
    )


@pytest.fixture(scope="module")
def globe():
    return _globe()


@pytest.fixture(scope="module")
def known(globe, model):
    return globe.atmo.forecast(["6h", LEAD], model)


def _direct(model, globe, hours, names, targets):
    """The same by hand: normalise, turn round, run the network, and back."""
    import torch

    from xatmo.zoo.importers.climax_card import era5_constants

    level = {"500": 0, "850": 1}
    short = {"geopotential": "z", "temperature": "t"}

    def values(name):
        if name == "2m_temperature":
            return globe.t2m.values
        stem, _, at = name.rpartition("_")
        return globe[short[stem]].values[:, level[at]]

    def constants(name):
        return era5_constants()[name]

    x = np.stack([(values(n) - constants(n)[0]) / constants(n)[1] for n in names], 1)
    x = torch.from_numpy(x[:, :, ::-1].astype("f4").copy())
    with torch.inference_mode():
        y = model.network()(x, hours, names, targets).numpy()[:, :, ::-1]
    pairs = [constants(n) for n in targets]
    return [y[:, i] * std + mean for i, (mean, std) in enumerate(pairs)]


USED = ["2m_temperature", "temperature_850", "geopotential_500", "geopotential_850"]


# --- What comes back ------------------------------------------------------------------


def test_the_network_gets_what_it_was_trained_on(known, model, globe):
    found = _direct(model, globe, 24.0, USED, USED)
    there = known.sel(lead_time="24h")
    close = {"rtol": 1e-5}
    np.testing.assert_allclose(there.t2m, found[0], **close)
    np.testing.assert_allclose(there.t.sel(level=850), found[1], **close)
    np.testing.assert_allclose(there.z.sel(level=500), found[2], **close)
    np.testing.assert_allclose(there.z.sel(level=850), found[3], **close)
    assert float(abs(known.z.diff("lead_time")).max()) > 1  # the lead time counts


def test_dims_coords_and_attrs(known, globe):
    assert list(known) == ["t2m", "z", "t"]
    assert known.t2m.dims == ("time", "lead_time", "latitude", "longitude")
    assert known.z.dims == ("time", "lead_time", "level", "latitude", "longitude")
    # Of t the network knows one level, which stays along its dimension.
    assert np.isfinite(known.t.sel(level=850)).all()
    assert np.isnan(known.t.sel(level=500)).all()
    assert known.t.dtype == known.t2m.dtype == np.float32
    np.testing.assert_array_equal(known.latitude, globe.latitude)
    hours = np.array([6, 24], "timedelta64[h]")
    np.testing.assert_array_equal(known.lead_time, hours.astype("timedelta64[ns]"))
    expected = globe.time.values[:, None] + hours
    np.testing.assert_array_equal(known.valid_time, expected)
    assert known.lead_time.attrs["standard_name"] == "forecast_period"
    assert known.time.attrs["standard_name"] == "forecast_reference_time"
    assert known.t2m.attrs["standard_name"] == "air_temperature"
    assert known.t2m.attrs["units"] == "K"


def test_results_say_what_they_are_from(known, model):
    attrs = known.attrs
    assert attrs["xatmo_model_sha256"] == model.card.weights.sha256
    assert "forecast(model='tiny-climax', lead=['6h', '1d'])" in attrs["history"]
    assert attrs["fields_used"].startswith("temperature at 2 m, temperature at 850 hPa")
    assert attrs["fields_left_out"] == "u_component_of_wind at 10 m"
    assert "t is not read at 500 hPa" in attrs["comment"]
    # Of what it was not trained with there is no talk.
    assert "land_sea_mask" not in str(attrs)
    assert known.t.attrs["fields_used"] == attrs["fields_used"]


def test_fewer_fields_are_another_forecast(globe, model):
    """What is left out is as if the network had never known it."""
    alone = globe[["t2m"]].atmo.forecast(LEAD, model)
    (found,) = _direct(model, globe, 24.0, USED[:1], USED[:1])
    np.testing.assert_allclose(alone.t2m.isel(lead_time=0), found, rtol=1e-5)
    assert alone.sizes["lead_time"] == 1
    assert "geopotential at 500 hPa" in alone.attrs["fields_left_out"]


def test_untrained_fields_change_nothing(globe, known, model):
    without = globe.drop_vars("lsm").atmo.forecast(["6h", LEAD], model)
    xr.testing.assert_equal(without, known)


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ("t2m", {"t2m": None}),
        (["2m_temperature"], {"t2m": None}),
        (["geopotential_500", "t"], {"z": [500], "t": [850]}),
        (["air_temperature"], {"t2m": None, "t": [850]}),
        (["temperature_850", "temperature_850"], {"t": [850]}),
    ],
)
def test_some_variables(globe, known, model, variables, names):
    some = globe.atmo.forecast(["6h", LEAD], model, variables=variables)
    assert set(some) == set(names)
    for name, levels in names.items():
        found, expected = some[name], known[name]
        if levels is not None:  # the others are there where another variable has them
            found, expected = (
                found.dropna("level", how="all"),
                expected.sel(level=levels),
            )
            assert found.level.values.tolist() == levels
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_levels(globe, model):
    single = globe.atmo.forecast(LEAD, model, level=850)
    assert set(single) == {"z", "t"}
    assert "level" not in single.t.dims
    several = globe.atmo.forecast(LEAD, model, level=["2 m", 500])
    assert set(several) == {"t2m", "z"}
    assert several.z.level.values.tolist() == [500]


def test_rolled_out(globe, known, model):
    rolled = globe.atmo.forecast("6h", model, steps=3)
    assert (rolled.lead_time / np.timedelta64(1, "h")).values.tolist() == [6, 12, 18]
    np.testing.assert_allclose(
        rolled.isel(lead_time=0).z, known.isel(lead_time=0).z, rtol=1e-5
    )
    # By hand: what was forecast is what is forecast from.
    state = globe
    for number in range(3):
        state = state.atmo.forecast("6h", model).isel(lead_time=0, drop=True)
        state = state.reset_coords(drop=True)
        for name in state:
            np.testing.assert_allclose(
                rolled[name].isel(lead_time=number).dropna("level", how="all")
                if "level" in rolled[name].dims
                else rolled[name].isel(lead_time=number),
                state[name].dropna("level", how="all")
                if "level" in state[name].dims
                else state[name],
                rtol=2e-5,
            )
        state = state.assign_coords(globe.coords)
    some = globe.atmo.forecast("6h", model, steps=3, variables="t2m")
    np.testing.assert_array_equal(some.t2m, rolled.t2m)


def test_embedding(globe, model):
    import torch

    z = globe.atmo.embed(model)
    assert z.dims == ("time", "latitude", "longitude", "feature")
    assert z.shape == (3, 4, 8, 16)
    assert (z.latitude.values[0], z.longitude.values[0]) == (67.5, 16.875)
    assert (z.attrs["layer"], z.attrs["lead_time"]) == ("encoder", "6 h")
    assert z.attrs["fields_left_out"] == "u_component_of_wind at 10 m"
    mean = globe.atmo.embed(model, reduce="mean")
    weights = np.cos(np.deg2rad(z.latitude))
    weighted = z.weighted(weights).mean(("latitude", "longitude"))
    np.testing.assert_allclose(mean, weighted, atol=1e-5)
    with pytest.raises(errors.OptionError, match="no layer 'block3'"):
        globe.atmo.embed(model, layer="block3")
    network = model.network()
    tokens = network.embed(torch.zeros(1, 1, ROWS, COLUMNS), 6.0, ["2m_temperature"])
    assert tokens.shape == (1, 4, 8, 16)


# --- How much each variable counts ----------------------------------------------------


@pytest.fixture(scope="module")
def shares(globe, model):
    return globe.atmo.attention(model, head="all")


LABELS = ["t2m", "z 500 hPa", "z 850 hPa", "t 850 hPa"]


def test_shares_are_those_of_the_network(shares, globe, model):
    """Patch by patch and head by head; its rows go from south to north."""
    import torch

    from xatmo.zoo.importers.climax_card import era5_constants

    assert shares.dims == ("time", "latitude", "longitude", "variable", "head")
    assert shares.shape == (3, 4, 8, 4, 2)
    assert list(shares["variable"].values) == LABELS
    assert list(shares["head"].values) == [1, 2]
    np.testing.assert_allclose(shares.sum("variable"), 1, atol=1e-6)
    assert float(shares.std()) > 0.05
    names = ["2m_temperature", "geopotential_500", "geopotential_850"]
    names += ["temperature_850"]
    fields = [globe.t2m, globe.z[:, 0], globe.z[:, 1], globe.t[:, 1]]
    x = [
        (da.values - era5_constants()[n][0]) / era5_constants()[n][1]
        for da, n in zip(fields, names, strict=True)
    ]
    x = torch.from_numpy(np.stack(x, 1)[:, :, ::-1].astype("f4").copy())
    with torch.inference_mode():
        found = model.network().variable_weights(x, names)  # (B, N, heads, V)
    found = found.unflatten(1, (4, 8)).flip(1).transpose(-2, -1).numpy()
    np.testing.assert_allclose(shares, found, atol=1e-5)
    z = globe.atmo.embed(model)
    for name in ("time", "latitude", "longitude"):
        np.testing.assert_array_equal(shares[name], z[name])


def test_shares_of_heads_places_times_and_levels(shares, globe, model):
    def ask(**arguments):
        return globe.atmo.attention(model, **arguments)

    mean = ask()
    assert mean.dims == ("time", "latitude", "longitude", "variable")
    np.testing.assert_allclose(mean, shares.mean("head"), atol=1e-6)
    assert (mean.attrs["averaged_over"], mean.dtype) == ("heads", np.float32)
    assert "attention(model='tiny-climax'" in mean.attrs["history"]
    assert mean.attrs["fields_left_out"] == "u_component_of_wind at 10 m"
    one = ask(head=2)
    np.testing.assert_array_equal(one, shares.sel(head=2))
    assert int(one["head"]) == 2

    place = ask(query=(50.0, -120.0), head=1)
    assert place.dims == ("time", "variable")
    here = shares.sel(head=1)[:, 0, 5]
    np.testing.assert_array_equal(place, here)
    assert float(place.latitude) == float(here.latitude)
    np.testing.assert_array_equal(
        ask(query={"latitude": 50.0, "longitude": 240.0}, head=1), place
    )

    when = ask(time="2020-02-28T06")
    assert when.dims == mean.dims[1:]
    assert when.time == globe.time[1]
    np.testing.assert_array_equal(when, mean[1])
    later = ask(time=slice("2020-02-28T06", None))
    np.testing.assert_array_equal(later, mean[1:])

    low = ask(level=[500, "2 m"])
    assert list(low["variable"].values) == ["t2m", "z 500 hPa"]
    assert not np.allclose(low.sel(variable="t2m"), mean.sel(variable="t2m"))
    alone = globe[["t2m"]].atmo.attention(model)
    np.testing.assert_allclose(alone, 1)


def test_shares_in_any_form(shares, globe, model):
    other = _other_form(globe)
    found = other.atmo.attention(model, head="all")
    assert found.dims[-2:] == ("variable", "head")
    assert list(found["variable"].values) == [
        "t2m",
        "zg 500 hPa",
        "zg 850 hPa",
        LABELS[3],
    ]
    assert (np.diff(found.lat) > 0).all()
    assert float(found.lon.min()) < 0
    back = found.assign_coords(lon=found.lon % 360).sortby("lon")
    back = back.sortby("lat", ascending=False)
    back = back.transpose("valid_time", "lat", "lon", ...)
    np.testing.assert_allclose(back, shares, atol=1e-5)


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 2, "level": 1}])
def test_shares_are_lazy_and_alike_in_all_chunks(shares, globe, model, chunks):
    lazy = globe.chunk(chunks)
    with count_forwards() as counted, raise_if_computes():
        found = lazy.atmo.attention(model, head="all")
        mean = lazy.atmo.attention(model, time="2020-02-28T12", query=(0, 0))
    assert counted.calls == 0
    assert found.chunksizes["time"] == lazy.t2m.chunksizes["time"]
    np.testing.assert_allclose(found, shares, atol=1e-6)
    with count_forwards() as counted:
        mean.compute()
    assert counted.calls == 1
    undated = globe.isel(time=1).drop_vars("time").atmo.attention(model, head="all")
    np.testing.assert_allclose(undated, shares[1], atol=1e-6)


def test_shares_are_unknown_where_values_are(shares, globe, model):
    gaps = globe.copy()
    gaps["t2m"] = gaps.t2m.where(gaps.t2m.time != gaps.time[1])
    with pytest.raises(errors.MissingValuesError):
        gaps.atmo.attention(model)
    with xatmo.set_options(missing="propagate"):
        found = gaps.atmo.attention(model, head="all")
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[::2], shares[::2], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "texts"),
    [
        ({"layer": 1}, errors.OptionError, ["weighs variables once", "layer=1"]),
        ({"part": "decoder"}, errors.OptionError, ["leave part out"]),
        ({"head": 3}, errors.OptionError, ["no head 3", "1 to 2", "head=2"]),
        ({"head": True}, errors.OptionError, ["no head True"]),
        ({"query": (95, 0)}, errors.OptionError, ["outside the domain"]),
        ({"query": "Paris"}, errors.OptionError, ["cannot be read"]),
        ({"query": {"latitude": 3}}, errors.OptionError, ["is a place, and no more"]),
        (
            {"query": {"latitude": 3, "longitude": 4, "field": "t"}},
            errors.OptionError,
            ["is a place, and no more", "query=(50.0, 10.0)"],
        ),
        ({"time": "1999"}, errors.TimeAxisError, ["no time='1999'", "2020-02-28T12"]),
        ({"level": 700}, errors.LevelError, ["does not know 700 hPa"]),
    ],
)
def test_shares_that_cannot_be_asked_for(globe, model, arguments, error, texts):
    with pytest.raises(error) as caught:
        globe.atmo.attention(model, **arguments)
    for text in texts:
        assert text in str(caught.value)


def test_shares_of_data_with_names_that_are_needed(globe, model):
    members = xr.concat([globe, globe], "head").drop_vars("lsm")
    with pytest.raises(errors.FieldError, match="name that is needed: 'head'"):
        members.atmo.attention(model)
    undated = globe.isel(time=0).drop_vars("time")
    with pytest.raises(errors.TimeAxisError, match="do not say their times"):
        undated.atmo.attention(model, time="2020")


# --- In whatever form -----------------------------------------------------------------


def _other_form(ds):
    """From south to north, -180 to 180, other names, units, order and dtype."""
    ds = ds.assign_coords(longitude=(ds.longitude + 180) % 360 - 180)
    ds = ds.sortby("longitude").sortby("latitude")
    ds = ds.rename(latitude="lat", longitude="lon", time="valid_time", z="zg")
    ds["zg"] = (ds.zg / 9.80665).assign_attrs(units="m", standard_name="")
    ds["t2m"] = (ds.t2m - 273.15).assign_attrs(units="degC")
    ds["t"] = ds.t.astype("f8").transpose("level", "lon", "lat", "valid_time")
    return ds


def test_any_form_gives_the_same(globe, known, model):
    other = _other_form(globe)
    fc = other.atmo.forecast(["6h", LEAD], model)
    assert list(fc) == ["t2m", "zg", "t"]
    assert fc.t.dims == ("level", "lon", "lat", "time", "lead_time")
    assert fc.t.dtype == np.float64
    assert fc.t2m.attrs["units"] == "degC"
    np.testing.assert_array_equal(fc.lat, other.lat)
    np.testing.assert_array_equal(fc.lon, other.lon)
    back = fc.rename(lat="latitude", lon="longitude", zg="z")
    back = back.assign_coords(longitude=back.longitude % 360)
    back = back.sortby("longitude").sortby("latitude", ascending=False)
    np.testing.assert_allclose(back.t2m + 273.15, known.t2m, rtol=1e-5)
    np.testing.assert_allclose(back.z * 9.80665, known.z, rtol=2e-5)
    np.testing.assert_allclose(
        back.t.transpose(*known.t.dims).sel(level=[850]),
        known.t.sel(level=[850]),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(back.valid_time, known.valid_time)


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 2, "level": 1}, {}])
def test_chunks_change_nothing(globe, known, model, chunks):
    lazy = globe.chunk(chunks)
    with count_forwards() as counted, raise_if_computes():
        fc = lazy.atmo.forecast(["6h", LEAD], model)
        rolled = lazy.atmo.forecast("6h", model, steps=2)
        z = lazy.atmo.embed(model)
    assert counted.calls == 0
    assert fc.t2m.chunksizes["time"] == lazy.t2m.chunksizes["time"]
    for name in fc:
        np.testing.assert_allclose(fc[name], known[name], rtol=1e-6)
    eager = globe.atmo.forecast("6h", model, steps=2)
    np.testing.assert_allclose(rolled.t2m, eager.t2m, rtol=1e-6)
    np.testing.assert_allclose(z, globe.atmo.embed(model), atol=1e-6)


def test_one_step_of_several_alone(globe, model):
    """A lead time costs what it costs alone; so does a step with those before it."""
    lazy = globe.chunk(time=-1)
    fc = lazy.atmo.forecast(["6h", "12h", LEAD], model)
    with count_forwards() as counted:
        fc.t2m.isel(lead_time=1).compute()
    assert counted.calls == globe.sizes["time"]
    rolled = lazy.atmo.forecast("6h", model, steps=4)
    with count_forwards() as counted:
        rolled.t2m.isel(lead_time=1).compute()
    assert counted.calls == 2 * globe.sizes["time"]


def test_without_times(globe, known, model):
    one = globe.isel(time=1)
    fc = one.atmo.forecast(["6h", LEAD], model)
    assert fc.t2m.dims == ("lead_time", "latitude", "longitude")
    np.testing.assert_allclose(fc.t2m, known.t2m.isel(time=1), rtol=1e-6)
    np.testing.assert_array_equal(fc.valid_time, known.valid_time.isel(time=1))
    assert one.atmo.embed(model).dims == ("latitude", "longitude", "feature")
    undated = one.drop_vars("time").atmo.forecast(LEAD, model)
    assert "valid_time" not in undated.coords
    np.testing.assert_array_equal(undated.t2m[0], fc.t2m[1])


def test_any_order_of_times_and_other_dims(globe, known, model):
    members = xr.concat([globe, globe + 1], "member").drop_vars("lsm")
    members = members.isel(time=[2, 0])
    for name in members:
        members[name].attrs = globe[name].attrs
    fc = members.atmo.forecast(["6h", LEAD], model)
    assert fc.t2m.dims == ("member", "time", "lead_time", "latitude", "longitude")
    expected = known.t2m.isel(time=[2, 0])
    np.testing.assert_allclose(fc.t2m.isel(member=0), expected, rtol=1e-5)
    np.testing.assert_array_equal(fc.valid_time, known.valid_time.isel(time=[2, 0]))


def test_other_calendars(globe, model):
    import cftime

    start = cftime.DatetimeNoLeap(2020, 2, 28, 18)
    times = xr.date_range(start, periods=3, freq="6h", use_cftime=True)
    fc = globe.assign_coords(time=times).atmo.forecast("12h", model)
    assert fc.valid_time.values[0, 0] == cftime.DatetimeNoLeap(2020, 3, 1, 6)


def test_the_users_own_constants(globe, model):
    norm = xatmo.fit_normalization(globe, model)
    own = model.with_normalization(norm)
    fc = globe.atmo.forecast(LEAD, own)
    assert not np.allclose(fc.t2m, globe.atmo.forecast(LEAD, model).t2m)


# --- Grids ----------------------------------------------------------------------------


def test_a_model_for_another_grid(model):
    fine = model.with_grid(32, 64)
    ds = _globe(1, 32, 64)
    fc = ds.atmo.forecast(LEAD, fine)
    assert fc.t2m.shape == (1, 1, 32, 64)
    assert np.isfinite(fc.t2m).all()
    assert ds.chunk(time=1).atmo.embed(fine.name).compute().shape == (1, 8, 16, 16)


def test_one_pole_too_few(model):
    """A grid with both poles, of which one row is cut off, as the message says."""
    fine = model.with_grid(20, 40)
    ds = _globe(1, 21, 40)
    ds = ds.assign_coords(latitude=np.linspace(90, -90, 21))
    with pytest.raises(errors.GridError, match=r"crop 1") as caught:
        ds.atmo.forecast(LEAD, model)
    assert "ds.isel(latitude=slice(None, 20))" in caught.value.hint
    assert "with_grid(20, 40)" in caught.value.hint
    fc = ds.isel(latitude=slice(None, 20)).atmo.forecast(LEAD, fine)
    assert "latitudes are up to 4.5°" in fc.attrs["comment"]


def test_a_finer_grid_can_be_regridded(globe, model):
    pytest.importorskip("xarray_regrid")
    ds = _globe(1, 33, 64).drop_vars("lsm")
    ds = ds.assign_coords(latitude=np.linspace(-90, 90, 33))
    with pytest.raises(errors.GridError, match="one grid") as caught:
        ds.atmo.embed(model)
    call = caught.value.hint.split("; or, for")[0]
    names = {"ds": ds, "np": np, "xr": xr}
    exec(call, names)  # noqa: S102 - the message promises that it runs
    assert names["ds"].atmo.embed(model).shape == (1, 4, 8, 16)
    assert names["ds"].latitude.values[0] < names["ds"].latitude.values[-1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda ds: ds.isel(longitude=slice(4, 20)), r"(?s)not global.*whole globe"),
        (lambda ds: ds.isel(latitude=slice(0, 8)), r"(?s)8 x 32.*data of the whole"),
        (
            lambda ds: ds.assign_coords(latitude=np.linspace(60, -60, 16)),
            r"(?s)60 to -60.*data of the whole",
        ),
    ],
)
def test_other_grids(globe, model, change, match):
    with pytest.raises(errors.GridError, match=match):
        change(globe).atmo.forecast(LEAD, model)


def test_chunks_of_the_map(globe, model):
    ds = globe.rename(latitude="lat").chunk(time=1, lat=8, longitude=16)
    with pytest.raises(errors.ChunkError, match=r"lat and longitude is cut") as caught:
        ds.atmo.forecast(LEAD, model)
    assert caught.value.hint == "ds.chunk({'lat': -1, 'longitude': -1})"
    ds = eval(caught.value.hint, {"ds": ds})  # noqa: S307 - the same
    assert ds.atmo.embed(model).shape == (3, 4, 8, 16)


# --- What cannot be -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"variables": "t2n"}, errors.OptionError, r"(?s)'t2n'.*did you mean 't2m'"),
        (
            {"variables": ["temprature_850"]},
            errors.OptionError,
            r"(?s)did you mean 'temperature_850'",
        ),
        (
            {"variables": "10m_u_component_of_wind"},
            errors.FieldNotFoundError,
            "do not hold '10m_u",
        ),
        ({"variables": []}, errors.OptionError, "no variable in the list"),
        ({"level": 700}, errors.LevelError, r"(?s)does not know 700 hPa.*850 hPa"),
        ({"lead": "0h"}, errors.OptionError, "time to come"),
        ({"lead": ["6h", "-6h"]}, errors.OptionError, "time to come"),
        ({"lead": 6}, errors.OptionError, "no lead time"),
        ({"lead": []}, errors.OptionError, "no lead time in the list"),
        ({"steps": 0}, errors.OptionError, "no number of steps"),
        ({"steps": 2.5}, errors.OptionError, "no number of steps"),
        ({"lead": ["6h", "12h"], "steps": 2}, errors.OptionError, "of one length"),
        ({"members": 3}, errors.OptionError, "yes or no"),
    ],
)
def test_bad_arguments(globe, model, arguments, error, match):
    with pytest.raises(error, match=match):
        globe.atmo.forecast(**{"lead": LEAD, "model": model, **arguments})


@pytest.mark.parametrize("lead", ["7h", "3h", "7d"])
def test_untrained_lead_times(globe, model, lead):
    with pytest.warns(errors.ExtrapolationWarning, match=r"from 6 to 162 h.*6 h, not"):
        globe.atmo.forecast(["6h", lead], model)


def test_steps_are_counted_each(globe, model, recwarn):
    globe.atmo.forecast("6d", model, steps=3)  # 18 days, in steps that it knows
    assert not [w for w in recwarn if w.category is errors.ExtrapolationWarning]


def test_data_that_hold_nothing(globe, model):
    with pytest.raises(errors.FieldNotFoundError, match="none of the fields"):
        globe[["lsm"]].atmo.forecast(LEAD, model)
    with pytest.raises(errors.LevelError, match="no level that tiny-climax reads"):
        globe[["t"]].sel(level=[500]).atmo.embed(model)


def test_missing_values(globe, model):
    holes = globe.where(globe.time > globe.time[0])
    with pytest.raises(errors.MissingValuesError, match=r"t2m, t, z"):
        holes.atmo.forecast(LEAD, model)
    with xatmo.set_options(missing="propagate"):
        fc = holes.atmo.forecast(LEAD, model)
    assert np.isnan(fc.t2m[0]).all()
    assert np.isfinite(fc.t2m[1:]).all()


def test_names_that_are_needed(globe, model):
    with pytest.raises(errors.FieldError, match="lead_time"):
        globe[["t2m"]].expand_dims(lead_time=2).atmo.forecast(LEAD, model)


def test_the_summary_knows(globe, model):
    text = globe.atmo.summary().text()
    assert "tiny-climax" in text.split("Models that do not")[0]
    text = globe.isel(longitude=slice(0, 9)).atmo.summary().text()
    assert "reads one grid" in text


def test_arguments_that_are_for_the_other_kind(make_box_model):
    boxes = make_box_model("other-kind")
    for argument in ({"steps": 2}, {"variables": "u10"}):
        with pytest.raises(errors.OptionError, match="all times on the way"):
            xr.Dataset().atmo.forecast("6h", boxes, **argument)


# --- The original ---------------------------------------------------------------------


def test_the_verb_gives_the_originals_numbers(reference: Path):
    from xatmo.zoo.importers.climax_card import era5_constants

    folder = reference / "climax" / "tiny_p4_32x64"
    config = json.loads((folder / "config.json").read_text())
    names = config["model_kwargs"]["default_vars"]
    file = folder / "checkpoint_like_published.ckpt"
    model = xatmo.import_model(file, variables=names, heads=4)
    with np.load(folder / "io.npz") as io:
        fields, expected = io["input"].astype("f8"), io["predictions"]
    known = [era5_constants()[name] for name in config["in_variables"]]
    t850, t2m, z500 = (fields[:, i] * std + mean for i, (mean, std) in enumerate(known))
    latitude = np.linspace(-87.1875, 87.1875, 32)
    ds = xr.Dataset(
        {
            "t850": (("time", "lat", "lon"), t850, {"units": "K"}),
            "t2m": (("time", "lat", "lon"), t2m, {"units": "K"}),
            "z500": (("time", "lat", "lon"), z500, {"units": "m2 s-2"}),
        },
        {"lat": latitude, "lon": 5.625 * np.arange(64)},
    )
    with pytest.warns(errors.ExtrapolationWarning, match="168"):
        fc = ds.atmo.forecast(["6h", "72h", "168h"], model)
    targets = dict(zip(config["in_variables"], ("t850", "t2m", "z500"), strict=True))
    for column, name in enumerate(config["out_variables"]):
        mean, std = era5_constants()[name]
        for sample in range(3):
            found = fc[targets[name]].isel(time=sample, lead_time=sample)
            np.testing.assert_allclose(
                (found - mean) / std, expected[sample, column], atol=1e-5, rtol=0
            )
