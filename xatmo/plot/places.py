"""What a place attends to, on the globe as seen from above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xatmo.errors import FieldError
from xatmo.globe import Globe
from xatmo.plot.basic import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["attention"]

_OFFSET, _PLACE = "time_offset", ("query_latitude", "query_longitude")
_ROWS = ("field_to", "source", "level_to")
_PANEL = 1.9  # inches
_CELLS = {"edgecolors": "white", "linewidths": 0.4}


def attention(
    da: xr.DataArray,
    *,
    radius: float | None = None,
    title: str | None = None,
    fig: Figure | None = None,
    **style: Any,
) -> Figure:
    """Draw what a place attends to, on the globe as seen from above it.

    A panel for each time offset (columns) and each field or part of the network that is
    attended to (rows); those that are not coupled are left out. The cross is the place
    that asks, white at its own time. All panels share their colours.

    Parameters
    ----------
    da : DataArray
        From :func:`xatmo.attention`, of a single time, field and level that ask.
    radius : float, optional
        Degrees from the place to the edge of a panel, up to 90 for half of the globe.
        Such that all tokens are seen if not given.
    title : str, optional
        Of the figure; says who asks if not given.
    fig : matplotlib Figure, optional
        To draw in, such as ``plt.figure(layout="constrained")``, which ``plt.show()``
        shows; a new one, independent of pyplot, if not given.
    **style
        For the cells, such as ``cmap`` or ``clim=(0, 5)``, in per cent.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    xatmo.errors.FieldError
        If there is more to show than panels can, or it is no attention.
    xatmo.errors.MissingDependencyError
        If there is no matplotlib.

    Examples
    --------
    >>> a = ds.atmo.attention(query=(50.0, 10.0))  # doctest: +SKIP
    >>> xatmo.plot.attention(a.isel(time=-1).sel(field_from="u"))  # doctest: +SKIP
    """
    da, lat, lon = _panels(da)
    edges = _edges(da[lat].values, da[lon].values)
    globe = _view(da, edges, radius)
    share = 100 * da.values  # (rows, columns, y, x)
    rows, columns = share.shape[:2]
    lines = _who_asks(da, globe) if title is None else [title]
    text = (", " if columns > 3 else "\n").join(lines)
    size = (
        max(_PANEL * columns, 3.2) + 1.1,
        _PANEL * rows + 0.7 + 0.2 * text.count("\n"),
    )
    fig = figure(figsize=size, layout="constrained") if fig is None else fig
    axes = fig.subplots(rows, columns, squeeze=False)
    style = {"clim": (0, np.nanmax(share)), "cmap": "viridis", **_CELLS, **style}
    for (row, column), ax in np.ndenumerate(axes):
        globe.draw(ax)
        cells = globe.cells(ax, *edges, share[row, column], zorder=2, **style)
        _cross(ax, own=bool((da[_OFFSET] == da["query_time_offset"])[column]))
    for column, ax in enumerate(axes[0]):
        ax.set_title(_hours(da[_OFFSET].values[column]), fontsize=9)
    for row, ax in enumerate(axes[:, 0]):
        ax.set_ylabel(f"to {da['row'].values[row]}", fontsize=9)
    colours = fig.colorbar(cells, ax=axes, pad=0.02, aspect=25, shrink=0.9)
    colours.set_label("attention to a token (%)")
    fig.suptitle(text, fontsize=10)
    return fig


def _panels(da: xr.DataArray) -> tuple[xr.DataArray, str, str]:
    """(row, time offset, latitude, longitude), and what the last two are called."""
    known = {c.attrs.get("standard_name"): str(n) for n, c in da.coords.items()}
    lat, lon = known.get("latitude", ""), known.get("longitude", "")
    needed = {*_PLACE, "query_time_offset", _OFFSET}
    if not {lat, lon} <= set(da.dims) or not needed <= set(da.coords):
        raise _no_attention(da)
    kept = [*_ROWS, _OFFSET, lat, lon]
    da = da.squeeze([d for d in da.dims if d not in kept and da.sizes[d] == 1])
    left = [str(d) for d in da.dims if d not in kept]
    if left:
        raise _too_much(da, left)
    da = da if _OFFSET in da.dims else da.expand_dims(_OFFSET)
    rows = _in_rows(da).transpose("row", _OFFSET, lat, lon).compute()
    there = rows.notnull().any([_OFFSET, lat, lon]).values
    if not there.any():
        raise _no_attention(da)
    return rows.isel(row=there), lat, lon


def _in_rows(da: xr.DataArray) -> xr.DataArray:
    """What is attended to, one below the other: fields, levels of each."""
    names = [d for d in _ROWS if d in da.dims]
    if not names:
        said = [str(da[d].values) for d in _ROWS if d in da.coords]
        return da.expand_dims(row=[", ".join(said)])
    rows = da.stack(row=names, create_index=False)
    texts = zip(*(rows[name].astype(str).values for name in names), strict=True)
    labels = [", ".join(several) for several in texts]
    return rows.drop_vars(names).assign_coords(row=labels)


def _no_attention(da: xr.DataArray) -> FieldError:
    msg = "This is no attention that could be drawn."
    return FieldError(
        msg,
        found=f"{da.name!r} {da.dims}",
        needed="what ds.atmo.attention(...) returns, not all of it missing",
        hint="xatmo.plot.attention(ds.atmo.attention(time=..., query=...))",
    )


def _too_much(da: xr.DataArray, left: list[str]) -> FieldError:
    msg = "There is more to show than there are panels for."
    return FieldError(
        msg,
        found=", ".join(f"{d}: {da.sizes[d]}" for d in left),
        needed="a single one of each",
        hint=f"xatmo.plot.attention(a.isel({', '.join(f'{d}=0' for d in left)}))",
    )


def _view(
    da: xr.DataArray, edges: tuple[np.ndarray, ...], radius: float | None
) -> Globe:
    """The globe above the query, as near as all tokens allow."""
    latitude, longitude = (float(da[name]) for name in _PLACE)
    if radius is not None:
        return Globe(latitude, longitude, radius)
    whole = Globe(latitude, longitude)
    x, y, seen = whole.project(*np.meshgrid(*edges))
    if not seen.all():
        return whole
    widest = min(1.1 * float(max(np.abs(x).max(), np.abs(y).max())), 1.0)
    return Globe(latitude, longitude, float(np.rad2deg(np.arcsin(widest))))


def _edges(
    latitude: np.ndarray, longitude: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Edges of cells, half way between their centres."""
    steps = [np.diff(x) for x in (latitude, longitude) if x.size > 1]
    one = np.abs(steps[-1][:1]) if steps else np.ones(1)  # a single row is as wide
    edges = []
    for x in (latitude, longitude):
        step = np.diff(x) if x.size > 1 else one
        inner = x[:-1] + step[: x.size - 1] / 2
        edges.append(np.r_[x[0] - step[0] / 2, inner, x[-1] + step[-1] / 2])
    return np.clip(edges[0], -90.0, 90.0), edges[1]


def _cross(ax: Axes, *, own: bool) -> None:
    """The place that asks: the middle of the view."""
    face, edge = ("white", "black") if own else ("black", "white")
    style = {"facecolors": face, "edgecolors": edge, "linewidths": 0.9}
    ax.scatter([0], [0], s=60, marker="P", zorder=4, **style)  # type: ignore[arg-type]


def _hours(offset: Any) -> str:
    return f"{offset / np.timedelta64(1, 'h'):g} h".replace("-", "\u2212")


def _who_asks(da: xr.DataArray, globe: Globe) -> list[str]:
    """Who asks, where and when, and what was averaged."""
    known = [da[n] for n in ("field_from", "level_from") if n in da.coords]
    who = " at ".join(str(c.values) for c in known)
    y, x = globe.latitude, (globe.longitude + 180) % 360 - 180
    ns, ew = "N" if y >= 0 else "S", "E" if x >= 0 else "W"
    where = f"{round(abs(y), 2):g}°{ns} {round(abs(x), 2):g}°{ew}"
    dates = [c for c in da.coords.values() if c.ndim == 0 and c.dtype.kind == "M"]
    when = [np.datetime_as_string(c.values, unit="m") for c in dates[:1]]
    said = [f"{who or 'attention'} at {where}", *when]
    chosen = [f"{n} {int(da[n])}" for n in ("layer", "head") if n in da.coords]
    averaged = str(da.attrs.get("averaged_over", "nothing"))
    if averaged != "nothing":
        chosen.append(f"mean over {averaged.replace(', ', ' and ')}")
    return [*said, *chosen, f"lines every {globe.lines}°"]
