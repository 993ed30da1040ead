"""When a network is compiled, and what happens if that fails."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import xatmo
from xatmo.engine import compiling, worker
from xatmo.engine.compiling import PASSES, PATIENCE, Compiling

SPOT = ("embed", (4, 2, 32, 64))


@pytest.fixture
def compiled(monkeypatch):
    """What is compiled; without a compiler, by the tracing that comes before it."""
    found = []
    original = torch.compile

    def compile(function, **options):
        found.append(function.__name__)
        return original(function, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(worker, "_loaded", type(worker._loaded)())
    yield found
    torch._dynamo.reset()


def test_the_same_numbers(compiled, winds):
    expected = winds.atmo.embed()
    assert compiled == []  # a CPU does not unless it is told to
    with xatmo.set_options(compile=True):
        got = winds.atmo.embed()
        winds.atmo.embed()
    assert compiled == ["embed"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_same_numbers_by_the_compiler(monkeypatch):
    """A network through inductor, as a GPU would have it."""
    from xatmo.zoo.runtime import Runtime

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.GELU()).eval()
    runtime = Runtime.__new__(Runtime)
    runtime.network, runtime.normalizers, runtime._compiled = network, {}, {}
    x = torch.randn(2, 2, 12, 16)
    with torch.inference_mode():
        expected = runtime("forward", x, level=None)
        got = runtime("forward", x, level=None, compiled=True)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch, winds):
    def broken(function, **options):
        def run(*args, **kwargs):
            msg = "no compiler\nand much more"
            raise RuntimeError(msg)

        return run

    expected = winds.atmo.embed()
    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(worker, "_loaded", type(worker._loaded)())
    with xatmo.set_options(compile=True, batch_size=2):
        with pytest.warns(UserWarning, match="could not be compiled.*no compiler") as w:
            got = winds.atmo.embed()
        assert len(w) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            winds.atmo.embed()  # it is not tried again
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_errors_of_the_network_stay_its_own():
    def fails():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Compiling(True, "cpu").run(SPOT, fails, fails, lambda error: False)


def test_out_of_memory_is_no_failure_to_compile():
    plan = Compiling(True, "cpu")

    def full():
        raise MemoryError

    with pytest.raises(MemoryError):
        plan.run(SPOT, full, lambda: 1, lambda error: isinstance(error, MemoryError))
    assert plan.wanted(SPOT)


def test_a_gpu_compiles_once_it_has_been_long_at_it():
    plan = Compiling("auto", "cuda:0")
    passes = 0
    while not plan.wanted(SPOT):
        plan.took(SPOT, PATIENCE / 9.5, compiled=False)
        passes += 1
    assert passes == 10
    assert not plan.wanted(("embed", (8, 2, 32, 64)))  # of another shape


@pytest.mark.parametrize(("share", "kept"), [(0.5, True), (0.9, True), (0.99, False)])
def test_what_is_compiled_has_to_be_faster(share, kept):
    plan = Compiling("auto", "cuda:0")
    plan.took(SPOT, PATIENCE, compiled=False)
    plan.took(SPOT, 1000.0, compiled=True)  # the compiler's time
    for _ in range(PASSES):
        assert plan.wanted(SPOT)
        plan.took(SPOT, share * PATIENCE, compiled=True)
    assert plan.wanted(SPOT) is kept


def test_never(monkeypatch):
    monkeypatch.setattr(compiling, "PATIENCE", 0.0)
    assert Compiling("auto", "cuda:0").wanted(SPOT)
    assert not Compiling(False, "cuda:0").wanted(SPOT)
    assert not Compiling("auto", "cpu").wanted(SPOT)
    assert Compiling(True, "cpu").wanted(SPOT)


def test_a_gpu_compiles_in_the_course_of_a_session(gpus, compiled, winds, monkeypatch):
    monkeypatch.setattr(compiling, "PATIENCE", 0.02)
    gpus["cuda:0"].cost = lambda n: 0.005 * n
    with xatmo.set_options(device="cpu"):
        expected = winds.atmo.embed()
    with xatmo.set_options(batch_size=1):
        got = winds.atmo.embed()
        winds.atmo.embed()
    assert compiled == ["embed"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
