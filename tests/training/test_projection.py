"""Climate projections: files, windows, weights to begin with, training and scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from xatmo import errors
from xatmo.cli import main
from xatmo.nets.climax import ClimaX
from xatmo.nets.climax_series import ClimaXSeries
from xatmo.testing.forcings import write_scenarios
from xatmo.training.logs import learning_curve, summary
from xatmo.training.projection.compare import compare
from xatmo.training.projection.evaluate import evaluate, score_page
from xatmo.training.projection.files import grid_of, interpolation, read_scenario
from xatmo.training.projection.initial import take_encoder
from xatmo.training.projection.module import Projector
from xatmo.training.projection.recipe import Optimizer, folder_of, read_recipe
from xatmo.training.projection.scores import (
    pattern_scaling,
    projection_scores,
    training_mean,
)
from xatmo.training.projection.windows import (
    Windowed,
    WindowSampler,
    constants_of,
    read_test,
    read_training,
)
from xatmo.training.run import build_network, network_state, train

RECIPES = sorted(
    (Path(__file__).parents[2] / "train" / "climax").glob("projection*.toml")
)
FORCINGS = ("CO2", "SO2", "CH4", "BC")
RECIPE = """
task = "projection"
name = "{name}"
version = "0.1.0"
title = "A tiny network, for tests"
init_from = "{init}"
[network]
grid = [16, 32]
patch = 8
width = 32
depth = 1
heads = 2
[sampling]
scenarios = ["ssp126", "ssp585"]
[optimizer]
epochs = {epochs}
rise_steps = 4
learning_rate = 4e-3
batch_size = 8
freeze = {freeze}
[[data.train]]
path = "{data}"
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Path:
    """Simulated files on another grid than the networks', in the published folders."""
    folder = tmp_path_factory.mktemp("bench")
    write_scenarios(folder, (18, 36), members=2)
    for name in ("train_val", "test"):
        (folder / name).mkdir()
    for file in list(folder.glob("*.nc")):
        file.rename(
            folder / ("test" if "245" in file.name else "train_val") / file.name
        )
    return folder


@pytest.fixture
def recipe(tmp_path, bench):
    """Write a recipe; returns a function of its settings."""

    def write(name="tiny", *, init="", epochs=2, freeze=False, data=bench):
        path = tmp_path / f"{name}.toml"
        said = {"init": init, "epochs": epochs, "freeze": str(freeze).lower()}
        path.write_text(RECIPE.format(name=name, data=data, **said))
        return path

    return write


def _train(path, out, **said):
    return train(path, out=out, accelerator="cpu", progress=False, **said)


def _state(folder):
    return network_state(folder / "checkpoints" / "last.ckpt")


def _pretrained(out, **sizes):
    """A run of a forecast, of which only the weights are there."""
    torch.manual_seed(5)
    sizes = {"grid": (32, 64), "patch": 8, "width": 32, "depth": 1, "heads": 2} | sizes
    network = ClimaX(["2m_temperature", "geopotential_500"], **sizes)
    folder = out / "forecast" / "checkpoints"
    folder.mkdir(parents=True)
    state = {f"network.{k}": v for k, v in network.state_dict().items()}
    torch.save({"state_dict": state}, folder / "last.ckpt")
    told = {"recipe": {"northward": True}}
    (folder.parent / "run.json").write_text(json.dumps(told))
    return network


# --- Files ----------------------------------------------------------------------------


def test_a_scenario_goes_on_from_the_historical_years(bench):
    series = read_scenario(bench, "ssp245", FORCINGS, "tas", grid_of((16, 32)))
    assert series.years.tolist() == list(range(1850, 2101))
    assert series.years[series.first] == 2015
    assert series.forcings.shape == (251, 4, 16, 32)
    assert series.target.shape == (251, 16, 32)
    ends = series.ends(10)
    assert (len(ends), series.years[ends[0]]) == (86, 2015)
    alone = read_scenario(bench, "hist-GHG", FORCINGS, "tas", grid_of((16, 32)))
    assert (len(alone.years), len(alone.ends(10))) == (165, 156)


def test_numbers_of_the_files_are_those_that_are_read(bench):
    grid = grid_of((18, 36))  # the files' own
    series = read_scenario(bench, "ssp126", FORCINGS, "pr", grid)
    with (
        xr.open_dataset(bench / "train_val" / "outputs_ssp126.nc") as outputs,
        xr.open_dataset(bench / "train_val" / "inputs_ssp126.nc") as inputs,
    ):
        rain = outputs["pr"].mean("member").values * 86_400
        np.testing.assert_allclose(series.target[165:], rain, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(
            series.forcings[165:, 1], inputs["SO2"].values, rtol=1e-6, atol=1e-30
        )
        assert series.forcings[-1, 0].min() == series.forcings[-1, 0].max()
        assert series.forcings[-1, 0, 0, 0] == np.float32(inputs["CO2"].values[-1])
    south = read_scenario(bench, "ssp126", FORCINGS, "pr", grid_of((18, 36), False))
    np.testing.assert_allclose(south.target[:, ::-1], series.target, atol=1e-7)


def test_interpolation_is_bilinear_and_closes_around_the_globe():
    latitude, longitude = np.linspace(-90, 90, 96), 2.5 * np.arange(144)
    rows, columns = grid_of((32, 64))
    down, across = interpolation(latitude, rows), interpolation(longitude, columns, 360)
    field = xr.DataArray(
        np.random.default_rng(0).normal(size=(96, 144)),
        coords={"lat": latitude, "lon": longitude},
    )
    padded = field.pad(lon=(0, 1), mode="wrap").assign_coords(lon=2.5 * np.arange(145))
    expected = padded.interp(lat=rows, lon=columns)
    np.testing.assert_allclose(down @ field.values @ across.T, expected, atol=1e-12)
    np.testing.assert_allclose(interpolation(rows, rows), np.eye(32))
    # Longitudes from -180 on, and latitudes from the north, are the same places.
    turned = interpolation((longitude + 180) % 360 - 180, columns, 360)
    np.testing.assert_allclose(turned, across, atol=1e-12)
    np.testing.assert_allclose(interpolation(latitude[::-1], rows), down[:, ::-1])


def test_what_is_missing_is_named(bench, tmp_path):
    grid = grid_of((16, 32))
    with pytest.raises(errors.OptionError, match=r"inputs_ssp999\.nc") as caught:
        read_scenario(bench, "ssp999", FORCINGS, "tas", grid)
    assert "zenodo" in str(caught.value)
    with pytest.raises(errors.FieldNotFoundError, match="N2O"):
        read_scenario(bench, "hist-aer", ("N2O",), "tas", grid)
    for kind in ("inputs", "outputs"):
        with xr.open_dataset(bench / "train_val" / f"{kind}_hist-aer.nc") as ds:
            gap = ds.drop_sel(time=1900)
            gap.to_netcdf(tmp_path / f"{kind}_gap.nc")
            hole = ds.load()
            if kind == "outputs":
                hole["tas"][0, 3, 5, 5] = np.nan
                hole["tas"][1, 3, 5, 5] = np.nan
            hole.to_netcdf(tmp_path / f"{kind}_hole.nc")
    with pytest.raises(errors.TimeAxisError, match="gap do not follow"):
        read_scenario(tmp_path, "gap", FORCINGS, "tas", grid)
    with pytest.raises(errors.MissingValuesError, match="tas of hole"):
        read_scenario(tmp_path, "hole", FORCINGS, "tas", grid)


# --- Windows --------------------------------------------------------------------------


def test_windows_end_in_the_years_of_their_scenario_once(recipe):
    told = read_recipe(recipe())
    train_, held = read_training(told, folder_of(told))
    assert len(train_) + len(held) == 86 + 86
    assert len(held) == 17
    ends = {tuple(end) for end in (*train_.ends, *held.ends)}
    assert len(ends) == 86 + 86
    test = read_test(told, folder_of(told))
    (series,) = test.series
    assert series.years[test.ends[:, 1]].tolist() == list(range(2080, 2101))
    assert series.years[test.ends[0, 1] - 9 : test.ends[0, 1] + 1][0] == 2071


def test_constants_are_those_of_all_windows(recipe):
    told = read_recipe(recipe())
    windows, _ = read_training(told, folder_of(told))
    constants = constants_of(windows, told.variables)
    every = np.stack([windows.forcings(i) for i in range(len(windows))])
    mean = every.mean((0, 1, 3, 4), dtype=np.float64)
    std = every.std((0, 1, 3, 4), dtype=np.float64)
    for number, name in enumerate(FORCINGS):
        assert constants[name]["mean"][0] == pytest.approx(mean[number], rel=1e-5)
        assert constants[name]["std"][0] == pytest.approx(std[number], rel=1e-5)


def test_a_pass_draws_every_window_once(recipe):
    told = read_recipe(recipe())
    windows, held = read_training(told, folder_of(told))
    sampler = WindowSampler(windows, constants_of(windows, told.variables), seed=1)
    count = len(windows)
    turns = [
        [sampler._index(turn + n * count) for turn in range(count)] for n in (0, 1)
    ]
    assert sorted(turns[0]) == sorted(turns[1]) == list(range(count))
    assert turns[0] != turns[1]
    whole = sampler.batch(3, 8)
    parts = [sampler.batch(3, 8, (i, 2)).target for i in (0, 1)]
    np.testing.assert_array_equal(whole.target[0::2], parts[0])
    np.testing.assert_array_equal(whole.target[1::2], parts[1])
    assert whole.forcings.shape == (8, 10, 4, 16, 32)
    kept = WindowSampler(held, constants_of(windows, told.variables), 1, plain=True)
    shown = np.concatenate([kept.batch(2**40 + i, 32).target for i in (0, 1)])
    assert {m.tobytes() for m in shown} == {m.tobytes() for m in kept._targets[:, None]}


# --- Weights to begin with ------------------------------------------------------------


def test_an_encoder_of_other_variables_is_taken(tmp_path):
    theirs = _pretrained(tmp_path)
    network = ClimaXSeries(grid=(16, 32), patch=8, width=32, depth=1, heads=2)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    told = take_encoder(network, theirs.state_dict(), "forecast")
    after = network.state_dict()
    for key in ("blocks.0.qkv.weight", "pool.attention.query", "lead.weight"):
        torch.testing.assert_close(after[key], theirs.state_dict()[key])
    for key in ("tokens.CO2.weight", "map.weight", "time"):
        torch.testing.assert_close(after[key], before[key])
    assert after["position"].shape == (2, 4, 32)
    assert not torch.equal(after["position"], before["position"])
    assert told.resized
    assert told.taken == ("blocks", "lead", "norm", "pool", "position")
    assert {"tokens.CO2", "map", "time", "time_attention"} == set(told.fresh) - {
        "tokens.SO2",
        "tokens.CH4",
        "tokens.BC",
    }
    assert "pixels.2m_temperature" in told.left
    assert "blocks, lead, norm, pool, position of forecast" in str(told)
    assert "time_attention, tokens of 4 variables" in str(told)
    # From the same task all is taken, forcings and map as well.
    other = ClimaXSeries(grid=(16, 32), patch=8, width=32, depth=1, heads=2)
    again = take_encoder(other, after, "projection")
    assert (again.fresh, again.left, again.resized) == ((), (), False)
    torch.testing.assert_close(other.state_dict()["map.weight"], after["map.weight"])


@pytest.mark.parametrize("size", [{"width": 64}, {"depth": 2}, {"mlp_ratio": 2.0}])
def test_an_encoder_of_another_size_is_refused(tmp_path, size):
    theirs = _pretrained(tmp_path, **size)
    network = ClimaXSeries(grid=(16, 32), patch=8, width=32, depth=1, heads=2)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(errors.OptionError, match="not of the size") as caught:
        take_encoder(network, theirs.state_dict(), "forecast")
    ((key, value),) = size.items()
    assert f"{key} = {value:g}" in caught.value.hint.replace(".0", "")
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    with pytest.raises(errors.OptionError, match="no encoder of a ClimaX"):
        take_encoder(network, {"conv.weight": torch.zeros(2, 2)}, "other")


def test_rows_in_the_other_order_are_refused(tmp_path, recipe):
    _pretrained(tmp_path)
    path = recipe(init="forecast")
    path.write_text("northward = false\n" + path.read_text())
    with pytest.raises(errors.OptionError, match="in the other order") as caught:
        _train(path, tmp_path)
    assert "northward = true" in caught.value.hint


# --- Training -------------------------------------------------------------------------


def test_a_frozen_encoder_stays_and_the_rest_learns(tmp_path, recipe):
    theirs = _pretrained(tmp_path).state_dict()
    folder = _train(recipe(init="forecast", freeze=True), tmp_path)
    curve = learning_curve(folder)
    assert curve[1]["train_loss"] < 0.5 * curve[0]["train_loss"]
    assert curve[1]["val_rmse"] < curve[0]["val_rmse"]
    assert "windows/s, held-out RMSE" in summary(folder)
    state = _state(folder)
    for key, before in theirs.items():
        if key.startswith("blocks."):
            same = torch.equal(state[key], before)
            assert same == ("norm" not in key), key
    assert not torch.equal(
        state["pool.attention.query"], theirs["pool.attention.query"]
    )
    told = json.loads((folder / "initial.json").read_text())
    assert told["origin"] == "forecast"
    assert told["resized"]


def test_a_run_goes_on_where_it_stopped(tmp_path, recipe):
    path = recipe(epochs=2)
    whole = _state(_train(path, tmp_path / "whole"))
    _train(path, tmp_path / "parts", stop_after=1)
    parts = _state(_train(path, tmp_path / "parts"))
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value)
    text = path.read_text().replace('"ssp126", ', "", 1)
    path.write_text(text)
    with pytest.raises(errors.OptionError, match="has changed"):
        _train(path, tmp_path / "parts")


def test_codes_are_not_decayed_and_frozen_weights_are_left_out():
    network = ClimaXSeries(grid=(16, 32), patch=8, width=32, depth=1, heads=2)
    module = Projector(network, Optimizer(freeze=True), grid_of((16, 32))[0])
    decayed, plain = module.configure_optimizers().param_groups
    names = {id(p): name for name, p in network.named_parameters()}
    codes = {names[id(p)] for p in plain["params"]}
    assert plain["weight_decay"] == 0
    assert codes == {"position", "time", *(f"tokens.{v}.code" for v in FORCINGS)}
    kept = {names[id(p)] for p in decayed["params"]}
    assert "blocks.0.norm1.weight" in kept
    assert "map.weight" in kept
    assert "blocks.0.qkv.weight" not in kept


# --- Scores ---------------------------------------------------------------------------


def test_scores_are_those_of_the_original(reference):
    with np.load(reference / "climax" / "metrics.npz") as file:
        arrays = dict(file)
    scale, shift = arrays["transform_scale"], arrays["transform_shift"]
    for number, name in enumerate("ab"):
        maps = (arrays[k][:, number] * scale + shift for k in ("pred", "y"))
        found = projection_scores(*maps, arrays["lat"], unit=2.5)
        parts = {"nrmse_s": "w_nrmses", "nrmse_g": "w_nrmseg", "total": "w_nrmse"}
        for ours, theirs in parts.items():
            expected = arrays[f"lat_weighted_nrmse/{theirs}_{name}"]
            assert found[ours] == pytest.approx(float(expected), rel=1e-5)
        expected = arrays[f"lat_weighted_rmse/w_rmse_{name}_x"]
        assert found["rmse"] == pytest.approx(float(expected), rel=1e-5)


def test_plain_methods_find_what_is_a_straight_line(recipe):
    told = read_recipe(recipe())
    windows, _ = read_training(told, folder_of(told))
    test = read_test(told, folder_of(told))
    pattern = np.random.default_rng(0).normal(size=(16, 32)).astype(np.float32)

    def linear(some, of_co2, of_bc):
        series = []
        for one in some.series:
            x = one.forcings[:, [0, 3]].mean((2, 3), dtype=np.float64)
            x = x @ [of_co2, of_bc]
            target = (2 + x[:, None, None] * pattern).astype(np.float32)
            series.append(type(one)(**{**vars(one), "target": target}))
        return Windowed(tuple(series), some.ends, some.length)

    learnt, wanted = linear(windows, 1e-3, 0), linear(test, 1e-3, 0)
    found = pattern_scaling(learnt, wanted, [0])
    np.testing.assert_allclose(found, wanted.targets(), atol=1e-3)
    mean = training_mean(learnt, wanted)
    np.testing.assert_allclose(mean[5], learnt.targets().mean(0), atol=1e-5)
    learnt, wanted = linear(windows, 1e-3, 1e13), linear(test, 1e-3, 1e13)
    all_four = pattern_scaling(learnt, wanted, range(4))
    np.testing.assert_allclose(all_four, wanted.targets(), atol=1e-3)
    assert np.abs(pattern_scaling(learnt, wanted, [0]) - wanted.targets()).max() > 0.01


def test_a_run_is_scored_beside_plain_methods(tmp_path, recipe, capsys):
    path = recipe(epochs=3)
    assert main(["train", str(path), "--out", str(tmp_path), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "began from scratch" in said
    assert f"next: xatmo evaluate {path} --out {tmp_path}" in said
    call = ["evaluate", str(path), "--out", str(tmp_path)]
    assert main([*call, "--json", str(tmp_path / "out.json")]) == 0
    page = capsys.readouterr().out
    assert "| pattern scaling |" in page
    assert "2080 to 2100" in page
    scores = json.loads((tmp_path / "tiny" / "scores.json").read_text())
    assert json.loads((tmp_path / "out.json").read_text()) == scores
    methods = scores["methods"]
    network, mean = methods["network"], methods["mean of training"]
    assert network["total"] < 0.8 * mean["total"]
    assert methods["pattern scaling"]["total"] < mean["total"]
    for one in methods.values():
        assert one["total"] == pytest.approx(one["nrmse_s"] + 5 * one["nrmse_g"])
    # It is no model: the error says what can be done.
    assert main(["release", str(path), "--out", str(tmp_path)]) == 2
    assert "xatmo compare" in capsys.readouterr().err


def test_recipes_are_compared_and_data_replaced(tmp_path, recipe, bench):
    paths = [recipe("a", epochs=1, data="nowhere"), recipe("b", epochs=1, data="")]
    told = read_recipe(paths[0])
    with pytest.raises(errors.OptionError, match="nowhere"):
        folder_of(told)
    with pytest.raises(errors.OptionError, match="not trained yet"):
        evaluate(paths[0], data=str(bench), out=tmp_path)
    from xatmo.training.recipe import Source

    result = compare(paths, data=[Source(str(bench))], out=tmp_path, progress=False)
    assert list(result["methods"])[:2] == ["a", "b"]
    assert result["methods"]["a"] == result["methods"]["b"]  # one seed, one recipe
    assert "- b: began from scratch" in score_page(result)
    with pytest.raises(errors.OptionError, match="names of their own"):
        compare([paths[0], paths[0], RECIPES[0]], out=tmp_path, progress=False)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_our_recipes_build_their_networks(path):
    told = read_recipe(path)
    if "published" not in path.stem:  # 100 million parameters
        network = build_network(told)
        assert network.grid == (32, 64)
        assert network.variables == told.variables
    assert told.optimizer.betas == (0.9, 0.999)
    assert told.sampling.test == "ssp245"
    assert told.optimizer.freeze == (
        path.stem in ("projection", "projection-published")
    )


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('test = "ssp126"', "trained and scored"),
        ("validation = 1.0", "trained and scored"),
        ("years = 5", "other fields"),
        ('target = "psl"', "cannot be 'psl'"),
    ],
)
def test_recipes_that_cannot_be_are_refused(recipe, text, match):
    path = recipe()
    path.write_text(path.read_text().replace("[sampling]", f"[sampling]\n{text}"))
    with pytest.raises(errors.OptionError, match=match):
        read_recipe(path)


def test_the_sources_of_one_recipe_are_one_folder(recipe, tmp_path):
    file = tmp_path / "file.nc"
    file.write_text("")
    with pytest.raises(errors.OptionError, match="no folder"):
        folder_of(read_recipe(recipe(data=file)))
    path = recipe()
    path.write_text(path.read_text() + '[[data.train]]\npath = "more"\n')
    with pytest.raises(errors.OptionError, match="one source"):
        folder_of(read_recipe(path))
    with pytest.raises(errors.OptionError, match="have no levels"):
        _train(recipe(), tmp_path, data=str(tmp_path), coarsen=2)
