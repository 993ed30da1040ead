"""Training of generators: crops, losses, resuming, and the adversarial game."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xatmo import errors
from xatmo.cli import main
from xatmo.nets.generator import Generator
from xatmo.nets.resample import block_mean
from xatmo.training.content import AtmoDistContent
from xatmo.training.downscale.adversarial import AdversarialDownscaler
from xatmo.training.downscale.calibrate import fit_noise_scale, scale_noise
from xatmo.training.downscale.crops import CropSampler
from xatmo.training.downscale.losses import (
    crps,
    differences,
    ensemble_loss,
    ring_of,
    waves,
)
from xatmo.training.downscale.module import Downscaler, Drawn, fine_power
from xatmo.training.downscale.recipe import Crops, Objective, read_recipe
from xatmo.training.downscale.run import prepare_all, zscore
from xatmo.training.logs import learning_curve, summary
from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import Source
from xatmo.training.run import build_network, network_state, train
from xatmo.training.sampling import FieldStore

RECIPES = sorted((Path(__file__).parents[2] / "train" / "downscale").glob("*.toml"))
WINDS = ("eastward_wind", "northward_wind")

RECIPE = """
task = "downscale"
name = "{name}"
version = "0.1.0"
title = "A tiny generator for tests"
quantities = ["eastward_wind", "northward_wind"]
{head}
[network]
width = 8
blocks = 1
kernel = 3
tail = [8, 4]
noise = {noise}
statics = 1
base = "bicubic"
[normalization]
kind = "zscore"
{normalization}
[sampling]
patch = [32, 32]
[objective]
kind = "{kind}"
{objective}
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
"""


@pytest.fixture
def downscale(tmp_path, winds_file):
    """Write a recipe; returns a function of its settings."""

    def write(kind="crps", **settings):
        told = {"name": kind, "head": "", "normalization": "", "objective": ""}
        told |= {"noise": 2 if kind == "crps" else 0, **settings}
        path = tmp_path / f"{told['name']}.toml"
        path.write_text(RECIPE.format(kind=kind, data=winds_file, **told))
        return path

    return write


@pytest.fixture(scope="module")
def store(winds_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return FieldStore(prepare_source(Source(str(winds_file)), WINDS, folder))


def _sampler(store, statics=1, seed=1, **sampling):
    settings = Crops(**{"patch": (16, 24), **sampling})
    levels = [store.level]
    return CropSampler(
        [store], [1.0], levels, settings, factor=4, statics=statics, seed=seed
    )


def _tensors(batch):
    return {key: torch.from_numpy(value) for key, value in vars(batch).items()}


def _state(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


# --- crops


def test_a_batch_is_a_function_of_its_number(store):
    sampler = _sampler(store)
    again = _sampler(store).batch(5, 6)
    for name, value in vars(sampler.batch(5, 6)).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    assert not np.array_equal(sampler.batch(6, 6).fine, again.fine)
    halves = [sampler.batch(5, 6, (i, 2)) for i in range(2)]
    np.testing.assert_array_equal(
        np.concatenate([half.fine for half in halves]), again.fine
    )


@pytest.mark.parametrize("offset", [True, False])
def test_crops_begin_anywhere_or_at_whole_blocks(store, offset):
    sampler = _sampler(store, offset=offset)
    rng = np.random.default_rng(0)
    places = [sampler.draw(rng) for _ in range(300)]
    rows, columns = {p.row % 4 for p in places}, {p.column % 4 for p in places}
    assert rows == columns == ({0, 1, 2, 3} if offset else {0})
    # A crop may reach over the end of the longitudes, but not over a pole.
    assert max(p.column for p in places) > store.longitude.size - 24
    assert max(p.row for p in places) <= store.latitude.size - 16


def test_places_are_as_likely_as_their_area(store):
    sampler = _sampler(store)
    rng = np.random.default_rng(0)
    rows = [sampler.draw(rng).row for _ in range(4000)]
    middles = np.array([store.latitude[r : r + 16].mean() for r in rows])
    starts = np.arange(store.latitude.size - 15)
    every = np.array([store.latitude[s : s + 16].mean() for s in starts])
    chances = np.cos(np.deg2rad(every))
    polar = chances[np.abs(every) > 50].sum() / chances.sum()
    assert (np.abs(middles) > 50).mean() == pytest.approx(polar, abs=0.03)


def test_mirrored_crops_turn_winds_and_land_alike(store):
    sampler = _sampler(store)
    place = sampler.draw(np.random.default_rng(3))
    plain = place._replace(upside_down=False, reversed=False)
    (u, v), land = sampler.cut(plain)
    (south, north), turned = sampler.cut(plain._replace(upside_down=True))
    np.testing.assert_array_equal(south, u[::-1])
    np.testing.assert_array_equal(north, -v[::-1])
    np.testing.assert_array_equal(turned, land[:, ::-1])
    (west, up), turned = sampler.cut(plain._replace(reversed=True))
    np.testing.assert_array_equal(west, -u[:, ::-1])
    np.testing.assert_array_equal(up, v[:, ::-1])
    np.testing.assert_array_equal(turned, land[:, :, ::-1])


def test_mirrors_of_what_turns_change_its_sign():
    from xatmo.training.sampling import mirror_signs

    names = ("divergence_of_wind", "atmosphere_relative_vorticity")
    for axis in ("latitude", "longitude"):
        assert mirror_signs(names, axis).ravel().tolist() == [1.0, -1.0]
    assert mirror_signs(WINDS, "longitude").ravel().tolist() == [-1.0, 1.0]


def test_land_lies_where_the_fields_do(store):
    """The share of land in a crop is that of its own cells, beyond 360° as well."""
    from xatmo.fields.land import land_share_of_cells

    sampler = _sampler(store)
    place = sampler.draw(np.random.default_rng(0))
    place = place._replace(column=110, upside_down=False, reversed=False)
    _, land = sampler.cut(place)
    rows = store.latitude[place.row : place.row + 16]
    expected = land_share_of_cells(rows, 330.0 + 3.0 * np.arange(24), (3.0, 3.0))
    np.testing.assert_allclose(land[0], expected, atol=1e-6)
    assert 0 < land.mean() < 1


def test_without_statics_none_are_made(store):
    assert _sampler(store, statics=0).batch(0, 2).statics.shape == (2, 0, 16, 24)


def test_a_grid_smaller_than_a_patch_is_refused(store):
    with pytest.raises(errors.GridError, match="at least 64 x 64"):
        _sampler(store, patch=(64, 64))


# --- losses


def test_the_fair_crps_does_not_depend_on_the_number_of_members():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(200_000, generator=generator)
    for count in (2, 5):
        members = torch.randn(count, 200_000, generator=generator)
        # Of a normal distribution that is right: 1 / sqrt(pi).
        assert float(crps(members, truth)) == pytest.approx(
            1 / math.sqrt(math.pi), 0.01
        )
        # Without its share of the spread it is the error of a member, 2 / sqrt(pi).
        error = float(crps(members, truth, fairness=0.0))
        assert error == pytest.approx(2 / math.sqrt(math.pi), 0.01)


def test_one_member_is_scored_by_its_absolute_error():
    assert float(crps(torch.ones(1, 3), torch.zeros(3))) == 1.0


def test_differences_of_a_bilinear_field():
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    found = differences(2 * x + 3 * y + 0.5 * x * y)
    expected = [2 + 0.5 * y[:, 1:], 3 + 0.5 * x[1:], 4 + y[:, 2:], 6 + x[2:]]
    for ours, theirs in zip(found[:4], expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(found[4], torch.full((5, 7), 0.5))


def test_differences_punish_noise_between_neighbours():
    """Values alone cannot tell smooth draws from those of each point on its own."""
    generator = torch.Generator().manual_seed(1)

    def draw(smooth, count):
        shape = (count, 200, 1, 1, 1) if smooth else (count, 200, 1, 16, 16)
        return torch.randn(shape, generator=generator).expand(-1, -1, -1, 16, 16)

    truth, smooth, rough = draw(True, 1)[0], draw(True, 2), draw(False, 2)
    alone = [
        float(ensemble_loss(m, truth, fairness=1.0, weight=0.0))
        for m in (smooth, rough)
    ]
    assert alone[0] == pytest.approx(alone[1], abs=0.15)
    both = [
        float(ensemble_loss(m, truth, fairness=1.0, weight=1.0))
        for m in (smooth, rough)
    ]
    assert both[1] > both[0] + 1


def test_waves_are_in_units_of_the_truth():
    generator = torch.Generator().manual_seed(2)
    truth = torch.randn(64, 2, 24, 32, generator=generator)
    truth = truth + truth.roll(1, -1)  # little power where waves are short
    found, rings = waves(truth)
    assert found.shape == (64, 2, 24, 17, 2)
    ring = ring_of(24, 32)
    for number in (3, 8, 12):
        of_ring = found[..., ring == number, :]
        assert float(of_ring.square().mean()) == pytest.approx(1.0, abs=1e-4)
    twice, _ = waves(2 * truth, rings)
    torch.testing.assert_close(twice, 2 * found)


def test_waves_punish_power_at_the_wrong_scale():
    """Values of the right spread, as differences may have, at one scale too short."""
    generator = torch.Generator().manual_seed(3)

    def draw(count, wavenumber):
        phase = 6.28318 * torch.rand(count, 300, 1, 1, 1, generator=generator)
        x = torch.arange(32.0)
        return torch.cos(wavenumber * 6.28318 / 32 * x + phase).expand(
            -1, -1, -1, 32, 32
        )

    truth = draw(1, 6)[0]
    right, wrong = (
        float(
            ensemble_loss(draw(2, k), truth, fairness=1.0, weight=0.0, spectrum=weight)
        )
        for k, weight in ((6, 1.0), (9, 1.0))
    )
    alone = [
        float(ensemble_loss(draw(2, k), truth, fairness=1.0, weight=0.0))
        for k in (6, 9)
    ]
    assert alone[0] == pytest.approx(alone[1], abs=0.05)
    assert wrong > right + 0.5


class _KnownSpread:
    """Draws whose spread is ``scale`` where that of the truth is 1.2."""

    def __init__(self):
        self.settings = SimpleNamespace(seed=0)
        self.network = Generator(width=4, blocks=1, kernel=3, noise=2)
        self._trained = self.network.first.weight.detach().clone()

    def draw(self, batch, members):
        scale = float(self.network.first.weight[0, 2, 0, 0] / self._trained[0, 2, 0, 0])
        shape = (members, *batch["fine"].shape)
        truth = 1.2 * torch.randn(shape[1:])
        fields = scale * torch.randn(shape)
        return Drawn(fields, fields, truth, truth)


def test_the_noise_is_scaled_to_the_errors(downscale, tmp_path):
    _, crops = _module(downscale(), tmp_path)
    module = _KnownSpread()
    before = module.network.first.weight.detach().clone()
    assert fit_noise_scale(module, crops) == pytest.approx(1.2, abs=0.03)
    assert torch.equal(module.network.first.weight, before)


def test_scaled_noise_is_stronger_noise():
    network = Generator(width=4, blocks=1, kernel=3, noise=2, base="bicubic")
    x, noise = torch.randn(1, 2, 6, 6), torch.randn(1, 2, 6, 6)
    with torch.no_grad():
        expected = network(x, 1.3 * noise)
        scale_noise(network, 1.3)
        torch.testing.assert_close(network(x, noise), expected)


def test_power_is_counted_above_the_coarse_nyquist():
    x = torch.arange(96.0)
    fine, coarse = (torch.sin(2 * math.pi * k * x)[None] for k in (0.2, 0.06))
    assert float(fine_power(coarse, 4)) < 1e-3 * float(fine_power(fine, 4))
    # Twice the amplitude, four times the power; a mean is none.
    ratio = fine_power(2 * fine + 5, 4) / fine_power(fine, 4)
    assert float(ratio) == pytest.approx(4, 1e-4)


def _module(path, folder):
    torch.manual_seed(0)
    recipe = read_recipe(path)
    levels, crops, _ = prepare_all(recipe, folder)
    normalizers = [zscore(constants) for constants in levels.values()]
    return Downscaler(build_network(recipe), normalizers, recipe), crops


def test_the_loss_sees_conserved_fields(downscale, tmp_path):
    module, crops = _module(downscale(), tmp_path)
    drawn = module.draw(_tensors(crops.batch(0, 4)), 3)
    assert drawn.fields.shape == (3, 4, 2, 32, 32)
    for member in drawn.fields:
        torch.testing.assert_close(block_mean(member, 4), drawn.coarse)
    torch.testing.assert_close(block_mean(drawn.truth, 4), drawn.coarse)
    assert not torch.equal(drawn.fields[0], drawn.fields[1])
    # What the raw means miss has a price, so that a field without the correction is
    # of use.
    assert module.mismatch(drawn) > 0
    assert module.mismatch(drawn._replace(raw=drawn.fields)) < 1e-10


@pytest.mark.parametrize("kind", ["crps", "mse"])
def test_the_loss_falls(downscale, tmp_path, monkeypatch, kind):
    module, crops = _module(downscale(kind), tmp_path)
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    batch = _tensors(crops.batch(0, 4))
    adam = torch.optim.Adam(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = module.training_step(batch, 0)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


# --- runs


@pytest.mark.parametrize("kind", ["crps", "adversarial"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(downscale, tmp_path, kind):
    path = downscale(kind)
    whole = train(path, out=tmp_path / "whole", progress=False)
    parts = train(path, out=tmp_path / "parts", progress=False, stop_after=1)
    assert _state(parts)["epoch"] == 0
    train(path, out=tmp_path / "parts", progress=False)
    ours, theirs = _state(parts), _state(whole)
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, value in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], value, rtol=0, atol=0)
    curves = [learning_curve(folder) for folder in (parts, whole)]
    for mine, other in zip(*curves, strict=True):
        for key in ("train_loss", "val_rmse", "val_crps", "val_power", "lr"):
            assert mine[key] == other[key] is not None, key


def test_a_run_leaves_its_curve_and_its_constants(downscale, tmp_path):
    folder = train(downscale(), out=tmp_path, progress=False)
    last = json.loads((folder / "curve.json").read_text())[-1]
    # An ensemble's mean is nearer to the truth than a member, its CRPS below its error.
    assert last["val_rmse"] < last["val_rmse_member"]
    assert 0 < last["val_crps"] < last["val_mae"]
    assert last["val_power"] > 0
    assert last["crops_per_second"] > 0
    told = json.loads((folder / "run.json").read_text())
    assert set(told["levels"]["10 m"]) == {"trained", "mean", "std"}
    assert "held-out RMSE" in summary(folder)
    assert list((folder / "tensorboard").rglob("events*"))


def test_the_command_trains_on_other_data(downscale, winds_file, tmp_path, capsys):
    command = ["train", str(downscale()), "--data", str(winds_file), "--quiet"]
    command += ["--out", str(tmp_path / "runs"), "--max-epochs", "1"]
    assert main(command) == 0
    assert "1 epoch" in capsys.readouterr().out
    told = json.loads((tmp_path / "runs" / "crps" / "run.json").read_text())["recipe"]
    assert told["train"][0]["end"] < told["validation"][0]["start"]


def test_a_changed_objective_is_no_resumption(downscale, tmp_path):
    train(downscale(), out=tmp_path, progress=False, stop_after=1)
    with pytest.raises(errors.OptionError, match=r"objective.fairness was 0.97, is 1"):
        train(downscale(objective="fairness = 1"), out=tmp_path, progress=False)


def test_begins_with_the_weights_and_constants_of_another_run(downscale, tmp_path):
    first = train(downscale("mse"), out=tmp_path, progress=False)
    path = downscale(
        "adversarial", head='init_from = "mse"', normalization='of = "mse"'
    )
    text = path.read_text().replace("learning_rate = 1e-3", "learning_rate = 0.0")
    path.write_text(text.replace('end = "2020-01-05"', 'end = "2020-01-02"'))
    second = train(path, out=tmp_path, progress=False)
    levels = [
        json.loads((f / "run.json").read_text())["levels"] for f in (first, second)
    ]
    assert levels[0] == levels[1]
    ours, theirs = (network_state(f / "checkpoints/last.ckpt") for f in (second, first))
    assert ours.keys() == theirs.keys()  # without the discriminator
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=0)


def test_levels_that_are_known_from_an_earlier_run_alone(downscale, tmp_path):
    known = {
        level: {"trained": True, "mean": [0.0, 1.0], "std": [2.0, 3.0]}
        for level in ("10 m", "850 hPa", "500 hPa")
    }
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "run.json").write_text(json.dumps({"levels": known}))
    recipe = read_recipe(downscale(normalization='of = "first"\nlevels = ["850 hPa"]'))
    levels, _, _ = prepare_all(recipe, tmp_path / "second")
    assert levels == {level: known[level] for level in ("10 m", "850 hPa")}


def test_constants_of_a_run_that_is_not_there(downscale, tmp_path):
    path = downscale(normalization='of = "nobody"')
    with pytest.raises(errors.OptionError, match="no constants for 10 m"):
        train(path, out=tmp_path, progress=False)


# --- the adversarial game


@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        ("low = 9.0\nhigh = 9.0", {"generator": 12, "discriminator": 6}),
        ("low = 0.0\nhigh = 0.0", {"generator": 6, "discriminator": 12}),
        ("low = 0.0\nhigh = 9.0", {"generator": 6, "discriminator": 6}),
    ],
)
def test_who_falls_behind_gets_another_step(downscale, tmp_path, limits, steps):
    folder = train(
        downscale("adversarial", objective=limits), out=tmp_path, progress=False
    )
    states = _state(folder)["optimizer_states"]
    done = [int(next(iter(s["state"].values()))["step"]) for s in states]
    assert dict(zip(("generator", "discriminator"), done, strict=True)) == steps


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_other_step_begins_where_the_first_ended(
    downscale, tmp_path, monkeypatch, precision
):
    """Nor do copies of the weights in lower precision outlive an update."""
    path = downscale("adversarial", objective="low = 1e9\nhigh = 1e9")
    text = path.read_text().replace("1e-3", f'0.01\nprecision = "{precision}"')
    path.write_text(text)
    seen = []
    teach = AdversarialDownscaler._teach_generator

    def teach_and_tell(self, drawn, level):
        seen.append(drawn.fields.detach())
        return teach(self, drawn, level)

    monkeypatch.setattr(AdversarialDownscaler, "_teach_generator", teach_and_tell)
    train(path, out=tmp_path, progress=False, stop_after=1)
    assert len(seen) == 6
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        assert not torch.equal(first, second)


def test_the_atmodist_content_trains(downscale, tmp_path):
    path = downscale("adversarial", objective='content = "atmodist"')
    folder = train(path, out=tmp_path, progress=False)
    told = learning_curve(folder)[-1]
    assert told["train_content"] > 0
    weight = told["train_loss"] - told["train_content"]
    assert weight >= 0.001 * told["train_adversarial"] > 0
    # Nothing of the frozen network is in the checkpoint.
    parts = {key.split(".")[0] for key in _state(folder)["state_dict"]}
    assert parts == {"network", "discriminator"}


def test_the_atmodist_content_is_that_of_physical_fields():
    """Whatever the generator's normalisation, the model reads what it knows."""
    from xatmo.losses import AtmoDistLoss

    generator = torch.Generator().manual_seed(0)
    shape = (3, 2, 32, 32)
    wind, other = (5 * torch.randn(shape, generator=generator) for _ in range(2))
    level = torch.tensor([0, 1, 0])
    ours = [
        zscore({"mean": [1.0, 2.0], "std": [4.0, 3.0]}),
        zscore({"mean": [0.0, -1.0], "std": [9.0, 7.0]}),
    ]
    content = AtmoDistContent(Objective("adversarial"), ours, ["10 m", "850 hPa"])
    normalised = [
        torch.stack([ours[i](x) for i, x in zip(level, y, strict=True)])
        for y in (wind, other)
    ]
    losses = {
        name: AtmoDistLoss("atmodist-small", level=name, reduction="none")(wind, other)
        for name in ("10 m", "850 hPa")
    }
    expected = (losses["10 m"][[0, 2]].sum() + losses["850 hPa"][1]) / 3
    found = content(*normalised, level)
    assert float(found) == pytest.approx(float(expected), rel=1e-2)


def test_a_content_model_of_other_fields(downscale, tmp_path):
    path = downscale(
        "adversarial",
        objective='content = "atmodist"\ncontent_model = "atmodist-vortdiv"',
    )
    with pytest.raises(
        errors.OptionError, match=r'(?s)in this order.*"atmodist-small"'
    ):
        train(path, out=tmp_path, progress=False)


def test_a_level_that_the_content_model_does_not_know():
    one = zscore({"mean": [0.0, 0.0], "std": [1.0, 1.0]})
    with pytest.raises(errors.LevelError, match='content_level = "10 m"'):
        AtmoDistContent(Objective("adversarial"), [one], ["100 m"])
    objective = replace(Objective("adversarial"), content_level="10 m")
    assert AtmoDistContent(objective, [one], ["100 m"]) is not None


def test_two_devices_are_refused_for_two_networks(downscale, tmp_path):
    with pytest.raises(errors.OptionError, match="--devices 1"):
        train(
            downscale("adversarial"),
            out=tmp_path,
            progress=False,
            devices=2,
            accelerator="cpu",
        )


# --- recipes


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (("noise = 2", "noise = 0"), "noise = 16 in \\[network\\]"),
        (('kind = "crps"', 'kind = "mse"'), 'kind = "crps"'),
        (("patch = [32, 32]", "patch = [30, 32]"), r"patch = \[28, 32\]"),
        (('kind = "crps"', 'kind = "ssim"'), "'crps' or 'mse' or 'adversarial'"),
        (("width = 8", "width = 8\nfactor = 2"), "factor = 4 in"),
        (('kind = "zscore"', 'kind = "signlog"'), "signlog"),
        (("patch =", "pach ="), "pach"),
        (('task = "downscale"', 'task = "upscale"'), "'pairs' or 'downscale'"),
    ],
)
def test_a_recipe_that_does_not_fit_itself(downscale, tmp_path, changes, match):
    path = downscale()
    path.write_text(path.read_text().replace(*changes))
    with pytest.raises(errors.OptionError, match=match):
        train(path, out=tmp_path, progress=False)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_the_recipes_can_be_read(path):
    recipe = read_recipe(path)
    network = build_network(recipe)
    assert network.factor == recipe.factor
    assert recipe.card["capabilities"] == ["downscale"]
    # Three days lie between what is trained on and what is held out.
    held = {s.path: s.start for s in recipe.validation}
    for source in recipe.train:
        if source.path in held:
            gap = np.datetime64(held[source.path]) - np.datetime64(source.end)
            assert gap >= np.timedelta64(3, "D")


def test_the_compared_recipes_differ_in_their_content_alone():
    pair = [p for p in RECIPES if p.stem.startswith("compare-gan")]
    ours, theirs = (read_recipe(p) for p in pair)
    assert {ours.objective.content, theirs.objective.content} == {"mse", "atmodist"}
    same = {"name": "", "title": "", "objective": ours.objective, "card": {}}
    assert replace(ours, **same) == replace(theirs, **same)
    assert ours.init_from == theirs.init_from == "compare-mse"
