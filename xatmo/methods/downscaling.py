"""Plain ways to a finer grid: what a network has to beat, labelled in and labelled out.

Interpolation, a ridge regression, and a control that is right in its statistics and
wrong in its details: the residual of another day.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xatmo.blocks import with_means
from xatmo.errors import AlignmentError, FieldNotFoundError, OptionError, TimeAxisError
from xatmo.fields import Grid, find_axes, read_grid, to_canonical
from xatmo.fields.finer import Fine, fine_coordinates, to_user
from xatmo.methods.arrays import gram, predict, solve, upsample

__all__ = ["METHODS", "Ridge", "another_day", "interpolate", "partners"]

METHODS = ("nearest", "bilinear", "bicubic")
_CORE = ["latitude", "longitude"]

T = TypeVar("T", xr.DataArray, xr.Dataset)


def interpolate(
    coarse: T, method: str = "bicubic", *, factor: int = 4, conserve: bool = False
) -> T:
    """Interpolate maps to the centres of cells that are ``factor`` times finer.

    Parameters
    ----------
    coarse : DataArray or Dataset
        Maps on a regular latitude-longitude grid, eager or lazy. Longitudes of a
        global grid close on themselves; other edges continue as constants.
    method : {"bicubic", "bilinear", "nearest"}
    factor : int
        How many times finer.
    conserve : bool
        Shift each block of fine values so that its mean is the coarse value.

    Returns
    -------
    DataArray or Dataset
        As given, on the finer grid. Variables of a Dataset that are no maps are left
        out.

    Raises
    ------
    xatmo.errors.OptionError
        If there is no such method, or the factor is not a whole number above 1.
    xatmo.errors.GridError
        If the grid is not regular.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo.methods import interpolate
    >>> u = xatmo.open_sample()["u"].isel(time=0)
    >>> fine = interpolate(u, "bicubic", factor=4, conserve=True)
    >>> dict(u.sizes), dict(fine.sizes)
    ({'lat': 96, 'lon': 192}, {'lat': 384, 'lon': 768})
    """
    _check(method, factor)
    factor = int(factor)

    def finer(x: np.ndarray, fine: Fine, periodic: bool) -> np.ndarray:
        y = upsample(x, factor, method, periodic=periodic)
        return with_means(y, x, factor, fine.rows) if conserve else y

    return _each_map(coarse, lambda da: _on_fine_grid(da, factor, finer))


@dataclass(frozen=True)
class Ridge:
    """Ridge regression from windows of coarse points to the fine points inside.

    All variables predict all variables: both components of a wind each of them.

    Attributes
    ----------
    coefficients : ndarray, shape (p, C factor**2)
        Of the p = C window**2 + 1 predictors; the last one is the constant.
    variables : tuple of str
        The C variables, in order.
    factor : int

    Examples
    --------
    >>> import xatmo
    >>> from xatmo.methods import Ridge
    >>> fine = xatmo.open_sample()[["u", "v"]].isel(time=slice(4))
    >>> coarse = fine.coarsen(lat=4, lon=4).mean()
    >>> ridge = Ridge.fit(coarse, fine)
    >>> ridge
    Ridge of u, v: 5 x 5 points to 4 x 4
    >>> dict(ridge.apply(coarse).sizes)
    {'time': 4, 'lat': 96, 'lon': 192}
    """

    coefficients: np.ndarray = field(repr=False)
    variables: tuple[Hashable, ...]
    factor: int

    @classmethod
    def fit(
        cls,
        coarse: xr.Dataset,
        fine: xr.Dataset,
        *,
        window: int = 5,
        penalty: float = 1e-6,
    ) -> Ridge:
        """Fit to maps and what became of them, a time after the other.

        Parameters
        ----------
        coarse, fine : Dataset
            The same variables; ``coarse`` as the block means of ``fine``. Lazy data
            are computed, a chunk at a time. Points with missing values are left out.
        window : int
            Coarse points on a side that are read; odd.
        penalty : float
            On squared coefficients, relative to each predictor's mean square.

        Raises
        ------
        xatmo.errors.AlignmentError
            If ``fine`` has not as many points in each coarse cell.
        """
        names = tuple(fine.data_vars)
        grid, x = _stacked(coarse, names)
        fine_grid, y = _stacked(fine, names)
        factor = _factor(grid, fine_grid)

        def sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            one = x.shape[:-3]
            parts = [
                gram(x[i], y[i], factor, window, periodic=grid.is_global)
                for i in np.ndindex(one)
            ]
            return np.stack(parts).reshape(*one, *parts[0].shape)

        count = len(names) * window**2 + 1
        renamed = y.rename(latitude="fine_latitude", longitude="fine_longitude")
        found = xr.apply_ufunc(
            sums,
            x,
            renamed,
            input_core_dims=[
                ["channel", *_CORE],
                ["channel", "fine_latitude", "fine_longitude"],
            ],
            output_core_dims=[["predictor", "sum"]],
            dask="parallelized",
            output_dtypes=[np.float64],
            dask_gufunc_kwargs={
                "output_sizes": {
                    "predictor": count,
                    "sum": count + len(names) * factor**2,
                },
            },
        )
        batch = [d for d in found.dims if d not in ("predictor", "sum")]
        return cls(solve(found.sum(batch).values, penalty), names, factor)

    def apply(self, coarse: xr.Dataset) -> xr.Dataset:
        """Return finer maps; lazy if ``coarse`` is."""
        grid, x = _stacked(coarse, self.variables)

        def finer(x: np.ndarray, fine: Fine, periodic: bool) -> np.ndarray:
            return predict(x, self.coefficients, self.factor, periodic=periodic)

        stacked = _on_canonical(x, grid, self.factor, finer, ["channel", *_CORE])
        found = {
            name: to_user(stacked.isel(channel=i), grid, self.factor)
            .transpose(*coarse[name].dims)
            .assign_attrs(coarse[name].attrs)
            for i, name in enumerate(self.variables)
        }
        return xr.Dataset(found, attrs=coarse.attrs)

    def __repr__(self) -> str:
        count = len(self.variables)
        window = round(((len(self.coefficients) - 1) / count) ** 0.5)
        names = ", ".join(map(str, self.variables))
        return (
            f"Ridge of {names}: {window} x {window} points to "
            f"{self.factor} x {self.factor}"
        )


def another_day(coarse: T, fine: T, *, days: float = 3.0) -> T:
    """Interpolate, and add what interpolation had missed on another day.

    A control for scores: it has nearly the spectrum, the variogram and the distribution
    of the truth, and nothing of its details. A score that it wins tells of statistics
    alone.

    Parameters
    ----------
    coarse, fine : DataArray or Dataset
        A series of maps, and the truth, whose block means ``coarse`` are.
    days : float
        How far away the other day is at least, at the same hour; if the series is too
        short for that, the farthest time is taken.

    Returns
    -------
    DataArray or Dataset
        On the grid of ``fine``.

    Raises
    ------
    xatmo.errors.TimeAxisError
        If there is only one time.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo.methods import another_day
    >>> fine = xatmo.open_sample()["u"]
    >>> coarse = fine.coarsen(lat=4, lon=4).mean()
    >>> control = another_day(coarse, fine)
    >>> control.sizes == fine.sizes
    True
    """
    time = find_axes(_dataset(fine)).time
    if time is None or time not in fine.dims:
        dims = f"dimensions {', '.join(map(str, fine.dims))}"
        raise _one_time(dims)
    factor = _factor(_grid(coarse), _grid(fine))
    below = interpolate(coarse, factor=factor, conserve=True)
    # The truth's own coordinates: those of the coarse grid may be off by a rounding.
    below = below.assign_coords({d: fine[d] for d in fine.dims if d in fine.coords})
    other = partners(fine[time].values, days)
    residual = (fine - below).isel({time: other})
    return below + residual.assign_coords({time: fine[time]})


def partners(times: np.ndarray, days: float = 3.0) -> np.ndarray:
    """For each time the position of another, some days away and at the same hour.

    Parameters
    ----------
    times : ndarray of datetime64 or of dates in another calendar, or numbers (days)
    days : float
        Least distance; where the series is too short for it, the farthest time counts.

    Raises
    ------
    xatmo.errors.TimeAxisError
        If there is only one time.
    """
    if len(times) < 2:
        found = f"{len(times)} time"
        raise _one_time(found)
    at = _as_days(times)
    chosen = []
    for now in at:
        away = np.abs(at - now)
        same_hour = np.abs((away + 0.5) % 1.0 - 0.5) < 1 / 48
        good = np.flatnonzero(same_hour & (away >= days))
        chosen.append(good[np.argmin(away[good])] if good.size else np.argmax(away))
    return np.array(chosen)


# --- Helpers ------------------------------------------------------------------------

_Finer = Callable[[np.ndarray, Fine, bool], np.ndarray]


def _each_map(obj: T, finer: Callable[[xr.DataArray], xr.DataArray]) -> T:
    if isinstance(obj, xr.DataArray):
        return finer(obj)
    maps = {name: finer(obj[name]) for name in _maps(obj)}
    return xr.Dataset(maps, attrs=obj.attrs)


def _maps(ds: xr.Dataset) -> list[Hashable]:
    axes = find_axes(ds)
    core = {axes.latitude, axes.longitude}
    return [name for name in ds.data_vars if core <= {*ds[name].dims}]


def _on_fine_grid(da: xr.DataArray, factor: int, finer: _Finer) -> xr.DataArray:
    grid = _grid(da)
    result = _on_canonical(
        to_canonical(_as_float(da), grid), grid, factor, finer, _CORE
    )
    restored = to_user(result, grid, factor).transpose(*da.dims)
    return restored.rename(da.name).assign_attrs(da.attrs)


def _on_canonical(
    x: xr.DataArray, grid: Grid, factor: int, finer: _Finer, core: list[str]
) -> xr.DataArray:
    """Apply a function of whole maps; rows beyond a pole are dropped after it."""
    fine = fine_coordinates(grid, factor)
    if x.chunks is not None:
        x = x.chunk(dict.fromkeys(core, -1))
    dtype = x.dtype
    result = xr.apply_ufunc(
        lambda block: finer(block, fine, grid.is_global)[..., fine.rows, :],
        x,
        input_core_dims=[core],
        output_core_dims=[core],
        exclude_dims={*_CORE},
        dask="parallelized",
        output_dtypes=[dtype],
        dask_gufunc_kwargs={
            "output_sizes": {
                "latitude": len(fine.latitude),
                "longitude": len(fine.longitude),
            }
        },
    )
    return result.assign_coords(latitude=fine.latitude, longitude=fine.longitude)


def _stacked(ds: xr.Dataset, names: tuple[Hashable, ...]) -> tuple[Grid, xr.DataArray]:
    """Variables as channels, (..., channel, latitude, longitude)."""
    if absent := [str(n) for n in names if n not in ds]:
        msg = f"The data have no {' and no '.join(absent)}."
        raise FieldNotFoundError(
            msg,
            found=", ".join(map(str, ds.data_vars)) or "no variables",
            needed=", ".join(map(str, names)),
            hint=f"ds.rename(...), so that there is a variable {absent[0]!r}",
        )
    grid = _grid(ds)
    maps = [to_canonical(_as_float(ds[n]), grid) for n in names]
    joined = xr.concat(
        maps, "channel", coords="minimal", compat="override", combine_attrs="drop"
    )
    if joined.chunks is not None:
        joined = joined.chunk(dict.fromkeys(["channel", *_CORE], -1))
    return grid, joined.transpose(..., "channel", *_CORE)


def _grid(obj: xr.Dataset | xr.DataArray) -> Grid:
    ds = _dataset(obj)
    return read_grid(ds, find_axes(ds))


def _dataset(obj: xr.Dataset | xr.DataArray) -> xr.Dataset:
    return obj if isinstance(obj, xr.Dataset) else obj.to_dataset(name="__map__")


def _factor(coarse: Grid, fine: Grid) -> int:
    rows, columns = len(coarse.latitude), len(coarse.longitude)
    factor = len(fine.latitude) // rows
    sizes = len(fine.latitude), len(fine.longitude)
    if factor > 1 and sizes == (factor * rows, factor * columns):
        middle = fine.latitude.reshape(rows, factor).mean(axis=1)
        if np.abs(middle - coarse.latitude).max() < fine.spacing[0] / 2:
            return factor
    lat, lon = fine.names
    msg = "The coarse maps are not the block means of the fine ones."
    raise AlignmentError(
        msg,
        found=f"{rows} x {columns} coarse points, {sizes[0]} x {sizes[1]} fine ones",
        needed="the same number of fine rows and columns in each coarse cell",
        hint=f"coarse = fine.coarsen({lat}=4, {lon}=4, boundary='trim').mean(), and "
        "fine cut to the same rows and columns",
    )


def _as_float(da: xr.DataArray) -> xr.DataArray:
    """Floating point in the machine's byte order, which old netCDF files have not."""
    dtype = da.dtype if da.dtype.kind == "f" else np.dtype(np.float32)
    return da.astype(dtype.newbyteorder("="), copy=False)


def _as_days(times: np.ndarray) -> np.ndarray:
    if times.dtype.kind == "M":
        return (times - times[0]) / np.timedelta64(1, "D")
    if times.dtype == object:
        return np.array([(t - times[0]).total_seconds() / 86400 for t in times])
    return np.asarray(times, dtype=float)


def _check(method: Any, factor: Any) -> None:
    if method not in METHODS:
        msg = f"There is no interpolation {method!r}."
        raise OptionError(
            msg,
            found=f"method={method!r}",
            needed=f"one of {', '.join(map(repr, METHODS))}",
            hint='method="bicubic"',
        )
    whole = isinstance(factor, int | np.integer) and not isinstance(factor, bool)
    if not whole or factor < 2:
        msg = f"A grid cannot be made {factor!r} times finer."
        raise OptionError(
            msg,
            found=f"factor={factor!r}",
            needed="a whole number above 1",
            hint="factor=4",
        )


def _one_time(found: str) -> TimeAxisError:
    msg = "There is no other day whose residual could be added."
    return TimeAxisError(
        msg,
        found=found,
        needed="a series of at least two times",
        hint="more times: xr.open_mfdataset([...])",
    )
