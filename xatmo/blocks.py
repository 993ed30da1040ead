"""Blocks of fine values and their means: arrays only, for whoever makes grids finer.

A coarse value stands for the plain mean of its block of ``factor`` x ``factor`` values.
"""

from __future__ import annotations

import numpy as np

__all__ = ["block_mean", "split", "with_means"]


def split(fine: np.ndarray, factor: int) -> np.ndarray:
    """Cut maps into blocks, in place: (..., f h, f w) -> (..., h, f, w, f)."""
    *batch, rows, columns = fine.shape
    return fine.reshape(*batch, rows // factor, factor, columns // factor, factor)


def block_mean(fine: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of factor x factor points: (..., f h, f w) -> (..., h, w)."""
    return split(fine, factor).mean(axis=(-3, -1))


def with_means(
    fine: np.ndarray, coarse: np.ndarray, factor: int, rows: slice = slice(None)
) -> np.ndarray:
    """Shift every block of fine maps so that its mean is the coarse value.

    In the precision of ``coarse``, but for the means, which are taken in double.

    Parameters
    ----------
    fine : ndarray, shape (..., factor h, factor w)
    coarse : ndarray, shape (..., h, w)
    factor : int
    rows : slice
        The fine rows that count; the others are left out afterwards. At least one in
        each block.

    Returns
    -------
    ndarray, shape (..., factor h, factor w)

    Examples
    --------
    >>> import numpy as np
    >>> fine = np.array([[1.0, 2.0], [3.0, 6.0]])
    >>> with_means(fine, np.array([[10.0]]), 2).tolist()
    [[8.0, 9.0], [10.0, 13.0]]
    >>> with_means(fine, np.array([[10.0]]), 2, slice(1, 2))[1].tolist()
    [8.5, 11.5]
    """
    *batch, h, w = coarse.shape
    blocks = fine.astype(coarse.dtype).reshape(*batch, h, factor, w * factor)
    there = np.zeros(h * factor, bool)
    there[rows] = True
    there = there.reshape(h, factor)
    blocks[..., ~there, :] = 0.0
    # Column sums first: all of them run along the memory.
    sums = blocks.sum(-2, np.float64).reshape(*batch, h, w, factor).sum(-1)
    shift = (coarse - sums / (factor * there.sum(1)[:, None])).astype(coarse.dtype)
    blocks += shift.repeat(factor, -1)[..., None, :]
    return blocks.reshape(fine.shape)
