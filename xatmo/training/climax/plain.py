"""What any forecast has to beat: no change, the usual, and linear regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["LinearForecast", "fit_linear"]

_BAND = 30.0  # degrees of latitude that share their coefficients
_MOST = 60_000  # points of a band that a fit is made on
_RIDGE = 1e-3  # of the mean variance of predictors


@dataclass(frozen=True)
class LinearForecast:
    """Least squares from all variables in nine cells to each of them, later.

    Parameters
    ----------
    usual : ndarray, shape (C, H, W)
        The mean state, which is taken off.
    scale : ndarray, shape (C,)
        Standard deviations of what is left.
    bands : ndarray of int, shape (H,)
        Which coefficients each row uses.
    weights : mapping
        Lead time in hours -> coefficients, (bands, 9 C, C).
    """

    usual: np.ndarray
    scale: np.ndarray
    bands: np.ndarray
    weights: Mapping[int, np.ndarray]

    def forecast(self, state: np.ndarray, lead: int) -> np.ndarray:
        """States later: (T, C, H, W) -> the same shape."""
        near = _near((state - self.usual) / self.scale[:, None, None])
        weights = self.weights[lead][self.bands]  # (H, 9 C, C)
        found = np.einsum("tchw,hcd->tdhw", near, weights)
        return np.asarray(found * self.scale[:, None, None] + self.usual)


def fit_linear(
    series: Sequence[tuple[np.ndarray, np.ndarray]],
    latitude: np.ndarray,
    leads: Sequence[int],
    *,
    seed: int = 7,
) -> LinearForecast:
    """Fit the regression for some lead times.

    Parameters
    ----------
    series : sequence of (times, states)
        Hours (T,), and states (T, C, H, W) of the same variables and grid, complete.
    latitude : ndarray, shape (H,)
        Degrees north. Coefficients are those of bands of 30 degrees.
    leads : sequence of int
        Hours.
    seed : int
        Of the points that a fit is made on where there are very many.

    Returns
    -------
    LinearForecast
    """
    every = np.concatenate([states for _, states in series])
    usual = every.mean(0)
    scale = (every - usual).std((0, 2, 3))
    bands = np.unique(np.floor(latitude / _BAND), return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    parts = [
        (hours, (states - usual) / scale[:, None, None]) for hours, states in series
    ]
    weights = {lead: _fitted(parts, bands, lead, rng) for lead in leads}
    return LinearForecast(usual, scale, bands, weights)


def _fitted(
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    bands: np.ndarray,
    lead: int,
    rng: np.random.Generator,
) -> np.ndarray:
    found = []
    for band in range(bands.max() + 1):
        rows = np.flatnonzero(bands == band)
        read, wanted = [], []
        for hours, anomalies in parts:
            index = {int(h): i for i, h in enumerate(hours)}
            pairs = [
                (i, index[h + lead]) for h, i in index.items() if h + lead in index
            ]
            if not pairs:
                continue
            now, later = map(list, zip(*pairs, strict=True))
            near = _near(anomalies[now])[:, :, rows]
            read.append(np.moveaxis(near, 1, -1).reshape(-1, near.shape[1]))
            target = anomalies[later][:, :, rows]
            wanted.append(np.moveaxis(target, 1, -1).reshape(-1, target.shape[1]))
        x, y = np.concatenate(read), np.concatenate(wanted)
        if len(x) > _MOST:
            some = rng.choice(len(x), _MOST, replace=False)
            x, y = x[some], y[some]
        gram = x.T @ x
        gram += _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
        found.append(np.linalg.solve(gram, x.T @ y))
    return np.stack(found)


def _near(states: np.ndarray) -> np.ndarray:
    """Each cell and its eight neighbours: (T, C, H, W) -> (T, 9 C, H, W).

    Columns close on themselves; beyond the last row is the last row again.
    """
    tall = np.concatenate([states[:, :, :1], states, states[:, :, -1:]], 2)
    rows = states.shape[2]
    shifted = [
        np.roll(tall[:, :, i : i + rows], j, axis=-1)
        for i in range(3)
        for j in (-1, 0, 1)
    ]
    return np.concatenate(shifted, 1)
