"""The share of land in any cells of the globe: a static field that networks read.

The map is that of the GLOBE elevation model (NOAA, public domain), in tenths of cells
of five minutes. Lakes and the Caspian Sea count as land, as the model has them.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from threading import Lock

import numpy as np

__all__ = ["land_share", "land_share_of_cells"]

_TENTHS = 10
_loading = Lock()  # lru_cache alone lets two threads load at once


def land_share(latitude_edges: np.ndarray, longitude_edges: np.ndarray) -> np.ndarray:
    """Share of land in each cell between edges of latitude and longitude.

    Every degree counts alike (as in the mean of a block of values, without weights by
    area), so that the mean of the parts of a cell is the share of the cell.

    Parameters
    ----------
    latitude_edges : ndarray, shape (rows + 1,)
        Degrees, in either direction; beyond a pole lies what is at the pole.
    longitude_edges : ndarray, shape (columns + 1,)
        Degrees, in either direction and in any convention, without a jump.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        Between 0 and 1; depends on nothing but the cell itself.

    References
    ----------
    GLOBE Task Team and others (1999): The Global Land One-kilometer Base Elevation
    (GLOBE) Digital Elevation Model, Version 1.0. NOAA, National Geophysical Data
    Center.

    Examples
    --------
    A cell in the Sahara, one in the Pacific, and two at the Strait of Gibraltar:

    >>> land_share(np.array([24.0, 25.0]), np.array([0.0, 1.0])).tolist()
    [[1.0]]
    >>> land_share(np.array([0.0, -1.0]), np.array([220.0, 221.0])).tolist()
    [[0.0]]
    >>> land_share(np.array([37.0, 36.0, 35.0]), np.array([-6.0, -5.0])).round(2)
    array([[0.81],
           [0.74]], dtype=float32)
    """
    y = np.asarray(latitude_edges, dtype=np.float64)
    x = np.asarray(longitude_edges, dtype=np.float64)
    return _share((y[:-1], y[1:]), (x[:-1], x[1:]))


def land_share_of_cells(
    latitude: np.ndarray, longitude: np.ndarray, spacing: tuple[float, float]
) -> np.ndarray:
    """Share of land in cells around centres; they need not touch each other.

    Parameters
    ----------
    latitude, longitude : ndarray, shapes (rows,) and (columns,)
        Degrees, in any order and convention.
    spacing : tuple of float
        Height and width of the cells in degrees.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        As :func:`land_share`.

    Examples
    --------
    >>> land_share_of_cells(np.array([24.5]), np.array([0.5]), (1.0, 1.0)).tolist()
    [[1.0]]
    """
    y, x = (np.asarray(c, dtype=np.float64) for c in (latitude, longitude))
    dy, dx = (0.5 * abs(step) for step in spacing)
    return _share((y + dy, y - dy), (x - dx, x + dx))


def _share(
    y: tuple[np.ndarray, np.ndarray], x: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    with _loading:
        total = _integral()
    rows, columns = total.shape[0] - 1, total.shape[1] - 1
    top, bottom = _in_rows(y, rows)
    left, right = (edge * (columns / 360.0) for edge in x)
    land = (
        _up_to(total, bottom, right)
        - _up_to(total, bottom, left)
        - _up_to(total, top, right)
        + _up_to(total, top, left)
    )
    size = (bottom - top)[:, None] * (right - left)
    return np.clip(land / (_TENTHS * size), 0.0, 1.0).astype(np.float32)


def _in_rows(
    y: tuple[np.ndarray, np.ndarray], rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count rows of the map from the north; beyond a pole is the last row again."""
    top, bottom = (
        np.clip((90.0 - edge) * (rows / 180.0), 0.0, rows)
        for edge in (np.maximum(*y), np.minimum(*y))
    )
    beyond = bottom <= top
    top = np.where(beyond, np.minimum(top, rows - 1), top)
    return top, np.where(beyond, top + 1, bottom)


def _up_to(total: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Land north of y and between 0 degrees and x, both counted in cells of the map.

    Within a cell of the map land is spread evenly: there linear interpolation of the
    sums is exact.
    """
    rows, columns = total.shape[0] - 1, total.shape[1] - 1
    turns, x = np.divmod(x, columns)
    j = np.minimum(y.astype(np.intp), rows - 1)
    i = np.minimum(x.astype(np.intp), columns - 1)
    down, right = (y - j)[:, None], x - i
    upper = (1 - right) * total[np.ix_(j, i)] + right * total[np.ix_(j, i + 1)]
    lower = (1 - right) * total[np.ix_(j + 1, i)] + right * total[np.ix_(j + 1, i + 1)]
    circle = (1 - down) * total[j, -1:] + down * total[j + 1, -1:]
    return (1 - down) * upper + down * lower + turns * circle


@lru_cache(maxsize=1)
def _integral() -> np.ndarray:
    """Tenths of land north-west of each corner of the map: (rows + 1, columns + 1)."""
    with (
        (resources.files("xatmo") / "data" / "land.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        tenths = stored["tenths"]  # from the north pole, from 0 degrees eastward
    total = np.zeros((tenths.shape[0] + 1, tenths.shape[1] + 1), dtype=np.int32)
    np.cumsum(tenths, axis=0, dtype=np.int32, out=total[1:, 1:])
    np.cumsum(total[1:, 1:], axis=1, out=total[1:, 1:])
    total.flags.writeable = False  # shared by all threads
    return total
