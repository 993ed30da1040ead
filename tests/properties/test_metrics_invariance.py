"""Metrics do not depend on chunks, orientation or where the longitudes begin."""

from __future__ import annotations

import sys

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings

from xatmo import metrics
from xatmo.testing import raise_if_computes, synthetic_winds

LAT, LON = np.arange(87.5, -90, -5.0), np.arange(0, 360, 5.0)
DS = synthetic_winds(6, LAT, LON).astype(float, keep_attrs=True)
TRUTH = DS.u10
rng = np.random.default_rng(0)
ESTIMATE = TRUTH + rng.normal(size=TRUTH.shape)
ENSEMBLE = TRUTH + xr.DataArray(
    rng.normal(size=(4, *TRUTH.shape)), dims=("realization", *TRUTH.dims)
)

ONE = {
    "percentiles": metrics.percentiles,
    "zonal_spectrum": metrics.zonal_spectrum,
    "semivariogram": lambda x: metrics.semivariogram(x, [800, 3000], samples=500),
    "total_variation": metrics.total_variation,
    "at_cities": metrics.at_cities,
}
TWO = {
    "rmse": metrics.rmse,
    "mae": metrics.mae,
    "bias": metrics.bias,
    "wasserstein": lambda x, y: metrics.wasserstein(x, y, dim=None),
    "power_ratio": metrics.power_ratio,
    "anomaly_correlation": lambda x, y: metrics.anomaly_correlation(x, y, 0 * y),
    "standard_deviation_ratio": metrics.standard_deviation_ratio,
    "gap_spectrum_ratio": lambda x, y: metrics.gap_spectrum_ratio(x, y, y > 0),
    "crps_normal": lambda x, y: metrics.crps_normal(x, 1 + abs(x), y),
    "spread_ratio": lambda x, y: metrics.spread_ratio(x, 1 + abs(x), y),
    "spread_error_curve": lambda x, y: metrics.spread_error_curve(x, 1 + abs(x), y, 3),
    "spread_error_slope": lambda x, y: metrics.spread_error_slope(x, 1 + abs(x), y, 3),
}
ENSEMBLES = {
    "crps": metrics.crps,
    "rank_histogram": metrics.rank_histogram,
    "spread": lambda x, _: metrics.spread(x),
    "spread_error_ratio": metrics.spread_error_ratio,
}
ALL = {
    **{name: (f, (ESTIMATE,)) for name, f in ONE.items()},
    **{name: (f, (ESTIMATE, TRUTH)) for name, f in TWO.items()},
    **{name: (f, (ENSEMBLE, TRUTH)) for name, f in ENSEMBLES.items()},
    "kinetic_energy_spectrum": (
        lambda u, v: metrics.kinetic_energy_spectrum(u.to_dataset().assign(v10=v)),
        (DS.u10, DS.v10),
    ),
}


def _values(score):
    """Values without the longitudes' convention."""
    return np.asarray(score.values, float)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    time=st.integers(1, 6),
    lat=st.integers(4, 36),
    lon=st.integers(5, 72),
    m=st.integers(1, 4),
)
def test_chunks_do_not_matter_and_nothing_is_computed(name, time, lat, lon, m):
    function, arrays = ALL[name]
    sizes = {"time": time, "latitude": lat, "longitude": lon, "realization": m}
    lazy = [a.chunk({k: n for k, n in sizes.items() if k in a.dims}) for a in arrays]
    with raise_if_computes():
        score = function(*lazy)
    assert score.chunks is not None
    np.testing.assert_allclose(
        _values(score), _values(function(*arrays)), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", ALL)
def test_orientation_does_not_matter(name):
    function, arrays = ALL[name]

    def turned(a):
        a = a.isel(latitude=slice(None, None, -1))
        return a.roll(longitude=13, roll_coords=True)

    def westward(a):
        return a.assign_coords(longitude=(a.longitude + 180) % 360 - 180)

    wanted = _values(function(*arrays))
    for change in (turned, westward, lambda a: turned(westward(a))):
        got = _values(function(*(change(a) for a in arrays)))
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)


# The energy spectrum takes a Dataset of winds as one thing.
@pytest.mark.parametrize("name", sorted(set(ALL) - {"kinetic_energy_spectrum"}))
def test_datasets_give_datasets(name):
    function, arrays = ALL[name]
    datasets = [xr.Dataset({"u10": a, "half": a / 2}) for a in arrays]
    score = function(*datasets)
    assert set(score.data_vars) == {"u10", "half"}
    np.testing.assert_allclose(_values(score.u10), _values(function(*arrays)))


def test_no_torch_is_needed():
    import subprocess

    code = "import sys, xatmo.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
