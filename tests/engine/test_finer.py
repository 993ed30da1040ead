"""A network that gives a finer grid, over pieces: a toy whose reach is known."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from xatmo import errors
from xatmo.engine import Call, Finer, apply_finer, finer, worker
from xatmo.zoo import ModelKey

KEY = ModelKey("toy", "1", "0" * 64)
CORE = ("y", "x")
SIZES = {"t": 3, "y": 23, "x": 40}


def refine(x, noise=None, statics=None):
    """Three rows and columns around each point, twice as fine: reach 1."""
    if noise is not None:
        x = x + noise
    x = nn.functional.pad(x, (1, 1, 1, 1))
    kernel = torch.arange(9.0).sin().reshape(1, 1, 3, 3).expand(x.shape[1], 1, 3, 3)
    x = torch.tanh(nn.functional.conv2d(x, kernel, groups=x.shape[1]))
    x = nn.functional.interpolate(x, scale_factor=2.0)
    return x if statics is None else x + statics


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """The toy in place of the zoo; what it was called with."""
    seen = []

    def load(key, device):
        def run(method, x, **kwargs):
            seen.append(tuple(x.shape))
            return refine(x, **kwargs)

        return run

    monkeypatch.setattr(worker, "load_runtime", load)
    monkeypatch.setattr(worker, "_loaded", type(worker._loaded)())
    return seen


@pytest.fixture
def fields():
    rng = np.random.default_rng(0)
    coords = {"y": 10.0 - np.arange(SIZES["y"]), "x": 9.0 * np.arange(SIZES["x"])}
    return [
        xr.DataArray(
            rng.normal(size=tuple(SIZES.values())).astype(np.float32),
            dims=tuple(SIZES),
            coords=coords,
        )
        for _ in range(2)
    ]


def place(keys, y, x, number):
    """What depends on field, place and realization, and on nothing else."""
    at = np.sin(y)[:, None] + np.sin(np.deg2rad(x))
    draw = keys.astype(np.float64)[:, None, None, None] + number
    return (draw + at).astype(np.float32)


def ground(y, x):
    rows = np.cos((y[:, None] + [0.25, -0.25]).ravel())
    columns = np.cos(np.deg2rad(9 * (x[:, None] / 9 + [-0.25, 0.25]).ravel()))
    return (rows[:, None] * columns)[None, None].astype(np.float32)


def _apply(fields, call=None, realizations=1, **how):
    return apply_finer(
        call or Call(KEY, "refine"),
        fields,
        Finer(**{"factor": 2, "halo": 1, "conserve": False, **how}),
        core=CORE,
        new=("c", "r"),
        keys={"t": np.arange(3, dtype=np.uint64)},
        realizations=realizations,
    )


WAYS = {
    "plain": {},
    "closed": {"turn": 360.0},
    "conserved": {"conserve": True, "trim": (1, 1)},
    "all": {
        "turn": 360.0,
        "conserve": True,
        "trim": (0, 1),
        "noise": place,
        "statics": ground,
    },
}


def test_plain_is_the_network_alone(fields):
    x = torch.from_numpy(np.stack(fields, 1))
    got = _apply(fields)
    assert got.dims == ("c", "r", "t", "y", "x")
    np.testing.assert_allclose(got[:, 0].transpose("t", "c", ...), refine(x), atol=1e-6)


def test_closed_sees_across_the_end(fields):
    wide = [f.isel(x=np.r_[-1:40, 0]) for f in fields]
    expected = _apply(wide).isel(x=slice(2, -2))
    np.testing.assert_allclose(_apply(fields, turn=360.0), expected, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tile", [1, 100, 300, 2**17])
@pytest.mark.parametrize(
    "chunks",
    [None, {"t": 1}, {"y": 5, "x": 7}, {"y": 1, "x": 1}, {"t": 2, "y": 4}, {"x": 13}],
)
def test_pieces_leave_no_trace(fields, way, tile, chunks, monkeypatch):
    whole = _apply(fields, realizations=2, **WAYS[way])
    monkeypatch.setattr(finer, "TILE_POINTS", tile)
    cut = fields if chunks is None else [f.chunk(chunks) for f in fields]
    got = _apply(cut, realizations=2, **WAYS[way])
    assert (got.chunks is None) == (chunks is None)
    assert got.shape == whole.shape
    np.testing.assert_allclose(got, whole, atol=1e-6)


def test_a_halo_too_narrow_would_be_seen(fields, monkeypatch):
    whole = _apply(fields)
    monkeypatch.setattr(finer, "TILE_POINTS", 100)
    got = _apply([f.chunk(y=5, x=7) for f in fields], halo=0)
    assert (abs(got - whole) > 1e-5).mean() > 0.01


def test_conserves_the_mean_of_what_is_kept(fields):
    got = _apply(fields, conserve=True, trim=(1, 1))
    assert got.sizes["y"] == 2 * SIZES["y"] - 2
    inner = got.isel(y=slice(1, -1)).coarsen(y=2, x=2).mean()
    ends = got.isel(y=[0, -1]).coarsen(x=2).mean()
    for c, field in enumerate(fields):
        np.testing.assert_allclose(inner[c, 0], field[:, 1:-1], atol=1e-6)
        np.testing.assert_allclose(ends[c, 0], field[:, [0, -1]], atol=1e-6)


def test_tiles_bound_what_the_network_sees(fields, toy, monkeypatch):
    monkeypatch.setattr(finer, "TILE_POINTS", 5 * SIZES["x"])
    _apply(fields, call=Call(KEY, "refine", batch_size=1))
    assert {shape[:2] for shape in toy} == {(1, 2)}
    assert max(shape[2] for shape in toy) == 5 + 2
    assert len(toy) == 5 * 3


def test_small_chunks_become_one_task(fields, toy):
    got = _apply([f.chunk(t=1, y=6, x=8) for f in fields])
    assert got.data.npartitions == 1
    got.compute(scheduler="sync")
    assert toy == [(3, 2, 23, 40)]


def test_each_realization_is_a_task(fields):
    got = _apply([f.chunk() for f in fields], realizations=5, noise=place)
    assert got.chunksizes["r"] == (1,) * 5


def test_one_in_memory_one_lazy_one_in_double(fields):
    u, v = fields
    expected = _apply([u, v])
    got = _apply([u, v.astype(np.float64).chunk(t=1)])
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_nothing_to_do(fields):
    empty = [f.isel(t=slice(0)) for f in fields]
    got = apply_finer(
        Call(KEY, "refine"),
        empty,
        Finer(2, 1),
        core=CORE,
        new=("c", "r"),
        keys={"t": np.zeros(0, np.uint64)},
    )
    assert got.shape == (2, 1, 0, 46, 80)


@pytest.mark.parametrize("chunks", [None, {"y": 5, "x": 7}])
def test_gaps_are_seen_as_far_as_the_halo(fields, chunks, monkeypatch):
    monkeypatch.setattr(finer, "TILE_POINTS", 100)
    holed = [f.copy(deep=True) for f in fields]
    holed[1][2, 0, 39] = np.inf
    cut = holed if chunks is None else [f.chunk(chunks) for f in holed]
    how = {"halo": 2, "turn": 360.0, "conserve": True}
    got = _apply(cut, Call(KEY, "refine", missing="propagate"), **how)
    gone = np.isnan(got).isel(y=slice(None, None, 2), x=slice(None, None, 2))
    expected = np.zeros((2, 1, *SIZES.values()), bool)
    expected[:, :, 2, :3, [37, 38, 39, 0, 1]] = True
    np.testing.assert_array_equal(gone, expected)
    filled = [f.where(np.isfinite(f), 0.0) for f in holed]
    whole = _apply(filled, **how)
    np.testing.assert_allclose(got, whole.where(~np.isnan(got)), atol=1e-6)
    call = Call(KEY, "refine", names=("u", "v"))
    with pytest.raises(errors.MissingValuesError, match="values in v:"):
        _apply(cut, call, **how).compute(scheduler="sync")


def test_out_of_memory_halves_the_batch(fields, monkeypatch):
    original = worker.Loaded.forward
    sizes = []

    def scarce(self, method, batch, kwargs):
        sizes.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
        return original(self, method, batch, kwargs)

    expected = _apply(fields, noise=partial(place))
    monkeypatch.setattr(worker.Loaded, "forward", scarce)
    got = _apply(fields, call=Call(KEY, "refine", batch_size=3), noise=partial(place))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert sizes == [3, 1, 1, 1]
