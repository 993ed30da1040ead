"""Jobs that ended early, and go on; and those that must not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from filelock import FileLock

import xatmo
from xatmo.errors import JobError, OptionError
from xatmo.jobs.pieces import Pieces

SAID = {"chunks": {"time": 4}, "reduce": "mean"}


def _job(source, out, **more):
    return xatmo.run_job("embed", source, out, **{**SAID, **more})


@pytest.fixture
def breaks(monkeypatch):
    """Let blocks fail, until told otherwise."""
    broken: set[int] = set()
    compute = Pieces.compute

    def breaking(self: Pieces, region: int) -> None:
        if region in broken:
            msg = f"block {region} is bad"
            raise ValueError(msg)
        compute(self, region)

    monkeypatch.setattr(Pieces, "compute", breaking)
    return broken


@pytest.fixture(scope="module")
def undisturbed(series, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "z.zarr"
    _job(series, out)
    return out


def _opens(path) -> bool:
    try:
        xr.open_zarr(path).close()
    except FileNotFoundError:
        return False
    return True


def test_an_error_ends_it_and_it_goes_on(
    series, tmp_path, breaks, computed, checksums, undisturbed
):
    out = tmp_path / "z.zarr"
    breaks.add(3)
    with pytest.raises(JobError, match="block time 1999-12-03T06:00 to") as caught:
        _job(series, out)
    assert "block 3 is bad" in str(caught.value)
    assert "--on-error skip" in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)
    assert not _opens(out)
    before = set(computed)
    computed.clear()
    breaks.clear()
    report = _job(series, out)
    assert 3 in computed
    assert len(set(computed) & before) <= 2
    assert sorted({*before, *computed}) == list(range(6))
    assert report.computed == len(computed)
    assert checksums(out) == checksums(undisturbed)


def test_an_unfinished_store_is_no_input(series, tmp_path, breaks):
    breaks.add(0)
    with pytest.raises(JobError):
        _job(series, tmp_path / "z.zarr")
    with pytest.raises(JobError, match="job that is not finished"):
        _job(tmp_path / "z.zarr", tmp_path / "y.zarr")
    assert not (tmp_path / "y.zarr").exists()


@pytest.mark.parametrize("suffix", ["zarr", "nc"])
def test_failed_blocks_are_listed_and_tried_again(
    series, tmp_path, breaks, computed, undisturbed, suffix
):
    out = tmp_path / f"z.{suffix}"
    breaks |= {1, 4}
    report = _job(series, out, on_error="skip")
    assert [f.region for f in report.failures] == [1, 4]
    assert report.failures[0].where == "time 1999-12-01T06:00 to 1999-12-02T00:00"
    assert "block 1 is bad" in report.failures[0].error
    assert "4 of 6 blocks" in str(report)
    assert "2 failed" in str(report)
    whole = xr.open_zarr(undisturbed).load()
    with xr.open_dataset(out, **({} if suffix == "nc" else {"engine": "zarr"})) as got:
        listed = json.loads(got.attrs["xatmo_failed"])
        assert list(listed) == [f.where for f in report.failures]
        bad = np.isin(np.arange(24) // 4, [1, 4])
        assert got.embedding.isnull().all("feature").values.tolist() == bad.tolist()
        np.testing.assert_array_equal(got.embedding[~bad], whole.embedding[~bad])
    computed.clear()
    breaks.remove(4)
    assert [f.region for f in _job(series, out, on_error="skip").failures] == [1]
    breaks.clear()
    report = _job(series, out)
    assert sorted(computed) == [1, 1, 4]
    assert report.complete
    with xr.open_dataset(out, **({} if suffix == "nc" else {"engine": "zarr"})) as got:
        assert "xatmo_failed" not in got.attrs
        xr.testing.assert_equal(got.load(), whole)
    if suffix == "nc":
        assert not (tmp_path / "z.nc.partial").exists()
    assert _job(series, out).computed == 0


def test_nothing_but_errors_is_no_output(series, tmp_path, breaks):
    breaks |= set(range(6))
    with pytest.raises(JobError, match="None of the blocks could be computed"):
        _job(series, tmp_path / "z.zarr", on_error="skip")
    assert not _opens(tmp_path / "z.zarr")


def test_flags_of_failed_blocks_are_no_flags(small, tmp_path, breaks):
    small[["u"]].to_netcdf(tmp_path / "in.nc")
    breaks.add(2)
    said = {"method": "nearest", "on_error": "skip", "chunks": {"time": 8}}
    xatmo.run_job("infill", tmp_path / "in.nc", tmp_path / "z.zarr", **said)
    with xr.open_zarr(tmp_path / "z.zarr") as got:
        assert set(np.unique(got.u_provenance[16:])) == {127}
        assert got.u[16:].isnull().all()
        assert got.u[:16].notnull().all()


def test_other_options_are_another_job(series, tmp_path, breaks):
    out = tmp_path / "z.zarr"
    breaks.add(5)
    with pytest.raises(JobError):
        _job(series, out)
    with pytest.raises(JobError, match="begun by another job") as caught:
        _job(series, out, layer="block2", chunks={"time": 8})
    said = str(caught.value)
    assert "options layer: not given then, block2 now" in said
    assert "chunks time: 4 then, 8 now" in said
    assert "--overwrite" in said
    breaks.clear()
    report = _job(series, out, chunks={"time": 8}, overwrite=True)
    assert report.computed == report.regions == 3


def test_another_model_is_another_job(series, tmp_path, undisturbed, monkeypatch):
    out = tmp_path / "z.zarr"
    shutil.copytree(undisturbed, out)
    journal = out / ".xatmo" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    header = json.loads(lines[0])
    header["job"]["model"]["xatmo_model_sha256"] = "0" * 64
    journal.write_text("".join([json.dumps(header) + "\n", *lines[1:]]))
    with pytest.raises(JobError, match="another job") as caught:
        _job(series, out)
    assert "model xatmo_model_sha256: 0000" in str(caught.value)


def test_a_changed_input_is_another_job(own, tmp_path, breaks, small):
    out = tmp_path / "z.zarr"
    breaks.add(5)
    with pytest.raises(JobError):
        _job(own, out)
    breaks.clear()
    chunk = own / "u" / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes())
    with pytest.raises(JobError, match="another job") as caught:
        _job(own, out)
    assert "input newest" in str(caught.value) or "input sum" in str(caught.value)


def test_overwrite_goes_on_with_what_is_not_finished(
    series, tmp_path, breaks, computed
):
    out = tmp_path / "z.zarr"
    breaks.add(5)
    with pytest.raises(JobError):
        _job(series, out, overwrite=True)
    breaks.clear()
    computed.clear()
    assert _job(series, out, overwrite=True).computed < 6
    assert _job(series, out, overwrite=True).computed == 6


def test_what_is_lost_is_computed_again(
    series, tmp_path, computed, checksums, undisturbed
):
    out = tmp_path / "z.zarr"
    shutil.copytree(undisturbed, out)
    (out / "embedding" / "c" / "2" / "0").unlink()
    short = out / "embedding" / "c" / "4" / "0"
    short.write_bytes(short.read_bytes()[:-3])
    assert _job(series, out).computed == 2
    assert sorted(computed) == [2, 4]
    assert checksums(out) == checksums(undisturbed)


def test_without_its_last_step_it_is_finished(series, tmp_path, undisturbed, computed):
    out = tmp_path / "z.zarr"
    shutil.copytree(undisturbed, out)
    (out / "zarr.json").unlink()
    (out / "embedding" / "c" / "1" / "0.123.partial").write_bytes(b"torn")
    _job(series, out)
    assert not computed
    xr.testing.assert_identical(xr.open_zarr(out), xr.open_zarr(undisturbed))
    assert not list(out.rglob("*.partial"))


def test_killed_while_it_began(series, tmp_path):
    out = tmp_path / "z.zarr"
    (out / ".xatmo" / "new" / "embedding").mkdir(parents=True)
    (out / "lat").mkdir()
    assert _job(series, out).computed == 6


def test_a_journal_that_cannot_be_read(series, tmp_path, undisturbed):
    out = tmp_path / "z.zarr"
    shutil.copytree(undisturbed, out)
    (out / ".xatmo" / "journal.jsonl").write_text("")
    with pytest.raises(JobError, match=r"cannot be read") as caught:
        _job(series, out)
    assert "--overwrite" in str(caught.value)
    assert _job(series, out, overwrite=True).computed == 6


def test_two_jobs_at_once(series, tmp_path):
    out = tmp_path / "z.zarr"
    (out / ".xatmo").mkdir(parents=True)
    code = (
        "import sys, json, os; from filelock import FileLock\n"
        "lock = FileLock(sys.argv[1] + '/lock'); lock.acquire()\n"
        "said = {'process': os.getpid(), 'host': 'node7', 'since': 'noon'}\n"
        "open(sys.argv[1] + '/holder.json', 'w').write(json.dumps(said))\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(out / ".xatmo")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(JobError, match="Another job is writing") as caught:
            _job(series, out, overwrite=True)
        assert f"process {other.pid} on node7, since noon" in str(caught.value)
        other.kill()
    # The lock of a process that was killed is nobody's.
    assert _job(series, out).computed == 6
    with FileLock(out / ".xatmo" / "lock", timeout=0):
        pass


def test_what_somebody_else_wrote_stays(series, own, tmp_path, small):
    store = tmp_path / "theirs.zarr"
    shutil.copytree(own, store)
    with pytest.raises(JobError, match="no job of xatmo is at work on it"):
        _job(series, store)
    xr.testing.assert_equal(xr.open_zarr(store), xr.open_zarr(own))
    folder = tmp_path / "home.zarr"
    folder.mkdir()
    (folder / "thesis.tex").write_text("dear")
    for more in ({}, {"overwrite": True}):
        with pytest.raises(JobError):
            _job(series, folder, **more)
    assert (folder / "thesis.tex").read_text() == "dear"
    theirs = tmp_path / "theirs.nc"
    small.to_netcdf(theirs)
    with pytest.raises(JobError, match="not what this job writes"):
        _job(series, theirs)
    (tmp_path / "text.nc").write_text("no netCDF")
    with pytest.raises(OptionError, match="no netCDF file"):
        _job(series, tmp_path / "text.nc")
    assert _job(series, store, overwrite=True).computed == 6
    assert _job(series, theirs, overwrite=True).computed == 6
    assert list(xr.open_dataset(theirs)) == ["embedding"]
