"""Vortices drift as far as they should, turn as they should, and become samples."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.fields.winds import EARTH_RADIUS, vorticity_divergence
from xatmo.testing import raise_if_computes
from xatmo.testing.fluid import (
    Vortex,
    cut_samples,
    drifting_vortices,
    simulate,
)

DEGREE = np.deg2rad(EARTH_RADIUS)  # m


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


# --- Vortices ---


@pytest.mark.parametrize("eccentricity", [0.0, 0.9])
def test_a_vortex_is_a_gaussian_ellipse(eccentricity):
    radius, peak = 3 * DEGREE, 1.5e-4
    vortex = Vortex(1.3, 17.2, radius, peak, eccentricity, angle=30)
    ds = drifting_vortices(1, (96, 96), vortices=[vortex], spacing=0.4)
    north = (ds.latitude.values[:, None] - 1.3) * DEGREE
    east = (ds.longitude.values[None, :] - 17.2) * DEGREE
    turn = np.deg2rad(30)
    along = east * np.cos(turn) + north * np.sin(turn)
    across = north * np.cos(turn) - east * np.sin(turn)
    b = radius * (1 - eccentricity**2) ** 0.25
    expected = peak * np.exp(-((along * b / radius**2) ** 2) - (across / b) ** 2)
    expected -= expected.mean()
    np.testing.assert_allclose(ds.vo[0], expected, atol=1e-5 * peak)


def test_a_vortex_on_an_edge_is_whole():
    inside = Vortex(0.0, 8.0, 150e3, 1e-4, 0.6, 40)
    corner = Vortex(8.0, 0.0, 150e3, 1e-4, 0.6, 40)
    fields = [drifting_vortices(1, vortices=[v]).vo[0] for v in (inside, corner)]
    np.testing.assert_allclose(np.roll(fields[0], 32, (0, 1)), fields[1], atol=1e-10)


def test_vortices_drift_by_the_way_they_should():
    # One point an hour eastward and two southward.
    drift = np.array([1, -2]) * 0.25 * DEGREE / 3600
    vortex = Vortex(2.0, 3.0, 150e3, 1e-4, 0.7, 10, tuple(drift))
    ds = drifting_vortices(10, vortices=[vortex], step_hours=1)
    assert set(np.diff(ds.time.values)) == {np.timedelta64(1, "h")}
    for hour in range(10):
        moved = np.roll(ds.vo[0], (2 * hour, hour), (0, 1))
        np.testing.assert_allclose(ds.vo[hour], moved, atol=1e-10)
        assert float(ds.u[hour].mean()) == pytest.approx(drift[0], rel=1e-5)
        assert float(ds.v[hour].mean()) == pytest.approx(drift[1], rel=1e-5)


def test_vortices_drift_apart():
    east, west = (
        Vortex(y, 8.0, 150e3, 1e-4, drift=(speed, 0.0))
        for y, speed in ((3.0, 5.0), (-3.0, -5.0))
    )
    ds = drifting_vortices(5, vortices=[east, west], step_hours=6)
    moved = 5 * 6 * 3600 * np.arange(5) / DEGREE
    for half, sign in ((slice(8, 1), 1), (slice(-1, -7), -1)):
        longitude = ds.vo.sel(latitude=half).max("latitude").idxmax("longitude")
        np.testing.assert_allclose(longitude, 8 + sign * moved, atol=0.13)


def test_winds_belong_to_the_vorticity():
    ds = drifting_vortices(2, (128, 128), spacing=0.125, seed=4)
    vorticity, divergence = vorticity_divergence(ds.u, ds.v, periodic=False)
    inner = {"latitude": slice(2, -2), "longitude": slice(2, -2)}
    peak = float(abs(ds.vo).max())
    # What is left is the curvature of the Earth and the other method's differences.
    assert float(abs(vorticity - ds.vo).isel(inner).max()) < 0.015 * peak
    assert float(abs(divergence).isel(inner).max()) < 0.015 * peak


def test_the_data_are_recognised():
    ds = drifting_vortices(3)
    said = repr(ds.atmo)
    for name in (
        "atmosphere_relative_vorticity  vo",
        "eastward_wind",
        "northward_wind",
    ):
        assert name in said
    assert "at 500 hPa" in said
    assert {str(v.dtype) for v in ds.values()} == {"float32"}
    assert [v.attrs["units"] for v in ds.values()] == ["s-1", "m s-1", "m s-1"]


def test_random_vortices_are_as_said():
    ds = xr.concat([drifting_vortices(1, seed=s) for s in range(40)], "time")
    peaks = abs(ds.vo).max(["latitude", "longitude"])
    assert peaks.min() > 0.8e-4
    assert 1.6e-4 < peaks.median() < 2.2e-4
    assert float(ds.vo.mean() / peaks.mean()) == pytest.approx(0, abs=0.01)
    # The mean of 6 drifts: one in common, and a sixth of the variance of their own.
    winds = ds[["u", "v"]].mean(["latitude", "longitude"]).to_array()
    assert float(winds.std()) == pytest.approx(np.hypot(5, 1.5 / 6**0.5), rel=0.3)


def test_seeds():
    first = drifting_vortices(2, seed=3)
    xr.testing.assert_identical(first, drifting_vortices(2, seed=3))
    assert _difference(first.vo.values, drifting_vortices(2, seed=4).vo.values) > 0.3
    xr.testing.assert_identical(simulate(first, 3), simulate(first, 3))


def test_a_finer_grid_has_the_same_vortices():
    coarse = drifting_vortices(3, seed=5)
    fine = drifting_vortices(3, (128, 128), spacing=0.125, seed=5)
    assert _difference(fine.vo[:, ::2, ::2].values, coarse.vo.values) < 0.01


# --- Simulations ---


def test_a_single_vortex_drifts_as_said():
    vortex = Vortex(-1.0, 5.0, 120e3, 1.5e-4, drift=(9.0, -4.0))
    drifting = drifting_vortices(6, vortices=[vortex], step_hours=4)
    carried = simulate(drifting.isel(time=0), 6, step_hours=4, damping_hours=None)
    assert _difference(carried.u[0].values, drifting.u[0].values) < 1e-6
    assert _difference(carried.vo.values, drifting.vo.values) < 0.01
    assert _difference(carried.u.values, drifting.u.values) < 0.01


@pytest.mark.parametrize("sign", [-1, 1])
def test_an_elliptic_vortex_turns_the_way_of_its_wind(sign):
    vortex = Vortex(0.0, 8.0, 200e3, sign * 1.5e-4, 0.8, angle=20)
    ds = simulate(drifting_vortices(1, vortices=[vortex]), 4)
    vo = sign * ds.vo.where(sign * ds.vo > 0.2 * 1.5e-4, 0)
    north, east = vo.latitude, vo.longitude - 8
    cross = (vo * east * north).sum(["latitude", "longitude"])
    along = (vo * (east**2 - north**2)).sum(["latitude", "longitude"])
    angle = np.rad2deg(np.unwrap(np.arctan2(2 * cross, along))) / 2
    assert angle[0] == pytest.approx(20, abs=1)
    # Slower than Kirchhoff's patch, which is as strong everywhere as at its centre.
    kirchhoff = np.rad2deg(1.5e-4 * 0.6 / 1.6**2 * 3 * 3600)
    assert np.all(0.5 * kirchhoff < sign * np.diff(angle))
    assert np.all(sign * np.diff(angle) < kirchhoff)


def test_damping_takes_filaments_and_leaves_energy():
    start = drifting_vortices(1, seed=1)
    free, damped = (
        simulate(start, 9, step_hours=6, damping_hours=d) for d in (None, 1)
    )
    energy = (damped.u**2 + damped.v**2).mean(["latitude", "longitude"])
    enstrophy = (damped.vo**2).mean(["latitude", "longitude"])
    assert float(energy[-1] / energy[0]) == pytest.approx(1, abs=0.005)
    assert np.all(np.diff(enstrophy) < 0)
    assert float(enstrophy[-1] / enstrophy[0]) < 0.95
    rough = [float(ds.vo[-1].diff("longitude").std()) for ds in (free, damped)]
    assert rough[0] > 1.05 * rough[1]


def test_a_simulation_goes_on_where_it_was():
    start = drifting_vortices(1, seed=2)
    whole = simulate(start, 7, step_hours=2)
    first = simulate(start, 4, step_hours=2)
    second = simulate(first, 4, step_hours=2)
    assert (second.time.values == whole.time.values[3:]).all()
    assert _difference(second.vo.values, whole.vo.values[3:]) < 1e-4


@pytest.mark.parametrize("order", [1, -1])
def test_a_simulation_takes_either_orientation_and_no_time(order):
    start = drifting_vortices(1, seed=2).isel(time=0)
    turned = start.isel(latitude=slice(None, None, order)).transpose("longitude", ...)
    xr.testing.assert_equal(
        simulate(turned.drop_vars(["time", "level"]), 2), simulate(start, 2)
    )


# --- Samples ---


def test_samples():
    ds = drifting_vortices(7, step_hours=2)
    inputs, targets = cut_samples(ds)
    assert inputs.vo.shape == (4, 3, 64, 64)
    assert inputs.lag.values.astype("timedelta64[h]").astype(int).tolist() == [
        -4,
        -2,
        0,
    ]
    for sample in range(4):
        seen = ds.isel(time=slice(sample, sample + 3))
        np.testing.assert_array_equal(inputs.u[sample], seen.u)
        np.testing.assert_array_equal(inputs.time[sample], seen.time)
        np.testing.assert_array_equal(targets.v[sample], ds.v[sample + 3])
        assert targets.time[sample] == ds.time[sample + 3]
    assert targets.vo.attrs == inputs.vo.attrs == ds.vo.attrs


def test_samples_of_another_length_and_of_many_simulations():
    runs = [simulate(drifting_vortices(1, seed=s), 5) for s in range(3)]
    ds = xr.concat(runs, "simulation")
    inputs, targets = cut_samples(ds, history=1)
    assert inputs.vo.shape == (3, 4, 1, 64, 64)
    np.testing.assert_array_equal(targets.vo, ds.vo[:, 1:])


def test_samples_are_lazy():
    ds = drifting_vortices(8).chunk(time=2)
    with raise_if_computes():
        inputs, targets = cut_samples(ds)
    assert inputs.vo.chunks is not None
    np.testing.assert_array_equal(targets.vo, ds.vo[3:])


def test_history_says_where_vortices_go():
    # Two steps back tell the drift, the last field alone does not.
    inputs, targets = cut_samples(drifting_vortices(12, step_hours=1))
    x, y = inputs.vo.values, targets.vo.values
    persistence, line = (np.abs(f - y).mean() for f in (x[:, 2], 2 * x[:, 2] - x[:, 1]))
    assert line < 0.6 * persistence


# --- What is refused ---

ROUND = Vortex(0.0, 8.0, 150e3, 1e-4)
REFUSED = {
    "times": (lambda: drifting_vortices(0), "number of times=0", "1 or more"),
    "step": (lambda: drifting_vortices(step_hours=-3), "step_hours=-3", "above 0"),
    "spacing": (lambda: drifting_vortices(spacing=0), "spacing=0", "above 0"),
    "nan": (lambda: drifting_vortices(spacing=np.nan), "spacing=nan", "above 0"),
    "shape": (lambda: drifting_vortices(1, (64, 4)), r"\(64, 4\)", "of at least 8"),
    "dims": (lambda: drifting_vortices(1, (9, 9, 9)), r"\(9, 9, 9\)", "two numbers"),
    "earth": (lambda: drifting_vortices(spacing=4), "spacing=4", "180 x 360 degrees"),
    "none": (lambda: drifting_vortices(vortices=0), "vortices=0", "1 or more"),
    "negative": (lambda: drifting_vortices(vortices=-2), "vortices=-2", "1 or more"),
    "empty": (lambda: drifting_vortices(vortices=[]), "vortices=0", "1 or more"),
    "small": (
        lambda: drifting_vortices(vortices=[ROUND], spacing=1),
        "shorter semi-axis=150000",
        "222398 m or more here",
    ),
    "radius": (lambda: Vortex(0, 0, -1.0, 1e-4), "radius=-1.0", "above 0"),
    "oval": (lambda: Vortex(0, 0, 1e5, 1e-4, 1.0), "eccentricity=1.0", "below 1"),
    "peak": (lambda: Vortex(0, 0, 1e5, np.nan), "peak=nan", "finite numbers"),
    "drift": (
        lambda: Vortex(0, 0, 1e5, 1e-4, drift=(np.inf, 0)),
        "drift=.inf",
        "finite numbers",
    ),
    "damping": (
        lambda: simulate(drifting_vortices(1), damping_hours=0),
        "damping_hours=0",
        "above 0",
    ),
    "fields": (
        lambda: simulate(drifting_vortices(1)[["vo"]]),
        r"\['latitude', 'longitude', 'vo'\]",
        "vo, u, v on latitude",
    ),
    "uneven": (
        lambda: simulate(drifting_vortices(1).isel(longitude=[*range(20), 30])),
        "0.25 to 2.75 degrees",
        "the same everywhere",
    ),
    "missing": (
        lambda: simulate(drifting_vortices(1).where(lambda ds: ds.latitude > 7.9)),
        "not finite=4032",
        "0",
    ),
    "history": (
        lambda: cut_samples(drifting_vortices(5), history=0),
        "history=0",
        "1 or more",
    ),
    "few": (
        lambda: cut_samples(drifting_vortices(3)),
        "number of times=3",
        "4 or more, evenly spaced",
    ),
    "timeless": (
        lambda: cut_samples(drifting_vortices(1).isel(time=0)),
        "number of times=0",
        "4 or more",
    ),
    "gap": (
        lambda: cut_samples(drifting_vortices(9).isel(time=[0, 1, 2, 4, 5])),
        "10800000000000 nanoseconds to 21600000000000",
        "evenly spaced",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case):
    call, found, needed = REFUSED[case]
    said = rf"(?s)found: .*{found}.*needed: .*{needed}.*try: "
    with pytest.raises(errors.OptionError, match=said):
        call()
