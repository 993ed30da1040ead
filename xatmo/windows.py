"""Windows over a grid: patches as a network was trained on, each seen on its own."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import GridError, OptionError
from xatmo.fields import Grid
from xatmo.zoo import Card

__all__ = ["Windows", "in_blocks", "place"]

_SPACE = ("latitude", "longitude")

# Numbers of features that one task makes (64 MB): more states than that are cut.
_FEATURES = 2**24
# Grid points of the windows of one task, where chunks are small: as in the engine.
_POINTS = 2**19
# Latitudes are known to four digits or so.
_NOISE = 1e-4


@dataclass(frozen=True)
class Windows:
    """Where the windows lie: their first rows and columns, centres, and size."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    latitude: np.ndarray
    longitude: np.ndarray
    size: tuple[int, int]
    stride: int


def place(grid: Grid, card: Card, stride: int | None) -> Windows:
    """Lay windows over a grid, as far as the model's latitudes go."""
    (h, w), limit = card.grid.patch, card.grid.latitude_limit
    stride = _check_stride(stride, max(1, min(h, w) // 4))
    latitude = np.convolve(grid.latitude, np.full(h, 1 / h), "valid")
    rows = np.arange(latitude.size)
    if limit is not None:
        rows = rows[np.abs(latitude) <= limit + _NOISE]
    if rows.size == 0:
        raise _beyond(grid, card, latitude)
    rows = _every(rows, stride)
    x = grid.longitude
    if grid.is_global:
        x = np.concatenate([x, x[: w - 1] + 360.0])
        columns = np.arange(0, grid.longitude.size, stride)
    else:
        columns = _every(np.arange(x.size - w + 1), stride)
    longitude = np.convolve(x, np.full(w, 1 / w), "valid")
    return Windows(
        tuple(rows.tolist()),
        tuple(columns.tolist()),
        latitude[rows],
        longitude[columns],
        (h, w),
        stride,
    )


def _every(starts: np.ndarray, stride: int) -> np.ndarray:
    """Every so-manieth of the places, as much being left at either end."""
    return starts[((starts.size - 1) % stride) // 2 :: stride]


def in_blocks(
    arrays: list[xr.DataArray], time: str, out: dict[str, int], window: tuple[int, int]
) -> list[xr.DataArray]:
    """Chunks of whole fields, whose features fit into memory and occupy a task."""
    first = next((a for a in arrays if a.chunks is not None), arrays[0].chunk())
    chunks: dict[Any, Any] = {
        d: first.chunksizes[d] for d in first.dims if d not in _SPACE
    }
    state = int(np.prod([*out.values()]))
    others = [d for d in chunks if d != time]
    beside = int(np.prod([max(chunks[d]) for d in others], dtype=np.int64))
    if state * beside > _FEATURES:
        chunks.update({d: (1,) * first.sizes[d] for d in others})
        beside = 1
    most = max(1, _FEATURES // (state * beside))
    points = out["latitude"] * out["longitude"] * int(np.prod(window)) * beside
    chunks[time] = _cut(chunks[time], min(most, max(1, _POINTS // points)), most)
    plan = {**chunks, **dict.fromkeys(_SPACE, -1)}
    return [a.chunk(plan) for a in arrays]


def _cut(chunks: Iterable[int], enough: int, most: int) -> tuple[int, ...]:
    """Cut what is larger than ``most``; join neighbours that are less than ``enough``.

    Examples
    --------
    >>> _cut((7, 1, 1, 1, 1), enough=2, most=4)
    (4, 3, 2, 2)
    """
    sizes: list[int] = []
    for chunk in chunks:
        for part in np.array_split(np.arange(chunk), max(1, -(-chunk // most))):
            if sizes and sizes[-1] + part.size <= enough:
                sizes[-1] += part.size
            elif part.size:
                sizes.append(part.size)
    return tuple(sizes)


def _check_stride(stride: int | None, default: int) -> int:
    if stride is None:
        return default
    whole = isinstance(stride, numbers.Integral) and not isinstance(stride, bool)
    if not whole or stride < 1:
        msg = f"Windows cannot lie {stride!r} grid points apart."
        raise OptionError(
            msg,
            found=f"stride={stride!r}",
            needed="a whole number of grid points, at least 1",
            hint=f"stride={default}",
        )
    return int(stride)


def _beyond(grid: Grid, card: Card, latitude: np.ndarray) -> GridError:
    h, w = card.grid.patch
    limit = card.grid.latitude_limit
    msg = f"{card.name} was not trained so close to the poles."
    return GridError(
        msg,
        found=f"windows of {h} x {w} points with centres from {latitude.min():.4g} to "
        f"{latitude.max():.4g}°",
        needed=f"at least one with its centre within {limit:g}° of the equator",
        hint=f"take a region that reaches {h / 2 * grid.spacing[0]:.3g}° further "
        f"towards the equator than {limit:g}°",
    )
