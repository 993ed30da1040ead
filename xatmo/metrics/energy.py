"""The kinetic energy spectrum on the sphere, without the errors of detours."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import FieldNotFoundError, GridError, OptionError
from xatmo.fields import Grid, as_dataset, find_quantities, read
from xatmo.fields.winds import EARTH_RADIUS, FROM_WINDS, WINDS
from xatmo.metrics.common import aligned, canonical, one_chunk
from xatmo.metrics.harmonics import (
    HIGHEST_DEGREE,
    Rows,
    find_rows,
    scalar_power,
    vector_power,
)

__all__ = ["kinetic_energy_spectrum"]

_SPACE = ["latitude", "longitude"]


def kinetic_energy_spectrum(
    vorticity: Any,
    divergence: xr.DataArray | None = None,
    *,
    level: Any = None,
    degree: int | None = None,
    radius: float = EARTH_RADIUS,
) -> xr.DataArray:
    """Kinetic energy per degree of spherical harmonics, exactly.

    Parameters
    ----------
    vorticity : DataArray or Dataset
        Relative vorticity (s-1) on a global grid; or a Dataset that holds vorticity and
        divergence, or else winds, under any name that xatmo knows. Winds are analysed
        in vector harmonics, without a detour through finite differences.
    divergence : DataArray, optional
        Divergence (s-1), if the first argument is an array.
    level : str, number or list, optional
        Which level of a Dataset, as for :func:`xatmo.embed`.
    degree : int, optional
        Highest degree; all that the grid holds if not given (at most 1900).
    radius : float
        Of the sphere on which vorticity and divergence were computed (m).

    Returns
    -------
    DataArray
        ``(..., degree)`` in m2 s-2 (J kg-1), with the coordinate ``wavelength`` (km,
        of a degree's waves along a great circle). The sum over degrees is the mean
        kinetic energy per mass. Lazy if the data are; NaN for a state with a gap
        anywhere.

    Raises
    ------
    xatmo.errors.GridError
        If the grid is not global, or its rows allow no exact transform: equally spaced
        ones with both poles, one of them, or half a step away from both do, and
        Gaussian ones.
    xatmo.errors.FieldNotFoundError
        If a Dataset holds neither.
    xatmo.errors.AlignmentError
        If vorticity and divergence lie on different points.

    Notes
    -----
    With spherical-harmonic coefficients of vorticity and divergence normalised such
    that their squares sum to the field's mean square,

    ``E_l = a² / (2 l (l + 1)) Σ_m (|ζ_lm|² + |δ_lm|²)``.

    Components of the wind are no scalars on the sphere: the sum of their own spectra
    is another, wrong one.

    References
    ----------
    Koshyk, J. N., and Hamilton, K. (2001): The horizontal kinetic energy spectrum and
    spectral budget simulated by a high-resolution troposphere-stratosphere-mesosphere
    GCM. J. Atmos. Sci. 58, 329-348.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> ds = xatmo.open_sample().isel(time=[0])
    >>> energy = metrics.kinetic_energy_spectrum(ds)
    >>> dict(energy.sizes)
    {'time': 1, 'degree': 96}
    >>> energy.sum().round(1).item(), energy.argmax("degree").item()
    (33.1, 9)
    """
    if isinstance(vorticity, xr.DataArray):
        fields, winds, grid = _pair(vorticity, divergence)
    else:
        fields, winds, grid = _from_dataset(vorticity, level)
    rows, degree = _transform(grid, degree)
    first, second = (one_chunk(da, _SPACE) for da in fields)
    energy = xr.apply_ufunc(
        _wind_energy if winds else _energy,
        first,
        second,
        kwargs={"rows": rows, "degree": degree, "radius": radius},
        input_core_dims=[_SPACE, _SPACE],
        output_core_dims=[["degree"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"degree": degree + 1}},
        join="exact",
        keep_attrs=False,
    )
    return _with_degrees(energy, degree, radius)


def _pair(
    vorticity: xr.DataArray, divergence: xr.DataArray | None
) -> tuple[list[xr.DataArray], bool, Grid]:
    if divergence is None:
        msg = "Kinetic energy needs vorticity and divergence."
        raise FieldNotFoundError(
            msg,
            found=f"one array, {vorticity.name!r}",
            needed="two arrays, or a Dataset of both or of winds",
            hint="kinetic_energy_spectrum(vorticity, divergence), or "
            "kinetic_energy_spectrum(xr.Dataset({'u': u, 'v': v}))",
        )
    divergence, vorticity = aligned(divergence, vorticity)
    field, grid = canonical(vorticity)
    return [field, canonical(divergence)[0]], False, grid


def _from_dataset(ds: Any, level: Any) -> tuple[list[xr.DataArray], bool, Grid]:
    ds = as_dataset(ds)
    there = find_quantities(ds)
    # Winds where vorticity and divergence are not both there, or nothing is: then
    # reading them says what was found.
    winds = not set(FROM_WINDS) <= set(there)
    names = WINDS if winds else FROM_WINDS
    fields = read(ds, names, level=level)
    return [fields.data[name] for name in names], winds, fields.grid


def _transform(grid: Grid, degree: int | None) -> tuple[Rows, int]:
    if not grid.is_global:
        raise _no_transform(grid, f"longitudes {_extent(grid.longitude)}")
    rows = find_rows(grid.latitude)
    if rows is None:
        raise _no_transform(grid, f"latitudes {_extent(grid.latitude)}")
    most = min(rows.count - 1, (grid.longitude.size - 1) // 2, HIGHEST_DEGREE)
    if degree is not None and not 1 <= degree <= most:
        msg = f"The grid does not hold spherical harmonics of degree {degree}."
        raise OptionError(
            msg, found=f"degree={degree}", needed=f"1 to {most}", hint=f"degree={most}"
        )
    return rows, most if degree is None else degree


def _extent(x: np.ndarray) -> str:
    return f"from {x[0]:g} to {x[-1]:g}, {x.size} of them"


def _no_transform(grid: Grid, found: str) -> GridError:
    msg = "The grid allows no exact spherical-harmonic transform."
    return GridError(
        msg,
        found=found,
        needed="longitudes all around and latitudes from pole to pole: Gaussian, or "
        "equally spaced from 90 or from half a step below",
        hint="xatmo.metrics.zonal_spectrum or patch_spectrum for a region"
        if not grid.is_global
        else f"ds.interp({grid.names[0]}=np.linspace(90, -90, n)) of the whole globe",
    )


def _energy(
    vorticity: np.ndarray,
    divergence: np.ndarray,
    rows: Rows,
    degree: int,
    radius: float,
) -> np.ndarray:
    power = scalar_power(np.asarray(vorticity), rows, degree)
    power = power + scalar_power(np.asarray(divergence), rows, degree)
    n = np.arange(1, degree + 1)
    power[..., 0] = 0.0  # neither has a mean over the sphere, but for noise
    power[..., 1:] *= radius**2 / (2.0 * n * (n + 1))
    return power


def _wind_energy(
    u: np.ndarray, v: np.ndarray, rows: Rows, degree: int, radius: float
) -> np.ndarray:
    return 0.5 * vector_power(u, v, rows, degree)


def _with_degrees(energy: xr.DataArray, degree: int, radius: float) -> xr.DataArray:
    n = np.arange(degree + 1)
    with np.errstate(divide="ignore"):
        wavelength = 2 * np.pi * radius / 1000 / np.sqrt(n * (n + 1.0))
    energy = energy.assign_coords(
        degree=("degree", n, {"long_name": "degree of spherical harmonics"}),
        wavelength=("degree", wavelength, {"units": "km"}),
    )
    energy.attrs = {"long_name": "kinetic energy per mass", "units": "m2 s-2"}
    return energy.rename("kinetic_energy")
