"""A scheduler by its name: it computes the same, and is gone behind the block."""

from __future__ import annotations

import os
import sys

import dask
import numpy as np
import pytest

import xatmo.cluster
from xatmo import errors
from xatmo.cluster import schedulers


@pytest.fixture(scope="module")
def wanted():
    return xatmo.open_sample().isel(time=slice(0, 4)).atmo.embed(reduce="mean")


@pytest.fixture
def lazy():
    ds = xatmo.open_sample(chunks={"time": 1}).isel(time=slice(0, 4))
    return ds.atmo.embed(reduce="mean")


def threads_here(_):
    return os.getpid(), os.environ["OMP_NUM_THREADS"]


def test_threads(lazy, wanted):
    with xatmo.cluster.scheduler("threads", workers=3) as place:
        assert dask.config.get("scheduler") == "threads"
        assert dask.config.get("num_workers") == 3
        np.testing.assert_allclose(lazy.compute(), wanted, rtol=0, atol=1e-5)
    assert str(place) == "threads, 3 workers"
    assert place.client is None
    assert dask.config.get("scheduler", None) is None


def test_as_many_threads_as_cores():
    with xatmo.cluster.scheduler("threads") as place:
        assert place.description.startswith(f"threads, {schedulers.cores()} worker")


def memory_limits(dask_worker):
    manager = dask_worker.memory_manager
    return manager.memory_limit, manager.memory_spill_fraction


@pytest.mark.slow
def test_processes_stay_between_computations(lazy, wanted, monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(schedulers, "cores", lambda: 6)
    with xatmo.cluster.scheduler("processes", workers=2) as place:
        assert str(place) == "processes, 2 workers"
        np.testing.assert_allclose(lazy.compute(), wanted, rtol=0, atol=1e-5)
        pids = set()
        for _ in range(2):
            tasks = [dask.delayed(threads_here)(i) for i in range(8)]
            told = dask.compute(*tasks)
            # Six cores among two processes.
            assert {threads for _, threads in told} == {"3"}
            pids |= {pid for pid, _ in told}
        assert len(pids) <= 2
        assert os.getpid() not in pids
    assert dask.config.get("pool", None) is None
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.slow
def test_a_local_cluster_and_its_address(lazy, wanted, monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(schedulers, "cores", lambda: 6)
    opened = xatmo.cluster.scheduler("local-cluster", workers=2, memory="1.5GB")
    with opened as place:
        assert str(place).startswith("local-cluster, 2 workers of 1.5GB")
        np.testing.assert_allclose(lazy.compute(), wanted, rtol=0, atol=1e-5)
        told = place.client.run(threads_here, None)
        assert {threads for _, threads in told.values()} == {"3"}
        key = "distributed.deploy.lost-worker-timeout"
        assert dask.config.get(key) == "5 minutes"
        limits = place.client.run(memory_limits)
        assert set(limits.values()) == {(1_500_000_000, 0.7)}
        timeout = place.client.run_on_scheduler(
            lambda dask_scheduler: dask_scheduler.no_workers_timeout
        )
        assert timeout == 600
        address = place.client.scheduler.address
        with xatmo.cluster.scheduler(address, workers=2) as other:
            assert str(other) == f"{address}, 2 workers"
            np.testing.assert_allclose(lazy.compute(), wanted, rtol=0, atol=1e-5)
        # Leaving a scheduler that was there before leaves it there.
        assert len(place.client.nthreads()) == 2
        with (
            dask.config.set({"distributed.scheduler.no-workers-timeout": "0.2s"}),
            pytest.raises(errors.ClusterError, match=r"2 workers within 0\.2s"),
            xatmo.cluster.scheduler(address, workers=7),
        ):
            pass
    assert place.client.status == "closed"
    assert "OMP_NUM_THREADS" not in os.environ
    assert dask.config.get(key) == "15s"


def test_keys_travel_with_futures(winds):
    """A call and its key are small, and any client can submit them."""
    from distributed import Client

    key = xatmo.load_model().key
    with Client(processes=False, n_workers=1, dashboard_address=":0") as client:
        network = client.submit(xatmo.zoo.load_network, key).result()
    assert not network.training


@pytest.mark.parametrize("name", ["slurm", "local", "", "http://a:1", None])
def test_other_names_are_refused(name):
    with (
        pytest.raises(errors.OptionError, match=r"(?s)no scheduler.*cluster\.md") as e,
        xatmo.cluster.scheduler(name),
    ):
        pass
    for known in ("threads", "processes", "local-cluster", "tcp://"):
        assert known in e.value.needed


@pytest.mark.parametrize("name", ["threads", "processes", "tcp://127.0.0.1:9"])
def test_memory_means_nothing_to_most(name):
    with (
        pytest.raises(errors.OptionError, match="local-cluster"),
        xatmo.cluster.scheduler(name, memory="1GB"),
    ):
        pass


@pytest.mark.parametrize("workers", [0, -1, 1.5, "two"])
def test_a_number_of_workers(workers):
    with (
        pytest.raises(errors.OptionError, match="workers="),
        xatmo.cluster.scheduler("threads", workers=workers),
    ):
        pass


def test_an_address_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(schedulers, "_WAIT", "0.5s")
    with (
        pytest.raises(errors.ClusterError, match=r"No scheduler answers at tcp://127"),
        xatmo.cluster.scheduler("tcp://127.0.0.1:9"),
    ):
        pass


@pytest.mark.parametrize("name", ["local-cluster", "tcp://127.0.0.1:9"])
def test_distributed_may_be_missing(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(errors.MissingDependencyError, match=r"dask\[distributed\]"),
        xatmo.cluster.scheduler(name),
    ):
        pass


def test_the_others_do_without_distributed(run_python):
    code = """
        import sys
        import xatmo
        import xatmo.cluster
        with xatmo.cluster.scheduler("threads"):
            pass
        assert "distributed" not in sys.modules
        assert "torch" not in sys.modules
        """
    run_python(code)
