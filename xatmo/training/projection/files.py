"""The files of ClimateBench as series of years, on the grid of a network.

``inputs_<scenario>.nc`` hold emissions: CO2 (summed since 1850) and CH4 as numbers for
each year, SO2 and BC as maps. ``outputs_<scenario>.nc`` hold what a climate model made
of them, as differences from its preindustrial state, in several members.

After: Watson-Parris and others, "ClimateBench v1.0: A benchmark for data-driven climate
projections", Journal of Advances in Modeling Earth Systems 14 (2022),
https://doi.org/10.1029/2021MS002954; data: https://doi.org/10.5281/zenodo.5196512.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import (
    FieldNotFoundError,
    MissingValuesError,
    OptionError,
    TimeAxisError,
)

__all__ = ["Series", "grid_of", "interpolation", "read_scenario"]

_FOLDERS = ("", "train_val", "test")
_DAY = 86_400.0  # s: precipitation is in kg m-2 s-1
_PER_SECOND = ("pr", "pr90")
_NAMES = {"lat": "latitude", "lon": "longitude", "year": "time"}


@dataclass(frozen=True)
class Series:
    """One scenario, with the historical years before it if it goes on from these.

    Parameters
    ----------
    scenario : str
    years : ndarray, shape (T,)
        Without gaps.
    forcings : ndarray, shape (T, V, H, W)
    target : ndarray, shape (T, H, W)
    first : int
        Index of the first year that is the scenario's own.
    """

    scenario: str
    years: np.ndarray
    forcings: np.ndarray
    target: np.ndarray
    first: int

    def ends(self, length: int) -> list[int]:
        """Return the last years of all windows of some length, as indices."""
        return list(range(max(self.first, length - 1), len(self.years)))


def grid_of(
    shape: tuple[int, int], northward: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes, and longitudes from 0, of a regular grid without the poles.

    Examples
    --------
    >>> from xatmo.training.projection.files import grid_of
    >>> latitude, longitude = grid_of((32, 64))
    >>> latitude[:2].tolist(), longitude[:2].tolist()
    ([-87.1875, -81.5625], [0.0, 5.625])
    """
    rows, columns = shape
    latitude = 180 / rows * (np.arange(rows) + 0.5) - 90
    return latitude if northward else -latitude, 360 / columns * np.arange(columns)


def read_scenario(
    folder: Path,
    scenario: str,
    variables: tuple[str, ...],
    target: str,
    grid: tuple[np.ndarray, np.ndarray],
) -> Series:
    """Read a scenario: the mean of its members, in years that both files have.

    Parameters
    ----------
    folder : Path
        With the files, or with ``train_val`` and ``test``.
    scenario : str
        One whose name begins with ``ssp`` is joined to ``historical``.
    variables : tuple of str
        Forcings, in this order. A number for each year becomes a field.
    target : str
        Of the outputs; precipitation is converted to mm per day.
    grid : tuple of ndarray
        Latitudes and longitudes to which maps are interpolated: bilinearly, and around
        the globe, as was done for the published scores.

    Raises
    ------
    xatmo.errors.OptionError
        If a file is missing.
    xatmo.errors.FieldNotFoundError
        If a variable is missing.
    xatmo.errors.TimeAxisError
        If the years have gaps.
    xatmo.errors.MissingValuesError
        If a value is missing.
    """
    names = ("historical", scenario) if scenario.startswith("ssp") else (scenario,)
    parts = [_read_one(folder, name, variables, target, grid) for name in names]
    years, forcings, maps = (
        np.concatenate(arrays) for arrays in zip(*parts, strict=True)
    )
    if (np.diff(years) != 1).any():
        msg = f"The years of {scenario} do not follow each other."
        found = f"{len(years)} years from {years.min()} to {years.max()}"
        if len(names) > 1:
            found += f", the scenario's own from {parts[-1][0].min()}"
        needed = "every year once, those of the scenario after the historical ones"
        hint = f"look at inputs_{scenario}.nc and outputs_{scenario}.nc"
        raise TimeAxisError(msg, found=found, needed=needed, hint=hint)
    return Series(scenario, years, forcings, maps, len(years) - len(parts[-1][0]))


def _read_one(
    folder: Path,
    scenario: str,
    variables: tuple[str, ...],
    target: str,
    grid: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Years (T,), forcings (T, V, H, W) and target (T, H, W) of two files."""
    inputs = _opened(folder, f"inputs_{scenario}.nc", variables)
    outputs = _opened(folder, f"outputs_{scenario}.nc", (target,))
    with inputs, outputs:
        years = np.intersect1d(_years(inputs), _years(outputs))
        fields = [
            _maps(inputs[name].sel(time=years), grid, scenario) for name in variables
        ]
        found = outputs[target].sel(time=years)
        if "member" in found.dims:
            found = found.mean("member")
        maps = _maps(found, grid, scenario)
    if target in _PER_SECOND:
        maps = maps * _DAY
    return years, np.stack(fields, 1).astype(np.float32), maps.astype(np.float32)


def _opened(folder: Path, file: str, variables: tuple[str, ...]) -> xr.Dataset:
    """Open a file, its years as whole numbers, and its axes by the names used here."""
    places = [folder / below / file for below in _FOLDERS]
    paths = [path for path in places if path.exists()]
    if not paths:
        msg = f"The file {file} of ClimateBench is not there."
        raise OptionError(
            msg,
            found=f"nothing at {', '.join(map(str, places))}",
            needed="the files of train_val.tar.gz and test.tar.gz, unpacked",
            hint="https://doi.org/10.5281/zenodo.5196512, then --data FOLDER",
        )
    ds = xr.open_dataset(paths[0])
    ds = ds.rename({old: new for old, new in _NAMES.items() if old in ds.dims})
    if missing := [name for name in variables if name not in ds]:
        msg = f"{file} does not hold {', '.join(missing)}."
        found = ", ".join(map(str, ds.data_vars)) or "no variables"
        hint = "variables in [network] and target in [sampling], by the file's names"
        raise FieldNotFoundError(msg, found=found, needed=", ".join(missing), hint=hint)
    if "time" in ds.coords:
        return ds.assign_coords(time=_years(ds))
    msg = f"{file} does not say which years it holds."
    raise TimeAxisError(
        msg,
        found=f"dimensions {', '.join(map(str, ds.dims))}",
        needed="a coordinate `time` or `year`",
        hint="ds.assign_coords(time=range(1850, 2015))",
    )


def _years(ds: xr.Dataset) -> np.ndarray:
    time = ds["time"]
    if time.dtype.kind in "iuf":
        return time.values.astype(np.int64)
    years: np.ndarray = time.dt.year.values.astype(np.int64)
    return years


def _maps(
    field: xr.DataArray, grid: tuple[np.ndarray, np.ndarray], scenario: str
) -> np.ndarray:
    """Bring a variable to the grid: (T, H, W), in double precision."""
    latitude, longitude = grid
    if not {"latitude", "longitude"} & set(field.dims):
        values = field.transpose("time").values.astype(np.float64)
        shape = (len(values), len(latitude), len(longitude))
        maps = np.broadcast_to(values[:, None, None], shape)
    else:
        field = field.transpose("time", "latitude", "longitude")
        to_rows = interpolation(field["latitude"].values, latitude)
        to_columns = interpolation(field["longitude"].values, longitude, period=360)
        maps = to_rows @ field.values.astype(np.float64) @ to_columns.T
    if np.isfinite(maps).all():
        return maps
    msg = f"{field.name} of {scenario} has missing values."
    found = f"{int((~np.isfinite(maps)).sum())} of {maps.size} values"
    hint = "fill them first: ds.atmo.infill() does so"
    raise MissingValuesError(msg, found=found, needed="all values", hint=hint)


def interpolation(old: Any, new: np.ndarray, period: float | None = None) -> np.ndarray:
    """Weights of linear interpolation; what lies beyond the ends is as the ends are.

    Parameters
    ----------
    old, new : ndarray, shapes (n,) and (m,)
        Places, in any order.
    period : float, optional
        After which places come again.

    Returns
    -------
    ndarray, shape (m, n)

    Examples
    --------
    >>> import numpy as np
    >>> from xatmo.training.projection.files import interpolation
    >>> interpolation(np.array([0.0, 120, 240]), np.array([300.0]), period=360)
    array([[0.5, 0. , 0.5]])
    """
    old, new = (np.asarray(places, dtype=np.float64) for places in (old, new))
    order = np.arange(len(old))
    if period:
        old, new = old % period, new % period
        order = np.tile(order, 3)
        old = np.concatenate([old - period, old, old + period])
    place = np.argsort(old, kind="stable")
    old, order = old[place], order[place]
    right = np.clip(np.searchsorted(old, new), 1, len(old) - 1)
    share = np.clip((new - old[right - 1]) / (old[right] - old[right - 1]), 0, 1)
    weights = np.zeros((len(new), order.max() + 1))
    rows = np.arange(len(new))
    np.add.at(weights, (rows, order[right - 1]), 1 - share)
    np.add.at(weights, (rows, order[right]), share)
    return weights
