import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import numpy as np
import pytest

from xatmo.fields import area_weights, land, land_share, land_share_of_cells


def _at(latitude, longitude, size=0.25):
    share = land_share_of_cells(
        np.array([latitude]), np.array([longitude]), (size, size)
    )
    return float(share[0, 0])


@pytest.mark.parametrize(
    ("latitude", "longitude", "expected"),
    [
        (35.75, 139.5, 1),  # Tokyo
        (23.0, 10.0, 1),  # Sahara
        (-23.5, 134.0, 1),  # Australia
        (39.0, -98.0, 1),  # Kansas
        (-85.0, 77.0, 1),  # Antarctica
        (72.0, -40.0, 1),  # Greenland
        (0.0, -150.0, 0),  # Pacific
        (30.0, -45.0, 0),  # Atlantic
        (27.0, -90.0, 0),  # Gulf
        (88.0, 0.0, 0),  # Arctic
        (-60.0, 60.0, 0),  # Southern Ocean
    ],
)
def test_known_places(latitude, longitude, expected):
    assert _at(latitude, longitude) == expected
    for turn in (-720, -360, 360):
        assert _at(latitude, longitude + turn) == expected


def test_a_coast_is_in_between():
    assert 0.05 < _at(36.0, -5.5, 1.0) < 0.95


def test_the_globe():
    latitude = np.linspace(90, -90, 721)
    share = land_share(latitude, np.linspace(-0.125, 359.875, 1441))
    assert share.shape == (720, 1440)
    assert share.dtype == np.float32
    assert share.min() == 0
    assert share.max() == 1
    weights = area_weights(0.5 * (latitude[1:] + latitude[:-1]))
    # 29.2 % of the surface are land, lakes included.
    assert (share.mean(axis=1) * weights).mean() == pytest.approx(0.29, abs=0.005)


@pytest.mark.parametrize("size", [4.0, 1.0, 0.3, 0.11, 0.02])
def test_parts_average_to_the_whole(size):
    rng = np.random.default_rng(0)
    for south, west in zip(
        rng.uniform(-90, 86, 10), rng.uniform(-400, 800, 10), strict=True
    ):
        y = np.linspace(south + size, south, 5)
        x = np.linspace(west, west + size, 5)
        parts = land_share(y, x)
        whole = land_share(y[[0, -1]], x[[0, -1]])
        assert parts.mean(dtype=float) == pytest.approx(whole[0, 0], abs=1e-6)


def test_agrees_with_counting_cells_of_the_map():
    path = resources.files("xatmo") / "data" / "land.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        tenths = stored["tenths"]
    assert tenths.shape == (2160, 4320)
    blocks = tenths.reshape(180, 12, 360, 12).mean(axis=(1, 3)) / 10
    share = land_share(np.arange(90.0, -91, -1), np.arange(0.0, 361))
    np.testing.assert_allclose(share, blocks, atol=1e-7)
    assert path.stat().st_size <= 200e3


@pytest.mark.parametrize("shift", [-720.0, -360.0, 360.0, 720.0])
def test_any_convention_and_direction(shift):
    y, x = np.arange(55.0, 40.0, -0.25), np.arange(-12.0, 12.0, 0.25)
    expected = land_share(y, x)
    np.testing.assert_array_equal(land_share(y, x + shift), expected)
    np.testing.assert_array_equal(land_share(y[::-1], x), expected[::-1])
    np.testing.assert_array_equal(land_share(y, x[::-1]), expected[:, ::-1])


def test_any_part_gives_the_same_numbers():
    y, x = np.linspace(62.3, 34.9, 90), np.linspace(-12.1, 40.7, 120)
    whole = land_share(y, x)
    for rows in (slice(0, 31), slice(30, 90)):
        for columns in (slice(0, 8), slice(7, 120)):
            part = land_share(y[rows], x[columns])
            np.testing.assert_array_equal(
                part, whole[rows, columns][: len(part), : part.shape[1]]
            )


def test_beyond_a_pole_is_what_is_there():
    share = land_share(
        np.array([90.5, 90.25, 90.0, 89.75]), np.arange(0.0, 361.0, 0.25)
    )
    np.testing.assert_array_equal(share, 0)
    share = land_share(
        np.array([-89.75, -90.0, -90.25, -90.5]), np.arange(0.0, 361.0, 0.25)
    )
    np.testing.assert_array_equal(share, 1)
    # A cell across a pole is what there is of it.
    np.testing.assert_array_equal(
        land_share(np.array([-89.0, -91.0]), np.array([0.0, 1.0])),
        land_share(np.array([-89.0, -90.0]), np.array([0.0, 1.0])),
    )


def test_centres_and_edges_agree():
    y, x = np.arange(60.0, 30.0, -0.25), np.arange(350.0, 400.0, 0.25)
    centres = 0.5 * (y[1:] + y[:-1]), 0.5 * (x[1:] + x[:-1])
    np.testing.assert_allclose(
        land_share_of_cells(*centres, (0.25, 0.25)), land_share(y, x), atol=1e-6
    )
    # They may stand in any order.
    np.testing.assert_array_equal(
        land_share_of_cells(centres[0], np.roll(centres[1], 7), (0.25, 0.25)),
        np.roll(land_share_of_cells(*centres, (0.25, 0.25)), 7, axis=1),
    )


def test_threads_load_the_map_once(monkeypatch):
    land._integral.cache_clear()
    loads, load = [], np.load
    barrier = threading.Barrier(4)
    monkeypatch.setattr(
        land.np, "load", lambda *a, **k: loads.append(1) or load(*a, **k)
    )

    def share(_):
        barrier.wait()
        return _at(50.0, 10.0)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(share, range(4))) == [1, 1, 1, 1]
    assert len(loads) == 1
