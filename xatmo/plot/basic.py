"""Maps and curves, for a first look; they need the extra ``xatmo[plot]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xatmo.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confusion_matrix", "figure", "lag_curves", "world_map"]


def figure(*args: Any, **kwargs: Any) -> Figure:
    """Return a new figure, independent of any window or of pyplot's state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = "Figures need matplotlib."
        raise MissingDependencyError(
            msg,
            found="no matplotlib in this environment",
            needed="matplotlib 3.8 or newer",
            hint='pip install "xatmo[plot]"',
        ) from error
    return Figure(*args, **kwargs)


def world_map(
    field: xr.DataArray, ax: Axes, *, title: str, label: str, **style: Any
) -> None:
    """Draw a (latitude, longitude) field with its colour bar.

    Parameters
    ----------
    field : DataArray
        Two-dimensional, latitude first, both in degrees.
    ax : matplotlib Axes
    title, label : str
        Of the map and of the colour bar, units included.
    **style
        For ``pcolormesh``.
    """
    lat, lon = field.dims
    field = _unwrapped(field.sortby(lat), str(lon))
    mesh = ax.pcolormesh(
        field[lon].values, field[lat].values, field.values, shading="nearest", **style
    )
    ax.set_title(title, fontsize=10, loc="left")
    ax.set_xlabel("longitude (°E)")
    ax.set_ylabel("latitude (°N)")
    ax.set_aspect("equal")
    colours = ax.figure.colorbar(mesh, ax=ax, shrink=0.85, pad=0.02, aspect=22)
    colours.set_label(label)


def _unwrapped(field: xr.DataArray, lon: str) -> xr.DataArray:
    """Longitudes in one ascending run, also where a region crosses the date line."""
    field = field.sortby(lon)
    x = field[lon].values
    if x.size < 3:
        return field
    gaps = np.diff(x, append=x[0] + 360)
    widest = int(gaps.argmax())
    if gaps[widest] < 3 * np.median(gaps) or widest == x.size - 1:
        return field
    start = widest + 1
    turned = np.concatenate([x[start:], x[:start] + 360])
    return field.roll({lon: -start}, roll_coords=False).assign_coords({lon: turned})


def lag_curves(
    ax: Axes,
    lag: np.ndarray,
    curves: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    """Draw up to two mean ± one standard deviation curves against time lag.

    Each has an axis of its own, since they have different units.

    Parameters
    ----------
    ax : matplotlib Axes
    lag : ndarray
        Hours.
    curves : dict of str to (mean, std)
        By axis label.
    """
    colours = ("#1b6ca8", "#c8553d")
    axes = [ax, ax.twinx()][: len(curves)]
    for (label, (mean, std)), axis, colour in zip(
        curves.items(), axes, colours, strict=False
    ):
        axis.plot(lag, mean, color=colour, marker="o", markersize=3)
        axis.fill_between(lag, mean - std, mean + std, color=colour, alpha=0.15, lw=0)
        axis.set_ylabel(label, color=colour)
        axis.tick_params(axis="y", colors=colour)
        axis.set_ylim(bottom=0)
    ax.set_xlabel("time lag (h)")
    ax.set_xlim(left=0)
    ax.grid(alpha=0.3)


def confusion_matrix(
    ax: Axes, counts: Any, lags_hours: Any, *, label: str = "share of the true lag (%)"
) -> None:
    """Draw which lags were taken for which: rows are the true ones, and add up to 100.

    Parameters
    ----------
    ax : matplotlib Axes
    counts : array_like of int, shape (n, n)
        True lag, named lag. Lags without pairs have no row.
    lags_hours : array_like, shape (n,)
    label : str
        Of the colour bar.

    Examples
    --------
    >>> ax = figure(figsize=(4, 3)).subplots()
    >>> confusion_matrix(ax, [[3, 1], [2, 2]], [6, 12])
    >>> [text.get_text() for text in ax.texts]
    ['75', '25', '50', '50']
    """
    counts, lags = np.asarray(counts, float), np.asarray(lags_hours)
    shown = counts.sum(1) > 0
    share = 100 * counts[shown] / counts[shown].sum(1, keepdims=True)
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.5:
            colour = "white" if value > 55 else "#333333"
            ax.text(
                column, row, f"{value:.0f}", ha="center", va="center", color=colour,
                fontsize=7,
            )  # fmt: skip
    ax.set_xticks(range(lags.size), lags)
    ax.set_yticks(range(int(shown.sum())), lags[shown])
    ax.set_xlabel("lag that the network names (h)")
    ax.set_ylabel("true lag (h)")
    colours = ax.figure.colorbar(image, ax=ax, pad=0.02, aspect=30)
    colours.set_label(label)
