"""What plain distances there are to compare with, and how sure a score is."""

from __future__ import annotations

import numpy as np

__all__ = ["block_bootstrap", "eof_basis", "ssim_distance"]


def block_bootstrap(
    values: np.ndarray, blocks: np.ndarray, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of a mean whose values depend on each other in blocks.

    Whole blocks (some days of weather, say) are drawn with replacement.

    Parameters
    ----------
    values, blocks : ndarray, shape (n,)
        The values, and which block each belongs to.

    Returns
    -------
    low, high : float
        NaN if there are no values.
    """
    names, which = np.unique(blocks, return_inverse=True)
    if not names.size:
        return float("nan"), float("nan")
    total = np.bincount(which, values, names.size)
    count = np.bincount(which, minlength=names.size)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(names.size, size=(draws, names.size))
    means = total[drawn].sum(1) / count[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


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
    mean = samples.mean(0)
    _, _, rows = np.linalg.svd(samples - mean, full_matrices=False)
    return rows[:components].T, mean


def ssim_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return ``1 - SSIM`` of pairs of fields (n, C, h, w), averaged over channels.

    Gaussian windows of 11 points (sigma 1.5) and the joint range of the batch, as in
    the AtmoDist paper's comparison. Needs scikit-image.
    """
    from skimage.metrics import structural_similarity

    span = float(max(x.max(), y.max()) - min(x.min(), y.min()))
    scores = [
        structural_similarity(
            a, b, channel_axis=0, data_range=span, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(x, y, strict=True)
    ]  # fmt: skip
    return 1 - np.asarray(scores)
