"""Plain distances between patches, against other people's code and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from xatmo.metrics.patches import eof_basis, psnr, ssim, ssim_distance

RNG = np.random.default_rng(0)


def _smooth_fields(shape):
    """Fields with some structure, and noisy copies of them."""
    from scipy.ndimage import gaussian_filter

    x = gaussian_filter(RNG.normal(size=shape), (0, 0, 3, 3)) * 10
    return x, x + 0.3 * RNG.normal(size=shape)


@pytest.mark.parametrize("size", [(32, 32), (11, 40), (64, 17)])
@pytest.mark.parametrize("data_range", [None, 7.5])
def test_ssim_is_that_of_scikit_image(size, data_range):
    metrics = pytest.importorskip("skimage.metrics", reason="no scikit-image here")
    x, y = _smooth_fields((5, 2, *size))
    span = data_range or max(x.max(), y.max()) - min(x.min(), y.min())
    expected = [
        metrics.structural_similarity(
            a, b, channel_axis=0, data_range=span, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(x, y, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(ssim(x, y, data_range), expected, atol=1e-6, rtol=0)
    single = ssim(x.astype(np.float32), y.astype(np.float32), span)
    np.testing.assert_allclose(single, expected, atol=1e-6, rtol=0)


def test_ssim_of_equal_and_of_opposite_fields():
    x = np.random.default_rng(0).normal(size=(2, 2, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(ssim_distance(x, x), 0, atol=1e-6)
    assert (ssim_distance(x, -x) > 0.1).all()
    np.testing.assert_allclose(ssim_distance(x, -x), (1 - ssim(x, -x)) / 2)


def test_psnr_of_equal_fields_is_finite():
    assert np.isfinite(psnr(np.zeros(1), 1.0)).all()


def test_eofs_are_orthonormal_and_carry_the_variance():
    x = RNG.normal(size=(200, 3)) @ np.diag([9.0, 3.0, 1.0])
    basis, mean = eof_basis(x, 2)
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-12)
    kept = ((x - mean) @ basis).var(0).sum() / x.var(0).sum()
    assert kept > 0.95


@pytest.mark.parametrize("shape", [(40, 15), (15, 40)])
def test_eofs_are_those_of_a_singular_value_decomposition(shape):
    x = RNG.normal(size=shape) * np.linspace(5, 1, shape[1])
    basis, mean = eof_basis(x, 4)
    _, _, rows = np.linalg.svd(x - x.mean(0), full_matrices=False)
    np.testing.assert_allclose(mean, x.mean(0))
    np.testing.assert_allclose(np.abs(basis.T @ rows[:4].T), np.eye(4), atol=1e-8)
