"""Boxes that cover a domain, what is blended of them, and windows of a series."""

from __future__ import annotations

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest

from xatmo import errors
from xatmo.engine import Call, Domain, Rollout, Windows, over_windows, worker
from xatmo.engine import windows as windows_module
from xatmo.engine.boxes import predict, running, states
from xatmo.engine.rollout import tails_at
from xatmo.engine.tiles import cover, tiles_of
from xatmo.engine.windows import cut_again

_AXES = [
    (8, 8, 4, False),
    (40, 8, 4, False),
    (41, 8, 4, True),
    (40, 8, 4, True),
    (181, 24, 6, False),
    (360, 24, 6, True),
    (13, 12, 9, False),
    (9, 4, 4, False),
    (7, 1, 1, True),
]


@pytest.mark.parametrize(("count", "size", "token", "periodic"), _AXES)
def test_boxes_cover_an_axis_and_weights_add_up(count, size, token, periodic):
    c = cover(count, size, token, periodic)
    total = np.zeros(count)
    for number, weights in enumerate(c.weights):
        for domain, own in c.parts(number):
            total[domain] += weights[own]
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)
    assert (c.weights > 0).all()
    if not periodic:
        assert c.starts[0] == 0
        assert c.starts[-1] + size == count
    ring = [*c.starts, c.starts[0] + count] if periodic else c.starts
    shared = size - np.diff(ring)
    wanted = min(max(size // 2, token), size // 2 if token >= size else size)
    assert (shared >= wanted).all()


def test_an_axis_that_is_shorter_than_a_box():
    c = cover(5, 8, 4)
    assert c.parts(0) == [(slice(0, 5), slice(0, 5))]
    np.testing.assert_allclose(c.weights[0], [1, 1, 1, 1, 1, 0, 0, 0])


def _domain(shape=(20, 24), members=3, channels=1, key=None, **changes) -> Domain:
    latitude = 60.0 - np.arange(shape[0])
    longitude = np.linspace(0, 360, shape[1], endpoint=False)
    call = Call(key, "", names=("u",) * channels)
    known = {
        "call": call,
        "box": (4, 8, 8),
        "token": (4, 4),
        "members": members,
        "latitude": latitude,
        "longitude": longitude,
        "spacing": 1.0,
        "periodic": False,
        "present": (("u", tuple(range(channels))),),
    }
    return Domain(**known | changes)


class _Fake:
    """In place of a network: what it says of each box is up to the test."""

    device = "cpu"

    def __init__(self, says):
        self.says, self.sizes = says, []

    def batch_limit(self, method, core, size):
        return size

    def under_way(self, points):
        return 1

    def submit(self, gather, points):
        return worker.Later(lambda: self.forward(*gather()))

    def forward(self, method, batch, kwargs):
        self.sizes.append(len(batch))
        return self.says(batch, kwargs)


def _all(domain, windows, when, frames, model):
    out = {}
    predict(domain, windows, when, frames, out.__setitem__, model)
    return np.stack([out[i] for i in range(len(windows))])


def _windows(domain, count=2, seed=0):
    rng = np.random.default_rng(seed)
    shape = (count, domain.channels, domain.box[0], *domain.shape)
    x = rng.normal(size=shape).astype(np.float32)
    x[:, :, -1] = np.nan
    when = np.zeros((count, domain.box[0], 3))
    when[..., 0], when[..., 1] = 2020.0, 10.0 + np.arange(count)[:, None]
    return x, when


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("shape", [(20, 24), (5, 24), (20, 3), (8, 8), (21, 25)])
def test_what_boxes_agree_on_is_kept(shape, periodic):
    domain = _domain(shape, periodic=periodic)
    said = np.array([1.0, 5.0, -3.0], np.float32)
    fake = _Fake(
        lambda batch, kw: np.broadcast_to(
            said[None, :, None, None, None, None], (len(batch), 3, 1, 1, 8, 8)
        )
    )
    x, when = _windows(domain)
    out = _all(domain, x, when, 1, fake)
    assert out.shape == (2, 3, 1, 1, *shape)
    for member, value in enumerate(said):
        np.testing.assert_allclose(out[:, member], value, rtol=1e-5)


def test_members_of_other_boxes_do_not_cost_spread():
    """Boxes whose members have nothing in common: averages would be too sure."""
    rng = np.random.default_rng(0)

    def says(batch, kwargs):
        x = rng.normal(size=(len(batch), 16, 1, 1, 8, 8)).astype(np.float32)
        x -= x.mean(1, keepdims=True)
        return 7 + 2 * x / x.std(1, keepdims=True)

    domain = _domain(members=16)
    x, when = _windows(domain, 1)
    out = _all(domain, x, when, 1, _Fake(says))
    np.testing.assert_allclose(out.std(1), 2.0, rtol=1e-4)
    np.testing.assert_allclose(out.mean(1), 7.0, rtol=1e-4)


def test_members_that_agree_stay_what_they_are():
    """Where boxes say the same of each member, so does the blend."""
    rng = np.random.default_rng(0)
    field = rng.normal(size=(3, 1, 1, 20, 24)).astype(np.float32)

    def says(batch, kw):
        rows = (60 - kw["latitude"][:, 0]).astype(int)
        columns = np.round(kw["longitude"][:, 0] / 15).astype(int)
        pairs = zip(rows, columns, strict=True)
        return np.stack([field[..., y : y + 8, x : x + 8] for y, x in pairs])

    domain = _domain()
    x, when = _windows(domain, 1)
    out = _all(domain, x, when, 1, _Fake(says))
    np.testing.assert_allclose(out[0], field, atol=2e-6)


def test_batches_are_full_and_of_one_size():
    domain = _domain()
    domain = replace(domain, call=replace(domain.call, batch_size=7))
    fake = _Fake(lambda batch, kw: np.zeros((len(batch), 3, 1, 1, 8, 8), np.float32))
    x, when = _windows(domain, 3)
    _all(domain, x, when, 1, fake)
    assert set(fake.sizes) == {7}
    assert len(fake.sizes) == -(-3 * len(list(tiles_of(*domain.cover))) // 7)


def test_memory_is_tried_again_with_fewer():
    domain = _domain()
    domain = replace(domain, call=replace(domain.call, batch_size=8))

    def says(batch, kw):
        if len(batch) > 2:
            raise MemoryError
        return np.ones((len(batch), 3, 1, 1, 8, 8), np.float32)

    fake = _Fake(says)
    fake.remember_limit = lambda method, core, size: None
    out = _all(domain, *_windows(domain), 1, fake)
    np.testing.assert_allclose(out, 1.0, rtol=1e-5)


def test_nothing_known_gives_nothing():
    domain = _domain()
    fake = _Fake(lambda batch, kw: np.ones((len(batch), 3, 1, 1, 8, 8), np.float32))
    x, when = _windows(domain)
    x[0] = np.nan
    out = _all(domain, x, when, 1, fake)
    assert np.isnan(out[0]).all()
    assert np.isfinite(out[1]).all()


def test_values_that_are_no_data_are_refused():
    domain = _domain()
    x, when = _windows(domain)
    x[1, 0, 2, 3, 4] = 1e20
    fake = _Fake(lambda batch, kw: np.ones((len(batch), 3, 1, 1, 8, 8), np.float32))
    with pytest.raises(
        errors.MissingValuesError, match=r"(?s)'u'.*no data.*1 of .*mask"
    ):
        _all(domain, x, when, 1, fake)


# --- A network ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(make_box_model):
    return make_box_model("boxes-engine", fields=("u",), levels=(("10 m", 0),))


def _real(model, **changes):
    return _domain(key=model.key, **changes)


def test_one_box_is_the_network_itself(model):
    import torch

    domain = _real(model, shape=(8, 8))
    x, when = _windows(domain)
    with running(domain) as loaded:
        out = _all(domain, x, when, 1, loaded)
    y, lon = (
        torch.tensor(a).float()[None] for a in (domain.latitude, domain.longitude)
    )
    with torch.inference_mode():
        said = model.network().predict(
            torch.from_numpy(x),
            torch.from_numpy(when).float(),
            y.expand(2, -1),
            lon.expand(2, -1),
            1.0,
            frames=1,
        )
    assert said.std(1).mean() > 1e-3
    np.testing.assert_allclose(out, said.numpy(), atol=2e-6)


def test_turning_a_globe_turns_the_result(model):
    """By a multiple of the distance between boxes: the seam is nowhere."""
    domain = _real(model, shape=(12, 24), periodic=True)
    x, when = _windows(domain, 1)
    turned = replace(domain, longitude=np.roll(domain.longitude, 8))
    with running(domain) as loaded:
        a = _all(domain, x, when, 1, loaded)
        b = _all(turned, np.roll(x, 8, -1), when, 1, loaded)
    np.testing.assert_allclose(np.roll(a, 8, -1), b, atol=1e-5)


def test_any_batch_gives_the_same(model):
    domain = _real(model)
    x, when = _windows(domain, 2)
    results = []
    for size in (1, 5, 64):
        one = replace(domain, call=replace(domain.call, batch_size=size))
        with running(one) as loaded:
            results.append(_all(one, x, when, 1, loaded))
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)
    np.testing.assert_allclose(results[0], results[2], atol=1e-5)


def test_a_window_gets_the_same_bits_in_any_company(model):
    domain = _real(model)
    x, when = _windows(domain, 3)
    with running(domain) as loaded:
        together = _all(domain, x, when, 1, loaded)
        alone = _all(domain, x[1:2], when[1:2], 1, loaded)
    np.testing.assert_array_equal(together[1:2], alone)


def test_small_domains_are_filled_up(model):
    domain = _real(model, shape=(5, 7))
    x, when = _windows(domain)
    with running(domain) as loaded:
        out = _all(domain, x, when, 1, loaded)
    assert out.shape == (2, 3, 1, 1, 5, 7)
    assert np.isfinite(out).all()


def test_states_of_one_box_are_the_networks(model):
    import torch

    domain = _real(model, shape=(9, 11))
    x, when = _windows(domain)
    with running(domain) as loaded:
        out = states(domain, x, when, 1, 16, loaded)
    assert out.shape == (2, 2, 2, 16)
    with torch.inference_mode():
        said = model.network().states(
            torch.from_numpy(x[..., :8, :8].copy()),
            torch.from_numpy(when).float(),
            torch.tensor(domain.latitude[None, :8]).float().expand(2, -1),
            torch.tensor(domain.longitude[None, :8]).float().expand(2, -1),
            1.0,
            layer=1,
        )
    np.testing.assert_allclose(out, said.movedim(1, -1).numpy(), atol=1e-5)


# --- Roll-out -------------------------------------------------------------------------


def _rolled(domain, steps, x, when, members=True):
    rollout = Rollout(domain, 1, steps, members)
    frames = x.swapaxes(1, 2).reshape(-1, x.shape[1], *domain.shape)
    windows = Windows([frames], np.arange(len(frames)).reshape(len(x), -1))
    out = np.empty((len(x), *rollout.shape), np.float32)
    rollout(windows, when, out)
    return out


def _long_when(when, extra):
    more = np.repeat(when[:, -1:], extra, 1)
    more[..., 2] = 6.0 * np.arange(1, extra + 1)
    return np.concatenate([when, more], 1)


def test_each_member_goes_on_from_its_own_fields(model):
    domain = _real(model, shape=(8, 12))
    x, when = _windows(domain, 1)
    longer = _long_when(when, 1)
    out = _rolled(domain, (1, 2), x, longer)
    with running(domain) as loaded:
        first = _all(domain, x, when, 1, loaded)[0]
        np.testing.assert_allclose(out[0, :, :, 0], first[:, :, 0], atol=1e-6)
        for member in range(3):
            own = np.concatenate([x[0, :, 1:3], first[member], x[0, :, -1:]], 1)
            tail = tails_at(1, 3)[member]
            then = _all(domain, own[None], longer[:, 1:], 1, loaded)[0, tail]
            np.testing.assert_allclose(out[0, member, :, 1], then[:, 0], atol=1e-6)


def test_another_tail_speaks_at_each_step():
    """Else what is highest once would be so for ever."""
    each = [tails_at(step, 16) for step in (4, 8, 12)]
    for tails in each:
        assert sorted(tails) == list(range(16))
    assert len({tuple(tails) for tails in each}) == 3
    np.testing.assert_array_equal(tails_at(4, 16), each[0])


def test_only_steps_that_are_asked_for(model):
    domain = _real(model, shape=(8, 12))
    x, when = _windows(domain, 2)
    longer = _long_when(when, 2)
    every = _rolled(domain, (1, 2, 3), x, longer)
    last = _rolled(domain, (3,), x, longer)
    np.testing.assert_array_equal(every[:, :, :, 2:], last)
    both = _rolled(domain, (1, 2, 3), x, longer, members=False)
    np.testing.assert_allclose(both[:, 0], every.mean(1), atol=1e-6)
    np.testing.assert_allclose(both[:, 1], every.std(1, ddof=1), atol=1e-6)


# --- Windows --------------------------------------------------------------------------


class _Copy:
    """What windows hold, and how they came."""

    def __call__(self, windows, when, out):
        for i in range(len(windows)):
            out[i] = windows[i] + when[i, 0, 0]

    def __dask_tokenize__(self):
        return "copy"


_INDEX = np.array([[-1, 0, 2], [3, 4, 5], [1, -1, 9], [-1, -1, -1], [9, 0, 4]])


@pytest.mark.parametrize("chunks", [10, 1, 3, (4, 6), (9, 1)])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_windows_are_the_same_in_any_chunks(chunks, batch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10, *batch, 2, 3, 4)).astype(np.float32)
    when = np.arange(5.0)[:, None, None] * np.ones((1, 3, 3))
    lazy = da.from_array(x, chunks=(chunks, *(1,) * len(batch), 1, 2, 3))
    at_once, later = (
        over_windows(a, _INDEX, when, _Copy(), (2, 3, 3, 4)) for a in (x, lazy)
    )
    assert at_once.shape == (5, *batch, 2, 3, 3, 4)
    np.testing.assert_array_equal(at_once, later.compute(scheduler="sync"))
    assert np.isnan(at_once[3]).all()
    first = np.moveaxis(at_once[1], -3, 0)  # frames first
    np.testing.assert_allclose(first, x[3:6] + 1.0)


def test_tasks_are_no_larger_than_memory_allows(monkeypatch):
    x = da.zeros((12, 1, 3, 4), chunks=(6, 1, 3, 4), dtype=np.float32)
    index, when = np.arange(12)[:, None], np.zeros((12, 1, 3))
    assert over_windows(x, index, when, _Copy(), (1, 1, 3, 4)).chunks[0] == (6, 6)
    monkeypatch.setattr(windows_module, "TASK_BYTES", 4 * 12 * 4)
    cut = over_windows(x, index, when, _Copy(), (1, 1, 3, 4))
    assert cut.chunks[0] == (3, 3, 3, 3)


def test_cut_again():
    assert cut_again((4, 4, 4), 10) == (4, 4, 2)
    assert cut_again((4, 4, 4), 3) == (3,)
