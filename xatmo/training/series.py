"""Parts of a series that scores are made of: some of its times, each of its levels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from xatmo.fields import find_axes

__all__ = ["evenly", "levels_of"]


def evenly(count: int, most: int) -> list[int]:
    """Return so many numbers below ``count``, at equal distances, at most all.

    Examples
    --------
    >>> from xatmo.training.series import evenly
    >>> evenly(10, 4), evenly(3, 4)
    ([0, 3, 6, 9], [0, 1, 2])
    """
    if count <= most:
        return list(range(count))
    return np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()


def levels_of(da: xr.DataArray, time: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Name each level of a variable, and say how to select it."""
    axes = find_axes(da.to_dataset(name="x"))
    others = [d for d in da.dims if d not in (time, axes.latitude, axes.longitude)]
    if not others:
        yield "", {}
        return
    dim = str(others[0])
    for i, value in enumerate(da[dim].values):
        yield f"{dim} {value:g}", {dim: i}
