"""Chunks joined and cut by rule, graphs that do not grow, and advice on chunks."""

from __future__ import annotations

import time
import tracemalloc
import warnings
from functools import partial

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.graph_manipulation import clone

from xatmo.engine import over_chunks, unjoined
from xatmo.engine.advice import too_small
from xatmo.engine.chunks import cut_again, joined_chunks
from xatmo.engine.plan import weighted_mean
from xatmo.errors import ChunkWarning

DIMS = ("time", "latitude", "longitude")


def _winds(times: int, chunk: int, shape=(181, 360), time="time") -> xr.Dataset:
    """Lazy winds of no values at all."""
    dims = (time, "latitude", "longitude")
    lazy = da.zeros((times, *shape), chunks=(chunk, -1, -1), dtype=np.float32)
    step = np.timedelta64(6, "h")
    spacing = 180.0 / (shape[0] - 1)
    return xr.Dataset(
        {name: (dims, lazy, {"units": "m s-1"}) for name in ("u10", "v10")},
        {
            time: np.datetime64("1950-01-01", "ns") + step * np.arange(times),
            "latitude": ("latitude", 90 - spacing * np.arange(shape[0])),
            "longitude": ("longitude", spacing * np.arange(shape[1])),
        },
    )


@pytest.fixture(scope="module")
def pieces() -> xr.DataArray:
    """Numbers in uneven chunks along all of three dimensions."""
    x = np.arange(10.0 * 5 * 6).reshape(10, 5, 6)
    return xr.DataArray(x, dims=DIMS).chunk(
        {"time": (1, 3, 2, 4), "latitude": (2, 3), "longitude": (1, 2, 3)}
    )


PLAN = {"time": (4, 6), "latitude": (5,), "longitude": (3, 3)}


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_chunks_are_joined_and_cut_again(pieces, scheduler):
    whole = joined_chunks(pieces, PLAN)
    assert whole.chunks == ((4, 6), (5,), (3, 3))
    again = cut_again(whole + 0, dict(zip(DIMS, pieces.chunks, strict=True)))
    assert again.chunks == pieces.chunks
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_array_equal(whole.values, pieces.values)
        np.testing.assert_array_equal(again.values, pieces.values)
        np.testing.assert_array_equal(again[3:5, 1].values, pieces.values[3:5, 1])
        np.testing.assert_array_equal(
            again.data.blocks[1, 0].compute(), pieces[1:4, :2]
        )


def test_nothing_to_join_is_nothing_done(pieces):
    same = dict(zip(DIMS, pieces.chunks, strict=True))
    assert joined_chunks(pieces, same) is pieces


def test_joined_chunks_travel_and_are_cloned(pieces):
    whole = joined_chunks(pieces, PLAN)
    again = cut_again(whole, dict(zip(DIMS, pieces.chunks, strict=True)))
    there = cloudpickle.loads(cloudpickle.dumps(again))
    np.testing.assert_array_equal(there.values, pieces.values)
    other = clone(again.data)
    assert other.name != again.data.name
    np.testing.assert_array_equal(other.compute(), pieces.values)
    # Bound to something else: the layer is a leaf, as far as what is cloned goes.
    bound = clone(again.data, omit=whole.data)
    np.testing.assert_array_equal(bound.compute(), pieces.values)


def test_a_function_of_chunks_is_one_rule(pieces):
    field = pieces.chunk(latitude=-1, longitude=-1)
    run = partial(over_chunks, core=DIMS[1:], out={"feature": 2}, dtype=np.float64)

    def task(x: np.ndarray) -> np.ndarray:
        return np.stack([x.sum((-2, -1)), x.max((-2, -1))], -1)

    lazy = run(task, [field])
    (layer,) = (x for n, x in lazy.__dask_graph__().layers.items() if "blocks" in n)
    assert not layer.is_materialized()
    np.testing.assert_array_equal(lazy.values, run(task, [pieces.compute()]).values)


def test_the_weighted_mean_is_that_of_xarray():
    rng = np.random.default_rng(0)
    values, weights = rng.random((2, 3, 4, 5, 6)), rng.random((4, 5))
    expected = np.average(
        values.reshape(2, 3, 20, 6), axis=2, weights=weights.reshape(20)
    )
    found = weighted_mean(values.astype(np.float32), weights / weights.sum(), 2)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    values[1, 0, 2, 2, 0] = np.nan
    found = weighted_mean(values, weights / weights.sum(), 2)
    assert np.argwhere(np.isnan(found)).tolist() == [[1, 0, 0]]


VERBS = {
    "embed": lambda ds: ds.atmo.embed(),
    "embed, mean": lambda ds: ds.atmo.embed(reduce="mean"),
    "distance": lambda ds: ds.atmo.distance(ds.isel(time=0)),
    "downscale": lambda ds: ds.atmo.downscale(),
    "infill": lambda ds: ds[["u10"]].atmo.infill("network"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_graphs_of_many_chunks_are_small_and_soon_built(verb):
    few, many = _winds(64, 1), _winds(10_000, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ChunkWarning)
        VERBS[verb](few)  # imports what it needs
        start = time.process_time()
        graph = VERBS[verb](many).__dask_graph__()
        assert time.process_time() - start < 2
        # 50 MB for ten times as many.
        assert len(cloudpickle.dumps(graph)) < 5e6


def test_embedding_many_small_chunks_takes_no_memory():
    few, many = _winds(64, 1), _winds(100_000, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ChunkWarning)
        few.atmo.embed()
        tracemalloc.start()
        start = time.process_time()
        result = many.atmo.embed()
        seconds = time.process_time() - start
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(result.chunksizes["time"]) == 100_000
    assert seconds < 20
    assert peak < 50e6


# --- What is said of chunks -----------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_far_too_small_chunks_are_told_once_and_the_advice_holds(verb):
    ds = _winds(1000, 1)
    with pytest.warns(ChunkWarning, match=r"ds\.chunk\(time=\d+\)") as caught:
        VERBS[verb](ds)
    (told,) = (w for w in caught if w.category is ChunkWarning)
    assert told.filename == __file__
    call = str(told.message).split("ds.")[1].split(",")[0]
    better = eval(f"ds.{call}", {"ds": ds})  # noqa: S307 - it is what users would paste
    with warnings.catch_warnings():
        warnings.simplefilter("error", ChunkWarning)
        VERBS[verb](better)


def test_forecasts_tell_as_well():
    ds = _winds(600, 1, (36, 36)).assign_coords(
        latitude=60 - np.arange(36.0), longitude=np.arange(36.0)
    )
    ds = ds.assign_coords(
        time=ds.time[0].values + np.arange(600) * np.timedelta64(6, "h")
    )
    with pytest.warns(ChunkWarning, match=r"ds\.chunk\(time=\d+\)"):
        ds.atmo.forecast("6h", members=False)


def test_the_user_s_own_names_are_in_the_call():
    ds = _winds(1000, 1, time="valid time")
    with pytest.warns(ChunkWarning, match=r"ds\.chunk\(\{'valid time': 6\d\}\)"):
        ds.atmo.embed()
    members = _winds(100, 1).expand_dims(number=range(10)).chunk(number=1)
    with pytest.warns(ChunkWarning, match=r"ds\.chunk\(time=13, number=\d\)"):
        members.atmo.embed()


@pytest.mark.parametrize(("times", "chunk"), [(200, 1), (1000, 8), (1000, 1000)])
def test_what_does_no_harm_is_not_told(times, chunk):
    ds = _winds(times, chunk)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ChunkWarning)
        ds.atmo.embed()
    with unjoined():
        assert too_small([_winds(1000, 1).u10], DIMS[1:]) is None


def test_very_many_chunks_are_too_many_even_if_fields_are_large():
    u = _winds(350_640, 1, (721, 1440)).u10
    assert "chunk(time=4)" in str(too_small([u], DIMS[1:]))
    assert too_small([u.isel(time=slice(50_000))], DIMS[1:]) is None
    # A result that is sixteen times as large wants fewer fields in a chunk.
    assert too_small([u], DIMS[1:], growth=16.0) is None
