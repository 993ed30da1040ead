"""Windows of a series that are filled and put together again."""

from __future__ import annotations

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest

from xatmo import errors
from xatmo.engine import Call, Domain, windows
from xatmo.engine import series_of_boxes as module
from xatmo.engine.series_of_boxes import Spans, fill_spans, half_shared
from xatmo.testing import count_forwards


@pytest.fixture(scope="module")
def model(make_box_model):
    return make_box_model("boxes-series", fields=("u",), levels=(("10 m", 0),))


@pytest.fixture
def domain(model) -> Domain:
    return _domain(model, (8, 8))


def _domain(model, shape, **changes) -> Domain:
    known = Domain(
        call=Call(model.key, "", names=("u",)),
        box=(4, 8, 8),
        token=(4, 4),
        members=3,
        latitude=60.0 - np.arange(shape[0]),
        longitude=10.0 + np.arange(shape[1]),
        spacing=1.0,
        periodic=False,
        present=(("u", (0,)),),
    )
    return replace(known, **changes)


def _spans(count, starts=None, missing=(), size=4) -> Spans:
    """Windows on a series of so many times, some of which are not there."""
    starts = half_shared(count, size) if starts is None else np.asarray(starts)
    position = starts[:, None] + np.arange(size)
    there = np.setdiff1d(np.arange(count), missing)
    at = np.minimum(np.searchsorted(there, position), there.size - 1)
    index = np.where(there[at] == position, at, -1)
    when = np.zeros((*position.shape, 3))
    when[..., 0], when[..., 1] = 2020, position // 4
    when[..., 2] = 6.0 * (position % 4)
    return Spans.of(index, when, index)


def _series(count, shape, *batch, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, *batch, 1, *shape)).astype(np.float32)


def _said(model, domain, x, when):
    """The network itself on one box (T, C, y, x): mean and spread, (T, C, y, x)."""
    import torch

    with torch.inference_mode():
        members = model.network().predict(
            torch.from_numpy(x.swapaxes(0, 1)[None].copy()),
            torch.from_numpy(when[None]).float(),
            torch.tensor(domain.latitude[None]).float(),
            torch.tensor(domain.longitude[None]).float(),
            domain.spacing,
        )[0]
    members = members.numpy().swapaxes(1, 2)
    return members.mean(0), members.std(0, ddof=1)


# --- Where windows are ----------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6])
@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 24, 25])
def test_windows_share_half_of_their_times(count, size):
    starts = half_shared(count, size)
    assert starts[0] == 0
    assert starts[-1] == max(count - size, 0)
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= max(1, size // 2)).all()


def test_early_windows_stay_where_they_are():
    short, long = half_shared(20, 6), half_shared(50, 6)
    np.testing.assert_array_equal(short[:-1], long[: len(short) - 1])


def test_windows_that_are_of_no_use_are_left_out():
    spans = _spans(40, missing=range(4, 30))
    assert (spans.index >= 0).any(1).all()
    assert len(spans.index) == 7
    none = Spans.of(spans.index, spans.when, np.full_like(spans.index, -1))
    assert len(none.index) == 0


def test_where_times_are_found_again():
    spans = _spans(9)
    where, weights = spans.table(9)
    assert where.shape == weights.shape == (9, 3)
    for time in range(9):
        held = where[time][where[time] >= 0]
        assert (spans.target.ravel()[held] == time).all()
        assert held.size == (spans.target == time).sum()
        np.testing.assert_array_equal(weights[time] > 0, where[time] >= 0)


def test_windows_belong_to_the_chunk_where_they_begin():
    spans = _spans(9)  # they begin at 0, 2, 4 and 5
    assert spans.chunks((1,) * 9) == (1, 0, 1, 0, 1, 1, 0, 0, 0)
    assert spans.chunks((4, 5)) == (2, 2)


# --- What is said of them -------------------------------------------------------------


def test_one_window_of_one_box_is_the_network_itself(model, domain):
    x = _series(4, (8, 8))
    x[1:3, :, 2:7, 3:5] = np.nan
    spans = _spans(4)
    got = fill_spans(x, spans, domain, 4)
    assert got.shape == (4, 2, 1, 8, 8)
    mean, spread = _said(model, domain, x, spans.when[0])
    assert np.isfinite(got[:, 0][np.isnan(x)]).all()
    assert spread[np.isnan(x)].mean() > 1e-3
    np.testing.assert_allclose(got[:, 0], mean, atol=2e-6)
    np.testing.assert_allclose(got[:, 1], spread, atol=2e-6)


def test_times_are_means_of_the_windows_that_hold_them(model, domain):
    x = _series(6, (8, 8))
    x[3] = np.nan
    spans = _spans(6)  # from 0 and from 2
    got = fill_spans(x, spans, domain, 6)[3]
    first = _said(model, domain, x[:4], spans.when[0])
    then = _said(model, domain, x[2:], spans.when[1])
    last, second = (np.sin(np.pi * at / 4) ** 2 for at in (3.5, 1.5))
    for moment, (a, b) in enumerate(zip(first, then, strict=True)):
        expected = (last * a[3] + second * b[1]) / (last + second)
        np.testing.assert_allclose(got[moment], expected, atol=2e-6)


def test_a_series_shorter_than_a_box(model, domain):
    x = _series(2, (8, 8))
    x[1, :, :4] = np.nan
    spans = _spans(2)
    assert spans.index.tolist() == [[0, 1, -1, -1]]
    got = fill_spans(x, spans, domain, 2)
    padded = np.concatenate([x, np.full_like(x, np.nan)])
    mean, _ = _said(model, domain, padded, spans.when[0])
    np.testing.assert_allclose(got[:, 0][np.isnan(x)], mean[:2][np.isnan(x)], atol=2e-6)


def test_times_that_are_not_there_are_gaps(model, domain):
    """Left out, or all NaN: the same."""
    x = _series(4, (8, 8))
    x[0, :, :3] = x[2] = np.nan
    whole = fill_spans(x, _spans(4), domain, 4)
    left = fill_spans(x[[0, 1, 3]], _spans(4, missing=[2]), domain, 3)
    np.testing.assert_allclose(left[0], whole[0], atol=2e-6)


def test_windows_that_see_nothing_do_not_count(model, domain):
    x = _series(9, (8, 8))
    x[:4] = np.nan
    got = fill_spans(x, _spans(9), domain, 9)[:, 0]
    assert np.isnan(got[:2]).all()  # only in a window of nothing
    assert np.isfinite(got[2:4]).all()


def test_a_single_member_has_no_spread(make_box_model):
    one = {"fields": ("u",), "levels": (("10 m", 0),), "members": 1}
    domain = _domain(make_box_model("boxes-single", **one), (8, 8), members=1)
    x = _series(4, (8, 8))
    x[1] = np.nan
    got = fill_spans(x, _spans(4), domain, 4)
    assert np.isfinite(got[1, 0]).all()
    assert np.isnan(got[1, 1]).all()


# --- Several boxes --------------------------------------------------------------------


def test_boxes_of_which_nothing_is_known_say_nothing(model):
    """And those beside them are not mixed with what they might say."""
    domain = _domain(model, (8, 32))
    x = _series(4, (8, 32))
    x[..., 8:] = np.nan
    got = fill_spans(x, _spans(4), domain, 4)[:, 0]
    # Boxes begin every four columns; that at 4 is the last that knows something.
    assert np.isfinite(got[..., 8:12]).all()
    assert np.isnan(got[..., 12:]).all()
    part = _domain(model, (8, 12))
    own = fill_spans(x[..., :12], _spans(4), part, 4)[:, 0]
    np.testing.assert_allclose(got[..., 8:12], own[..., 8:12], atol=2e-6)


def test_only_boxes_with_gaps_cost_anything(model):
    domain = _domain(model, (8, 32))
    domain = replace(domain, call=replace(domain.call, batch_size=1))
    x = _series(12, (8, 32))
    with count_forwards() as forwards:
        got = fill_spans(x, _spans(12), domain, 12)
    assert forwards.fields == 0
    assert np.isnan(got).all()
    x[1, 0, 3, 2] = np.nan
    with count_forwards() as forwards:
        got = fill_spans(x, _spans(12), domain, 12)
    assert forwards.fields == 1  # one window, one box
    assert np.isfinite(got[1, :, 0, 3, 2]).all()


def test_only_what_is_wanted_costs_anything(domain):
    x = _series(12, (8, 8))
    x[3:5] = np.nan
    spans = _spans(12)
    target = np.where(spans.index == 3, 0, -1)
    some = Spans.of(spans.index, spans.when, target)
    assert len(some.index) == 2
    with count_forwards() as forwards:
        got = fill_spans(x, some, domain, 1)
    assert forwards.calls > 0
    whole = fill_spans(x, spans, domain, 12)
    np.testing.assert_allclose(got[0], whole[3], atol=2e-6)


def test_what_is_no_data_is_refused_wherever_it_is(domain):
    x = _series(12, (8, 8))
    x[0, 0, 1, 1], x[11, 0, 2, 2] = np.nan, 9e36
    with pytest.raises(errors.MissingValuesError, match=r"(?s)'u'.*no data"):
        fill_spans(x, _spans(12), domain, 12)


# --- Lazy and in pieces ---------------------------------------------------------------


@pytest.fixture(scope="module")
def gappy():
    x = _series(11, (8, 12), 2)
    rng = np.random.default_rng(1)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[5:7, 0] = np.nan
    x[:, 1, ..., :8] = np.nan
    return x


@pytest.mark.parametrize("chunks", [1, 3, 4, 11, (6, 5)])
@pytest.mark.parametrize("inner", [(1, 1, 8, 12), (2, 1, 3, 5)])
def test_the_same_in_any_chunks(model, gappy, chunks, inner):
    domain, spans = _domain(model, (8, 12)), _spans(11)
    lazy = da.from_array(gappy, chunks=(chunks, *inner))
    got = fill_spans(lazy, spans, domain, 11, lazy.chunks[0])
    assert got.chunks[0] == lazy.chunks[0]
    eager = fill_spans(gappy, spans, domain, 11)
    np.testing.assert_allclose(got.compute(scheduler="sync"), eager, atol=1e-5)


def test_the_same_in_small_pieces_of_memory(model, gappy, monkeypatch):
    domain, spans = _domain(model, (8, 12)), _spans(11)
    whole = fill_spans(gappy, spans, domain, 11)
    for place in (module, windows):
        monkeypatch.setattr(place, "TASK_BYTES", 1)
    pieces = fill_spans(gappy, spans, domain, 11)
    np.testing.assert_allclose(pieces, whole, atol=1e-5)
    lazy = fill_spans(da.from_array(gappy, chunks=-1), spans, domain, 11, (11,))
    assert max(lazy.chunks[0]) == 1
    np.testing.assert_allclose(lazy.compute(scheduler="sync"), whole, atol=1e-5)


def test_a_part_needs_only_the_windows_around_it(model):
    """A month from the middle of a long series does not read all of it."""
    seen = []

    def read(block, block_info=None):
        seen.append(block_info[None]["chunk-location"][0])
        return block

    x = da.from_array(_series(40, (8, 8)), chunks=(4, 1, 8, 8))
    lazy = da.where(x > 2, np.nan, x).map_blocks(read, dtype=np.float32)
    seen.clear()  # what was asked of an empty block
    domain = _domain(model, (8, 8))
    got = fill_spans(lazy, _spans(40), domain, 40, lazy.chunks[0])
    got[20:24].compute(scheduler="sync")
    assert set(seen) <= {4, 5, 6}
