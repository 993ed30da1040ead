"""Scores of networks that downscale: evaluate, compare, release."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.cli import main
from xatmo.fields import area_weights
from xatmo.testing import synthetic_winds
from xatmo.training.downscale import evaluate as module
from xatmo.training.downscale.compare import compare, comparison_page
from xatmo.training.downscale.estimates import Network
from xatmo.training.downscale.evaluate import evaluate
from xatmo.training.downscale.figures import save_figures
from xatmo.training.downscale.page import score_page
from xatmo.training.downscale.release import draft_model, release
from xatmo.training.downscale.statistics import ratio_interval
from xatmo.training.downscale.truth import Truth
from xatmo.training.recipe import Source
from xatmo.training.release import drafts
from xatmo.training.rescore import keyed
from xatmo.training.run import train

RECIPE = """
task = "downscale"
name = "{name}"
version = "0.1.0"
title = "A tiny generator for tests"
quantities = ["eastward_wind", "northward_wind"]
{head}
[network]
width = 4
blocks = 1
kernel = 3
tail = [4, 4]
noise = {noise}
statics = {statics}
base = "bicubic"
[sampling]
patch = [16, 16]
[objective]
kind = "{kind}"
[optimizer]
batch_size = 2
steps_per_epoch = 2
epochs = 1
learning_rate = 1e-3
rise_steps = 1
validation_crops = 2
[[data.train]]
path = "{data}"
end = "2020-01-05"
[[data.validation]]
path = "{data}"
start = "2020-01-06"
[[data.evaluation]]
path = "{data}"
start = "2020-01-05T12"
[card]
capabilities = ["downscale"]
licence = "Apache-2.0"
citation = "nobody"
[card.grid]
spacing = [8.0, 16.0]
patch = [4, 4]
[card.training]
data = "synthetic"
"""


def _write(folder, data, name, kind="crps", statics=1, head=""):
    path = folder / f"{name}.toml"
    noise = 2 if kind == "crps" else 0
    path.write_text(
        RECIPE.format(
            name=name, kind=kind, noise=noise, statics=statics, data=data, head=head
        )
    )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("downscale")


@pytest.fixture(scope="module")
def recipe(folder, winds_file):
    """A recipe that has been trained, for a moment."""
    path = _write(folder, winds_file, "tiny-crps")
    train(path, out=folder / "runs", progress=False)
    return path


@pytest.fixture(scope="module")
def model(folder, recipe):
    found = draft_model(recipe, folder / "runs")
    with drafts([found]):
        yield found


@pytest.fixture(scope="module")
def source(winds_file):
    return Source(str(winds_file), start="2020-01-04")


@pytest.fixture(scope="module")
def scores(model, source, folder):
    return evaluate(model, source, realizations=3, folder=folder / "data")


def test_every_method_is_scored(scores):
    plain = ["nearest", "bilinear", "bicubic", "bicubic_conserve", "ridge"]
    own = ["tiny-crps", "tiny-crps mean", "tiny-crps ensemble"]
    assert list(scores["methods"]) == [*plain, "another_day", *own]
    assert scores["realizations"] == 3
    assert scores["global"]
    assert scores["points"] == [60, 120]
    json.dumps({k: v for k, v in scores.items() if k != "example"}, allow_nan=False)


def test_errors_are_those_of_the_definitions(scores, winds_file):
    """The nearest method and its scores, made again with numpy alone."""
    ds = xr.open_dataset(winds_file).sel(time=slice("2020-01-04", None))
    ds = ds.sortby("latitude", ascending=False).isel(latitude=slice(60))
    fine = np.stack([ds["u10"].values, ds["v10"].values], 1).astype(float)
    coarse = fine.reshape(-1, 2, 15, 4, 30, 4).mean((3, 5))
    away = np.repeat(np.repeat(coarse, 4, -2), 4, -1) - fine
    area = area_weights(ds.latitude.values)[:, None]
    found = scores["methods"]["nearest"]
    assert found["rmse"] == pytest.approx(np.sqrt((away**2 * area).mean()), rel=1e-5)
    assert found["mae"] == pytest.approx((np.abs(away) * area).mean(), rel=1e-5)
    speed = np.hypot(*(x.ravel() for x in np.moveaxis(fine, 1, 0)))
    assert found["block_violation"] < 1e-4
    order = np.argsort(speed)
    weight = np.broadcast_to(area, fine[:, 0].shape).ravel()[order]
    median = np.interp(0.5, np.cumsum(weight) / weight.sum(), speed[order])
    guess = np.repeat(np.repeat(coarse, 4, -2), 4, -1)
    size = np.hypot(*(x.ravel() for x in np.moveaxis(guess, 1, 0)))
    order = np.argsort(size)
    weight = np.broadcast_to(area, fine[:, 0].shape).ravel()[order]
    own = np.interp(0.5, np.cumsum(weight) / weight.sum(), size[order])
    assert found["percentiles"]["50"] == pytest.approx(own / median, abs=2e-3)


def test_scores_do_not_depend_on_the_blocks(scores, model, source, folder, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_BYTES", 2**21)  # five times at once
    again = evaluate(model, source, realizations=3, folder=folder / "data")
    for name, method in scores["methods"].items():
        other = again["methods"][name]
        for key in ("rmse", "crps", "power_high", "wasserstein", "rank_flatness"):
            if key in method:
                assert other[key] == pytest.approx(method[key], rel=1e-5, abs=1e-7)
    assert again["example"]["latitude"] == scores["example"]["latitude"]


def test_plain_methods_are_in_their_order(scores):
    m = scores["methods"]
    assert m["ridge"]["rmse_ratio"] == 1.0
    assert m["bicubic_conserve"]["rmse"] < m["bicubic"]["rmse"] < m["nearest"]["rmse"]
    assert (
        m["bicubic_conserve"]["block_violation"]
        < 1e-4
        < m["bicubic"]["block_violation"]
    )
    assert m["another_day"]["block_violation"] < 1e-4


def test_an_ensemble_has_a_mean_and_a_spread(scores):
    m = scores["methods"]
    assert m["tiny-crps mean"]["rmse"] <= m["tiny-crps"]["rmse"]
    whole = m["tiny-crps ensemble"]
    assert whole["crps"] < m["tiny-crps"]["crps"]
    assert sum(whole["rank_histogram"]) == pytest.approx(1)
    assert len(whole["rank_histogram"]) == 4
    assert m["tiny-crps"]["block_violation"] < 1e-4


def _truth_with_noise(amount):
    def estimates(self, times, coarse):
        fine = self.truth.fine(times)
        rng = np.random.default_rng(0)
        shape = (self.realizations, *fine.shape)
        noise = rng.normal(size=shape).astype(np.float32)
        centre = fine + amount * rng.normal(size=fine.shape).astype(np.float32)
        return centre + amount * noise

    return estimates


def test_the_truth_is_perfect(model, source, folder, monkeypatch):
    monkeypatch.setattr(Network, "estimates", _truth_with_noise(0.0))
    found = evaluate(model, source, realizations=2, folder=folder / "data")
    own = found["methods"]["tiny-crps"]
    assert own["rmse"] == own["wasserstein"] == own["wasserstein_cities"] == 0
    assert own["power_high"] == own["power_middle"] == own["total_variation"] == 1
    assert own["semivariogram"] == [1] * 5
    assert found["verdicts"][0]["met"]
    assert found["verdicts"][1]["met"]
    assert "- **met**" in score_page(found)


def test_an_honest_ensemble_is_flat(model, source, folder, monkeypatch):
    """Truth and members scatter alike around the same, so that nothing tells them."""
    monkeypatch.setattr(Network, "estimates", _truth_with_noise(0.5))
    found = evaluate(model, source, realizations=4, folder=folder / "data")
    whole = found["methods"]["tiny-crps ensemble"]
    assert whole["spread"] == pytest.approx(0.5, rel=0.02)
    assert whole["spread_error"] == pytest.approx(1, rel=0.02)
    assert whole["rank_flatness"] < 0.02
    # Of a normal distribution around another of the same spread.
    assert whole["crps"] == pytest.approx(0.5 / np.sqrt(np.pi), rel=0.05)


def test_another_model_stands_beside(model, source, folder, winds_file):
    path = _write(folder, winds_file, "tiny-mse", "mse", statics=0)
    train(path, out=folder / "runs", progress=False)
    rival = draft_model(path, folder / "runs")
    with drafts([rival]):
        found = evaluate([rival, model], source, realizations=2, folder=folder / "data")
    assert found["against"] == ["tiny-crps 0.1.0"]
    assert "tiny-mse ensemble" not in found["methods"]
    assert "tiny-crps ensemble" in found["methods"]
    assert len(found["verdicts"]) == 1


def test_short_series(model, winds_file, folder):
    """One time allows no regression, no control and no interval."""
    one = Source(str(winds_file), start="2020-01-08T18", end="2020-01-08T18")
    found = evaluate(model, one, realizations=2, folder=folder / "data")
    assert "ridge" not in found["methods"]
    assert "another_day" not in found["methods"]
    assert found["verdicts"] == []
    assert found["methods"]["bicubic"]["rmse_ratio"] is None
    assert "So few days" in score_page(found)


def test_figures(scores, tmp_path):
    names = [path.name for path in save_figures(scores, tmp_path)]
    assert names == ["spectrum.png", "variogram.png", "ranks.png", "example.png"]


# --- bad input


def test_data_of_another_spacing(model, tmp_path):
    lat, lon = np.arange(40, -41, -1.0), np.arange(0, 90, 1.0)
    synthetic_winds(3, lat, lon).to_netcdf(tmp_path / "fine.nc")
    data = Source(str(tmp_path / "fine.nc"))
    with pytest.raises(errors.GridError, match=r"(?s)are 4° apart.*2 to 4°.*coarsen=2"):
        evaluate(model, data, folder=tmp_path)


def test_too_few_realizations(model, source, folder):
    with pytest.raises(errors.OptionError, match="realizations=8"):
        evaluate(model, source, realizations=0, folder=folder / "data")


def test_a_recipe_that_was_not_trained(tmp_path, winds_file):
    path = _write(tmp_path, winds_file, "untrained")
    with pytest.raises(errors.OptionError, match=r"xatmo train .*untrained\.toml"):
        draft_model(path, tmp_path / "runs")


def test_a_recipe_that_was_trained_otherwise(folder, recipe, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(recipe.read_text().replace("width = 4", "width = 8"))
    with pytest.raises(errors.OptionError, match=r"network\.width was 4, is 8"):
        draft_model(other, folder / "runs")


def test_a_draft_is_found_only_where_it_is_asked_for(folder, recipe, model):
    with pytest.raises(errors.ModelNotFoundError):
        xatmo.load_model("no-such-draft")
    ds = synthetic_winds(1, np.arange(84, -85, -12.0), np.arange(0, 360, 12.0))
    assert xatmo.downscale(ds, model=model).sizes["latitude"] == 60


# --- release, rescore, compare


def test_release(folder, recipe, tmp_path, monkeypatch):
    out = release(
        recipe, out=folder / "runs", models=tmp_path / "models", realizations=2
    )
    card = tomllib.loads((out / "card.toml").read_text())
    assert card["downscale"] == {"factor": 4, "statics": ["land_area_fraction"]}
    assert card["grid"] == {
        "spacing": [8.0, 16.0],
        "patch": [4, 4],
        "halo": draft_model(recipe, folder / "runs").network().reach,
        "stride": 1,
    }
    (short,) = card["scores"].values()
    assert short["methods"]["ridge"]["rmse"] > 0
    page = (out / "README.md").read_text()
    for said in ("What it reaches, and what not", "another day's residual",
                 "Learning curve", "figures/learning.png", "example.png"):  # fmt: skip
        assert said in page
    assert "example" not in (out / "scores.json").read_text()
    monkeypatch.setenv("XATMO_MODELS_URL", str(tmp_path / "models"))
    ds = synthetic_winds(1, np.arange(84, -85, -12.0), np.arange(0, 360, 12.0))
    skill = json.loads(xatmo.downscale(ds, model="tiny-crps").attrs["skill"])
    assert skill["crps_over_ridge"] == short["crps_over_ridge"] > 0
    assert skill["power_above_coarse_nyquist"] > 0


def test_commands(folder, recipe, tmp_path, monkeypatch, capsys, winds_file):
    models, runs = str(tmp_path / "models"), str(folder / "runs")
    said = ["--out", runs, "--models", models, "--realizations", "2", "--quiet"]
    assert main(["release", str(recipe), *said]) == 0
    assert main(["release", str(recipe), *said, "--scores-only"]) == 0
    assert "scored" in capsys.readouterr().out
    monkeypatch.setenv("XATMO_MODELS_URL", models)
    numbers = tmp_path / "scores.json"
    call = ["evaluate", "tiny-crps", "--data", str(winds_file), "--realizations", "2"]
    call += ["--start", "2020-01-06", "--json", str(numbers), "--quiet"]
    call += ["--out", str(tmp_path / "data"), "--figures", str(tmp_path / "figures")]
    assert main(call) == 0
    told = capsys.readouterr().out
    assert "| ridge 5 x 5 |" in told
    assert "spectrum.png" in told
    assert json.loads(numbers.read_text())["methods"]["nearest"]["rmse"] > 0
    assert main([*call, "--coarsen", "2"]) == 2
    assert "does not read the block means" in capsys.readouterr().err


def test_several_scores_on_one_file_are_all_kept():
    sources = [
        Source("a/winds.1.nc", end="2020-01-06"),
        Source("a/winds.1.nc", start="2020-01-07"),
        Source("winds.1.nc", coarsen=2),
    ]
    named = dict(keyed(sources))
    assert list(named) == ["winds_1", "winds_1_2", "winds_1_coarse2"]
    assert list(named.values()) == sources


def test_compare(folder, recipe, winds_file, tmp_path, capsys):
    after = _write(folder, winds_file, "tiny-after", head='init_from = "tiny-crps"')
    runs, files = folder / "runs", {k: tmp_path / k for k in ("json", "table")}
    call = ["compare", str(recipe), str(after), "--out", str(runs), "--quiet"]
    call += ["--realizations", "2", "--markdown", str(tmp_path / "page.md")]
    call += [part for key, path in files.items() for part in (f"--{key}", str(path))]
    before = (runs / "tiny-crps" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert main(call) == 0
    now = (runs / "tiny-crps" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert now == before  # what was trained is not trained again
    told = json.loads(files["json"].read_text())
    (found,) = told["data"].values()
    assert {"tiny-crps", "tiny-after", "ridge"} <= set(found["methods"])
    assert [r["name"] for r in told["recipes"].values()] == ["tiny-crps", "tiny-after"]
    assert (tmp_path / "page.md").read_text() in capsys.readouterr().out
    tables = json.loads(files["table"].read_text())
    assert all(len(row) == len(t["columns"]) for t in tables for row in t["rows"])
    page = comparison_page(told)
    assert "| tiny-after, one realization |" in page


def test_compare_refuses_other_tasks_and_no_data(tmp_path, winds_file):
    pairs = tmp_path / "pairs.toml"
    pairs.write_text('name = "pairs"\n')
    with pytest.raises(errors.OptionError, match="trains no network that downscales"):
        compare([pairs])
    path = _write(tmp_path, winds_file, "no-data")
    text = path.read_text()
    start, end = text.index("[[data.evaluation]]"), text.index("[card]")
    path.write_text(text[:start] + text[end:])
    with pytest.raises(errors.OptionError, match="--data FILE"):
        compare([path])


# --- parts


def test_interval_of_a_ratio():
    rng = np.random.default_rng(0)
    below = rng.gamma(4.0, size=240)
    day = np.arange(240) // 8
    low, high = ratio_interval(4 * below, below, day, root=True)
    assert low == pytest.approx(2.0)
    assert high == pytest.approx(2.0)
    low, high = ratio_interval(rng.gamma(4.0, size=240), below, day, root=False)
    assert 0.8 < low < 1.0 < high < 1.2
    assert ratio_interval(below[:16], below[:16], day[:16], root=True) is None


def test_truth_is_cut_to_whole_blocks(tmp_path):
    from xatmo.training.prepare import prepare_source

    lat, lon = np.arange(10, 51, 1.0), np.arange(100, 151, 1.0)  # 41 x 51, ascending
    ds = synthetic_winds(4, lat, lon)
    ds["u10"][1] = np.nan
    ds.to_netcdf(tmp_path / "winds.nc")
    with pytest.warns(UserWarning, match="missing values"):
        store = prepare_source(
            Source(str(tmp_path / "winds.nc")),
            ("eastward_wind", "northward_wind"),
            tmp_path,
        )
    truth = Truth(store, 4)
    assert (len(truth), truth.latitude.size, truth.longitude.size) == (3, 40, 48)
    assert truth.latitude[0] == 50
    times = np.arange(3)
    fine = truth.fine(times)
    np.testing.assert_array_equal(fine[1, 0, 0], ds["u10"].values[2, -1, :48])
    coarse = truth.coarse_dataset(truth.coarse(fine), times)
    assert coarse.latitude.values[:2].tolist() == [48.5, 44.5]
    assert coarse.time.values[1] == ds.time.values[2]
