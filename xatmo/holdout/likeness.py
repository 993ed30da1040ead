"""Whether a series is like what a network was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from xatmo.climatology import Background, climatology, phases

__all__ = ["character", "rms_change", "unlike"]

_NAMES = {
    "x": "neighbours along longitude differ by {} standard deviations",
    "y": "neighbours along latitude differ by {} standard deviations",
    "time": "each time differs from the next by {} standard deviations",
    "tails": "the excess kurtosis of the anomalies is {}",
    "observed": "the share of observed cells is {}",
    "contrast": "the logarithm of the climatology's contrast is {}",
}


def rms_change(x: np.ndarray, axis: int) -> float:
    """Root mean square difference of neighbours; 0 if no two are known."""
    change = np.diff(x, axis=axis)
    squares = np.square(change[np.isfinite(change)].astype(np.float64))
    return float(np.sqrt(np.mean(squares))) if squares.size else 0.0


def character(
    values: np.ndarray,
    hours: np.ndarray | None = None,
    *,
    periodic: bool = False,
    base: Background | None = None,
) -> dict[str, float]:
    """Describe a series by a few numbers that do not depend on its units.

    Parameters
    ----------
    values : ndarray, shape (T, h, w)
        NaN where missing.
    hours : ndarray, shape (T,), optional
        Times in hours.
    periodic : bool
        Whether the last column is the first one's neighbour.
    base : Background, optional
        The climatology of these values, where it is known already.

    Returns
    -------
    dict
        ``x``, ``y`` and ``time``: the root mean square difference of neighbours that
        are both observed, over the standard deviation of the anomalies; ``tails``: the
        excess kurtosis of these; ``observed``: the share of observed cells;
        ``contrast``, of series that have a climatology: the logarithm of its standard
        deviation over that of the anomalies. What cannot be known is left out.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(1, 200, 300))
    >>> {k: round(v, 1) for k, v in character(noise).items()}
    {'observed': 1.0, 'x': 1.4, 'y': 1.4, 'tails': ...0.0}
    """
    there = np.isfinite(values)
    found = {"observed": float(there.mean())}
    if not there.any():
        return found
    if base is None:
        base, _ = climatology(values, hours, periodic=periodic)
    if not base.scale > 0:
        return found
    anomalies = (values - base.at(phases(hours, len(values)))) / base.scale
    for name, axis in (("x", 2), ("y", 1), ("time", 0)):
        change = rms_change(anomalies, axis)
        if change > 0:
            found[name] = change
    squares = np.square(anomalies[there].astype(np.float64))
    found["tails"] = float(np.mean(np.square(squares)) / np.mean(squares) ** 2 - 3)
    if base.contrast > 0 and base.known.any():
        found["contrast"] = math.log(base.contrast / base.scale)
    return found


def unlike(
    character: Mapping[str, float], ranges: Mapping[str, list[float]]
) -> list[str]:
    """Say what of a series lies outside of the range of the training data.

    Parameters
    ----------
    character : dict
        Of :func:`character`.
    ranges : dict
        Name -> lowest and highest value that was seen; others are not looked at.

    Returns
    -------
    list of str
        A sentence for each.

    Examples
    --------
    >>> unlike({"tails": 9.12, "x": 0.1}, {"tails": [-1, 5], "x": [0.02, 0.9]})[0]
    'the excess kurtosis of the anomalies is 9.12; the training data had -1 to 5'
    """
    said = []
    for name, (low, high) in ranges.items():
        value = character.get(name)
        if name in _NAMES and value is not None and not low <= value <= high:
            what = _NAMES[name].format(f"{value:.3g}")
            said.append(f"{what}; the training data had {low:.3g} to {high:.3g}")
    return said
