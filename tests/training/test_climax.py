"""ClimaX: states and what became of them; pretrained, fine-tuned and compared."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.nets.climax import ClimaX
from xatmo.testing import synthetic_winds
from xatmo.training.climax.compare import compare, comparison_page
from xatmo.training.climax.evaluate import evaluate
from xatmo.training.climax.module import adamw_groups, published_rate
from xatmo.training.climax.plain import fit_linear
from xatmo.training.climax.recipe import read_recipe
from xatmo.training.climax.release import release
from xatmo.training.climax.run import begin, on_data
from xatmo.training.climax.sampling import blurred
from xatmo.training.logs import learning_curve, summary
from xatmo.training.recipe import Source, task
from xatmo.training.run import build_network, initial_state, train
from xatmo.training.source import open_source
from xatmo.zoo import read_card
from xatmo.zoo.importers.climax_card import era5_constants
from xatmo.zoo.registry import also_in

RECIPES = sorted((Path(__file__).parents[2] / "train" / "climax").glob("*.toml"))
RECIPES = [p for p in RECIPES if task(p) == "climax"]

RECIPE = """
name = "{name}"
version = "0.1.0"
title = "A tiny ClimaX, for tests"
task = "climax"
architecture = "climax"
{head}
[[fields]]
name = "u"
quantity = "eastward_wind"
[fields.levels]
"10 m" = "10m_u_component_of_wind"
"850 hPa" = "u_component_of_wind_850"
[[fields]]
name = "v"
quantity = "northward_wind"
[fields.levels]
"10 m" = "{v}"
"850 hPa" = "v_component_of_wind_850"
[network]
patch = 4
width = 16
depth = 2
heads = 2
decoder_depth = 1
growth = 24.0
{network}
[sampling]
longest = 3
{sampling}
[optimizer]
batch_size = 4
steps_per_epoch = {steps}
epochs = {epochs}
rise_steps = 2
validation_samples = 12
{optimizer}
[[data.train]]
path = "{data}"
scene = "both"
end = "2020-01-06"
quantities = ["eastward_wind", "northward_wind"]
{source}
[[data.train]]
path = "{high}"
scene = "both"
end = "2020-01-06"
quantities = ["eastward_wind", "northward_wind"]
{source}
[[data.validation]]
path = "{data}"
start = "2020-01-07"
quantities = ["eastward_wind", "northward_wind"]
{source}
[[data.evaluation]]
path = "{data}"
start = "2020-01-07"
quantities = ["eastward_wind", "northward_wind"]
{source}
[card]
capabilities = ["embed", "forecast"]
licence = "Apache-2.0"
citation = "nobody"
[card.training]
data = "synthetic"
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Winds on cells of the globe at 10 m, and some of the times at 850 hPa."""
    folder = tmp_path_factory.mktemp("climax")
    lat, lon = np.linspace(84.375, -84.375, 16), np.arange(0, 360, 11.25)
    low = synthetic_winds(40, lat, lon)
    high = 2 * low.isel(time=slice(4, 20)).rename(u10="u", v10="v")
    high = high.expand_dims(level=[850.0])
    high["level"].attrs = {"units": "hPa", "standard_name": "air_pressure"}
    for name, quantity in {"u": "eastward_wind", "v": "northward_wind"}.items():
        high[name].attrs = {"units": "m s-1", "standard_name": quantity}
    low.to_netcdf(folder / "low.nc")
    high.to_netcdf(folder / "high.nc")
    return folder


def _write(folder, files, name="tiny-leads", **parts):
    """Write a recipe; ``parts`` are lines of its tables."""
    known = {"head": "", "network": "", "sampling": "", "optimizer": "", "source": ""}
    known |= {"v": "10m_v_component_of_wind", "steps": 3, "epochs": 2, **parts}
    text = RECIPE.format(
        name=name, data=files / "low.nc", high=files / "high.nc", **known
    )
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def _sampler(path, out):
    job = begin(path, lambda recipe, onto: recipe, out)
    return job.recipe, job.data.train, job.data.validation


# --- Samples --------------------------------------------------------------------------


def test_samples_are_states_and_what_became_of_them(files, tmp_path):
    recipe, train_on, _ = _sampler(_write(tmp_path, files), tmp_path)
    assert recipe.network["grid"] == [16, 32]
    low = xr.open_dataset(files / "low.nc")
    views = {view.channels for view in train_on.views}
    assert len(views) == 2  # winds at 10 m alone, and at both levels
    seen = set()
    for number in range(12):
        batch = train_on.batch(number, 4)
        assert batch.x.shape == batch.y.shape
        assert batch.x.shape[2:] == (16, 32)
        assert np.isfinite(batch.x).all()
        assert (batch.channels == batch.channels[0]).all()
        seen |= {recipe.variables[n] for n in batch.channels[0]}
        names = [recipe.variables[n] for n in batch.channels[0]]
        if "10m_u_component_of_wind" not in names:
            continue
        at = names.index("10m_u_component_of_wind")
        mean, std = era5_constants()["10m_u_component_of_wind"]  # since they are known
        fields = (low.u10.values - mean) / std
        for now, later, lead in zip(batch.x, batch.y, batch.lead, strict=True):
            same = [np.allclose(field, now[at], atol=1e-3) for field in fields]
            found = np.flatnonzero(same)
            assert len(found) == 1
            after = fields[found[0] + int(lead) // 6]
            assert np.allclose(after, later[at], atol=1e-3)
    assert seen == set(recipe.variables)


def test_a_batch_is_a_function_of_its_number_and_parts_make_it_up(files, tmp_path):
    _, one, held = _sampler(_write(tmp_path, files), tmp_path)
    _, again, _ = _sampler(_write(tmp_path, files), tmp_path)
    whole = one.batch(5, 4)
    for key, value in vars(again.batch(5, 4)).items():
        assert np.array_equal(value, getattr(whole, key)), key
    halves = [one.batch(5, 4, (i, 2)) for i in range(2)]
    assert np.array_equal(np.concatenate([h.x for h in halves]), whole.x)
    # In validation all variables are there, and every lead time.
    assert sorted(set(held.batch(0, 6).lead)) == [6, 12, 18]
    assert held.batch(0, 6).x.shape[1] == 2


def test_rows_may_go_from_the_south(files, tmp_path):
    _, north, _ = _sampler(_write(tmp_path, files), tmp_path)
    path = _write(tmp_path, files, name="south-first", head="northward = true")
    _, south, _ = _sampler(path, tmp_path)
    a, b = north.batch(3, 2), south.batch(3, 2)
    assert np.array_equal(a.x[:, :, ::-1], b.x)
    assert np.array_equal(a.latitude[:, ::-1], b.latitude)


def test_too_short_a_series_is_refused(files, tmp_path):
    path = _write(tmp_path, files, sampling="step_hours = 400")
    with pytest.raises(errors.TimeAxisError, match=r"(?s)as far apart.*400 to 1200 h"):
        _sampler(path, tmp_path)


def test_blurred_fields_keep_means_over_blocks_of_waves():
    lon = np.arange(32) * 2 * np.pi / 32
    wave = np.tile(np.sin(lon), (8, 1))
    closed, open_ended = (blurred(wave, 4, periodic) for periodic in (True, False))
    assert np.abs(closed - 0.95 * wave).max() < 0.06  # what means leave of it
    assert np.abs(open_ended[:, :2] - wave[:, :2]).max() > 0.15
    assert np.allclose(blurred(np.full((4, 8), 3.0), 2, True), 3)
    with pytest.raises(errors.GridError, match="whole blocks"):
        blurred(wave, 5, True)


def test_sources_of_climate_models_are_read_by_their_own_names(tmp_path):
    """Two models as in CMIP6: other variables, names, units, calendars and order."""
    rng = np.random.default_rng(0)
    lat, lon = np.linspace(-84.375, 84.375, 16), np.arange(0, 360, 11.25)
    units = {"ua": "m s-1", "va": "m s-1", "zg": "m", "ta": "degC"}

    def written(name, variables, calendar):
        time = xr.date_range(
            "1850-01-01", periods=12, freq="6h", calendar=calendar, use_cftime=True
        )
        plev = ("plev", [85000.0, 50000.0], {"units": "Pa", "positive": "down"})
        shape, dims = (12, 2, 16, 32), ("time", "plev", "lat", "lon")
        ds = xr.Dataset(
            {v: (dims, rng.normal(size=shape), {"units": units[v]}) for v in variables},
            {"time": time, "plev": plev, "lat": lat, "lon": lon},
        )
        ds.to_netcdf(tmp_path / f"{name}.nc")
        return ds

    one = written("one", ["ua", "zg"], "noleap")
    written("two", ["ua", "va", "ta"], "proleptic_gregorian")
    wanted = {
        "one": ["eastward_wind", "geopotential"],
        "two": ["eastward_wind", "northward_wind", "air_temperature"],
    }
    sources = "".join(
        f'[[data.train]]\npath = "{tmp_path / name}.nc"\nlevel = "{level}"\n'
        f"quantities = {json.dumps(quantities)}\n"
        for name, quantities in wanted.items()
        for level in ("850 hPa", "500 hPa")
    )
    fields = {
        "u_component_of_wind": "eastward_wind",
        "v_component_of_wind": "northward_wind",
        "temperature": "air_temperature",
        "geopotential": "geopotential",
    }
    tables = "".join(
        f'[[fields]]\nname = "{name}"\nquantity = "{quantity}"\n[fields.levels]\n'
        f'"850 hPa" = "{name}_850"\n"500 hPa" = "{name}_500"\n'
        for name, quantity in fields.items()
    )
    path = tmp_path / "models.toml"
    path.write_text(
        'task = "climax"\nname = "models"\nversion = "1"\ntitle = "Two"\n'
        f'architecture = "climax"\n{tables}[network]\npatch = 4\nwidth = 16\n'
        "depth = 1\nheads = 2\n[sampling]\nlongest = 2\nfewer_variables = 0.0\n"
        f"[optimizer]\nbatch_size = 2\nsteps_per_epoch = 2\nepochs = 1\n{sources}"
    )
    recipe, sampler, _ = _sampler(path, tmp_path)
    seen = set()
    for number in range(8):
        batch = sampler.batch(number, 2)
        names = tuple(recipe.variables[n] for n in batch.channels[0])
        seen.add(names)
        if "geopotential_500" in names:
            mean, std = era5_constants()["geopotential_500"]
            fields_ = (
                9.80665 * one.zg.isel(plev=1, lat=slice(None, None, -1)) - mean
            ) / std
            now = batch.x[0, names.index("geopotential_500")]
            assert any(np.allclose(f, now, atol=1e-4) for f in fields_.values)
    assert {len(names) for names in seen} == {4, 6}  # a model to a batch
    train(path, out=tmp_path, progress=False)


# --- Sources --------------------------------------------------------------------------


def test_a_source_is_averaged_over_cells(files):
    fine = xr.open_dataset(files / "low.nc")
    coarse = open_source(Source(str(files / "low.nc"), grid=(8, 16)))
    assert dict(coarse.sizes) | {"time": 40} == dict(coarse.sizes)
    area = np.cos(np.deg2rad(fine.latitude))
    wide = np.cos(np.deg2rad(coarse.latitude))
    before = fine.u10.weighted(area).mean(("latitude", "longitude"))
    after = coarse.u10.weighted(wide).mean(("latitude", "longitude"))
    assert np.abs(before - after).max() < 0.02 * float(fine.u10.std())
    assert coarse.latitude.attrs == fine.latitude.attrs


def test_a_source_is_cut_to_a_box_across_the_date_line(files):
    ds = open_source(Source(str(files / "low.nc"), box=(-30, 30, 160, -150)))
    assert (np.abs(ds.latitude) <= 30).all()
    assert ds.longitude.values.tolist() == [168.75, 180.0, 191.25, 202.5]


# --- Training -------------------------------------------------------------------------


def test_every_recipe_can_be_read_and_built():
    for path in RECIPES:
        recipe = read_recipe(path)
        network = {"grid": [32, 64], **recipe.network}
        built = build_network(SimpleNamespace(architecture="climax", network=network))
        assert built.variables == recipe.variables
        assert len(set(recipe.variables)) == len(recipe.variables)


def test_learning_rates_are_the_published_ones(reference):
    for case in json.loads((reference / "climax" / "lr_schedule.json").read_text()):
        settings = SimpleNamespace(
            learning_rate=case["base"],
            end_rate=case["eta_min"],
            rise_steps=case["warmup"],
            epochs=1,
            steps_per_epoch=case["max"],
            schedule="cosine",
        )
        ours = [published_rate(settings, step) for step in range(len(case["lr"]))]
        np.testing.assert_allclose(ours, case["lr"], rtol=1e-9)


def test_codes_alone_are_not_decayed():
    network = ClimaX(["a", "b"], grid=(8, 8), patch=4, width=16, depth=1, heads=2)
    decayed, plain = adamw_groups(network, 0.1)
    names = {id(p): n for n, p in network.named_parameters()}
    assert sorted(names[id(p)] for p in plain["params"]) == [
        "position",
        "tokens.a.code",
        "tokens.b.code",
    ]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + 3 == len(names)


def test_a_run_is_resumed_as_if_it_had_not_stopped(files, tmp_path):
    path = _write(tmp_path, files)
    train(path, out=tmp_path / "a", progress=False)
    train(path, out=tmp_path / "b", stop_after=1, progress=False)
    train(path, out=tmp_path / "b", progress=False)
    one, two = (initial_state("tiny-leads", tmp_path / key) for key in "ab")
    for key, value in one.items():
        assert torch.equal(value, two[key]), key
    curve = learning_curve(tmp_path / "b" / "tiny-leads")
    assert len(curve) == 2
    assert curve[-1]["val_6h"] > 0
    assert "over persistence" in summary(tmp_path / "b" / "tiny-leads")


def test_a_network_that_begins_at_persistence_learns(files, tmp_path):
    rate = "learning_rate = 5e-3"
    path = _write(tmp_path, files, steps=80, epochs=1, optimizer=rate)
    folder = train(path, out=tmp_path, progress=False)
    held_out = learning_curve(folder)[-1]["val_rmse"]
    assert held_out < 0.97 * _persistence(path, tmp_path)


def _persistence(path, out):
    batch = _sampler(path, out)[2].batch(0, 12)
    return float(np.sqrt(np.mean((batch.x - batch.y) ** 2)))


def test_anomalies_fade_towards_what_is_usual(files, tmp_path):
    path = _write(tmp_path, files, network="damped = true")
    job = begin(path, lambda recipe, onto: recipe, tmp_path)
    network = build_network(job.recipe).eval()
    job.initial(network)
    low = xr.open_dataset(files / "low.nc").sel(time=slice(None, "2020-01-06"))
    name = "10m_u_component_of_wind"
    mean, std = era5_constants()[name]
    usual = (low.u10.mean("time").values - mean) / std
    np.testing.assert_allclose(network.usual[name].field, usual, atol=1e-3)
    with torch.no_grad():
        for layer in network.pixels.values():
            layer.weight.zero_()
        state = torch.randn(1, 1, 16, 32)
        ahead = network(state, 48.0, [name])[0, 0]
        expected = usual + (state[0, 0].numpy() - usual) / np.e
        np.testing.assert_allclose(ahead, expected, atol=1e-3)
        # What is not read is as usual.
        other = network(state, 48.0, [name], ["u_component_of_wind_850"])[0, 0]
        high = network.usual["u_component_of_wind_850"].field
        np.testing.assert_allclose(other, high, atol=1e-5)


def test_frozen_blocks_stay_but_for_their_norms(files, tmp_path):
    train(_write(tmp_path, files, name="base"), out=tmp_path, progress=False)
    path = _write(
        tmp_path,
        files,
        name="frozen",
        head='init_from = "base"',
        optimizer="freeze=true",
    )
    train(path, out=tmp_path, progress=False)
    before, after = (initial_state(name, tmp_path) for name in ("base", "frozen"))
    for key in before:
        frozen = key.startswith("blocks.") and "norm" not in key
        assert torch.equal(before[key], after[key]) == frozen, key


def test_a_new_variable_begins_as_another_or_says_that_it_is_new(files, tmp_path):
    train(_write(tmp_path, files, name="base"), out=tmp_path, progress=False)
    head = 'init_from = "base"'
    path = _write(tmp_path, files, name="other", head=head, v="gust")
    network = build_network(_sampler(path, tmp_path)[0])
    job = begin(path, lambda recipe, onto: recipe, tmp_path)
    with pytest.warns(UserWarning, match="base has no gust"):
        job.initial(network)
    base = initial_state("base", tmp_path)
    own = network.state_dict()
    assert torch.equal(own["blocks.0.norm1.weight"], base["blocks.0.norm1.weight"])
    assert torch.equal(own["position"], base["position"])

    head += '\ninit_variables = {gust = "10m_v_component_of_wind"}'
    path = _write(tmp_path, files, name="other", head=head, v="gust")
    job = begin(path, lambda recipe, onto: recipe, tmp_path)
    network = build_network(job.recipe)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        job.initial(network)
    own = network.state_dict()
    old = "10m_v_component_of_wind"
    assert torch.equal(own["tokens.gust.code"], base[f"tokens.{old}.code"])
    assert torch.equal(own["pixels.gust.weight"], base[f"pixels.{old}.weight"])


def test_weights_of_another_size_or_order_are_refused(files, tmp_path):
    train(_write(tmp_path, files, name="base"), out=tmp_path, progress=False)
    head = 'init_from = "base"'
    path = _write(tmp_path, files, name="wide", head=head, network="mlp_ratio = 2.0")
    with pytest.raises(errors.OptionError, match="do not fit this recipe's network"):
        train(path, out=tmp_path, progress=False)
    path = _write(tmp_path, files, name="lost", head='init_from = "nothing"')
    with pytest.raises(errors.OptionError, match="no weights 'nothing' to begin with"):
        train(path, out=tmp_path, progress=False)


# --- Released and scored --------------------------------------------------------------


@pytest.fixture(scope="module")
def released(files, tmp_path_factory):
    """A tiny model, released with its scores."""
    folder = tmp_path_factory.mktemp("released")
    path = _write(folder, files, network="damped = true")
    train(path, out=folder / "runs", progress=False)
    return release(path, out=folder / "runs", models=folder / "models", times=6)


def test_a_released_model_forecasts_what_it_was_scored_on(released, files):
    card = read_card(released / "card.toml")
    assert card.leads.longest == 18
    assert card.grid.patch == (16, 32)
    ds = xr.open_dataset(files / "low.nc")
    with also_in(released.parent):
        model = xatmo.load_model("tiny-leads")
        ahead = ds.atmo.forecast("6h", model)
        assert ahead.u10.dims == ("time", "lead_time", "latitude", "longitude")
        assert ds.atmo.embed(model).sizes["feature"] == 16
    scores = json.loads((released / "scores.json").read_text())
    (told,) = scores.values()
    assert {row["lead"] for row in told["forecast"]} == {"6h", "18h"}
    page = (released / "README.md").read_text()
    for text in ("/ linear regression", "eastward_wind", "Learning curve", "ACC"):
        assert text in page
    assert list(released.glob("figures/*/forecast.png"))


def test_what_is_usual_comes_to_another_grid(released, tmp_path, monkeypatch, files):
    monkeypatch.setenv("XATMO_CACHE", str(tmp_path))
    ds = xr.open_dataset(files / "low.nc").isel(time=[0])
    with also_in(released.parent):
        model = xatmo.load_model("tiny-leads")
        whole = model.network().usual["10m_u_component_of_wind"].field
        fine = model.with_grid(32, 64)
        field = fine.network().usual["10m_u_component_of_wind"].field
        assert field.shape == (32, 64)
        torch.testing.assert_close(field.mean(), whole.mean(), atol=0.02, rtol=0)
        lat = np.linspace(90 - 90 / 32, 90 / 32 - 90, 32)
        near = ds.interp(
            latitude=lat,
            longitude=np.arange(64) * 5.625,
            kwargs={"fill_value": "extrapolate"},
        )
        assert np.isfinite(near.atmo.forecast("6h", fine).u10).all()


def test_scores_are_what_one_would_count_by_hand(released, files):
    ds = xr.open_dataset(files / "low.nc").isel(time=slice(24, None))
    source = Source(str(files / "low.nc"), start=str(ds.time.values[0]))
    with also_in(released.parent):
        scores = evaluate("tiny-leads", source, leads=(6,), times=100)
        found = ds.isel(time=slice(None, -1)).atmo.forecast("6h", "tiny-leads")
    row = next(r for r in scores["forecast"] if r["variable"] == "u10")
    truth = ds.u10.isel(time=slice(1, None)).values
    weights = np.cos(np.deg2rad(ds.latitude.values))
    weights /= weights.mean()

    def rmse(field):
        errors_ = np.square(field - truth) * weights[:, None]
        return np.sqrt(errors_.mean((1, 2))).mean()

    assert row["rmse"] == pytest.approx(rmse(found.u10.values[:, 0]), rel=1e-3)
    now = ds.u10.isel(time=slice(None, -1)).values
    assert row["persistence"] == pytest.approx(rmse(now), rel=1e-3)
    assert row["climatology"] == pytest.approx(rmse(ds.u10.values.mean(0)), rel=1e-3)
    assert scores["climatology"] == "the data themselves"
    assert "linear" not in row  # nothing to fit it on


def test_linear_regression_finds_what_is_linear():
    rng = np.random.default_rng(0)
    steps = [rng.normal(size=(2, 4, 8))]
    for _ in range(60):
        last = steps[-1]
        east = np.roll(last[0], 1, -1)  # one cell to the east, and the other by a half
        steps.append(np.stack([east, 0.5 * last[0] - 0.25 * np.roll(last[1], -1, -1)]))
        steps[-1] = steps[-1] + 0.01 * rng.normal(size=(2, 4, 8))
    states = np.stack(steps)
    linear = fit_linear([(np.arange(61) * 6, states)], np.full(4, 45.0), (6,))
    found = linear.forecast(states[:-1], 6)
    assert np.sqrt(np.mean((found - states[1:]) ** 2)) < 0.03


def test_a_regional_network_reads_its_region_alone(files, tmp_path):
    path = _write(
        tmp_path, files, name="tiny-region", source="box = [-50, 50, 90, 200]"
    )
    train(path, out=tmp_path / "runs", progress=False)
    folder = release(path, out=tmp_path / "runs", models=tmp_path / "models", times=4)
    card = read_card(folder / "card.toml")
    assert card.grid.patch == (8, 8)
    assert card.grid.longitude == (90.0, 168.75)
    ds = xr.open_dataset(files / "low.nc")
    with also_in(folder.parent):
        with pytest.raises(errors.GridError, match=r"(?s)one region.*ds.interp\("):
            ds.atmo.forecast("6h", "tiny-region")
        lat = np.linspace(*card.grid.latitude, 8)
        own = ds.sel(latitude=lat, longitude=slice(90, 170), method=None)
        ahead = own.atmo.forecast("6h", "tiny-region")
        assert np.isfinite(ahead.u10.values).all()
        flipped = own.sortby("latitude").atmo.forecast("6h", "tiny-region")
        np.testing.assert_allclose(flipped.u10.sel(latitude=lat), ahead.u10, atol=1e-5)


def test_codes_of_places_are_interpolated_to_a_region(files, tmp_path):
    train(_write(tmp_path, files, name="base"), out=tmp_path, progress=False)
    source = "box = [-70, 70, 80, 300]"
    path = _write(
        tmp_path, files, name="part", head='init_from = "base"', source=source
    )
    job = begin(path, lambda recipe, onto: recipe, tmp_path)
    network = build_network(job.recipe)
    job.initial(network)
    whole = initial_state("base", tmp_path)["position"]
    assert network.position.shape == (3, 4, 16)
    # The region begins at 90 E: its second patch is the globe's fourth.
    north = job.data.train.latitude.reshape(3, 4).mean(1)
    row = (90 - north[1]) / 180 * 4 - 0.5
    low, share = int(row), row - int(row)
    expected = (1 - share) * whole[low, 3] + share * whole[low + 1, 3]
    torch.testing.assert_close(network.position[1, 1], expected)


def test_finer_fields_are_compared_with_interpolation(files, tmp_path):
    sampling = "factor = 4"
    paths = [
        _write(tmp_path, files, name=name, sampling=sampling, optimizer=seed)
        for name, seed in (("finer-a", "seed = 1"), ("finer-b", "seed = 2"))
    ]
    result = compare(paths, out=tmp_path / "runs", times=5)
    (told,) = result["data"].values()
    by = [row["by"] for row in told["finer"]]
    assert by[:4] == [
        "mean of the training data",
        "bilinear interpolation",
        "finer-a",
        "finer-b",
    ]
    low = xr.open_dataset(files / "low.nc").isel(time=slice(24, None))
    truth = low.u10.values[np.linspace(0, 15, 5).round().astype(int)]
    coarse = blurred(truth, 4, True)
    row = told["finer"][1]
    assert row["variable"] == "10m_u_component_of_wind"
    assert row["pearson"] == pytest.approx(
        np.corrcoef(coarse.ravel(), truth.ravel())[0, 1], abs=1e-3
    )
    assert row["bias"] == pytest.approx((coarse - truth).mean(), abs=1e-3)
    assert "| bilinear interpolation |" in comparison_page(result)
    with pytest.raises(errors.OptionError, match="make fields finer"):
        release(paths[0], out=tmp_path / "runs", models=tmp_path / "models")


@pytest.mark.skipif("XATMO_DATA" not in os.environ, reason="needs XATMO_DATA")
def test_analyses_at_two_levels_make_one_scene(tmp_path):
    recipe = read_recipe(RECIPES[0].with_name("small.toml"))
    scene = [s for s in recipe.validation if s.scene == "spring"]
    shapes = [open_source(s).sizes for s in scene]
    assert all((s["latitude"], s["longitude"]) == (32, 64) for s in shapes)


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(files, tmp_path):
    plain = "dropout = 0.0\ndrop_path = 0.0"
    two = _write(tmp_path, files, network=plain, epochs=1)
    train(two, out=tmp_path / "two", devices=2, accelerator="cpu", progress=False)
    text = two.read_text().replace("batch_size = 4", "batch_size = 8")
    two.write_text(text)
    train(two, out=tmp_path / "one", progress=False)
    states = [initial_state("tiny-leads", tmp_path / key) for key in ("one", "two")]
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], atol=1e-5, rtol=1e-4)


def test_a_level_that_the_recipe_does_not_name_reads_all_its_quantities(
    files, tmp_path
):
    path = _write(tmp_path, files)
    source = Source(str(files / "low.nc"), level="10 m")
    recipe = on_data(read_recipe(path), source)
    assert recipe.train[0].quantities == ("eastward_wind", "northward_wind")
    assert recipe.train[0].level == "10 m"


def test_data_of_nothing_that_the_model_knows_are_refused(released, files, tmp_path):
    ds = xr.open_dataset(files / "low.nc").rename(u10="a", v10="b").drop_attrs()
    ds.to_netcdf(tmp_path / "other.nc")
    with also_in(released.parent):
        said = r"(?s)nothing that tiny-leads forecasts.*eastward_wind"
        with pytest.raises(errors.FieldNotFoundError, match=said):
            evaluate("tiny-leads", Source(str(tmp_path / "other.nc")))
