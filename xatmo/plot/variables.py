"""How much each variable counts, as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xatmo.errors import FieldError
from xatmo.plot.basic import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["variable_attention"]

_VARIABLE, _HEAD = "variable", "head"
_BANDS = {"30°N to 90°N": (30, 90), "tropics": (-30, 30), "30°S to 90°S": (-90, -30)}
_BAND_COLOURS = ("#1b6ca8", "#c8553d", "#3a3a3a")


def variable_attention(
    da: xr.DataArray, *, ax: Axes | None = None, title: str | None = None, **style: Any
) -> Figure:
    """Draw how much each variable counts: a bar for each, the longest one on top.

    Bars are means over all places, by area, and times. Thin marks are those of each
    head where there are several, else those of three bands of latitude. The dotted line
    is the share of each variable if all were alike.

    Parameters
    ----------
    da : DataArray
        From :func:`xatmo.attention` with a model such as ClimaX, along ``variable``.
    ax : matplotlib Axes, optional
        To draw in; those of a new figure, independent of pyplot, if not given.
    title : str, optional
    **style
        For ``barh``, such as ``color``.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    xatmo.errors.FieldError
        If it is no attention over variables, or all of it is missing.
    xatmo.errors.MissingDependencyError
        If there is no matplotlib.

    Examples
    --------
    >>> a = ds.atmo.attention("climax-small")  # doctest: +SKIP
    >>> xatmo.plot.variable_attention(a)  # doctest: +SKIP
    """
    if _VARIABLE not in da.dims or not da.notnull().any():
        raise _no_variables(da)
    da = 100 * da.compute()
    mean, spread = _mean_share(da), _spread_of_shares(da)
    order = mean.argsort()
    if ax is None:
        size = (5.4, 1.1 + 0.25 * mean.size)
        ax = figure(figsize=size, layout="constrained").subplots()
    at = np.arange(mean.size)
    ax.barh(at, mean[order], **{"height": 0.7, "color": "#a9c7e0", **style})
    marks = {"marker": "|", "s": 70, "linewidths": 1.4, "zorder": 3}
    for label, (values, colour) in spread.items():
        ax.scatter(values[order], at, color=colour, label=label, **marks)  # type: ignore[arg-type]
    ax.axvline(100 / mean.size, color="0.3", lw=0.8, ls=":", label="if all were alike")
    ax.set_yticks(at, da[_VARIABLE].values[order].astype(str), fontsize=8)
    ax.set(xlabel="attention (%)", ylim=(-0.6, mean.size - 0.4))
    ax.set_xlim(left=0)
    ax.legend(fontsize=7, loc="lower right", frameon=False)
    if title:
        ax.set_title(title, fontsize=10, loc="left")
    return ax.figure  # type: ignore[return-value]


def _mean_share(da: xr.DataArray, kept: tuple[str, ...] = (_VARIABLE,)) -> np.ndarray:
    """Mean over all but some dimensions, which come last; by area over latitudes."""
    gone = [d for d in da.dims if d not in kept]
    lat = _latitude(da)
    if lat:
        # Rows of patches are as wide as each other: areas go with the cosine.
        area = np.cos(np.deg2rad(da[lat].values))
        da = da.weighted(xr.DataArray(area, dims=lat)).mean(gone)
    elif gone:
        da = da.mean(gone)
    return np.asarray(da.transpose(..., _VARIABLE).values)


def _spread_of_shares(da: xr.DataArray) -> dict[str, tuple[np.ndarray, str]]:
    """Means of heads, or of bands of latitude: values and colours by label."""
    if _HEAD in da.dims:
        heads = _mean_share(da, (_HEAD, _VARIABLE))
        return {
            ("each head" if i == 0 else f"_{i}"): (values, "#3a3a3a")
            for i, values in enumerate(heads)
        }
    lat = _latitude(da)
    if not lat:
        return {}
    found = {}
    for (label, (south, north)), colour in zip(
        _BANDS.items(), _BAND_COLOURS, strict=True
    ):
        band = da.isel({lat: ((da[lat] >= south) & (da[lat] < north)).values})
        if 0 < band.sizes[lat] < da.sizes[lat]:
            found[label] = (_mean_share(band), colour)
    return found


def _latitude(da: xr.DataArray) -> str | None:
    """What the dimension of latitudes is called, if there is one."""
    known = {
        da[d].attrs.get("standard_name"): str(d) for d in da.dims if d in da.coords
    }
    return known.get("latitude")


def _no_variables(da: xr.DataArray) -> FieldError:
    msg = "This is no attention over variables that could be drawn."
    return FieldError(
        msg,
        found=f"{da.name!r} {da.dims}",
        needed=f"a dimension {_VARIABLE!r}, and not all of it missing",
        hint='xatmo.plot.variable_attention(ds.atmo.attention("climax-small"))',
    )
