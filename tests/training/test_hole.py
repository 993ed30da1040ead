"""Training of networks that fill a hole, and their comparison."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from xatmo import errors
from xatmo.cli import main
from xatmo.losses import AtmoDistLoss
from xatmo.nets.normalization import ZScore
from xatmo.training.downscale.run import prepare_all, zscore
from xatmo.training.hole.compare import compare, comparison_page
from xatmo.training.hole.module import HoleFiller, fill
from xatmo.training.hole.recipe import read_recipe
from xatmo.training.hole.scores import Pieces, Scores, linear
from xatmo.training.logs import learning_curve, summary
from xatmo.training.run import build_network, network_state, train

FOLDER = Path(__file__).parents[2] / "train" / "infill"
PUBLISHED = [FOLDER / "hole-mse.toml", FOLDER / "hole-atmodist.toml"]

RECIPE = """
task = "hole"
name = "{name}"
version = "0.1.0"
title = "A tiny autoencoder for tests"
quantities = ["eastward_wind", "northward_wind"]
{head}
[network]
patch = [32, 64]
widths = [4, 6, 8, 10]
depth = 1
[sampling]
patch = [32, 64]
[objective]
hole = [8, 24]
content = "{content}"
content_layer = "block2"
[optimizer]
batch_size = 4
steps_per_epoch = 3
epochs = 2
learning_rate = 1e-3
rise_steps = 2
validation_crops = 8
[[data.train]]
path = "{data}"
end = "2020-01-05"
[[data.validation]]
path = "{data}"
start = "2020-01-06"
[[data.evaluation]]
path = "{data}"
start = "2020-01-08T06"
"""


@pytest.fixture
def hole(tmp_path, winds_file):
    """Write a recipe; returns a function of its settings."""

    def write(content="mse", head="", **changes):
        text = RECIPE.format(
            name=f"tiny-{content}", content=content, head=head, data=winds_file
        )
        for key, value in changes.items():
            before = next(line for line in text.splitlines() if line.startswith(key))
            text = text.replace(before, f"{key} = {value}")
        path = tmp_path / f"{content}.toml"
        path.write_text(text)
        return path

    return write


def _module(path, folder):
    recipe = read_recipe(path)
    levels, patches, _ = prepare_all(recipe, folder)
    network = build_network(recipe)
    normalizers = [zscore(constants) for constants in levels.values()]
    module = HoleFiller(network, normalizers, recipe, list(levels))
    batch = vars(patches.batch(0, 4))
    return module, {key: torch.from_numpy(value) for key, value in batch.items()}


def _state(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


# --- the loss


def test_the_network_does_not_see_the_hole(hole, tmp_path):
    module, batch = _module(hole(), tmp_path)
    module.eval()
    with torch.no_grad():
        filled, truth = module.both(batch)
        batch["fine"][..., 8:24, 8:24] = 1e6
        again, other = module.both(batch)
        batch["fine"][..., 7, 8] += 10.0
        seen, _ = module.both(batch)
    assert filled.shape == (4, 2, 16, 16)
    assert torch.equal(filled, again)
    assert not torch.equal(truth, other)
    assert not torch.equal(filled, seen)


def test_the_loss_looks_into_the_hole_alone(hole, tmp_path):
    module, batch = _module(hole(), tmp_path)
    module.log_dict = lambda *args, **kwargs: None
    filled, truth = module.both(batch)
    error = (filled - truth).square().mean()
    penalty = sum(p.square().sum() for p in module.network.kernels())
    loss = module.training_step(batch, 0)
    # Batch statistics are those of the same batch.
    torch.testing.assert_close(loss, error + 1e-3 * penalty)


def test_the_distance_is_that_of_the_pieces_alone(hole, tmp_path):
    """Nine tenths of the released model's own distance, of physical winds."""
    module, batch = _module(hole("atmodist"), tmp_path)
    module.log_dict = lambda *args, **kwargs: None
    filled, truth = module.both(batch)
    back = module.normalizers[0].inverse
    distance = AtmoDistLoss("atmodist-small", "block2", level="10 m")
    expected = 0.9 * distance(back(filled), back(truth))
    expected = expected + 0.1 * (filled - truth).square().mean()
    penalty = sum(p.square().sum() for p in module.network.kernels())
    loss = module.training_step(batch, 0)
    torch.testing.assert_close(loss, expected + 1e-3 * penalty, rtol=1e-3, atol=0)


def test_each_gradient_is_clipped_by_itself(hole, tmp_path):
    module, _ = _module(hole(), tmp_path)
    for number, parameter in enumerate(module.network.parameters()):
        parameter.grad = torch.full_like(parameter, 100.0 if number % 2 else 1e-6)
    module.configure_gradient_clipping()
    for number, parameter in enumerate(module.network.parameters()):
        norm = float(parameter.grad.norm())
        small = 1e-6 * math.sqrt(parameter.numel())
        assert norm == pytest.approx(5.0 if number % 2 else small, rel=1e-3)


# --- runs


def test_train_and_resume(hole, tmp_path):
    """Two epochs at once, and one after the other: the same weights."""
    path = hole("atmodist")
    whole = train(path, out=tmp_path / "a", progress=False)
    train(path, out=tmp_path / "b", progress=False, stop_after=1)
    resumed = train(path, out=tmp_path / "b", progress=False)
    one, two = _state(whole)["state_dict"], _state(resumed)["state_dict"]
    assert all(torch.equal(one[key], two[key]) for key in one)
    # What only measures is in no checkpoint.
    assert all(key.startswith("network.") for key in one)
    curve = learning_curve(whole)
    assert len(curve) == 2
    assert all(e["train_content"] > 0 and e["val_rmse"] > 0 for e in curve)
    assert "RMSE" in summary(whole)
    assert "of the standard deviation" in summary(whole)


def test_another_hole_is_another_run(hole, tmp_path):
    train(hole(), out=tmp_path / "runs", progress=False, stop_after=1)
    with pytest.raises(errors.OptionError, match=r"objective.hole\[1\] was 8, is 9"):
        train(hole(hole="[9, 24]"), out=tmp_path / "runs", progress=False)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"hole": "[0, 24]"},
            r"hole = \[0, 24\], patch = \[32, 64\].*between 0 and 32",
        ),
        ({"hole": "[24, 8]"}, r"does not lie inside the patch.*hole = \[12, 20\]"),
        ({"content_layer": '"block9"'}, "block9"),
        ({"content": "ssim"}, r"\[objective\] content cannot be 'ssim'"),
        (
            {"quantities": '["eastward_wind"]'},
            r"channels = 2 in \[network\].*channels = 1 in \[network\]",
        ),
    ],
)
def test_recipes_that_do_not_fit(hole, tmp_path, changes, text):
    with pytest.raises(errors.AtmoError, match=f"(?s){text}"):
        train(
            hole(**{"content": "atmodist"} | changes),
            out=tmp_path / "runs",
            progress=False,
        )


def test_a_distance_of_other_fields_is_refused(hole, tmp_path):
    path = hole("atmodist", quantities='["northward_wind", "eastward_wind"]')
    with pytest.raises(errors.OptionError, match="does not compare the fields"):
        train(path, out=tmp_path / "runs", progress=False)


def test_the_command_says_what_is_next(hole, tmp_path, capsys):
    path, out = hole(), str(tmp_path / "runs")
    call = ["train", str(path), "--out", out, "--quiet", "--max-epochs", "1"]
    assert main(call) == 0
    assert f"next: xatmo compare {path} OTHER_RECIPE" in capsys.readouterr().out
    assert main(["release", str(path), "--out", out]) != 0
    assert "fills one hole alone" in capsys.readouterr().err


# --- the comparison


def test_compare(hole, tmp_path, capsys):
    paths, runs = [hole(), hole("atmodist")], tmp_path / "runs"
    files = {key: tmp_path / f"{key}.json" for key in ("json", "table")}
    call = ["compare", *map(str, paths), "--out", str(runs), "--quiet"]
    call += [part for key, file in files.items() for part in (f"--{key}", str(file))]
    assert main(call) == 0
    printed = capsys.readouterr().out
    told = json.loads(files["json"].read_text())
    (found,) = told["data"].values()
    methods = found["methods"]
    assert [*methods] == ["mean", "linear", "tiny-mse", "tiny-atmodist"]
    assert methods["mean"]["std"] == pytest.approx(0, abs=1e-5)
    assert methods["mean"]["power_short"] == pytest.approx(0, abs=1e-9)
    assert methods["tiny-mse"]["rmse_ratio"] == 1
    assert all(m["distance_block2"] > 0 for m in methods.values())
    assert found["layers"] == ["block3", "block2"]
    assert len(found["spectra"]["truth"]) == 8
    (table,) = json.loads(files["table"].read_text())
    assert all(len(row) == len(table["columns"]) for row in table["rows"])
    assert comparison_page(told) in printed
    # Again: nothing is trained, and the numbers are the same.
    assert json.loads(json.dumps(compare(paths, out=runs))) == told
    _scores_are_the_fields(paths[0], runs, methods["tiny-mse"]["rmse"])


def _scores_are_the_fields(path, runs, told):
    """The error of the first recipe's network, by hand."""
    from xatmo.training.prepare import prepare_source
    from xatmo.training.sampling import FieldStore

    recipe = read_recipe(path)
    network = build_network(recipe).eval()
    folder = runs / recipe.name
    network.load_state_dict(network_state(folder / "checkpoints" / "last.ckpt"))
    levels = json.loads((folder / "run.json").read_text())["levels"]
    normalize = ZScore(levels["10 m"]["mean"], levels["10 m"]["std"])
    (source,) = recipe.evaluation
    store = FieldStore(prepare_source(source, recipe.quantities, runs / "own"))
    squares = []
    for time in range(store.times.size):
        for row in (0, 14, 29):
            area = np.cos(np.deg2rad(store.latitude[row + 8 : row + 24]))[:, None]
            for column in range(0, 120, 20):
                field = store.window(time, row, column, 32, 64)
                x = normalize(torch.from_numpy(field)[None])
                with torch.no_grad():
                    made = fill(network, x, (slice(8, 24), slice(8, 24)))
                error = normalize.inverse(made)[0].numpy() - field[:, 8:24, 8:24]
                weights = np.broadcast_to(area, error.shape)
                squares.append(np.average(error**2, weights=weights))
    assert math.sqrt(np.mean(squares)) == pytest.approx(told, rel=1e-3)


def test_compare_refuses_other_tasks(hole, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text('task = "downscale"\n')
    with pytest.raises(
        errors.OptionError, match=r"other.toml trains no network that f"
    ):
        compare([hole(), other])


def test_compare_refuses_other_holes(hole):
    text = r"(?s)do not fill the same hole.*tiny-mse: .*\[8, 24\]; tiny-atmodist.*9, 24"
    with pytest.raises(errors.OptionError, match=text):
        compare([hole(), hole("atmodist", hole="[9, 24]")])


def test_scores_of_known_fields():
    rng = np.random.default_rng(0)
    latitude, longitude = 20.0 - np.arange(16.0), np.arange(16.0)
    truth = rng.normal(size=(3, 2, 16, 16)).astype(np.float32)
    pieces = Pieces(truth, latitude, longitude, ())
    scores = {name: Scores(name, np.zeros(1)) for name in ("truth", "half", "off")}
    scores["truth"].add(0, pieces, truth)
    scores["half"].add(0, pieces, truth / 2)
    scores["off"].add(0, pieces, truth + 3)
    half, off = (
        scores[n].told(scores["truth"], scores["off"]) for n in ("half", "off")
    )
    for key in ("std", "total_variation"):
        assert half[key] == pytest.approx(0.5)
        assert off[key] == pytest.approx(1.0, rel=1e-4)
    for key in ("power_long", "power_short"):
        assert half[key] == pytest.approx(0.25, rel=1e-4)
    assert off["rmse"] == pytest.approx(3.0)
    assert half["rmse_ratio"] == pytest.approx(half["rmse"] / 3.0)


def test_straight_lines_across_a_hole():
    rows, columns = np.mgrid[:12, :14].astype(np.float32)
    plane = (2 * rows - 3 * columns + 1)[None, None]
    window = (slice(3, 8), slice(4, 9))
    seen = plane.copy()
    seen[..., 3:8, 4:9] = np.nan
    np.testing.assert_allclose(linear(seen, window), plane[..., 3:8, 4:9], atol=1e-5)


# --- the recipes


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda p: p.stem)
def test_published_recipes(path):
    recipe = read_recipe(path)
    assert recipe.objective.window == (slice(59, 99), slice(59, 99))
    assert recipe.name == path.stem


def test_published_recipes_differ_in_their_content_alone():
    one, two = map(read_recipe, PUBLISHED)
    for part in ("network", "train", "validation", "evaluation", "sampling"):
        assert getattr(one, part) == getattr(two, part)
    assert one.optimizer == two.optimizer
    assert (one.objective.content, two.objective.content) == ("mse", "atmodist")
    assert two.objective.content_weight == 0.9
