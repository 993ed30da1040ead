"""Every state against every other, and what that says as a function of time lag."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xatmo.errors import TimeAxisError

__all__ = ["by_lag", "lag_hours", "pairwise_rmse"]


def lag_hours(time: xr.DataArray) -> np.ndarray:
    """Hours from every time (rows) to every other (columns); cftime as well.

    Raises
    ------
    xatmo.errors.TimeAxisError
        If the values are not dates.

    Examples
    --------
    >>> times = np.array(["2020-01-01T00", "2020-01-01T06"], "datetime64[ns]")
    >>> lag_hours(xr.DataArray(times, dims="time"))
    array([[ 0.,  6.],
           [-6.,  0.]])
    """
    values = time.values
    if values.dtype.kind == "M":
        return (values[None, :] - values[:, None]) / np.timedelta64(1, "h")
    if values.dtype == object and hasattr(values[0], "calendar"):
        steps = values - values[0]
        hours = np.array([s.total_seconds() / 3600 for s in steps])
        return hours[None, :] - hours[:, None]
    msg = f"The values of {time.name!r} are not dates."
    raise TimeAxisError(
        msg,
        found=f"{values.dtype} values, such as {values[0]!r}",
        needed="datetime64 or cftime dates",
        hint="xr.decode_cf(ds), or ds.assign_coords(time=pd.date_range(...))",
    )


def pairwise_rmse(
    field: xr.DataArray, weights: xr.DataArray, time: str = "time"
) -> xr.DataArray:
    """Root of the weighted mean squared difference of all pairs of times.

    Parameters
    ----------
    field : DataArray
        ``(time, ...)``.
    weights : DataArray
        On some of the other dimensions, e.g. the area of each latitude's band.
    time : str
        Name of the dimension that is paired.

    Returns
    -------
    DataArray
        ``(time, <time>_other)``, in the units of the field.
    """
    dims = [d for d in field.dims if d != time]
    weights = (xr.ones_like(field.isel({time: 0}, drop=True)) * weights).astype(float)
    scaled = field.astype(float) * np.sqrt(weights / weights.sum())
    other = scaled.rename({time: f"{time}_other"})
    squares = xr.dot(scaled, scaled, dim=dims) + xr.dot(other, other, dim=dims)
    return np.sqrt((squares - 2 * xr.dot(scaled, other, dim=dims)).clip(min=0))


def by_lag(matrix: np.ndarray, hours: np.ndarray, longest: float) -> xr.Dataset:
    """Mean, standard deviation and number of pairs for each positive lag.

    Parameters
    ----------
    matrix, hours : ndarray, shape (n, n)
        A distance of all pairs, and their lags.
    longest : float
        Longest lag, hours.

    Returns
    -------
    Dataset
        ``mean``, ``std``, ``count`` on ``lag`` (hours).
    """
    upper = (hours > 0) & (hours <= longest)
    lag, values = np.round(hours[upper], 3), matrix[upper]
    lags, which = np.unique(lag, return_inverse=True)
    count = np.bincount(which, minlength=lags.size)
    mean = np.bincount(which, values, lags.size) / np.maximum(count, 1)
    square = np.bincount(which, (values - mean[which]) ** 2, lags.size)
    return xr.Dataset(
        {
            "mean": ("lag", mean),
            "std": ("lag", np.sqrt(square / np.maximum(count, 1))),
            "count": ("lag", count),
        },
        coords={"lag": ("lag", lags, {"units": "hours", "long_name": "time lag"})},
    )
