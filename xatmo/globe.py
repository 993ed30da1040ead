"""The globe as seen from far above a place: an orthographic view, for figures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from xatmo.fields import land_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection

__all__ = ["Globe"]

_LAND, _SEA, _LINE, _COAST = "#e4e0d8", "#f7f9fb", "#c9ccd1", "#555555"
_PIXELS = 240
_STEP = 0.25  # degrees of the map of land
_SIDE = 8  # straight lines that make a side of a cell


@dataclass(frozen=True)
class Globe:
    """An orthographic view, in which the radius of the globe is 1.

    Parameters
    ----------
    latitude, longitude : float
        Degrees, of the place in the middle.
    radius : float
        Degrees from there to the edge of the view: 90 shows half of the globe.

    Examples
    --------
    >>> x, y, visible = Globe(0.0, 0.0).project([0.0, 0.0, 0.0], [0.0, 30.0, 180.0])
    >>> x.round(2).tolist(), visible.tolist()
    ([0.0, 0.5, 0.0], [True, True, False])
    """

    latitude: float
    longitude: float
    radius: float = 90.0

    def project(
        self, latitude: Any, longitude: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return x, y and whether places are on the side that is seen."""
        phi, lam = np.deg2rad(latitude), np.deg2rad(longitude)
        phi0, lam = np.deg2rad(self.latitude), lam - np.deg2rad(self.longitude)
        x = np.cos(phi) * np.sin(lam)
        y = np.cos(phi0) * np.sin(phi) - np.sin(phi0) * np.cos(phi) * np.cos(lam)
        z = np.sin(phi0) * np.sin(phi) + np.cos(phi0) * np.cos(phi) * np.cos(lam)
        return x, y, z >= -1e-9

    def places(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return latitude and longitude of points of the view; NaN beside the globe."""
        x, y = np.asarray(x, float), np.asarray(y, float)
        beside = 1.0 - x**2 - y**2
        z = np.sqrt(np.where(beside >= 0, beside, np.nan))
        phi0 = np.deg2rad(self.latitude)
        sine = np.clip(z * np.sin(phi0) + y * np.cos(phi0), -1.0, 1.0)
        lam = np.arctan2(x, z * np.cos(phi0) - y * np.sin(phi0))
        return np.rad2deg(np.arcsin(sine)), self.longitude + np.rad2deg(lam)

    @property
    def edge(self) -> float:
        """Half the width of the view."""
        return 1.0 if self.radius >= 90 else float(np.sin(np.deg2rad(self.radius)))

    def draw(self, ax: Axes) -> None:
        """Draw land, coasts, and circles of latitude and longitude."""
        edge = self.edge
        line = np.linspace(-edge, edge, _PIXELS)
        land = _land_at(*self.places(*np.meshgrid(line, line)))
        style = {"levels": [-0.5, 0.5, 1.5], "colors": [_SEA, _LAND]}
        ax.contourf(line, line, land, **style, zorder=0)
        for colour, width in (("white", 1.1), (_COAST, 0.5)):  # seen on any cell
            coast = {"levels": [0.5], "colors": colour, "linewidths": width}
            ax.contour(line, line, land, **coast, zorder=3)
        for latitude, longitude in _circles(self.lines):
            x, y, seen = self.project(latitude, longitude)
            x[~seen] = np.nan
            ax.plot(x, y, color=_LINE, linewidth=0.5, zorder=1)
        if self.radius >= 90:
            turn = np.linspace(0, 2 * np.pi, 181)
            ax.plot(np.cos(turn), np.sin(turn), color=_COAST, linewidth=0.7, zorder=3)
            edge *= 1.02
        ax.set(xlim=(-edge, edge), ylim=(-edge, edge), xticks=[], yticks=[])
        ax.set_aspect("equal")
        for side in ax.spines.values():
            side.set_color(_LINE)

    @property
    def lines(self) -> int:
        """Degrees between circles of latitude and longitude."""
        return 30 if self.radius > 60 else 10

    def cells(
        self,
        ax: Axes,
        latitude_edges: np.ndarray,
        longitude_edges: np.ndarray,
        values: np.ndarray,
        **style: Any,
    ) -> PolyCollection:
        """Draw cells (rows, columns) between edges; those on the far side are left out.

        Further arguments are for a ``PolyCollection``.
        """
        from matplotlib.collections import PolyCollection

        shapes, shown = [], []
        for (row, column), value in np.ndenumerate(values):
            around = _outline(
                latitude_edges[row : row + 2], longitude_edges[column : column + 2]
            )
            x, y, seen = self.project(*around)
            if seen.all() and np.isfinite(value):
                shapes.append(np.stack([x, y], -1))
                shown.append(value)
        cells = PolyCollection(shapes, array=np.array(shown), **style)
        ax.add_collection(cells, autolim=False)
        return cells


def _outline(latitude: np.ndarray, longitude: np.ndarray) -> tuple[Any, Any]:
    """Points around a cell, since its sides are curves."""
    there = np.linspace(0, 1, _SIDE)
    ends = np.zeros(_SIDE)
    up = np.concatenate([ends, there, ends + 1, 1 - there])
    right = np.concatenate([there, ends + 1, 1 - there, ends])
    (south, north), (west, east) = latitude, longitude
    return south + up * (north - south), west + right * (east - west)


def _circles(step: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Circles of latitude and halves of those of longitude."""
    around, up = np.arange(0.0, 361.0, 2.0), np.arange(-90.0, 91.0, 2.0)
    parallels = [(np.full_like(around, y), around) for y in range(-90, 91, step)]
    meridians = [(up, np.full_like(up, x)) for x in range(0, 360, step)]
    return parallels + meridians


def _land_at(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Share of land around places, NaN where there are none."""
    table = _land()
    there = np.isfinite(latitude)
    row = np.where(there, (90 - latitude) / _STEP, 0).astype(int)
    column = np.where(there, longitude % 360 / _STEP, 0).astype(int)
    row, column = np.minimum(row, len(table) - 1), np.minimum(column, len(table.T) - 1)
    return np.where(there, table[row, column], np.nan)


@lru_cache(maxsize=1)
def _land() -> np.ndarray:
    rows, columns = np.arange(90, -90.1, -_STEP), np.arange(0, 360.1, _STEP)
    return land_share(rows, columns)
