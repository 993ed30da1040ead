"""Errors of an estimate, point by point and then averaged over area."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xatmo.metrics.common import Dims, aligned, each_variable, scored, weighted_mean

__all__ = ["bias", "mae", "rmse", "standard_deviation_ratio"]


@each_variable
def rmse(
    estimate: Any, truth: Any, dim: Dims = None, *, weighted: bool = True
) -> xr.DataArray:
    """Root of the mean squared error.

    Parameters
    ----------
    estimate, truth : DataArray or Dataset
        On the same points; the order of latitudes and longitudes, the longitudes'
        convention and the names of both dimensions may differ. A dimension that only
        one of them has (``realization``) is broadcast.
    dim : str or iterable of str, optional
        What to average over; everything if not given.
    weighted : bool
        By the exact area of the band around each latitude, where latitude is
        averaged over.

    Returns
    -------
    DataArray or Dataset
        In the units of the field; lazy if the data are. Points where either has no
        value are left out; NaN where nothing is left. So some of the points are scored
        by ``rmse(estimate, truth.where(gaps))``, here and in all other metrics.

    Raises
    ------
    xatmo.errors.AlignmentError
        If the coordinates of a dimension differ.
    xatmo.errors.FieldNotFoundError
        If there is no latitude to weight by.

    Examples
    --------
    >>> import xarray as xr
    >>> from xatmo.metrics import rmse
    >>> truth = xr.DataArray(
    ...     [[0.0, 0.0], [0.0, 0.0]],
    ...     coords={"lat": [0.0, 60.0], "lon": [0.0, 1.0]},
    ...     dims=("lat", "lon"),
    ...     attrs={"units": "m s-1"},
    ... )
    >>> rmse(truth + 3, truth).item()
    3.0
    >>> rmse(truth + truth.lat / 30, truth, weighted=False).round(4).item()
    1.4142
    """
    estimate, truth = aligned(estimate, truth)
    squares = (estimate.astype(np.float64) - truth) ** 2
    score = weighted_mean(squares, dim, weighted) ** 0.5
    return scored("root mean squared error", score, truth, "{}")


@each_variable
def mae(
    estimate: Any, truth: Any, dim: Dims = None, *, weighted: bool = True
) -> xr.DataArray:
    """Mean absolute error; arguments, result and errors as for :func:`rmse`.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> u = xatmo.open_sample().u
    >>> metrics.mae(u - 2, u).round(3).item()
    2.0
    """
    estimate, truth = aligned(estimate, truth)
    away = abs(estimate.astype(np.float64) - truth)
    score = weighted_mean(away, dim, weighted)
    return scored("mean absolute error", score, truth, "{}")


@each_variable
def bias(
    estimate: Any, truth: Any, dim: Dims = None, *, weighted: bool = True
) -> xr.DataArray:
    """Mean of estimate minus truth; arguments and errors as for :func:`rmse`.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> u = xatmo.open_sample().u
    >>> metrics.bias(u - 2, u).round(3).item()
    -2.0
    """
    estimate, truth = aligned(estimate, truth)
    score = weighted_mean(estimate.astype(np.float64) - truth, dim, weighted)
    return scored("mean error (estimate minus truth)", score, truth, "{}")


@each_variable
def standard_deviation_ratio(
    estimate: Any, truth: Any, dim: Dims = None, *, weighted: bool = True
) -> xr.DataArray:
    """Standard deviation of an estimate over the truth's: below 1 if it is too smooth.

    Parameters and errors as for :func:`rmse`.

    Returns
    -------
    DataArray or Dataset
        Deviations are from the mean over ``dim``, at points where both have values;
        NaN where the truth has no deviation.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> u = xatmo.open_sample().u
    >>> metrics.standard_deviation_ratio(0.8 * u + 3, u).round(3).item()
    0.8
    """
    estimate, truth = aligned(estimate, truth)
    both = estimate.notnull() & truth.notnull()
    variances = []
    for field in (estimate, truth):
        values = field.astype(np.float64).where(both)
        away = (values - weighted_mean(values, dim, weighted)) ** 2
        variances.append(weighted_mean(away, dim, weighted))
    score = (variances[0] / variances[1].where(variances[1] > 0)) ** 0.5
    return scored("standard deviation over the truth's", score, truth, "1")
