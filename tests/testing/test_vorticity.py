"""The vorticity solver conserves what a flow does, and moves vortices as known."""

from __future__ import annotations

import numpy as np
import pytest

from xatmo import errors
from xatmo.fields.winds import EARTH_RADIUS
from xatmo.testing.fluid import drifting_vortices
from xatmo.testing.vorticity import VorticitySolver

DX = 20e3  # m
DAY = 86400.0
DEGREE = np.deg2rad(EARTH_RADIUS)  # m


def _points(n: int) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of a plane of n by n points, 0 in its middle."""
    x = DX * (np.arange(n) - n // 2)
    return x[:, None], x[None, :]


def _gaussian(n: int, radius: float, east: float = 0.0, north: float = 0.0):
    y, x = _points(n)
    return 1e-4 * np.exp(-((x - east) ** 2 + (y - north) ** 2) / radius**2)


def _crowd(n: int = 64) -> np.ndarray:
    """Vorticity of six random vortices, which do a lot to each other."""
    ds = drifting_vortices(1, (n, n), spacing=DX / DEGREE * 64 / n)
    return ds.vo[0].values[::-1].astype(float)


def _energy(solver: VorticitySolver, vorticity: np.ndarray) -> float:
    return float(np.square(solver.winds(vorticity)).sum(0).mean() / 2)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def _centre(vorticity: np.ndarray) -> tuple[float, float]:
    """(y, x) of the centre of vorticity (m), on a plane with 0 in its middle."""
    y, x = _points(len(vorticity))
    return tuple((p * vorticity).sum() / vorticity.sum() for p in (y, x))


# --- What is conserved ---


def test_energy_and_enstrophy_are_conserved():
    solver, start = VorticitySolver((64, 64), DX), _crowd()
    end = solver.run(start, 3 * DAY)
    assert _difference(end, start) > 0.5
    assert _energy(solver, end) == pytest.approx(_energy(solver, start), rel=1e-6)
    assert (end**2).mean() == pytest.approx((start**2).mean(), rel=2e-4)


def test_what_is_lost_is_the_time_steps():
    solver, start = VorticitySolver((64, 64), DX), _crowd()
    lost = []
    for steps in (250, 500):
        end = solver.run(start, 2 * DAY, steps)
        lost.append([1 - _energy(solver, end) / _energy(solver, start)])
        lost[-1].append(1 - (end**2).mean() / (start**2).mean())
    # Runge-Kutta's fourth order loses the fifth power of a step of what is quadratic.
    assert np.log2(np.divide(*lost)) == pytest.approx(5, abs=0.3)


def test_the_error_falls_with_the_fourth_power_of_the_time_step():
    solver = VorticitySolver((64, 64), DX, mean_wind=(8, 3), damping_hours=3)
    start = _crowd()
    truth = solver.run(start, DAY / 3, 640)
    found = [solver.run(start, DAY / 3, n) for n in (40, 80, 160)]
    errors_ = [np.sqrt(((f - truth) ** 2).mean()) for f in found]
    order = np.log2(np.divide(errors_[:-1], errors_[1:]))
    np.testing.assert_allclose(order, 4, atol=0.2)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_no_direction_is_special(turns):
    solver, start = VorticitySolver((64, 64), DX), _crowd()
    turned = solver.run(np.rot90(start, turns), DAY, 300)
    expected = np.rot90(solver.run(start, DAY, 300), turns)
    assert _difference(turned, expected) < 1e-10


def test_planes_may_be_oblong():
    start = _crowd()
    once = VorticitySolver((64, 64), DX).run(start, DAY, 300)
    twice = VorticitySolver((64, 128), DX).run(np.tile(start, (1, 2)), DAY, 300)
    assert _difference(twice, np.tile(once, (1, 2))) < 1e-9


# --- What vortices do ---


def test_a_round_vortex_is_steady():
    solver = VorticitySolver((64, 64), DX)
    y, x = _points(64)
    squared = (x**2 + y**2) / 100e3**2
    # Nothing is felt outside of a vortex that a ring of the other sign surrounds.
    shielded = 1e-4 * (1 - squared) * np.exp(-squared)
    assert _difference(solver.run(shielded, DAY), shielded) < 1e-3
    # A bare one feels its images: in its outskirts they are 13 radii away.
    bare = _gaussian(64, 100e3)
    bare -= bare.mean()
    assert _difference(solver.run(bare, DAY), bare) < 0.005


def test_a_mean_flow_carries_vortices():
    # So many points a day as to lie on the grid again, both ways around the plane.
    wind = 70 * DX / DAY, -45 * DX / DAY
    start = _crowd()
    still = VorticitySolver((64, 64), DX).run(start, DAY, 300)
    carried = VorticitySolver((64, 64), DX, mean_wind=wind).run(start, DAY, 300)
    assert _difference(carried, np.roll(still, (-45, 70), (0, 1))) < 1e-9


def test_an_ellipse_turns_as_kirchhoff_found():
    a, b, peak, turned = 240e3, 160e3, 1e-4, []
    y, x = _points(128)
    solver = VorticitySolver((128, 128), DX, damping_hours=1)
    for width in (DX, 1.5 * DX):  # of the edge of a patch that is uniform inside
        edge = (np.hypot(x / a, y / b) - 1) * np.sqrt(a * b) / width
        patch = peak * (1 - np.tanh(edge)) / 2
        end = solver.run(patch, DAY / 4)
        end -= np.median(end)
        angle = np.arctan2(2 * (end * x * y).sum(), (end * (x**2 - y**2)).sum()) / 2
        # The plane has no mean vorticity, as if it turned the other way.
        rate = peak * a * b / (a + b) ** 2 - patch.mean() / 2
        turned.append(angle / (rate * DAY / 4))
    assert 0.9 < turned[1] < turned[0] < 1
    # What is missing grows with the square of the width: without any there is this.
    sharp = turned[0] + (turned[0] - turned[1]) / 1.25
    assert sharp == pytest.approx(1, abs=0.01)


def test_a_dipole_moves_along_its_axis():
    special = pytest.importorskip("scipy.special")
    # Lamb's: a circle of both signs that goes straight on without a change of shape.
    n, radius, speed = 128, 160e3, 5.0
    y, x = _points(n)
    r = np.hypot(x, y)
    wave = special.jn_zeros(1, 1)[0] / radius
    inside = special.j1(wave * r) / special.j0(wave * radius) * y / np.maximum(r, 1)
    dipole = -2 * speed * wave * np.where(r < radius, inside, 0)
    solver = VorticitySolver((n, n), DX, damping_hours=3)
    end = solver.run(dipole, 5 * radius / speed)
    north, east = _centre(abs(end) * (abs(end) > 0.2 * end.max()))
    assert abs(north) < 1
    # Its images push it back by some per cent.
    assert east == pytest.approx(5 * radius, rel=0.03)
    assert end.max() == pytest.approx(dipole.max(), rel=0.03)


def test_like_signs_circle_around_each_other():
    radius, apart = 80e3, 400e3
    pair = _gaussian(128, radius, north=apart / 2)
    pair += _gaussian(128, radius, north=-apart / 2)
    end = VorticitySolver((128, 128), DX).run(pair, DAY)
    north, east = _centre(np.where((end > 0.3e-4) & (_points(128)[0] > 0), end, 0))
    # As two points do, less the turning of a plane that has no mean vorticity.
    circulation = 1e-4 * np.pi * radius**2
    rate = circulation / (np.pi * apart**2) - circulation / (128 * DX) ** 2
    assert np.arctan2(-east, north) == pytest.approx(rate * DAY, rel=0.02)
    assert np.hypot(east, north) == pytest.approx(apart / 2, rel=0.01)


def test_opposite_signs_travel_side_by_side():
    radius, apart = 80e3, 400e3
    pair = _gaussian(128, radius, north=apart / 2)
    pair -= _gaussian(128, radius, north=-apart / 2)
    end = VorticitySolver((128, 128), DX).run(pair, DAY)
    north, east = _centre(np.where(end > 0.3e-4, end, 0))
    # Each goes with the wind of the other, and against that of all of their images,
    # since the mean wind is zero.
    circulation = 1e-4 * np.pi * radius**2
    speed = circulation / (2 * np.pi * apart)
    speed -= circulation * apart / (2 * (128 * DX) ** 2)
    assert east == pytest.approx(speed * DAY, rel=0.01)
    assert north == pytest.approx(apart / 2, rel=0.01)


def test_damping_is_that_of_the_8th_power():
    solver = VorticitySolver((48, 48), DX, damping_hours=2)
    y, x = _points(48)
    for wave in (15, 12, 6):  # the shortest one that is kept is 15
        for along in (x, y):
            start = 1e-4 * np.sin(2 * np.pi * wave * along / (48 * DX)) + 0 * (x + y)
            decay = np.exp(-((wave / 15) ** 8))
            end = solver.run(start, 2 * 3600.0)
            np.testing.assert_allclose(end, decay * start, atol=1e-12)


# --- What is refused, and what is not ---

REFUSED = {
    "solver": (
        lambda: VorticitySolver((64, 64), DX).winds(np.zeros((64, 32))),
        r"vorticity=\(64, 32\)",
        r"\(64, 64\)",
    ),
    "wind": (
        lambda: VorticitySolver((64, 64), DX, mean_wind=(np.nan, 0)),
        "mean_wind=.nan",
        "finite numbers",
    ),
    "back": (
        lambda: VorticitySolver((64, 64), DX).run(_crowd(), -1.0),
        "seconds=-1.0",
        "above 0",
    ),
    "unstable": (
        lambda: VorticitySolver((64, 64), DX).run(_crowd(), DAY, 20),
        "steps=20",
        "or more, to be stable",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case):
    call, found, needed = REFUSED[case]
    said = rf"(?s)found: .*{found}.*needed: .*{needed}.*try: "
    with pytest.raises(errors.OptionError, match=said):
        call()


def test_the_fewest_stable_steps_are_stable():
    solver, start = VorticitySolver((64, 64), DX), _crowd()
    with pytest.raises(errors.OptionError) as refused:
        solver.run(start, DAY, 1)
    least = int(refused.value.needed.split()[0])
    end = solver.run(start, DAY, least)
    assert _energy(solver, end) == pytest.approx(_energy(solver, start), rel=1e-2)


def test_still_air_stays_still():
    still = np.zeros((16, 16))
    solver = VorticitySolver((16, 16), DX, mean_wind=(3.0, 4.0))
    np.testing.assert_array_equal(solver.run(still, DAY), still)
    u, v = solver.winds(still)
    assert (u == 3).all()
    assert (v == 4).all()
