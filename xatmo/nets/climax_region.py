"""Which patches of a grid a box of latitudes and longitudes needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xatmo.errors import OptionError

__all__ = ["Patches", "patches_of_box"]

_NEAR = 1e-4  # degrees: in single precision what is on an edge may lie beyond it
_CIRCLE = 360.0


@dataclass(frozen=True)
class Patches:
    """Some rows and columns of the patches of a grid.

    Parameters
    ----------
    rows, columns : tuple of int
        Numbers of patches, in the order in which they are read.
    size : int
        Rows and columns of cells in a patch.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    size: int

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return len(self.rows), len(self.columns)

    @property
    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the grid that they cover, in their order."""
        within = np.arange(self.size)
        rows, columns = (
            (self.size * np.array(n)[:, None] + within).ravel()
            for n in (self.rows, self.columns)
        )
        return rows, columns

    def crop(self, fields: Any) -> Any:
        """Take their cells of fields on the whole grid: (..., H, W) -> (..., h, w).

        Of tensors and of arrays of NumPy alike.
        """
        rows, columns = self.cells
        return fields[..., rows[:, None], columns]


def patches_of_box(
    latitude: np.ndarray | Sequence[float],
    longitude: np.ndarray | Sequence[float],
    latitudes: tuple[float, float],
    longitudes: tuple[float, float],
    size: int,
    whole: bool = False,
) -> Patches:
    """Find the patches that a box of latitudes and longitudes needs.

    Parameters
    ----------
    latitude : array of float, shape (H,)
        Degrees north, of the rows of the grid, from either pole to the other.
    longitude : array of float, shape (W,)
        Degrees east, of its columns, from 0 or from -180, on the globe or a part of it.
    latitudes : tuple of float
        Southern and northern edge, which belong to the box.
    longitudes : tuple of float
        Western and eastern edge, which belong to it too: the box lies between them on
        the way east, so that (170, -170) are the 20 degrees around the date line. From
        360 degrees on it is the whole circle.
    size : int
        Rows and columns of cells in a patch.
    whole : bool
        Only patches all of whose cells are in the box, as the published code takes
        them. If not, all that have a cell in it: every cell of the box is covered.

    Returns
    -------
    Patches
        Rows in the order of the grid, columns from west to east: across the end of the
        grid where the box is.

    Raises
    ------
    xatmo.errors.OptionError
        If the grid is not made of whole patches, or no patch is in the box.

    Notes
    -----
    The published code counts rows from the north in grids that begin in the south: its
    boxes are mirrored at the equator.

    Examples
    --------
    >>> import numpy as np
    >>> from xatmo.nets.climax_region import patches_of_box
    >>> latitude, longitude = np.arange(-87.5, 90, 5), np.arange(0.0, 360, 5)
    >>> fiji = patches_of_box(latitude, longitude, (-25, -10), (165, -170), size=2)
    >>> fiji.shape, fiji.columns  # columns of 10 degrees
    ((2, 4), (16, 17, 18, 19))
    >>> rows, columns = fiji.cells
    >>> longitude[columns].tolist()
    [160.0, 165.0, 170.0, 175.0, 180.0, 185.0, 190.0, 195.0]
    >>> sahara = patches_of_box(latitude, longitude, (15, 30), (-20, 40), size=2)
    >>> sahara.columns
    (34, 35, 0, 1, 2, 3, 4)
    """
    north_of, east_of = (np.asarray(x, dtype=float) for x in (latitude, longitude))
    shape = len(north_of), len(east_of)
    _check_grid(shape, size)
    south, north = sorted(map(float, latitudes))
    inside = (north_of >= south - _NEAR) & (north_of <= north + _NEAR)
    rows = _chosen(inside, size, whole)
    west, east = map(float, longitudes)
    span = _CIRCLE if east - west >= _CIRCLE - _NEAR else (east - west) % _CIRCLE
    away = (east_of - west + _NEAR) % _CIRCLE  # on the way east from the western edge
    inside = away <= span + 2 * _NEAR
    columns = _chosen(inside, size, whole)
    # A patch at both ends of the box is where the box begins.
    first = np.where(inside, away, np.inf).reshape(-1, size).min(1)
    columns = columns[np.argsort(first[columns], kind="stable")]
    if not len(rows) or not len(columns):
        raise _nothing(latitudes, longitudes, north_of, east_of, whole)
    return Patches(tuple(rows.tolist()), tuple(columns.tolist()), size)


def _chosen(inside: np.ndarray, size: int, whole: bool) -> np.ndarray:
    """Number the patches all of whose cells are inside, or any."""
    cells = inside.reshape(-1, size)
    return np.flatnonzero(cells.all(1) if whole else cells.any(1))


def _check_grid(shape: tuple[int, int], size: int) -> None:
    if size < 1 or not all(shape) or any(n % size for n in shape):
        msg = "The grid is not made of whole patches."
        found = f"{shape[0]} x {shape[1]} cells, patches of {size} x {size}"
        needed = "as many rows and columns as some whole patches have"
        hint = "take rows off at the poles, or another size"
        raise OptionError(msg, found=found, needed=needed, hint=hint)


def _nothing(
    latitudes: tuple[float, float],
    longitudes: tuple[float, float],
    latitude: np.ndarray,
    longitude: np.ndarray,
    whole: bool,
) -> OptionError:
    kind = "No patch lies wholly" if whole else "No cell lies"
    msg = f"{kind} in the box of latitudes {latitudes} and longitudes {longitudes}."
    found = (
        f"cells at {latitude.min():g} to {latitude.max():g} degrees north, "
        f"{longitude.min():g} to {longitude.max():g} degrees east"
    )
    hint = "take a larger box; longitudes go from the western to the eastern edge"
    needed = "a whole patch in it" if whole else "a cell in it"
    return OptionError(msg, found=found, needed=needed, hint=hint)
