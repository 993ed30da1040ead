"""How much variance fields have at each scale, along rows and in a region."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import OptionError
from xatmo.fields import Grid
from xatmo.metrics.common import (
    KM_PER_DEGREE,
    Dims,
    aligned,
    canonical,
    each_variable,
    one_chunk,
    reduced_dims,
    refuse_global,
    scored,
    weighted_mean,
)

__all__ = ["gap_spectrum_ratio", "patch_spectrum", "power_ratio", "zonal_spectrum"]

_SPACE = ["latitude", "longitude"]


@each_variable
def zonal_spectrum(
    field: Any, dim: Dims = "latitude", *, weighted: bool = True
) -> xr.DataArray:
    """Variance per zonal wavenumber.

    Parameters
    ----------
    field : DataArray or Dataset
        Around the globe the row is a period. In a region its linear trend is taken off
        and it is tapered by a Hann window, which smears power over neighbouring
        wavenumbers but not over all.
    dim : str or iterable of str, optional
        What to average over: the rows by default, ``[]`` for each row's own spectrum,
        None for everything.
    weighted : bool
        By area where latitude is averaged over.

    Returns
    -------
    DataArray or Dataset
        ``(..., wavenumber)`` in the field's units squared: wavenumbers (cycles per
        degree of longitude) from one per row on, with the coordinate ``wavelength``
        (degrees). The sum is the variance along the row, in a region that of the
        tapered row over the mean square of the window. Rows with gaps are left out.

    Raises
    ------
    xatmo.errors.GridError
        If the longitudes are not equally spaced.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> u = xatmo.open_sample().u.isel(time=0)
    >>> power = metrics.zonal_spectrum(u)
    >>> power.dims, power.wavelength.values[:3].round(1).tolist()
    (('wavenumber',), [360.0, 180.0, 120.0])
    """
    power, grid = _row_spectra(field)
    power = _average(power, grid, dim, weighted)
    return scored("variance per zonal wavenumber", power, field, "({})2")


def _row_spectra(field: xr.DataArray) -> tuple[xr.DataArray, Grid]:
    """Spectra (..., latitude, wavenumber) in canonical names, and the field's grid."""
    rows, grid = canonical(field)
    n = grid.longitude.size
    power = xr.apply_ufunc(
        _row_power,
        one_chunk(rows, ["longitude"]),
        kwargs={"periodic": grid.is_global},
        input_core_dims=[["longitude"]],
        output_core_dims=[["wavenumber"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"wavenumber": n // 2}},
        keep_attrs=False,
    )
    k = np.arange(1, n // 2 + 1) / (n * grid.spacing[1])
    power = power.assign_coords(
        wavenumber=("wavenumber", k, {"units": "degree-1"}),
        wavelength=("wavenumber", 1 / k, {"units": "degree"}),
    )
    return power, grid


def _average(power: xr.DataArray, grid: Grid, dim: Dims, weighted: bool) -> Any:
    """Average over dimensions that the user names; give those left his names."""
    names = dict(zip(grid.names, _SPACE, strict=True))
    if dim is None:
        dims: list[Any] = [d for d in power.dims if d != "wavenumber"]
    else:
        dims = [names.get(str(d), d) for d in ([dim] if isinstance(dim, str) else dim)]
        dims = [d for d in dims if d != "longitude"]  # there are wavenumbers instead
    power = weighted_mean(power, dims, weighted)
    latitude = grid.names[0]
    if "latitude" in power.dims and latitude != "latitude":
        power = power.rename(latitude=latitude)
    return power


def _row_power(x: np.ndarray, periodic: bool) -> np.ndarray:
    """(..., n) -> (..., n // 2): variance of each wave along the last axis."""
    x = x.astype(np.float64)
    n = x.shape[-1]
    scale: Any = 1.0
    if not periodic:
        window = np.hanning(n + 2)[1:-1]
        x = _detrended(x) * window
        scale = np.mean(window**2)
    power = 2 * np.abs(np.fft.rfft(x, axis=-1, norm="forward")[..., 1:]) ** 2 / scale
    if n % 2 == 0:
        power[..., -1] /= 2  # the shortest wave has no counterpart
    return power


def _detrended(x: np.ndarray, ndim: int = 1) -> np.ndarray:
    """Take off the least-squares line, or plane, along the last axes."""
    axes = tuple(range(-ndim, 0))
    x = x - x.mean(axes, keepdims=True)
    for axis in axes:
        n = x.shape[axis]
        place = (np.arange(n) - 0.5 * (n - 1)).reshape((-1,) + (1,) * (-1 - axis))
        # Both directions are orthogonal on a grid: one after the other.
        x = x - (x * place).mean(axes, keepdims=True) / np.mean(place**2) * place
    return x


@each_variable
def power_ratio(
    estimate: Any,
    truth: Any,
    *,
    factor: int = 4,
    band: tuple[float, float] = (1.0, np.inf),
    dim: Dims = None,
    weighted: bool = True,
) -> xr.DataArray:
    """Power of an estimate at scales that a coarser grid cannot hold, over the truth's.

    Parameters
    ----------
    estimate, truth : DataArray or Dataset
        On the same points, as for :func:`rmse`. Rows with a gap in either are left out.
    factor : int
        How many fine grid points a coarse one has along a row.
    band : tuple of float
        Wavenumbers above the first and up to the second, in multiples of the coarse
        grid's Nyquist wavenumber, which is ``1 / (2 factor spacing)``: all that are
        finer by default, ``(0.5, 1)`` for the finest that the coarse grid holds.
    dim : str or iterable of str, optional
        What to average over before dividing; everything if not given.
    weighted : bool
        By area where latitude is averaged over.

    Returns
    -------
    DataArray or Dataset
        1 where the estimate has as much power as the truth; from zonal spectra as
        :func:`zonal_spectrum` has them.

    Raises
    ------
    xatmo.errors.OptionError
        If no wavenumber lies in the band.
    xatmo.errors.AlignmentError
        If estimate and truth lie on different points.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> u = xatmo.open_sample().u.isel(time=0)
    >>> smooth = u.rolling(lon=5, center=True, min_periods=1).mean()
    >>> bool(metrics.power_ratio(smooth, u, factor=2) < 0.3)
    True
    """
    estimate, truth = aligned(estimate, truth)
    one, _ = _in_band(estimate, factor, band)
    two, grid = _in_band(truth, factor, band)
    # A row with a gap in one of them must not count in the other either.
    pair = one.where(two.notnull()), two.where(one.notnull())
    means = [_average(power, grid, dim, weighted) for power in pair]
    return scored("power over the truth's", means[0] / means[1], truth, "1")


def _in_band(
    da: xr.DataArray, factor: int, band: tuple[float, float]
) -> tuple[xr.DataArray, Grid]:
    """Power in a band, row by row."""
    power, grid = _row_spectra(da)
    inside = _within(power.wavenumber.values, grid, factor, band)
    return power.isel(wavenumber=inside).sum("wavenumber", skipna=False), grid


def _within(
    k: np.ndarray, grid: Grid, factor: int, band: tuple[float, float]
) -> np.ndarray:
    """Positions of the wavenumbers in a band of multiples of the coarse Nyquist."""
    nyquist = 1 / (2 * factor * grid.spacing[1])
    low, high = (nyquist * share * (1 + 1e-6) for share in band)
    inside = np.flatnonzero((k > low) & (k <= high))
    if inside.size:
        return inside
    msg = "No zonal wavenumber lies in the band."
    raise OptionError(
        msg,
        found=f"factor={factor}, band={band}: {low:.3g} to {high:.3g} cycles per "
        f"degree, while the rows hold {k[0]:.3g} to {k[-1]:.3g}",
        needed="a band with at least one wave",
        hint="band=(1.0, np.inf) with factor=4, or longer rows",
    )


@each_variable
def patch_spectrum(field: Any, dim: Dims = ()) -> xr.DataArray:
    """Variance per wavenumber in any direction, for a region.

    The region is taken as a plane with the distances of its middle latitude, which is
    within 10 % for those that span less than 30 degrees outside the polar regions. A
    linear trend is taken off and it is tapered by Hann windows.

    Parameters
    ----------
    field : DataArray or Dataset
        Without gaps: NaN for a state with one.
    dim : str or iterable of str, optional
        What to average over, ``"time"`` for instance.

    Returns
    -------
    DataArray or Dataset
        ``(..., wavenumber)`` in the field's units squared: the variance in rings of
        equal width (cycles per km), with the coordinate ``wavelength`` (km). Up to the
        shortest wave that both directions hold.

    Raises
    ------
    xatmo.errors.GridError
        If the grid is global.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> u = xatmo.open_sample().u.sel(lat=slice(20, 60), lon=slice(10, 60))
    >>> power = metrics.patch_spectrum(u, "time")
    >>> power.dims, power.wavelength.values[:3].round().tolist()
    (('wavenumber',), [4306.0, 2153.0, 1435.0])
    """
    plane, grid = canonical(field)
    refuse_global(grid, "A patch spectrum")
    middle = np.cos(np.deg2rad(0.5 * (grid.latitude[0] + grid.latitude[-1])))
    steps = (KM_PER_DEGREE * grid.spacing[0], KM_PER_DEGREE * grid.spacing[1] * middle)
    ring, k = _rings(plane.sizes["latitude"], plane.sizes["longitude"], steps)
    power = xr.apply_ufunc(
        _patch_power,
        one_chunk(plane, _SPACE),
        kwargs={"ring": ring, "count": k.size},
        input_core_dims=[_SPACE],
        output_core_dims=[["wavenumber"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"wavenumber": k.size}},
        keep_attrs=False,
    )
    power = power.assign_coords(
        wavenumber=("wavenumber", k, {"units": "km-1"}),
        wavelength=("wavenumber", 1 / k, {"units": "km"}),
    )
    power = weighted_mean(power, dim if dim is not None else power.dims[:-1], False)
    return scored("variance per wavenumber", power, field, "({})2")


def _rings(
    rows: int, columns: int, steps: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The ring of each wave of a 2-D transform, from 0, and the rings' wavenumbers."""
    ky = np.fft.fftfreq(rows, steps[0])[:, None]
    kx = np.fft.rfftfreq(columns, steps[1])[None, :]
    width = 1 / min(rows * steps[0], columns * steps[1])
    most = min(0.5 / steps[0], 0.5 / steps[1])
    ring = np.rint(np.hypot(ky, kx) / width).astype(int) - 1
    k = np.arange(1, int(most / width + 1e-9) + 1) * width
    return np.where(ring < k.size, ring, -1), k


def _patch_power(x: np.ndarray, ring: np.ndarray, count: int) -> np.ndarray:
    """(..., row, column) -> (..., ring)."""
    rows, columns = x.shape[-2:]
    windows = np.hanning(rows + 2)[1:-1, None] * np.hanning(columns + 2)[1:-1]
    x = _detrended(x.astype(np.float64), 2)
    power = np.abs(np.fft.rfft2(x * windows, norm="forward")) ** 2
    # Waves that run westward are not listed: each stands for two, but the ends.
    twice = np.full(power.shape[-1], 2.0)
    twice[0] = 1.0
    if columns % 2 == 0:
        twice[-1] = 1.0
    power *= twice / np.mean(windows**2)
    inside = ring >= 0
    out = [np.bincount(ring[inside], p[inside], count) for p in _flat(power)]
    return np.reshape(out, (*x.shape[:-2], count))


def _flat(power: np.ndarray) -> np.ndarray:
    return power.reshape(-1, *power.shape[-2:])


@each_variable
def gap_spectrum_ratio(
    estimate: Any, truth: Any, gaps: Any, dim: Dims = None
) -> xr.DataArray:
    """Power of what fills gaps of any shape, over the truth's there.

    Parameters
    ----------
    estimate, truth : DataArray or Dataset
        On the same points, as for :func:`rmse`.
    gaps : DataArray or Dataset of bool
        True inside; cells outside count nowhere. Nor do those where either has no
        value.
    dim : str or iterable of str, optional
        What to add up over before dividing, besides latitude and longitude; everything
        if not given.

    Returns
    -------
    DataArray or Dataset
        ``(..., band)``, 1 for the truth itself, 0 for a constant, NaN where the truth
        has no power:

        ``"small"``
            Waves shorter than four points: the upper half of the wavenumbers k (cycles
            per point), along rows and along columns. From the periodograms of second
            differences ``f[i - 1] - 2 f[i] + f[i + 1]``, set to 0 unless all three
            cells lie inside, over ``(2 sin(pi k))**4``, which is what differences make
            of a wave's power.
        ``"total"``
            All waves: the sum of squares about the mean inside the gaps of each field.

    Notes
    -----
    The field itself, cut out along the gap, has a step at every edge, whose power
    leaks from the large scales to the small ones: a smooth filling would seem to have
    99 % of the power of winds with a spectrum of k**-3. Differences taken before
    cutting have next to no power left at large scales that could leak.

    Raises
    ------
    xatmo.errors.AlignmentError
        If the three lie on different points.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> from xatmo.testing.gaps import with_gaps
    >>> u = xatmo.open_sample().u
    >>> gaps = with_gaps(u, "clouds").isnull()
    >>> smooth = u.rolling(lon=3, lat=3, center=True, min_periods=1).mean()
    >>> ratio = metrics.gap_spectrum_ratio(smooth, u, gaps)
    >>> ratio.round(2).values.tolist(), ratio.band.values.tolist()
    ([0.07, 0.87], ['small', 'total'])
    """
    estimate, truth = aligned(estimate, truth)
    gaps = aligned(gaps, truth)[0]
    inside = (gaps > 0) & estimate.notnull() & truth.notnull()
    inside, grid = canonical(inside)
    powers = []
    for field in (estimate, truth):
        power = xr.apply_ufunc(
            _gap_power,
            one_chunk(canonical(field)[0], _SPACE),
            one_chunk(inside, _SPACE),
            kwargs={"periodic": grid.is_global},
            input_core_dims=[_SPACE, _SPACE],
            output_core_dims=[["band"]],
            dask="parallelized",
            output_dtypes=[np.float64],
            dask_gufunc_kwargs={"output_sizes": {"band": 2}},
            keep_attrs=False,
        )
        power = power.assign_coords(band=["small", "total"])
        powers.append(_summed(power, truth, dim))
    score = powers[0] / powers[1].where(powers[1] > 0)
    return scored("power inside gaps over the truth's", score, truth, "1")


def _gap_power(x: np.ndarray, inside: np.ndarray, periodic: bool) -> np.ndarray:
    """(..., row, column), twice -> (..., 2): power of short waves, and of all."""
    axes = (-2, -1)
    x = np.where(inside, x.astype(np.float64), 0.0)
    count = np.maximum(inside.sum(axes, keepdims=True), 1)
    x = np.where(inside, x - x.sum(axes, keepdims=True) / count, 0.0)
    columns = (np.swapaxes(a, -2, -1) for a in (x, inside))
    # Around the globe the last two points of a row have neighbours, too.
    rows = (np.concatenate([a, a[..., :2]], -1) if periodic else a for a in (x, inside))
    short = _short_waves(*rows) + _short_waves(*columns)
    return np.stack([short, (x**2).sum(axes)], axis=-1)


def _short_waves(x: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(..., row, column) -> (...): power of the upper half of waves along rows."""
    n = x.shape[-1] - 2
    if n < 1:
        return np.zeros(x.shape[:-2])
    whole = inside[..., :-2] & inside[..., 1:-1] & inside[..., 2:]
    bends = np.where(whole, np.diff(x, 2), 0.0)
    k = np.fft.rfftfreq(n)
    upper = k > 0.25
    power = np.abs(np.fft.rfft(bends, axis=-1)[..., upper]) ** 2
    return (power / (2 * np.sin(np.pi * k[upper])) ** 4).sum((-2, -1))


def _summed(power: xr.DataArray, field: xr.DataArray, dim: Dims) -> xr.DataArray:
    """Add up over dimensions of a field that its map's power still has."""
    if dim is None:
        return power.sum([d for d in power.dims if d != "band"])
    return power.sum([d for d in reduced_dims(field, dim) if d in power.dims])
