"""Train, resume, evaluate, release: the whole way on a tiny network."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from xatmo import errors
from xatmo.cli import main
from xatmo.training.module import PairClassifier
from xatmo.training.recipe import Optimizer, read_recipe
from xatmo.training.release import release
from xatmo.training.run import build_network, train

TRAIN = Path(__file__).parents[2] / "train"


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    file = folder / "checkpoints" / "last.ckpt"
    return torch.load(file, weights_only=True)["state_dict"]


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(recipe, tmp_path, schedule):
    path = recipe(2, schedule)
    whole = train(path, out=tmp_path / "whole", progress=False)
    # Stopped after the first of two epochs, as a kill between checkpoints would.
    parts = train(path, out=tmp_path / "parts", progress=False, stop_after=1)
    assert _weights(parts).keys() == _weights(whole).keys()
    assert any(
        not torch.equal(a, b)
        for a, b in zip(_weights(parts).values(), _weights(whole).values(), strict=True)
    )
    train(path, out=tmp_path / "parts", progress=False)
    for name, value in _weights(whole).items():
        torch.testing.assert_close(_weights(parts)[name], value, rtol=0, atol=0)


def test_leaves_logs(recipe, tmp_path):
    folder = train(recipe(1), out=tmp_path, progress=False)
    metrics = (folder / "csv" / "version_0" / "metrics.csv").read_text()
    assert "train_ce" in metrics
    assert "val_accuracy" in metrics
    assert list((folder / "tensorboard").rglob("events*"))


def test_loss_falls(recipe, tmp_path):
    """On the fixed pairs of the warm start even a tiny network learns."""
    from dataclasses import replace

    from xatmo.nets.normalization import SignLog
    from xatmo.training.run import prepare_all

    torch.manual_seed(0)
    settings = read_recipe(recipe())
    levels, pairs, _ = prepare_all(settings, tmp_path)
    constants = {k: v for k, v in levels["10 m"].items() if k != "trained"}
    module = PairClassifier(
        build_network(settings),
        [SignLog(**constants, alpha=0.2)],
        replace(settings.optimizer, learning_rate=0.05),
    )
    batch = {k: torch.from_numpy(v) for k, v in vars(pairs.batch(0, 16)).items()}
    sgd = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(module.logits(batch), batch["label"])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_clips_each_tensor_by_its_own_norm(recipe):
    network = build_network(read_recipe(recipe()))
    module = PairClassifier(network, [], Optimizer(clip_norm=5.0))
    for i, parameter in enumerate(network.parameters()):
        parameter.grad = torch.full_like(parameter, 1e-3 if i % 2 else 100.0)
    module.configure_gradient_clipping()
    for i, parameter in enumerate(network.parameters()):
        norm = float(parameter.grad.norm())
        expected = 1e-3 * parameter.numel() ** 0.5 if i % 2 else 5.0
        assert norm == pytest.approx(expected, rel=1e-3)


def test_warm_start_repeats_a_fixed_subset(recipe, tmp_path):
    from xatmo.training.data import PairData
    from xatmo.training.run import prepare_all

    settings = read_recipe(recipe())
    _, pairs, held_out = prepare_all(settings, tmp_path)
    data = PairData(pairs, held_out, settings.optimizer)
    warm = list(data.train_dataloader())
    np.testing.assert_array_equal(
        warm[0]["first"], warm[2]["first"]
    )  # 16 pairs: two batches
    assert not np.array_equal(warm[0]["first"], warm[1]["first"])


def test_release_writes_a_model_that_the_package_finds(
    recipe, tmp_path, monkeypatch, capsys
):
    import xatmo

    path = recipe(1)
    train(path, out=tmp_path / "runs", progress=False)
    folder = release(
        path, out=tmp_path / "runs", models=tmp_path / "models", pairs=256, triplets=256
    )
    card = tomllib.loads((folder / "card.toml").read_text())
    assert card["levels"][0]["level"] == "10 m"
    assert card["layers"] == {
        "names": ["block2", "block1"],
        "stride": {"block2": 4, "block1": 2},
        "features": {"block2": 8, "block1": 4},
    }
    assert set(card["distance"]["alpha"]) == {"block2", "block1"}
    scores = json.loads((folder / "scores.json").read_text())["winds"]
    confusion = np.array(scores["classification"]["confusion"])
    assert confusion.sum() == scores["classification"]["pairs"] == 256
    assert scores["ordering"]["all"]["triplets"] == 256
    page = (folder / "README.md").read_text()
    assert f"{scores['classification']['accuracy']:.3f}" in page
    monkeypatch.setenv("XATMO_MODELS_URL", str(tmp_path / "models"))
    ds = xatmo.testing.synthetic_winds(
        2, np.arange(60, -61, -3.0), np.arange(0, 360, 3.0)
    )
    assert ds.atmo.embed("tiny").sizes["feature"] == 8
    assert (
        main(
            [
                "evaluate",
                "tiny",
                "--data",
                str(_data(path)),
                "--pairs",
                "64",
                "--triplets",
                "64",
                "--json",
                str(tmp_path / "s.json"),
            ]
        )
        == 0
    )
    assert "Ordering accuracy" in capsys.readouterr().out
    assert (
        json.loads((tmp_path / "s.json").read_text())["classification"]["pairs"] == 64
    )


def _data(recipe_path: Path) -> Path:
    return Path(tomllib.loads(recipe_path.read_text())["data"]["train"][0]["path"])


def test_on_other_data(recipe, winds_file, tmp_path):
    folder = train(recipe(1), data=str(winds_file), out=tmp_path, progress=False)
    told = json.loads((folder / "run.json").read_text())["recipe"]
    assert len(told["train"]) == 1
    assert told["train"][0]["end"] < told["validation"][0]["start"]


@pytest.mark.slow
def test_the_papers_recipe_runs_on_a_small_subset(tmp_path):
    """160 x 160 patches at 0.14°, three-hourly: two steps of the full network."""
    from xatmo.testing import synthetic_winds

    step = 0.140625
    lat, lon = 12.0 - step * np.arange(170), 100.0 + step * np.arange(170)
    synthetic_winds(120, lat, lon, step_hours=3).to_netcdf(tmp_path / "fine.nc")
    text = (TRAIN / "atmodist" / "paper.toml").read_text()
    for name, small in (
        ("batch_size", 2),
        ("steps_per_epoch", 2),
        ("warm_pairs", 4),
        ("validate_every", 1),
    ):
        text = "\n".join(
            f"{name} = {small}" if line.startswith(f"{name} =") else line
            for line in text.splitlines()
        )
    path = tmp_path / "paper.toml"
    path.write_text(text.replace("[optimizer]", "[optimizer]\nvalidation_pairs = 2"))
    folder = train(
        path, data=str(tmp_path / "fine.nc"), out=tmp_path, max_epochs=1, progress=False
    )
    state = _weights(folder)
    assert sum(v.numel() for k, v in state.items() if "tracked" not in k) == 2_747_856


@pytest.mark.parametrize("name", ["recipe.toml", "paper.toml"])
def test_recipes_read(name):
    recipe = read_recipe(TRAIN / "atmodist" / name)
    assert recipe.sampling.patch == tuple(recipe.network["patch"])
    assert recipe.sampling.n_lags == recipe.network["n_classes"]


def test_a_recipe_like_another(tmp_path):
    (tmp_path / "a.toml").write_text(
        'name = "a"\nversion = "1"\ntitle = "A"\narchitecture = "atmodist"\n'
        "[network]\nwidth = 4\ndepth = 2\n"
    )
    (tmp_path / "b.toml").write_text(
        'like = "a.toml"\nname = "b"\n[network]\ndepth = 3\n'
    )
    b = read_recipe(tmp_path / "b.toml")
    assert (b.name, b.title) == ("b", "A")
    assert b.network == {"width": 4, "depth": 3}


# --- Bad input ----------------------------------------------------------------------


def test_a_recipe_like_itself(tmp_path):
    (tmp_path / "a.toml").write_text('like = "b.toml"\n')
    (tmp_path / "b.toml").write_text('like = "a.toml"\n')
    with pytest.raises(errors.OptionError, match=r"(?s)like itself.*b.toml is like"):
        read_recipe(tmp_path / "a.toml")


def test_no_recipe():
    with pytest.raises(
        errors.OptionError, match=r"(?s)no recipe 'nowhere.toml'.*train/atmodist"
    ):
        read_recipe("nowhere.toml")


def test_unknown_key(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('name = "x"\nlearning_rat = 1\n')
    with pytest.raises(
        errors.OptionError, match=r"(?s)keys that no recipe has.*learning_rat"
    ):
        read_recipe(path)


def test_incomplete(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('name = "x"\n')
    with pytest.raises(errors.OptionError, match=r"(?s)not complete.*title"):
        read_recipe(path)


def test_missing_data(recipe, tmp_path):
    path = recipe()
    path.write_text(path.read_text().replace("winds.nc", "gone.nc"))
    with pytest.raises(
        errors.OptionError, match=r"(?s)gone.nc' is not there.*XATMO_DATA"
    ):
        train(path, out=tmp_path, progress=False)


def test_begins_with_the_weights_of_another_run(recipe, tmp_path):
    path = recipe(1)
    first = train(path, out=tmp_path, progress=False)
    text = path.read_text().replace(
        'name = "tiny"', 'name = "second"\ninit_from = "tiny"'
    )
    path.write_text(text.replace("schedule =", "learning_rate = 0.0\nschedule ="))
    second = train(path, out=tmp_path, progress=False)
    for name, value in _weights(first).items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(_weights(second)[name], value, rtol=0, atol=0)


def test_says_which_weights_are_missing(recipe, tmp_path):
    path = recipe(1)
    path.write_text('init_from = "nothing"\n' + path.read_text())
    with pytest.raises(errors.OptionError, match="no weights 'nothing' to begin with"):
        train(path, out=tmp_path, progress=False)


def test_refuses_the_weights_of_another_network(recipe, tmp_path):
    path = recipe(1)
    path.write_text('init_from = "atmodist-small"\n' + path.read_text())
    with pytest.raises(errors.OptionError, match="do not fit this recipe's network"):
        train(path, out=tmp_path, progress=False)


def test_adamw_decays_kernels_alone_and_takes_no_penalty(recipe, tmp_path):
    path = recipe(1)
    path.write_text(
        path.read_text().replace("schedule =", 'method = "adamw"\nschedule =')
    )
    settings = read_recipe(path)
    module = PairClassifier(build_network(settings), [], settings.optimizer)
    kernels, rest = module.configure_optimizers()["optimizer"].param_groups
    assert kernels["weight_decay"] == 0.05
    assert rest["weight_decay"] == 0
    assert all(p.ndim > 1 for p in kernels["params"])
    assert module._penalty() == 0
    train(path, out=tmp_path, progress=False)


def test_names_the_choices_of_a_method(recipe):
    path = recipe(1)
    path.write_text(
        path.read_text().replace("schedule =", 'method = "adam"\nschedule =')
    )
    with pytest.raises(errors.OptionError, match="'sgd' or 'adamw'"):
        read_recipe(path)


def test_a_calibrated_release_names_lags_as_the_network_did(recipe, tmp_path):
    path = recipe(1)
    plain_run = train(path, out=tmp_path / "runs", progress=False)
    assert plain_run.exists()
    kwargs = {"out": tmp_path / "runs", "pairs": 64, "triplets": 64}
    plain = release(path, models=tmp_path / "plain", **kwargs)
    path.write_text("calibrate = true\n" + path.read_text())
    scaled = release(path, models=tmp_path / "scaled", **kwargs)
    first, second = (
        json.loads((folder / "scores.json").read_text()) for folder in (plain, scaled)
    )
    for name, scores in first.items():
        ours, other = scores["classification"], second[name]["classification"]
        assert ours["confusion"] == other["confusion"]
    card = tomllib.loads((scaled / "card.toml").read_text())
    assert "scaled to order time lags" in card["distance"]["space"]
