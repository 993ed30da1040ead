"""Settings, and the tree of errors."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import xatmo
from xatmo import errors


def test_settings_last_as_long_as_their_block():
    before = xatmo.get_options()
    with xatmo.set_options(batch_size=4, device="cpu"):
        assert xatmo.get_options().batch_size == 4
        with xatmo.set_options(batch_size=2):
            assert xatmo.get_options().device == "cpu"
            assert xatmo.get_options().batch_size == 2
        assert xatmo.get_options().batch_size == 4
    assert xatmo.get_options() == before


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"devise": "cpu"}, r"(?s)no option 'devise'.*device, batch_size"),
        (
            {"missing": "ignore"},
            r"(?s)'missing' cannot be 'ignore'.*'raise', 'propagate'",
        ),
        ({"batch_size": 0}, r"(?s)'batch_size' cannot be 0.*at least 1"),
        ({"batch_size": True}, r"(?s)'batch_size' cannot be True.*at least 1"),
        ({"device": 5}, r"(?s)'device' cannot be 5.*'cuda:<number>'"),
        ({"device": "gpu"}, r"(?s)'device' cannot be 'gpu'.*'auto', 'cpu'"),
    ],
)
def test_settings_that_cannot_be(settings, text):
    with pytest.raises(errors.OptionError, match=text):
        xatmo.set_options(**settings)


def test_numpy_numbers_will_do():
    with xatmo.set_options(batch_size=np.int64(2)):
        assert xatmo.get_options().batch_size == 2


def test_settings_reach_other_threads():
    with xatmo.set_options(missing="propagate"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(xatmo.get_options).result().missing == "propagate"


ALL = [
    getattr(errors, name)
    for name in errors.__all__
    if name.endswith("Error") and name != "AtmoError"
]


@pytest.mark.parametrize("cls", ALL)
def test_errors_travel_between_processes(cls):
    error = cls("It broke.", found="a", needed="b", hint="c()")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is cls
    assert (
        str(again) == str(error) == "It broke.\n  found:  a\n  needed: b\n  try:    c()"
    )
    assert isinstance(error, errors.AtmoError)


@pytest.mark.parametrize(
    "cls", [c for c in ALL if c not in (errors.FieldError, errors.ModelError)]
)
def test_errors_are_what_people_catch_already(cls):
    builtins = (KeyError, ValueError, RuntimeError, ConnectionError, MemoryError)
    builtins = (*builtins, ImportError)
    assert issubclass(cls, builtins)
