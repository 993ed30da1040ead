"""Multiformers: what is hidden, trained alone and coupled, calibrated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from xatmo import errors
from xatmo.nets.multiformer_tail import EnsembleTail, mean_and_spread
from xatmo.testing import synthetic_winds
from xatmo.training.logs import learning_curve, summary
from xatmo.training.multiformer.calibrate import spread_factors, widen
from xatmo.training.multiformer.masking import KINDS, hide
from xatmo.training.multiformer.recipe import Masking, read_recipe
from xatmo.training.multiformer.release import release
from xatmo.training.multiformer.run import begin, fitted, sampler_of
from xatmo.training.multiformer.sampling import present_of, when
from xatmo.training.run import build_network, initial_state, network_state, train
from xatmo.training.scenes import prepared
from xatmo.zoo import read_card
from xatmo.zoo.registry import also_in

RECIPES = sorted((Path(__file__).parents[2] / "train" / "multiformer").glob("*.toml"))

WINDS = """
[[fields]]
name = "u"
quantity = "eastward_wind"
slots = [["10 m"], ["850 hPa"]]
[[fields]]
name = "v"
quantity = "northward_wind"
slots = [["10 m"], ["850 hPa"]]
"""
NETWORK = """
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
{fields}
[network]
encoder_layers = 1
decoder_layers = 1
encoder_heads = 2
decoder_heads = 2
members = 3
dropout = 0.0
guess = "time"
info = "periodic"
{networks}
[network.level_numbers]
u = [1.0, 0.85]
v = [1.0, 0.85]
[masking]
ahead = 2
[objective]
member = 0.0
statistical = 0.0
crps = 1.0
[optimizer]
batch_size = 4
steps_per_epoch = {steps}
epochs = {epochs}
rise_steps = 1
validation_boxes = 16
workers = 0
[[data.train]]
path = "{data}"
scene = "both"
quantities = {quantities}
end = "2020-01-05"
[[data.train]]
path = "{high}"
scene = "both"
quantities = {quantities}
end = "2020-01-05"
[[data.validation]]
path = "{data}"
quantities = {quantities}
start = "2020-01-06"
[card]
capabilities = ["forecast", "interpolate", "infill", "embed", "attention"]
licence = "Apache-2.0"
citation = "nobody"
[card.grid]
spacing = [1.0, 6.0]
patch = [8, 12]
[card.training]
data = "synthetic"
"""
BOTH = '["eastward_wind", "northward_wind"]'


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Winds at 10 m, and some of the times at 850 hPa."""
    folder = tmp_path_factory.mktemp("multiformer")
    lat, lon = np.arange(-60, 61, 4.0), np.arange(0, 360, 4.0)
    low = synthetic_winds(32, lat, lon)
    high = 2 * low.isel(time=slice(4, 20)).rename(u10="u", v10="v")
    high = high.expand_dims(level=[850.0])
    high["level"].attrs = {"units": "hPa", "standard_name": "air_pressure"}
    for name in high:
        high[name].attrs = {
            "units": "m s-1",
            "standard_name": {"u": "eastward_wind", "v": "northward_wind"}[name],
        }
    low.to_netcdf(folder / "low.nc")
    high.to_netcdf(folder / "high.nc")
    return folder


def _write(folder, files, name="tiny-boxes", only=None, epochs=2, steps=2, head=""):
    fields = ["u", "v"] if only is None else [only]
    others = {f: [o for o in fields if o != f] for f in fields}
    parts = WINDS.split("[[fields]]")[1:]
    shown = "".join(
        f"[[fields]]{part}" for f, part in zip("uv", parts, strict=True) if f in fields
    )
    quantities = {
        None: BOTH,
        "u": '["eastward_wind"]',
        "v": '["northward_wind"]',
    }[only]
    networks = "".join(
        NETWORK.format(name=f, sources=str(others[f]).replace("'", '"')) for f in fields
    )
    path = folder / f"{name}.toml"
    path.write_text(
        RECIPE.format(
            name=name,
            head=head,
            fields=shown,
            networks=networks,
            quantities=quantities,
            data=files / "low.nc",
            high=files / "high.nc",
            epochs=epochs,
            steps=steps,
        )
    )
    return path


@pytest.fixture(scope="module")
def job(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    return begin(_write(folder, files), lambda recipe, onto: recipe, folder)


@pytest.fixture(scope="module")
def sampler(job):
    return job.data.train


# --- Scenes and boxes -----------------------------------------------------------------


def test_boxes_are_the_data_normalised(files, job, sampler):
    scene = sampler.scenes[0]
    assert [(c.field, c.slot) for c in scene.channels] == [
        ("u", 0),
        ("u", 1),
        ("v", 0),
        ("v", 1),
    ]
    low = xr.open_dataset(files / "low.nc").sortby("latitude", ascending=False)
    index = 6
    seconds = scene.times[index - 3 : index + 1]
    box = scene.box(seconds, 3, 85, (8, 12), [0, 3])
    columns = np.arange(85, 97) % 90
    told = job.levels
    u = low.u10.isel(
        time=slice(index - 3, index + 1), latitude=slice(3, 11), longitude=columns
    )
    mean, std = told["u, 10 m"]["mean"][0], told["u, 10 m"]["std"][0]
    np.testing.assert_allclose(box[0], (u - mean) / std, atol=1e-4)
    # The other level begins a day later: what it lacks is not there.
    assert np.isnan(box[1, 0]).all()
    assert np.isfinite(box[1, 1:]).all()
    u = low.u10.sel(time=slice(None, "2020-01-05"))
    assert told["u, 10 m"]["mean"] == pytest.approx([float(u.mean())], abs=1e-4)
    assert told["u, 10 m"]["std"] == pytest.approx([float(u.std())], rel=1e-4)


def test_batches_are_functions_of_their_number(sampler):
    one, two = sampler.batch(5, 6), sampler.batch(5, 6)
    for key, value in vars(one).items():
        np.testing.assert_array_equal(value, vars(two)[key])
    halves = [sampler.batch(5, 6, (i, 2)) for i in range(2)]
    for key, value in vars(one).items():
        joined = np.concatenate([vars(half)[key] for half in halves])
        np.testing.assert_array_equal(joined, value)
    assert not np.array_equal(one.truth, sampler.batch(6, 6).truth)


def test_what_is_wanted_was_there_and_what_is_hidden_is_wanted(sampler):
    kinds = set()
    for number in range(16):
        batch = sampler.batch(number, 4)
        hidden = np.isnan(batch.x)
        there = batch.truth != 0
        assert not (batch.wanted & ~there).any()
        assert not (hidden & there & ~batch.wanted).any()
        kinds.add(batch.channels.shape[1])
    assert kinds >= {2, 4}  # fields and levels left out


def test_validation_takes_kinds_one_by_one(job):
    held = job.data.validation
    assert [int(held.batch(n, 2).kind[0]) for n in range(8)] == [0, 1, 2, 3] * 2


def test_channels_say_what_is_present(sampler):
    assert present_of([0, 1, 3], sampler.numbers) == (("u", (0, 1)), ("v", (1,)))


def test_times_are_told_as_networks_read_them():
    seconds = np.array(["2020-03-01T18", "2021-01-01T06"], "datetime64[s]").astype(int)
    np.testing.assert_array_equal(when(seconds), [[2020, 60, 18], [2021, 0, 6]])


# --- Masking --------------------------------------------------------------------------


def _hidden(kind, number, masking=None, rates=(0.5, 0.5), shape=(2, 6, 8, 8)):
    box = np.random.default_rng(0).standard_normal(shape).astype("f4")
    sizes = [(2, 4, 4)] * shape[0]
    rng = np.random.default_rng(number)
    return box, hide(rng, box, kind, masking or Masking(), rates, sizes)


@pytest.mark.parametrize("kind", KINDS)
def test_something_is_hidden_and_the_rest_is_as_it_was(kind):
    shares = []
    for number in range(40):
        box, got = _hidden(kind, number)
        same = (got.x == box) | got.wanted
        assert same.all()
        shares.append(got.wanted.mean())
    assert 0.05 < np.mean(shares) < 0.75


def test_forecasts_hide_the_last_times_alone():
    counts = set()
    for number in range(40):
        _, got = _hidden("forecast", number, Masking(together=1.0))
        lost = np.isnan(got.x).all(axis=(0, 2, 3))
        assert (np.isnan(got.x).any(axis=(0, 2, 3)) == lost).all()
        assert lost[-1]
        assert (np.diff(lost.astype(int)) >= 0).all()
        counts.add(int(lost.sum()))
    assert counts == {1, 2, 3, 4}


def test_tokens_are_hidden_whole_at_most_at_their_rate():
    shares = []
    for number in range(60):
        _, got = _hidden("tokens", number, Masking(together=0.0, masked=1.0))
        cut = np.isnan(got.x).reshape(2, 3, 2, 2, 4, 2, 4)
        assert (cut.all((2, 4, 6)) == cut.any((2, 4, 6))).all()
        shares.append(cut.all((2, 4, 6)).mean((1, 2, 3)))
    shares = np.array(shares)
    assert shares.max() <= 0.5 + 1 / 12
    assert 0.2 < shares.mean() < 0.4  # rounded up to whole tokens
    assert (shares[:, 0] != shares[:, 1]).any()  # each field has its own


def test_some_tokens_are_noised_or_coarsened_in_place_of_masked():
    masking = Masking(masked=0.0, noised=0.5, coarsened=0.5, together=0.0)
    box, got = _hidden("tokens", 3, masking)
    assert np.isfinite(got.x).all()
    changed = got.x != box
    assert changed.any()
    assert not (changed & ~got.wanted).any()
    assert (got.wanted & ~changed).any()  # and some are left as they are


def test_a_field_with_rate_zero_is_only_read():
    for kind in KINDS:
        for number in range(5):
            box, got = _hidden(kind, number, rates=(0.5, 0.0))
            np.testing.assert_array_equal(got.x[1], box[1])
            assert not got.wanted[1].any()


# --- Training -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coupled(files, tmp_path_factory):
    """Fields that were trained alone, then together."""
    folder = tmp_path_factory.mktemp("coupled")
    for only in "uv":
        path = _write(folder, files, f"alone-{only}", only)
        train(path, out=folder / "runs", progress=False)
    head = 'init_fields = ["alone-u", "alone-v"]'
    path = _write(folder, files, head=head, epochs=1, steps=1)
    train(path, out=folder / "runs", progress=False)
    return path


def test_coupled_fields_begin_as_they_were_alone(files, coupled):
    folder = coupled.parent
    recipe = read_recipe(coupled)
    network = build_network(recipe).eval()
    from xatmo.training.multiformer.coupling import load_fields

    load_fields(network, recipe, folder / "runs")
    alone = build_network(read_recipe(folder / "alone-u.toml")).eval()
    alone.load_state_dict(initial_state("alone-u", folder / "runs"))
    torch.manual_seed(0)
    x = torch.randn(2, 4, 4, 8, 12)
    x[:, :, -2:] = torch.nan
    place = (
        torch.tensor([2020.0, 5.0, 6.0]).expand(2, 4, 3),
        torch.linspace(40, 12, 8).expand(2, 8),
        torch.linspace(0, 44, 12).expand(2, 12),
        4.0,
    )
    got = network.predict(x, *place, frames=2)[:, :, :2]
    torch.testing.assert_close(got, alone.predict(x[:, :2], *place, frames=2))


def test_weights_of_other_fields_cannot_be_coupled(files, coupled, tmp_path):
    head = 'init_fields = ["alone-v"]'
    path = _write(tmp_path, files, "only-u", "u", head=head)
    with pytest.raises(errors.OptionError, match="fields that are not coupled here"):
        train(path, out=coupled.parent / "runs", progress=False)


def test_a_run_that_was_interrupted_ends_with_the_same_weights(files, tmp_path):
    path = _write(tmp_path, files)
    one = train(path, out=tmp_path / "one", progress=False)
    train(path, out=tmp_path / "two", progress=False, stop_after=1)
    two = train(path, out=tmp_path / "two", progress=False)
    states = [network_state(run / "checkpoints" / "last.ckpt") for run in (one, two)]
    for name, weights in states[0].items():
        torch.testing.assert_close(states[1][name], weights, rtol=0, atol=0)
    curve = learning_curve(one)
    assert [row["epoch"] for row in curve] == [0, 1]
    assert all(curve[-1][f"val_{kind}"] > 0 for kind in KINDS)
    assert "boxes/s" in summary(one)


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_twice_the_batch(files, tmp_path):
    path = _write(tmp_path, files)
    two = train(
        path, out=tmp_path / "two", devices=2, accelerator="cpu", progress=False
    )
    path.write_text(path.read_text().replace("batch_size = 4", "batch_size = 8"))
    one = train(path, out=tmp_path / "one", accelerator="cpu", progress=False)
    states = [network_state(run / "checkpoints" / "last.ckpt") for run in (one, two)]
    for name, weights in states[0].items():
        torch.testing.assert_close(states[1][name], weights, rtol=1e-4, atol=1e-5)


def test_training_makes_forecasts_better(files, tmp_path):
    """Waves that drift: a few seconds of training beat persistence."""
    path = _write(tmp_path, files, "drift", "u", epochs=1, steps=150)
    text = path.read_text().replace("batch_size = 4", "batch_size = 16")
    text = text.replace("[masking]", "[masking]\ntokens = 0.0\ngaps = 0.0")
    text = text.replace("validation_boxes = 16", "validation_boxes = 64")
    text = text.replace("rise_steps = 1", "rise_steps = 20\nlearning_rate = 4e-3")
    path.write_text(text)
    run = train(path, out=tmp_path, progress=False)
    assert learning_curve(run)[-1]["val_forecast"] < 0.985


# --- Calibration ----------------------------------------------------------------------


def test_members_are_widened_around_their_mean():
    torch.manual_seed(0)
    tail, x = EnsembleTail(5, 8, 12), torch.randn(3, 8)
    mean, spread = mean_and_spread(tail(x))
    widen(tail, 1.7)
    wider, more = mean_and_spread(tail(x))
    torch.testing.assert_close(wider, mean)
    torch.testing.assert_close(more, 1.7 * spread)


def test_the_factor_makes_spread_and_error_alike(job):
    network = build_network(job.recipe)
    before = spread_factors(network, job.recipe, job.data.validation, 32)
    for name, factor in before.items():
        widen(network.network(name).tail, factor)
    after = spread_factors(network, job.recipe, job.data.validation, 32)
    for name, factor in after.items():
        limited = before[name] in (0.5, 2.0)
        assert limited or factor == pytest.approx(1.0, abs=1e-3)


# --- Release --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(files, coupled):
    """One field of two is released, and scored where both are."""
    head = 'release_fields = ["u"]\nhalf_precision = true'
    path = coupled.parent / "released.toml"
    text = coupled.read_text().replace(
        'task = "multiformer"', f'task = "multiformer"\n{head}'
    )
    both = "".join(
        f"""
[[data.{part}]]
path = "{files / "low.nc"}"
quantities = {BOTH}
start = "2020-01-{day}"
"""
        for part, day in (("calibration", "06"), ("evaluation", "03"))
    )
    path.write_text(text.replace("[card]", f"{both}[card]", 1))
    runs = coupled.parent / "runs"
    return release(path, out=runs, models=coupled.parent / "models", times=1)


def test_some_fields_are_released(released, files, coupled):
    card = read_card(released)
    assert [field.name for field in card.fields] == ["u"]
    assert card.box.ahead == 2
    assert {lv.level for lv in card.fields[0].levels} == {"10 m", "850 hPa"}
    page = (released / "README.md").read_text()
    assert "any quantity at any level" not in page
    assert "Hidden parts of boxes" in page
    scores = json.loads((released / "scores.json").read_text())["low"]
    assert {row["lead"] for row in scores["forecast"]} == {"6h", "12h", "18h", "24h"}
    assert {row["hours"] for row in scores["between"]} == {12.0}
    assert {row["kind"] for row in scores["masked"]} == {"tokens", "hole", "hole_day"}
    assert all(row["rmse"] > 0 and row["crps"] > 0 for row in scores["masked"])
    with also_in(released.parent):
        ds = xr.open_dataset(files / "low.nc").isel(time=slice(6))
        fc = ds.atmo.forecast("6h", "tiny-boxes")
    assert np.isfinite(fc.u10).all()
    assert "v10" not in fc


# --- Recipes --------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_can_be_read(path):
    recipe = read_recipe(path)
    network = build_network(recipe)
    assert set(network.fields) == {f.name for f in recipe.fields}
    assert all(source.quantities for source in recipe.evaluation)


def test_months_have_their_own_constants(files, tmp_path):
    path = _write(tmp_path, files)
    path.write_text(path.read_text() + '\n[normalization]\nby = "month"\n')
    recipe = read_recipe(path)
    stores = prepared(recipe, recipe.train, tmp_path)
    mean, std = fitted(recipe, stores)["u", "10 m"]
    assert mean.shape == std.shape == (12,)
    assert (mean == mean[0]).all()  # no other month is in the data: those of all
    assert sampler_of(recipe, recipe.train, stores, {**fitted(recipe, stores)})


def test_fields_and_network_have_to_agree(files, tmp_path):
    path = _write(tmp_path, files)
    path.write_text(path.read_text().replace("levels = 2", "levels = 3", 1))
    with pytest.raises(errors.OptionError, match="are not those of the recipe") as e:
        read_recipe(path)
    assert "'u': 3" in e.value.found


def test_levels_that_no_slot_names_are_refused(files, tmp_path):
    path = _write(tmp_path, files)
    path.write_text(path.read_text().replace('["850 hPa"]', '["500 hPa"]'))
    with pytest.raises(errors.OptionError, match="is none of the field") as e:
        begin(path, lambda recipe, onto: recipe, tmp_path)
    assert "'850 hPa'" in e.value.found


def test_a_source_says_what_it_holds(files, tmp_path):
    path = _write(tmp_path, files)
    path.write_text(path.read_text().replace(f"quantities = {BOTH}", "", 1))
    with pytest.raises(errors.OptionError, match="does not say which quantities"):
        read_recipe(path)
