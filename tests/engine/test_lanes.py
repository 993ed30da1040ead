"""Small batches side by side: as many as torch has threads, and the same numbers."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
import xarray as xr

import xatmo
from xatmo.engine import Call, lanes, worker
from xatmo.engine.batch import in_batches
from xatmo.errors import OutOfMemoryError

CORES = 3


@pytest.fixture
def cores():
    """Let torch have some threads, however many this machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(CORES)
    yield CORES
    torch.set_num_threads(before)


@pytest.fixture
def model(sample):
    """The network that embeds the sample, on the CPU."""
    call = Call(xatmo.load_model("atmodist-small").key, "embed")
    with worker.running(call) as loaded:
        yield loaded


def _in_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_a_lane_has_its_share_and_nobody_else_loses_any(cores):
    found = lanes.lanes_for(lanes.SMALL)
    assert found.count == cores
    passes = [found.threads.submit(torch.get_num_threads) for _ in range(20)]
    assert {p.result() for p in passes} == {1}
    assert torch.get_num_threads() == cores
    assert _in_thread(torch.get_num_threads) == cores


def test_many_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4 * lanes.MOST)
    taken = []
    monkeypatch.setattr(lanes, "Lanes", lambda *given: taken.append(given))
    lanes._lanes.cache_clear()
    lanes.lanes_for(1)
    lanes._lanes.cache_clear()
    assert taken == [(lanes.MOST, 4, 4 * lanes.MOST)]


def test_a_large_batch_and_a_single_thread_stay_where_they_are(cores):
    assert lanes.lanes_for(lanes.SMALL + 1) is None
    torch.set_num_threads(1)
    assert lanes.lanes_for(1) is None


def test_batches_meet_and_come_back_in_order(cores, model, monkeypatch):
    meeting, names = threading.Barrier(cores, timeout=20), set()

    def forward(method, batch, kwargs):
        names.add(threading.current_thread().name)
        if batch[0, 0] < cores:  # the first ones wait until all are there
            meeting.wait()
        time.sleep(0.002 * (5 - batch[0, 0] % 5))
        return 2 * batch

    monkeypatch.setattr(model, "forward", forward)
    put = []

    def step(start, stop, size):
        result = yield "embed", np.full((size, 1), start), {}
        put.append(float(result[0, 0]))

    call = Call(model._key, "embed", batch_size=1)
    in_batches(step, 12, (4,), call, model, alone=True)
    assert put == [2.0 * i for i in range(12)]
    assert len(names) == cores
    assert all(name.startswith("xatmo-cpu") for name in names)


def test_a_single_batch_has_all_threads(cores, model, monkeypatch):
    threads = []

    def forward(method, batch, kwargs):
        threads.append((threading.current_thread(), torch.get_num_threads()))
        return batch

    monkeypatch.setattr(model, "forward", forward)

    def step(start, stop, size):
        yield "embed", np.zeros((size, 1)), {}

    call = Call(model._key, "embed", batch_size=8)
    in_batches(step, 8, (4,), call, model, alone=True)
    assert threads == [(threading.current_thread(), cores)]


def test_running_out_of_memory_in_a_lane_halves_the_batch(cores, model, monkeypatch):
    sizes = []

    def forward(method, batch, kwargs):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise MemoryError
        return batch

    monkeypatch.setattr(model, "forward", forward)
    monkeypatch.setattr(model, "_known", {})
    done = []

    def step(start, stop, size):
        result = yield "embed", np.arange(start, start + size, dtype=float)[:, None], {}
        done.extend(result[: stop - start, 0])

    call = Call(model._key, "embed", batch_size=8)
    in_batches(step, 19, (4,), call, model, alone=True)
    assert done == list(range(19))
    assert set(sizes) == {8, 4, 2}
    monkeypatch.setattr(model, "forward", _full)
    with pytest.raises(OutOfMemoryError, match="single field"):
        in_batches(step, 3, (4,), call, model)


def _full(method, batch, kwargs):
    raise MemoryError


def test_an_error_in_a_lane_is_the_callers(cores, sample):
    gappy = sample.copy(deep=True)
    gappy[next(iter(gappy))][3, 2, 1] = np.nan
    with pytest.raises(xatmo.errors.MissingValuesError):
        gappy.atmo.embed()


@pytest.mark.parametrize("verb", ["embed", "downscale", "forecast", "infill"])
def test_the_numbers_are_those_of_a_single_thread(verb, cores, sample, winds):
    """In memory, and in chunks of which several are computed at the same time."""

    def run(ds):
        if verb == "infill":
            ds = ds.where((ds.lat < 10) | (ds.lon > 90) | (ds.time.dt.hour == 0))
            return ds.atmo.infill("network")
        if verb == "forecast":
            return ds.isel(lat=slice(20, 44), lon=slice(30)).atmo.forecast("6h")
        return getattr(ds.atmo, verb)()

    part = winds if verb == "downscale" else sample.isel(time=slice(12))
    with xatmo.set_options(batch_size=1):
        found = run(part)
        lazy = run(part.chunk(time=5)).compute(scheduler="threads", num_workers=4)
        torch.set_num_threads(1)
        alone = run(part)
    for one in (found, lazy):
        xr.testing.assert_allclose(one, alone, rtol=1e-5, atol=1e-5)


def test_who_watches_sees_every_pass(cores, sample):
    seen = []

    def watcher(model, forward):
        def counted(method, batch, kwargs):
            seen.append(threading.current_thread())
            return forward(method, batch, kwargs)

        return counted

    with worker.watching(watcher):
        sample.atmo.embed()
    assert set(seen) == {threading.current_thread()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_lanes_of_its_own():
    """In a process that has nothing else to inherit."""
    code = """if True:
        import os, torch
        from xatmo.engine.lanes import lanes_for
        torch.set_num_threads(3)
        first = lanes_for(1)
        assert first.threads.submit(int, "7").result(20) == 7
        child = os.fork()
        if child == 0:
            own = lanes_for(1)
            found = own.threads.submit(int, "7").result(20)
            os._exit(0 if own is not first and found == 7 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """
    command = [sys.executable, "-W", "ignore", "-c", code]
    subprocess.run(command, check=True, timeout=120)
