"""Fill gaps by plain methods, labelled in and labelled out, each by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import AlignmentError, MissingValuesError, OptionError, TimeAxisError
from xatmo.fields import find_axes, from_canonical, read_grid, to_canonical
from xatmo.methods import filling
from xatmo.methods.dineof import dineof
from xatmo.methods.kriging import kriging
from xatmo.methods.series import Filled, Gappy

__all__ = ["FILLERS", "fill", "fill_gaps"]

FILLERS: dict[str, Callable[[Gappy], Filled]] = {
    "climatology": filling.climatology,
    "nearest": filling.nearest,
    "interpolate": filling.interpolate,
    "biharmonic": filling.biharmonic,
    "kriging": kriging,
    "dineof": dineof,
}
"""Methods by name; each reads maps in time whose values are of the order of 1."""


def fill(
    method: str,
    values: np.ndarray,
    latitude: np.ndarray,
    longitude: np.ndarray,
    time: np.ndarray | None = None,
    *,
    periodic: bool = False,
) -> Filled:
    """Fill gaps in arrays.

    Parameters
    ----------
    method : str
        One of :data:`FILLERS`.
    values : ndarray, shape (T, H, W)
        NaN where missing.
    latitude, longitude : ndarray, shape (H,) and (W,)
        Degrees; north to south, longitude ascending.
    time : ndarray, shape (T,), optional
        Hours since any midnight, ascending. Without it, times count as equally spaced
        and have no hour of the day.
    periodic : bool
        Whether the last column is the first one's neighbour.

    Returns
    -------
    Filled
        Values and, where the method tells, their spread, in the precision of
        ``values``. Observed cells are as given, to the last bit.

    Raises
    ------
    xatmo.errors.OptionError
        If there is no such method.
    xatmo.errors.MissingValuesError
        If values are infinite.
    xatmo.errors.AlignmentError
        If the coordinates do not fit the values.
    xatmo.errors.TimeAxisError
        If times do not ascend, or are too few for the method.
    xatmo.errors.MissingDependencyError
        If the method needs a package that is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from xatmo.methods.gaps import fill
    >>> plane = np.add.outer(np.arange(4.0), np.arange(5.0))[None]
    >>> plane[0, 1, 2] = np.nan
    >>> fill("interpolate", plane, 50.0 - np.arange(4), np.arange(5.0)).values[0, 1, 2]
    np.float64(3.0)
    """
    _check(method, values, latitude, longitude, time)
    missing = np.isnan(values)
    if missing.all() or not missing.any():
        return Filled(values.copy())
    double = values.astype(np.float64)
    # The same sums for humidities of 1e-6 and for geopotentials of 1e6.
    centre = np.nanmean(double)
    scale = np.nanstd(double) or 1.0
    hours = None if time is None else np.asarray(time, float)
    gappy = Gappy((double - centre) / scale, latitude, longitude, hours, periodic)
    filled = FILLERS[method](gappy)
    found = (filled.values * scale + centre).astype(values.dtype)
    found = np.where(missing, found, values)
    if filled.spread is None:
        return Filled(found)
    spread = np.where(missing, filled.spread * scale, 0.0)
    return Filled(found, spread.astype(values.dtype))


def fill_gaps(da: xr.DataArray, method: str, *, spread: bool = False) -> xr.DataArray:
    """Fill the gaps of a field by a plain method.

    Parameters
    ----------
    da : DataArray
        On a latitude-longitude grid, with or without time, NaN where missing. Levels
        and members are filled each by itself. If lazy, the result is; each field
        is read whole, with all its times.
    method : str
        ``"climatology"``: the cell's mean at that hour of the day.
        ``"nearest"``: the nearest observed cell, or else time.
        ``"interpolate"``: linear along time, longitude, latitude in turn.
        ``"biharmonic"``: the smoothest surface, map by map.
        ``"kriging"``: on the sphere, map by map, of the anomaly from the climatology.
        ``"dineof"``: by empirical orthogonal functions of the data, with a memory in
        time, and what is left over by local interpolation.
    spread : bool
        Give the standard deviation of the error that is expected instead, 0 where
        observed; NaN for methods that do not tell.

    Returns
    -------
    DataArray
        Like ``da``; NaN where the method has nothing to say, such as cells that were
        never observed.

    Raises
    ------
    xatmo.errors.OptionError, xatmo.errors.TimeAxisError, \
xatmo.errors.MissingDependencyError
        As for :func:`fill`; of lazy data, when they are computed.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo.methods import fill_gaps
    >>> from xatmo.testing.gaps import with_gaps
    >>> u = xatmo.open_sample()["u"]
    >>> filled = fill_gaps(with_gaps(u, "random_50"), "interpolate")
    >>> filled.isnull().any().item()
    False
    """
    _check_method(method)
    ds = da.to_dataset(name="__field__")
    axes = find_axes(ds)
    grid = read_grid(ds, axes)
    x = to_canonical(da, grid)
    time = axes.time if axes.time in x.dims else None
    hours = None if time is None else _hours(x[time].values)
    core = [*([time] if time else []), "latitude", "longitude"]

    def block(values: np.ndarray) -> np.ndarray:
        times = values.shape[-3] if time else 1
        fields = values.reshape(-1, times, *values.shape[-2:])
        found = [
            fill(
                method,
                field,
                grid.latitude,
                grid.longitude,
                hours,
                periodic=grid.is_global,
            )
            for field in fields
        ]
        parts = [_spread(f) if spread else f.values for f in found]
        return np.stack(parts).reshape(values.shape)

    x = x if x.dtype.kind == "f" else x.astype(np.float32)
    if x.chunks is not None:
        x = x.chunk(dict.fromkeys(core, -1))
    result = xr.apply_ufunc(
        block,
        x,
        input_core_dims=[core],
        output_core_dims=[core],
        dask="parallelized",
        output_dtypes=[x.dtype],
    )
    restored = from_canonical(result, grid).transpose(*da.dims)
    return restored.rename(da.name).assign_attrs(da.attrs)


# --- Helpers ------------------------------------------------------------------------


def _spread(filled: Filled) -> np.ndarray:
    if filled.spread is not None:
        return filled.spread
    return np.full_like(filled.values, np.nan)


def _hours(times: np.ndarray) -> np.ndarray | None:
    """Hours since the midnight before the first time; None if times are no dates."""
    if times.dtype.kind == "M":
        return (times - times[0].astype("datetime64[D]")) / np.timedelta64(1, "h")
    if times.dtype == object:
        first = times[0]
        start = first.hour + first.minute / 60 + first.second / 3600
        return np.array([(t - first).total_seconds() / 3600 + start for t in times])
    return None


def _check(
    method: Any,
    values: np.ndarray,
    latitude: np.ndarray,
    longitude: np.ndarray,
    time: np.ndarray | None,
) -> None:
    _check_method(method)
    wanted = (
        values.shape[0] if time is None else len(time),
        len(latitude),
        len(longitude),
    )
    if values.shape != wanted:
        msg = "The values do not lie on the coordinates."
        raise AlignmentError(
            msg,
            found=f"values of shape {values.shape}",
            needed=f"times, latitudes and longitudes, {wanted}",
            hint="fill(method, values[None], latitude, longitude) for a single time",
        )
    if count := int(np.isinf(values).sum()):
        msg = "Some values are infinite."
        raise MissingValuesError(
            msg,
            found=f"{count} infinite values",
            needed="finite values, and NaN where they are missing",
            hint="np.where(np.isfinite(values), values, np.nan)",
        )
    if time is not None and (np.diff(time) <= 0).any():
        msg = "The times do not ascend."
        raise TimeAxisError(
            msg,
            found="times that repeat or go back",
            needed="each time after the one before",
            hint='ds.drop_duplicates("time").sortby("time")',
        )


def _check_method(method: Any) -> None:
    if method in FILLERS:
        return
    msg = f"There is no method {method!r} to fill gaps with."
    raise OptionError(
        msg,
        found=f"method={method!r}",
        needed=f"one of {', '.join(map(repr, FILLERS))}",
        hint='method="dineof" for a series, method="kriging" for single fields',
    )
