"""Plans of series, and the network on their pieces: whole, in tiles, in any company."""

from __future__ import annotations

import numpy as np
import pytest

import xatmo
from xatmo.engine import Call, Network, Plan, climate, gaps, run_network
from xatmo.engine.series import fill_series
from xatmo.frames import BLOCK, CONTEXT
from xatmo.infilling.methods import Methods

H, W = 45, 52


def _land(latitude, longitude):
    return np.add.outer(latitude, longitude) % 7 / 7


def _plan(count=12, hours=None, h=H, w=W, **changes):
    return Plan(
        **{
            "name": "u",
            "quantity": "eastward_wind",
            "latitude": 60.0 - np.arange(h),
            "longitude": np.arange(w) * 1.0,
            "hours": 6.0 * np.arange(count) if hours is None else hours,
            "count": count,
            "periodic": False,
            "land": _land,
            **changes,
        }
    )


def _values(plan, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=plan.shape).astype(np.float32).cumsum(1).cumsum(2) / 20
    return np.where(rng.random(plan.shape) < 0.4, np.nan, x)


@pytest.fixture
def network(infiller) -> Network:
    model = xatmo.load_model("tiny-infill")
    call = Call(model.key, "forward", (("level", None),), device="cpu")
    return Network(call, model.card.grid.halo, model.card.grid.stride, radius=16)


def _run(network, plan, values):
    times = np.arange(plan.count)
    return run_network(network, values, times, times, plan, climate(values, plan))


# --- Plans ---------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [1, 5000, 2**21, 2**30])
@pytest.mark.parametrize(
    "hours", [np.arange(50.0), 6.0 * np.delete(np.arange(53), [7, 8, 30])]
)
def test_pieces_hold_what_is_read(monkeypatch, cells, hours):
    monkeypatch.setattr(gaps, "TASK_POINTS", cells)
    plan = _plan(50, hours)
    found = np.concatenate([np.arange(p.start, p.stop) for p in plan.pieces])
    np.testing.assert_array_equal(found, np.arange(50))
    for index, piece in enumerate(plan.pieces):
        at = plan.position[piece]
        blocks = np.unique(at // BLOCK)
        wanted = {
            int(b) * BLOCK + i + shift
            for b in blocks
            for i in range(BLOCK)
            for shift in (*range(-CONTEXT, CONTEXT + 1), -plan.other, plan.other)
        }
        have = set(plan.position[plan.times_of(plan.read_by(index))].tolist())
        assert wanted & set(plan.position.tolist()) <= have


def test_blocks_are_never_cut(monkeypatch):
    monkeypatch.setattr(gaps, "TASK_POINTS", 3 * BLOCK * H * W)
    plan = _plan(40, np.delete(np.arange(44.0), [3, 4, 5, 20]))
    owners = [np.unique(plan.position[p] // BLOCK) for p in plan.pieces]
    blocks = np.concatenate(owners)
    assert len(blocks) == len(np.unique(blocks))
    assert max(map(len, owners)) == 3


# --- The network ---------------------------------------------------------------------


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("points", [1, 4000])
def test_tiles_get_the_numbers_of_the_whole(network, monkeypatch, periodic, points):
    plan = _plan(5, h=61, w=83, periodic=periodic)
    values = _values(plan)
    whole = _run(network, plan, values)
    monkeypatch.setattr(gaps, "TILE_POINTS", points)
    for a, b in zip(_run(network, plan, values), whole, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_a_circle_has_no_seam(network):
    plan = _plan(3, w=96, periodic=True, land=lambda y, x: np.zeros((y.size, x.size)))
    values = _values(plan)
    turned = _run(network, plan, np.roll(values, 32, axis=2))
    for a, b in zip(turned, _run(network, plan, values), strict=True):
        np.testing.assert_allclose(a, np.roll(b, 32, axis=2), atol=2e-5)


def test_blocks_are_alike_in_any_company(network):
    plan = _plan(12)
    values = _values(plan)
    found = climate(values, plan)
    whole = run_network(network, values, np.arange(12), np.arange(12), plan, found)
    part = run_network(network, values, np.arange(12), np.arange(4, 8), plan, found)
    for a, b in zip(part, whole, strict=True):
        np.testing.assert_array_equal(a, b[4:8])


def test_blocks_without_gaps_are_not_run(network):
    from xatmo.testing import count_forwards

    plan = _plan(12)
    values = np.nan_to_num(_values(plan))
    values[5, 3, 3] = np.nan
    with count_forwards() as counted:
        filled, _ = _run(network, plan, values)
    assert counted.calls == 1
    np.testing.assert_array_equal(filled[:4], values[:4])
    assert np.isfinite(filled[5, 3, 3])


def test_beyond_the_radius_there_is_nothing(network):
    plan = _plan(2)
    values = np.full(plan.shape, np.nan, np.float32)
    values[:, 20, 10] = 1.0, 2.0
    filled, spread = _run(network, plan, values)
    near = np.zeros(plan.shape[1:], bool)
    near[4:37, :27] = True
    for x in (filled[0], spread[0]):
        np.testing.assert_array_equal(np.isfinite(x), near)


def test_out_of_memory_halves_the_batch(network, monkeypatch):
    from xatmo.engine import worker

    plan, calls = _plan(24, h=20, w=20), []
    values = _values(plan)
    want = _run(network, plan, values)
    forward = worker.Loaded.forward

    def short(self, method, batch, kwargs):
        calls.append(len(batch))
        if len(batch) > 1:
            raise MemoryError
        return forward(self, method, batch, kwargs)

    monkeypatch.setattr(worker.Loaded, "forward", short)
    monkeypatch.setattr(worker.Loaded, "batch_limit", lambda self, *args: args[-1])
    for a, b in zip(_run(network, plan, values), want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert max(calls) > 1


# --- The graph -----------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 2**30])
def test_pieces_of_a_lazy_series_get_the_same_bits(network, monkeypatch, keep):
    import dask.array as da

    from xatmo.engine import series

    monkeypatch.setattr(gaps, "TASK_POINTS", 1)
    monkeypatch.setattr(series, "_KEEP_BYTES", keep)  # read once, or twice
    plan = _plan(30, np.arange(30.0), h=20, w=24)
    values, recipe = _values(plan), Methods("network", network)
    eager, _ = fill_series(values, plan, recipe, 2)
    for chunks in ((7, 9, 24), (30, 20, 5), (1, 20, 24)):
        lazy, told = fill_series(da.from_array(values, chunks), plan, recipe, 2)
        assert told.shape == (2,)
        np.testing.assert_array_equal(lazy.compute(scheduler="sync"), eager)


def test_same_series_same_name(network):
    import dask.array as da

    values = da.from_array(_values(_plan()), (4, 20, 20), name="x")
    names = [
        fill_series(values, _plan(quantity=q), Methods("network", network), 2)[0].name
        for q in ("eastward_wind", "eastward_wind", None)
    ]
    assert names[0] == names[1] != names[2]
