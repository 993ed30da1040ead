"""``xatmo evaluate`` and the page of a model, on a small network with fixed weights."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest
import torch
import xarray as xr

from xatmo import errors
from xatmo.cli import main
from xatmo.nets.atmodist import AtmoDist
from xatmo.testing import synthetic_winds
from xatmo.training.evaluate import evaluate, sampling_of
from xatmo.training.figures import save_figures, save_learning
from xatmo.training.modelpage import score_page
from xatmo.training.recipe import Source
from xatmo.training.rescore import rescore
from xatmo.zoo import Model, read_card, save_state, write_card

NETWORK = {
    "n_classes": 4, "patch": [16, 16], "stem": [3, 1], "pool": False, "stem_width": 4,
    "widths": [4, 8], "depths": [1, 1], "strides": [2, 2], "head_width": 8,
}  # fmt: skip
CURVE = [
    {
        "epoch": e, "train_ce": 1.4 - e / 10, "train_accuracy": 0.3, "lr": 0.1,
        "val_ce": 1.3 if e % 2 else None, "val_accuracy": 0.3 if e % 2 else None,
        "pairs_per_second": 100.0,
    }
    for e in range(4)
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A released model that was never trained: four lags of 6 hours, at 1 to 6°."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "small"
    network = AtmoDist(**NETWORK)
    sha256 = save_state(network, folder / "weights.safetensors")
    names = network.encoder.layers[::-1][:2]
    constants = {
        "mean": [0.0, 0.0], "std": [2e-5, 3e-5], "log_mean": [0.0, 0.0],
        "log_std": [0.16, 0.16],
    }  # fmt: skip
    write_card(
        folder / "card.toml",
        {
            "name": "small",
            "version": "1.2.0",
            "title": "A model for tests",
            "architecture": "atmodist",
            "capabilities": ["embed", "distance"],
            "licence": "Apache-2.0",
            "citation": "nobody",
            "network": NETWORK,
            "inputs": [
                {"quantity": "divergence_of_wind", "units": "s-1"},
                {"quantity": "atmosphere_relative_vorticity", "units": "s-1"},
            ],
            "levels": [
                {"level": "10 m", **constants},
                {"level": "850 hPa", "trained": False, **constants},
            ],
            "normalization": {"kind": "signlog", "alpha": 0.2},
            "grid": {
                "spacing": [2.0, 6.0], "patch": [16, 16], "stride": 4, "halo": "global",
                "latitude_limit": 50.0,
            },
            "time": {"step": "6h", "lags": [6, 12, 18, 24]},
            "layers": {
                "names": list(names),
                "stride": {n: network.encoder.stride(n) for n in names},
                "features": {n: network.encoder.features(n) for n in names},
            },
            "weights": {
                "file": "weights.safetensors",
                "sha256": sha256,
                "size": (folder / "weights.safetensors").stat().st_size,
                "urls": [],
            },
        },
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def model(folder):
    card = read_card(folder / "card.toml")
    return Model(card, card.key())


def _evaluate(model, path, tmp_path, **kwargs):
    settings = {"pairs": 100, "triplets": 60, "folder": tmp_path / "data", **kwargs}
    return evaluate(model, [Source(str(path))], **settings)


@pytest.fixture(scope="module")
def scores(model, winds_file, tmp_path_factory):
    return _evaluate(model, winds_file, tmp_path_factory.mktemp("scores"), pairs=300)


def test_scores_everything_and_exactly_as_many(scores):
    c = scores["classification"]
    assert c["pairs"] == 300 == np.sum(c["confusion"])
    for part in (c["by_lag"], c["by_season"].values(), c["by_band"].values()):
        assert sum(g["pairs"] for g in part) == 300
        for group in part:
            low, high = group["accuracy_95"]
            assert low <= group["accuracy"] <= high
    assert scores["ordering"]["all"]["triplets"] == 60
    assert scores["reference"] == "the data themselves"
    assert scores["lags_missing_hours"] == []
    json.dumps(scores, allow_nan=False)


def test_measures_plain_distances_of_the_winds_too(scores):
    names = {
        "atmodist", "atmodist_root", "l2", "rmse", "l1", "psnr", "ssim", "eof20",
        "rmse_wind", "eof20_wind",
    }  # fmt: skip
    assert set(scores["curves"]["metrics"]) == names
    assert {"rmse_wind", "eof20_wind", "l1"} < set(scores["ordering"]["all"])


def test_without_winds_there_are_no_distances_of_winds(model, winds_file, tmp_path):
    from xatmo.fields import read

    with xr.open_dataset(winds_file) as ds:
        fields = read(ds, [i.quantity for i in model.card.inputs]).data
    renamed = {"divergence_of_wind": "d", "atmosphere_relative_vorticity": "vo"}
    path = tmp_path / "vo.nc"
    xr.Dataset({renamed[k]: v.drop_attrs() for k, v in fields.items()}).assign(
        vo=lambda ds: ds.vo.assign_attrs(
            units="s-1", standard_name="atmosphere_relative_vorticity",
            long_name="vorticity at 10 m",
        ),
        d=lambda ds: ds.d.assign_attrs(
            units="s-1", standard_name="divergence_of_wind",
            long_name="divergence at 10 m",
        ),
    ).to_netcdf(path)  # fmt: skip
    found = evaluate(
        model, [Source(str(path), level="10 m")], pairs=60, triplets=40, folder=tmp_path
    )
    assert "rmse_wind" not in found["curves"]["metrics"]
    assert "rmse" in found["curves"]["metrics"]


def test_the_distance_is_the_packages_own(model, winds_file, tmp_path):
    """Scored distances are those of the network on the patch, normalised."""
    from xatmo.training.scores.scorer import Scorer
    from xatmo.zoo import normalizer

    x = torch.randn(5, 2, 16, 16) * 3e-5
    scorer = Scorer(model.network(), normalizer(model.card, model.card.levels[0]))
    network = model.network().eval()
    with torch.no_grad():
        expected = network.encode(scorer.normalize(x))
        logits = network(scorer.normalize(x), scorer.normalize(x.flip(0)))
    features = scorer.encode(x.numpy())
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    got = scorer.probabilities(features.numpy(), features.flip(0).numpy())
    np.testing.assert_allclose(got, logits.softmax(1).numpy(), atol=1e-5)


def test_the_same_seed_gives_the_same_scores(model, winds_file, tmp_path):
    one, two = (_evaluate(model, winds_file, tmp_path) for _ in range(2))
    assert one == two
    assert _evaluate(model, winds_file, tmp_path, seed=8) != one


def test_a_reference_of_its_own(model, winds_file, tmp_path):
    told = Source(str(winds_file), end="2020-01-05")
    found = _evaluate(model, winds_file, tmp_path, reference=[told])
    assert found["reference"] == ["winds.nc, until 2020-01-05"]


def test_names_lags_that_the_data_do_not_have(model, winds_file, tmp_path):
    found = evaluate(
        model, [Source(str(winds_file), end="2020-01-01T12")], pairs=50, triplets=20,
        folder=tmp_path,
    )  # fmt: skip
    assert found["lags_missing_hours"] == [18, 24]
    assert [g["lag_hours"] for g in found["classification"]["by_lag"]] == [6, 12]
    page = score_page(found)
    assert "no pairs 18, 24 h apart" in page
    assert "1 block of three days" in page
    save_figures(found, tmp_path / "figures")


def test_a_level_it_was_not_trained_at(model, winds_file, tmp_path):
    with xr.open_dataset(winds_file) as ds:
        high = ds.load()
    for name in high.data_vars:
        high[name].attrs.pop("long_name", None)
    high = high.rename(dict(zip(high.data_vars, ("u", "v"), strict=True))).expand_dims(
        level=xr.Variable("level", [850.0], {"units": "hPa"})
    )
    high.to_netcdf(tmp_path / "high.nc")
    with pytest.warns(errors.ExtrapolationWarning, match="850 hPa"):
        found = _evaluate(model, tmp_path / "high.nc", tmp_path)
    assert found["level"] == "850 hPa"
    assert not found["level_trained"]
    assert "not trained at this level" in score_page(found)


def test_several_levels_need_a_choice(model, winds_file, tmp_path, capsys):
    with xr.open_dataset(winds_file) as ds:
        one = ds.load()
    one = one.rename(dict(zip(one.data_vars, "uv", strict=True)))
    for name in one.data_vars:
        one[name].attrs.pop("long_name", None)
    two = one.expand_dims(level=xr.Variable("level", [850.0, 500.0], {"units": "hPa"}))
    two.to_netcdf(tmp_path / "two.nc")
    with pytest.raises(errors.LevelError, match=r'(?s)500 hPa.*level="850 hPa"'):
        _evaluate(model, tmp_path / "two.nc", tmp_path)


def test_too_fine_a_grid_names_the_coarsening(model, tmp_path):
    lat, lon = np.arange(40, -41, -1.0), np.arange(0, 90, 1.0)
    synthetic_winds(6, lat, lon).to_netcdf(tmp_path / "fine.nc")
    with pytest.raises(errors.GridError, match=r"(?s)too fine.*coarsen=2 for block"):
        _evaluate(model, tmp_path / "fine.nc", tmp_path)
    found = evaluate(
        model, [Source(str(tmp_path / "fine.nc"), coarsen=2)], pairs=40, triplets=20,
        folder=tmp_path,
    )  # fmt: skip
    assert found["data"] == ["fine.nc, block means of 2 x 2"]
    with pytest.raises(errors.GridError, match=r"(?s)too small.*coarsen=5 for block"):
        evaluate(model, [Source(str(tmp_path / "fine.nc"), coarsen=6)], folder=tmp_path)


def test_no_pairs_at_all_is_no_number(model, winds_file, tmp_path):
    with pytest.raises(errors.OptionError, match="triplets cannot be 0"):
        _evaluate(model, winds_file, tmp_path, triplets=0)


def test_a_model_without_lags(model):
    from dataclasses import replace

    with pytest.raises(errors.OptionError, match="small cannot be evaluated"):
        sampling_of(replace(model.card, time=None))


# --- What is made of the numbers ----------------------------------------------------


def test_figures_are_small(scores, tmp_path):
    paths = [*save_figures(scores, tmp_path), save_learning(CURVE, tmp_path)]
    names = {p.name for p in paths}
    assert names == {
        "confusion.png", "curves.png", "accuracy.png", "ordering.png", "learning.png",
    }  # fmt: skip
    assert all(0 < p.stat().st_size < 60_000 for p in paths)


def test_page_of_scores(scores):
    page = score_page(scores)
    for text in ("20S-20N", "DJF", "√AtmoDist", "RMSE of winds", "Confusion"):
        assert text in page
    assert f"{scores['classification']['accuracy']:.3f}" in page


@pytest.fixture
def rescored(folder, recipe, tmp_path):
    """The model scored anew by a recipe, with a learning curve and a comparison."""
    import shutil

    target = tmp_path / "small"
    shutil.copytree(folder, target)
    path = recipe(1)
    path.write_text(
        path.read_text()
        .replace('name = "tiny"', 'name = "small"')
        .replace("[card]\n", '[card]\ncomparison = "comparison.json"\n')
    )
    table = {
        "title": "Which training",
        "columns": ["trained on", "accuracy"],
        "rows": [["both", 0.31234]],
        "note": "A note.",
    }
    (tmp_path / "comparison.json").write_text(json.dumps([table]))
    (target / "curve.json").write_text(json.dumps(CURVE))
    (target / "figures" / "gone").mkdir(parents=True)
    (target / "figures" / "gone" / "curves.png").write_bytes(b"old")
    rescore(target, path, out=tmp_path / "runs", pairs=60, triplets=40)
    return target


def test_scores_of_a_released_model_are_made_anew(folder, rescored):
    card = tomllib.loads((rescored / "card.toml").read_text())
    scores = json.loads((rescored / "scores.json").read_text())
    (key,) = scores
    accuracy = scores[key]["classification"]["accuracy"]
    assert card["scores"][key]["accuracy"] == round(accuracy, 4)
    before = read_card(folder / "card.toml")
    assert read_card(rescored / "card.toml").weights == before.weights
    page = (rescored / "README.md").read_text()
    assert "## Which training" in page
    assert "| both | 0.312 |" in page
    assert "4 epochs, 100 pairs a second" in page
    assert not (rescored / "figures" / "gone" / "curves.png").exists()
    for line in page.splitlines():
        if line.startswith("!["):
            assert (rescored / line.partition("](")[2].rstrip(")")).exists()
    assert page.count("![") == 5


def test_rescoring_nothing(recipe, tmp_path):
    with pytest.raises(
        errors.OptionError, match=r"(?s)no released model.*xatmo release"
    ):
        rescore(tmp_path / "nothing", recipe(1))


# --- The command --------------------------------------------------------------------


def test_command(folder, winds_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XATMO_MODELS_URL", str(folder.parent))
    arguments = ["evaluate", "small", "--data", str(winds_file), "--pairs", "70"]
    arguments += ["--triplets", "33", "--end", "2020-01-04", "--seed", "3"]
    arguments += ["--json", str(tmp_path / "new" / "s.json")]
    arguments += ["--figures", str(tmp_path / "f"), "--out", str(tmp_path / "d")]
    assert main(arguments) == 0
    told = json.loads((tmp_path / "new" / "s.json").read_text())
    assert told["classification"]["pairs"] == 70
    assert told["ordering"]["all"]["triplets"] == 33
    assert told["seed"] == 3
    assert told["data"] == ["winds.nc, until 2020-01-04"]
    out, err = capsys.readouterr()
    assert "Ordering accuracy" in out
    assert "103/103" in err  # the progress bar
    assert (tmp_path / "f" / "curves.png").exists()


def test_command_names_its_own_arguments(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XATMO_MODELS_URL", str(folder.parent))
    lat, lon = np.arange(40, -41, -1.0), np.arange(0, 90, 1.0)
    path = tmp_path / "fine.nc"
    synthetic_winds(3, lat, lon).to_netcdf(path)
    assert main(["evaluate", "small", "--data", str(path)]) == 2
    assert "--coarsen 2 for block means" in capsys.readouterr().err


def test_references_at_other_levels_are_left_out(model, winds_file, tmp_path):
    with xr.open_dataset(winds_file) as ds:
        high = ds.load().drop_attrs()
    high = high.rename(dict(zip(high.data_vars, "uv", strict=True)))
    level = xr.Variable("level", [850.0], {"units": "hPa"})
    high.expand_dims(level=level).to_netcdf(tmp_path / "high.nc")
    others = [Source(str(winds_file)), Source(str(tmp_path / "high.nc"))]
    found = _evaluate(model, winds_file, tmp_path, reference=others)
    assert found["reference"] == ["winds.nc"]
    with pytest.raises(
        errors.LevelError, match=r"(?s)None of the reference.*high.nc.*data at 10 m"
    ):
        _evaluate(model, winds_file, tmp_path, reference=others[1:])


def test_a_model_that_reads_winds(model, winds_file, tmp_path):
    """Its own inputs are the winds: standardised, they are a plain distance as well."""
    from dataclasses import replace

    from xatmo.zoo.card import Input

    names = ("eastward_wind", "northward_wind")
    inputs = tuple(Input(name, "m s-1") for name in names)
    levels = tuple(replace(lv, std=(5.0, 5.0)) for lv in model.card.levels)
    card = replace(model.card, inputs=inputs, levels=levels)
    found = _evaluate(Model(card, card.key()), winds_file, tmp_path)
    metrics = found["curves"]["metrics"]
    assert "rmse_wind" in metrics
    assert metrics["rmse_wind"]["mean"] != metrics["rmse"]["mean"]
