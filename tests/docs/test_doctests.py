"""The examples in docstrings run. None of them needs the network."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import warnings

import pytest

import xatmo

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _modules() -> list[str]:
    found = pkgutil.walk_packages(xatmo.__path__, "xatmo.")
    return ["xatmo", *(m.name for m in found if m.name != "xatmo.__main__")]


def _examples(name: str) -> list[doctest.DocTest]:
    module = importlib.import_module(name)
    # Not the module's own name: warnings are for whoever calls, not for the package.
    names = {**vars(module), "__name__": "doctest"}
    tests = doctest.DocTestFinder().find(module, globs=names)
    return [test for test in tests if test.examples]


TESTS = [test for name in _modules() for test in _examples(name)]


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.name)
def test_docstring(test):
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    report: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of extrapolation: the sample is one
        result = runner.run(test, out=report.append)
    assert result.failed == 0, "".join(report)


@pytest.mark.parametrize(
    "verb",
    [
        "embed",
        "distance",
        "downscale",
        "infill",
        "forecast",
        "interpolate_time",
        "attention",
        "predictability",
        "open_sample",
        "set_options",
    ],
)
def test_public_functions_have_examples(verb):
    assert any(test.name.endswith(f".{verb}") for test in TESTS)
