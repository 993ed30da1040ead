"""Multiformers with finer tails: tuned, calibrated, released, and used."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.cli import main
from xatmo.nets.resample import block_mean
from xatmo.testing import synthetic_winds
from xatmo.training.data import NumberedBatches
from xatmo.training.downscale.estimates import Network
from xatmo.training.downscale.truth import Truth
from xatmo.training.logs import learning_curve
from xatmo.training.multiformer.calibrate import spread_factors, widen
from xatmo.training.multiformer.finer_module import FinerBoxes
from xatmo.training.multiformer.recipe import read_recipe
from xatmo.training.multiformer.release import release
from xatmo.training.multiformer.run import begin
from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import Source
from xatmo.training.run import build_network, initial_state, network_state, train
from xatmo.zoo import load_model, read_card
from xatmo.zoo.registry import also_in

FIELD = """
[[fields]]
name = "{name}"
quantity = "{quantity}"
slots = [["10 m"], ["850 hPa"]]
[[network.fields]]
name = "{name}"
width = 32
levels = 2
tokens = [2, 2, 3]
token_size = [2, 4, 4]
sources = {sources}
"""
RECIPE = """
name = "{name}"
version = "0.1.0"
title = "A tiny Multiformer, for tests"
task = "multiformer"
{head}
[network]
{network}
encoder_layers = 1
decoder_layers = 1
encoder_heads = 2
decoder_heads = 2
members = 5
dropout = 0.0
guess = "time"
info = "periodic"
{fields}
[network.level_numbers]
{numbers}
[objective]
member = 0.0
statistical = 0.0
crps = 1.0
{objective}
[optimizer]
batch_size = 4
steps_per_epoch = {steps}
epochs = 2
rise_steps = 1
validation_boxes = 8
workers = 0
[[data.train]]
path = "{data}"
quantities = {quantities}
end = "2020-01-05"
[[data.validation]]
path = "{data}"
quantities = {quantities}
start = "2020-01-07"
[[data.calibration]]
path = "{data}"
quantities = {quantities}
start = "2020-01-06"
end = "2020-01-06"
[[data.evaluation]]
path = "{data}"
quantities = {quantities}
start = "2020-01-07"
[card]
capabilities = ["{capability}"]
licence = "Apache-2.0"
citation = "nobody"
[card.grid]
spacing = [3.0, 9.0]
patch = [4, 4]
[card.training]
data = "synthetic"
"""
QUANTITIES = {
    "u": "eastward_wind",
    "v": "northward_wind",
    "t": "air_temperature",
}


def _write(folder, data, name="fine", names="uv", head="", **told):
    fine = "factor" in head
    others = {n: [o for o in names if o != n] for n in names}
    sources = {n: str(o).replace("'", '"') for n, o in others.items()}
    wanted = [QUANTITIES[n] for n in names if n != "t"]
    told = {
        "fields": "".join(
            FIELD.format(name=n, quantity=QUANTITIES[n], sources=sources[n])
            for n in names
        ),
        "numbers": "\n".join(f"{n} = [1.0, 0.85]" for n in names),
        "quantities": str(wanted).replace("'", '"'),
        "network": "finer = 2" if fine else "",
        "objective": "differences = 1.0\nmembers = 3\noffsets = 1.0" if fine else "",
        "capability": "downscale" if fine else "forecast",
        "steps": 3,
        **told,
    }
    path = folder / f"{name}.toml"
    path.write_text(RECIPE.format(name=name, head=head, data=data, **told))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight days of winds on the globe at 4 degrees, three-hourly."""
    latitude, longitude = np.arange(62, -63, -4.0), np.arange(0, 360, 4.0)
    ds = synthetic_winds(64, latitude, longitude)
    start, hour = np.datetime64("2020-01-01", "ns"), np.timedelta64(1, "h")
    ds = ds.assign_coords(time=start + 3 * np.arange(64) * hour)
    path = tmp_path_factory.mktemp("finer") / "winds.nc"
    ds.to_netcdf(path)
    return path


@pytest.fixture(scope="module")
def coarse(data, tmp_path_factory):
    """A run of a Multiformer of three fields that makes nothing finer."""
    folder = tmp_path_factory.mktemp("runs")
    train(_write(folder, data, "coarse", "uvt"), out=folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def recipe_path(coarse, data):
    return _write(coarse, data, head='factor = 2\ninit_from = "coarse"')


def _as_it_is(recipe, onto):
    return recipe


@pytest.fixture(scope="module")
def job(recipe_path):
    return begin(recipe_path, _as_it_is, recipe_path.parent)


# --- Boxes ----------------------------------------------------------------------------


def test_boxes_are_block_means_of_what_is_wanted(job):
    batch = job.data.train.batch(3, 12)
    channels = batch.channels.shape[1]
    assert batch.x.shape == (12, channels, 4, 8, 12)
    assert batch.truth.shape == (12, channels, 16, 24)
    means = block_mean(torch.from_numpy(batch.truth), 2).numpy()
    np.testing.assert_allclose(batch.x[:, :, -1], means, atol=1e-5)
    np.testing.assert_allclose(np.diff(batch.latitude), -8)
    np.testing.assert_allclose(np.diff(batch.longitude) % 360, 8)
    assert (batch.spacing == 8).all()


def test_boxes_are_where_and_when_they_say(job, data):
    sampler = job.data.train
    winds = xr.open_dataset(data).u10
    batch = sampler.batch(5, 6)
    mean, std = (job.levels["u, 10 m"][key][0] for key in ("mean", "std"))
    assert batch.std[0, 0] == pytest.approx(std)
    for i in range(6):
        latitude = batch.latitude[i, 2] + np.array([2.0, -2.0])
        longitude = (batch.longitude[i, 5] + np.array([-2.0, 2.0])) % 360
        block = winds.sel(latitude=latitude, longitude=longitude).mean(
            ["latitude", "longitude"]
        )
        year, day, hour = batch.when[i, -1]
        time = np.datetime64(f"{int(year)}-01-01") + np.timedelta64(int(day), "D")
        time = time + np.timedelta64(int(hour), "h")
        own = (float(block.sel(time=time)) - mean) / std
        assert batch.x[i, 0, -1, 2, 5] == pytest.approx(own, abs=1e-4)
    # Six hours apart, though the data come every three, from either half of them.
    hours = np.concatenate([sampler.batch(n, 8).when[..., 2] for n in range(4)])
    np.testing.assert_array_equal(np.diff(hours) % 24, 6)
    assert {*(hours[:, -1] % 6)} == {0, 3}


def test_many_boxes_have_one_time_alone(job):
    known = []
    for number in range(20):
        x = job.data.train.batch(number, 8).x
        assert np.isfinite(x[:, :, -1]).all()
        known += np.isfinite(x).all((1, 3, 4)).sum(1).tolist()
    share = {n: known.count(n) / len(known) for n in (1, 2, 3, 4)}
    assert 0.4 < share[1] < 0.75
    assert share[4] > 0.1
    assert share[2] + share[3] > 0
    plain = job.data.validation.batch(0, 16).x
    # All that is there: some lie at the beginning of the series.
    assert set(np.isfinite(plain).all((1, 3, 4)).sum(1)) >= {1, 4}


def test_batches_are_functions_of_their_number(job):
    sampler = job.data.train
    one = sampler.batch(5, 6)
    halves = [sampler.batch(5, 6, (i, 2)) for i in range(2)]
    for key, value in vars(one).items():
        joined = np.concatenate([vars(half)[key] for half in halves])
        np.testing.assert_array_equal(joined, value)


# --- What it begins with --------------------------------------------------------------


def test_weights_and_constants_are_taken_over(job, coarse):
    network = build_network(job.recipe)
    drawn = {k: v.clone() for k, v in network.state_dict().items()}
    job.initial(network)
    state, before = network.state_dict(), initial_state("coarse", coarse)
    for name in "uv":
        key = f"networks.{name}.decoder.0.attention.out.weight"
        assert torch.equal(state[key], before[key])
        tail = f"networks.{name}.tail.layers.0.weight"
        assert torch.equal(state[tail], drawn[tail])  # the last layer is new
        assert state[tail].shape[1] == 4 * before[tail].shape[1]
        # Heads on the field that is not there are gone.
        query = f"networks.{name}.encoder.0.attention.query.weight"
        assert len(state[query]) == len(before[query]) - 16
    levels = json.loads((coarse / "coarse" / "run.json").read_text())["levels"]
    assert job.levels == {key: levels[key] for key in ("u, 10 m", "v, 10 m")}


def test_other_weights_are_refused(coarse, data, tmp_path):
    path = _write(tmp_path, data, head='factor = 2\ninit_from = "coarse"')
    path.write_text(path.read_text().replace("width = 32", "width = 48"))
    job = begin(path, _as_it_is, coarse)
    with pytest.raises(errors.OptionError, match="'coarse' do not fit"):
        job.initial(build_network(job.recipe))


def test_constants_are_measured_where_there_are_none(data, tmp_path):
    job = begin(_write(tmp_path, data, head="factor = 2"), _as_it_is, tmp_path)
    winds = xr.open_dataset(data).u10.sel(time=slice(None, "2020-01-05"))
    fine = winds.coarsen(latitude=2, longitude=2).mean()
    told = job.levels["u, 10 m"]
    assert told["std"] == pytest.approx([float(fine.std())], rel=1e-3)
    assert told["std"][0] < 0.99 * float(winds.std())


# --- Training -------------------------------------------------------------------------


def test_a_run_that_was_interrupted_ends_with_the_same_weights(recipe_path, data):
    folder = recipe_path.parent
    one = train(recipe_path, out=folder, progress=False)
    path = _write(folder, data, "again", head='factor = 2\ninit_from = "coarse"')
    train(path, out=folder, progress=False, stop_after=1)
    two = train(path, out=folder, progress=False)
    states = [network_state(run / "checkpoints" / "last.ckpt") for run in (one, two)]
    for name, weights in states[0].items():
        torch.testing.assert_close(states[1][name], weights, rtol=0, atol=0)
    curve = learning_curve(one)
    keys = ("rmse", "rmse_member", "crps", "spread_error", "power", "power_mean")
    assert all(curve[-1][f"val_{key}"] > 0 for key in keys)


def test_training_makes_winds_better_than_smooth_ones(data, tmp_path):
    """Waves shorter than a block: a network learns where they are."""
    ds = xr.open_dataset(data).load()
    wave = xr.DataArray(np.where(np.arange(90) % 2, 1.0, -1.0), dims="longitude")
    attrs = ds.u10.attrs
    ds["u10"] = (ds.u10 + 3 * wave).assign_attrs(attrs)
    path = tmp_path / "rough.nc"
    ds.to_netcdf(path)
    told = _write(tmp_path, path, head="factor = 2", steps=60)
    text = told.read_text().replace("rise_steps = 1", "learning_rate = 4e-3")
    told.write_text(text.replace("batch_size = 4", "batch_size = 8"))
    curve = learning_curve(train(told, out=tmp_path, progress=False))
    assert curve[-1]["train_loss"] < 0.9 * curve[0]["train_loss"]


def test_what_never_changes_is_punished(job):
    network = build_network(job.recipe)
    module = FinerBoxes(network, job.recipe, job.data.train.numbers)
    torch.manual_seed(0)
    noise = torch.randn(4, 64, 2, 16, 24)
    fixed = torch.randn(4, 1, 2, 8, 8).tile(1, 64, 1, 2, 3)
    channels = torch.tensor([0, 2])  # both fields, one level
    small, large = (module._offsets(x, channels) for x in (noise, fixed))
    assert small < 0.01
    assert large == pytest.approx(0.75, rel=0.2)  # less the mean of four members


def test_the_factor_makes_spread_and_error_alike(job):
    network = build_network(job.recipe)
    job.initial(network)
    for name in "uv":  # as if it were trained
        widen(network.network(name).tail, 30.0)
    sampler = job.data.validation
    before = spread_factors(network, job.recipe, sampler, 32)
    for name, factor in before.items():
        widen(network.network(name).tail, factor)
    after = spread_factors(network, job.recipe, sampler, 32)
    for name, factor in after.items():
        limited = before[name] in (0.5, 2.0)
        assert limited or factor == pytest.approx(1.0, abs=1e-3)


def test_members_of_fields_are_told_apart(job):
    network = build_network(job.recipe)
    module = FinerBoxes(network, job.recipe, job.data.train.numbers)
    batch = NumberedBatches(job.data.validation, range(1), 4)[0]
    found = module.scored(batch)
    assert set(found) == {"u", "v"}
    assert found["v"][0].shape == (4, 5, 1, 16, 24)
    assert torch.equal(found["v"][1], batch["truth"][:, 1:])


# --- Release --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(recipe_path):
    folder = recipe_path.parent
    train(recipe_path, out=folder, progress=False)
    return release(recipe_path, out=folder, models=folder / "models")


def test_a_released_model_tells_what_it_reaches(released):
    card = read_card(released)
    assert card.capabilities == ("downscale",)
    assert card.downscale.factor == 2
    assert card.network["finer"] == 2
    assert [field.name for field in card.fields] == ["u", "v"]
    scores = json.loads((released / "scores.json").read_text())["winds"]
    assert scores["level_trained"]
    methods = scores["methods"]
    assert {"bilinear", "ridge", "fine", "fine mean", "fine ensemble"} <= set(methods)
    assert len(methods["fine ensemble"]["rank_histogram"]) == 6  # five members
    assert methods["fine"]["block_violation"] < 1e-3
    page = (released / "README.md").read_text()
    assert "mean of 5" in page
    assert "ensemble of 5 tails" in page
    assert "the 3 before it are read, every 6h" in page
    assert "held-out CRPS" in page
    assert (released / "figures" / "learning.png").exists()


def test_a_released_model_refines(released, data):
    ds = xr.open_dataset(data)
    coarse = ds.coarsen(latitude=2, longitude=2).mean()
    one = coarse.isel(time=[40])
    with also_in(released.parent):
        fine = xatmo.downscale(one, 2, model="fine", realizations=3)
    assert fine.u10.sizes == {
        "realization": 3,
        "time": 1,
        "latitude": 32,
        "longitude": 90,
    }
    means = fine.coarsen(latitude=2, longitude=2).mean()
    off = np.abs(means.u10 - one.u10.values)
    assert float(off.max()) < 1e-3
    assert float(fine.u10.std("realization").mean()) > 0


def test_scores_look_back_beyond_their_block(released, data, tmp_path):
    with also_in(released.parent):
        model = load_model("fine", capability="downscale")
        quantities = [field.quantity for field in model.card.fields]
        source = Source(str(data), start="2020-01-07")
        truth = Truth(prepare_source(source, quantities, tmp_path), 2)
        network, times = Network(truth, model, 2, 0), np.arange(len(truth))
        coarse = truth.coarse(truth.fine(times))
        whole = network.estimates(times, coarse)
        late = network.estimates(times[9:], coarse[9:])
    np.testing.assert_allclose(late, whole[:, 9:], atol=1e-4)


def test_a_command_scores_it(released, data, tmp_path, capsys):
    said = ["--data", str(data), "--start", "2020-01-07", "--out", str(tmp_path)]
    with also_in(released.parent):
        assert main(["evaluate", "fine", *said, "--realizations", "3", "--quiet"]) == 0
    assert "fine, mean of 3" in capsys.readouterr().out


def test_all_times_are_scored(recipe_path, released):
    with pytest.raises(errors.OptionError, match="scored on all times"):
        release(
            recipe_path,
            out=recipe_path.parent,
            models=released.parent,
            times=3,
        )


# --- Recipes --------------------------------------------------------------------------


def test_the_network_has_to_be_as_fine(data, tmp_path):
    path = _write(tmp_path, data, head="factor = 2")
    path.write_text(path.read_text().replace("finer = 2", "finer = 4"))
    with pytest.raises(errors.OptionError, match="built for other fields") as error:
        read_recipe(path)
    assert error.value.hint == "finer = 2 in [network]"


def test_no_more_members_are_scored_than_there_are(data, tmp_path):
    path = _write(tmp_path, data, head="factor = 2", objective="members = 6")
    with pytest.raises(errors.OptionError, match="cannot be trained like that"):
        read_recipe(path)


def test_a_scene_holds_a_fine_box(data, tmp_path):
    small = tmp_path / "small.nc"
    xr.open_dataset(data).isel(longitude=slice(20)).to_netcdf(small)
    path = _write(tmp_path, small, head="factor = 2")
    with pytest.raises(errors.GridError, match="smaller than a fine box") as error:
        begin(path, _as_it_is, tmp_path)
    assert error.value.needed == "at least 16 x 24 points"
