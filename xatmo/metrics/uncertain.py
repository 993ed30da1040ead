"""Scores of estimates that say how sure they are: a mean and a spread at each point.

The spread is the standard deviation of the error that is to be expected.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import OptionError
from xatmo.metrics.common import (
    Dims,
    aligned,
    each_variable,
    one_chunk,
    row_areas,
    scored,
    weighted_mean,
)

__all__ = ["crps_normal", "spread_error_curve", "spread_error_slope", "spread_ratio"]

_SAME = 1e-9  # spreads that differ by less than this part of them are one


@each_variable
def crps_normal(
    mean: Any, spread: Any, truth: Any, dim: Dims = None, *, weighted: bool = True
) -> xr.DataArray:
    """Continuous ranked probability score of normal distributions.

    Parameters
    ----------
    mean, spread, truth : DataArray or Dataset
        On the same points, as for :func:`rmse`; in Datasets the spread of a variable
        has the variable's name. The spread is a standard deviation, 0 for certainty.
    dim : str or iterable of str, optional
        What to average over; everything if not given, ``[]`` for a map.
    weighted : bool
        By area where latitude is averaged over.

    Returns
    -------
    DataArray or Dataset
        In the units of the field; 0 is perfect. Points where one of the three has no
        value, or the spread is negative, are left out. With z = (truth - mean) / spread
        it is ``spread (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi))``, which is the
        absolute error where the spread is 0.

    Raises
    ------
    xatmo.errors.AlignmentError
        If the coordinates of a dimension differ.

    References
    ----------
    Gneiting, T. et al. (2005): Calibrated probabilistic forecasting using ensemble
    model output statistics and minimum CRPS estimation. Mon. Wea. Rev. 133, 1098-1118.

    Examples
    --------
    >>> import xarray as xr
    >>> from xatmo.metrics import crps_normal
    >>> truth = xr.DataArray(2.0)
    >>> crps_normal(truth + 1, truth * 0, truth).item()
    1.0
    >>> crps_normal(truth + 1, truth / 2, truth).round(4).item()
    0.6024
    """
    mean, spread, truth = _together(mean, spread, truth)
    score = xr.apply_ufunc(
        _crps_normal,
        truth - mean,
        spread,
        dask="parallelized",
        output_dtypes=[np.float64],
        keep_attrs=False,
    )
    name = "continuous ranked probability score of normal distributions"
    return scored(name, weighted_mean(score, dim, weighted), truth, "{}")


def _crps_normal(away: np.ndarray, spread: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        z = away / spread
        likely = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        score = away * _erf(z / math.sqrt(2)) + spread * (
            2 * likely - 1 / math.sqrt(math.pi)
        )
        score = np.where(spread == 0, np.abs(away), score)
        return np.where(spread >= 0, score, np.nan)


# numpy has none; the standard library's is exact, at some 10 million values a second.
_erf = np.vectorize(math.erf, otypes=[np.float64])


@each_variable
def spread_ratio(
    mean: Any, spread: Any, truth: Any, dim: Dims = None, *, weighted: bool = True
) -> xr.DataArray:
    """Root mean square of the spread over that of the error: 1 if it is honest.

    Parameters and errors as for :func:`crps_normal`. Below 1 the estimate is too sure
    of itself. For ensembles there is :func:`spread_error_ratio`.

    Examples
    --------
    >>> import xarray as xr
    >>> from xatmo.metrics import spread_ratio
    >>> truth = xr.DataArray([0.0, 0.0], dims="time")
    >>> spread_ratio(truth + 2, truth + 1, truth, "time").item()
    0.5
    """
    squares = _squares(*_together(mean, spread, truth))
    said, real = (weighted_mean(x, dim, weighted) for x in squares)
    score = (said / real.where(real > 0)) ** 0.5
    return scored("spread over error", score, truth, "1")


@each_variable
def spread_error_curve(
    mean: Any, spread: Any, truth: Any, bins: int = 10, *, weighted: bool = True
) -> xr.DataArray:
    """Error that was made against the spread that was said, from small to large.

    Points are sorted by their spread into bins that hold equal shares of them.

    Parameters
    ----------
    mean, spread, truth : DataArray or Dataset
        As for :func:`crps_normal`. All points are sorted together: lazy data are
        joined to one chunk.
    bins : int
    weighted : bool
        By area: bins hold equal areas.

    Returns
    -------
    DataArray or Dataset
        ``(of, bin)`` in the units of the field: the root mean square of the
        ``"spread"`` and of the ``"error"`` of the mean in each bin, NaN in one that
        holds no point. Where spreads are honest both are the same.

    Raises
    ------
    xatmo.errors.OptionError
        If there are fewer than two bins.
    xatmo.errors.AlignmentError
        If the coordinates of a dimension differ.

    Examples
    --------
    >>> import xarray as xr
    >>> from xatmo.metrics import spread_error_curve
    >>> spread = xr.DataArray([1.0, 4.0, 1.0, 4.0], dims="time")
    >>> error = xr.DataArray([1.0, -2.0, -1.0, 2.0], dims="time")
    >>> curve = spread_error_curve(error, spread, error * 0, 2, weighted=False)
    >>> curve.sel(of="spread").values.tolist(), curve.sel(of="error").values.tolist()
    ([1.0, 4.0], [1.0, 2.0])
    """
    _check_bins(bins)
    squares = _squares(*_together(mean, spread, truth))
    areas = row_areas(squares[0], None) if weighted else None
    inputs = xr.broadcast(*squares, xr.DataArray(1.0) if areas is None else areas)
    everything = list(inputs[0].dims)
    curve = xr.apply_ufunc(
        _curve,
        *(one_chunk(x, everything) for x in inputs),
        kwargs={"bins": bins},
        input_core_dims=[everything] * 3,
        output_core_dims=[["of", "bin"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"of": 2, "bin": bins}},
        keep_attrs=False,
    )
    curve = curve.assign_coords(of=["spread", "error"])
    return scored("spread and error by spread", curve, truth, "{}")


def _curve(
    variance: np.ndarray, square: np.ndarray, size: np.ndarray, bins: int
) -> np.ndarray:
    """Three arrays of one shape -> (2, bins): roots of mean squares in each bin."""
    valid = np.isfinite(variance)
    variance, square, size = variance[valid], square[valid], size[valid]
    order = np.argsort(variance, kind="stable")
    upto = np.cumsum(size[order])
    middle = (upto - 0.5 * size[order]) / upto[-1:]
    place = np.minimum((bins * middle).astype(int), bins - 1)
    held = np.bincount(place, size[order], bins)
    sums = [
        np.bincount(place, (x * size)[order], minlength=bins)
        for x in (variance, square)
    ]
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.stack(sums) / held)


@each_variable
def spread_error_slope(
    mean: Any, spread: Any, truth: Any, bins: int = 10, *, weighted: bool = True
) -> xr.DataArray:
    """How much the error grows where the spread does: 1 if it is honest.

    Parameters and errors as for :func:`spread_error_curve`.

    Returns
    -------
    DataArray or Dataset
        The slope of the straight line, with an intercept, that fits the errors of
        :func:`spread_error_curve` best in the least squares over the spreads of its
        bins. Below 1 points are told apart more than they should be; 0 if the spread
        does not know where errors are large, whatever its size, which
        :func:`spread_ratio` judges. NaN if the spread is the same everywhere.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from xatmo.metrics import spread_error_slope
    >>> rng = np.random.default_rng(0)
    >>> spread = xr.DataArray(rng.uniform(1, 3, 100_000), dims="time")
    >>> error = 0.5 * spread * rng.normal(size=spread.size)
    >>> slope = spread_error_slope(error, spread, error * 0, weighted=False)
    >>> slope.round(1).item()
    0.5
    """
    curve = spread_error_curve(mean, spread, truth, bins, weighted=weighted)
    said, real = (curve.sel(of=of, drop=True) for of in ("spread", "error"))
    away = said - said.mean("bin")
    tells = (away**2).mean("bin") > (_SAME * said.mean("bin")) ** 2
    slope = (away * real).sum("bin") / (away**2).sum("bin").where(tells)
    return scored("slope of the error over the spread", slope, truth, "1")


def _together(*arrays: Any) -> list[Any]:
    """Mean, spread and truth on the truth's points, in double precision."""
    *others, truth = arrays
    placed = [aligned(x, truth)[0] for x in others]
    return [x.astype(np.float64) for x in (*placed, truth)]


def _squares(
    mean: xr.DataArray, spread: xr.DataArray, truth: xr.DataArray
) -> tuple[xr.DataArray, xr.DataArray]:
    """Squares of spread and error where both are known."""
    error = (mean - truth) ** 2
    variance = (spread**2).where((spread >= 0) & error.notnull())
    return variance, error.where(variance.notnull())


def _check_bins(bins: int) -> None:
    if bins >= 2:
        return
    msg = "A line through the bins needs two of them at least."
    raise OptionError(
        msg,
        found=f"bins={bins!r}",
        needed="a whole number from 2 on",
        hint="bins=10; xatmo.metrics.spread_ratio(mean, spread, truth) needs none",
    )
