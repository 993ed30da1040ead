"""Labels of attention: fields, levels, times and places that ask and are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xatmo.attention_maps.choice import Choice
from xatmo.boxes import Boxes, Channel
from xatmo.boxes.query import Query
from xatmo.engine import Domain
from xatmo.fields.orientation import with_user_axes

__all__ = [
    "LABELS",
    "OFFSET",
    "SPACE",
    "Layout",
    "in_user_form",
    "labelled",
    "layout_of",
    "names_of",
    "placed",
]

SPACE = ("latitude", "longitude")
OFFSET = "time_offset"
LABELS = {
    "field_from": "field that asks",
    "level_from": "level that asks",
    "field_to": "field that is attended to",
    "source": "part of the network that is attended to",
    "level_to": "level that is attended to",
    "layer": "number of the layer, from 1",
    "head": "number of the head, from 1",
}
_SINCE = "last time of a token, since the last one of the box"


@dataclass(frozen=True, eq=False)
class Layout:
    """Where what the network returns has its place among labels.

    Parameters
    ----------
    fields, levels : tuple of str
        That ask.
    sources, levels_to : tuple of str
        That are asked: fields, or parts of a network.
    single : bool
        Whether there is a single level in all.
    pairs : ndarray of int, shape (6, P)
        Row and column of the network's result, and the four labels of each.
    """

    fields: tuple[str, ...]
    levels: tuple[str, ...]
    sources: tuple[str, ...]
    levels_to: tuple[str, ...]
    single: bool
    pairs: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Sizes of the four labels."""
        several = (self.fields, self.levels, self.sources, self.levels_to)
        one, two, three, four = map(len, several)
        return one, two, three, four


def layout_of(boxes: Boxes, query: Query, part: str) -> Layout:
    """Arrange fields and levels that ask, and those that are asked."""
    fields = names_of(query.asking)
    asking = [c for c in boxes.channels if c.held.field.name in fields]
    asked = list(boxes.channels) if part == "encoder" else asking
    sources = names_of(asked) if part == "encoder" else ("decoder", "encoder")
    levels, levels_to = _levels(query.asking), _levels(asked)
    pairs = []
    for row, one in enumerate(asking):
        if one not in query.asking:
            continue
        name = one.held.field.name
        at = fields.index(name), levels.index(one.held.level.level)
        for column, other in enumerate(boxes.channels):
            own, to = other.held.field.name, other.held.level.level
            if part == "encoder":
                found = (sources.index(own), levels_to.index(to))
                pairs.append((row, column, *at, *found))
            elif own == name:
                again = (column, column + len(boxes.channels))
                to_ = levels_to.index(to)
                pairs += [(row, k, *at, s, to_) for s, k in enumerate(again)]
    single = len(_levels(boxes.channels)) == 1
    return Layout(fields, levels, sources, levels_to, single, np.array(pairs).T)


def labelled(
    result: xr.DataArray,
    layout: Layout,
    names: Sequence[str],
    choice: Choice,
    query: Query,
) -> xr.DataArray:
    """Name fields, levels, layers and heads; what there is one of is no dimension."""
    several = (layout.fields, layout.levels, layout.sources, layout.levels_to)
    said = dict(zip(names, map(list, several), strict=True))
    result = result.assign_coords(said | choice.labels)
    one = [name for name, single in choice.single.items() if single]
    one += ["level_from", "level_to"] if layout.single else []
    one += ["field_from"] if query.field is not None else []
    one += ["level_from"] if query.level is not None and not layout.single else []
    result = result.isel(dict.fromkeys(one, 0))
    result = result.drop_vars([n for n in choice.gone if n in result.coords])
    for name, text in LABELS.items():
        if name in result.coords:
            result[name].attrs = {"long_name": text}
    return result


def placed(
    result: xr.DataArray,
    boxes: Boxes,
    domain: Domain,
    cells: tuple[int, int, int],
    query: Query,
) -> xr.DataArray:
    """Say when and where tokens are, and the query is."""
    length, *sizes = domain.box
    last = (1 + np.arange(cells[0])) * (length // cells[0]) - length
    axes = (domain.latitude, domain.longitude)
    centres = [
        _extended(axis, size).reshape(count, -1).mean(1)
        for axis, size, count in zip(axes, sizes, cells[1:], strict=True)
    ]
    coords: dict[str, Any] = {
        dim: (dim, x) for dim, x in zip(SPACE, centres, strict=True)
    }
    coords[OFFSET] = (OFFSET, _delta(last * boxes.step), {"long_name": _SINCE})
    return result.assign_coords(coords | _of_query(query, boxes))


def _of_query(query: Query, boxes: Boxes) -> dict[str, Any]:
    """Say when and where the query is: the point of the grid."""
    grid = boxes.grid
    latitude = float(grid.latitude[query.row])
    longitude = float(grid.user_longitude[grid.lon_order[query.column]])
    back = _delta(-query.back * boxes.step)

    def about(what: str, **units: str) -> dict[str, str]:
        return {"long_name": f"{what} of the query", **units}

    return {
        "query_latitude": ((), latitude, about("latitude", units="degrees_north")),
        "query_longitude": ((), longitude, about("longitude", units="degrees_east")),
        "query_time_offset": ((), back, about("time offset")),
    }


def in_user_form(result: xr.DataArray, boxes: Boxes, query: Query) -> xr.DataArray:
    """Turn latitudes and longitudes as the user's, with the query in its range."""
    grid = boxes.grid
    if grid.lat_flipped:
        result = result.isel(latitude=slice(None, None, -1))
    if np.median(np.diff(grid.user_longitude)) < 0:
        result = result.isel(longitude=slice(None, None, -1))
    own = float(result["query_longitude"])
    turns = round((own - float(grid.longitude[query.column])) / 360.0)
    x = result["longitude"].values + 360.0 * turns
    coords = {"latitude": result["latitude"].values, "longitude": x}
    return with_user_axes(result, coords, grid)


def _extended(axis: np.ndarray, size: int) -> np.ndarray:
    """Go on in equal steps, where a domain is smaller than a box."""
    more = np.arange(1, size - axis.size + 1)
    return np.concatenate([axis, axis[-1] + more * (axis[-1] - axis[-2])])


def _delta(hours: Any) -> Any:
    seconds = np.round(np.asarray(hours, float) * 3600)
    return seconds.astype("timedelta64[s]").astype("timedelta64[ns]")


def names_of(channels: Sequence[Channel]) -> tuple[str, ...]:
    """Fields of some channels, by the network's names."""
    return tuple(dict.fromkeys(c.held.field.name for c in channels))


def _levels(channels: Sequence[Channel]) -> tuple[str, ...]:
    """Levels in the network's order; some may share a slot in different fields."""
    by_slot = sorted(channels, key=lambda c: c.held.level.slot)
    return tuple(dict.fromkeys(c.held.level.level for c in by_slot))
