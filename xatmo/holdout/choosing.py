"""Which method fills hidden cells best, and how sure of itself it may be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xatmo.errors import AtmoError
from xatmo.holdout.distance import ByDistance, distances_at, spread_by_distance
from xatmo.holdout.hiding import RUN, Hidden
from xatmo.holdout.likeness import rms_change

__all__ = ["Candidate", "Choice", "choose"]

# Values with the hidden cells taken out, (T, h, w), and the times that are wanted ->
# those times filled, (n, h, w), and their spread or None.
Candidate = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray | None]]

_FARTHEST = 32.0  # of distances that tests tell apart
_FILLED = 0.9  # of what the best candidate fills; who fills less comes last
_TIED = 1e-3  # relative difference of errors that is none
_ENOUGH = 50  # cells that say how wrong a spread is
_USUAL = 0.35  # by how much spreads are usually wrong (of the logarithm)
_OUTLIER = 99.5  # percentile of |error| / spread beyond which errors are cut


@dataclass(frozen=True)
class Choice:
    """What a test at hidden cells says.

    Attributes
    ----------
    method : str
        The best; the first of the candidates if nothing was hidden.
    table : dict
        For each candidate, in plain numbers: ``rmse``, ``bias``, ``filled`` (share of
        the hidden cells), and with a spread ``crps`` and ``ratio`` (rms spread over rms
        error); or ``reason``: why it could not be tested.
    factor : float
        What the spread of the chosen one has to be multiplied by, .25 to 4.
    by_distance : ByDistance or None
        The spread of the chosen one, if it gives none itself.
    """

    method: str
    table: dict[str, dict[str, Any]]
    factor: float = 1.0
    by_distance: ByDistance | None = None


def choose(
    candidates: Mapping[str, Candidate],
    values: np.ndarray,
    hidden: Hidden,
    *,
    weights: np.ndarray | None = None,
    periodic: bool = False,
) -> Choice:
    """Fill hidden cells by several methods and compare.

    Parameters
    ----------
    candidates : dict of callables
        In the order of preference. Each gets the values with the hidden cells taken
        out, (T, h, w), and the times that are wanted; it returns these times filled,
        (n, h, w), and their spread or None. One that raises an error of ours is left
        out, and the table says why.
    values : ndarray, shape (T, h, w)
        NaN where missing.
    hidden : Hidden
    weights : ndarray, shape (h,) or (h, w), optional
        Areas.
    periodic : bool
        Whether the last column is the first one's neighbour.

    Returns
    -------
    Choice
        By the root mean square error where all have filled. Those that fill less than
        90 % of what the best one fills come last; of equals the first is taken.

    Raises
    ------
    xatmo.errors.AtmoError
        The first candidate's, if there is none left.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.arange(24.0).reshape(1, 4, 6)
    >>> hidden = Hidden(values > 20, np.array([0]))
    >>> ways = {
    ...     "zero": lambda x, times: (np.nan_to_num(x[times]), None),
    ...     "last": lambda x, times: (np.where(np.isnan(x), 20.0, x)[times], None),
    ... }
    >>> choice = choose(ways, values, hidden)
    >>> choice.method, {k: v["bias"] for k, v in choice.table.items()}
    ('last', {'zero': -22.0, 'last': -2.0})
    """
    first = next(iter(candidates))
    at = hidden.mask[hidden.times]
    if not at.any():
        return Choice(first, {})
    seen = np.where(hidden.mask, np.nan, values)
    truth = values[hidden.times][at].astype(np.float64)
    area = _areas(weights, at)
    if hidden.weights is not None:
        area = area * hidden.weights[at]
    tests: dict[str, _Test] = {}
    failed: dict[str, Exception] = {}
    for name, fill in candidates.items():
        try:
            filled, spread = fill(seen, hidden.times)
        except (AtmoError, np.linalg.LinAlgError) as problem:
            failed[name] = problem
            continue
        tests[name] = _Test(filled[at] - truth, None if spread is None else spread[at])
    if not tests:
        raise failed[first]
    method, table = _ranked(tests, area)
    table |= {name: {"reason": _reason(why)} for name, why in failed.items()}
    table = {name: table[name] for name in candidates}
    error, said = tests[method].error, tests[method].spread
    if said is not None:
        run = hidden.times[np.nonzero(at)[0]] // RUN
        return Choice(method, table, factor=_factor(error, said, area, run))
    away, step = _away(values, hidden, periodic)
    by_distance = spread_by_distance(error, away, weights=area, step=step)
    return Choice(method, table, by_distance=by_distance)


@dataclass(frozen=True)
class _Test:
    """Errors at the hidden cells, (k,), and the spread that was said."""

    error: np.ndarray
    spread: np.ndarray | None


def _areas(weights: np.ndarray | None, at: np.ndarray) -> np.ndarray:
    if weights is None:
        return np.ones(np.count_nonzero(at))
    weights = weights[:, None] if weights.ndim == 1 else weights
    return np.broadcast_to(weights, at.shape)[at]


def _ranked(
    tests: Mapping[str, _Test], area: np.ndarray
) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the best method and the table."""
    filled = {name: float(np.isfinite(t.error).mean()) for name, t in tests.items()}
    least = _FILLED * max(filled.values())
    full = [name for name in tests if filled[name] >= least > 0]
    common = np.logical_and.reduce([np.isfinite(tests[name].error) for name in full])
    table: dict[str, dict[str, Any]] = {}
    for name, test in tests.items():
        where = common & np.isfinite(test.error)
        table[name] = _scores(test, where, area) | {"filled": filled[name]}
    if not full or not common.any():
        return next(iter(tests)), table
    best = min(table[name]["rmse"] for name in full)
    equal = best * (1 + _TIED)
    return next(name for name in full if table[name]["rmse"] <= equal), table


def _scores(test: _Test, where: np.ndarray, area: np.ndarray) -> dict[str, float]:
    """Errors where all have filled, and what the spread is worth; {} for nothing."""
    if not where.any():
        return {}
    error, area = test.error[where], area[where]
    scores = {
        "rmse": _rms(error, area),
        "bias": float(np.average(error, weights=area)),
    }
    if test.spread is not None:
        spread = test.spread[where]
        scores["crps"] = float(np.average(_crps(error, spread), weights=area))
        wrong = scores["rmse"] or math.inf
        scores["ratio"] = _rms(spread, area) / wrong
    return scores


def _rms(x: np.ndarray, weights: np.ndarray) -> float:
    return float(np.sqrt(np.average(np.square(x), weights=weights)))


def _crps(error: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of normal distributions."""
    spread = np.maximum(spread, 1e-30).astype(np.float64)
    z = error / spread
    likely = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    within = np.vectorize(math.erf, otypes=[float])(z / math.sqrt(2))
    return spread * (z * within + 2 * likely - 1 / math.sqrt(math.pi))


def _factor(
    error: np.ndarray, spread: np.ndarray, area: np.ndarray, run: np.ndarray
) -> float:
    """Root mean square of the errors over that of the spread, but for outliers.

    It is drawn towards 1 where ``run``, the part of the series that a cell is in,
    matters much: a few days of weather can be easier or harder than others.
    """
    told = np.isfinite(error) & (spread > 0)
    if np.count_nonzero(told) < _ENOUGH:
        return 1.0
    error, spread, area = np.abs(error[told]), spread[told], area[told]
    run = np.unique(run[told], return_inverse=True)[1]
    most = np.percentile(error / spread, _OUTLIER)
    error = np.minimum(error, most * spread)
    wrong, sure = (np.bincount(run, area * x**2) for x in (error, spread))
    ratio = 0.5 * math.log(wrong.sum() / sure.sum()) if wrong.any() else -math.inf
    if wrong.size > 1 and wrong.any():
        rest = np.maximum(wrong.sum() - wrong, 1e-9 * wrong.sum())
        without = 0.5 * np.log(rest / (sure.sum() - sure))
        variance = (wrong.size - 1) * without.var()  # by the jackknife
        ratio *= _USUAL**2 / (_USUAL**2 + variance)
    return float(np.clip(math.exp(ratio), 0.25, 4.0))


def _reason(error: Exception) -> str:
    return error.problem if isinstance(error, AtmoError) else str(error)


def _away(
    values: np.ndarray, hidden: Hidden, periodic: bool
) -> tuple[np.ndarray, float]:
    """Distances of the hidden cells from what is seen, (k,), and the step in time."""
    step = _step(values, hidden.times)
    reach = math.ceil(_FARTHEST / step)
    away = np.empty((len(hidden.times), *values.shape[1:]), np.float32)
    for run in _runs(hidden.times):
        first = max(0, hidden.times[run.start] - reach)
        part = slice(first, hidden.times[run.stop - 1] + reach + 1)
        seen = np.isfinite(values[part]) & ~hidden.mask[part]
        now = hidden.times[run] - first
        away[run] = distances_at(seen, now, periodic, step, _FARTHEST)
    return away[hidden.mask[hidden.times]], step


def _runs(times: np.ndarray) -> list[slice]:
    """Cut ascending times where some are left out."""
    edges = [0, *np.flatnonzero(np.diff(times) > 1) + 1, len(times)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _step(values: np.ndarray, times: np.ndarray) -> float:
    """How many points apart values differ as they do from a time to the next."""
    near = np.unique(np.concatenate([times, times + 1]))
    sample = values[near[near < len(values)]]
    space = math.hypot(rms_change(sample, 1), rms_change(sample, 2)) / math.sqrt(2)
    time = rms_change(sample, 0)
    if not (space > 0 and time > 0):
        return 1.0
    return float(np.clip(time / space, 0.5, _FARTHEST))
