"""How far the nearest observation is, and the errors to expect at that distance.

Distances are counted in grid points; a time step counts as ``step`` of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["ByDistance", "distance_to_observed", "distances_at", "spread_by_distance"]

_CLASSES = 12  # of distances
_IN_CLASS = 50  # cells, at least


def distance_to_observed(
    observed: np.ndarray,
    periodic: bool = False,
    *,
    step: float = 1.0,
    farthest: float = 64.0,
) -> np.ndarray:
    """Measure the distance in space and time to the nearest observation.

    Parameters
    ----------
    observed : ndarray of bool, shape (T, h, w)
    periodic : bool
        Whether the last column is the first one's neighbour.
    step : float
        Points that a time step counts as.
    farthest : float
        What is further off is put at this distance. Times further off than this do not
        matter.

    Returns
    -------
    ndarray of float32, shape (T, h, w)
        Exact, in grid points; 0 where observed.

    Examples
    --------
    >>> import numpy as np
    >>> observed = np.zeros((1, 2, 6), bool)
    >>> observed[0, 0, 0] = True
    >>> distance_to_observed(observed, periodic=True)[0].round(1)
    array([[0. , 1. , 2. , 3. , 2. , 1. ],
           [1. , 1.4, 2.2, 3.2, 2.2, 1.4]], dtype=float32)
    """
    every = np.arange(len(observed))
    return distances_at(observed, every, periodic, step, farthest)


def distances_at(
    observed: np.ndarray,
    times: np.ndarray,
    periodic: bool,
    step: float,
    farthest: float,
) -> np.ndarray:
    """Return distances at some times only, (n, h, w)."""
    around = math.ceil(farthest / step) - 1
    near = (np.abs(np.arange(len(observed))[:, None] - times) <= around).any(axis=1)
    square = np.full(observed.shape, farthest**2, np.float32)
    for t in np.flatnonzero(near):
        if observed[t].any():
            square[t][observed[t]] = 0
            square[t] = _nearer(_nearer(square[t].T, periodic).T)
    out = square[times]
    for k in range(1, around + 1):
        for later in (times + k, times - k):
            inside = (later >= 0) & (later < len(square))
            other = square[later[inside]] + np.float32((k * step) ** 2)
            out[inside] = np.minimum(out[inside], other)
    return np.sqrt(out)


def _nearer(square: np.ndarray, periodic: bool = False) -> np.ndarray:
    """Let squared distances reach along the first axis."""
    n, out = len(square), square.copy()
    for k in range(1, n // 2 + 1 if periodic else n):
        if k * k >= out.max():
            break
        ahead = square + np.float32(k * k)
        np.minimum(out[k:], ahead[:-k], out=out[k:])
        np.minimum(out[:-k], ahead[k:], out=out[:-k])
        if periodic:
            np.minimum(out[:k], ahead[-k:], out=out[:k])
            np.minimum(out[-k:], ahead[:k], out=out[-k:])
    return out


@dataclass(frozen=True)
class ByDistance:
    """Spread as a function of the distance to the nearest observation.

    Attributes
    ----------
    distance, spread : ndarray, shape (k,)
        Both ascending; straight lines between them, constant beyond. With k = 0 the
        spread is not known: NaN.
    step : float
        Points that a time step counts as: that of :func:`distance_to_observed`.
    """

    distance: np.ndarray
    spread: np.ndarray
    step: float = 1.0

    @property
    def reach(self) -> float:
        """Distance beyond which nothing changes."""
        return float(self.distance[-1]) if self.distance.size else 0.0

    def __call__(self, distance: np.ndarray) -> np.ndarray:
        """Spread at distances of any shape; 0 where they are 0, at observations."""
        if not self.distance.size:
            return np.where(distance > 0, np.nan, 0.0)
        spread = np.interp(distance, self.distance, self.spread)
        return np.where(distance > 0, spread, 0.0)


def spread_by_distance(
    errors: np.ndarray,
    distance: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    step: float = 1.0,
) -> ByDistance:
    """Estimate how errors grow with the distance to the nearest observation.

    Parameters
    ----------
    errors, distance : ndarray, shape (k,)
        Distances as of :func:`distance_to_observed`; errors that are NaN do not count.
    weights : ndarray, shape (k,), optional
    step : float
        What distances were measured with.

    Returns
    -------
    ByDistance
        Root mean square errors in classes of the distance, made to grow.

    Examples
    --------
    >>> import numpy as np
    >>> distance = np.repeat([1.0, 2.0, 3.0], 100)
    >>> errors = np.repeat([0.5, 1.5, 1.0], 100)
    >>> spread = spread_by_distance(errors, distance)
    >>> spread(np.array([0.0, 1.0, 9.0])).round(3).tolist()
    [0.0, 0.5, 1.275]
    """
    good = np.isfinite(errors)
    order = np.argsort(distance[good], kind="stable")
    away, square = distance[good][order], np.square(errors[good][order])
    area = np.ones(away.size) if weights is None else weights[good][order]
    if not away.size:
        return ByDistance(np.zeros(0), np.zeros(0), step)
    classes = min(_CLASSES, max(1, away.size // _IN_CLASS))
    # Equal distances stay together.
    cuts = np.unique(
        np.searchsorted(away, np.quantile(away, np.arange(classes) / classes))
    )
    size = np.add.reduceat(area, cuts)
    middle = np.add.reduceat(area * away, cuts) / size
    variance = _rising(np.add.reduceat(area * square, cuts) / size, size)
    return ByDistance(middle, np.sqrt(variance), step)


def _rising(y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Never falling values nearest to y: neighbours that fall are pooled."""
    pools: list[tuple[float, float, int]] = []
    for value, size in zip(y.tolist(), weight.tolist(), strict=True):
        pool = (value, size, 1)
        while pools and pools[-1][0] > pool[0]:
            before, held, count = pools.pop()
            total = held + pool[1]
            mean = (before * held + pool[0] * pool[1]) / total
            pool = (mean, total, count + pool[2])
        pools.append(pool)
    return np.repeat([p[0] for p in pools], [p[2] for p in pools])
