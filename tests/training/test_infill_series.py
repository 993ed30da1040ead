"""Pieces of series with gaps: what a network that fills them learns from."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo.frames import BLOCK, CHANNELS, CONTEXT
from xatmo.testing import synthetic_winds
from xatmo.testing.gaps import FAMILIES
from xatmo.training.infill.random_fields import random_series
from xatmo.training.infill.recipe import Gaps
from xatmo.training.infill.series import Piece, SeriesSampler, draw_gaps, hide
from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import Source
from xatmo.training.sampling import FieldStore

PATCH = (32, 32)
WINDS = ("eastward_wind", "northward_wind")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    ds = synthetic_winds(24, np.arange(60.0, 10.0, -1.0), np.arange(0.0, 60.0))
    ds.to_netcdf(folder / "winds.nc")
    source = Source(str(folder / "winds.nc"), quantities=WINDS)
    return [FieldStore(prepare_source(source, WINDS, folder / "data"))]


def sampler(stores, plain=False, **options):
    settings = Gaps(patch=PATCH, times=16, **options)
    return SeriesSampler(stores, [1.0], settings, seed=1, plain=plain)


@pytest.fixture
def piece():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 20, *PATCH)).astype(np.float32) + 5
    latitude, land = np.linspace(60, 30, PATCH[0]), np.zeros(PATCH, np.float32)
    return Piece(x, 6.0 * np.arange(20), latitude, land, WINDS, 1.0)


class TestSampler:
    def test_a_batch_belongs_to_its_number(self, stores):
        first, again = (vars(sampler(stores).batch(3, 8)) for _ in range(2))
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])
        other = sampler(stores).batch(4, 8)
        assert not np.array_equal(first["frames"], other.frames)

    def test_parts_make_the_whole(self, stores):
        draws = sampler(stores)
        whole = draws.batch(2, 8)
        parts = [draws.batch(2, 8, part=(i, 2)).truth for i in range(2)]
        np.testing.assert_array_equal(np.concatenate(parts), whole.truth)

    def test_shapes_and_numbers(self, stores):
        batch = sampler(stores, random=0.5).batch(0, 24)
        assert batch.frames.shape == (24, CHANNELS, *PATCH)
        assert batch.truth.shape == batch.hidden.shape == (24, BLOCK, *PATCH)
        for values in vars(batch).values():
            assert np.isfinite(values).all()
        assert set(np.unique(batch.hidden)) == {0.0, 1.0}

    def test_what_is_hidden_is_not_read(self, stores):
        batch = sampler(stores).batch(1, 24)
        count = (CHANNELS - 5) // 2
        block = slice(CONTEXT, CONTEXT + BLOCK)
        masks = batch.frames[:, count : 2 * count][:, block]
        values = batch.frames[:, :count][:, block]
        hidden = batch.hidden > 0
        assert not masks[hidden].any()
        assert not values[hidden].any()
        seen = masks > 0
        np.testing.assert_allclose(values[seen], batch.truth[seen], rtol=1e-6)

    def test_physical_units_come_back(self, stores):
        batch = sampler(stores, plain=True).batch(0, 8)
        scale = batch.scale[:, None, None, None]
        winds = batch.base + scale * batch.truth
        assert 1.0 < winds[batch.hidden > 0].std() < 30.0

    def test_validation_takes_the_families_in_turn(self, stores):
        draws = sampler(stores, plain=True)
        holes = draws.pair(FAMILIES.index("centre_hole")).hidden
        assert (holes == holes[:, :1]).all()  # the same at all times of the block
        lost = draws.pair(FAMILIES.index("missing_times")).hidden.mean((2, 3))
        assert set(np.unique(lost)) <= {0.0, 1.0}

    def test_a_winds_pair_is_marked(self, stores):
        batch = sampler(stores, unnamed=0.0, regional=0.0, coarse=0.0).batch(0, 48)
        assert batch.winds.any()
        assert (batch.winds[::2] == batch.winds[1::2]).all()
        assert (batch.spacing[batch.winds] == 1.0).all()

    def test_without_a_name_it_is_just_a_quantity(self, stores):
        batch = sampler(stores, unnamed=1.0, random=0.0).batch(0, 24)
        assert not batch.about[:, 2:].any()
        assert not batch.winds.any()


class TestHide:
    def test_two_winds_have_the_same_gaps(self, piece):
        gaps = draw_gaps(np.random.default_rng(0), piece.values.shape[1:], "clouds")
        batch = hide(np.random.default_rng(1), piece, gaps, PATCH)
        np.testing.assert_array_equal(batch.hidden[0], batch.hidden[1])
        assert batch.winds.all()

    def test_small_pieces_lie_in_a_corner(self, piece):
        small = piece._replace(
            values=piece.values[:1, :, :20, :24],
            latitude=piece.latitude[:20],
            land=piece.land[:20, :24],
            quantities=(None,),
        )
        gaps = np.zeros((20, 20, 24), bool)
        gaps[:, 5:9] = True
        batch = hide(np.random.default_rng(1), small, gaps, PATCH)
        assert batch.frames[:, -1, :20, :24].all()
        assert not batch.frames[:, :, 20:].any()
        assert not batch.frames[:, :, :, 24:].any()
        assert batch.hidden.sum() == 2 * BLOCK * 4 * 24

    def test_own_gaps_are_no_truth(self, piece):
        values = piece.values.copy()
        values[0, :, :, :10] = np.nan
        gaps = np.ones((20, *PATCH), bool)
        gaps[::2] = False
        batch = hide(
            np.random.default_rng(1), piece._replace(values=values), gaps, PATCH
        )
        assert not batch.hidden[0, ..., :10].any()
        assert batch.hidden[0, ..., 10:].any()
        assert not batch.winds.any()


class TestGaps:
    @pytest.mark.parametrize("family", [None, *FAMILIES])
    @pytest.mark.parametrize("times", [1, 12])
    def test_can_be_drawn_for_any_number_of_times(self, family, times):
        rng = np.random.default_rng(0)
        for _ in range(10):
            gaps = draw_gaps(rng, (times, 30, 40), family)
            assert gaps.shape == (times, 30, 40)
            assert not gaps.all()


class TestRandomSeries:
    def test_is_seeded_and_red(self):
        land = np.zeros((48, 64))
        land[:, 30:] = 1.0
        one, two = (
            random_series(np.random.default_rng(seed), 24, land, 1.0) for seed in (0, 0)
        )
        np.testing.assert_array_equal(one, two)
        assert one.shape == (24, 48, 64)
        assert np.isfinite(one).all()
        steps = np.diff(one, axis=2).std(), np.diff(one, axis=0).std()
        assert max(steps) < one.std()

    def test_days_differ_over_land(self):
        land = np.zeros((32, 64))
        land[:, 32:] = 1.0
        ratios = []
        for seed in range(8):
            x = random_series(np.random.default_rng(seed), 96, land, 1.0)
            by_hour = xr.DataArray(x.reshape(4, 24, 32, 64)).mean("dim_0").values
            cycle = by_hour.std(0)
            ratios.append(cycle[:, 32:].mean() / cycle[:, :32].mean())
        assert np.median(ratios) > 1.1
