"""Whether values are distributed as they should be, wherever they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import OptionError
from xatmo.metrics.common import (
    Dims,
    aligned,
    each_variable,
    in_names_of,
    one_chunk,
    reduced_dims,
    row_areas,
    scored,
)

__all__ = ["percentiles", "wasserstein"]

_AT_ONCE = 2**21  # values that are sorted at a time: 100 MB


@each_variable
def percentiles(
    field: Any,
    q: float | Sequence[float] = (1, 5, 25, 50, 75, 95, 99),
    dim: Dims = None,
    *,
    weighted: bool = True,
) -> xr.DataArray:
    """Percentiles, weighted by area.

    Parameters
    ----------
    field : DataArray or Dataset
    q : float or sequence of float
        Percent, 0 to 100.
    dim : str or iterable of str, optional
        What the values are collected over; everything if not given. Lazy data are
        joined to one chunk along these dimensions when they are computed.
    weighted : bool
        By the area of the band around each latitude, where latitude is collected over.

    Returns
    -------
    DataArray or Dataset
        ``(percentile, ...)``, without NaN; NaN where there are no values.

    Raises
    ------
    xatmo.errors.OptionError
        If a percentage is outside 0 to 100.

    Notes
    -----
    Values are interpolated between the middles of neighbouring weights, so that equal
    weights give ``numpy.quantile``.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> u = xatmo.open_sample().u
    >>> metrics.percentiles(u, [1, 50, 99]).round(1).values.tolist()
    [-12.8, -1.0, 17.0]
    """
    shares = np.atleast_1d(np.asarray(q, dtype=np.float64)) / 100
    if not ((shares >= 0) & (shares <= 1)).all():
        msg = "A percentile lies outside 0 to 100."
        raise OptionError(
            msg,
            found=f"q={q}",
            needed="percent, 0 to 100",
            hint="percentiles(da, [1, 50, 99])",
        )
    dims = reduced_dims(field, dim)
    field = one_chunk(field, dims)
    weights = _sample_weights(field, dims, dim, weighted)
    result = xr.apply_ufunc(
        _percentiles,
        field,
        weights,
        kwargs={"shares": shares, "ndim": len(dims)},
        input_core_dims=[dims, list(weights.dims)],
        output_core_dims=[["percentile"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"percentile": shares.size}},
        keep_attrs=False,
    )
    result = result.assign_coords(
        percentile=("percentile", shares * 100, {"units": "%"})
    )
    result = result.transpose("percentile", ...)
    return scored("percentile", result, field, "{}")


def _sample_weights(
    field: xr.DataArray, dims: list[Any], dim: Dims, weighted: bool
) -> xr.DataArray:
    """The weight of each sample along dimensions, in their order; in memory."""
    areas = row_areas(field, dims if dim is not None else None) if weighted else None
    shape = [field.sizes[d] for d in dims]
    ones = xr.DataArray(np.ones(shape), dims=dims)
    if areas is None:
        return ones
    return (ones * areas.drop_vars(list(areas.coords))).transpose(*dims)


def _percentiles(
    x: np.ndarray, weights: np.ndarray, shares: np.ndarray, ndim: int
) -> np.ndarray:
    """(..., *collected) -> (..., percentile)."""
    batch = x.shape[: x.ndim - ndim]
    rows = x.reshape(-1, weights.size)
    out = [_weighted_quantiles(row, weights.ravel(), shares) for row in rows]
    return np.reshape(out, (*batch, shares.size))


def _weighted_quantiles(
    x: np.ndarray, weights: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    there = np.isfinite(x)
    x, weights = x[there].astype(np.float64), weights[there]
    if not x.size:
        return np.full(shares.size, np.nan)
    order = np.argsort(x, kind="stable")
    x, weights = x[order], weights[order]
    place = np.cumsum(weights) - 0.5 * weights
    place -= place[0]
    return np.interp(shares * place[-1], place, x)


@each_variable
def wasserstein(
    estimate: Any, truth: Any, dim: Dims = "time", *, weighted: bool = True
) -> xr.DataArray:
    """Wasserstein-1 distance of two distributions: the area between their CDFs.

    Parameters
    ----------
    estimate, truth : DataArray or Dataset
        They may have different numbers of values along ``dim``, and ``dim`` may hold
        dimensions that only one of them has (``realization``).
    dim : str or iterable of str, optional
        Along which the values are collected, ``"time"`` for one distance per point;
        None for all dimensions. Lazy data are joined to one chunk along these.
    weighted : bool
        By area where latitude is collected over; all values count alike otherwise.

    Returns
    -------
    DataArray or Dataset
        In the units of the field. NaN are left out; NaN where nothing is left.

    Raises
    ------
    xatmo.errors.AlignmentError
        If other coordinates differ.
    xatmo.errors.OptionError
        If neither has a dimension in ``dim``.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> u = xatmo.open_sample().u
    >>> metrics.wasserstein(u + 1.5, u, dim=None).round(3).item()
    1.5
    """
    estimate = in_names_of(estimate, truth)
    collected = _collected(estimate, truth, dim)
    estimate, truth = aligned(estimate, truth, free=collected)
    inputs, cores = [], []
    for da in (estimate, truth):
        dims = [d for d in collected if d in da.dims]
        inputs += [one_chunk(da, dims), _sample_weights(da, dims, dim, weighted)]
        cores += [dims, dims]
    # Of different lengths: renamed, since names are all that apply_ufunc compares.
    inputs, cores = _with_own_names(inputs, cores)
    score = xr.apply_ufunc(
        _wasserstein,
        *inputs,
        kwargs={"ndims": (len(cores[0]), len(cores[2]))},
        input_core_dims=cores,
        dask="parallelized",
        output_dtypes=[np.float64],
        keep_attrs=False,
    )
    return scored("Wasserstein-1 distance", score, truth, "{}")


def _collected(estimate: xr.DataArray, truth: xr.DataArray, dim: Dims) -> list[Any]:
    every = list(dict.fromkeys([*truth.dims, *estimate.dims]))
    if dim is None:
        return every
    dims = [dim] if isinstance(dim, str) else list(dim)
    lacking = [d for d in dims if d not in every]
    if lacking:
        reduced_dims(truth, lacking)  # says which there are
    return dims


def _with_own_names(
    inputs: list[xr.DataArray], cores: list[list[Any]]
) -> tuple[list[xr.DataArray], list[list[Any]]]:
    arrays, names = [], []
    for i, (da, dims) in enumerate(zip(inputs, cores, strict=True)):
        own = {d: f"__{d}_{i // 2}__" for d in dims}
        along = [n for n, c in da.coords.items() if set(dims) & set(c.dims)]
        arrays.append(da.drop_vars(along).rename(own))
        names.append(list(own.values()))
    return arrays, names


def _wasserstein(
    x: np.ndarray,
    x_weights: np.ndarray,
    y: np.ndarray,
    y_weights: np.ndarray,
    ndims: tuple[int, int],
) -> np.ndarray:
    """(..., *collected) twice -> (...)."""
    x = x.reshape(*x.shape[: x.ndim - ndims[0]], -1)
    y = y.reshape(*y.shape[: y.ndim - ndims[1]], -1)
    batch = np.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    rows = np.broadcast_to(x, (*batch, x.shape[-1])).reshape(-1, x.shape[-1])
    others = np.broadcast_to(y, (*batch, y.shape[-1])).reshape(-1, y.shape[-1])
    weights = x_weights.ravel(), y_weights.ravel()
    size = max(1, _AT_ONCE // (x.shape[-1] + y.shape[-1]))
    parts = [
        _area_between(rows[i : i + size], others[i : i + size], *weights)
        for i in range(0, len(rows), size)
    ]
    return np.concatenate([*parts, np.empty(0)]).reshape(batch)


def _area_between(
    x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """Areas between weighted distribution functions: (N, n), (N, m), weights -> (N,).

    What is missing gets no weight, and a value at which nothing changes.
    """
    values = np.concatenate([x, y], axis=-1, dtype=np.float64)
    there = np.isfinite(values)
    highest = values.max(-1, keepdims=True, where=there, initial=-np.inf)
    values = np.where(there, values, highest)
    one, two = np.split(np.where(there, np.concatenate([a, b]), 0.0), [a.size], axis=-1)
    with np.errstate(invalid="ignore"):  # NaN where nothing is there
        shares = [w / w.sum(-1, keepdims=True) for w in (one, two)]
        steps = np.concatenate([shares[0], -shares[1]], axis=-1)
        order = np.argsort(values, axis=-1, kind="stable")
        values, steps = (np.take_along_axis(v, order, -1) for v in (values, steps))
        gaps = np.abs(np.cumsum(steps, axis=-1)[:, :-1]) * np.diff(values)
    return np.asarray(gaps.sum(-1))
