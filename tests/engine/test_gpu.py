"""What only a GPU can show: the same numbers as a CPU, overlap, and real memory."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import xatmo
from xatmo.engine import batchsize, devices, worker
from xatmo.engine.pipeline import Lane, lane_of
from xatmo.testing import synthetic_winds
from xatmo.testing.gaps import with_gaps

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# Difference from a CPU, over the spread of the result: root mean square.
SINGLE = 1e-4
# The same for bfloat16, at least what docs/howto/gpu.md says of each model.
ROUNDED = 0.05


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """No batch sizes but those that are found here."""
    monkeypatch.setenv("XATMO_CACHE", str(tmp_path))
    monkeypatch.setattr(worker, "_loaded", type(worker._loaded)())


def _winds(times=6, step=1.0):
    latitude = np.arange(70.0, 20.0, -step)
    return synthetic_winds(times, latitude, np.arange(0.0, 96.0, step))


def _region(times=7):
    return _winds(times, 2.0)


VERBS = {
    "embed": lambda: _winds().atmo.embed("atmodist-small"),
    "distance": lambda: _winds().atmo.distance(
        _winds().isel(time=0, drop=True), "atmodist-small"
    ),
    "downscale": lambda: _winds(2).atmo.downscale(
        model="downscale-winds", realizations=2
    ),
    "infill": lambda: with_gaps(_region()[["u10"]], "clouds", seed=1).atmo.infill(
        "network", model="infill-small"
    ),
    "box embed": lambda: _region().atmo.embed("multiformer-small"),
    "forecast": lambda: _region().atmo.forecast("12h", "multiformer-small"),
    "interpolate": lambda: (
        _region()
        .isel(time=slice(None, None, 2))
        .atmo.interpolate_time("6h", "multiformer-small")
    ),
    "attention": lambda: _region().atmo.attention("multiformer-small"),
}


def _off(got, expected):
    """The largest difference of the variables, over their spread."""
    if hasattr(expected, "data_vars"):
        kinds = {n: v.dtype.kind for n, v in expected.data_vars.items()}
        names = [n for n, k in kinds.items() if k == "f" and "scores" not in n]
        return max(_off(got[n], expected[n]) for n in names)
    change = float(np.sqrt(np.square(got - expected).mean()))
    return change / max(float(expected.std()), 1e-30) if change else 0.0


@pytest.mark.parametrize("verb", VERBS)
def test_the_same_numbers_as_a_cpu(verb):
    with xatmo.set_options(device="cpu"):
        expected = VERBS[verb]()
    with xatmo.set_options(device="cuda"):
        assert _off(VERBS[verb](), expected) < SINGLE
        with xatmo.set_options(precision="bfloat16"):
            rounded = _off(VERBS[verb](), expected)
    assert 0 < rounded < ROUNDED


@pytest.mark.parametrize("verb", ["embed", "downscale", "box embed"])
def test_chunks_change_nothing(verb):
    run = {
        "embed": lambda ds: ds.atmo.embed("atmodist-small"),
        "downscale": lambda ds: ds.atmo.downscale(model="downscale-winds"),
        "box embed": lambda ds: ds.atmo.embed("multiformer-small"),
    }[verb]
    ds = _region() if verb == "box embed" else _winds()
    whole = run(ds)
    for size in (1, 4):
        assert _off(run(ds.chunk(time=size)).compute(), whole) < 1e-5


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled(precision):
    ds = _winds()
    with xatmo.set_options(precision=precision, compile=False):
        plain = ds.atmo.embed("atmodist-small")
    with xatmo.set_options(precision=precision, compile=True):
        compiled = ds.atmo.embed("atmodist-small")
    limit = SINGLE if precision == "float32" else ROUNDED
    assert _off(compiled, plain) < limit


# --- The pipeline -------------------------------------------------------------------


class Watched(Lane):
    """A lane all of whose events tell the time."""

    def __init__(self, device):
        super().__init__(device)
        self.marks, self.lock = [], threading.Lock()

    def _marked(self, stream, *, timed=False):
        event = super()._marked(stream, timed=True)
        with self.lock:
            self.marks.append((stream, event))
        return event


def test_the_next_batch_arrives_while_one_is_computed():
    lane = Watched("cuda:0")
    weights = torch.randn(4096, 4096, device="cuda:0")
    lane.settle()
    x = [np.full((4096, 4096), i / 4096, np.float32) for i in range(8)]

    def network(x, kwargs):
        for _ in range(20):
            y = x @ weights
        return y

    lane.run(network, x[0], {})  # warm
    lane.marks.clear()
    passes = [lane.threads.submit(lane.run, network, each, {}) for each in x]
    results = [each.result()[0] for each in passes]
    expected = (torch.from_numpy(x[7]).cuda() @ weights).cpu().numpy()
    np.testing.assert_allclose(results[7], expected, rtol=1e-3, atol=1e-3)
    arrived = [e for stream, e in lane.marks if stream is lane._in]
    ended = [e for stream, e in lane.marks if stream is lane._compute][1::2]
    first = arrived[0]
    late = [first.elapsed_time(e) for e in arrived]
    done = [first.elapsed_time(e) for e in ended]
    early = [a < b for a, b in zip(sorted(late)[1:], sorted(done), strict=False)]
    assert sum(early) >= len(early) - 1


def test_many_passes_never_mix():
    """Races show as numbers of another batch: 300 passes from 8 threads."""
    from concurrent.futures import ThreadPoolExecutor

    lane = lane_of("cuda:0")
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(64, 1000 + i)).astype(np.float32) for i in range(300)]
    with ThreadPoolExecutor(8) as pool:
        passes = [
            pool.submit(lane.run, lambda x, k: (x * 2).cumsum(1), each, {})
            for each in x
        ]
        for each, future in zip(x, passes, strict=True):
            got = future.result()[0]
            expected = (2 * each.astype(np.float64)).cumsum(1)
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-2)


def test_nothing_stays_on_the_device():
    ds = _winds()
    with xatmo.set_options(device="cuda"):
        ds.atmo.embed("atmodist-small")
        before = torch.cuda.memory_allocated()
        for _ in range(3):
            ds.atmo.embed("atmodist-small")
    assert torch.cuda.memory_allocated() <= before


# --- Batches ------------------------------------------------------------------------


def test_a_batch_size_is_found_and_kept():
    ds = _winds()
    with xatmo.set_options(device="cuda"):
        ds.atmo.embed("atmodist-small")
        (file,) = batchsize.folder().iterdir()
        before = file.stat().st_mtime_ns
        worker._loaded.clear()
        ds.atmo.embed("atmodist-small")
    assert file.stat().st_mtime_ns == before


def test_out_of_memory_halves_the_batch(monkeypatch):
    """With a cap on what torch may have, and a network that needs more than that."""
    torch.cuda.empty_cache()
    ds = _winds(64)
    with xatmo.set_options(device="cpu"):
        expected = ds.atmo.embed("atmodist-small")
    sizes, forward = [], worker.Loaded.forward

    def watched(self, method, batch, kwargs):
        sizes.append(len(batch))
        return forward(self, method, batch, kwargs)

    monkeypatch.setattr(worker.Loaded, "forward", watched)
    with xatmo.set_options(device="cuda"):
        ds.isel(time=[0]).atmo.embed("atmodist-small")  # weights are there
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 48 * 2**20
    torch.cuda.set_per_process_memory_fraction(room / total)
    sizes.clear()
    try:
        with xatmo.set_options(device="cuda", batch_size=64):
            got = ds.atmo.embed("atmodist-small")
            smallest = min(sizes)
            sizes.clear()
            ds.atmo.embed("atmodist-small")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert smallest < 64
    assert set(sizes) == {smallest}  # remembered
    assert _off(got, expected) < SINGLE


def test_what_does_not_fit_leaves_the_lane_as_it_was():
    lane, x = lane_of("cuda:0"), np.ones((2, 3), np.float32)

    def large(x, kwargs):
        return torch.empty(2**45, device=x.device)

    with pytest.raises(torch.OutOfMemoryError):
        lane.run(large, x, {})
    np.testing.assert_array_equal(lane.run(lambda x, k: 2 * x, x, {})[0], 2 * x)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_several_gpus_share_the_tasks(monkeypatch):
    from xatmo.engine import plan

    monkeypatch.setattr(plan, "JOIN_POINTS", 1)
    ds = _winds(64)
    with xatmo.set_options(device="cpu"):
        expected = ds.atmo.embed("atmodist-small")
    got = ds.chunk(time=1).atmo.embed("atmodist-small").compute(num_workers=8)
    assert _off(got, expected) < SINGLE
    used = {use[1] for use in worker._loaded}
    assert used >= {f"cuda:{i}" for i in range(devices.gpu_count())}
