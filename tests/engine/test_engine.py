"""The engine on a toy network: plans, batches, halo, memory, schedulers."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from xatmo import errors
from xatmo.engine import Call, apply, devices, worker
from xatmo.engine import plan as plan_module
from xatmo.zoo import ModelKey

KEY = ModelKey("toy", "1", "0" * 64)
CORE = ("y", "x")


class Toy(nn.Module):
    """Two 3x3 convolutions: reach 2."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.kernels = [torch.randn(1, 1, 3, 3, generator=generator) for _ in range(2)]

    def smooth(self, x: torch.Tensor) -> torch.Tensor:
        for kernel in self.kernels:
            x = nn.functional.pad(x, (1, 1, 1, 1))
            x = torch.tanh(nn.functional.conv2d(x, kernel))
        return x[:, 0]

    def total(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2, 3))[:, None]


@pytest.fixture
def loads(monkeypatch):
    """The toy in place of the zoo; counts how often it is built."""
    count = []
    toy = Toy()

    def load(key, device):
        count.append(key)
        return lambda method, x, **kwargs: getattr(toy, method)(x, **kwargs)

    monkeypatch.setattr(worker, "load_runtime", load)
    monkeypatch.setattr(worker, "_loaded", type(worker._loaded)())
    return count


@pytest.fixture
def field():
    rng = np.random.default_rng(0)
    return xr.DataArray(
        rng.normal(size=(7, 24, 40)).astype(np.float32), dims=("t", *CORE)
    )


def _total(field, **options):
    return apply(Call(KEY, "total", **options), [field], core=CORE, out={"n": 1})


def _smooth(field, halo=2, **options):
    out = {d: field.sizes[d] for d in CORE}
    return apply(Call(KEY, "smooth", **options), [field], core=CORE, out=out, halo=halo)


def test_in_memory_stays_in_memory(loads, field):
    result = _total(field)
    assert isinstance(result.data, np.ndarray)
    np.testing.assert_allclose(result[:, 0], field.mean(CORE), atol=1e-6)


def test_lazy_stays_lazy_and_keeps_chunks(loads, field):
    result = _total(field.chunk(t=(3, 1, 3)))
    assert result.chunksizes["t"] == (3, 1, 3)
    assert not loads
    np.testing.assert_allclose(result, _total(field), atol=1e-7)


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("batch_size", [1, 3, 16, None])
def test_batches_change_nothing(loads, field, scheduler, batch_size):
    lazy = _smooth(field.chunk(t=2), batch_size=batch_size)
    np.testing.assert_array_equal(
        lazy.compute(scheduler=scheduler), _smooth(field, batch_size=batch_size)
    )


def test_one_load_however_many_threads(loads, field):
    _total(field.chunk(t=1)).compute(scheduler="threads", num_workers=8)
    assert len(loads) == 1


def test_two_models_are_kept(loads, field):
    for name in ("a", "b", "a", "b", "c", "a"):
        apply(
            Call(ModelKey(name, "1", "0" * 64), "total"),
            [field],
            core=CORE,
            out={"n": 1},
        )
    assert [key.name for key in loads] == ["a", "b", "c", "a"]


def test_small_chunks_are_joined_and_cut_again(loads, field, monkeypatch):
    seen = []
    original = worker.Loaded.forward
    monkeypatch.setattr(plan_module, "JOIN_POINTS", 4 * 24 * 40)
    monkeypatch.setattr(
        worker.Loaded,
        "forward",
        lambda self, method, batch, kw: (
            seen.append(len(batch)),
            original(self, method, batch, kw),
        )[1],
    )
    result = _total(field.chunk(t=1), batch_size=4)
    assert result.chunksizes["t"] == (1,) * 7
    result.compute()
    assert seen == [4, 4]


@pytest.mark.parametrize("chunks", [{"y": 12, "x": 10}, {"y": 9}, {"t": 1, "x": 13}])
def test_halo_leaves_no_trace(loads, field, chunks):
    got = _smooth(field.chunk(chunks), halo=2)
    whole = _smooth(field)
    inner = {"y": slice(2, -2), "x": slice(2, -2)}
    np.testing.assert_allclose(got.isel(inner), whole.isel(inner), atol=1e-6)
    np.testing.assert_allclose(got, whole, atol=1e-6)


def test_a_halo_too_narrow_would_be_seen(loads, field):
    got = _smooth(field.chunk(y=12, x=10), halo=1)
    assert (abs(got - _smooth(field)) > 1e-5).mean() > 0.01


def test_halo_closes_around_the_globe(loads, field):
    call = Call(KEY, "smooth")
    out = {d: field.sizes[d] for d in CORE}
    cut = field.chunk(x=10)
    got = apply(call, [cut], core=CORE, out=out, halo=2, periodic=["x"])
    turned = apply(call, [cut.roll(x=10)], core=CORE, out=out, halo=2, periodic=["x"])
    np.testing.assert_allclose(got.roll(x=10), turned, atol=1e-6)


def test_global_networks_refuse_chunks(loads, field):
    with pytest.raises(
        errors.ChunkError,
        match=r"(?s)toy sees whole fields.*x: 4 chunks.*ds\.chunk\(\{'x': -1\}\)",
    ):
        _total_global(field.chunk(x=10))
    np.testing.assert_allclose(
        _total_global(field.chunk(t=2)), _total(field), atol=1e-7
    )


def _total_global(field):
    return apply(Call(KEY, "total"), [field], core=CORE, out={"n": 1}, halo="global")


def test_out_of_memory_halves_the_batch_and_remembers(loads, field, monkeypatch):
    sizes = []
    original = worker.Loaded.forward

    def scarce(self, method, batch, kwargs):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
        return original(self, method, batch, kwargs)

    monkeypatch.setattr(worker.Loaded, "forward", scarce)
    # Side by side, further batches are under way when the first one fails.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    result = _total(field, batch_size=8)
    np.testing.assert_allclose(result[:, 0], field.mean(CORE), atol=1e-6)
    assert sizes == [8, 4, 2, 2, 2, 2]
    sizes.clear()
    _total(field, batch_size=8)
    assert sizes == [2, 2, 2, 2]


def test_out_of_memory_for_one_field(loads, field, monkeypatch):
    def scarce(self, method, batch, kwargs):
        raise MemoryError

    monkeypatch.setattr(worker.Loaded, "forward", scarce)
    with pytest.raises(
        errors.OutOfMemoryError, match=r"(?s)single field.*24 x 40.*smaller region"
    ):
        _total(field, batch_size=1)


def test_other_errors_pass_through(loads, field):
    with pytest.raises(AttributeError, match="no_such_method"):
        apply(Call(KEY, "no_such_method"), [field], core=CORE, out={"n": 1})


def test_infinite_values_are_named(loads, field):
    field[3, 0, 0] = np.inf
    with pytest.raises(
        errors.MissingValuesError, match=r"(?s)NaN or infinite values in u10.*1 of"
    ):
        _total(field, names=("u10",))


def test_gate_bounds_what_runs_at_once(loads, field, monkeypatch):
    running, most, lock = [0], [0], threading.Lock()
    original = worker.Loaded.forward

    def watched(self, method, batch, kwargs):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        try:
            return original(self, method, batch, kwargs)
        finally:
            with lock:
                running[0] -= 1

    monkeypatch.setattr(worker.Loaded, "forward", watched)
    monkeypatch.setattr(devices, "_gates", {})
    monkeypatch.setattr(plan_module, "JOIN_POINTS", 1)
    _total(field.chunk(t=1)).compute(scheduler="threads", num_workers=8)
    assert most[0] <= max(1, devices.cpu_count() // torch.get_num_threads())


def test_no_grad_inside_the_task(loads, field, monkeypatch):
    modes = []
    monkeypatch.setattr(
        Toy,
        "total",
        lambda self, x: (
            modes.append(torch.is_inference_mode_enabled()),
            x.mean((1, 2, 3))[:, None],
        )[1],
    )
    _total(field.chunk(t=7)).compute(scheduler="threads")
    assert modes
    assert all(modes)


def test_empty_input(loads, field):
    assert _total(field.isel(t=slice(0))).shape == (0, 1)


def test_devices_that_do_not_exist():
    with pytest.raises(errors.OptionError, match="'tpu' cannot be used"):
        worker.resolve_device("tpu")


def test_one_field_lazy_and_one_in_memory(loads, field):
    def total(*fields):
        return apply(Call(KEY, "total"), list(fields), core=CORE, out={"n": 1})

    cut = field.chunk(t=2, y=9)
    expected = total(field, field)
    for pair in ((field, cut), (cut, field), (cut, field.chunk(t=3, x=7))):
        got = total(*pair)
        assert got.chunks is not None
        np.testing.assert_allclose(got, expected, atol=1e-6)
