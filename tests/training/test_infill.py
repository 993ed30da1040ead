"""Networks that fill gaps: trained, released, scored, compared."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.cli import main
from xatmo.methods.series import Filled
from xatmo.testing.gaps import gap_mask, with_gaps
from xatmo.training.infill import evaluate as module
from xatmo.training.infill.calibrate import fit_spread_factor, seen_ranges
from xatmo.training.infill.compare import compare, comparison_page, comparison_tables
from xatmo.training.infill.estimates import network, plain
from xatmo.training.infill.evaluate import EXAMPLE, SERIES, SINGLE, evaluate
from xatmo.training.infill.page import best_plain, score_page, short, verdicts
from xatmo.training.infill.recipe import read_recipe
from xatmo.training.infill.release import draft_model, release
from xatmo.training.infill.run import sampler_of
from xatmo.training.infill.scores import score
from xatmo.training.infill.truth import Truth, read_truths
from xatmo.training.logs import learning_curve, summary
from xatmo.training.recipe import Source
from xatmo.training.release import drafts
from xatmo.training.run import train

RECIPES = sorted((Path(__file__).parents[2] / "train" / "infill").glob("*.toml"))
FAST = ("nearest", "climatology", "interpolate")
SOME = ("random_50", "clouds", "missing_times")

RECIPE = """
task = "infill"
name = "{name}"
version = "0.1.0"
title = "A tiny network that fills gaps, for tests"
{head}
[network]
widths = [4, 6]
[sampling]
patch = [16, 24]
times = 12
random = 0.25
[optimizer]
batch_size = 4
steps_per_epoch = 2
epochs = {epochs}
rise_steps = 1
validation_pieces = 8
workers = 0
[[data.train]]
path = "{data}"
quantities = ["eastward_wind", "northward_wind"]
end = "2020-01-05"
[[data.validation]]
path = "{data}"
quantities = ["eastward_wind"]
start = "2020-01-06"
[[data.evaluation]]
path = "{data}"
quantities = ["northward_wind"]
start = "2020-01-05T12"
{tail}
[card]
capabilities = ["infill"]
licence = "Apache-2.0"
citation = "nobody"
[card.grid]
spacing = [0.5, 16.0]
patch = [2, 2]
[card.training]
data = "synthetic"
"""


def _write(folder, data, name="tiny-infill", epochs=2, head="", tail=""):
    path = folder / f"{name}.toml"
    text = RECIPE.format(name=name, epochs=epochs, data=data, head=head, tail=tail)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("infill")


@pytest.fixture(scope="module")
def recipe(folder, winds_file):
    """A recipe that has been trained, for a moment."""
    path = _write(folder, winds_file)
    train(path, out=folder / "runs", progress=False)
    return path


@pytest.fixture(scope="module")
def model(folder, recipe):
    found = draft_model(recipe, folder / "runs")
    with drafts([found]):
        yield found


@pytest.fixture(scope="module")
def truth(folder, winds_file):
    source = Source(str(winds_file), quantities=("eastward_wind",))
    return read_truths(source, folder / "data")[0]


@pytest.fixture(scope="module")
def scores(folder, winds_file, model):
    source = Source(str(winds_file), quantities=("eastward_wind",))
    return evaluate(model, source, methods=FAST, folder=folder / "data", times=6)


@pytest.fixture
def few(monkeypatch):
    """Plain methods that take no time."""
    some = {name: label for name, label in module.LABELS.items() if name in FAST}
    monkeypatch.setattr(module, "LABELS", some)


def _state(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


# --- training


def test_a_run_that_was_interrupted_ends_with_the_same_weights(
    tmp_path, winds_file, folder, recipe
):
    again = _write(tmp_path, winds_file)
    train(again, out=tmp_path, progress=False, stop_after=1)
    assert len(learning_curve(tmp_path / "tiny-infill")) == 1
    train(again, out=tmp_path, progress=False)
    one, two = (
        _state(run / "tiny-infill")["state_dict"] for run in (folder / "runs", tmp_path)
    )
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=0, atol=0)


def test_the_learning_curve_and_the_summary(folder, recipe):
    curve = learning_curve(folder / "runs" / "tiny-infill")
    assert [row["epoch"] for row in curve] == [0, 1]
    assert curve[-1]["val_crps"] > 0
    assert curve[-1]["pieces_per_second"] > 0
    told = summary(folder / "runs" / "tiny-infill")
    assert "pieces/s" in told
    assert "spread over error" in told


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_can_be_read(path):
    from xatmo.training.recipe import task

    if task(path) == "infill":
        recipe = read_recipe(path)
        assert all(source.quantities for source in recipe.evaluation)


# --- the released model


def test_released_model_fills(folder, recipe, winds_file, few):
    target = release(
        recipe, out=folder / "runs", models=folder / "models", times=4, progress=False
    )
    names = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    figures = {n for n in names if n.startswith("figures/")}
    assert names - figures == {
        "card.toml",
        "weights.safetensors",
        "scores.json",
        "curve.json",
        "README.md",
    }
    assert {n.rpartition("/")[2] for n in figures} == {
        "families.png",
        "reliability.png",
        "spectrum.png",
        "learning.png",
    }
    card = tomllib.loads((target / "card.toml").read_text())
    assert card["infill"]["radius"] == 64
    assert all(low <= high for low, high in card["infill"]["seen"].values())
    assert "example" not in json.loads((target / "scores.json").read_text())["winds"]
    page = (target / "README.md").read_text()
    assert "any quantity at any level" in page
    assert 'ds.atmo.infill(model="tiny-infill")' in page
    assert "one time alone" in page
    ds = xr.open_dataset(winds_file)
    gappy = with_gaps(ds, "clouds", 1)
    with drafts([draft_model(recipe, folder / "runs", ranges=False)]):
        filled = xatmo.infill(gappy, method="tiny-infill")
    assert (filled["u10_provenance"] == 1).any()


def test_scores_are_measured_again(folder, recipe, few, capsys):
    models = folder / "models"
    arguments = [
        str(recipe),
        *("--out", str(folder / "runs"), "--models", str(models), "--times", "2"),
        "--quiet",
    ]
    assert main(["release", *arguments]) == 0
    before = (models / "tiny-infill" / "weights.safetensors").read_bytes()
    assert main(["release", *arguments[:-2], "3", "--quiet", "--scores-only"]) == 0
    assert "scored" in capsys.readouterr().out
    assert (models / "tiny-infill" / "weights.safetensors").read_bytes() == before
    told = json.loads((models / "tiny-infill" / "scores.json").read_text())
    assert {t["scored"] for t in told["winds"]["tables"]} == {3}


def test_a_recipe_that_was_not_trained(tmp_path, winds_file):
    path = _write(tmp_path, winds_file, name="nothing")
    with pytest.raises(errors.OptionError, match="has not been trained") as caught:
        draft_model(path, tmp_path)
    assert f"xatmo train {path}" in str(caught.value)


def test_a_recipe_that_has_changed_is_refused(folder, recipe, winds_file):
    changed = _write(folder, winds_file, head="[objective]\nmse = 0.1")
    try:
        with pytest.raises(
            errors.OptionError, match=r"objective\.mse was 0\.5, is 0\.1"
        ):
            draft_model(changed, folder / "runs")
    finally:
        _write(folder, winds_file)


# --- what is measured of the network


class _Known(torch.nn.Module):
    """Gives nothing as the mean, and a spread of 2."""

    def forward(self, frames, about):
        shape = (len(frames), 4, *frames.shape[2:])
        return torch.stack([torch.zeros(shape), torch.full(shape, 2.0)], 1)


def test_the_spread_is_scaled_to_the_error(folder, recipe):
    told = read_recipe(recipe)
    sampler = sampler_of(told, told.validation, folder / "runs", plain=True)
    factor = fit_spread_factor(_Known(), sampler, 56)
    # Anomalies are of the order of one by their making.
    assert 0.5 <= factor < 0.75


def test_the_card_says_what_was_trained_on(folder, recipe):
    told = read_recipe(recipe)
    ranges = seen_ranges(sampler_of(told, told.train, folder / "runs"), 12)
    assert {"x", "y", "observed"} <= set(ranges)
    assert 0 <= ranges["observed"][0] < ranges["observed"][1] <= 1
    assert all(ranges[name][0] >= 0 for name in ("x", "y"))
    assert all(low < high for low, high in ranges.values())


# --- scores


def test_all_methods_are_scored_on_the_same_cells(truth):
    some = truth.at(np.arange(3))
    gaps = gap_mask("blocks", some.values.shape, 2)
    half = np.where(gaps & (np.arange(120) % 40 == 0), np.nan, some.values + 1.0)
    lazy = np.where(gaps, np.nan, some.values)
    found = {
        "exact": Filled(some.values, np.zeros_like(some.values)),
        "half": Filled(half, np.full_like(half, 1.0)),
        "lazy": Filled(lazy),
    }
    told = score(some, found, gaps)
    assert told["exact"]["rmse"] == 0.0
    assert told["half"]["rmse"] == pytest.approx(1.0, rel=1e-5)
    assert told["half"]["spread_ratio"] == pytest.approx(1.0, rel=1e-5)
    assert 0 < told["half"]["unfilled"] < 0.1
    assert told["lazy"] == {"unfilled": 1.0}
    # The cells that one has left out count for none.
    worse = found["exact"].values + np.where(np.isnan(half), 100.0, 0.0)
    again = score(some, {**found, "exact": Filled(worse)}, gaps)
    assert again["exact"]["rmse"] == 0.0


def test_the_network_is_scored_by_what_the_verb_gives(truth, model):
    gaps = gap_mask("clouds", truth.values.shape, 3)
    values = np.where(gaps, np.nan, truth.values)
    times = np.array([1, 5])
    found = network(model).fill(truth, values, times)
    ds = truth.labelled(values).to_dataset()
    expected = xatmo.infill(ds, method="network", model=model).isel(time=times)
    np.testing.assert_array_equal(found.values, expected["eastward_wind"].values)
    np.testing.assert_array_equal(found.spread, expected["eastward_wind_spread"].values)


@pytest.mark.parametrize("name", ["biharmonic", "biharmonic_anomaly"])
def test_maps_are_filled_where_they_are_scored(truth, name):
    gaps = gap_mask("blocks", truth.values.shape, 3)
    values = np.where(gaps, np.nan, truth.values)
    times = np.array([0, 4, 9])
    found = plain(name).fill(truth, values, times)
    assert found.values.shape == (3, *truth.values.shape[1:])
    seen = ~gaps[times]
    np.testing.assert_allclose(found.values[seen], truth.values[times][seen], atol=1e-4)
    everything = plain(name).fill(truth, values, np.arange(len(values)))
    np.testing.assert_allclose(found.values, everything.values[times], atol=1e-3)


def test_every_plain_method_is_scored(truth):
    names = list(module.LABELS)
    part = truth.at(np.arange(9))
    scored = module._Scored(part, SERIES, list(map(plain, names)), 1, 7, _Bar())
    told = scored.table(["random_50"])["families"]["random_50"]
    assert list(told) == names
    assert all(told[name]["rmse"] > 0 for name in names)
    # Too few times for a method that needs a series.
    part = truth.at(np.arange(4))
    scored = module._Scored(part, SERIES, [plain("dineof")], 1, 7, _Bar())
    assert scored.table(["blocks"])["families"] == {"blocks": {}}


def test_families_are_never_pooled(scores):
    kinds = [table["kind"] for table in scores["tables"]]
    assert kinds == [SERIES, SINGLE]
    series, alone = (table["families"] for table in scores["tables"])
    assert len(series) == 7
    assert set(series) - set(alone) == {"missing_times"}
    assert "climatology" not in alone["clouds"]
    own = series["clouds"]["tiny-infill"]
    assert {"rmse", "rmse_all_times", "crps", "slope", "spread_ratio"} <= set(own)
    nearest = series["clouds"]["nearest"]
    assert "slope" not in nearest
    assert nearest["crps"] < nearest["rmse"]


def test_scores_are_repeatable(folder, winds_file, model, scores):
    source = Source(str(winds_file), quantities=("eastward_wind",))
    settings = {"methods": FAST, "folder": folder / "data", "times": 6}
    again = evaluate(model, source, families=SOME, **settings)
    for one, two in zip(scores["tables"], again["tables"], strict=True):
        for family, told in two["families"].items():
            assert told == one["families"][family]
    other = evaluate(model, source, families=SOME, seed=8, **settings)
    families = (t["tables"][0]["families"]["clouds"] for t in (again, other))
    assert len({told["nearest"]["rmse"] for told in families}) == 2


def test_times_that_are_missing_are_those_that_are_scored(truth):
    scored = module._Scored(truth, SERIES, [plain("nearest")], 3, 7, _Bar())
    told = scored.table(["missing_times"])["families"]["missing_times"]
    assert told["nearest"]["unfilled"] == 0.0
    assert scored.example["missing_times"]["gaps"].all()


class _Bar:
    def update(self, count=1):
        pass


def test_verdicts_are_on_the_best_plain_method(scores):
    told = {v["family"]: v for v in verdicts(scores)}
    table = scores["tables"][0]["families"]["clouds"]
    rival = best_plain(table)
    assert rival == min(FAST, key=lambda n: table[n].get("rmse", np.inf))
    verdict = next(v for v in verdicts(scores) if v["family"] == "clouds")
    ratio = table["tiny-infill"]["rmse"] / table[rival]["rmse"]
    assert verdict["ratio"] == pytest.approx(ratio)
    assert verdict["much_better"] is (ratio <= 0.85)
    assert told["swaths"]["much_better"] is None


def test_page_shows_every_family_and_the_best_in_bold(scores):
    page = score_page(scores)
    for family in scores["tables"][0]["families"]:
        assert f"| {family} |" in page
    assert "| tiny-infill |" in page
    assert "**" in page
    card = short(scores)["eastward_wind"]
    assert card["units"] == "m s-1"
    assert card["clouds"]["rmse"] > 0


# --- the commands


def test_evaluate_from_the_command_line(winds_file, model, few, tmp_path, capsys):
    arguments = ["evaluate", "tiny-infill", "--data", str(winds_file), "--quiet"]
    arguments += ["--end", "2020-01-02", "--times", "1"]
    arguments += ["--quantity", "northward_wind", "--out", str(tmp_path / "data")]
    arguments += ["--json", str(tmp_path / "s.json")]
    assert main([*arguments, "--figures", str(tmp_path / "figures")]) == 0
    out = capsys.readouterr().out
    assert "`northward_wind` at 10 m, one time alone" in out
    assert "eastward_wind" not in out
    assert EXAMPLE not in json.loads((tmp_path / "s.json").read_text())
    assert (tmp_path / "figures" / "families.png").exists()


def test_all_that_is_recognised_is_scored(winds_file, tmp_path):
    found = read_truths(Source(str(winds_file)), tmp_path)
    assert [t.quantity for t in found] == ["eastward_wind", "northward_wind"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--times", "0"], "There cannot be 0 times"),
        (["--quantity", "air_temperature"], "air_temperature"),
        (["--start", "2031-01-01"], "no times in the period"),
    ],
)
def test_what_cannot_be_scored(winds_file, model, tmp_path, capsys, more, text):
    arguments = ["evaluate", "tiny-infill", "--data", str(winds_file), "--quiet"]
    assert main([*arguments, "--out", str(tmp_path), *more]) == 2
    assert text in capsys.readouterr().err


def test_nothing_is_recognised(tmp_path):
    times = xr.date_range("2020-01-01", periods=3)
    shape = (3, 5, 6)
    ds = xr.Dataset(
        {"something": (("time", "lat", "lon"), np.zeros(shape))},
        {"time": times, "lat": np.arange(5.0), "lon": np.arange(6.0)},
    )
    ds.to_netcdf(tmp_path / "x.nc")
    with pytest.raises(errors.FieldError, match=r"Nothing in x\.nc is recognised"):
        read_truths(Source(str(tmp_path / "x.nc")), tmp_path)


def test_long_series_are_cut(truth, monkeypatch, winds_file, tmp_path):
    from xatmo.training.infill import truth as own

    monkeypatch.setattr(own, "_MOST_POINTS", 3 * truth.values[0].size)
    source = Source(str(winds_file), quantities=("eastward_wind",))
    (short_one,) = read_truths(source, tmp_path)
    assert len(short_one.values) == 3
    assert short_one.held == len(truth.values)
    assert isinstance(short_one, Truth)


def test_compare_scores_networks_on_what_was_held_out(folder, recipe, winds_file):
    other = _write(folder, winds_file, "tiny-gated", epochs=1)
    text = other.read_text().replace("[4, 6]", '[4, 6]\nconvolution = "gated"')
    other.write_text(text)
    result = compare([recipe, other], out=folder / "runs", times=2)
    (told,) = result["data"].values()
    assert told["tables"][0]["quantity"] == "eastward_wind"
    assert set(told["tables"][0]["families"]["clouds"]) == {"tiny-infill", "tiny-gated"}
    assert "tiny-infill / tiny-gated" in comparison_page(result)
    tables = comparison_tables(result)
    assert all(len(row) == len(t["columns"]) for t in tables for row in t["rows"])


def test_compare_refuses_recipes_of_another_task(tmp_path, winds_file, capsys, recipe):
    other = tmp_path / "x.toml"
    other.write_text('task = "downscale"\nname = "x"')
    assert main(["compare", str(recipe), str(other), "--quiet"]) == 2
    assert "trains no network that fills gaps" in capsys.readouterr().err
