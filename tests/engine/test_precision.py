"""bfloat16 where it is asked for, and nothing but single precision where it is not."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from dask.base import tokenize

import xatmo
from xatmo.engine import Call
from xatmo.engine.precision import arithmetic
from xatmo.zoo import ModelKey

KEY = ModelKey("toy", "1", "0" * 64)


def _off(got, expected):
    return float(np.sqrt(np.square(got - expected).mean()) / expected.std())


def test_a_result_says_its_precision(winds):
    exact = winds.atmo.embed()
    with xatmo.set_options(precision="bfloat16"):
        rounded = winds.atmo.embed()
    assert exact.attrs.get("xatmo_precision") is None
    assert rounded.attrs["xatmo_precision"] == "bfloat16"
    assert rounded.dtype == exact.dtype
    assert 1e-4 < _off(rounded, exact) < 0.05


def test_a_lazy_result_keeps_its_precision(winds):
    with xatmo.set_options(precision="bfloat16"):
        eager, lazy = winds.atmo.embed(), winds.chunk(time=2).atmo.embed()
    plain = winds.chunk(time=2).atmo.embed()
    assert lazy.data.name != plain.data.name
    # In Dask's threads, which know nothing of this one.
    np.testing.assert_array_equal(lazy.compute(scheduler="threads"), eager)
    np.testing.assert_array_equal(
        plain.compute(scheduler="threads"), winds.atmo.embed()
    )


def test_physical_results_are_not_rounded(winds, refiners):
    offset = winds + 1000.0
    plain = offset.atmo.downscale(model="tiny-plain", conserve=False)
    with xatmo.set_options(precision="bfloat16"):
        rounded = offset.atmo.downscale(model="tiny-plain", conserve=False)
    values = rounded.u10.values
    as_halves = torch.from_numpy(values).bfloat16().float().numpy()
    assert (values != as_halves).mean() > 0.5
    assert _off(rounded.u10, plain.u10) < 0.2


def test_calls_take_the_settings_of_the_moment():
    with xatmo.set_options(precision="bfloat16", compile=False):
        call = Call(KEY, "embed")
    assert (call.precision, call.compile) == ("bfloat16", False)
    assert tokenize(call) != tokenize(Call(KEY, "embed"))
    assert tokenize(Call(KEY, "embed")) == tokenize(Call(KEY, "embed"))


def test_it_holds_for_this_thread_alone():
    seen = {}

    def look(name):
        seen[name] = torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()

    with arithmetic("cpu", "bfloat16"):
        look("here")
        other = threading.Thread(target=look, args=("there",))
        other.start()
        other.join()
    look("later")
    assert seen == {
        "here": (True, True),
        "there": (False, False),
        "later": (False, False),
    }


def _flags():
    return (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    )


def test_no_tf32_on_a_gpu():
    """The flags are the process's: two threads that come and go leave them as found."""
    before, seen, inside = _flags(), [], threading.Event()
    torch.backends.cudnn.allow_tf32 = True

    def first():
        with arithmetic("cuda:0", "float32"):
            seen.append(_flags())
            inside.set()
            left.wait(10)
            seen.append(_flags())

    left = threading.Event()
    thread = threading.Thread(target=first)
    try:
        thread.start()
        assert inside.wait(10)
        with arithmetic("cuda:0", "float32"):
            seen.append(_flags())
        left.set()
        thread.join()
        assert seen == [(False, False)] * 3
        assert _flags() == (before[0], True)
    finally:
        torch.backends.cudnn.allow_tf32 = before[1]


def test_no_tf32_where_newer_flags_ask_for_it():
    backends = torch.backends
    if not hasattr(backends.cudnn, "conv"):
        return  # this torch has no newer ones
    backends.fp32_precision = "tf32"
    try:
        with arithmetic("cuda:0", "float32"):
            assert backends.cudnn.conv.fp32_precision == "ieee"
            assert backends.cuda.matmul.fp32_precision == "ieee"
        assert backends.cudnn.conv.fp32_precision == "tf32"
    finally:
        backends.fp32_precision = "none"
        backends.cuda.matmul.fp32_precision = "none"


@pytest.mark.parametrize("wrong", [{"precision": "float16"}, {"compile": "yes"}])
def test_what_cannot_be_chosen(wrong):
    with pytest.raises(xatmo.errors.OptionError, match="one of"):
        xatmo.set_options(**wrong)
