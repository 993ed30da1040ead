"""A run that is killed, damaged or changed goes on as it began, or says why not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
import torch

from xatmo import errors
from xatmo.training.checkpoints import WholeFiles, find_checkpoint
from xatmo.training.logs import learning_curve, summary
from xatmo.training.run import train


def _weights(folder):
    file = folder / "checkpoints" / "last.ckpt"
    return torch.load(file, weights_only=True)["state_dict"]


def _assert_same(a, b):
    ours, theirs = _weights(a), _weights(b)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=0, atol=0)


@pytest.fixture
def dropping(recipe):
    """A recipe whose network and schedule remember more than their weights."""

    def write(epochs, schedule):
        path = recipe(epochs, schedule)
        text = path.read_text().replace(
            "head_width = 8", "head_width = 8\ndropout = 0.3"
        )
        text = text.replace(
            "schedule =", "plateau_patience = 2\nplateau_delta = 10.0\nschedule ="
        )
        path.write_text(text)
        return path

    return write


@pytest.mark.slow
def test_a_killed_run_ends_where_an_uninterrupted_one_does(dropping, tmp_path):
    path, epochs = dropping(8, "plateau"), 8
    # Both by the command: other tests leave another number of threads behind, and sums
    # of another order.
    command = [sys.executable, "-m", "xatmo", "train", str(path), "--quiet", "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, check=True)
    whole = tmp_path / "whole" / "tiny"
    command += [str(tmp_path / "killed")]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    last = tmp_path / "killed" / "tiny" / "checkpoints" / "last.ckpt"
    until = time.monotonic() + 90
    while not last.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last.exists(), (tmp_path / "log").read_text()
    done = torch.load(last, weights_only=True)["epoch"] + 1
    assert 1 <= done < epochs
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout
    _assert_same(whole, tmp_path / "killed" / "tiny")
    ours, theirs = learning_curve(last.parents[1]), learning_curve(whole)
    assert [e["epoch"] for e in ours] == list(range(epochs))
    for mine, other in zip(ours, theirs, strict=True):
        for key in ("train_loss", "train_ce", "val_ce", "val_accuracy", "lr"):
            assert mine[key] == other[key], key


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_the_schedule_and_dropout_survive_a_stop(dropping, tmp_path, schedule):
    path = dropping(5, schedule)
    whole = train(path, out=tmp_path / "whole", progress=False)
    for stop in (2, 4, None):
        parts = train(path, out=tmp_path / "parts", progress=False, stop_after=stop)
    _assert_same(whole, parts)
    rates = [e["lr"] for e in learning_curve(whole)]
    assert rates == [e["lr"] for e in learning_curve(parts)]
    if schedule == "plateau":
        # One epoch of warm start, one that is the best, two that are no better.
        assert rates == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01])
    else:
        assert rates == sorted(rates, reverse=True)


def test_a_damaged_checkpoint_falls_back_on_the_one_before(recipe, tmp_path):
    path = recipe(3)
    whole = train(path, out=tmp_path / "whole", progress=False)
    parts = train(path, out=tmp_path / "parts", progress=False, stop_after=2)
    last = parts / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    with pytest.warns(UserWarning, match="cannot be read .* the one before is tried"):
        train(path, out=tmp_path / "parts", progress=False)
    _assert_same(whole, parts)


def test_two_damaged_checkpoints_are_an_error(tmp_path):
    for name in ("last.ckpt", "previous.ckpt"):
        (tmp_path / name).write_bytes(b"not a checkpoint")
    with (
        pytest.warns(UserWarning, match="cannot be read"),
        pytest.raises(errors.OptionError, match=r"(?s)No checkpoint.*begin anew"),
    ):
        find_checkpoint(tmp_path)


def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    last = tmp_path / "last.ckpt"
    files = WholeFiles()
    files.save_checkpoint({"epoch": 0}, last)
    files.save_checkpoint({"epoch": 1}, last)

    def killed(checkpoint, file):
        file.write_bytes(b"half of a")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        files.save_checkpoint({"epoch": 2}, last)
    assert torch.load(find_checkpoint(tmp_path), weights_only=True) == {"epoch": 1}
    # Between the two renames there is no last one, but the one before.
    last.rename(tmp_path / "previous.ckpt")
    assert find_checkpoint(tmp_path).name == "previous.ckpt"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("widths = [4, 8]", "widths = [4, 16]", r"network.widths\[2\] was 8, is 16"),
        ("n_lags = 3", "n_lags = 3\nmirror = false", "sampling.mirror was True, is F"),
        ("batch_size = 8", "batch_size = 4", "optimizer.batch_size was 8, is 4"),
        ('end = "2020-01-05"', 'end = "2020-01-04"', r"train\[1\].end was"),
    ],
)
def test_refuses_to_go_on_with_another_recipe(recipe, tmp_path, old, new, said):
    path = recipe(2)
    train(path, out=tmp_path, progress=False, stop_after=1)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(errors.OptionError, match=rf"(?s){said}.*another --out"):
        train(path, out=tmp_path, progress=False)


def test_the_length_of_a_run_may_change(recipe, tmp_path):
    folder = train(recipe(1), out=tmp_path, progress=False)
    assert train(recipe(1), out=tmp_path, max_epochs=2, progress=False) == folder
    curve = json.loads((folder / "curve.json").read_text())
    assert [e["epoch"] for e in curve] == [0, 1]
    assert all(e["pairs_per_second"] > 0 for e in curve)
    assert all(0 <= e["val_accuracy"] <= 1 for e in curve)
    assert "2 epochs" in summary(folder)
    assert "pairs/s" in summary(folder)


def test_nothing_trained_is_said(tmp_path):
    assert summary(tmp_path) == f"nothing was trained in {tmp_path}"
