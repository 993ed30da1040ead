"""A stream reads little, and draws what random access draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy.stats import chisquare

from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import Optimizer, Sampling, Source
from xatmo.training.sampling import FieldStore, PairSampler, open_stores
from xatmo.training.stream import stream

QUANTITIES = ("divergence_of_wind", "atmosphere_relative_vorticity")
SAMPLING = Sampling(
    6, 4, (16, 16), 50.0, order="stream", patches_per_field=10, shuffle_buffer=200
)


@pytest.fixture(scope="module")
def path(winds_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    return prepare_source(Source(str(winds_file)), QUANTITIES, folder)


def _sampler(path, sampling=SAMPLING, cache_bytes=1):
    store = FieldStore(path, cache_bytes)
    return PairSampler([store], [1.0], [store.level], sampling, seed=3)


def _same(a, b):
    for name, value in vars(a).items():
        np.testing.assert_array_equal(value, getattr(b, name), err_msg=name)


def test_reads_two_fields_for_many_pairs(path):
    """With room for two fields only, 1600 pairs cost 2 reads in 10, not 2 in 1."""
    sampler = _sampler(path)
    assert sampler.stores[0]._capacity == 2
    assert sum(len(b.label) for b in stream(sampler, (0,), 10, 160)) == 1600
    streamed = sampler.stores[0].reads
    assert streamed <= 2 * 1600 / 10
    at_random = _sampler(path)
    for number in range(10):
        at_random.batch(number, 160)
    assert at_random.stores[0].reads > 8 * streamed


def test_the_same_key_gives_the_same_batches(path):
    first = list(stream(_sampler(path), (5,), 3, 32))
    for a, b in zip(first, stream(_sampler(path), (5,), 3, 32), strict=True):
        _same(a, b)
    other = next(stream(_sampler(path), (6,), 3, 32))
    assert not np.array_equal(first[0].first, other.first)


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_share_every_batch(path, processes):
    """The parts are disjoint; together they are the batch of a single process."""
    size = 24
    parts = [
        list(stream(_sampler(path), (0,), 2, size, (i, processes)))
        for i in range(processes)
    ]
    for n, whole in enumerate(stream(_sampler(path), (0,), 2, size)):
        joined = np.concatenate([part[n].first for part in parts])
        assert joined.shape == whole.first.shape
        if 8 % processes == 0:  # three processes cannot share eight lanes
            np.testing.assert_array_equal(joined, whole.first)
    for n in range(4):
        whole = _sampler(path).batch(n, size)
        halves = [_sampler(path).batch(n, size, (i, 3)).label for i in range(3)]
        np.testing.assert_array_equal(np.concatenate(halves), whole.label)


@pytest.mark.parametrize("order", ["stream", "random"])
def test_lags_places_and_times_are_drawn_alike(path, order):
    """Chi-square tests of lags, rows, columns and times at a fixed seed."""
    sampler = _sampler(path, replace(SAMPLING, patches_per_field=2), 2**30)
    pairs = []
    sampler.cut = lambda pair: pairs.append(pair) or (0.0, 0.0)  # type: ignore
    if order == "stream":
        for _ in stream(sampler, (1,), 60, 200):
            pass
    else:
        for number in range(60):
            sampler.batch(number, 200)
    assert len(pairs) == 12_000
    assert all(p.after - p.before == p.label + 1 for p in pairs)
    low, high = sampler.rows[0]
    assert {p.row for p in pairs} == set(range(low, high))
    for drawn, possible in (
        ([p.label for p in pairs], 4),
        ([p.row - low for p in pairs], high - low),
        ([p.column for p in pairs], 120),
        ([p.mirrored for p in pairs], 2),
        ([p.before for p in pairs if p.label == 0], 31),
    ):
        counts = np.bincount(drawn, minlength=possible)
        assert counts.size == possible
        assert chisquare(counts).pvalue > 1e-3


def test_pairs_are_shuffled(path):
    """Neighbours in a batch are of different times, and no pair comes twice."""
    batches = list(stream(_sampler(path), (2,), 6, 64))
    patches = np.concatenate([b.first for b in batches]).reshape(6 * 64, -1)
    assert len(np.unique(patches, axis=0)) > 0.95 * len(patches)
    counts = np.array([np.bincount(b.label, minlength=4) for b in batches])
    assert counts.min() > 4


def test_patches_are_what_random_access_reads(path):
    batch = next(stream(_sampler(path, replace(SAMPLING, mirror=False)), (0,), 1, 16))
    fields = np.asarray(_sampler(path).stores[0].fields)
    closed = np.concatenate([fields, fields[..., :15]], axis=-1)
    windows = np.lib.stride_tricks.sliding_window_view(closed, (16, 16), (2, 3))
    for first, second, label in zip(
        batch.first, batch.second, batch.label, strict=True
    ):
        t, y, x = np.argwhere(closed[:, 1, :46, :120] == first[1, 0, 0])[0]
        np.testing.assert_array_equal(windows[t, :, y, x], first)
        np.testing.assert_array_equal(windows[t + label + 1, :, y, x], second)


def test_streams_only_what_exceeds_the_memory(path):
    auto = replace(SAMPLING, order="auto")
    assert not _sampler(path, auto).streams
    assert _sampler(path, replace(auto, cache_mb=0)).streams
    assert _sampler(path).streams
    assert not _sampler(path, replace(SAMPLING, order="random")).streams


def test_stores_share_the_memory(path):
    stores = open_stores([path, path], cache_mb=1)
    slice_bytes = stores[0].nbytes / stores[0].times.size
    assert sum(s._capacity * slice_bytes for s in stores) <= 2**20


def test_a_gap_in_the_series_costs_no_lag_its_share(winds_file, tmp_path):
    with xr.open_dataset(winds_file) as ds:
        ds.drop_isel(time=[7, 8, 20]).to_netcdf(tmp_path / "gap.nc")
    path = prepare_source(Source(str(tmp_path / "gap.nc")), QUANTITIES, tmp_path)
    sampler = _sampler(path)
    labels = np.concatenate([b.label for b in stream(sampler, (0,), 10, 160)])
    assert np.bincount(labels).tolist() == [400] * 4


def test_the_warm_start_streams_a_fixed_subset(path):
    from xatmo.training.data import PairData

    settings = Optimizer(batch_size=8, steps_per_epoch=5, warm_pairs=16, warm_epochs=2)
    warm = list(PairData(_sampler(path), None, settings).train_dataloader())
    assert len(warm) == 5
    np.testing.assert_array_equal(warm[0]["first"], warm[2]["first"])
    np.testing.assert_array_equal(warm[1]["first"], warm[3]["first"])
    assert not np.array_equal(warm[0]["first"], warm[1]["first"])
