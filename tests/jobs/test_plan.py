"""What is asked for, how it is cut, and the journal."""

from __future__ import annotations

import time

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from xatmo.errors import OptionError
from xatmo.jobs.journal import Journal
from xatmo.jobs.plan import Job, layout_of, parse_sizes


def _result(**sizes: int) -> xr.Dataset:
    dims = tuple(sizes)
    data = da.zeros(tuple(sizes.values()), dtype=np.float32, chunks=-1)
    when = np.arange(sizes["time"]).astype("datetime64[h]")
    return xr.Dataset({"z": (dims, data)}, {"time": when})


def _layout(result, **cut):
    return layout_of(result, Job("embed", "in", "out", **cut))


def test_sizes():
    assert parse_sizes("time=64, member=1", "--chunks") == {"time": 64, "member": 1}
    assert parse_sizes("time=-1", "--chunks") == {"time": -1}
    assert parse_sizes(None, "--chunks") == {}


@pytest.mark.parametrize(
    "text",
    ["64", "time", "time=0", "time=x", "time=1.5", "time=2,time=3", "time:4", ","],
)
def test_sizes_that_cannot_be_read(text):
    with pytest.raises(OptionError, match="--chunks cannot be read") as caught:
        parse_sizes(text, "--chunks")
    assert repr(text) in str(caught.value)
    assert "--chunks time=64" in str(caught.value)


def test_chunks_that_nobody_has_chosen_are_moderate():
    layout = _layout(_result(time=1000, lat=12, lon=24, feature=96))
    assert layout.chunks == {"time": 64, "lat": 12, "lon": 24, "feature": 96}
    assert (layout.step, layout.count) == (64, 16)
    big = _layout(_result(realization=10, time=100, lat=2884, lon=5760))
    assert big.chunks == {"realization": 1, "time": 2, "lat": 2884, "lon": 5760}
    huge = _layout(_result(time=9, lat=18000, lon=36000)).chunks
    assert huge["time"] == 1
    assert 2**26 <= 4 * huge["lat"] * huge["lon"] <= 2**27


def test_what_was_chosen_stays():
    result = _result(realization=10, time=100, lat=721, lon=1440)
    layout = _layout(result, chunks={"time": 64, "realization": 10})
    assert layout.chunks["time"] == 64
    assert layout.chunks["realization"] == 10


def test_time_is_what_it_is_called():
    result = _result(time=20, lat=4).rename(time="valid_time")
    assert _layout(result, chunks={"time": 5}).chunks["valid_time"] == 5


def test_regions_are_whole_shards():
    layout = _layout(_result(time=20, lat=4), chunks={"time": 2}, shards={"time": 8})
    assert (layout.step, layout.count) == (8, 3)
    assert layout.span(2) == slice(16, 20)
    assert layout.shards == {"time": 8, "lat": 4}


def test_dimensions_that_are_not_there():
    with pytest.raises(OptionError, match="no dimension 'tiem'") as caught:
        _layout(_result(time=20, lat=4), chunks={"tiem": 4})
    assert "time (20), lat (4)" in str(caught.value)


def test_shards_that_cut_chunks():
    with pytest.raises(OptionError, match="whole chunks") as caught:
        _layout(_result(time=20, lat=4), chunks={"time": 4}, shards={"time": 10})
    assert "--shards time=8" in str(caught.value)


def test_every_file_belongs_to_one_region():
    result = _result(time=10, lat=6)
    layout = _layout(result, chunks={"time": 4, "lat": 4})
    var = result.z.variable
    files = [list(layout.files(var, region)) for region in range(layout.count)]
    assert files == [[(i, 0), (i, 1)] for i in range(3)]
    still = xr.Variable(("lat",), np.zeros(6))
    assert [len(list(layout.files(still, r))) for r in range(3)] == [2, 0, 0]


def test_journal_comes_back(tmp_path):
    journal = Journal.create(tmp_path / "j", {"verb": "embed"})
    journal.record_done(3, 17)
    journal.record_failed(1, "ValueError: \u00e4")
    journal.record_failed(2, "x")
    journal.record_done(2, 5)
    journal.note(finished="now")
    back = Journal.read(tmp_path / "j")
    assert back.header == {"verb": "embed"}
    assert back.done == {3: 17, 2: 5}
    assert back.failed == {1: "ValueError: \u00e4"}
    assert back.notes == {"finished": "now"}


@pytest.mark.parametrize(
    "torn", [b'{"done": 4, "by', b'{"done": 4, "bytes": 1}', b"\0"]
)
def test_a_torn_last_line_is_no_line(tmp_path, torn):
    path = tmp_path / "j"
    Journal.create(path, {}).record_done(3, 17)
    with path.open("ab") as stream:
        stream.write(torn)
    back = Journal.read(path)
    assert back.done == {3: 17}
    back.record_done(5, 6)
    assert Journal.read(path).done == {3: 17, 5: 6}


def test_a_damaged_line_costs_a_region(tmp_path):
    path = tmp_path / "j"
    journal = Journal.create(path, {})
    journal.record_done(1, 1)
    with path.open("ab") as stream:
        stream.write(b'\x00\xff{"done"\n[1]\n{"done": "x", "bytes": 1}\n')
    journal.record_done(2, 2)
    assert Journal.read(path).done == {1: 1, 2: 2}


def test_what_is_no_journal(tmp_path):
    (tmp_path / "j").write_text("hello\n")
    with pytest.raises(ValueError, match="Expecting value"):
        Journal.read(tmp_path / "j")


def test_a_hundred_thousand_regions(tmp_path):
    path = tmp_path / "j"
    Journal.create(path, {})
    lines = "".join(f'{{"done": {i}, "bytes": 5}}\n' for i in range(100_000))
    with path.open("a") as stream:
        stream.write(lines)
    start = time.process_time()
    journal = Journal.read(path)
    for region in range(100):
        journal.record_done(region, 5)
    assert len(journal.done) == 100_000
    assert time.process_time() - start < 10  # a quadratic one takes many minutes
