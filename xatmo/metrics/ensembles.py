"""Scores of ensembles: how far from the truth, and whether their spread is honest."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import FieldNotFoundError, OptionError
from xatmo.metrics.common import (
    Dims,
    aligned,
    each_variable,
    one_chunk,
    scored,
    weighted_mean,
)

__all__ = ["crps", "flatness", "rank_histogram", "spread", "spread_error_ratio"]

_MEMBER_NAMES = ("realization", "member", "number", "ensemble", "sample")


@each_variable
def crps(
    ensemble: Any,
    truth: Any,
    member_dim: str = "realization",
    dim: Dims = None,
    *,
    fair: bool = True,
    weighted: bool = True,
) -> xr.DataArray:
    """Continuous ranked probability score of an ensemble.

    Parameters
    ----------
    ensemble, truth : DataArray or Dataset
        On the same points, as for :func:`rmse`.
    member_dim : str
        The dimension of members. Lazy data are joined to one chunk along it.
    dim : str or iterable of str, optional
        What to average over besides; everything if not given, ``[]`` for a map.
    fair : bool
        Estimate the score that infinitely many members would have, which makes
        ensembles of different sizes comparable. Otherwise that of the given members
        as the whole distribution.
    weighted : bool
        By area where latitude is averaged over.

    Returns
    -------
    DataArray or Dataset
        In the units of the field; 0 is perfect. Members without a value are left out,
        and points where the truth has none or too few members remain.

    Raises
    ------
    xatmo.errors.FieldNotFoundError
        If there is no such dimension of members.
    xatmo.errors.OptionError
        If a fair score is asked for of a single member.
    xatmo.errors.AlignmentError
        If the coordinates of a dimension differ.

    References
    ----------
    Ferro, C. A. T. (2014): Fair scores for ensemble forecasts. Q. J. R. Meteorol. Soc.
    140, 1917-1923.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from xatmo.metrics import crps
    >>> members = xr.DataArray(np.array([1.0, 3.0]), dims="realization")
    >>> truth = xr.DataArray(2.0)
    >>> crps(members, truth, fair=False).item(), crps(members, truth).item()
    (0.5, 0.0)
    """
    _check_members(ensemble, member_dim)
    if fair and ensemble.sizes[member_dim] < 2:
        raise _one_member(ensemble, member_dim)
    ensemble, truth = aligned(ensemble, truth)
    score = xr.apply_ufunc(
        _crps,
        one_chunk(ensemble, [member_dim]),
        truth,
        kwargs={"fair": fair},
        input_core_dims=[[member_dim], []],
        dask="parallelized",
        output_dtypes=[np.float64],
        keep_attrs=False,
    )
    name = "fair continuous ranked probability score"
    score = weighted_mean(score, dim, weighted)
    return scored(name if fair else name.removeprefix("fair "), score, truth, "{}")


def _crps(x: np.ndarray, y: np.ndarray, fair: bool) -> np.ndarray:
    """(..., member), (...) -> (...): mean distance to the truth minus half the spread.

    Sorted members give all their distances at once: the k-th of n is larger than
    k - 1 of them and smaller than n - k.
    """
    x = np.sort(x.astype(np.float64), axis=-1)  # NaN stand at the end
    n = np.isfinite(x).sum(-1, keepdims=True)
    place = 2.0 * np.arange(1, x.shape[-1] + 1) - n - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        away = np.nansum(np.abs(x - y[..., None]), axis=-1) / n[..., 0]
        among = np.nansum(place * x, axis=-1) / (n * (n - 1 if fair else n))[..., 0]
        return np.where(np.isfinite(y), away - among, np.nan)


@each_variable
def rank_histogram(
    ensemble: Any,
    truth: Any,
    member_dim: str = "realization",
    dim: Dims = None,
    *,
    weighted: bool = True,
) -> xr.DataArray:
    """How often the truth has each rank among the members.

    Flat if truth and members come from one distribution; a U shape says that the
    spread is too small, a slope that there is a bias.

    Parameters
    ----------
    ensemble, truth : DataArray or Dataset
        On the same points, as for :func:`rmse`.
    member_dim : str
        The dimension of members.
    dim : str or iterable of str, optional
        What to collect over; everything if not given.
    weighted : bool
        By area where latitude is collected over.

    Returns
    -------
    DataArray or Dataset
        ``(rank, ...)``: shares that sum to 1, for ranks 0 (below all members) to n.
        Points where the truth or a member has no value are left out. Where the truth
        equals k members it counts 1/(k + 1) in each of the ranks it could have: what
        breaking ties at random gives on average, without the dice.

    Raises
    ------
    xatmo.errors.FieldNotFoundError
        If there is no such dimension of members.
    xatmo.errors.AlignmentError
        If the coordinates of a dimension differ.

    References
    ----------
    Hamill, T. M. (2001): Interpretation of rank histograms for verifying ensemble
    forecasts. Mon. Wea. Rev. 129, 550-560.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from xatmo.metrics import flatness, rank_histogram
    >>> members = xr.DataArray([[1.0, 3.0], [1.0, 2.0]], dims=("time", "realization"))
    >>> truth = xr.DataArray([2.0, 2.0], dims="time")
    >>> histogram = rank_histogram(members, truth, dim="time")
    >>> histogram.values.tolist(), round(flatness(histogram).item(), 3)
    ([0.0, 0.75, 0.25], 0.333)
    """
    _check_members(ensemble, member_dim)
    ensemble, truth = aligned(ensemble, truth)
    valid = ensemble.notnull().all(member_dim) & truth.notnull()
    lowest = (ensemble < truth).sum(member_dim)
    ties = (ensemble == truth).sum(member_dim)
    share = (1.0 / (ties + 1)).where(valid)
    ranks = np.arange(ensemble.sizes[member_dim] + 1)
    parts = []
    for rank in ranks:
        could = (lowest <= rank) & (rank <= lowest + ties)
        parts.append(weighted_mean(share.where(could | ~valid, 0.0), dim, weighted))
    histogram = xr.concat(parts, dim="rank", coords="minimal", compat="override")
    histogram = histogram.assign_coords(rank=ranks)
    return scored("share of the truth at each rank", histogram, truth, "1")


@each_variable
def flatness(histogram: Any) -> xr.DataArray:
    """How far a rank histogram is from flat: 0 if it is, near 1 if one end has all.

    Parameters
    ----------
    histogram : DataArray or Dataset
        As :func:`rank_histogram` gives.

    Returns
    -------
    DataArray or Dataset
        The Kolmogorov-Smirnov distance: the largest difference of the cumulated shares
        from those of equal ones. Sampling alone gives about 0.87 / sqrt(number of
        independent points).

    Examples
    --------
    >>> import xarray as xr
    >>> from xatmo.metrics import flatness
    >>> flatness(xr.DataArray([0.5, 0.0, 0.0, 0.5], dims="rank")).item()
    0.25
    """
    n = histogram.sizes["rank"]
    flat = xr.DataArray(np.arange(1, n + 1) / n, dims="rank")
    away = abs(histogram.cumsum("rank") - flat).max("rank", skipna=False)
    return scored("distance of the rank histogram from flat", away, histogram, "1")


@each_variable
def spread(
    ensemble: Any,
    member_dim: str = "realization",
    dim: Dims = None,
    *,
    weighted: bool = True,
) -> xr.DataArray:
    """Root of the mean variance of the members (n - 1 in the denominator).

    Parameters
    ----------
    ensemble : DataArray or Dataset
    member_dim : str
        The dimension of members.
    dim : str or iterable of str, optional
        What to average over besides; everything if not given, ``[]`` for a map.
    weighted : bool
        By area where latitude is averaged over.

    Returns
    -------
    DataArray or Dataset
        In the units of the field.

    Raises
    ------
    xatmo.errors.FieldNotFoundError
        If there is no such dimension of members.

    Examples
    --------
    >>> import xarray as xr
    >>> from xatmo.metrics import spread
    >>> spread(xr.DataArray([1.0, 3.0], dims="realization")).round(4).item()
    1.4142
    """
    _check_members(ensemble, member_dim)
    variance = ensemble.astype(np.float64).var(member_dim, ddof=1)
    score = weighted_mean(variance, dim, weighted) ** 0.5
    return scored("spread of the ensemble", score, ensemble, "{}")


@each_variable
def spread_error_ratio(
    ensemble: Any,
    truth: Any,
    member_dim: str = "realization",
    dim: Dims = None,
    *,
    weighted: bool = True,
) -> xr.DataArray:
    """Spread of the members over the error of their mean: 1 if the spread is honest.

    Parameters and errors as for :func:`crps`.

    Returns
    -------
    DataArray or Dataset
        With the factor ``sqrt((n + 1) / n)`` that a finite number n of members needs;
        below 1 the ensemble is too sure of itself.

    References
    ----------
    Fortin, V. et al. (2014): Why should ensemble spread match the RMSE of the ensemble
    mean? J. Hydrometeor. 15, 1708-1713.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from xatmo.metrics import spread_error_ratio
    >>> rng = np.random.default_rng(0)
    >>> members = xr.DataArray(rng.normal(size=(9999, 4)), dims=["time", "realization"])
    >>> truth = xr.DataArray(rng.normal(size=9999), dims="time")
    >>> abs(spread_error_ratio(members, truth, dim="time").item() - 1) < 0.02
    True
    """
    _check_members(ensemble, member_dim)
    n = ensemble.sizes[member_dim]
    ensemble, truth = aligned(ensemble, truth)
    ensemble = ensemble.astype(np.float64)
    away = (ensemble.mean(member_dim, skipna=False) - truth) ** 2
    variance = ensemble.var(member_dim, ddof=1, skipna=False).where(away.notnull())
    factor = (n + 1) / n
    means = [weighted_mean(x, dim, weighted) for x in (variance, away)]
    score = (factor * means[0] / means[1]) ** 0.5
    return scored("spread over error of the mean", score, truth, "1")


def _check_members(ensemble: xr.DataArray, member_dim: str) -> None:
    if member_dim in ensemble.dims:
        return
    msg = f"The ensemble has no dimension {member_dim!r}."
    likely = [d for d in ensemble.dims if str(d).lower() in _MEMBER_NAMES]
    guess = likely[0] if likely else next(iter(ensemble.dims), "number")
    raise FieldNotFoundError(
        msg,
        found=f"dimensions {', '.join(map(str, ensemble.dims)) or '(none)'}",
        needed="a dimension of members",
        hint=f"member_dim={str(guess)!r}; for a single estimate xatmo.metrics.mae",
    )


def _one_member(ensemble: xr.DataArray, member_dim: str) -> OptionError:
    msg = "A fair score needs at least two members."
    return OptionError(
        msg,
        found=f"{member_dim} ({ensemble.sizes[member_dim]})",
        needed="two members, whose distance says how wide the distribution is",
        hint=f"xatmo.metrics.mae(ensemble.isel({member_dim}=0), truth), or fair=False",
    )
