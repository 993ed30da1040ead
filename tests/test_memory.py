"""What a worker needs is said before, and is what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import xatmo
from benchmarks.memory import SHAPES, Shape, _made
from xatmo.engine import rehearsal
from xatmo.errors import FieldNotFoundError, OptionError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("number", [0])
def test_the_peak_is_what_was_predicted(number):
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.memory"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--shape", str(number)],
        check=True,
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
    )
    peak, said, _ = done.stdout.splitlines()[-1].split(maxsplit=2)
    assert 0.6 <= float(peak) / float(said) <= 1.0, SHAPES[number]


def test_the_formula():
    ds = _made(Shape("embed", (32, 64), 2048, 512, 1, {}))
    one, two = (xatmo.memory_estimate(ds, "embed", threads=n) for n in (1, 2))
    assert two.peak - one.peak == one.per_thread
    assert one.peak == one.base + one.weights + one.per_thread
    # A chunk of both winds, twice; and the result, as it is and encoded.
    assert one.read == 2 * 2 * 512 * 32 * 64 * 4
    assert one.written == 2 * 512 * 8 * 16 * 96 * 4
    assert f"{one.peak / 1e9:.2f} GB per worker" in str(one)


def test_it_grows_with_the_chunk_and_not_with_the_series():
    def of(times: int, chunk: int) -> xatmo.MemoryEstimate:
        ds = _made(Shape("embed", (32, 64), times, chunk, 1, {}))
        return xatmo.memory_estimate(ds, "embed")

    assert of(4096, 512) == of(2048, 512)
    assert of(2048, 1024).per_thread > 1.8 * of(2048, 512).per_thread
    # Chunks smaller than what they are joined to make no difference but in writing.
    assert of(2048, 1).read == of(2048, 256).read


def test_no_value_is_read():
    ds = _made(Shape("embed", (32, 64), 64, 32, 1, {}))

    def fail(block: np.ndarray) -> np.ndarray:
        raise AssertionError

    ds = ds.map(lambda v: v.copy(data=v.data.map_blocks(fail, meta=v.data._meta)))
    for name in ("u10", "v10"):
        ds[name].attrs["units"] = "m s-1"
    assert xatmo.memory_estimate(ds, "embed").peak > 4e8
    assert xatmo.memory_estimate(ds, "distance").peak > 4e8
    assert xatmo.memory_estimate(ds, "downscale", realizations=3).peak > 4e8


def test_what_cannot_be_estimated():
    ds = xatmo.open_sample()
    with pytest.raises(OptionError, match="no verb 'embedd'"):
        xatmo.memory_estimate(ds, "embedd")
    with pytest.raises(OptionError, match="cannot have 0 threads"):
        xatmo.memory_estimate(ds, "embed", threads=0)
    with pytest.raises(FieldNotFoundError):
        xatmo.memory_estimate(ds[["z"]] if "z" in ds else ds[[]], "embed")


def test_a_rehearsal_sees_its_own_passes_alone(winds):
    """What another thread computes meanwhile is not of the rehearsal."""
    few = winds.isel(time=[0])

    def beside():
        other = threading.Thread(target=few.atmo.embed)
        other.start()
        other.join()

    assert len(rehearsal.watched(few.atmo.embed).passes) == 1
    assert rehearsal.watched(beside).passes == []
