"""Ordinary kriging on the sphere, each cell from the observed ones around it.

GSTools estimates the variogram and evaluates it. Its own solver takes all observations
at once, and so does PyKrige's: of a global field at one degree these are tens of
thousands, far beyond a matrix. Here each cell has a system of its own, many at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xatmo.methods.filling import biharmonic, climatology, hour_of_day
from xatmo.methods.series import Filled, Gappy, needs

__all__ = ["fit_variogram", "krige_map", "kriging"]

EARTH_RADIUS = 6371.0  # km
_NEAR, _FAR = 24, 8  # neighbours: the nearest, and the nearest of a thin sample
_THIN = 25  # one in so many observed cells is in the thin sample
_LEAST = 8  # times, for their climatology to be taken away
_CELLS, _TIMES = 300, 8  # that the variogram is estimated from
_WINDOWS, _WINDOW = 10, 3  # close neighbours: windows, and their reach in cells
_AT_ONCE = 4096  # systems
_SMALLEST = 1e-6  # noise relative to the variance, so that systems can be solved


def kriging(gappy: Gappy) -> Filled:
    """Fill each map by kriging, with an exponential variogram fitted to all of them.

    Of eight times or more, the anomaly from the climatology is filled, see
    :func:`xatmo.methods.filling.climatology`. The spread is the standard deviation of
    kriging.
    """
    below = _background(gappy)
    left = gappy.values - below
    out, spread = np.full_like(left, np.nan), np.full_like(left, np.nan)
    model = fit_variogram(gappy.with_values(left))
    for t, x in enumerate(left):
        out[t], spread[t] = krige_map(x, gappy.latitude, gappy.longitude, model)
    return Filled(below + out, spread)


def fit_variogram(gappy: Gappy) -> Any:
    """Fit an exponential variogram with a nugget; a ``gstools.Exponential`` in km."""
    try:
        import gstools
    except ImportError as error:
        raise needs(package="gstools", version="1.6", what="Kriging") from error
    times, cells = _sample(np.isfinite(gappy.values))
    values = gappy.values.reshape(len(gappy.values), -1)[np.ix_(times, cells)]
    variance = float(np.nanvar(values)) if np.isfinite(values).any() else 0.0
    model = gstools.Exponential(
        latlon=True,
        geo_scale=EARTH_RADIUS,
        var=max(0.95 * variance, 1e-12),
        len_scale=1500.0,
        nugget=0.05 * variance,
    )
    if np.isfinite(values).sum() < 30 or variance < 1e-12:
        return model  # too little to fit: the length of the large scales stays
    lat, lon = np.meshgrid(gappy.latitude, gappy.longitude, indexing="ij")
    spacing = np.deg2rad(abs(gappy.latitude[1] - gappy.latitude[0])) * EARTH_RADIUS
    farthest = max(0.4 * np.deg2rad(np.ptp(gappy.latitude)) * EARTH_RADIUS, 4 * spacing)
    edges = np.append(0.0, np.geomspace(spacing, min(farthest, 4000.0), 14))
    at, found, pairs = gstools.vario_estimate(
        (lat.ravel()[cells], lon.ravel()[cells]),
        values,
        edges,
        latlon=True,
        geo_scale=EARTH_RADIUS,
        return_counts=True,
    )
    good = (pairs > 0) & (found > 0)
    # Relative misfits: what is near decides, and is small.
    weights = np.sqrt(pairs[good]) / found[good]
    try:
        model.fit_variogram(
            at[good], found[good], init_guess="current", weights=weights
        )
    except (RuntimeError, ValueError):
        return model
    return model


def _sample(known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pick times, and cells: some anywhere, some in windows of close neighbours."""
    rng = np.random.default_rng(0)
    _, rows, columns = known.shape
    seen = np.flatnonzero(known.any(axis=(1, 2)))
    times = seen[:: max(1, len(seen) // _TIMES)][:_TIMES]
    cells = np.flatnonzero(known[times].any(axis=0))
    anywhere = rng.permutation(cells)[:_CELLS]
    i, j = np.unravel_index(cells, (rows, columns))
    near = [
        cells[(abs(i - ci) <= _WINDOW) & (abs(j - cj) <= _WINDOW)]
        for ci, cj in zip(
            *np.unravel_index(anywhere[:_WINDOWS], (rows, columns)), strict=True
        )
    ]
    return times, np.unique(np.concatenate([anywhere, *near]))


def krige_map(
    x: np.ndarray, latitude: np.ndarray, longitude: np.ndarray, model: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Fill a map (H, W): the estimate and its standard deviation."""
    out, spread = x.copy(), np.where(np.isfinite(x), 0.0, np.nan)
    known = np.isfinite(x)
    if known.sum() < 2 or known.all():
        return out, spread
    places = _places(latitude, longitude)
    sample, values = places[known], x[known]
    wanted = places[~known]
    parts = np.array_split(wanted, -(-len(wanted) // _AT_ONCE))
    neighbours = _Neighbours(sample)
    found = [_solve(sample, values, part, neighbours.of(part), model) for part in parts]
    out[~known] = np.concatenate([f[0] for f in found])
    spread[~known] = np.concatenate([f[1] for f in found])
    return out, spread


class _Neighbours:
    """The nearest observed cells, and some farther ones, for want of a direction."""

    def __init__(self, sample: np.ndarray) -> None:
        from scipy.spatial import cKDTree

        thin = np.random.default_rng(0).random(len(sample)) < 1 / _THIN
        parts = [(~thin, _NEAR), (thin, _FAR)]
        if thin.sum() < _FAR:
            parts = [(np.ones_like(thin), _NEAR + _FAR)]
        self.parts = [
            (np.flatnonzero(part), cKDTree(sample[part]), count)
            for part, count in parts
        ]

    def of(self, places: np.ndarray) -> np.ndarray:
        """Return indices into the sample, (n, k)."""
        found = []
        for index, tree, count in self.parts:
            near = tree.query(places, min(count, len(index)))[1]
            found.append(index[near.reshape(len(places), -1)])
        return np.concatenate(found, axis=1)


def _solve(
    sample: np.ndarray,
    values: np.ndarray,
    wanted: np.ndarray,
    near: np.ndarray,
    model: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Ordinary kriging of n cells from k neighbours each."""
    n, k = near.shape
    around = sample[near]  # (n, k, 3)
    left = np.ones((n, k + 1, k + 1))
    left[:, -1, -1] = 0.0
    # Chords of the unit sphere: on them the exponential is a valid covariance.
    squares = np.maximum(2 - 2 * np.matmul(around, around.transpose(0, 2, 1)), 0.0)
    noise = max(model.nugget, _SMALLEST * model.var)
    inner = model.covariance(EARTH_RADIUS * np.sqrt(squares))
    inner[:, np.arange(k), np.arange(k)] = model.var + noise
    left[:, :k, :k] = inner
    away = np.linalg.norm(around - wanted[:, None], axis=-1)
    right = np.ones((n, k + 1))
    right[:, :k] = model.covariance(EARTH_RADIUS * away)
    weights = np.linalg.solve(left, right[..., None])[..., 0]
    estimate = np.einsum("nk,nk->n", weights[:, :k], values[near])
    variance = model.var + noise - np.einsum("nk,nk->n", weights, right)
    return estimate, np.sqrt(np.maximum(variance, 0.0))


def _background(gappy: Gappy) -> np.ndarray:
    """What is taken away before: a climatology, where there are enough times."""
    if np.isfinite(gappy.values).any(axis=(1, 2)).sum() < _LEAST:
        return np.zeros_like(gappy.values)
    usual = climatology(gappy).values
    if np.isfinite(usual).all():
        return usual
    # The same cells are never observed at any time, and few hours of the day differ.
    _, first, hour = np.unique(
        hour_of_day(gappy), return_index=True, return_inverse=True
    )
    return biharmonic(gappy.with_values(usual[first])).values[hour]


def _places(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Points of the unit sphere, (H, W, 3)."""
    lat, lon = np.deg2rad(latitude)[:, None], np.deg2rad(longitude)
    xyz = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) + 0 * lon
    return np.stack(xyz, axis=-1)
