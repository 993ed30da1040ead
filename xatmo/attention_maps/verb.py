"""attention(): what a network looks at, in space, in time and of fields."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from xatmo.attention_maps.choice import Choice, read_choice
from xatmo.attention_maps.layout import (
    LABELS,
    OFFSET,
    SPACE,
    Layout,
    in_user_form,
    labelled,
    layout_of,
    names_of,
    placed,
)
from xatmo.boxes import Boxes, card_step, read_boxes
from xatmo.boxes.query import Query, around, read_query
from xatmo.embedding import history_of
from xatmo.engine import Domain, Windows, over_windows
from xatmo.engine.boxes import ask, running
from xatmo.errors import (
    FieldError,
    ModelNotFoundError,
    OptionError,
    TimeAxisError,
)
from xatmo.fields import reorder
from xatmo.fieldsets import attend_fieldset
from xatmo.provenance import sign
from xatmo.zoo import Card, Model, list_models, load_model

__all__ = ["attention"]


def attention(
    obj: xr.Dataset | xr.DataArray | xr.DataTree,
    model: str | Model | None = None,
    *,
    layer: int | str | None = None,
    head: int | str | None = None,
    query: Any = None,
    part: str = "encoder",
    time: Any = None,
    level: Any = None,
) -> xr.DataArray:
    """Map what a network attends to when it describes a place.

    A network of boxes cuts the times and the neighbourhood of a place into tokens, and
    each of them takes what it needs to know from the others: here is how much from
    which, where and when, of its own field and of those that this is coupled with.

    A network that is told how far ahead to look, such as ClimaX, makes one token of all
    variables at a place: here is the share of each of them.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
        Holds some of the fields that the model reads (see ``xatmo.load_model()``), in
        names and units of the common sources, in the model's time step. Eager or lazy,
        in any chunks; only the neighbourhood of the place is read. For ClimaX as for
        its forecasts.
    model : str or Model, optional
        The default model for attention if not given.
    layer : int or str, optional
        One layer, counted from 1 in the order of computation: ``2`` or ``"encoder2"``;
        ``"all"`` gives each. The mean over layers if not given.
    head : int or str, optional
        One head of attention, counted from 1; ``"all"`` gives each. A field may have
        fewer heads on others than on itself: NaN beyond these. The mean over heads if
        not given. ClimaX weighs variables once: it has heads, but no layers and parts.
    query : tuple or mapping, optional
        The place that asks: ``(latitude, longitude)`` in degrees, or a mapping of
        these, of ``"field"`` and ``"level"`` (all if not given) and ``"time_offset"``
        such as ``"-6h"`` (the last time of a box if not given). The middle of the
        domain if not given. For ClimaX a latitude and a longitude, of which the nearest
        patch is taken; all patches if not given.
    part : {"encoder", "decoder"}, optional
        Encoders attend to their own field and to those that they are coupled with;
        decoders to themselves and to the encoder of the same field.
    time : str, datetime, slice or list, optional
        Times that boxes end with, as in ``ds.sel(time=...)``; all whose history is
        there if not given.
    level : str, number or list, optional
        Which levels to use: ``"10 m"``, ``[850, 500]`` (hPa); all that both the data
        and the model have if not given.

    Returns
    -------
    DataArray
        ``(time, field_from, level_from, field_to, level_to, time_offset, latitude,
        longitude)``, and ``layer`` and ``head`` at the end if all are asked for:
        probabilities, of sum 1 over the tokens of one field (over ``level_to``,
        ``time_offset``, ``latitude`` and ``longitude``). Of decoders ``source``
        (``"decoder"``, ``"encoder"``) stands in place of ``field_to``. NaN where fields
        are not coupled, or have no such level. What there is one of by the nature of
        the question is no dimension: levels if there is a single one, a field or level
        that is named in ``query``, a layer, a head. ``time_offset`` is the last time of
        a token before that of the box; latitudes and longitudes, in the user's names
        and orientation, are the centres of tokens, longitudes without a jump. Fields
        are called as the network does. Lazy if the input is.

        From ClimaX ``(..., latitude, longitude, variable)`` at the centres of patches,
        and ``head`` at the end if all are asked for, of sum 1 over ``variable``: the
        user's variables by name, with the level where one has several
        (``"u 850 hPa"``).

    Raises
    ------
    xatmo.errors.ModelNotFoundError
        If the model has no attention that could be shown.
    xatmo.errors.OptionError
        If there is no such layer, head, field or level, or the query is outside the
        domain.
    xatmo.errors.TimeAxisError
        If the time step is another one, or there are too few times.
    xatmo.errors.FieldNotFoundError, xatmo.errors.LevelError, xatmo.errors.GridError
        If none of the model's fields can be read from ``obj``.

    Notes
    -----
    The box lies so that the place is in the middle of its middle token: with an even
    number of tokens half a token off its own middle. At the edge of a region, and at
    the poles, it is moved inward; global longitudes close on themselves. Where fields
    have tokens of different sizes a larger one is shared out evenly over the cells of
    the map, so that sums stay the same.

    Attention says where a layer takes numbers from, not what a result is due to: later
    layers mix what earlier ones have mixed. The share of a variable does not say how
    much a forecast would lose without it.

    References
    ----------
    Lessig, C. et al. (2023): AtmoRep: A stochastic model of atmosphere dynamics using
    large scale representation learning. https://arxiv.org/abs/2308.13280

    Nguyen, T. et al. (2023): ClimaX: A foundation model for weather and climate.
    https://arxiv.org/abs/2301.10343

    Examples
    --------
    >>> import xatmo
    >>> ds = xatmo.open_sample()[["u", "v"]].isel(time=slice(6))
    >>> a = ds.atmo.attention(query=(50.0, 10.0))
    >>> dict(a.sizes)
    {'time': 1, 'field_from': 2, 'field_to': 2, 'time_offset': 3, 'lat': 4, 'lon': 4}
    >>> a.sum(["time_offset", "lat", "lon"]).round(3).values.ravel().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    found = load_model(model, capability="attention")
    said = {"layer": layer, "head": head, "query": query, "part": part, "time": time}
    if found.card.leads is not None:
        return attend_fieldset(obj, found, **said, level=level, history=history_of(obj))
    if found.card.box is None:
        raise _no_way(found.card)
    choice = read_choice(found.card, part, layer, head)
    boxes = read_boxes(obj, found, level=level)
    _check_names(boxes)
    able = [c for c in boxes.channels if c.predicted or part == "encoder"]
    if not able:
        raise _no_decoder(boxes)
    asked = read_query(query, boxes, able)
    chosen = _chosen(_starts(boxes), boxes, time)
    layout = layout_of(boxes, asked, part)
    result = _run(boxes, asked, choice, layout, np.atleast_1d(chosen))
    if boxes.timeless or chosen.ndim == 0:
        result = result.isel({boxes.time: 0}, drop=boxes.timeless)
    dtype = np.result_type(*(channel.dtype for channel in boxes.channels))
    return sign(
        result.astype(dtype, copy=False).rename("attention"),
        verb="attention",
        card=boxes.card,
        arguments={**said, "level": level},
        attrs={
            "long_name": f"attention of the {part}: probability of a token",
            "units": "1",
            **choice.averaged,
            **boxes.about,
        },
        notes=boxes.notes,
        history=history_of(obj),
    )


@dataclass(frozen=True, eq=False)
class _Maps:
    """Fills maps of windows: (fields, levels, sources, levels, T, Y, X, L, H)."""

    domain: Domain
    kwargs: dict[str, Any]
    plain: tuple[int, ...]  # as the network has it: (A, K, L, H, T, Y, X)
    labels: tuple[int, ...]
    pairs: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.labels, *self.plain[4:], *self.plain[2:4])

    def __call__(self, windows: Windows, when: np.ndarray, out: np.ndarray) -> None:
        found = np.empty((len(windows), *self.plain), np.float32)
        with running(self.domain) as model:
            asked = ("attention_maps", self.kwargs, found, model)
            ask(self.domain, windows, when, *asked)
        found = np.moveaxis(found, (3, 4), (-2, -1))  # (N, A, K, T, Y, X, L, H)
        row, column, *at = self.pairs
        out[:] = np.nan
        out[:, *at] = found[:, row, column]


def _run(
    boxes: Boxes, query: Query, choice: Choice, layout: Layout, start: np.ndarray
) -> xr.DataArray:
    """Compute the maps, with their labels, in the user's orientation."""
    data, domain, place = _cropped(boxes, query)
    length = domain.box[0]
    cells = _cells(boxes)
    columns = len(boxes.channels) * (2 if choice.part == "decoder" else 1)
    rows = [c for c in boxes.channels if c.held.field.name in layout.fields]
    kwargs = {
        "query": (length - 1 - query.back, *place),
        "cells": cells,
        "fields": layout.fields,
        **choice.kwargs,
    }
    plain = (len(rows), columns, *choice.shape, *cells)
    job = _Maps(domain, kwargs, plain, layout.shape, layout.pairs)
    offsets = range(1 - length, 1)
    index = boxes.times.windows(offsets, boxes.step)[start]
    when = boxes.times.when(offsets, boxes.step)[start]
    values = over_windows(data.data, index, when, job, job.shape)
    source = "field_to" if choice.part == "encoder" else "source"
    labels = ("field_from", "level_from", source, "level_to")
    dims = (boxes.time, *boxes.batch, *labels, OFFSET, *SPACE, "layer", "head")
    result = xr.DataArray(values, dims=dims, coords=boxes.labels(start))
    result = labelled(result, layout, labels, choice, query)
    return in_user_form(placed(result, boxes, domain, cells, query), boxes, query)


def _cropped(
    boxes: Boxes, query: Query
) -> tuple[xr.DataArray, Domain, tuple[int, int]]:
    """The box around the query: its data, and where the query is in it."""
    domain, grid = boxes.domain(), boxes.grid
    (ny, nx), (_, height, width) = domain.shape, domain.box
    rows = around(query.row, ny, height, domain.token[0])
    columns = around(query.column, nx, width, domain.token[1], domain.periodic)
    data = boxes.data.isel(latitude=slice(rows[0], rows[-1] + 1))
    data = reorder(data, "longitude", columns % nx)
    turns, wrapped = np.divmod(columns, nx)
    domain = replace(
        domain,
        latitude=grid.latitude[rows],
        longitude=grid.longitude[wrapped] + 360.0 * turns,
        periodic=False,
    )
    return data, domain, (query.row - int(rows[0]), query.column - int(columns[0]))


def _cells(boxes: Boxes) -> tuple[int, int, int]:
    """Cells of the maps: so many that each token is made of whole ones."""
    tables = {f["name"]: f for f in boxes.card.network["fields"]}
    tokens = [tables[name]["tokens"] for name, _ in boxes.present]
    t, y, x = (math.lcm(*several) for several in zip(*tokens, strict=True))
    return t, y, x


# --- Times ----------------------------------------------------------------------------


def _starts(boxes: Boxes) -> np.ndarray:
    """Numbers of the times whose history is there: those early enough are not."""
    length = boxes.domain().box[0]
    positions = boxes.times.positions(boxes.step)
    assert positions is not None  # noqa: S101 - so read_boxes has found
    start = np.flatnonzero(positions >= length - 1)
    if start.size:
        return start
    name, card = boxes.times.name, boxes.card
    msg = f"There are too few times for a box of {card.name}."
    raise TimeAxisError(
        msg,
        found=f"{len(boxes.times)} of them along {name!r}",
        needed=f"{length} of them, every {card_step(card)}",
        hint="open more times before: xr.open_mfdataset([...])",
    )


def _chosen(start: np.ndarray, boxes: Boxes, time: Any) -> np.ndarray:
    """Those of the times that are asked for; without a dimension for a single one."""
    if time is None:
        return start
    index = boxes.times.index[start]
    numbers = xr.DataArray(start, dims="time", coords={"time": index})
    try:
        chosen = numbers.sel(time=time).values
    except (KeyError, TypeError, ValueError, IndexError):
        chosen = np.zeros(0, int)
    if chosen.size:
        return np.asarray(chosen)
    msg = f"No box ends at time={time!r}."
    raise TimeAxisError(
        msg,
        found=f"{len(boxes.times)} times along {boxes.times.name!r}, from "
        f"{boxes.times.index[0]} to {boxes.times.index[-1]}",
        needed=f"some of those from {index[0]} to {index[-1]}: a box reaches "
        f"{boxes.domain().box[0] - 1} steps of {card_step(boxes.card)} back",
        hint=f'time="{index[-1]:%Y-%m-%dT%H:%M}"',
    )


def _check_names(boxes: Boxes) -> None:
    """Refuse dimensions that are called as those of the result."""
    taken = {boxes.time, *boxes.batch} & {*LABELS, OFFSET, "layer", "head"}
    if not taken:
        return
    name = min(taken)
    msg = f"The data have a dimension of a name that is needed: {name!r}."
    raise FieldError(
        msg,
        found=f"dimensions {', '.join([boxes.time, *boxes.batch])}",
        needed=f"{name!r} for what the network attends to",
        hint=f'ds.rename({name}="{name}_")',
    )


def _no_decoder(boxes: Boxes) -> OptionError:
    msg = f"{boxes.card.name} has no decoder of these fields."
    return OptionError(
        msg,
        found=", ".join(names_of(boxes.channels)),
        needed=f"one of {', '.join(boxes.card.network['predicted'])}",
        hint='part="encoder"',
    )


def _no_way(card: Card) -> ModelNotFoundError:
    able = [c.name for c in list_models("attention") if c.box or c.leads]
    msg = f"This version of xatmo cannot show the attention of {card.name!r}."
    return ModelNotFoundError(
        msg,
        found=f"{card.architecture!r}, without [box] or [leads] in its card",
        needed=f"one that has them: {', '.join(able) or 'there is none yet'}",
        hint=f"model={able[0]!r}" if able else "xatmo.list_models('attention')",
    )
