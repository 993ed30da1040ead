"""The climatology of a series with gaps, which it is taken relative to.

The mean of each cell at each time of the day, so that coasts and mountains need not be
guessed. Of a short series that is mostly the weather of the few times that a cell was
seen: what the two halves of the series do not have in common is taken out, scale by
scale. Where a cell has no mean there is that of its row: winds and temperatures differ
from pole to pole far more than along a circle of latitude. Series that are too short
for a climatology are taken relative to the means of rows.
Arrays only, ``(time, latitude, longitude)`` with NaN where nothing was observed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = [
    "Background",
    "Moments",
    "background",
    "climatology",
    "moments",
    "phases",
    "smooth_fill",
]

_LEAST_TIMES = 8  # of a series that has a climatology
_LEAST_COUNT = 4  # observations of a cell that has one
_SHRINK = 3.0  # observations that the mean of a cell counts as, at an hour of the day
_KNOWN = 8.0  # observations of a cell that is half known
_SECTORS = 4  # of a row: two make a half
_LEAST_ROW = 0.02  # observations of a row that has a mean, relative to the fullest one


@dataclass(frozen=True)
class Moments:
    """Sums over the observations of each cell at each time of the day.

    All are (phase, latitude, longitude), float64; values are relative to ``offset``.
    Those of two parts of a series add up.
    """

    count: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    early_count: np.ndarray
    """Of the first half of the whole series, all hours alike: (latitude, longitude)."""
    early_total: np.ndarray
    offset: float = 0.0

    def __add__(self, other: Moments) -> Moments:
        if not self.count.any():
            return other
        other = other.relative_to(self.offset)
        return Moments(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            self.early_count + other.early_count,
            self.early_total + other.early_total,
            self.offset,
        )

    def relative_to(self, offset: float) -> Moments:
        """Return the sums of the same values relative to another offset."""
        by = self.offset - offset
        if by == 0 or not self.count.any():
            return self
        total = self.total + by * self.count
        squares = self.squares + by * (self.total + total)
        early = self.early_total + by * self.early_count
        return Moments(self.count, total, squares, self.early_count, early, offset)


@dataclass(frozen=True)
class Background:
    """What a series is taken relative to.

    Parameters
    ----------
    base : ndarray of float32, shape (phase, latitude, longitude)
        The climatology, filled smoothly where there is none.
    known : ndarray of float32, shape (latitude, longitude)
        How well it is known: 0 (not at all, filled) to 1.
    shape : ndarray of float32, shape (latitude, longitude)
        Its mean over the day, relative to that of all cells and to their spread.
    scale : float
        Root mean square of the observed anomalies; 0 if there are none.
    contrast : float
        Spread of the climatology's cells.
    """

    base: np.ndarray
    known: np.ndarray
    shape: np.ndarray
    scale: float
    contrast: float

    def at(self, phase: np.ndarray) -> np.ndarray:
        """Return the maps for phases (n,): (n, h, w). A single one is for all."""
        return self.base[phase if len(self.base) > 1 else np.zeros_like(phase)]


def climatology(
    series: np.ndarray, hours: np.ndarray | None, *, periodic: bool = False
) -> tuple[Background, np.ndarray]:
    """Return the background of a series that is in memory (T, h, w), and its phases.

    ``hours`` as for :func:`phases`.
    """
    phase = phases(hours, len(series))
    there = np.isfinite(series)
    offset = float(series.mean(dtype=np.float64, where=there)) if there.any() else 0.0
    found = moments(series, phase, int(phase.max()) + 1, offset)
    return background(found, len(series), periodic=periodic), phase


def phases(hours: np.ndarray | None, count: int) -> np.ndarray:
    """Number the times of the day of a series: 0 everywhere if it has no such.

    Parameters
    ----------
    hours : ndarray, shape (T,), optional
        Times in hours; not given if they are unknown.
    count : int
        T.

    Returns
    -------
    ndarray of int, shape (T,)
    """
    nothing = np.zeros(count, np.int64)
    if hours is None or count < _LEAST_TIMES:
        return nothing
    of_day = np.round(np.mod(hours, 24.0), 3) % 24.0
    found, phase = np.unique(of_day, return_inverse=True)
    # Each hour has to come several times, or it is no cycle that is seen.
    if found.size > 24 or count < _SHRINK * found.size:
        return nothing
    return phase.reshape(count).astype(np.int64)


def moments(
    series: np.ndarray,
    phase: np.ndarray,
    count: int,
    offset: float = 0.0,
    early: np.ndarray | None = None,
) -> Moments:
    """Sum up a series, or a part of one.

    Parameters
    ----------
    series : ndarray, shape (T, h, w)
    phase : ndarray of int, shape (T,)
    count : int
        Number of phases of the whole series.
    offset : float
        One near the values keeps the sums precise.
    early : ndarray of bool, shape (T,), optional
        Which times are of the first half of the whole series; the first half of what is
        given if not given.
    """
    shape = (count, *series.shape[1:])
    n, total, squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    early_n, early_total = np.zeros(shape[1:]), np.zeros(shape[1:])
    early = np.arange(len(series)) < len(series) // 2 if early is None else early
    for p in np.unique(phase):
        mine = phase == p
        x = series[mine].astype(np.float64) - offset
        there = np.isfinite(x)
        x[~there] = 0.0
        n[p], total[p], squares[p] = there.sum(0), x.sum(0), np.square(x).sum(0)
        first = early[mine]
        early_n += there[first].sum(0)
        early_total += x[first].sum(0)
    return Moments(n, total, squares, early_n, early_total, offset)


def background(found: Moments, times: int, *, periodic: bool = False) -> Background:
    """Make a climatology of the sums over a whole series of so many times."""
    n, cells = found.count, found.count.sum(0)
    known = cells >= _LEAST_COUNT
    profile = _of_rows(found, periodic)
    if times < _LEAST_TIMES or not known.any():
        known = np.zeros_like(known)
        base = np.broadcast_to(profile, (1, *known.shape))
    else:
        base = _of_cells(found, profile, known, periodic)
        base = base + smooth_fill(_of_hours(found, known), known, periodic=periodic)
    # Sum of (x - base)^2 over the cells that the climatology is of.
    off = found.squares - 2 * base * found.total + base**2 * n
    told = known if known.any() else cells > 0
    variance = max(off[:, told].sum() / max(n[:, told].sum(), 1.0), 0.0)
    shape = base.mean(0)
    middle, contrast = (shape[told].mean(), shape[told].std()) if told.any() else (0, 0)
    shape = (shape - middle) / (contrast or 1.0)
    share = np.where(known, cells / (cells + _KNOWN), 0.0)
    return Background(
        (base + found.offset).astype(np.float32),
        share.astype(np.float32),
        shape.astype(np.float32),
        float(np.sqrt(variance)),
        float(contrast),
    )


def _of_rows(found: Moments, periodic: bool) -> np.ndarray:
    """Mean of each row, as far as two halves of the domain agree on it: (h, 1).

    A quarter and the one opposite make a half. Of a circle they begin at each column in
    turn, since which is the first one is a convention.
    """
    count, total = found.count.sum(0), found.total.sum(0)
    columns = count.shape[1]
    shifts = np.arange(max(columns // _SECTORS, 1) if periodic else 1)
    counts, totals = (_of_halves(x, shifts) for x in (count, total))
    # What a few cells say of a row is the weather there.
    counts = np.where(counts < _LEAST_ROW * counts.max(), 0.0, counts)
    return _common(np.where(counts > 0, totals, 0.0), counts, False)


def _of_halves(x: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Sums of rows, of one half of each, and of the other: (1 + 2 shifts, h, 1).

    By differences of running sums. Products with masks would be as short, but leave
    the threads of BLAS spinning after each of them.
    """
    columns = x.shape[1]
    edges = -(-np.arange(_SECTORS + 1) * columns // _SECTORS)[:, None] + shifts
    sums = np.cumsum(np.concatenate([np.zeros_like(x[:, :1]), x, x], axis=1), axis=1)
    sectors = np.diff(sums[:, edges], axis=1)  # (h, sectors, shifts)
    one, other = sectors[:, ::2].sum(1), sectors[:, 1::2].sum(1)
    whole = sums[:, columns, None]
    return np.concatenate([whole, one, other], axis=1).T[..., None]


def _of_cells(
    found: Moments, profile: np.ndarray, known: np.ndarray, periodic: bool
) -> np.ndarray:
    """Mean of each cell, as far as both halves of the series have it: (h, w)."""
    count = found.count.sum(0)
    total = found.total.sum(0) - profile * count
    early = found.early_total - profile * found.early_count
    counts = np.stack([count, found.early_count, count - found.early_count])
    totals = np.stack([total, early, total - early])
    weight = np.stack([known, counts[1] >= 2, counts[2] >= 2]).astype(np.float64)
    means = totals / np.maximum(counts, 1.0) * weight
    return profile + _common(means, weight, periodic)


def _common(total: np.ndarray, weight: np.ndarray, periodic: bool) -> np.ndarray:
    """Keep of the first map what pairs of others have in common: (n, h, w) -> (h, w).

    The first map is of all that is known, the others of one half of it each, then of
    the other halves. Differences to the means of 2 x 2 cells are scaled by how alike
    they are in both halves, for the whole (Spearman-Brown), then those of 4 x 4 cells.
    """
    mean = total / np.maximum(weight, 1e-12)
    if max(mean.shape[1:]) == 1:
        return mean[0]
    coarse, share = _halved(total), _halved(weight)
    periodic_below = periodic and weight.shape[-1] % 2 == 0
    below = _common(coarse, share, periodic_below)
    rough = _doubled(below, weight.shape[1:], periodic_below)
    # Where a half has nothing to compare, what is known of both has to do.
    means = np.where(share > 0, coarse / np.maximum(share, 1e-12), below)
    detail = mean - _doubled(means, weight.shape[1:], periodic_below)
    both = (weight > 0).all(0)
    one, two = np.split(detail[1:, both], 2)
    alike = (one * two).sum() / max(0.5 * (one**2 + two**2).sum(), 1e-300)
    alike = min(max(alike, 0.0), 1.0)
    return rough + 2 * alike / (1 + alike) * np.where(weight[0] > 0, detail[0], 0.0)


def _of_hours(found: Moments, known: np.ndarray) -> np.ndarray:
    """How the hours of the day differ from their mean: (phase, h, w).

    As much of it as is not the weather of the days that were seen.
    """
    n = found.count
    mean = found.total.sum(0) / np.maximum(n.sum(0), 1.0)
    off = found.total / np.maximum(n, 1.0) - mean
    several = (n >= 2) & known
    if len(n) == 1 or not several.any():
        return np.zeros_like(off)
    within = found.squares - found.total**2 / np.maximum(n, 1.0)
    noise = within[several] / (n[several] - 1) / n[several]
    alike = 1.0 - noise.mean() / max(np.square(off[several]).mean(), 1e-300)
    return max(alike, 0.0) * n / (n + _SHRINK) * off


def smooth_fill(
    values: np.ndarray, known: np.ndarray, *, periodic: bool = False
) -> np.ndarray:
    """Fill unknown cells from those around them, the further off the smoother.

    Means of 2 x 2 cells, of these again, and so on, until something is known
    everywhere; then back, each time between the means.

    Parameters
    ----------
    values : ndarray, shape (..., h, w)
    known : ndarray of bool, shape (h, w)
        At least one is true.
    periodic : bool
        Whether the last column is the first one's neighbour.

    Returns
    -------
    ndarray, shape (..., h, w)
        The values where they are known.
    """
    if known.all():
        return values
    weight = known.astype(np.float64)
    filled = np.where(known, values, 0.0)
    return _filled(filled, weight, periodic)


def _filled(total: np.ndarray, weight: np.ndarray, periodic: bool) -> np.ndarray:
    """Values where the weight is 1, and what lies between them elsewhere."""
    if (weight > 0).all() or max(weight.shape) == 1:
        return total / np.maximum(weight, 1e-12)
    coarse, share = _halved(total), _halved(weight)
    below = _filled(coarse, share, periodic and weight.shape[1] % 2 == 0)
    rough = _doubled(below, weight.shape, periodic and weight.shape[1] % 2 == 0)
    trust = np.minimum(weight, 1.0)
    return trust * total / np.maximum(weight, 1e-12) + (1 - trust) * rough


def _halved(x: np.ndarray) -> np.ndarray:
    """Sums over 2 x 2 cells; an odd last row or column counts alone."""
    rows, columns = x.shape[-2] % 2, x.shape[-1] % 2
    x = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, rows), (0, columns)])
    return x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]


def _doubled(x: np.ndarray, shape: tuple[int, ...], periodic: bool) -> np.ndarray:
    """Bilinear interpolation between the centres of 2 x 2 cells."""
    edges = [(0, 0)] * (x.ndim - 1)
    x = np.pad(x, [*edges, (1, 1)], mode="wrap" if periodic else "edge")
    x = np.pad(x, [*edges[:-1], (1, 1), (0, 0)], mode="edge")
    for axis in (-2, -1):
        x = np.moveaxis(x, axis, -1)
        low = 0.75 * x[..., 1:-1] + 0.25 * x[..., :-2]
        high = 0.75 * x[..., 1:-1] + 0.25 * x[..., 2:]
        x = np.stack([low, high], -1).reshape(*low.shape[:-1], -1)
        x = np.moveaxis(x, -1, axis)
    return x[..., : shape[0], : shape[1]]
