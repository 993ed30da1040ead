"""Noise by place and time: well distributed, independent, the same in any company."""

from __future__ import annotations

import cftime
import numpy as np
import pytest
import xarray as xr

from xatmo.noise import Draw, hash_values, key_of, keys_of, normal

LATITUDE = np.arange(60.0, 40.0, -1.0)
LONGITUDE = np.arange(0.0, 30.0)


def _draw(keys=(1,), latitude=LATITUDE, longitude=LONGITUDE, channels=16):
    return normal(np.array(keys, np.uint64), latitude, longitude, channels)


def test_numbers_are_the_same_on_every_machine():
    drawn = normal(
        np.array([key_of("pinned", 0)], np.uint64), [50.0, 49.0], [0.0, 359.0], 3
    )
    expected = [
        [[0.980568, 1.1731473], [-0.7974369, 1.3394172]],
        [[0.60845876, -0.3554528], [1.2607986, 1.215603]],
        [[0.18171977, 0.00625739], [-0.6517841, -0.04110259]],
    ]
    np.testing.assert_allclose(drawn[0], expected, atol=1e-5)


def test_moments_of_a_normal_distribution():
    z = _draw(range(40)).ravel().astype(np.float64)
    assert z.size == 384_000
    assert abs(z.mean()) < 5e-3
    assert abs(z.std() - 1) < 5e-3
    assert abs((z**3).mean()) < 2e-2
    assert abs((z**4).mean() - 3) < 5e-2
    assert 4.0 < np.abs(z).max() < 6.8
    assert np.unique(z).size > 0.99 * z.size


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_neighbours_are_independent(axis):
    """Fields, channels, rows and columns: also in square, and to the second one."""
    z = _draw(range(40)).astype(np.float64)
    most = 6 / np.sqrt(z.size)
    for lag in (1, 2):
        size = z.shape[axis]
        a, b = (z.take(range(*ends), axis) for ends in ((lag, size), (size - lag,)))
        assert abs((a * b).mean()) < most
        assert abs(((a**2 - 1) * (b**2 - 1)).mean()) < 4 * most


def test_a_part_gets_what_it_gets_in_the_whole():
    whole = _draw()
    part = _draw(latitude=LATITUDE[5:9], longitude=LONGITUDE[7:8], channels=4)
    np.testing.assert_array_equal(part, whole[:, :4, 5:9, 7:8])


@pytest.mark.parametrize("turn", [-360.0, 360.0, 720.0])
def test_conventions_of_longitude(turn):
    np.testing.assert_array_equal(_draw(longitude=LONGITUDE + turn), _draw())
    single = (LONGITUDE + 0.1).astype(np.float32)
    np.testing.assert_array_equal(
        _draw(longitude=single), _draw(longitude=LONGITUDE + 0.1)
    )
    np.testing.assert_array_equal(
        _draw(longitude=np.array([-1e-9])), _draw(longitude=np.array([0.0]))
    )


def test_draws_and_seeds_differ():
    field = xr.DataArray(np.zeros((1, 20, 30)), dims=("time", "y", "x"))
    drawn = []
    for seed, number in ((0, 0), (0, 1), (1, 0), (-1, 0)):
        base, keys = keys_of(field, ("y", "x"), "seed", seed)
        drawn.append(Draw(base, 16)(keys["time"], LATITUDE, LONGITUDE, number).ravel())
    correlation = np.corrcoef(drawn) - np.eye(4)
    assert np.abs(correlation).max() < 0.05


def test_keys_are_of_values_not_of_their_storage():
    days = np.array(["2020-01-01", "2020-01-02"], "datetime64[ns]")
    same = hash_values("time", days)
    np.testing.assert_array_equal(hash_values("time", days.astype("M8[s]")), same)
    assert (hash_values("valid_time", days) != same).all()
    whole = hash_values("number", np.array([0, 1, -0.0]))
    np.testing.assert_array_equal(hash_values("number", np.array([0, 1, 0])), whole)
    assert np.unique(hash_values("name", np.array(["a", "b"]))).size == 2
    calendars = [
        np.array([cls(2020, 1, 1)])
        for cls in (cftime.DatetimeNoLeap, cftime.Datetime360Day)
    ]
    assert np.unique([hash_values("time", c) for c in calendars]).size == 2


def test_a_chosen_time_or_member_is_known_by_its_coordinates():
    field = xr.DataArray(
        np.zeros((3, 2, 4, 5)),
        dims=("time", "number", "y", "x"),
        coords={
            "time": np.arange(3).astype("M8[D]").astype("M8[ns]"),
            "number": [0, 1],
            "valid_time": ("time", np.arange(3).astype("M8[D]").astype("M8[ns]")),
            "month": ("time", [1, 1, 1]),
            "height": 10.0,
        },
    )
    core = ("y", "x")
    base, keys = keys_of(field, core, "seed", 0)
    whole = np.uint64(base) + np.add.outer(keys["time"], keys["number"])
    one = keys_of(field.isel(time=1, number=1), core, "seed", 0)
    assert one == (int(whole[1, 1]), {})
    base, keys = keys_of(field.isel(time=[2], number=0), core, "seed", 0)
    assert np.uint64(base) + keys["time"][0] == whole[2, 0]
    assert np.unique(whole).size == 6


def test_without_a_coordinate_the_position_counts():
    field = xr.DataArray(np.zeros((3, 2, 2)), dims=("n", "y", "x"))
    _, keys = keys_of(field, ("y", "x"))
    np.testing.assert_array_equal(keys["n"], hash_values("n", np.arange(3)))
