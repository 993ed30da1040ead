"""How much each variable counts, in networks that make one token of all at a place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from xatmo.boxes.query import read_point
from xatmo.errors import FieldError, OptionError, TimeAxisError
from xatmo.fields import cell_coordinates, reorder
from xatmo.fieldsets.reading import FieldSet, read_fieldset
from xatmo.provenance import sign
from xatmo.zoo import Card, Model

__all__ = ["attend_fieldset"]

VARIABLE, HEAD = "variable", "head"


def attend_fieldset(
    obj: Any,
    model: Model,
    *,
    layer: Any,
    head: Any,
    query: Any,
    part: str,
    time: Any,
    level: Any,
    history: str,
) -> xr.DataArray:
    """Map how much each variable counts; called by :func:`xatmo.attention`.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
    model : Model
        One with ``[leads]`` in its card.
    layer, part
        As they are if not given: such networks have one place alone where variables are
        weighed.
    head : int or str, optional
        One head, counted from 1; ``"all"`` gives each. The mean if not given.
    query : tuple or mapping, optional
        Latitude and longitude in degrees, of which the nearest patch is taken; all
        patches if not given.
    time : str, datetime, slice or list, optional
        Some of the times, as in ``ds.sel(time=...)``.
    level : str, number or list, optional
        Only these levels.
    history : str
        Of the input.

    Returns
    -------
    DataArray
        ``(..., latitude, longitude, variable)`` at the centres of patches, and ``head``
        at the end if all are asked for; of sum 1 over ``variable``. Variables in the
        user's order and by the user's names, with the level where they have several.
        Lazy if the input is.

    Raises
    ------
    xatmo.errors.AtmoError
        As :func:`xatmo.fieldsets.read_fieldset`.
    xatmo.errors.OptionError
        If there is no such layer, part or head, or the query is outside the domain.
    xatmo.errors.TimeAxisError
        If there is no such time.
    """
    _check_default(model.card, layer, part)
    number = _head(head, model.card)
    data = read_fieldset(obj, model, level=level)
    _check_names(data)
    result = _run(_at_times(data, time))
    result = result.mean(HEAD) if number is None else result.isel({HEAD: number})
    dtype = np.result_type(*(channel.dtype for channel in data.channels))
    result = data.placed(result.astype(dtype, copy=False))
    if query is not None:
        result = _nearest(result, query, data)
    said = {"layer": layer, "head": head, "query": query, "part": part, "time": time}
    return sign(
        result.rename("attention"),
        verb="attention",
        card=data.card,
        arguments={**said, "level": level},
        attrs={
            "long_name": "attention to a variable: its share in what is made of all",
            "units": "1",
            "averaged_over": "heads" if number is None else "nothing",
            **data.about,
        },
        notes=data.notes,
        history=history,
    )


def _run(data: FieldSet) -> xr.DataArray:
    """(..., latitude, longitude, head, variable) in canonical orientation."""
    card = data.card
    latitude, longitude = cell_coordinates(data.grid, card.grid.stride)
    labels, heads = _labels(data), np.arange(_heads(card)) + 1
    out = {
        "latitude": len(latitude),
        "longitude": len(longitude),
        HEAD: len(heads),
        VARIABLE: len(labels),
    }
    result = data.run("variable_maps", data.arrays, out)
    values = (latitude, longitude, heads, labels)
    result = result.assign_coords(dict(zip(out, values, strict=True)))
    result = reorder(result, VARIABLE, _users_order(data))
    return result.transpose(..., VARIABLE, HEAD)


def _labels(data: FieldSet) -> list[str]:
    """Names of the user's variables, with the level where there are several."""
    held = [channel.held for channel in data.channels]
    return [
        f"{h.variable} {h.level.level}" if len(h.found.levels) > 1 else h.variable
        for h in held
    ]


def _users_order(data: FieldSet) -> np.ndarray:
    """Numbers of the channels as the user has them: by variable, then by level."""
    held = [channel.held for channel in data.channels]
    names = [*map(str, data.dataset.data_vars), *(h.variable for h in held)]
    keys = [(names.index(h.variable), h.position) for h in held]
    return np.array(sorted(range(len(held)), key=keys.__getitem__))


# --- What is asked for ----------------------------------------------------------------


def _heads(card: Card) -> int:
    return int(card.network.get("heads", 16))  # as ClimaX has it


def _head(asked: Any, card: Card) -> int | list[int] | None:
    """Which head, counted from 0; a list of all; None for the mean."""
    if asked is None:
        return None
    count = _heads(card)
    if isinstance(asked, str) and asked == "all":
        return list(range(count))
    whole = isinstance(asked, int | np.integer) and not isinstance(asked, bool)
    if whole and 1 <= asked <= count:
        return int(asked) - 1
    msg = f"{card.name} has no head {asked!r} that weighs variables."
    raise OptionError(
        msg,
        found=f"head={asked!r}",
        needed=f"1 to {count}; 'all' for each, None for their mean",
        hint=f"head={count}",
    )


def _check_default(card: Card, layer: Any, part: str) -> None:
    """Refuse layers and parts: variables are weighed once, before all layers."""
    if layer is None and part == "encoder":
        return
    name, value = ("part", part) if layer is None else ("layer", layer)
    msg = f"{card.name} weighs variables once, before any layer."
    raise OptionError(
        msg,
        found=f"{name}={value!r}",
        needed="no layer and no part: how places attend to each other is not shown",
        hint=f"leave {name} out, or model='multiformer-small' for layers and parts",
    )


def _check_names(data: FieldSet) -> None:
    """Refuse dimensions that are called as those of the result."""
    dims = list(map(str, data.arrays[0].dims))
    taken = [name for name in dims if name in (VARIABLE, HEAD)]
    if taken:
        name = taken[0]
        msg = f"The data have a dimension of a name that is needed: {name!r}."
        needed = f"{name!r} for what the network attends to"
        found, hint = f"dimensions {', '.join(dims)}", f'ds.rename({name}="{name}_")'
        raise FieldError(msg, found=found, needed=needed, hint=hint)


def _at_times(data: FieldSet, time: Any) -> FieldSet:
    """Keep some of the times; a single one is no dimension."""
    if time is None:
        return data
    index = None if data.times is None else data.times.index
    if index is None:
        msg, needed = "The data do not say their times.", "dates along time"
        hint = "leave time out, or ds.assign_coords(time=...)"
        raise TimeAxisError(msg, found=f"time={time!r}", needed=needed, hint=hint)
    numbers = xr.DataArray(np.arange(len(index)), {"time": index}, "time")
    try:
        chosen = numbers.sel(time=time).values
    except (KeyError, TypeError, ValueError, IndexError):
        chosen = np.zeros(0, int)
    if chosen.size == 0:
        msg = f"There is no time={time!r}."
        found = f"{len(index)} times, from {index.min()} to {index.max()}"
        hint = f'time="{index[-1]:%Y-%m-%dT%H:%M}"'
        raise TimeAxisError(msg, found=found, needed="some of these", hint=hint)
    if data.timeless:
        return data
    kept = tuple(da.isel({data.time: chosen}) for da in data.arrays)
    return replace(data, arrays=kept)


def _nearest(result: xr.DataArray, query: Any, data: FieldSet) -> xr.DataArray:
    """Take the patch around the point that is asked for."""
    point = dict(zip(data.grid.names, read_point(query, data.grid), strict=True))
    lat, lon = data.grid.names
    down = np.abs(result[lat].values - point[lat])
    across = np.abs((result[lon].values - point[lon] + 180) % 360 - 180)
    return result.isel({lat: int(down.argmin()), lon: int(across.argmin())})
