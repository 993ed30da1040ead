"""Layers of the graph that are rules: windows, arrays side by side, other chunks."""

from __future__ import annotations

import cloudpickle
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.graph_manipulation import bind, clone

from xatmo.engine import over_windows, picked, rechunked, side_by_side

SERIES = np.random.default_rng(0).random((7, 2, 3, 4, 5), np.float32)
INDEX = np.array([[-1, 0], [0, 1], [2, 3], [3, 4], [5, 6]])
WHEN = np.arange(5 * 3.0).reshape(5, 1, 3)


def means(windows, when, out):
    """The mean of what is known of a window, and what is said of it."""
    for number, window in enumerate(windows):
        out[number] = np.nanmean(window), when[number].sum()


@pytest.fixture
def lazy():
    return da.from_array(SERIES, chunks=((3, 1, 3), 1, -1, 2, 3))


def test_windows_are_a_rule_and_give_the_same(lazy):
    there = over_windows(SERIES, INDEX, WHEN, means, (2,))
    here = over_windows(lazy, INDEX, WHEN, means, (2,))
    assert here.chunks == ((3, 1, 1), (1, 1), (2,))
    assert not here.dask.layers[here.name].is_materialized()
    np.testing.assert_allclose(here.compute(), there, rtol=1e-6)
    # A part needs no more of the series than its windows.
    part = here[-1:, 1]
    np.testing.assert_allclose(part.compute(), there[-1:, 1], rtol=1e-6)


def test_windows_travel_and_are_cloned(lazy):
    expected = over_windows(SERIES, INDEX, WHEN, means, (2,))
    here = over_windows(lazy, INDEX, WHEN, means, (2,))
    again = cloudpickle.loads(cloudpickle.dumps(here))
    np.testing.assert_allclose(again.compute(), expected, rtol=1e-6)
    other = clone(here)
    assert other.name != here.name
    np.testing.assert_allclose(other.compute(), expected, rtol=1e-6)
    part = clone(here, omit=lazy)
    np.testing.assert_allclose(part.compute(), expected, rtol=1e-6)
    after = bind(here, da.zeros(3, chunks=1))
    np.testing.assert_allclose(after.compute(), expected, rtol=1e-6)


def fields(count, chunks):
    """Arrays of two dimensions with a coordinate, lazy or not."""
    x = np.arange(12.0).reshape(4, 3)
    made = [
        xr.DataArray(x * (i + 1), {"y": list("abcd")}, ("y", "x")) for i in range(count)
    ]
    return [m if chunks is None else m.chunk(chunks) for m in made]


@pytest.mark.parametrize("chunks", [None, {"y": 2}, {"y": 2, "x": 2}])
@pytest.mark.parametrize("core", [(), ("x",), ("y", "x")])
def test_side_by_side_is_what_xarray_puts_together(chunks, core):
    several = fields(3, chunks)
    found = side_by_side(several, "number", core)
    order = [d for d in ("y", "x") if d not in core]
    expected = xr.concat(several, "number").transpose(*order, "number", *core)
    xr.testing.assert_identical(found.compute(), expected.compute())
    if chunks is not None:
        assert found.chunksizes["number"] == (3,)
        assert "y" in core or found.chunksizes["y"] == (2, 2)


def test_side_by_side_of_lazy_and_eager_is_lazy():
    found = side_by_side([*fields(1, {"y": 2}), *fields(1, None)], "number")
    assert found.chunks is not None
    np.testing.assert_array_equal(found, np.stack(fields(2, None)[:1] * 2, -1))


@pytest.mark.parametrize("chunks", [None, {"y": 2}, {"y": 2, "x": 2}])
def test_what_is_picked_is_what_xarray_selects(chunks):
    (field,) = fields(1, chunks)
    field = field.assign_attrs(units="m").rename("one")
    found, expected = picked(field, x=1), field.isel(x=1, drop=True)
    xr.testing.assert_identical(found.compute(), expected.compute())
    assert found.chunks == expected.chunks


@pytest.mark.parametrize(
    "new", [((4, 3), (5,)), ((1,) * 7, (2, 3)), ((2, 5), (5,)), ((3, 4), (2, 3))]
)
def test_other_chunks_hold_the_same(new):
    x = np.arange(35.0).reshape(7, 5)
    lazy = da.from_array(x, chunks=((3, 1, 3), (2, 3)))
    found = rechunked(lazy, new)
    assert found.chunks == new
    np.testing.assert_array_equal(found.compute(), x)
    assert rechunked(lazy, lazy.chunks) is lazy
