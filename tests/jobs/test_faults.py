"""What goes wrong on the way: files, disks, signals, kills."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr.storage._local as local

import xatmo
from xatmo.cli import main
from xatmo.errors import ClusterError, JobError
from xatmo.jobs.pieces import Pieces
from xatmo.jobs.signals import Stop, Stopped
from xatmo.zoo.registry import packaged_folder

SAID = {"chunks": {"time": 4}}
HERE = Path(__file__).parent
REPO = HERE.parents[1]


@pytest.fixture
def at_block(monkeypatch):
    """Let something happen when a block begins, once."""
    plan: dict[int, object] = {}
    compute = Pieces.compute

    def compute_or_act(self: Pieces, region: int) -> None:
        act = plan.pop(region, None)
        if act is not None:
            act()
        compute(self, region)

    monkeypatch.setattr(Pieces, "compute", compute_or_act)
    return plan


@pytest.fixture(scope="module")
def undisturbed(series, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "z.zarr"
    xatmo.run_job("embed", series, out, **SAID)
    return out


def _done(out: Path) -> int:
    lines = (out / ".xatmo" / "journal.jsonl").read_text().splitlines()
    return sum("done" in json.loads(line) for line in lines)


def _closed(out: Path) -> bool:
    with pytest.raises(FileNotFoundError):
        xr.open_zarr(out)
    return True


def test_a_broken_chunk_of_the_input(own, tmp_path, undisturbed, checksums):
    out = tmp_path / "z.zarr"
    good = (own / "v" / "c" / "2" / "0" / "0").read_bytes()
    (own / "v" / "c" / "2" / "0" / "0").write_bytes(b"not what it was")
    report = xatmo.run_job("embed", own, out, **SAID, on_error="skip")
    (failure,) = report.failures
    assert failure.region == 2
    assert report.computed == 5
    with xr.open_zarr(out) as got, xr.open_zarr(undisturbed) as want:
        bad = np.arange(24) // 4 == 2
        assert got.embedding[bad].isnull().all()
        np.testing.assert_array_equal(got.embedding[~bad], want.embedding[~bad])
    (own / "v" / "c" / "2" / "0" / "0").write_bytes(good)
    with pytest.raises(JobError, match="another job") as caught:
        xatmo.run_job("embed", own, out, **SAID)
    assert "--same-input" in str(caught.value)
    assert xatmo.run_job("embed", own, out, **SAID, same_input=True).computed == 1
    assert xatmo.run_job("embed", own, out, **SAID).computed == 0
    assert checksums(out) == checksums(undisturbed)


def test_a_state_with_gaps_fails_alone(small, tmp_path):
    bad = small.copy(deep=True)
    bad.u[9, 3, 3] = np.nan
    bad.to_netcdf(tmp_path / "in.nc")
    said = {**SAID, "on_error": "skip"}
    report = xatmo.run_job("embed", tmp_path / "in.nc", tmp_path / "z.zarr", **said)
    assert [f.region for f in report.failures] == [2]
    assert "MissingValuesError" in report.failures[0].error
    with xatmo.set_options(missing="propagate"):
        report = xatmo.run_job("embed", tmp_path / "in.nc", tmp_path / "y.zarr", **said)
    assert report.complete


def test_no_space_left(series, tmp_path, monkeypatch, checksums, undisturbed):
    out = tmp_path / "z.zarr"
    put, count = local._put, 0

    def full(path, *arguments, **more):
        nonlocal count
        count += "embedding/c" in str(path)
        if count > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return put(path, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(local, "_put", full)
        with pytest.raises(JobError, match="There is no space left for") as caught:
            xatmo.run_job("embed", series, out, **SAID, on_error="skip")
    assert "make room, then run the same command again" in str(caught.value)
    assert _closed(out)
    assert _done(out) == 3
    assert xatmo.run_job("embed", series, out, **SAID).computed == 3
    assert checksums(out) == checksums(undisturbed)


def test_files_that_may_not_grow(series, tmp_path, checksums, undisturbed):
    """A write that really fails: the kernel refuses files beyond a size."""
    out = tmp_path / "z.zarr"
    size = 50_000  # half of a chunk
    command = ["-m", "xatmo", "embed", str(series), str(out), "--chunks", "time=4"]
    done = subprocess.run(
        [sys.executable, *command],
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "JobError: There is no space left" in done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert _closed(out)
    assert xatmo.run_job("embed", series, out, **SAID).computed == 6
    assert checksums(out) == checksums(undisturbed)


def test_an_input_that_changes_meanwhile(own, tmp_path, at_block):
    out = tmp_path / "z.zarr"
    chunk = own / "u" / "c" / "5" / "0" / "0"
    at_block[3] = lambda: chunk.write_bytes(chunk.read_bytes())
    with pytest.raises(JobError, match="The input has changed") as caught:
        xatmo.run_job("embed", own, out, **SAID)
    assert "in.zarr: newest" in str(caught.value) or "in.zarr: sum" in str(caught.value)
    assert _closed(out)
    with pytest.raises(JobError, match=r"another job|has changed"):
        xatmo.run_job("embed", own, out, **SAID)
    assert _closed(out)
    assert xatmo.run_job("embed", own, out, **SAID, overwrite=True).computed == 6


def test_a_worker_that_writes_elsewhere(series, tmp_path, monkeypatch):
    monkeypatch.setattr(Pieces, "compute", lambda self, region: None)
    out = tmp_path / "z.zarr"
    with pytest.raises(JobError, match="its data are not here") as caught:
        xatmo.run_job("embed", series, out, **SAID)
    assert "embedding/c/" in str(caught.value)
    assert _closed(out)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_signals(
    series, tmp_path, at_block, capsys, checksums, undisturbed, number, code
):
    out = tmp_path / "z.zarr"
    at_block[2] = lambda: os.kill(os.getpid(), number)
    handler = signal.getsignal(number)
    command = ["embed", str(series), str(out), "--chunks", "time=4"]
    assert main(command) == code
    said = capsys.readouterr()
    assert "run the same command again to go on" in said.err
    assert f"of 6 blocks of {out} done" in said.err
    assert signal.getsignal(number) is handler
    done = _done(out)
    assert 3 <= done <= 5  # what was at work has come to its end
    assert _closed(out)
    assert main(command) == 0
    assert f"{6 - done} of 6 blocks ({done} from before)" in capsys.readouterr().out
    assert checksums(out) == checksums(undisturbed)


def test_the_second_signal_does_not_wait():
    stop = Stop()
    stop(signal.SIGINT, None)
    assert stop.number == signal.SIGINT
    with pytest.raises(Stopped) as caught:
        stop(signal.SIGINT, None)
    assert caught.value.at_once


def test_workers_elsewhere_are_sent_the_model(series, tmp_path, monkeypatch):
    """They have no cache, no network, and no model of that name."""
    folder = tmp_path / "models" / "mine"
    shutil.copytree(packaged_folder() / "atmodist-small", folder)
    card = folder / "card.toml"
    text = card.read_text().replace('name = "atmodist-small"', 'name = "mine"', 1)
    card.write_text(text)
    code = (
        "from distributed import LocalCluster; import sys\n"
        "if __name__ == '__main__':\n"
        "    with LocalCluster(1, processes=True, threads_per_worker=1,"
        " dashboard_address=None, host='127.0.0.1') as c:\n"
        "        print(c.scheduler_address, flush=True); sys.stdin.read()"
    )
    script = tmp_path / "workers.py"
    script.write_text(code)
    nowhere = {"XATMO_CACHE": "/nonexistent", "XATMO_MODELS_URL": "/nonexistent"}
    there = subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **nowhere, "PYTHONPATH": str(REPO)},
    )
    monkeypatch.setenv("XATMO_MODELS_URL", str(folder.parent))
    with there:
        assert there.stdout is not None
        assert there.stdin is not None
        address = there.stdout.readline().decode().strip()
        out, said = tmp_path / "z.zarr", {"model": "mine", "chunks": {"time": 12}}
        report = xatmo.run_job("embed", series, out, scheduler=address, **said)
        there.stdin.close()
    assert report.complete
    here = xr.open_zarr(series).atmo.embed("mine").compute()
    xr.testing.assert_allclose(xr.open_zarr(out)["embedding"], here, atol=1e-5)


def test_a_lost_scheduler(series, tmp_path, at_block, checksums, undisturbed):
    """The scheduler and its workers are killed; the job ends, and goes on elsewhere."""
    out = tmp_path / "z.zarr"
    code = (
        "from distributed import LocalCluster; import sys\n"
        "with LocalCluster(1, processes=False, threads_per_worker=1,"
        " dashboard_address=None, protocol='tcp://', host='127.0.0.1') as c:\n"
        "    print(c.scheduler_address, flush=True); sys.stdin.read()"
    )
    there = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with there:
        assert there.stdout is not None
        address = there.stdout.readline().decode().strip()
        at_block[3] = there.kill
        with pytest.raises(ClusterError, match="scheduler") as caught:
            xatmo.run_job("embed", series, out, **SAID, scheduler=address)
    assert "goes on" in str(caught.value)
    assert _closed(out)
    done = _done(out)
    assert xatmo.run_job("embed", series, out, **SAID).computed == 6 - done
    assert checksums(out) == checksums(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "runs"), [("zarr", 3), ("nc", 1)])
def test_killed_at_any_time(series, tmp_path, suffix, runs):
    """Four of the runs that docs/reliability.md counts."""
    command = [sys.executable, str(HERE / "killing.py"), str(series), str(tmp_path)]
    command += ["--suffix", suffix, "--runs", str(runs), "--seed", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert entries[-1]["runs"] == runs
    assert all(entry["same"] for entry in entries[:-1])
