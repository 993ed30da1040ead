"""What a network reads of a series with gaps."""

from __future__ import annotations

import numpy as np
import pytest

from xatmo.climatology import Moments, background, moments, phases, smooth_fill
from xatmo.frames import (
    ABOUT,
    BLOCK,
    CHANNELS,
    CONTEXT,
    STATICS,
    about,
    frames,
    neighbours,
    positions,
    statics,
)

HOURS = np.arange(0.0, 240.0, 6.0)


@pytest.fixture
def series():
    """40 times of a map with a climate, a cycle of the day, and weather."""
    rng = np.random.default_rng(0)
    climate = 280 + 10 * rng.standard_normal((6, 8))
    day = 3 * np.cos(2 * np.pi * HOURS / 24)[:, None, None]
    return (climate + day + rng.standard_normal((40, 6, 8))).astype(np.float32)


def climatology(series, hours, **options):
    phase = phases(hours, len(series))
    return background(moments(series, phase, phase.max() + 1), len(series), **options)


class TestPhases:
    def test_hours_of_the_day_are_told_apart(self):
        assert phases(HOURS, 40).tolist() == [0, 1, 2, 3] * 10

    def test_a_cycle_that_is_hardly_seen_is_none(self):
        assert not phases(HOURS[:10], 10).any()
        assert not phases(None, 40).any()

    def test_half_hours_past_midnight_are_hours_too(self):
        late = np.arange(0.5, 96.5, 12.0)
        assert phases(late, 8).tolist() == [0, 1] * 4


class TestPositions:
    def test_a_missing_time_leaves_its_number_out(self):
        assert positions(np.delete(HOURS, [3, 4]), 38).tolist() == [
            *range(3),
            *range(5, 40),
        ]

    @pytest.mark.parametrize(
        "hours", [None, np.cumsum(np.random.default_rng(1).uniform(1, 9, 20))]
    )
    def test_irregular_times_are_counted(self, hours):
        assert positions(hours, 20).tolist() == list(range(20))

    def test_two_seasons_are_no_series_with_a_hole(self):
        hours = np.concatenate([HOURS, 8760 + HOURS])
        assert positions(hours, 80).tolist() == list(range(80))


class TestNeighbours:
    @pytest.mark.parametrize(
        ("step", "steps"), [(1.0, 24), (3.0, 8), (6.0, 8), (12.0, 6), (24.0, 6)]
    )
    def test_are_whole_days_beyond_what_is_read_anyway(self, step, steps):
        assert neighbours(step * np.arange(30)) == steps
        assert steps * step % 24 == 0

    def test_irregular_or_unknown_times_have_some_too(self):
        assert neighbours(None) == neighbours(5.0 * np.arange(9)) == CONTEXT + 2


class TestBackground:
    def test_parts_of_a_series_add_up(self, series):
        series[3:9, 2:4] = np.nan
        phase = phases(HOURS, 40)
        parts = [
            moments(series[part], phase[part], 4, offset=280.0)
            for part in (slice(0, 7), slice(7, 40))
        ]
        whole = moments(series, phase, 4, offset=280.0)
        added = parts[0] + parts[1]
        for name in ("count", "total", "squares"):
            np.testing.assert_allclose(
                getattr(added, name), getattr(whole, name), rtol=1e-12
            )

    def test_is_what_lasts(self, series):
        """Climate and cycle are large: nearly all of the means is kept."""
        found = climatology(series, HOURS)
        mean, of_hour = series.mean(0), series[1::4].mean(0)
        wanted = mean + 10 / 13 * (of_hour - mean)
        np.testing.assert_allclose(found.base[1], wanted, atol=0.4)
        np.testing.assert_allclose(found.known, 40 / 48, rtol=1e-6)

    def test_is_not_the_weather_of_a_short_series(self):
        """Without climate or cycle, what cells differ by is chance."""
        weather = np.random.default_rng(0).standard_normal((40, 32, 32)) + 7
        found = climatology(weather.astype(np.float32), HOURS)
        assert weather.mean(0).std() > 0.1
        assert found.base.std() < 0.05
        np.testing.assert_allclose(found.base.mean(), 7, atol=0.05)

    def test_large_scales_are_kept_where_small_ones_are_not(self):
        rng = np.random.default_rng(0)
        climate = 2.0 * np.arange(32)[:, None] * np.ones((32, 32))
        x = climate + 3.0 * rng.standard_normal((12, 32, 32))
        found = climatology(x.astype(np.float32), None)
        off = found.base[0] - climate
        assert off.std() < 0.6 * (x.mean(0) - climate).std()

    def test_the_halves_are_those_of_the_whole_series(self, series):
        phase = phases(HOURS, 40)
        early = np.arange(40) < 20
        whole = moments(series, phase, 4)
        parts = [
            moments(series[part], phase[part], 4, early=early[part])
            for part in (slice(0, 7), slice(7, 40))
        ]
        added = parts[0] + parts[1]
        np.testing.assert_allclose(added.early_total, whole.early_total)
        np.testing.assert_allclose(added.early_total, series[:20].sum(0), rtol=1e-6)
        assert (added.early_count == 20).all()
        moved = added.relative_to(100.0)
        np.testing.assert_allclose(
            moved.early_total, (series[:20] - 100).sum(0), rtol=1e-4
        )

    def test_scale_is_that_of_the_anomalies(self, series):
        found = climatology(series, HOURS)
        off = series - found.base[phases(HOURS, 40)]
        assert found.scale == pytest.approx(np.sqrt(np.square(off).mean()), rel=1e-4)
        assert found.contrast == pytest.approx(found.base.mean(0).std(), rel=1e-4)
        assert abs(found.shape.mean()) < 1e-4
        assert found.shape.std() == pytest.approx(1.0, rel=1e-4)

    def test_large_offsets_do_not_cost_precision(self, series):
        phase = phases(HOURS, 40)
        far = (series.astype(np.float64) + 1e7).astype(np.float64)
        found = background(moments(far, phase, 4, offset=1e7 + 280), 40)
        assert found.scale == pytest.approx(climatology(series, HOURS).scale, rel=1e-4)

    def test_a_hole_is_filled_smoothly_and_not_known(self, series):
        series[:, 2:4, 3:6] = np.nan
        found = climatology(series, HOURS)
        assert (found.known[2:4, 3:6] == 0).all()
        hole = found.base[:, 2:4, 3:6]
        assert np.isfinite(hole).all()
        assert np.nanmin(series) < hole.min() <= hole.max() < np.nanmax(series)

    def test_short_series_are_taken_relative_to_the_means_of_rows(self):
        rng = np.random.default_rng(0)
        profile = 280 + 20 * np.cos(np.linspace(-1.5, 1.5, 48))
        x = profile[:, None] + rng.standard_normal((3, 48, 96))
        x[:, 8:30, 20:60] = np.nan
        found = climatology(x.astype(np.float32), None)
        assert found.base.shape == (1, 48, 96)
        assert np.ptp(found.base, axis=2).max() == 0
        np.testing.assert_allclose(found.base[0, :, 0], profile, atol=0.4)
        assert found.scale == pytest.approx(1.0, rel=0.05)
        assert found.contrast == pytest.approx(profile.std(), rel=0.1)
        assert not found.known.any()

    def test_rows_that_differ_by_chance_have_one_mean(self):
        """What half of a row says nothing of in the other half is not its mean."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((1, 64, 64)).astype(np.float32)
        assert x.mean((0, 2)).std() > 0.1
        found = climatology(x, None)
        assert found.base.std() < 0.06

    def test_a_hole_at_all_times_has_the_climate_of_its_rows(self, series):
        warm = np.linspace(0, 60, 6, dtype=np.float32)[:, None]
        x = (series + warm)[:, :, np.arange(32) % 8]
        truth = climatology(x, HOURS).base
        gappy = x.copy()
        gappy[:, 1:5, 10:20] = np.nan
        off = climatology(gappy, HOURS).base - truth
        assert np.abs(off[:, 1:5, 10:20].mean(2)).max() < 8.0

    def test_of_a_circle_any_column_may_be_the_first(self):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((2, 16, 40)).astype(np.float32).cumsum(1).cumsum(2)
        x[rng.random(x.shape) < 0.4] = np.nan
        one = climatology(x, None, periodic=True).base
        two = climatology(np.roll(x, 7, axis=2), None, periodic=True).base
        np.testing.assert_allclose(one, two, rtol=1e-6)

    def test_nothing_observed_is_no_scale(self):
        found = climatology(np.full((9, 2, 2), np.nan, np.float32), None)
        assert found.scale == 0.0

    def test_sums_are_of_what_is_there(self):
        found = moments(np.array([[[1.0, np.nan]], [[2.0, 4.0]]]), np.zeros(2, int), 1)
        assert isinstance(found, Moments)
        assert found.count.tolist() == [[[2.0, 1.0]]]
        assert found.squares.tolist() == [[[5.0, 16.0]]]


class TestSmoothFill:
    def test_keeps_what_is_known(self):
        rng = np.random.default_rng(0)
        x, known = rng.standard_normal((3, 13, 17)), rng.random((13, 17)) < 0.3
        filled = smooth_fill(x, known)
        np.testing.assert_array_equal(filled[:, known], x[:, known])
        assert filled.shape == x.shape

    def test_a_constant_stays_one(self):
        known = np.zeros((9, 30), bool)
        known[4, 7] = True
        filled = smooth_fill(np.where(known, 5.0, np.nan)[None], known)
        np.testing.assert_allclose(filled, 5.0)

    def test_a_gradient_goes_on_through_a_hole(self):
        x = np.broadcast_to(np.arange(32.0), (32, 32)).copy()
        known = np.ones((32, 32), bool)
        known[12:20, 12:20] = False
        off = smooth_fill(x[None], known)[0] - x
        assert abs(off).max() < 2.0

    def test_the_globe_is_closed(self):
        x = np.zeros((8, 32))
        x[:, -4:] = 5.0
        known = np.zeros((8, 32), bool)
        known[:, -4:] = known[:, 8:16] = True
        first = [
            smooth_fill(x[None], known, periodic=p)[0, :, 0].mean()
            for p in (True, False)
        ]
        assert first[0] > 2.0 > 0.5 > first[1]


class TestFrames:
    def test_hold_block_neighbours_and_other_days(self):
        x = np.arange(80, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3))
        x[21] = np.nan
        read = frames(x, 20, 24)
        count = len(read) // 2
        assert 2 * count + 2 + STATICS == CHANNELS
        values, masks = read[:count, 0, 0], read[count:, 0, 0]
        near = [*range(20 - CONTEXT, 20 + BLOCK + CONTEXT)]
        expected = [*near, *range(-4, 0), *range(44, 48)]
        there = [t >= 0 and t != 21 for t in expected]
        assert masks.tolist() == list(map(float, there))
        assert values[masks > 0].tolist() == [t for t in expected if t >= 0 and t != 21]
        assert not values[masks == 0].any()

    def test_what_does_not_change(self):
        still = statics(np.array([90.0, 0.0]), np.array([[0.5, 1.0], [0.0, 0.2]]))
        assert still.shape == (STATICS, 2, 2)
        np.testing.assert_allclose(still[0], [[1, 1], [0, 0]], atol=1e-7)

    def test_numbers_about_the_series(self, series):
        found = climatology(series, HOURS)
        told = about("air_temperature", found)
        assert told.shape == (ABOUT,)
        assert told[0] == 1.0
        assert told[1] == pytest.approx(np.log(found.contrast / found.scale) / 3)
        assert told[2:].tolist() == [1, 0, 0, 1, 0, 0]
        assert about("sea_ice_thickness", found)[2:].tolist() == [0] * 6
