"""Vorticity and divergence against analytic fields, poles included."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from numpy.polynomial.legendre import leggauss

from xatmo.fields.winds import EARTH_RADIUS, vorticity_divergence

A = EARTH_RADIUS
GRIDS = {
    "poles": (np.linspace(90, -90, 181), np.arange(360.0)),
    "ascending": (np.linspace(-90, 90, 181), np.arange(360.0)),
    "between": (np.arange(89.5, -90, -1), np.arange(360.0) + 0.5),
    "half": (np.linspace(90, -90, 361), np.arange(720) / 2),
    "gaussian": (np.rad2deg(np.arcsin(leggauss(96)[0]))[::-1], np.arange(192) * 1.875),
    "region": (np.arange(70.0, 20, -1), np.arange(10.0, 80)),
}


def solid_body(phi, lam, tilt):
    """Rotation about an axis tilted away from the Earth's: vorticity, no divergence."""
    speed = 40.0
    u = speed * (np.cos(phi) * np.cos(tilt) + np.sin(phi) * np.cos(lam) * np.sin(tilt))
    v = -speed * np.sin(lam) * np.sin(tilt)
    axis = np.sin(phi) * np.cos(tilt) - np.cos(lam) * np.cos(phi) * np.sin(tilt)
    return u, v, 2 * speed / A * axis, 0 * phi * lam


def rossby_haurwitz(phi, lam):
    """Phillips' (1959) wave of zonal wavenumber 4."""
    w = k = 7.848e-6
    r = 4
    cos, sin = np.cos(phi), np.sin(phi)
    u = A * w * cos + A * k * cos ** (r - 1) * (r * sin**2 - cos**2) * np.cos(r * lam)
    v = -A * k * r * cos ** (r - 1) * sin * np.sin(r * lam)
    vorticity = 2 * w * sin - k * sin * cos**r * (r**2 + 3 * r + 2) * np.cos(r * lam)
    return u, v, vorticity, 0 * vorticity


def potential_flow(phi, lam):
    """Straight over the poles: the potential is a spherical harmonic of degree 2."""
    u = -10 * np.sin(phi) * np.sin(lam)
    v = 10 * np.cos(2 * phi) * np.cos(lam)
    divergence = -60 / A * np.sin(phi) * np.cos(phi) * np.cos(lam)
    return u, v, 0 * divergence, divergence


CASES = {
    "axis": lambda phi, lam: solid_body(phi, lam, 0.0),
    "tilted": lambda phi, lam: solid_body(phi, lam, 0.6),
    "wave": rossby_haurwitz,
    "potential": potential_flow,
}


def _error(grid, case):
    """Largest error of both, over the largest value of either."""
    lat, lon = GRIDS[grid]
    phi, lam = np.meshgrid(np.deg2rad(lat), np.deg2rad(lon), indexing="ij")
    u, v, *expected = CASES[case](phi, lam)
    coords = {"latitude": lat, "longitude": lon}
    u, v = (xr.DataArray(np.broadcast_to(x, phi.shape), coords, coords) for x in (u, v))
    got = vorticity_divergence(u, v, periodic=grid != "region")
    scale = max(np.abs(x).max() for x in expected)
    return (
        max(np.abs(g.values - e).max() for g, e in zip(got, expected, strict=True))
        / scale
    )


# The figures that the docstring states.
@pytest.mark.parametrize(
    ("grid", "case", "bound"),
    [
        ("poles", "axis", 7.7e-5),
        ("ascending", "axis", 7.7e-5),
        ("poles", "tilted", 6.8e-4),
        ("between", "tilted", 1.3e-3),
        ("poles", "wave", 7.3e-4),
        ("half", "wave", 1.9e-4),
        ("poles", "potential", 5.1e-3),
        ("between", "potential", 1.1e-2),
        ("region", "wave", 2.6e-3),
        ("region", "potential", 2.6e-3),
        ("gaussian", "wave", 2.6e-3),
        ("gaussian", "tilted", 2.9e-3),
    ],
)
def test_error_is_as_stated(grid, case, bound):
    assert _error(grid, case) <= bound


def test_second_order():
    assert _error("poles", "wave") / _error("half", "wave") == pytest.approx(
        4, rel=0.05
    )


def test_nothing_is_lost_around_the_globe(globe):
    """Flux form: divergence and vorticity sum to nothing over the whole sphere."""
    from xatmo.fields import area_weights

    weights = xr.DataArray(area_weights(globe.latitude.values), dims="latitude")
    for x in vorticity_divergence(
        globe.u10.astype(float), globe.v10.astype(float), periodic=True
    ):
        size = float(abs(x).weighted(weights).mean())
        assert abs(float(x.weighted(weights).mean())) < 2e-3 * size


def test_keeps_order_dtype_and_laziness(globe):
    from xatmo.testing import raise_if_computes

    u, v = (
        globe[n].transpose("longitude", "time", "latitude").chunk(time=1)
        for n in ("u10", "v10")
    )
    with raise_if_computes():
        vorticity, divergence = vorticity_divergence(u, v, periodic=True)
    assert vorticity.dims == ("longitude", "time", "latitude")
    assert vorticity.dtype == np.float32
    assert vorticity.chunksizes["time"] == (1, 1, 1)
    assert divergence.attrs["units"] == "s-1"


@pytest.mark.parametrize("chunks", [None, {}])
def test_half_precision_is_not_enough_for_vorticity(globe, chunks):
    ds = globe if chunks is None else globe.chunk(chunks)
    u, v = ds.u10, ds.v10
    half = (x.astype("float16") for x in (u, v))
    for got, full in zip(
        vorticity_divergence(*half, periodic=True),
        vorticity_divergence(u, v, periodic=True),
        strict=True,
    ):
        assert got.dtype == np.float32
        assert got.values.dtype == np.float32
        # What is left is the rounding of the winds, not of the result.
        assert float(abs(got - full).max()) < 0.02 * float(abs(full).max()) + 1e-6


def test_chunks_change_nothing(globe):
    whole = vorticity_divergence(globe.u10, globe.v10, periodic=True)
    cut = globe.chunk(time=2, latitude=17, longitude=50)
    for a, b in zip(
        whole, vorticity_divergence(cut.u10, cut.v10, periodic=True), strict=True
    ):
        np.testing.assert_array_equal(a, b)
