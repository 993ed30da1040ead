"""Plain distances between patches of fields: what a learnt one is compared with."""

from __future__ import annotations

import numpy as np

__all__ = ["eof_basis", "psnr", "ssim", "ssim_distance"]

_POINTS, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03
_TILE = 24  # rows at a time: a wider matrix would hold little but zeros


def ssim(
    x: np.ndarray, y: np.ndarray, data_range: float | np.ndarray | None = None
) -> np.ndarray:
    """Return the structural similarity of pairs of fields, averaged over channels.

    Gaussian windows of 11 points (sigma 1.5), population covariances, and the mean
    over all windows that lie inside the patch: what scikit-image calls
    ``structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False)``, on whole batches.

    Parameters
    ----------
    x, y : ndarray, shape (n, channel, row, column)
        Both at least 11 points high and wide.
    data_range : float, optional
        Largest minus smallest value there can be; that of the batch if not given.

    Returns
    -------
    ndarray, shape (n,)
        1 for equal fields.

    References
    ----------
    Wang, Z. et al. (2004): Image quality assessment: from error visibility to
    structural similarity. IEEE Trans. Image Process. 13, 600-612.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(3, 1, 16, 16))
    >>> ssim(x, x).round(6).tolist(), bool((ssim(x, -x) < 0.9).all())
    ([1.0, 1.0, 1.0], True)
    """
    if data_range is None:
        data_range = float(max(x.max(), y.max()) - min(x.min(), y.min()))
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    x, y = np.asarray(x, float), np.asarray(y, float)
    mx, my = _smooth(x), _smooth(y)
    # Both variances appear only as their sum: one smoothing does for the two.
    variances = _smooth(x * x + y * y) - mx * mx - my * my
    covariance = _smooth(x * y) - mx * my
    above = (2 * mx * my + c1) * (2 * covariance + c2)
    below = (mx * mx + my * my + c1) * (variances + c2)
    return (above / below).mean(axis=(1, 2, 3))


def _smooth(x: np.ndarray) -> np.ndarray:
    """Means (..., h - 10, w - 10) over Gaussian windows: by rows, then by columns."""
    return _along_rows(_along_rows(x).swapaxes(-1, -2)).swapaxes(-1, -2)


def _along_rows(x: np.ndarray) -> np.ndarray:
    """Smooth the rows of (..., h, w), some at a time, by products with a matrix."""
    rows = x.shape[-2] - _POINTS + 1
    out = np.empty((*x.shape[:-2], rows, x.shape[-1]))
    for first in range(0, rows, _TILE):
        count = min(_TILE, rows - first)
        part = x[..., first : first + count + _POINTS - 1, :]
        np.matmul(_windows(count), part, out=out[..., first : first + count, :])
    return out


def _windows(count: int) -> np.ndarray:
    """Return the matrix (count, count + 10) whose rows are Gaussian windows."""
    away = np.arange(_POINTS) - _POINTS // 2
    weights = np.exp(-0.5 * (away / _SIGMA) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((count, count + _POINTS - 1))
    for first, row in enumerate(matrix):
        row[first : first + _POINTS] = weights
    return matrix


def ssim_distance(
    x: np.ndarray, y: np.ndarray, data_range: float | None = None
) -> np.ndarray:
    """Return ``1 - (1 + SSIM) / 2``: 0 for equal fields, 1 for opposite ones.

    As in the comparison of the AtmoDist paper; arguments as for :func:`ssim`.
    """
    return (1 - ssim(x, y, data_range)) / 2


def psnr(mean_square: np.ndarray, peak: float) -> np.ndarray:
    """Return the peak signal-to-noise ratio (decibel) for mean squared errors.

    Examples
    --------
    >>> psnr(np.array([0.01]), peak=1.0)
    array([20.])
    """
    return 10 * np.log10(peak**2 / np.maximum(mean_square, 1e-12))


def eof_basis(samples: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the leading EOFs of samples (n, m): basis (m, components) and mean (m,).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(50, 1)) * np.array([[3.0, 4.0]])
    >>> basis, mean = eof_basis(x, 1)
    >>> np.abs(basis[:, 0]).round(3)
    array([0.6, 0.8])
    """
    from scipy.linalg import eigh

    mean = samples.mean(0)
    anomalies = np.asarray(samples - mean, float)
    # The smaller of the two Gram matrices has the same leading directions.
    wide = anomalies.shape[0] < anomalies.shape[1]
    gram = anomalies @ anomalies.T if wide else anomalies.T @ anomalies
    size = len(gram)
    kept = min(components, size)
    values, vectors = eigh(gram, subset_by_index=[size - kept, size - 1])
    basis = vectors[:, ::-1]
    if wide:
        basis = anomalies.T @ basis / np.sqrt(np.maximum(values[::-1], 1e-300))
    return basis.astype(samples.dtype), mean
