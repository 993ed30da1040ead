"""Batch sizes on GPUs: how they are found, where they are kept, what is believed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

import xatmo
from xatmo.engine import batchsize, worker
from xatmo.engine.batchsize import Known, Spot, search

SPOT = Spot("0" * 64, "embed", (2, 32, 64), "float32", "A GPU, 80 GiB", "2.9.0")


def _always(size):
    return True


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XATMO_CACHE", str(tmp_path))
    return tmp_path / "batch_sizes"


# --- Searching -----------------------------------------------------------------------


@pytest.mark.parametrize("full", [1, 2, 16, 64])
def test_the_smallest_that_is_as_fast_as_any(full):
    asked = []

    def seconds(size):
        asked.append(size)
        return 1e-3 * max(size, full)

    assert search(seconds, 1024, _always) == Known(full)
    assert asked == [2**i for i in range(len(asked))]
    assert asked[-1] == 2 * full


def test_no_larger_than_asked_for():
    assert search(lambda n: 1.0, 12, _always) == Known(12, complete=False)
    assert search(lambda n: 1.0, 1, _always) == Known(1, complete=False)


def test_memory_ends_the_search():
    assert search(lambda n: 1.0, 64, lambda n: n <= 8) == Known(8)
    full = float("inf")  # what running out of memory is taken for
    assert search(lambda n: 1.0 if n < 8 else full, 64, _always) == Known(4)


def test_a_little_faster_is_not_enough():
    gain = 1 + (batchsize.GAIN - 1) / 2
    seconds = {1: 1.0, 2: 2.0 / gain, 4: 4.0 / gain**2}
    assert search(seconds.__getitem__, 4, _always).best == 1


def test_a_search_that_was_cut_short_answers_no_more_than_it_was_asked():
    known = Known(8, complete=False)
    assert known.answers(8)
    assert known.answers(4)
    assert not known.answers(16)
    assert Known(8).answers(1000)
    assert not Known().answers(1)


def test_halving():
    known = Known(64).halved(64).halved(100)
    assert known == Known(64, limit=32)
    assert (known.fitting(100), known.fitting(8)) == (32, 8)
    assert Known().halved(1).limit == 1


# --- Keeping -----------------------------------------------------------------------


def test_what_is_written_is_read(cache):
    for known in (Known(8), Known(None, limit=4), Known(8, complete=False, limit=2)):
        batchsize.write(SPOT, known)
        assert batchsize.read(SPOT) == known
    assert len(list(cache.iterdir())) == 1  # and no drafts


@pytest.mark.parametrize(
    "other",
    [
        {"sha256": "1" * 64},
        {"method": "forward"},
        {"core": (2, 64, 32)},
        {"precision": "bfloat16"},
        {"device": "Another GPU, 80 GiB"},
        {"torch": "2.10.0"},
    ],
)
def test_each_spot_has_its_own(cache, other):
    batchsize.write(SPOT, Known(8))
    assert batchsize.read(replace(SPOT, **other)) == Known()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],  # torn
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("embed", "forward"),  # about something else
        lambda text: text.replace('"best": 8', '"best": 0'),
        lambda text: text.replace('"best": 8', '"best": "8"'),
        lambda text: text.replace('"best": 8', '"best": true'),
        lambda text: text.replace('"complete": true', '"complete": 1'),
        lambda text: text.replace('"limit"', '"most"'),
        lambda text: json.dumps({**json.loads(text), "known": None}),
        lambda text: json.dumps({**json.loads(text), "more": 1}),
    ],
)
def test_a_file_that_is_torn_or_foreign_is_none(cache, change):
    batchsize.write(SPOT, Known(8))
    (file,) = cache.iterdir()
    file.write_text(change(file.read_text()))
    assert batchsize.read(SPOT) == Known()
    batchsize.write(SPOT, Known(4))  # and is replaced
    assert batchsize.read(SPOT) == Known(4)


def test_old_bytes(cache):
    batchsize.write(SPOT, Known(8))
    (file,) = cache.iterdir()
    file.write_bytes(b"\xff\xfe\x00")
    assert batchsize.read(SPOT) == Known()


def test_where_nothing_can_be_written_it_is_found_again(cache, tmp_path):
    cache.write_text("a file where a folder should be")
    batchsize.write(SPOT, Known(8))
    assert batchsize.read(SPOT) == Known()


def test_two_processes_at_once(cache):
    code = (
        "from xatmo.engine.batchsize import *\n"
        f"spot = {SPOT!r}\n"
        "for i in range(50):\n"
        "    write(spot, Known(int(__import__('sys').argv[1])))\n"
        "    assert read(spot).best in (8, 16), read(spot)\n"
    )
    several = [
        subprocess.Popen([sys.executable, "-c", code, n], stderr=subprocess.PIPE)
        for n in ("8", "16")
    ]
    for process in several:
        _, said = process.communicate(timeout=60)
        assert not process.returncode, said.decode()
    assert batchsize.read(SPOT).best in (8, 16)


# --- In use --------------------------------------------------------------------------


def test_found_once_then_kept_for_the_next_process(gpus, winds):
    lane = gpus["cuda:0"]
    first = winds.atmo.embed()
    tried = [1, 1, 2, 2, 4, 4, 8, 8]  # each to warm up, and timed
    assert lane.sizes == [*tried, 4, 4]  # five fields in batches of four
    lane.sizes.clear()
    winds.atmo.embed()
    assert lane.sizes == [4, 4]
    worker._loaded.clear()  # as in the next process
    lane.sizes.clear()
    assert winds.atmo.embed().equals(first)
    assert lane.sizes == [4, 4]


def test_found_for_each_shape_and_precision(gpus, winds):
    winds.atmo.embed()
    for ds, settings in (
        (winds.isel(latitude=slice(32)), {}),
        (winds, {"device": "cuda:0", "batch_size": 3}),
    ):
        gpus["cuda:0"].sizes.clear()
        with xatmo.set_options(**settings):
            ds.atmo.embed()
        searched = gpus["cuda:0"].sizes[:2] == [1, 1]
        assert searched == (not settings)


def test_memory_that_is_short_ends_the_search(gpus, winds):
    gpus["cuda:0"].cost = lambda n: 1.0  # the larger the better
    gpus["cuda:0"].fits = 2
    winds.atmo.embed()
    assert gpus["cuda:0"].sizes[-3:] == [2, 2, 2]


def test_a_batch_is_no_larger_than_asked_for(gpus, winds, monkeypatch):
    from xatmo.engine import batch

    monkeypatch.setattr(batch, "GPU_POINTS", 3 * 40 * 48)
    gpus["cuda:0"].cost = lambda n: 1.0
    winds.atmo.embed()
    assert max(gpus["cuda:0"].sizes) == 3
    # A larger one may be asked for later: the search goes on then.
    monkeypatch.setattr(batch, "GPU_POINTS", 6 * 40 * 48)
    winds.atmo.embed()
    assert max(gpus["cuda:0"].sizes) == 6


def test_what_is_asked_for_is_taken(gpus, winds):
    with xatmo.set_options(batch_size=3):
        winds.atmo.embed()
    assert gpus["cuda:0"].sizes == [3, 3]
    assert not batchsize.folder().exists()


def test_a_cpu_keeps_nothing(gpus, winds):
    with xatmo.set_options(device="cpu"):
        winds.atmo.embed()
    assert not batchsize.folder().exists()
