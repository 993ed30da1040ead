"""What batches pass through on a GPU that is emulated: order, overlap, errors."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import xatmo
from xatmo import errors
from xatmo.engine import devices, worker
from xatmo.engine.pipeline import UNDER_WAY
from xatmo.testing import count_forwards
from xatmo.testing.gaps import with_gaps

CPU = {"device": "cpu"}


def _double(x, kwargs):
    return 2 * x + kwargs.get("shift", 0)


def test_a_pass_waits_for_all_that_it_needs(gpus):
    lane, x = gpus["cuda:0"], np.arange(12, dtype=np.float32).reshape(3, 4)
    got, _ = lane.run(_double, x, {"shift": np.float32([[1]]), "other": "as it is"})
    np.testing.assert_array_equal(got, 2 * x + 1)
    kept = [shape for shape, stream in lane.kept if stream is lane._compute]
    assert kept == [(3, 4), (1, 1)]
    assert [shape for shape, stream in lane.kept if stream is lane._out] == [(3, 4)]
    assert lane.seconds > 0


def test_many_threads_share_a_lane(gpus):
    lane = gpus["cuda:0"]
    x = [np.full((2, 3), i, np.float32) for i in range(20)]
    passes = [lane.threads.submit(lane.run, _double, each, {}) for each in x]
    for each, future in zip(x, passes, strict=True):
        np.testing.assert_array_equal(future.result()[0], 2 * each)


def test_what_fails_leaves_the_lane_as_it_was(gpus):
    lane, x = gpus["cuda:0"], np.ones((2, 3), np.float32)

    def fails(x, kwargs):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lane.run(fails, x, {})
    np.testing.assert_array_equal(lane.run(_double, x, {})[0], 2 * x)


def test_copies_overlap_with_computing(gpus, winds):
    with xatmo.set_options(batch_size=1):
        winds.atmo.embed()
    diary = gpus["cuda:0"].diary
    times = {n: [d[1:] for d in diary if d[0] == n] for n in ("in", "compute", "out")}
    assert all(len(found) == winds.sizes["time"] for found in times.values())
    # The next batch begins to come in before this one is computed.
    pairs = zip(times["in"][1:], times["compute"], strict=False)
    assert all(coming[0] < computed[1] for coming, computed in pairs)


def test_no_more_batches_than_may_be_are_on_their_way(gpus, winds, monkeypatch):
    here, most, lock = [0], [0], threading.Lock()
    forward = worker.Loaded.forward

    def watched(self, *asked):
        with lock:
            here[0] += 1
            most[0] = max(most[0], here[0])
        try:
            return forward(self, *asked)
        finally:
            with lock:
                here[0] -= 1

    monkeypatch.setattr(worker.Loaded, "forward", watched)
    with xatmo.set_options(batch_size=1, device="cuda:0"):
        winds.chunk(time=1).atmo.embed().compute(scheduler="threads", num_workers=6)
    assert 1 < most[0] <= UNDER_WAY


@pytest.mark.parametrize("batch_size", [1, 2, None])
@pytest.mark.parametrize("chunks", [None, {"time": 2}])
def test_embed(gpus, winds, batch_size, chunks):
    with xatmo.set_options(**CPU):
        expected = winds.atmo.embed()
    with xatmo.set_options(batch_size=batch_size), count_forwards() as counted:
        ds = winds if chunks is None else winds.chunk(chunks)
        got = ds.atmo.embed().compute(scheduler="threads")
    assert counted.calls
    assert any(lane.sizes for lane in gpus.values())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("chunks", [None, {"time": 1, "latitude": 20}])
def test_downscale(gpus, winds, refiners, chunks):
    winds = winds.isel(time=slice(3))
    with xatmo.set_options(**CPU):
        expected = winds.atmo.downscale(model="tiny", realizations=2)
    ds = winds if chunks is None else winds.chunk(chunks)
    with xatmo.set_options(batch_size=2):
        got = ds.atmo.downscale(model="tiny", realizations=2)
    for name, field in got.compute(scheduler="threads").items():
        np.testing.assert_allclose(field, expected[name], rtol=0, atol=1e-4)


def test_infill(gpus, winds, infiller):
    ds = with_gaps(winds[["u10"]], "clouds", seed=1)
    with xatmo.set_options(**CPU):
        expected = ds.atmo.infill(model="tiny-infill")
    with xatmo.set_options(batch_size=1):
        got = ds.atmo.infill(model="tiny-infill")
    for name in ("u10", "u10_spread"):
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=1e-4)


def test_forecast(gpus, sample):
    ds = sample.sel(lat=slice(20, 60), lon=slice(0, 60)).isel(time=slice(4))
    with xatmo.set_options(**CPU):
        expected = ds.atmo.forecast("12h", "multiformer-small")
    with xatmo.set_options(batch_size=2):  # several, so that they overlap
        got = ds.atmo.forecast("12h", "multiformer-small")
    for name, field in expected.items():
        np.testing.assert_allclose(got[name], field, rtol=0, atol=1e-3)


def test_missing_values_are_found_while_batches_are_on_their_way(gpus, winds):
    ds = winds.copy(deep=True)
    ds.u10[4, 3, 3] = np.nan
    with (
        xatmo.set_options(batch_size=1),
        pytest.raises(errors.MissingValuesError, match="number 4 of its chunk"),
    ):
        ds.atmo.embed()
    with xatmo.set_options(batch_size=1, missing="propagate"):
        z = ds.atmo.embed()
    assert z.isnull().all(("latitude", "longitude", "feature")).values.tolist() == [
        *(4 * [False]),
        True,
    ]


# --- Memory ------------------------------------------------------------------------


def test_out_of_memory_with_several_on_their_way(gpus, winds):
    for lane in gpus.values():
        lane.fits = 1
    with xatmo.set_options(**CPU):
        expected = winds.atmo.embed()
    with xatmo.set_options(batch_size=4):
        got = winds.atmo.embed()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    assert sorted(set(gpus["cuda:0"].sizes)) == [1, 2, 4]


def test_what_memory_has_taught_is_kept_for_the_next_process(gpus, winds):
    lane = gpus["cuda:0"]
    lane.fits = 2
    with xatmo.set_options(batch_size=4):
        winds.atmo.embed()
        worker._loaded.clear()
        lane.sizes.clear()
        winds.atmo.embed()
    assert set(lane.sizes) == {2}


def test_out_of_memory_for_one_field(gpus, winds):
    for lane in gpus.values():
        lane.fits = 0
    with pytest.raises(errors.OutOfMemoryError, match=r"(?s)cuda:0 for a single field"):
        winds.atmo.embed()


# --- Devices ------------------------------------------------------------------------


def test_several_gpus_share_the_tasks(gpus, winds):
    with xatmo.set_options(**CPU):
        expected = winds.atmo.embed()
    ds = winds.isel(time=np.arange(40) % 5).drop_vars("time").chunk(time=1)
    with xatmo.set_options(batch_size=1):
        from xatmo.engine import plan

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan, "JOIN_POINTS", 1)
            got = ds.atmo.embed()
        got = got.compute(scheduler="threads", num_workers=12)
    np.testing.assert_allclose(
        got, expected.isel(time=np.arange(40) % 5), rtol=0, atol=1e-5
    )
    assert all(len(lane.sizes) > 5 for lane in gpus.values())


def test_one_gpu_by_name(gpus, winds):
    with xatmo.set_options(device="cuda:1"):
        winds.chunk(time=1).atmo.embed().compute(scheduler="threads")
    assert gpus["cuda:1"].sizes
    assert not gpus["cuda:0"].sizes
    with (
        xatmo.set_options(device="cuda:2"),
        pytest.raises(errors.OptionError, match="2 GPUs"),
    ):
        winds.atmo.embed()


def test_a_worker_of_a_cluster_takes_the_first_that_it_sees(gpus, monkeypatch):
    assert devices._candidates("auto") == ["cuda:0", "cuda:1"]
    monkeypatch.setattr(devices, "_in_dask_worker", lambda: True)
    assert devices._candidates("auto") == ["cuda:0"]
    assert devices._candidates("cuda:1") == ["cuda:1"]


def test_cores_are_used_once(monkeypatch):
    monkeypatch.setattr(devices, "cpu_count", lambda: 16)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    assert devices.permits_of("cpu") == 1  # a plain process
    gate = devices._gate("cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert devices.permits_of("cpu") == 16  # a worker: its own threads are the limit
    assert devices._gate("cpu") is not gate


def test_weights_of_two_models_stay_on_each_device(gpus, winds, refiners):
    winds = winds.isel(time=[0])
    for device in ("cuda:0", "cuda:1", "cpu"):
        with xatmo.set_options(device=device, batch_size=1):
            winds.atmo.embed()
            winds.atmo.downscale(model="tiny")
    before = worker.load_count()
    for device in ("cuda:0", "cuda:1", "cpu"):
        with xatmo.set_options(device=device, batch_size=1):
            winds.atmo.embed()
    assert worker.load_count() == before
