"""How alike two fields vary about a climatology."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xatmo.metrics.common import Dims, aligned, each_variable, scored, weighted_mean

__all__ = ["anomaly_correlation"]


@each_variable
def anomaly_correlation(
    estimate: Any,
    truth: Any,
    climatology: Any,
    dim: Dims = None,
    *,
    weighted: bool = True,
) -> xr.DataArray:
    """Anomaly correlation coefficient (ACC), as forecasts are verified by.

    Parameters
    ----------
    estimate, truth : DataArray or Dataset
        On the same points, as for :func:`xatmo.metrics.rmse`.
    climatology : DataArray or Dataset
        What is usual at each point; anomalies are departures from it. On the points of
        the truth; without a dimension that it lacks, such as time, it is the same for
        all of it.
    dim : str or iterable of str, optional
        What to correlate over; everything if not given.
    weighted : bool
        By the exact area of the band around each latitude.

    Returns
    -------
    DataArray or Dataset
        From -1 to 1, without units; NaN where one of the two has no anomalies.

    Raises
    ------
    xatmo.errors.AlignmentError
        If the coordinates of a dimension differ.

    Notes
    -----
    The mean anomaly is not taken off ("uncentred"), as in WeatherBench 2 (Rasp et al.
    2024, https://doi.org/10.1029/2023MS004019).

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> u = xatmo.open_sample().u
    >>> later, earlier = u.isel(time=slice(1, None)), u.isel(time=slice(None, -1))
    >>> earlier = earlier.assign_coords(time=later.time)  # persistence
    >>> metrics.anomaly_correlation(earlier, later, u.mean("time")).round(2).item()
    0.88
    """
    estimate, truth = aligned(estimate, truth)
    climatology, _ = aligned(climatology, truth)
    usual = climatology.astype(np.float64)
    ours, theirs = estimate - usual, truth - usual
    # Points where one of them is missing count in neither variance.
    both = ours.notnull() & theirs.notnull()
    ours, theirs = ours.where(both), theirs.where(both)
    shared = weighted_mean(ours * theirs, dim, weighted)
    sizes = [weighted_mean(x**2, dim, weighted) for x in (ours, theirs)]
    score = shared / (sizes[0] * sizes[1]) ** 0.5
    return scored("anomaly correlation coefficient", score, truth, "1")
