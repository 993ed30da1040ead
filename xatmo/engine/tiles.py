"""How a domain is covered by boxes of one size, which overlap and are blended.

Rows and columns are covered independently of each other: a box is a pair of positions,
and its weights are a product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np

__all__ = ["Cover", "Place", "Tile", "cover", "places_of", "refined", "tiles_of"]


Place: TypeAlias = tuple[tuple[slice, slice], tuple[slice, slice]]
"""Rows and columns of a domain, and the same points in a box."""


@dataclass(frozen=True, eq=False)
class Cover:
    """Where boxes lie along one axis.

    Parameters
    ----------
    count : int
        Points of the axis.
    size : int
        Points of a box.
    starts : ndarray of int, shape (K,)
        First point of each box.
    weights : ndarray of float32, shape (K, size)
        How much each point of a box counts: positive, and of sum 1 over the boxes that
        hold a point. 0 beyond the end of an axis that is shorter than a box.
    """

    count: int
    size: int
    starts: np.ndarray
    weights: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """Number of each point of each box, (K, size); beyond the end it counts on."""
        return np.asarray(self.starts[:, None] + np.arange(self.size))

    def parts(self, number: int) -> list[tuple[slice, slice]]:
        """Return where a box lies in the domain, and which points of it these are.

        Two parts if it crosses the seam of a circle.
        """
        start = int(self.starts[number])
        stop = min(start + self.size, self.count)
        parts = [(slice(start, stop), slice(0, stop - start))]
        beyond = start + self.size - self.count
        if beyond > 0 and self.size <= self.count:
            parts.append((slice(0, beyond), slice(self.size - beyond, self.size)))
        return parts


@dataclass(frozen=True)
class Tile:
    """A box of a domain: its number along rows and along columns."""

    row: int
    column: int


@lru_cache(maxsize=64)
def cover(count: int, size: int, token: int = 1, periodic: bool = False) -> Cover:
    """Cover an axis by boxes.

    Neighbours share half of a box, or a token if that is more. The boxes are spread so
    that the first begins where the axis does and the last ends there; on a circle they
    go around.

    Parameters
    ----------
    count : int
        Points of the axis. If there are fewer than a box has, one box reaches beyond
        the end.
    size : int
        Points of a box.
    token : int
        Points of a token.
    periodic : bool
        Whether the last point is the first one's neighbour.

    Returns
    -------
    Cover

    Examples
    --------
    >>> from xatmo.engine.tiles import cover
    >>> cover(40, 16).starts.tolist()
    [0, 8, 16, 24]
    >>> cover(36, 24, 6, periodic=True).starts.tolist()
    [0, 12, 24]
    """
    step = size - _overlap(size, token)
    if count <= size:
        starts = np.zeros(1, int)
    elif periodic:
        boxes = -(-count // step)
        starts = np.arange(boxes) * count // boxes
    else:
        boxes = 1 + -(-(count - size) // step)
        starts = np.round(np.linspace(0, count - size, boxes)).astype(int)
    return Cover(count, size, starts, _weights(starts, count, size))


def refined(cover: Cover, factor: int) -> Cover:
    """Return the same boxes on an axis whose cells are divided into ``factor``.

    Examples
    --------
    >>> from xatmo.engine.tiles import cover, refined
    >>> refined(cover(40, 16), 4).starts.tolist()
    [0, 32, 64, 96]
    """
    count, size = factor * cover.count, factor * cover.size
    starts = factor * cover.starts
    return Cover(count, size, starts, _weights(starts, count, size))


def tiles_of(rows: Cover, columns: Cover) -> Iterator[Tile]:
    """Go through all boxes, row by row."""
    for row in range(len(rows.starts)):
        for column in range(len(columns.starts)):
            yield Tile(row, column)


def places_of(rows: Cover, columns: Cover, tile: Tile) -> Iterator[Place]:
    """Where a box lies in the domain, and which points of it these are."""
    ((y, own_y),) = rows.parts(tile.row)
    for x, own_x in columns.parts(tile.column):
        yield (y, x), (own_y, own_x)


def _overlap(size: int, token: int) -> int:
    half = size // 2
    # A box of a single token cannot share a whole one.
    return max(half, token) if token < size else half


def _weights(starts: np.ndarray, count: int, size: int) -> np.ndarray:
    """Raised cosines that add up to 1; positive up to the edges of boxes."""
    bell = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    points = starts[:, None] + np.arange(size)
    inside = points < count if count <= size else np.ones(points.shape, bool)
    total = np.zeros(count)
    weights = np.where(inside, bell, 0.0)
    np.add.at(total, points % count, weights)
    return (weights / total[points % count]).astype(np.float32)
