"""Whether a model reads a grid, and if not, the call after which it would.

Block means where whole blocks end in the model's range of spacings: they need nothing
but xarray. Anything else is a regridding (with xarray-regrid), to a grid within what
the data cover. Every call is in the user's names, and the tests run them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from xatmo.errors import GridError
from xatmo.fields import Axes, Grid
from xatmo.zoo import Card, list_models

__all__ = ["grid_problem", "in_range", "regrid_call", "spacing_range"]

# A grid is what its spacing says to within this share: 0.7 is not 0.703125.
_TOLERANCE = 0.02
_EXTRA = '; xarray-regrid for the call below: pip install "xatmo[regrid]"'
# What xarray-regrid knows to be a sphere, in any capitals.
_SPHERE = ({"lat", "latitude"}, {"lon", "longitude"})


def grid_problem(grid: Grid, axes: Axes, card: Card) -> GridError | None:
    """Return what is wrong with a grid for a model: spacing, size or kind."""
    if fits(grid, card):
        return None
    fine, coarse = card.grid.spacing
    what = _what(grid, card)
    found = f"{grid.latitude.size} x {grid.longitude.size} points, {_degrees(grid)}"
    needed = f"a spacing between {fine:g} and {coarse:g}°"
    if what == "small":
        msg = f"The domain is too small for {card.name}."
        patch = (
            f"at least one patch: {card.grid.patch[0]} x {card.grid.patch[1]} points"
        )
        if not in_range(grid.spacing, card):
            patch += f", at {needed}"
        hint = _other(grid, card) or "select a larger region"
        return GridError(msg, found=found, needed=patch, hint=hint)
    if what == "gaussian":
        msg = f"{card.name} does not read Gaussian grids."
        found, needed = f"{found}, Gaussian latitudes", "equally spaced latitudes"
        needed += _EXTRA
        return GridError(
            msg, found=found, needed=needed, hint=_regrid(grid, axes, card)
        )
    msg = f"The grid is too {what} for {card.name}."
    if what == "fine" and card.downscale is not None:
        msg = _already(grid, card, card.downscale.factor) or msg
    other = _other(grid, card)
    if other is not None and what == "fine":
        return GridError(msg, found=found, needed=needed, hint=other)
    blocks = None if what == "coarse" else _blocks(grid, card)
    if blocks is not None:
        by = f"{axes.latitude}={blocks[0]}, {axes.longitude}={blocks[1]}"
        hint = f"{_in_order(grid)}.coarsen({by}, boundary='trim').mean()"
        return GridError(msg, found=found, needed=needed, hint=hint)
    needed += _EXTRA
    hint = _regrid(grid, axes, card)
    if what == "coarse":
        better = other or "take finer data"
        hint = f"{better}, or interpolate (no detail is added): {hint}"
    return GridError(msg, found=found, needed=needed, hint=hint)


def fits(grid: Grid, card: Card) -> bool:
    """Whether a model reads a grid as it is."""
    sizes = (grid.latitude.size, grid.longitude.size)
    large = all(n >= m for n, m in zip(sizes, card.grid.patch, strict=True))
    kind = card.grid.gaussian or not grid.gaussian
    return large and kind and in_range(grid.spacing, card)


def in_range(spacing: Sequence[float], card: Card) -> bool:
    """Whether steps along latitude and longitude are such as a model reads."""
    low, high = spacing_range(card.grid.spacing)
    return all(low <= step <= high for step in spacing)


def spacing_range(spacing: Sequence[float]) -> tuple[float, float]:
    """Return the spacings that pass for those from ``spacing[0]`` to ``spacing[1]``."""
    fine, coarse = spacing
    return fine * (1 - _TOLERANCE), coarse * (1 + _TOLERANCE)


def regrid_call(
    grid: Grid, axes: Axes, lines: tuple[str, str], counts: tuple[int, int]
) -> str:
    """Return the statements that regrid to latitudes and longitudes.

    Parameters
    ----------
    grid : Grid
    axes : Axes
    lines : tuple of str
        Code of the new latitudes and longitudes.
    counts : tuple of int
        How many they are.
    """
    names = (axes.latitude, axes.longitude)
    new = {
        name: name if name.lower() in known else min(known, key=len)
        for name, known in zip(names, _SPHERE, strict=True)
    }
    ds = _in_order(grid)
    renamed = {old: name for old, name in new.items() if old != name}
    ds += f".rename({renamed})" if renamed else ""
    rows, columns = lines
    latitude, longitude = new.values()
    return (
        f"import xarray_regrid; ds = {ds}.regrid.{_method(grid, counts)}("
        f"xr.Dataset(coords={{{latitude!r}: {rows}, {longitude!r}: {columns}}}))"
    )


def _what(grid: Grid, card: Card) -> str:
    """The first thing that is wrong; a grid that no call would make fit is small."""
    low, high = spacing_range(card.grid.spacing)
    if max(grid.spacing) > high:
        return "coarse" if _target(grid, card) is not None else "small"
    if min(grid.spacing) < low:
        reachable = _blocks(grid, card) or _target(grid, card)
        return "fine" if reachable else "small"
    sizes = (grid.latitude.size, grid.longitude.size)
    if any(n < m for n, m in zip(sizes, card.grid.patch, strict=True)):
        return "small"
    return "gaussian"


def _blocks(grid: Grid, card: Card) -> tuple[int, int] | None:
    """Rows and columns to average: near the middle of the range, a patch remaining.

    On a globe the columns have to go into whole blocks, or the circle would not close.
    """
    if grid.gaussian and not card.grid.gaussian:
        return None  # means of Gaussian latitudes are not equally spaced either
    low, high = spacing_range(card.grid.spacing)
    middle = math.sqrt(low * high)
    sizes = (grid.latitude.size, grid.longitude.size)
    able = []
    for axis, (step, size) in enumerate(zip(grid.spacing, sizes, strict=True)):
        closed = axis == 1 and grid.is_global
        counts = range(max(1, math.ceil(low / step)), int(high / step) + 1)
        able.append(
            [
                n
                for n in counts
                if size // n >= card.grid.patch[axis] and not (closed and size % n)
            ]
        )

    def unfit(pair: tuple[int, int]) -> float:
        rows, columns = (n * x for n, x in zip(pair, grid.spacing, strict=True))
        off = abs(math.log(rows / middle)) + abs(math.log(columns / middle))
        return off + 2 * abs(math.log(rows / columns))  # square blocks if possible

    pairs = [(rows, columns) for rows in able[0] for columns in able[1]]
    return min(pairs, key=unfit, default=None)


def _target(grid: Grid, card: Card) -> tuple[int, int] | None:
    """Points of a grid in range that covers what the data do; None if too few."""
    low, high = spacing_range(card.grid.spacing)
    extents = [abs(float(x[-1] - x[0])) for x in (grid.latitude, grid.longitude)]
    counts = []
    for axis, extent in enumerate(extents):
        closed = axis == 1 and grid.is_global
        # A circle has as many steps as points, a line one step less.
        length, extra = (360.0, 0) if closed else (extent, 1)
        wanted = round(length / math.sqrt(low * high)) + extra
        most = math.floor(length / card.grid.spacing[0]) + extra
        count = min(max(wanted, card.grid.patch[axis]), most)
        step = length / max(count - extra, 1)
        if count < card.grid.patch[axis] or not low <= step <= high:
            return None
        counts.append(count)
    return counts[0], counts[1]


def _regrid(grid: Grid, axes: Axes, card: Card) -> str:
    """The statements that regrid to a spacing in range, within what the data cover."""
    counts = _target(grid, card)
    if counts is None:
        return "select a larger region"
    north, south = float(grid.latitude[0]), float(grid.latitude[-1])
    west, east = float(grid.longitude[0]), float(grid.longitude[-1])
    if grid.is_global:
        east = west + 360.0 - 360.0 / counts[1]
    elif _sorted_user(grid):
        west, east = (float(f(grid.user_longitude)) for f in (np.min, np.max))
    first, last = (south, north) if grid.lat_flipped else (north, south)
    rows = _line(first, last, counts[0])
    columns = _line(west, east, counts[1])
    return regrid_call(grid, axes, (rows, columns), counts)


def _line(first: float, last: float, count: int) -> str:
    """Equal steps between ends that are short to write and never beyond the data."""
    up, down = math.ceil, math.floor
    inward = (up, down) if first < last else (down, up)
    # What is not short already has the noise of binary fractions: one digit inward.
    start, stop = (
        x if x == round(x, 4) else r(x * 1e4) / 1e4
        for r, x in zip(inward, (first, last), strict=True)
    )
    return f"np.linspace({start:.8g}, {stop:.8g}, {count})"


def _method(grid: Grid, counts: tuple[int, int]) -> str:
    """Means over areas where the grid becomes coarser; lines between points else."""
    sizes = (grid.latitude.size, grid.longitude.size)
    coarser = all(n <= m for n, m in zip(counts, sizes, strict=True))
    return "conservative" if coarser else "linear"


def _in_order(grid: Grid) -> str:
    """``ds``, with longitudes that run on without a jump: blocks must not span one."""
    if _sorted_user(grid):
        return "ds"
    name = grid.names[1]
    circle = np.sort(np.mod(grid.user_longitude, 360.0))
    jump = np.diff(circle).max(initial=0.0) > 1.5 * grid.spacing[1]
    turned = f"(ds[{name!r}] + 180) % 360 - 180" if jump else f"ds[{name!r}] % 360"
    return f"ds.assign_coords({{{name!r}: {turned}}}).sortby({name!r})"


def _sorted_user(grid: Grid) -> bool:
    steps = np.diff(np.asarray(grid.user_longitude, dtype=float))
    return bool((steps > 0).all() or (steps < 0).all()) and bool(
        np.abs(steps).max() < 1.5 * grid.spacing[1]
    )


def _already(grid: Grid, card: Card, factor: int) -> str | None:
    """Say that there is nothing to refine, if the data are as fine as results are."""
    if max(grid.spacing) > spacing_range(card.grid.spacing)[1] / factor:
        return None
    return f"The grid is as fine already as what {card.name} makes of a coarse one."


def _other(grid: Grid, card: Card) -> str | None:
    """A model that reads the same on such grids, and does one of the same things."""
    able = [
        other
        for other in list_models()
        if other.name != card.name
        and other.inputs == card.inputs
        and other.fields == card.fields
        and set(other.capabilities) & set(card.capabilities)
        and fits(grid, other)
    ]
    if not able:
        return None
    best = max(able, key=lambda other: other.default)
    return f"model={best.name!r}, which reads this grid"


def _degrees(grid: Grid) -> str:
    lat, lon = grid.spacing
    return f"{lat:g} x {lon:g}°"
