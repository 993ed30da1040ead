"""Plain ways to fill gaps, on arrays: what a network that fills gaps has to beat."""

from __future__ import annotations

import numpy as np

from xatmo.methods.series import Filled, Gappy, needs

__all__ = ["biharmonic", "climatology", "hour_of_day", "interpolate", "nearest"]


def climatology(gappy: Gappy) -> Filled:
    """Fill each cell with its mean at that hour of the day.

    Where an hour was seldom observed, its mean is drawn towards that of all times, by
    the ratio of the variances within and between hours. The spread is the standard
    deviation of what was observed about it. Cells that are never observed stay NaN.
    """
    x = gappy.values
    mean, count = _mean(x)
    hour = hour_of_day(gappy)
    hours = np.unique(hour)
    field = np.broadcast_to(mean, x.shape).copy()
    if len(hours) > 1:
        parts = [(hour == h, *_mean(x[hour == h] - mean)) for h in hours]
        draw = _draw(x - mean, parts)
        for here, anomaly, seen in parts:
            field[here] += np.where(seen > 0, anomaly * seen / (seen + draw), 0.0)
    left = x - field
    square, _ = _mean(left**2)
    # A cell that was seen once varies no less than others do.
    usual = np.nanmean(square) if np.isfinite(square).any() else np.nan
    freedom = count + 1
    variance = (np.nan_to_num(square) * count + 2 * usual) / freedom
    spread = np.where(count > 0, np.sqrt(variance), np.nan)
    return Filled(field, np.broadcast_to(spread, x.shape))


def nearest(gappy: Gappy) -> Filled:
    """Fill with the nearest observed cell on the sphere; else with the nearest time."""
    out = np.stack([_nearest_cell(x, gappy) for x in gappy.values])
    seen = np.flatnonzero(np.isfinite(gappy.values).any(axis=(1, 2)))
    if not seen.size:
        return Filled(out)
    at = np.append(0.0, gappy.steps.cumsum())
    for t in np.setdiff1d(np.arange(len(out)), seen):
        out[t] = out[seen[np.argmin(np.abs(at[seen] - at[t]))]]
    return Filled(out)


def interpolate(gappy: Gappy) -> Filled:
    """Interpolate along time, what is left along longitude, then along latitude.

    As ``interpolate_na`` of xarray does, with the last observed value beyond the ends;
    the rows of a global map close on themselves.
    """
    at = np.append(0.0, gappy.steps.cumsum())
    x = _along(gappy.values, at, 0)
    x = _along(x, gappy.longitude, 2, period=360.0 if gappy.periodic else None)
    return Filled(_along(x, -gappy.latitude, 1))


def biharmonic(gappy: Gappy) -> Filled:
    """Fill each map by itself with the smoothest surface through its rims.

    By :func:`skimage.restoration.inpaint_biharmonic`; a global map is continued by a
    quarter of its columns on both sides.
    """
    try:
        from skimage.restoration import inpaint_biharmonic
    except ImportError as error:
        what = "Biharmonic filling"
        raise needs(package="scikit-image", version="0.22", what=what) from error
    around = gappy.values.shape[2] // 4 if gappy.periodic else 0
    out = np.full_like(gappy.values, np.nan)
    for t, x in enumerate(gappy.values):
        known = np.isfinite(x)
        if not known.any():
            continue
        wide = np.pad(x, ((0, 0), (around, around)), mode="wrap")
        gone = np.isnan(wide)
        full = inpaint_biharmonic(np.where(gone, 0.0, wide), gone)
        out[t] = full[:, around : around + x.shape[1]]
    return Filled(out)


# --- Helpers ------------------------------------------------------------------------


def _mean(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over times of what is there (NaN where nothing is), and how much that is."""
    known = np.isfinite(x)
    count = known.sum(axis=0)
    total = np.where(known, x, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), count


def hour_of_day(gappy: Gappy) -> np.ndarray:
    """Whole hours since midnight at each time, (T,); 0 if they are not known."""
    if gappy.hours is None:
        return np.zeros(len(gappy.values))
    return np.floor(gappy.hours % 24 + 1e-6)


def _draw(
    anomaly: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> float:
    """Observations that the mean of all times counts for: variance within / between."""
    within, between, count, groups = 0.0, 0.0, 0, 0
    for here, mean, seen in parts:
        known = seen > 0
        within += np.nansum((anomaly[here] - mean) ** 2)
        count += int(np.maximum(seen - 1, 0).sum())
        between += float((seen[known] * mean[known] ** 2).sum())
        groups += int(known.sum())
    if not count or not groups:
        return np.inf
    within /= count
    # The means of hours differ by chance as well.
    usual = max((count + groups) / groups, 1.0)
    between = max(between / groups - within, 0.0) / usual
    return float(within / between) if between > 0 else np.inf


def _nearest_cell(x: np.ndarray, gappy: Gappy) -> np.ndarray:
    known = np.isfinite(x)
    if known.all() or not known.any():
        return x
    columns = _nearest_column(known, gappy.periodic)
    rows = np.flatnonzero(known.any(axis=1))
    lat, lon = np.deg2rad(gappy.latitude), np.deg2rad(gappy.longitude)
    # In each row the nearest observed cell is the nearest one in longitude.
    away = np.cos(lon[columns[rows]] - lon)  # (rows, W)
    out = x.copy()
    for i in np.flatnonzero(~known.all(axis=1)):
        sines = np.sin(lat[rows]) * np.sin(lat[i])
        cosines = np.cos(lat[rows]) * np.cos(lat[i])
        row = rows[np.argmax(sines[:, None] + cosines[:, None] * away, axis=0)]
        found = x[row, columns[row, np.arange(x.shape[1])]]
        out[i] = np.where(known[i], x[i], found)
    return out


def _nearest_column(known: np.ndarray, periodic: bool) -> np.ndarray:
    """For each cell the column of the nearest observed cell in its row, (H, W)."""
    width = known.shape[1]
    copies = 3 if periodic else 1
    at = np.arange(copies * width)
    wide = np.tile(known, (1, copies))
    far = 10 * len(at)
    left = np.maximum.accumulate(np.where(wide, at, -far), axis=1)
    right = np.minimum.accumulate(np.where(wide, at, far)[:, ::-1], axis=1)[:, ::-1]
    found = np.where(at - left <= right - at, left, right)
    middle = width if periodic else 0
    return found[:, middle : middle + width] % width


def _along(
    x: np.ndarray, at: np.ndarray, axis: int, period: float | None = None
) -> np.ndarray:
    lines = np.moveaxis(x, axis, -1).copy()
    known = np.isfinite(lines)
    for i in np.argwhere(~known.all(axis=-1) & known.any(axis=-1)):
        line, there = lines[tuple(i)], known[tuple(i)]
        line[~there] = np.interp(at[~there], at[there], line[there], period=period)
    return np.moveaxis(lines, -1, axis)
