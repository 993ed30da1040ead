"""Where a question to a network of boxes is asked, by what, and the box around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xatmo.boxes.channels import Channel
from xatmo.boxes.reading import Boxes
from xatmo.boxes.times import card_step
from xatmo.errors import OptionError
from xatmo.fields import Grid, Level
from xatmo.fields.levels import describe_levels
from xatmo.lags import as_hours

__all__ = ["Query", "around", "read_point", "read_query"]

_KEYS = ("latitude", "longitude", "field", "level", "time_offset")


@dataclass(frozen=True)
class Query:
    """A point of the grid, and which fields and levels ask there.

    Parameters
    ----------
    row, column : int
        Of the grid in canonical orientation.
    back : int
        How many steps before the last time of a box.
    asking : tuple of Channel
        In the network's order.
    field, level : str or None
        By the network's name, and as the card has it; None if all ask.
    """

    row: int
    column: int
    back: int
    asking: tuple[Channel, ...]
    field: str | None
    level: str | None


def read_query(query: Any, boxes: Boxes, able: Sequence[Channel]) -> Query:
    """Read what a user says of the place that asks.

    Parameters
    ----------
    query : None, tuple of float, or mapping
        Latitude and longitude; or some of ``latitude``, ``longitude``, ``field``,
        ``level`` and ``time_offset``. The middle of the domain, all fields and levels
        and the last time where it is silent.
    boxes : Boxes
    able : sequence of Channel
        Those that can ask.

    Raises
    ------
    xatmo.errors.OptionError
        If it cannot be read, or asks for what is not there.
    """
    said = _as_mapping(query)
    domain = boxes.domain()
    row, column = _place(said, boxes.grid)
    asking = able
    field = level = None
    if said.get("field") is not None:
        field, asking = _of_field(said["field"], asking)
    if said.get("level") is not None:
        level, asking = _at_level(said["level"], asking)
    back = _steps_back(said.get("time_offset"), boxes, domain.box[0])
    return Query(row, column, back, tuple(asking), field, level)


def read_point(query: Any, grid: Grid) -> tuple[float, float]:
    """Return latitude and longitude of the grid point that is nearest to a query.

    Parameters
    ----------
    query : tuple of float, or mapping
        Latitude and longitude, both of them, and nothing else.
    grid : Grid

    Raises
    ------
    xatmo.errors.OptionError
        If it cannot be read, or is outside the domain.
    """
    said = _as_mapping(query)
    if set(said) != set(_KEYS[:2]):
        msg = "A query of this model is a place, and no more."
        needed, hint = "latitude and longitude in degrees", "query=(50.0, 10.0)"
        raise OptionError(msg, found=f"query={query!r}", needed=needed, hint=hint)
    row, column = _place(said, grid)
    return float(grid.latitude[row]), float(grid.longitude[column])


def around(
    index: int, count: int, size: int, token: int, periodic: bool = False
) -> np.ndarray:
    """Return the points of a box that has one of them in the middle of its tokens.

    Parameters
    ----------
    index, count : int
        The point, and how many there are along the axis.
    size, token : int
        Points of a box and of a token.
    periodic : bool
        Go around; else a box at an end is moved inward.

    Returns
    -------
    ndarray of int
        Ascending; on a circle they may be negative, or beyond its end. Fewer than
        ``size`` if there are no more.

    Examples
    --------
    >>> around(10, 40, 12, 4).tolist()
    [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    >>> around(1, 40, 6, 2).tolist()
    [0, 1, 2, 3, 4, 5]
    >>> around(1, 40, 6, 2, periodic=True).tolist()
    [-2, -1, 0, 1, 2, 3]
    """
    first = index - (size // token // 2) * token - token // 2
    if not periodic or count < size:
        first = min(max(first, 0), max(count - size, 0))
        size = min(size, count)
    return np.arange(first, first + size)


def _as_mapping(query: Any) -> dict[str, Any]:
    if query is None:
        return {}
    if isinstance(query, Mapping):
        strange = [key for key in query if key not in _KEYS]
        if strange:
            raise _unreadable(query, f"{strange[0]!r} is no part of a query")
        return dict(query)
    pair = query if isinstance(query, tuple | list | np.ndarray) else ()
    if np.ndim(pair) != 1 or len(pair) != 2:
        raise _unreadable(query, "two numbers were expected")
    return {"latitude": pair[0], "longitude": pair[1]}


def _place(said: Mapping[str, Any], grid: Grid) -> tuple[int, int]:
    """Row and column of the point that is nearest, within half a step."""
    row, column = grid.latitude.size // 2, grid.longitude.size // 2
    for name, axis, step in (
        ("latitude", grid.latitude, grid.spacing[0]),
        ("longitude", grid.longitude, grid.spacing[1]),
    ):
        if said.get(name) is None:
            continue
        away = np.abs(axis - _number(said, name))
        if name == "longitude":
            away = np.abs((axis - _number(said, name) + 180) % 360 - 180)
        nearest = int(away.argmin())
        # A little more than half: the steps of Gaussian grids differ.
        if not away[nearest] <= 0.55 * step:
            raise _outside(said, name, grid)
        row, column = (nearest, column) if name == "latitude" else (row, nearest)
    return row, column


def _number(said: Mapping[str, Any], name: str) -> float:
    value = said[name]
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise _unreadable(dict(said), f"{name} is {value!r}")
    return number


def _of_field(
    name: Any, channels: Sequence[Channel]
) -> tuple[str, tuple[Channel, ...]]:
    """Fields by the network's name, the standard name, or the user's."""
    for key in ("name", "quantity", "variable"):
        for channel in channels:
            held = channel.held
            known = held.variable if key == "variable" else getattr(held.field, key)
            if known == name:
                own = held.field.name
                chosen = (c for c in channels if c.held.field.name == own)
                return own, tuple(chosen)
    names = list(dict.fromkeys(c.held.field.name for c in channels))
    msg = f"There is no field {name!r} that could ask."
    raise OptionError(
        msg,
        found=f'query={{"field": {name!r}}}',
        needed=f"one of {', '.join(names)}",
        hint=f'query={{"field": "{names[0]}"}}',
    )


def _at_level(
    level: Any, channels: Sequence[Channel]
) -> tuple[str, tuple[Channel, ...]]:
    wanted = Level.parse(level.item() if isinstance(level, np.generic) else level)
    chosen = tuple(c for c in channels if c.held.asked == wanted)
    if chosen:
        return chosen[0].held.level.level, chosen
    known = list(dict.fromkeys(c.held.asked for c in channels))
    msg = f"There is no {wanted} that could ask."
    raise OptionError(
        msg,
        found=f'query={{"level": {level!r}}}',
        needed=f"one of {describe_levels(known, 12)}",
        hint=f'query={{"level": "{known[0]}"}}',
    )


def _steps_back(offset: Any, boxes: Boxes, length: int) -> int:
    """How many steps before the last time."""
    if offset is None:
        return 0
    try:
        steps = -as_hours(offset) / boxes.step
    except OptionError:
        steps = np.nan
    if abs(steps - np.round(steps)) < 1e-6 and 0 <= round(steps) < length:
        return round(steps)
    step = card_step(boxes.card)
    msg = f"A query cannot be asked at the offset {offset!r} in time."
    raise OptionError(
        msg,
        found=f'query={{"time_offset": {offset!r}}}',
        needed=f"a multiple of {step} from -{(length - 1) * boxes.step:g}h to 0h: the "
        f"times of a box of {boxes.card.name}, before its last one",
        hint=f'query={{"time_offset": "-{step}"}}',
    )


def _unreadable(query: Any, why: str) -> OptionError:
    msg = "The query cannot be read."
    return OptionError(
        msg,
        found=f"query={query!r}: {why}",
        needed=f"latitude and longitude in degrees, or some of {', '.join(_KEYS)}",
        hint='query=(50.0, 10.0), or query={"latitude": 50.0, "longitude": 10.0, '
        '"field": "u"}',
    )


def _outside(said: Mapping[str, Any], name: str, grid: Grid) -> OptionError:
    axis = grid.latitude[::-1] if name == "latitude" else grid.longitude
    middle = float(axis[axis.size // 2])
    msg = "The query is outside the domain."
    return OptionError(
        msg,
        found=f"{name} {_number(said, name):g}",
        needed=f"{name} from {axis[0]:g} to {axis[-1]:g}",
        hint=f'query={{"{name}": {middle:g}, ...}}, or select a larger region',
    )
