"""Power inside gaps: of fields whose spectrum is known, whatever is around them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo.metrics import gap_spectrum_ratio
from xatmo.testing import raise_if_computes
from xatmo.testing.gaps import gap_mask


def _steep(slope, cut, n=96, times=12):
    """Fields with a spectrum of k**-slope, and with a part of its short waves."""
    k = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n))
    noise = np.fft.rfft2(np.random.default_rng(1).normal(size=(times, n, n)))
    waves = noise * np.where(k > 0, np.maximum(k, 1 / n) ** (-(slope + 1) / 2), 0)
    coords = {"lat": 30 + 0.1 * np.arange(n), "lon": 0.1 * np.arange(n)}
    return [
        xr.DataArray(np.fft.irfft2(w, s=(n, n)), coords, ("time", "lat", "lon"))
        for w in (waves, waves * np.where(k > 0.125, cut, 1.0))
    ]


@pytest.mark.parametrize("family", ["random_50", "blocks", "clouds", "swaths"])
@pytest.mark.parametrize("slope", [5 / 3, 3])
def test_gaps_do_not_leak(family, slope):
    for cut in (0.0, 0.5, 1.0):
        truth, estimate = _steep(slope, cut)
        gaps = truth.copy(data=gap_mask(family, truth.shape))
        ratio = gap_spectrum_ratio(estimate, truth, gaps)
        assert ratio.sel(band="small").item() == pytest.approx(cut**2, abs=0.06)
        assert 0.85 < ratio.sel(band="total").item() <= 1 + 1e-9


def test_only_the_inside_counts():
    truth, estimate = _steep(2, 0.5)
    gaps = truth.copy(data=gap_mask("blocks", truth.shape))
    ratio = gap_spectrum_ratio(estimate, truth, gaps)
    other = gap_spectrum_ratio(estimate.where(gaps, 99), truth.where(gaps, -9), gaps)
    xr.testing.assert_allclose(other, ratio)
    xr.testing.assert_allclose(
        gap_spectrum_ratio(estimate, truth.where(gaps), gaps), ratio
    )
    nothing = gap_spectrum_ratio(estimate, truth, gaps * False)
    assert np.isnan(nothing).all()


def test_constant_and_perfect_fillings():
    truth, _ = _steep(2, 1)
    gaps = truth.copy(data=gap_mask("clouds", truth.shape))
    constant = gap_spectrum_ratio(truth * 0 + 7, truth, gaps)
    np.testing.assert_allclose(constant, 0, atol=1e-12)
    np.testing.assert_allclose(gap_spectrum_ratio(truth, truth, gaps), 1)
    np.testing.assert_allclose(gap_spectrum_ratio(3 * truth + 1, truth, gaps), 9)


def test_total_is_the_variance_inside():
    truth, estimate = (x.isel(time=[0]) for x in _steep(2, 0.0))
    gaps = truth.copy(data=gap_mask("centre_hole", truth.shape))
    ratio = gap_spectrum_ratio(estimate, truth, gaps).sel(band="total")
    inside = gaps.values
    wanted = estimate.values[inside].var() / truth.values[inside].var()
    assert ratio.item() == pytest.approx(wanted)


def test_gap_spectra_by_time_lazy_and_by_variable():
    truth, estimate = _steep(2, 0.5, n=32, times=4)
    gaps = truth.copy(data=gap_mask("clouds", truth.shape, 1, duration=1))
    eager = gap_spectrum_ratio(estimate, truth, gaps, dim=[])
    assert eager.dims == ("time", "band")
    each = [
        gap_spectrum_ratio(*(x.isel(time=t) for x in (estimate, truth, gaps)))
        for t in range(4)
    ]
    np.testing.assert_allclose(eager, each)
    chunks = {"time": 2, "lat": 9}
    lazy_inputs = [x.chunk(chunks) for x in (estimate, truth, gaps)]
    with raise_if_computes():
        lazy = gap_spectrum_ratio(*lazy_inputs, dim=["lat", "lon"])
    xr.testing.assert_allclose(lazy, eager)
    flipped = estimate.isel(lat=slice(None, None, -1)).transpose("lon", ...)
    xr.testing.assert_allclose(gap_spectrum_ratio(flipped, truth, gaps, []), eager)
    as_sets = [x.to_dataset(name="u") for x in (estimate, truth, gaps)]
    xr.testing.assert_identical(
        gap_spectrum_ratio(*as_sets, dim=[]).u, eager.rename("u")
    )


def test_maps_too_small_for_a_wave():
    truth = _steep(2, 1, n=4, times=1)[0].isel(lat=slice(2), lon=slice(2))
    ratio = gap_spectrum_ratio(truth, truth, truth.copy(data=truth.data < 9))
    assert np.isnan(ratio.sel(band="small").item())
    assert ratio.sel(band="total").item() == 1


def test_each_short_wave_counts_alike_around_the_globe():
    coords = {"lat": np.arange(-60.0, 61, 20), "lon": np.arange(0.0, 360, 9)}
    wave = np.arange(40) * 2 * np.pi / 40
    parts = [
        xr.DataArray(np.tile(np.cos(k * wave + k), (7, 1)), coords, ("lat", "lon"))
        for k in (3, 12, 18)  # of 40 points: one long, two of the upper half
    ]
    truth = sum(parts)
    everywhere = truth.copy(data=np.ones(truth.shape, bool))
    for kept, small, total in (((0, 1), 1 / 2, 2 / 3), ((0,), 0, 1 / 3)):
        estimate = sum(parts[i] for i in kept)
        ratio = gap_spectrum_ratio(estimate, truth, everywhere)
        np.testing.assert_allclose(ratio, [small, total], atol=1e-9)


@pytest.mark.parametrize("which", [0, 1])
def test_cells_that_one_lacks_do_not_count(which):
    fields = _steep(2, 0.5, n=32, times=2)
    gaps = fields[0].copy(data=gap_mask("blocks", fields[0].shape, share=0.6))
    known = fields[0].copy(data=~gap_mask("random_50", fields[0].shape, share=0.1))
    truth, estimate = fields
    wanted = gap_spectrum_ratio(estimate, truth, gaps & known)
    fields[which] = fields[which].where(known)
    found = gap_spectrum_ratio(fields[1], fields[0], gaps)
    xr.testing.assert_allclose(found, wanted)
