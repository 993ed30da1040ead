"""Mean and spread that AtmoRep models were trained with, as calendar months.

The original files hold numbers for each month of each year, so that nothing can be read
of months that they lack. Here the years are put together: the mean of a calendar month,
and the spread of all its values about that mean.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xatmo.errors import OptionError
from xatmo.zoo.constants import Constants
from xatmo.zoo.importers.atmorep_card import level_name
from xatmo.zoo.importers.common import some

__all__ = ["read_statistics"]

_MONTHS = 12
_GLOBAL = "global_normalization_mean_var_{field}_ml{level}.bin"
_LOCAL = "normalization_mean_var_{field}_y*_m*_ml{level}.bin"
_DATE = re.compile(r"_y(\d+)_m(\d+)_ml")


def read_statistics(
    path: str | os.PathLike[str], config: Mapping[str, Any], first_generation: bool
) -> dict[tuple[str, str], Constants]:
    """Read the files of all fields and levels of a model that are there.

    Parameters
    ----------
    path : path
        A folder that holds them, at any depth.
    config : mapping
        The model's settings: which fields have numbers for each place.
    first_generation : bool
        Networks of 2023 were trained with the numbers of the next month, where these
        are of places: a slip of that code which belongs to the weights.

    Returns
    -------
    dict
        (Field, level) -> constants of the twelve months.

    Raises
    ------
    xatmo.errors.OptionError
        If there is no such file, or one of other contents.

    Notes
    -----
    What the files call a variance is a standard deviation.
    """
    folder = Path(path).expanduser()
    found: dict[tuple[str, str], Constants] = {}
    for entry in config["fields"]:
        places = len(entry) > 6 and entry[6] != "global"
        for number in entry[2]:
            named = {"field": entry[0], "level": f"{number:g}"}
            pattern = (_LOCAL if places else _GLOBAL).format(**named)
            files = sorted(folder.rglob(pattern))
            if files and places:
                months = _of_places(files, shift=first_generation)
            elif files:
                months = _of_all(files[0])
            else:
                continue
            found[entry[0], level_name(entry[0], number)] = months
    if not found:
        msg = f"{folder} holds no statistics of this model."
        names = some(sorted(file.name for file in folder.rglob("*.bin")))
        fields = ", ".join(entry[0] for entry in config["fields"])
        needed = f"files {_GLOBAL} or {_LOCAL}; of {fields}"
        hint = "leave them out: xatmo.fit_normalization(ds, model) measures your own"
        raise OptionError(msg, found=names or "none", needed=needed, hint=hint)
    return found


def _of_all(file: Path) -> Constants:
    """Of the whole globe: rows of year, month, mean and spread."""
    rows = np.fromfile(file, "<f4").astype(float)
    good = rows.size and rows.size % 4 == 0
    rows = rows.reshape(-1, 4) if good else np.zeros((1, 4))
    months = rows[:, 1].astype(int)
    if not good or not set(range(1, _MONTHS + 1)) == set(months.tolist()):
        raise _damaged(file, "rows of year, month, mean, spread; of all months")
    parts = [_pooled(rows[months == m, 2:, None, None]) for m in range(1, _MONTHS + 1)]
    return _joined(parts)


def _of_places(files: list[Path], *, shift: bool) -> Constants:
    """Of each place: a file for each month of each year."""
    by_month: list[list[Path]] = [[] for _ in range(_MONTHS)]
    for file in files:
        date = _DATE.search(file.name)
        month = int(date[2]) if date else 0
        if not 1 <= month <= _MONTHS:
            raise _damaged(file, "a month from 1 to 12 in its name")
        # Numbers of the next month belong to this one.
        by_month[(month - 1 - shift) % _MONTHS].append(file)
    if not all(by_month):
        count = sum(map(bool, by_month))
        raise _damaged(files[0], f"files of all months, not of {count} alone")
    return _joined([_pooled(map(_map, part)) for part in by_month])


def _map(file: Path) -> np.ndarray:
    """Mean and spread (2, R, C) on a grid with both poles, twice as long as high."""
    numbers = np.fromfile(file, "<f4").astype(float)
    # 2 n (n + 1) points, each with two numbers.
    n = (math.isqrt(1 + numbers.size) - 1) // 2
    if n < 1 or 4 * n * (n + 1) != numbers.size:
        raise _damaged(file, "mean and spread on a global grid such as 721 x 1440")
    return np.moveaxis(numbers.reshape(n + 1, 2 * n, 2), -1, 0)


def _pooled(years: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of a month in all years, of those (2, R, C) of each year."""
    count, mean, square = 0, np.zeros(()), np.zeros(())
    for year_mean, year_std in years:
        count += 1
        mean = mean + year_mean
        square = square + year_std**2 + year_mean**2
    mean = mean / count
    return mean, np.sqrt(np.maximum(square / count - mean**2, 0.0))


def _joined(months: Sequence[tuple[np.ndarray, np.ndarray]]) -> Constants:
    mean, std = (np.stack([month[i] for month in months]) for i in (0, 1))
    # Places where nothing ever varies are none to normalise.
    good = np.isfinite(mean) & (std > 0)
    mean, std = (np.where(good, x, np.nan).astype(np.float32) for x in (mean, std))
    rows, columns = mean.shape[1:]
    if rows == 1:
        return Constants(mean, std)
    east = np.arange(columns) * 360.0 / columns
    return Constants(mean, std, np.linspace(90.0, -90.0, rows), east)


def _damaged(file: Path, needed: str) -> OptionError:
    msg = f"{file} is not a file of statistics, or is damaged."
    found = f"{file.stat().st_size:,} bytes"
    hint = "download the statistics again, or leave them out"
    return OptionError(msg, found=found, needed=needed, hint=hint)
