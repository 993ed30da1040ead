"""Pairs are drawn as the paper draws them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.training.prepare import fit_normalization, prepare_source
from xatmo.training.recipe import Sampling, Source
from xatmo.training.sampling import FieldStore, PairSampler

QUANTITIES = ("divergence_of_wind", "atmosphere_relative_vorticity")
SAMPLING = Sampling(6, 3, (16, 16), 50.0, mirror=False)


@pytest.fixture(scope="module")
def store_path(winds_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    return prepare_source(Source(str(winds_file)), QUANTITIES, folder)


@pytest.fixture(scope="module")
def store(store_path):
    return FieldStore(store_path)


def _sampler(store, sampling=SAMPLING, seed=1):
    return PairSampler([store], [1.0], [store.level], sampling, seed)


def test_prepared_fields_are_what_fields_reads(store, winds_file):
    from xatmo.fields import read

    with xr.open_dataset(winds_file) as ds:
        expected = read(ds, QUANTITIES).data[QUANTITIES[1]]
    np.testing.assert_allclose(store.fields[5][1], expected[5], rtol=1e-5, atol=1e-9)
    assert store.latitude[0] == 90
    assert store.periodic
    assert store.level == "10 m"


def test_prepared_once(winds_file, tmp_path):
    source = Source(str(winds_file))
    first = prepare_source(source, QUANTITIES, tmp_path)
    stamp = first.stat().st_mtime_ns
    assert prepare_source(source, QUANTITIES, tmp_path).stat().st_mtime_ns == stamp
    other = prepare_source(Source(str(winds_file), coarsen=2), QUANTITIES, tmp_path)
    assert other != first


def test_same_number_same_batch(store):
    a, b = _sampler(store).batch(7, 32), _sampler(store).batch(7, 32)
    np.testing.assert_array_equal(a.first, b.first)
    assert not np.array_equal(a.label, _sampler(store).batch(8, 32).label)


def test_labels_are_balanced(store):
    labels = np.concatenate([_sampler(store).batch(i, 500).label for i in range(6)])
    counts = np.bincount(labels, minlength=3)
    assert counts.min() > 0.9 * len(labels) / 3


def test_pairs_are_ordered_and_as_far_apart_as_they_say(store):
    """Found again in the store, the second patch lies label + 1 steps later."""
    batch = _sampler(store).batch(0, 40)
    fields = np.asarray(store.fields)  # (t, c, y, x)
    closed = np.concatenate([fields, fields[..., :15]], axis=-1)
    for first, second, label in zip(
        batch.first, batch.second, batch.label, strict=True
    ):
        corner = np.argwhere(closed[:, 1] == first[1, 0, 0])
        times = [
            t
            for t, y, x in corner
            if np.array_equal(closed[t, :, y : y + 16, x : x + 16], first)
        ]
        after = [
            t
            for t, y, x in np.argwhere(closed[:, 1] == second[1, 0, 0])
            if np.array_equal(closed[t, :, y : y + 16, x : x + 16], second)
        ]
        assert label + 1 in {b - a for a in times for b in after}


def test_centres_stay_within_the_limit(store):
    latitude = np.concatenate(
        [_sampler(store).batch(i, 200).latitude for i in range(5)]
    )
    assert np.abs(latitude).max() <= 50
    assert np.abs(latitude).max() > 46


def test_longitudes_wrap(store):
    window = store.window(0, 10, 115, 16, 16)
    field = np.asarray(store.fields[0])
    np.testing.assert_array_equal(window[:, :, 5:], field[:, 10:26, :11])


def test_mirror_turns_rows_and_the_sign_of_vorticity(store):
    plain = _sampler(store).batch(3, 64)
    mirrored = _sampler(store, Sampling(6, 3, (16, 16), 50.0, mirror=True)).batch(3, 64)
    turned = plain.latitude != mirrored.latitude
    assert 16 < turned.sum() < 48
    x, y = plain.first[turned], mirrored.first[turned]
    np.testing.assert_array_equal(x[:, 0, ::-1], y[:, 0])
    np.testing.assert_array_equal(-x[:, 1, ::-1], y[:, 1])
    np.testing.assert_array_equal(plain.first[~turned], mirrored.first[~turned])


def test_missing_times_make_no_pair(winds_file, tmp_path):
    with xr.open_dataset(winds_file) as ds:
        gap = ds.drop_isel(time=[4, 9])
        gap.to_netcdf(tmp_path / "gap.nc")
    path = prepare_source(Source(str(tmp_path / "gap.nc")), QUANTITIES, tmp_path)
    store = FieldStore(path)
    pairs = store.starts(6 * 3600)
    assert len(pairs) == 31 - 4
    assert np.all(store.times[pairs[:, 1]] - store.times[pairs[:, 0]] == 6 * 3600)


def test_triplets_share_their_first_state(store):
    triplet = _sampler(store).triplets(0, 16)
    assert (triplet.lags[:, 0] < triplet.lags[:, 1]).all()
    assert not np.array_equal(triplet.fields[1], triplet.fields[2])


def test_small_cache_streams_the_same_numbers(store_path, store):
    small = FieldStore(store_path, cache_bytes=1)
    assert small._capacity == 2
    a, b = _sampler(store).batch(0, 64), _sampler(small).batch(0, 64)
    np.testing.assert_array_equal(a.second, b.second)
    assert len(small._cache) == 2


def test_normalisation_constants(store, store_path):
    import torch

    from xatmo.nets.normalization import SignLog

    constants = fit_normalization([store_path], 0.2)
    x = torch.from_numpy(np.asarray(store.fields))
    y = SignLog(**constants, alpha=0.2)(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.std((0, 2, 3)), torch.ones(2), atol=1e-3, rtol=0)


def test_a_series_too_short_for_the_lags(store):
    with pytest.raises(
        errors.TimeAxisError, match=r"(?s)No two times.*192, 198 h apart.*32 times"
    ):
        _sampler(store, Sampling(6, 33, (16, 16), 50.0))
