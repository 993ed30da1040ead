"""Distances against time lag, each on a common scale by a factor of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from xatmo.training.sampling import PairSampler
from xatmo.training.scores.scorer import Scorer
from xatmo.training.scores.spaces import DEFINITIONS

__all__ = ["curves", "fit_alpha", "scale"]

_BATCH = 256
# Its zero is arbitrary, so shares and relative spreads of it would be as well.
_WITHOUT_ZERO = {"psnr"}


def curves(
    distances: dict[str, np.ndarray], label: np.ndarray, lags_hours: list[int]
) -> dict[str, Any]:
    """Mean and spread of every distance for each lag.

    Parameters
    ----------
    distances : dict of str to ndarray, shape (n,)
        Of the same pairs; ``l2`` among them, which alpha is fitted to.
    label : ndarray of int, shape (n,)
        Class of the lag.
    lags_hours : list of int
        Lags of the classes; those without pairs are left out.

    Returns
    -------
    dict
        ``lags_hours``, ``pairs``, and for each of ``metrics``: ``mean``, ``std``
        (over pairs), ``alpha``, ``scaled_mean``, ``scaled_std``, ``variation`` (std /
        mean), and ``share_at_24h`` (of the value at the longest lag).
    """
    classes = np.unique(label)
    hours = [lags_hours[i] for i in classes]
    members = [label == i for i in classes]
    target = np.array([distances["l2"][m].mean() for m in members])
    table = {
        name: _curve(name, values, members, target, hours)
        for name, values in distances.items()
    }
    return {
        "lags_hours": hours,
        "pairs": [int(m.sum()) for m in members],
        "space": "log-normalised fields (winds: standardised components)",
        "alpha": "least squares over the longer half of the lags, of a distance's mean "
        "against the mean of l2",
        "metrics": table,
    }


def _curve(
    name: str,
    values: np.ndarray,
    members: list[np.ndarray],
    target: np.ndarray,
    hours: list[int],
) -> dict[str, Any]:
    mean = np.array([values[m].mean() for m in members])
    std = np.array([values[m].std() for m in members])
    alpha = scale(mean, target)
    curve = {
        "definition": DEFINITIONS[name],
        "mean": mean.tolist(),
        "std": std.tolist(),
        "alpha": alpha,
        "scaled_mean": (alpha * mean).tolist(),
        "scaled_std": (alpha * std).tolist(),
    }
    if name not in _WITHOUT_ZERO:
        curve["variation"] = (std / mean).tolist()
        if 24 in hours and hours[-1] > 24:
            curve["share_at_24h"] = float(mean[hours.index(24)] / mean[-1])
    return curve


def scale(mean: np.ndarray, target: np.ndarray) -> float:
    """Return the factor by which a curve comes nearest to another one.

    Least squares over the longer half of the lags, as in the paper.

    Examples
    --------
    >>> scale(np.array([9.0, 9.0, 1.0, 2.0]), np.array([0.0, 0.0, 3.0, 6.0]))
    3.0
    """
    half = slice(len(mean) // 2, None)
    c, m = mean[half], target[half]
    return float((c * m).sum() / (c * c).sum())


def fit_alpha(
    scorer: Scorer, sampler: PairSampler, layer: str, count: int = 12_000
) -> float:
    """Fit the scale between distance and mean squared error, as the paper does.

    Least squares over the longer half of the lags, of the mean distance of each lag
    against the mean squared error of the same pairs in log-normalised fields.
    """
    n_lags = sampler.sampling.n_lags
    sums = np.zeros((n_lags, 3))
    for number in range(-(-count // _BATCH)):
        batch = sampler.batch(number, _BATCH)
        a, b = scorer.encode(batch.first, layer), scorer.encode(batch.second, layer)
        x, y = (torch.from_numpy(scorer.fields(p)) for p in (batch.first, batch.second))
        d = (a - b).square().flatten(1).mean(1).numpy()
        m = (x - y).square().flatten(1).mean(1).numpy()
        np.add.at(sums, batch.label, np.stack([np.ones_like(d), d, m], 1))
    return scale(sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0])
