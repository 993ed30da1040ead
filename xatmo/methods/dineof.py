"""Gaps filled from the data's own empirical orthogonal functions (DINEOF).

The iteration of Beckers and Rixen (2003, doi:10.1175/1520-0426(2003)020<1839:ECADFF>
2.0.CO;2) starts it: a truncated decomposition fills the gaps, again and again. Then
amplitudes get a memory in time, in the spirit of Alvera-Azcárate et al. (2009,
doi:10.5194/os-5-475-2009): they are estimated by a Kalman smoother, which says how well
each is known, and patterns are fitted to them by expectation-maximisation (Shumway and
Stoffer 1982, doi:10.1111/j.1467-9892.1982.tb00349.x). What is left over at observed
cells is spread to their neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xatmo.errors import TimeAxisError
from xatmo.methods.local import Correlation, spread_out
from xatmo.methods.series import Filled, Gappy, hide

__all__ = ["dineof"]

RANKS = (2, 4, 8, 16, 32)
_ROUNDS = 6  # of expectation and maximisation
_LEAST = 8  # times
_MOST = 20_000
_ENOUGH = 4000  # cells of a map that are looked at to choose a rank
_ALIKE = 40.0  # cells whose errors count as one

LOCAL = (
    None,
    Correlation(time=0.4, latitude=0.6, longitude=0.6, noise=0.2),
    Correlation(time=0.7, latitude=0.8, longitude=0.8, noise=0.1),
)
"""Of what patterns leave over: the best at hidden cells is taken."""

_FLOOR = 1e-9  # of noise variance, relative to that of the data
_BLOCK = 2**25  # numbers at a time when fitting patterns
_PASSES = 4  # at each rank of the decomposition
_START = 0.01  # noise variance to begin with, relative to that of the data


def dineof(gappy: Gappy, ranks: tuple[int, ...] = RANKS) -> Filled:
    """Fill gaps by patterns of the data themselves, see the module.

    The rank is the one that does best on cells hidden for it, and their errors scale
    the spread. Entirely missing times are filled; cells never observed are not.

    Parameters
    ----------
    gappy : Gappy
    ranks : tuple of int
        To choose from; those above half the number of times are left out.

    Raises
    ------
    xatmo.errors.TimeAxisError
        If fewer than 8 times have observations, or there are more than 20 000.
    """
    _check(gappy)
    most = max(1, np.isfinite(gappy.values).any(axis=(1, 2)).sum() // 2)
    ranks = tuple(r for r in ranks if r <= most) or (int(most),)
    rank, local, factor = _choose(_thinned(gappy), ranks)
    values, spread = _by_patterns(gappy, rank)
    return Filled(values + _around(gappy, values, local), factor * spread)


def _choose(
    gappy: Gappy, ranks: tuple[int, ...]
) -> tuple[int, Correlation | None, float]:
    """Return what is best at hidden cells, and the ratio of error and spread there."""
    hidden, tested = hide(np.isnan(gappy.values))
    if not tested.any():
        return ranks[-1], None, 1.0
    truth = gappy.values[tested]
    seen = gappy.with_values(np.where(hidden, np.nan, gappy.values))
    least = np.inf
    for tried in ranks:
        found = _by_patterns(seen, tried)
        error = _mean_error(found[0][tested] - truth)
        if error <= least:
            least, rank, (values, spread) = error, tried, found
    wrong = {
        local: (values + _around(seen, values, local))[tested] - truth
        for local in LOCAL
    }
    local = min(wrong, key=lambda key: _mean_error(wrong[key]))
    # Of a normal error, the mean absolute value is 0.8 of the standard deviation.
    factor = _mean_error(wrong[local] / spread[tested]) * np.sqrt(np.pi / 2)
    return rank, local, float(np.clip(factor, 0.2, 5.0))


def _around(
    gappy: Gappy, estimate: np.ndarray, local: Correlation | None
) -> np.ndarray | float:
    """What observed cells say of an estimate's error at the cells around them."""
    if local is None:
        return 0.0
    left = gappy.values - estimate
    return spread_out(left, local, gappy.steps, periodic=gappy.periodic)


def _mean_error(x: np.ndarray) -> float:
    """Mean absolute value: a few maps that are nearly all gap shall not decide."""
    known = np.isfinite(x)
    return float(np.abs(x[known]).mean()) if known.any() else np.inf


def _thinned(gappy: Gappy) -> Gappy:
    """Leave out rows and columns of a large grid."""
    every = int(np.ceil((gappy.values[0].size / _ENOUGH) ** 0.5))
    return Gappy(
        gappy.values[:, ::every, ::every],
        gappy.latitude[::every],
        gappy.longitude[::every],
        gappy.hours,
        gappy.periodic,
    )


# --- The model: amplitudes with a memory, times patterns, plus noise ----------------


@dataclass
class _State:
    """Parameters: patterns (K, N), noise variance (N,), memory (K,), news (K,)."""

    patterns: np.ndarray
    noise: np.ndarray
    memory: np.ndarray
    news: np.ndarray


def _by_patterns(gappy: Gappy, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Estimate all cells ever observed by so many patterns: values and spread."""
    shape = gappy.values.shape
    flat = gappy.values.reshape(len(gappy.values), -1)
    ever = np.isfinite(flat).any(axis=0)
    y, known = flat[:, ever], np.isfinite(flat[:, ever])
    mean = np.nanmean(y, axis=0)
    y = np.where(known, y - mean, 0.0)
    alike = min(_ALIKE, y.shape[1] ** 0.5)
    state = _first_guess(y, known, _decomposed(y, known, rank))
    for _ in range(_ROUNDS):
        smoothed = _smooth(y, known, state, alike, gappy.steps)
        state = _fit(y, known, smoothed, state, alike, gappy.steps)
    smoothed = _smooth(y, known, state, alike, gappy.steps)

    def on_map(x: np.ndarray) -> np.ndarray:
        whole = np.full(flat.shape, np.nan)
        whole[:, ever] = x
        return whole.reshape(shape)

    spread = np.sqrt(_variance(smoothed, state))
    return on_map(mean + smoothed.amplitudes @ state.patterns), on_map(spread)


def _decomposed(y: np.ndarray, known: np.ndarray, rank: int) -> np.ndarray:
    """Fill by decompositions of growing rank; return the amplitudes, (T, K)."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((len(y), min(rank + 4, *y.shape)))
    filled = y
    for now in [r for r in (1, 2, 3, 5, 8, 12, 16, 24, 32) if r < rank] + [rank]:
        for _ in range(_PASSES):
            # One step of a subspace iteration is enough: the field that it belongs to
            # changes with every pass anyhow.
            basis = np.linalg.qr(filled @ (filled.T @ basis))[0]
            inside = basis.T @ filled
            turned = basis @ np.linalg.eigh(inside @ inside.T)[1][:, ::-1][:, :now]
            before = filled
            filled = np.where(known, y, turned @ (turned.T @ filled))
            if np.abs(filled - before).mean() < 1e-3 * np.abs(filled).mean():
                break
    return turned * np.sqrt(len(y))


def _first_guess(y: np.ndarray, known: np.ndarray, amplitudes: np.ndarray) -> _State:
    moments = amplitudes[:, :, None] * amplitudes[:, None, :]
    ahead = np.mean(amplitudes[1:] * amplitudes[:-1], axis=0)
    memory = np.clip(ahead, 0.3, 0.99)
    noise = np.full(y.shape[1], _START)
    patterns, noise = _patterns(y, known, amplitudes, moments, noise, 1.0)
    return _State(patterns, noise + _START, memory, 1 - memory**2)


@dataclass
class _Smoothed:
    """Amplitudes (T, K), their covariances (T, K, K), and those to the next time."""

    amplitudes: np.ndarray
    doubt: np.ndarray
    ahead: np.ndarray


def _smooth(
    y: np.ndarray, known: np.ndarray, state: _State, alike: float, steps: np.ndarray
) -> _Smoothed:
    """Kalman filter and smoother of the amplitudes, given the patterns.

    Errors of neighbours are alike: taken as independent they would make a few clusters
    of cells seem to tell everything. Each counts for 1 / ``alike``.
    """
    weights = known / (state.noise * alike)
    told = (y * weights) @ state.patterns.T  # (T, K)
    count, rank = told.shape
    one = np.eye(rank)
    mean, doubt = np.empty((count, rank)), np.empty((count, rank, rank))
    expected, before = np.empty_like(mean), np.empty_like(doubt)
    power = state.memory ** np.append(0.0, steps)[:, None]  # (T, K)
    news = state.news / (1 - state.memory**2) * (1 - power**2)
    start = state.news / (1 - state.memory**2)
    for t in range(count):
        if t == 0:
            expected[t], before[t] = 0.0, np.diag(start)
        else:
            expected[t] = power[t] * mean[t - 1]
            before[t] = power[t][:, None] * doubt[t - 1] * power[t] + np.diag(news[t])
        precision = (state.patterns * weights[t]) @ state.patterns.T
        gained = np.linalg.solve(one + before[t] @ precision, before[t])
        doubt[t] = (gained + gained.T) / 2
        mean[t] = expected[t] + doubt[t] @ (told[t] - precision @ expected[t])
    ahead = np.zeros((max(count - 1, 0), rank))
    for t in range(count - 2, -1, -1):
        back = np.linalg.solve(before[t + 1], power[t + 1][:, None] * doubt[t]).T
        mean[t] += back @ (mean[t + 1] - expected[t + 1])
        ahead[t] = mean[t + 1] * mean[t] + np.einsum("ij,ij->i", doubt[t + 1], back)
        doubt[t] += back @ (doubt[t + 1] - before[t + 1]) @ back.T
    return _Smoothed(mean, doubt, ahead)


def _fit(
    y: np.ndarray,
    known: np.ndarray,
    smoothed: _Smoothed,
    old: _State,
    alike: float,
    steps: np.ndarray,
) -> _State:
    """Patterns, noise and memory that are most likely, given the amplitudes."""
    z = smoothed.amplitudes
    moments = z[:, :, None] * z[:, None, :] + smoothed.doubt
    patterns, noise = _patterns(y, known, z, moments, old.noise, alike)
    square = np.einsum("tkk->tk", moments)
    usual = np.abs(steps - 1) < 0.01
    memory = smoothed.ahead[usual].sum(0) / square[:-1][usual].sum(0)
    memory = np.clip(memory, 0.0, 0.999)
    return _State(patterns, noise, memory, square.mean(axis=0) * (1 - memory**2))


def _patterns(
    y: np.ndarray,
    known: np.ndarray,
    amplitudes: np.ndarray,
    moments: np.ndarray,
    noise: np.ndarray,
    alike: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Regress each cell on the amplitudes: patterns (K, N) and noise (N,)."""
    count, rank = amplitudes.shape
    flat = moments.reshape(count, -1)
    patterns, left = np.empty((rank, y.shape[1])), np.empty(y.shape[1])
    block = max(1, _BLOCK // rank**2)
    for first in range(0, y.shape[1], block):
        part = slice(first, first + block)
        seen = known[:, part].astype(float)
        sums = (seen.T @ flat).reshape(-1, rank, rank)
        penalty = alike * noise[part, None, None] * np.eye(rank)
        right = y[:, part].T @ amplitudes
        found = np.linalg.solve(sums + penalty, right[..., None])[..., 0]
        square = np.einsum("ni,nij,nj->n", found, sums, found, optimize=True)
        total = (y[:, part] ** 2).sum(axis=0) - 2 * (found * right).sum(1) + square
        patterns[:, part] = found.T
        left[part] = np.maximum(total / seen.sum(axis=0), _FLOOR)
    return patterns, left


def _variance(smoothed: _Smoothed, state: _State) -> np.ndarray:
    """Of the error of the estimate, (T, N)."""
    unknown = [
        np.einsum("kn,kn->n", doubt @ state.patterns, state.patterns)
        for doubt in smoothed.doubt
    ]
    return np.maximum(np.stack(unknown), 0.0) + state.noise


def _check(gappy: Gappy) -> None:
    count = int(np.isfinite(gappy.values).any(axis=(1, 2)).sum())
    if count < _LEAST:
        msg = "There are too few times to find patterns in."
        raise TimeAxisError(
            msg,
            found=f"{count} times with observations",
            needed=f"{_LEAST} or more",
            hint='method="kriging", which fills each time by itself',
        )
    if len(gappy.values) > _MOST:
        msg = "There are too many times to find patterns in at once."
        raise TimeAxisError(
            msg,
            found=f"{len(gappy.values)} times",
            needed=f"at most {_MOST}",
            hint="a year after the other: ds.groupby('time.year').map(...)",
        )
