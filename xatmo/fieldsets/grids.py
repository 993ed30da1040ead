"""Whether data lie on the one grid that a network reads, whole; if not, what to do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from xatmo.errors import ChunkError, GridError
from xatmo.fields import Axes, Grid
from xatmo.gridfit import regrid_call
from xatmo.zoo import Card

__all__ = ["check_whole", "grid_notes", "whole_grid_problem"]

# Shares of a cell: what passes for the same place, and what is still read.
_SAME = 0.02
_HALF = 0.5


def whole_grid_problem(grid: Grid, axes: Axes, card: Card) -> GridError | None:
    """Return what is wrong with a grid for a network that knows one grid alone.

    Rows may lie up to half a cell from where they did in training, as those of a grid
    do that has lost one of two poles.
    """
    rows, columns = card.grid.patch
    sizes = (grid.latitude.size, grid.longitude.size)
    if card.grid.latitude:
        return _regional_problem(grid, axes, card)
    regular = card.grid.gaussian or not grid.gaussian
    if sizes == (rows, columns) and grid.is_global and regular:
        if _off(grid, card)[0] <= (_HALF + _SAME) * 180 / rows:
            return None
        found = f"latitudes from {grid.latitude[0]:g} to {grid.latitude[-1]:g}"
    else:
        kind = "Gaussian, " if grid.gaussian else ""
        kind += "global" if grid.is_global else "not global"
        found = f"{sizes[0]} x {sizes[1]} points, {kind}"
    wanted = f"{rows} x {columns} points on the whole globe, {180 / rows:g}° apart"
    msg = f"{card.name} reads one grid, and this is another one."
    if not _reaches(grid):
        hint = "open data of the whole globe"
        return GridError(msg, found=found, needed=wanted, hint=hint)
    call, others = _regrid(grid, axes, card), _other_sizes(sizes, card)
    needed = wanted if others is None else f"{wanted}; {others}"
    hint = f"{call}; or, for a model on your grid, {_with_grid(sizes, axes, card)}"
    return GridError(msg, found=found, needed=needed, hint=hint)


def grid_notes(grid: Grid, card: Card) -> list[str]:
    """Say how far off the points are, if they are not where they were in training."""
    cells = _cells(card)
    names = ("latitudes", "longitudes")
    return [
        f"{name} are up to {off:.3g}° from those that {card.name} was trained with"
        for name, off, cell in zip(names, _off(grid, card), cells, strict=True)
        if off > _SAME * cell
    ]


def check_whole(variables: Sequence[xr.DataArray], axes: Axes, card: Card) -> None:
    """Refuse chunks along latitude or longitude, in the user's names."""
    names = (axes.latitude, axes.longitude)
    for da in variables:
        cut = da.chunksizes if da.chunks is not None else {}
        chunked = [str(n) for n in names if len(cut.get(n, ())) > 1]
        if chunked:
            msg = f"{card.name} sees whole fields, but {' and '.join(chunked)} is cut."
            raise ChunkError(
                msg,
                found=", ".join(f"{n}: {len(cut[n])} chunks" for n in chunked),
                needed="one chunk along each: every point looks at every other",
                hint=f"ds.chunk({{{', '.join(f'{n!r}: -1' for n in chunked)}}})",
            )


def _places(card: Card) -> tuple[np.ndarray, np.ndarray]:
    """Rows from the north, and columns, that a network was trained on."""
    rows, columns = card.grid.patch
    north, east = card.grid.latitude, card.grid.longitude
    if north and east:
        return np.linspace(*north, rows), np.linspace(*east, columns)
    middles = 90 - 180 / rows * (np.arange(rows) + 0.5)
    return middles, 360 / columns * np.arange(columns)


def _cells(card: Card) -> tuple[float, float]:
    """Degrees from row to row, and from column to column."""
    north, east = _places(card)
    return (
        float(abs(north[-1] - north[0])) / max(1, north.size - 1),
        float(east[-1] - east[0]) / max(1, east.size - 1),
    )


def _off(grid: Grid, card: Card) -> tuple[float, float]:
    """Degrees between rows, and columns, and those of training."""
    north, east = _places(card)
    south = np.abs(grid.latitude - north)
    away = (grid.longitude - east + 180) % 360 - 180
    return float(south.max()), float(np.abs(away).max())


def _regional_problem(grid: Grid, axes: Axes, card: Card) -> GridError | None:
    """Return what is wrong with a grid for a network that knows one region alone."""
    north, east = _places(card)
    sizes = (grid.latitude.size, grid.longitude.size)
    if sizes == (north.size, east.size):
        off = _off(grid, card)
        if all(
            o <= (_HALF + _SAME) * cell
            for o, cell in zip(off, _cells(card), strict=True)
        ):
            return None
    lat, lon = str(axes.latitude), str(axes.longitude)
    ends = (north[-1], north[0]) if grid.lat_flipped else (north[0], north[-1])
    rows = f"np.linspace({ends[0]:g}, {ends[1]:g}, {north.size})"
    columns = f"np.linspace({east[0]:g}, {east[-1]:g}, {east.size})"
    found = f"{sizes[0]} x {sizes[1]} points, {_extent(grid.latitude)}°N, "
    needed = f"{north.size} x {east.size} points, {_extent(north)}°N, "
    return GridError(
        f"{card.name} reads one region, and this is another one.",
        found=f"{found}{_extent(grid.longitude)}°E",
        needed=f"{needed}{_extent(east)}°E",
        hint=f"ds.interp({{{lat!r}: {rows}, {lon!r}: {columns}}}), or ds.sel(...) of "
        "a grid that holds these points; or train a model on yours: see train/climax",
    )


def _extent(values: np.ndarray) -> str:
    return f"{values[0]:g} to {values[-1]:g}"


def _reaches(grid: Grid) -> bool:
    """Whether data reach all around, and as near to the poles as their rows are."""
    least = float(np.abs(grid.latitude[[0, -1]]).min())
    return grid.is_global and least >= 90 - 1.6 * grid.spacing[0]


def _regrid(grid: Grid, axes: Axes, card: Card) -> str:
    rows, columns = card.grid.patch
    north = 90 - 90 / rows
    ends = (-north, north) if grid.lat_flipped else (north, -north)
    lines = (
        f"np.linspace({ends[0]:g}, {ends[1]:g}, {rows})",
        f"np.linspace(0, {360 - 360 / columns:g}, {columns})",
    )
    return regrid_call(grid, axes, lines, (rows, columns))


def _other_sizes(sizes: tuple[int, int], card: Card) -> str | None:
    """How many rows and columns could be cut into patches, if these cannot."""
    patch = card.grid.stride
    said = [
        f"{n - n % patch} {what} (crop {n % patch}) or {n + patch - n % patch} (pad "
        f"{patch - n % patch})"
        for n, what in zip(sizes, ("rows", "columns"), strict=True)
        if n % patch
    ]
    if not said:
        return None
    return f"other grids have to divide into patches of {patch}: {', '.join(said)}"


def _with_grid(sizes: tuple[int, int], axes: Axes, card: Card) -> str:
    patch = card.grid.stride
    rows, columns = (n - n % patch for n in sizes)
    cut = [
        f"{name}=slice(None, {whole})"
        for name, n, whole in zip(
            (axes.latitude, axes.longitude), sizes, (rows, columns), strict=True
        )
        if n != whole
    ]
    crop = f"ds = ds.isel({', '.join(cut)}); " if cut else ""
    return f"{crop}model=xatmo.load_model({card.name!r}).with_grid({rows}, {columns})"
