"""Spectra against harmonics whose power is known."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.metrics import (
    kinetic_energy_spectrum,
    patch_spectrum,
    power_ratio,
    zonal_spectrum,
)
from xatmo.metrics.common import weighted_mean
from xatmo.metrics.harmonics import _legendre, find_rows, scalar_power

RADIUS = 6.371229e6
N = 32
ROWS = {
    "both poles": np.linspace(90, -90, N + 1),
    "no pole": 90 - (np.arange(N) + 0.5) * 180 / N,
    "north pole": 90 - np.arange(N) * 180 / N,
    "south pole": 90 - (np.arange(N) + 1) * 180 / N,
    "gaussian": np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(N)[0][::-1])),
}
MODES = [(1, 0), (1, 1), (2, 1), (3, 0), (5, 4), (17, 2), (N - 1, 1), (N - 1, N - 1)]


def _labelled(x, lat, name="x"):
    lon = np.arange(x.shape[-1]) * 360 / x.shape[-1]
    coords = {"lat": lat, "lon": lon}
    return xr.DataArray(x, coords=coords, dims=("lat", "lon"), name=name)


def _winds(u, v, lat):
    ds = xr.Dataset({"u": _labelled(u, lat), "v": _labelled(v, lat)})
    for wind in ds.data_vars.values():
        wind.attrs["units"] = "m s-1"
    return ds


def _flow(lat):
    """A flow of known harmonics: winds, vorticity, divergence, energy per degree."""
    from scipy.special import sph_harm_y

    theta = np.clip(np.deg2rad(90 - lat), 1e-7, np.pi - 1e-7)[:, None]
    lam = np.deg2rad(np.arange(2 * N + 2) * 360 / (2 * N + 2))
    rng = np.random.default_rng(0)
    u, v, vorticity, divergence = np.zeros((4, lat.size, lam.size))
    energy = np.zeros(N)
    for n, m in MODES:
        y, slopes = sph_harm_y(n, m, theta, lam, diff_n=1)
        south, east = slopes.real[..., 0], slopes.real[..., 1] / np.sin(theta)
        psi, chi = rng.normal(size=2) * RADIUS / n
        u += (psi * south + chi * east) / RADIUS
        v += (psi * east - chi * south) / RADIUS
        factor = -n * (n + 1) / RADIUS**2
        vorticity += psi * factor * y.real
        divergence += chi * factor * y.real
        square = (1 if m == 0 else 0.5) / (4 * np.pi)
        energy[n] -= 0.5 * (psi**2 + chi**2) * factor * square
    return u, v, vorticity, divergence, energy


@pytest.mark.parametrize("rows", ROWS)
def test_energy_of_known_harmonics(rows):
    pytest.importorskip("scipy", minversion="1.15")
    lat = ROWS[rows]
    u, v, vorticity, divergence, wanted = _flow(lat)
    got = kinetic_energy_spectrum(_labelled(vorticity, lat), _labelled(divergence, lat))
    # Where both poles are rows there is room for one more degree.
    np.testing.assert_allclose(got[:N], wanted, atol=1e-9 * wanted.max())
    ds = _winds(u, v, lat)
    got = kinetic_energy_spectrum(ds)
    np.testing.assert_allclose(got[:N], wanted, atol=1e-9 * wanted.max())
    assert got.attrs["units"] == "m2 s-2"


def test_energy_is_that_of_the_original_where_it_is_exact(published):
    divergence, vorticity = np.moveaxis(published["spectrum|div_vort"], -1, 0)
    lat = 90 - np.arange(64) * 180 / 64
    got = kinetic_energy_spectrum(
        _labelled(vorticity, lat), _labelled(divergence, lat), radius=6.3712e6
    )
    np.testing.assert_allclose(got[:32], published["spectrum|analytic_energy"], 1e-10)
    assert got[32:].sum() < 1e-10 * got.sum()


def test_energy_of_solid_body_rotation():
    lat = np.linspace(90, -90, 37)
    u = 40 * np.cos(np.deg2rad(lat))[:, None] * np.ones(72)
    energy = kinetic_energy_spectrum(_winds(u, 0 * u, lat))
    # Mean of u²/2 with the mean of cos² over the sphere, 2/3: all in the first degree.
    assert energy[1].item() == pytest.approx(40**2 / 3)
    assert energy.drop_sel(degree=1).sum().item() == pytest.approx(0, abs=1e-9)
    assert energy.wavelength[1].item() == pytest.approx(2 * np.pi * 6371.229 / 2**0.5)


def test_energy_sums_to_the_mean_kinetic_energy(sample):
    ds = sample.isel(time=slice(3))
    energy = kinetic_energy_spectrum(ds).sum("degree")
    speed = ds.u.astype(float) ** 2 + ds.v.astype(float) ** 2
    mean = 0.5 * weighted_mean(speed, ["lat", "lon"], weighted=True)
    np.testing.assert_allclose(energy, mean, rtol=5e-4)


def test_power_at_a_quarter_degree():
    rows = find_rows(np.linspace(90, -90, 721))
    x = np.zeros((721, 1440), np.float32)
    x[:] = np.cos(np.deg2rad(np.linspace(0, 180, 721)))[:, None]
    power = scalar_power(x, rows, 719)
    assert power[1] == pytest.approx(1 / 3, rel=1e-5)
    assert np.delete(power, 1).sum() < 1e-9


@pytest.mark.parametrize("degree", [720, 1900])
def test_functions_stay_orthonormal_at_high_degrees(degree):
    orders = np.array([0, 1, 101, degree // 2, degree - 1])
    x, weights = np.polynomial.legendre.leggauss(64)
    # Panels near the equator and the pole: together the northern hemisphere.
    cuts = np.cos(np.linspace(np.pi / 2, 0, degree // 16 + 1))
    middle, half = 0.5 * (cuts[1:] + cuts[:-1]), 0.5 * np.diff(cuts)
    nodes = (middle[:, None] + half[:, None] * x).ravel()
    areas = (half[:, None] * weights).ravel()
    table = _legendre(orders, degree, np.arccos(nodes))[:, degree]
    np.testing.assert_allclose(table**2 @ areas, 0.5, rtol=1e-8)


def test_energy_needs_the_globe(winds):
    with pytest.raises(
        errors.GridError, match=r"(?s)no exact.*longitudes from 10 to 57.*zonal_spec"
    ):
        kinetic_energy_spectrum(winds)


def test_energy_needs_rows_from_pole_to_pole(globe):
    with pytest.raises(errors.GridError, match=r"latitudes from 60 to -60"):
        kinetic_energy_spectrum(globe.sel(latitude=slice(60, -60)))


def test_energy_needs_two_fields(globe):
    with pytest.raises(errors.FieldNotFoundError, match=r"(?s)one array, .u10.*xr.Dat"):
        kinetic_energy_spectrum(globe.u10)
    with pytest.raises(errors.FieldNotFoundError, match="northward_wind"):
        kinetic_energy_spectrum(globe[["u10"]])


def test_waves_are_as_long_as_the_sphere_is_large(globe):
    half = kinetic_energy_spectrum(globe, radius=6371229.0 / 2).wavelength
    whole = kinetic_energy_spectrum(globe).wavelength
    np.testing.assert_allclose(half[1:], whole[1:] / 2, rtol=1e-5)


def test_energy_of_a_degree_too_many(globe):
    with pytest.raises(errors.OptionError, match="1 to 89"):
        kinetic_energy_spectrum(globe, degree=100)


def test_energy_of_a_state_with_a_gap_is_missing(globe):
    gap = globe.where((globe.time != globe.time[1]) | (globe.latitude < 80))
    missing = kinetic_energy_spectrum(gap).isnull().all("degree")
    assert missing.values.tolist() == [False, True, False]


def test_a_wave_has_half_its_squared_amplitude():
    lon = np.arange(0, 360, 5.0)
    x = 2 + 3 * np.cos(np.deg2rad(4 * lon)) * np.ones((3, 1))
    power = zonal_spectrum(_labelled(x, np.array([10.0, 0, -10])))
    assert power.wavenumber.values[3] == pytest.approx(4 / 360)
    assert power[3].item() == pytest.approx(4.5)
    assert power.sum().item() == pytest.approx(x.var())


def test_variance_of_a_region_is_kept():
    rng = np.random.default_rng(0)
    lat, lon = np.arange(40.0, 20, -0.25), np.arange(100.0, 130, 0.25)
    noise = rng.normal(size=(lat.size, lon.size)) + 0.5 * lon
    x = xr.DataArray(noise, coords={"y": lat, "x": lon}, dims=("y", "x"), name="u")
    x.y.attrs["standard_name"], x.x.attrs["standard_name"] = "latitude", "longitude"
    power = zonal_spectrum(x)
    assert power.sum().item() == pytest.approx(1, abs=0.05)
    assert power.wavelength.values[[0, -1]].tolist() == [30, 0.5]
    assert zonal_spectrum(x, []).dims == ("y", "wavenumber")


def test_patches_have_their_wave_at_its_length():
    lat, lon = np.arange(10.0, -10, -0.25), np.arange(0.0, 30, 0.25)
    km = 6371.229 * np.pi / 180
    for along in ("lat", "lon"):
        place = {"lat": lat[:, None], "lon": lon}[along] * km
        x = np.cos(2 * np.pi * place / 250) + np.zeros((lat.size, lon.size))
        coords = {"lat": lat, "lon": lon}
        power = patch_spectrum(xr.DataArray(x, coords=coords, dims=("lat", "lon")))
        assert power.sum().item() == pytest.approx(0.5, rel=0.03)
        peak = power.wavelength[power.argmax("wavenumber")].item()
        assert peak == pytest.approx(250, rel=0.1)


def test_patches_are_no_globes(globe):
    with pytest.raises(errors.GridError, match=r"(?s)is for regions.*zonal_spectrum"):
        patch_spectrum(globe.u10)


def test_power_ratio_counts_what_is_above_the_coarse_nyquist():
    lon = np.arange(0, 360, 2.5)  # coarse Nyquist of factor 4: 18 waves

    def waves(*amplitudes):
        x = sum(a * np.cos(np.deg2rad(k * lon)) for k, a in amplitudes)
        return _labelled(x * np.ones((2, 1)), np.array([1.0, -1.0]))

    truth = waves((5, 9), (12, 2), (18, 3), (19, 2), (60, 1))
    estimate = waves((5, 1), (12, 4), (18, 3), (19, 1), (60, 1))
    assert power_ratio(estimate, truth).item() == pytest.approx(2 / 5)
    middle = power_ratio(estimate, truth, band=(0.5, 1)).item()
    assert middle == pytest.approx((16 + 9) / (4 + 9))
    with pytest.raises(errors.OptionError, match=r"(?s)No zonal.*rows hold"):
        power_ratio(estimate, truth, band=(4, 5))


def test_power_ratio_leaves_out_rows_with_a_gap_in_either(globe_field):
    gap = globe_field.copy(deep=True)
    gap[0, 3, 5] = np.nan
    for pair in ((gap, globe_field), (globe_field, gap)):
        assert power_ratio(*pair).item() == pytest.approx(1, abs=1e-12)
    with pytest.raises(errors.OptionError, match="no dimension 'member'"):
        power_ratio(gap, globe_field, dim="member")


def test_power_ratio_of_realizations(globe_field, other_field):
    members = xr.concat([globe_field, other_field], "realization")
    each = power_ratio(members, other_field, dim=["time", "latitude"])
    assert each.sizes == {"realization": 2}
    assert each[1].item() == pytest.approx(1)
    axes = ["time", *globe_field.dims[-2:]]
    xr.testing.assert_equal(power_ratio(members, other_field, dim=axes), each)
    every = power_ratio(members, other_field).item()
    assert every == pytest.approx(each.mean().item())
