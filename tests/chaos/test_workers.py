"""Workers that are killed, that run out of memory, and that do not come back."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest

import xatmo.cluster
from xatmo.cluster import explained
from xatmo.errors import ClusterError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL"),
]
RUNS = 3  # fifty of them: python tests/chaos/soak.py 50


def test_killed_workers_change_nothing(capsys):
    figures = _soak().soak(RUNS)
    with capsys.disabled():
        print(f"\n  {figures}")
    assert figures.equal == figures.runs == RUNS
    assert figures.hung == 0
    assert figures.kills >= RUNS


def hungry(block, block_info):
    """Take ever more memory, in one place."""
    if block_info[0]["chunk-location"] == (3,):
        taken = []
        while True:
            taken.append(np.ones(5_000_000))  # 40 MB
            time.sleep(0.05)
    return block


def test_a_chunk_that_needs_too_much_memory():
    x = da.ones(6, chunks=1).map_blocks(hungry, dtype=float)
    opened = xatmo.cluster.scheduler("local-cluster", workers=2, memory="600MB")

    def run():
        with opened as place:
            with pytest.raises(Exception, match="4 different workers") as caught:
                x.compute()
            # The cluster goes on: the others are computed.
            assert x[:3].sum().compute() == 3
            place.client.wait_for_workers(2, timeout=300)
            raise caught.value

    told = r"(?s)worker that computed it died.*4 workers.*hungry.*smaller chunks.*skip"
    with pytest.raises(ClusterError, match=told):
        run()


def broken(block, block_info):
    if block_info[0]["chunk-location"] == (2,):
        msg = "number 2 cannot be"
        raise ValueError(msg)
    return block


def test_a_chunk_that_raises_is_not_tried_again():
    from distributed import Client

    x = da.ones(4, chunks=1).map_blocks(broken, dtype=float)
    client = Client(processes=False, n_workers=1, dashboard_address=":0")
    with client, pytest.raises(ValueError, match="number 2 cannot be") as caught:
        x.compute()
    assert explained(caught.value) is None  # it speaks for itself


def slow(block):
    time.sleep(0.5)
    return block


@pytest.fixture
def busy(tmp_path):
    """Workers need two seconds more to begin, as on a busy machine."""
    preload = tmp_path / "preload.py"
    preload.write_text("import time\n\n\ntime.sleep(2)\n")
    with dask.config.set({"distributed.worker.preload": [str(preload)]}):
        yield


def kill_all(client):
    """Begin to compute, and send SIGKILL to all workers; returns the result to be."""
    future = client.compute(da.ones(12, chunks=1).map_blocks(slow).sum())
    pids = client.run(os.getpid).values()
    time.sleep(1)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return future


TOO_SHORT = {"distributed.deploy.lost-worker-timeout": "1s"}


def test_without_us_a_run_waits_for_ever(busy):
    """Dask's rule with other numbers: given up sooner than a worker can begin."""
    from distributed import Client, LocalCluster

    with (
        dask.config.set(TOO_SHORT),
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        future = kill_all(client)
        for _ in range(300):
            if not cluster.workers:
                break
            time.sleep(0.2)
        assert not cluster.workers  # the nannies are gone with their workers,
        time.sleep(3)
        assert not client.nthreads()  # nobody comes,
        assert future.status == "pending"  # and nobody says so


@pytest.mark.parametrize("chosen", [{}, TOO_SHORT], ids=["ours", "too short"])
def test_with_us_it_ends(busy, chosen):
    """With our time-out workers come back; with another one they are replaced."""
    opened = xatmo.cluster.scheduler("local-cluster", workers=2, memory="1GB")
    with dask.config.set(chosen), opened as place:
        assert kill_all(place.client).result(timeout=300) == 12
        place.client.wait_for_workers(2, timeout=300)


def test_nobody_at_all_is_an_error():
    from distributed import Client, LocalCluster

    key = "distributed.scheduler.no-workers-timeout"
    with (
        dask.config.set({key: "0.5s"}),
        LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        future = client.compute(da.ones(1).sum())
        with pytest.raises(Exception, match="waiting") as caught:
            future.result(timeout=60)
    told = explained(caught.value)
    assert isinstance(told, ClusterError)
    assert "No worker came" in str(told)
    assert key in told.hint


def _soak():
    path = Path(__file__).with_name("soak.py")
    spec = importlib.util.spec_from_file_location("soak", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module
