"""Scores of projections, as ClimateBench has them, and plain methods beside.

After: Watson-Parris and others, "ClimateBench v1.0" (2022),
https://doi.org/10.1029/2021MS002954.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xatmo.training.projection.windows import Windowed

__all__ = ["global_mean", "pattern_scaling", "projection_scores", "training_mean"]

_WEIGHT = 5.0  # of the global score in the total


def global_mean(maps: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Mean by area: (..., H, W) -> (...)."""
    weights = np.cos(np.deg2rad(latitude))
    weights = weights / weights.mean()
    mean: np.ndarray = (np.asarray(maps, np.float64) * weights[:, None]).mean((-2, -1))
    return mean


def projection_scores(
    projected: np.ndarray,
    true: np.ndarray,
    latitude: np.ndarray,
    unit: float | None = None,
) -> dict[str, float]:
    """Score maps of some years.

    Parameters
    ----------
    projected, true : ndarray, shapes (T, H, W)
    latitude : ndarray, shape (H,)
        Degrees.
    unit : float, optional
        By which errors are divided: the absolute global mean of the truth over all
        years if not given.

    Returns
    -------
    dict
        ``nrmse_s``, of the means over time; ``nrmse_g``, of the global means;
        ``total``, the first and five times the second; ``rmse``, of a year's map, as
        a mean over years, and in the units of the maps.

    Examples
    --------
    >>> import numpy as np
    >>> from xatmo.training.projection.scores import projection_scores
    >>> true = np.full((3, 2, 4), 2.0)
    >>> scores = projection_scores(true + 1, true, np.array([-45.0, 45.0]))
    >>> {name: round(value, 3) for name, value in scores.items()}
    {'nrmse_s': 0.5, 'nrmse_g': 0.5, 'total': 3.0, 'rmse': 1.0}
    """
    projected, true = (np.asarray(x, np.float64) for x in (projected, true))
    if unit is None:
        unit = float(abs(global_mean(true.mean(0), latitude)))
    of_means = (projected.mean(0) - true.mean(0)) ** 2
    spatial = np.sqrt(global_mean(of_means, latitude)) / unit
    difference = global_mean(projected, latitude) - global_mean(true, latitude)
    whole = np.sqrt((difference**2).mean()) / unit
    rmse = np.sqrt(global_mean((projected - true) ** 2, latitude)).mean()
    scores = (spatial, whole, spatial + _WEIGHT * whole, rmse)
    names = ("nrmse_s", "nrmse_g", "total", "rmse")
    return {name: float(x) for name, x in zip(names, scores, strict=True)}


def training_mean(train: Windowed, test: Windowed) -> np.ndarray:
    """Project the mean of what was trained on, every year: (T, H, W)."""
    mean = train.targets().mean(0, dtype=np.float64)
    return np.broadcast_to(mean, (len(test), *mean.shape))


def pattern_scaling(
    train: Windowed, test: Windowed, variables: Sequence[int]
) -> np.ndarray:
    """Project by linear regression on forcings, in each cell: (T, H, W).

    Parameters
    ----------
    train, test : Windowed
    variables : sequence of int
        Numbers of the forcings, of which global means in the last year count. CO2
        alone, summed since 1850, is pattern scaling: warming is about proportional.
    """
    x, new = (
        np.stack([windows.last(number) for number in variables], 1).astype(np.float64)
        for windows in (train, test)
    )  # (n, V)
    centre, unit = x.mean(0), x.std(0)
    unit = np.where(unit > 0, unit, 1.0)
    maps = train.targets().astype(np.float64)
    mean = maps.mean(0)
    slopes, *_ = np.linalg.lstsq(
        (x - centre) / unit, (maps - mean).reshape(len(maps), -1)
    )  # (V, H W)
    change = ((new - centre) / unit) @ slopes
    return mean + change.reshape(-1, *mean.shape)
