"""A series with gaps as a network reads it: anomalies, masks and neighbours in time.

Arrays only, used where networks are trained and where they run, so that both see the
same. A series is ``(time, latitude, longitude)`` with NaN where nothing was observed,
taken relative to its climatology (:mod:`xatmo.climatology`).
"""

from __future__ import annotations

import numpy as np

from xatmo.climatology import Background

__all__ = [
    "ABOUT",
    "BLOCK",
    "CHANNELS",
    "CONTEXT",
    "QUANTITIES",
    "STATICS",
    "about",
    "frames",
    "neighbours",
    "positions",
    "statics",
]

BLOCK = 4  # times filled at once
CONTEXT = 6  # times read before and after them
# Values and masks of the block, of its neighbours, and of the same hours of two days.
_TIMES = BLOCK + 2 * CONTEXT + 2 * BLOCK
STATICS = 3  # sine of the latitude, share of land, whether the grid has the point
CHANNELS = 2 * _TIMES + 2 + STATICS
QUANTITIES = (
    "eastward_wind",
    "northward_wind",
    "air_temperature",
    "geopotential",
    "specific_humidity",
)
ABOUT = 3 + len(QUANTITIES)  # numbers about the series as a whole


def positions(hours: np.ndarray | None, count: int) -> np.ndarray:
    """Number the times of a series so that equal steps have equal differences.

    What is missing from an otherwise regular series leaves its number out. Series that
    are not regular are numbered one by one.

    Parameters
    ----------
    hours : ndarray, shape (T,), optional
        Ascending; not given if the times are unknown.
    count : int
        T.

    Returns
    -------
    ndarray of int, shape (T,)
        From 0.

    Examples
    --------
    >>> import numpy as np
    >>> positions(np.array([0.0, 6.0, 18.0, 24.0]), 4)
    array([0, 1, 3, 4])
    """
    plain = np.arange(count)
    if hours is None or count < 3:
        return plain
    steps = np.diff(hours)
    step = np.median(steps)
    if step <= 0:
        return plain
    number = np.round((hours - hours[0]) / step)
    off = np.abs((hours - hours[0]) / step - number).max()
    # A series that is mostly holes is none.
    if off > 0.05 or (np.diff(number) < 1).any() or number[-1] > 2 * count:
        return plain
    return number.astype(np.int64)


def statics(latitude: np.ndarray, land: np.ndarray) -> np.ndarray:
    """What does not change: (STATICS, h, w), float32.

    Parameters
    ----------
    latitude : ndarray, shape (h,)
        Degrees.
    land : ndarray, shape (h, w)
        Share of land.
    """
    rows = np.sin(np.deg2rad(latitude))[:, None]
    return np.stack(
        [np.broadcast_to(rows, land.shape), land, np.ones(land.shape)]
    ).astype(np.float32)


def neighbours(hours: np.ndarray | None) -> int:
    """Steps to the other days that are read: the same hours, beyond the neighbours.

    As many as make a whole number of days where the steps are regular, and at least as
    many as are read beside the block.
    """
    if hours is None or len(hours) < 2:
        return CONTEXT + 2
    step = float(np.median(np.diff(hours)))
    day = round(24.0 / step) if 0 < step <= 24.0 else 0
    if not day or abs(day * step - 24.0) > 0.01:
        return CONTEXT + 2
    return day * -(-CONTEXT // day)


def frames(
    anomalies: np.ndarray,
    start: int,
    other: int,
    *,
    at: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Values and masks of a block of times, of its neighbours and of other days.

    Parameters
    ----------
    anomalies : ndarray of float32, shape (T, h, w)
        Normalised, NaN in gaps: a part of the series that holds what is asked for, as
        far as the series has it.
    start : int
        First time of the block, counted as ``at`` does.
    other : int
        Of :func:`neighbours`.
    at : ndarray of int, shape (T,), optional
        Positions of the part's times, ascending; 0, 1, ... if not given.
    out : ndarray of float32, shape (2 n, h, w), optional
        Where to put them.

    Returns
    -------
    ndarray of float32, shape (2 n, h, w)
        The values, 0 where there are none, then 1 where there are.
    """
    at = np.arange(len(anomalies)) if at is None else at
    block = np.arange(start, start + BLOCK)
    wanted = np.concatenate(
        [
            np.arange(start - CONTEXT, start + BLOCK + CONTEXT),
            block - other,
            block + other,
        ]
    )
    index = np.minimum(np.searchsorted(at, wanted), len(at) - 1)
    there = at[index] == wanted
    if out is None:
        out = np.empty((2 * _TIMES, *anomalies.shape[1:]), np.float32)
    # One time after the other: that stays in the processor's cache.
    for i, (time, exists) in enumerate(zip(index, there, strict=True)):
        values, mask = out[i], out[_TIMES + i]
        if not exists:
            values[:], mask[:] = 0.0, 0.0
            continue
        known = np.isfinite(anomalies[time])
        values[:], mask[:] = np.where(known, anomalies[time], 0.0), known
    return out


def about(quantity: str | None, found: Background) -> np.ndarray:
    """Numbers about a series as a whole: (ABOUT,), float32.

    Parameters
    ----------
    quantity : str, optional
        Standard name; any that is not one of ``QUANTITIES`` is just a quantity.
    found : Background
    """
    has = found.contrast > 0 and found.scale > 0
    ratio = np.log(found.contrast / found.scale) if has else 0.0
    kinds = [float(quantity == q) for q in QUANTITIES]
    known = float(quantity in QUANTITIES)
    return np.array([has, np.clip(ratio / 3, -2, 2), known, *kinds], np.float32)
