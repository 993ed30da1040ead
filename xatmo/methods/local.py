"""Residuals spread into gaps by optimal interpolation on a regular grid.

The covariance is a product of exponentials along time, latitude and longitude. Such a
product is applied by running forth and back along each axis, at the cost of a few
additions per cell, so that no matrix is ever built and nothing is cut into windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Correlation", "spread_out"]


@dataclass(frozen=True)
class Correlation:
    """Of residuals one step apart, along time, latitude and longitude.

    Attributes
    ----------
    time, latitude, longitude : float
        Correlation of neighbours, from 0 to below 1.
    noise : float
        Variance that no neighbour shares, relative to the one they share.
    """

    time: float
    latitude: float
    longitude: float
    noise: float


def spread_out(
    residual: np.ndarray,
    correlation: Correlation,
    steps: np.ndarray,
    *,
    periodic: bool,
    iterations: int = 25,
) -> np.ndarray:
    """Estimate residuals everywhere from where they are known (simple kriging).

    Parameters
    ----------
    residual : ndarray, shape (T, H, W)
        NaN where not known; its mean is taken to be 0.
    correlation : Correlation
    steps : ndarray, shape (T - 1,)
        Distances between times; 1 is the usual one.
    periodic : bool
        Whether the last column is the first one's neighbour.
    iterations : int
        Of conjugate gradients, at most.

    Returns
    -------
    ndarray, shape (T, H, W)
    """
    known = np.isfinite(residual)
    decays = (
        correlation.time**steps,
        np.full(residual.shape[1] - 1, correlation.latitude),
        np.full(residual.shape[2] - 1, correlation.longitude),
    )
    ring = correlation.longitude if periodic else None

    def covariance(x: np.ndarray) -> np.ndarray:
        for axis, decay in enumerate(decays):
            x = _exponential(x, decay, axis, ring if axis == 2 else None)
        return x

    def observed(x: np.ndarray) -> np.ndarray:
        return known * covariance(x) + correlation.noise * x

    right = np.where(known, residual, 0.0)
    return covariance(_conjugate_gradients(observed, right, iterations))


def _conjugate_gradients(
    apply: Callable[[np.ndarray], np.ndarray],
    right: np.ndarray,
    iterations: int,
    tolerance: float = 0.005,
) -> np.ndarray:
    x, left = np.zeros_like(right), right.copy()
    direction, size = left.copy(), np.vdot(left, left)
    enough = tolerance**2 * size
    for _ in range(iterations):
        if size <= enough:
            break
        image = apply(direction)
        step = size / np.vdot(direction, image)
        x += step * direction
        left -= step * image
        previous, size = size, np.vdot(left, left)
        direction = left + size / previous * direction
    return x


def _exponential(
    x: np.ndarray, decay: np.ndarray, axis: int, ring: float | None
) -> np.ndarray:
    """Sum along an axis, weighted by the product of decays between two places."""
    if not decay.any():
        return x
    x = np.moveaxis(x, axis, 0)
    before, after = np.empty_like(x), np.empty_like(x)
    before[0], after[-1] = x[0], 0.0
    if ring is not None:
        # What has come round: a geometric sum over all columns, again and again.
        n = len(x)
        weights = ring ** np.arange(n) / (1 - ring**n)
        before[0] = np.tensordot(weights, np.roll(x[::-1], 1, 0), 1)
        after[-1] = np.tensordot(ring * weights, x, 1)
    for i in range(1, len(x)):
        before[i] = decay[i - 1] * before[i - 1] + x[i]
        after[-1 - i] = decay[-i] * (after[-i] + x[-i])
    return np.moveaxis(before + after, 0, axis)
