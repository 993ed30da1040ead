"""How fields vary from point to point: semivariogram and total variation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import OptionError
from xatmo.fields import Grid
from xatmo.metrics.common import (
    KM_PER_DEGREE,
    canonical,
    each_variable,
    edges,
    nearest,
    row_areas,
    scored,
    weighted_mean,
)

__all__ = ["LAGS_KM", "semivariogram", "total_variation"]

LAGS_KM = (25, 50, 100, 200, 300, 500, 1000)
"""The lags of the AtmoDist paper (km)."""

_TRIES = 50  # rounds of drawing; a lag that hardly fits into a region needs many


@each_variable
def semivariogram(
    field: Any,
    lags_km: float | Sequence[float] = LAGS_KM,
    *,
    samples: int = 3000,
    seed: int = 0,
    normalise_by: Any = None,
) -> xr.DataArray:
    """Half the mean squared difference of points a distance apart.

    Parameters
    ----------
    field : DataArray or Dataset
    lags_km : float or sequence of float
        Great-circle distances (km).
    samples : int
        Pairs of points for each lag, the same ones at all times: drawn uniformly from
        the domain's area, with a partner in a random direction. Values are those of
        the nearest grid points.
    seed : int
        Of the draw, which depends on nothing else than the domain: two fields on the
        same points are compared on the same pairs.
    normalise_by : DataArray or Dataset, optional
        A field, usually the truth, whose variance (by area) the result is divided by.

    Returns
    -------
    DataArray or Dataset
        ``(..., lag)`` in the field's units squared. Pairs with a gap are left out; NaN
        for a lag that does not fit into the domain.

    Raises
    ------
    xatmo.errors.OptionError
        If a lag is not between 0 and half the Earth's circumference.

    Notes
    -----
    Below the grid's spacing many pairs are one and the same grid point, which differs
    by nothing: the curve tends to zero there whatever the field.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> u = xatmo.open_sample().u
    >>> curve = metrics.semivariogram(u, [250, 1000, 4000], normalise_by=u)
    >>> curve.mean("time").round(1).values.tolist()
    [0.1, 0.5, 1.0]
    """
    lags = np.atleast_1d(np.asarray(lags_km, dtype=np.float64))
    if not ((lags > 0) & (lags < 180 * KM_PER_DEGREE)).all():
        msg = "A lag is no distance on the Earth."
        raise OptionError(
            msg,
            found=f"lags_km={lags.tolist()}",
            needed="0 to 20015 km",
            hint="lags_km=(100, 300, 1000)",
        )
    rows, grid = canonical(field)
    parts = []
    for lag in lags:
        # Of each lag alone, so that a list of others does not change it.
        rng = np.random.default_rng([seed, round(lag * 1000)])
        here, there = _pairs(grid, np.deg2rad(lag / KM_PER_DEGREE), samples, rng)
        squares = (_at(rows, grid, here) - _at(rows, grid, there)) ** 2
        parts.append(0.5 * squares.mean("pair"))
    curve = xr.concat(parts, dim="lag", coords="minimal", compat="override")
    curve = curve.transpose(..., "lag")
    curve = curve.assign_coords(lag=("lag", lags, {"units": "km"}))
    if normalise_by is None:
        return scored("semivariogram", curve, field, "({})2")
    curve = curve / _variance(normalise_by)
    return scored("semivariogram over the variance", curve, field, "1")


def _variance(field: xr.DataArray) -> xr.DataArray:
    field = field.astype(np.float64)
    anomalies = field - weighted_mean(field, None, weighted=True)
    return weighted_mean(anomalies**2, None, weighted=True)


def _pairs(
    grid: Grid, angle: float, samples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points in the domain and their partners: twice (2, <= samples), in degrees."""
    north, south, west, east = np.deg2rad(edges(grid))
    width = east - west
    kept: list[np.ndarray] = []
    count = 0
    for _ in range(_TRIES):
        sines = rng.uniform(np.sin(south), np.sin(north), samples)
        here = np.stack([np.arcsin(sines), west + rng.uniform(0, width, samples)])
        there = _destination(here, angle, rng.uniform(0, 2 * np.pi, samples))
        within = (there[0] <= north) & (there[0] >= south)
        within &= np.mod(there[1] - west, 2 * np.pi) <= width
        kept.append(np.stack([here, there])[..., within])
        count += int(within.sum())
        if count >= samples:
            break
    here, there = np.rad2deg(np.concatenate(kept, axis=-1)[..., :samples])
    return here, there


def _destination(here: np.ndarray, angle: float, bearing: np.ndarray) -> np.ndarray:
    """Where a great circle leads (radians); the bearing counts from north."""
    phi, lam = here
    sines = np.sin(phi) * np.cos(angle)
    sines = sines + np.cos(phi) * np.sin(angle) * np.cos(bearing)
    across = np.sin(bearing) * np.sin(angle) * np.cos(phi)
    along = np.cos(angle) - np.sin(phi) * sines
    return np.stack([np.arcsin(np.clip(sines, -1, 1)), lam + np.arctan2(across, along)])


def _at(rows: xr.DataArray, grid: Grid, points: np.ndarray) -> xr.DataArray:
    """Values of the nearest grid points, (..., pair)."""
    j, i = (xr.DataArray(index, dims="pair") for index in nearest(grid, *points))
    near = rows.isel(latitude=j, longitude=i).drop_vars(["latitude", "longitude"])
    return near.astype(np.float64)


@each_variable
def total_variation(field: Any, *, weighted: bool = True) -> xr.DataArray:
    """How much a field goes up and down from one grid point to the next.

    Parameters
    ----------
    field : DataArray or Dataset
    weighted : bool
        By the area of the band around each latitude, relative to the mean. Otherwise
        the plain sum of image processing.

    Returns
    -------
    DataArray or Dataset
        ``(...)`` in the field's units: the sum over grid points of the length of the
        step ``(d_latitude, d_longitude)`` to the next point southward and eastward. In
        the last row, and in the last column of a region, nothing follows: that
        difference is zero. Points next to a gap are left out.

    Notes
    -----
    It grows with the number of points: compare fields on one grid.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> u = xatmo.open_sample().u.isel(time=0)
    >>> smooth = u.rolling(lon=5, center=True, min_periods=1).mean()
    >>> variation = metrics.total_variation
    >>> bool(variation(smooth) < variation(u))
    True
    """
    rows, grid = canonical(field)
    rows = rows.astype(np.float64)
    down = _next(rows, "latitude", periodic=False) - rows
    right = _next(rows, "longitude", periodic=grid.is_global) - rows
    steps = (down**2 + right**2) ** 0.5
    dims = ["latitude", "longitude"]
    areas = row_areas(steps, list(dims)) if weighted else None
    total = (steps if areas is None else steps * areas).sum(dims, min_count=1)
    return scored("total variation", total, field, "{}")


def _next(rows: xr.DataArray, dim: str, periodic: bool) -> xr.DataArray:
    """Each point's successor; the last one's is the first one, or itself."""
    rest = rows.isel({dim: slice(1, None)})
    last = rows.isel({dim: slice(0, 1) if periodic else slice(-1, None)})
    shifted = xr.concat(
        [x.drop_vars(dim) for x in (rest, last)],
        dim=dim,
        coords="minimal",
        compat="override",
    )
    return shifted.assign_coords({dim: rows[dim].variable})
