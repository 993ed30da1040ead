"""How sure a score is whose values depend on each other."""

from __future__ import annotations

import numpy as np

__all__ = ["block_bootstrap"]


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
