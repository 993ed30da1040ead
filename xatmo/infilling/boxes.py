"""infill() by a network of boxes: all fields and levels together, through time."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import xarray as xr

from xatmo.boxes import Boxes, read_boxes
from xatmo.boxes.fields import Held
from xatmo.boxes.filling import filled, spans_of
from xatmo.engine.series_of_boxes import half_shared
from xatmo.errors import ExtrapolationWarning, FieldNotFoundError, LevelError
from xatmo.fields import Level, level_coordinate
from xatmo.infilling.inputs import Marked
from xatmo.infilling.methods import FLAGS
from xatmo.matching import outside
from xatmo.zoo import Card, Model

__all__ = ["fill_jointly"]

_NETWORK, _UNFILLED = FLAGS.index("network"), FLAGS.index("unfilled")


def fill_jointly(
    model: Model, ds: xr.Dataset, masks: Mapping[str, Marked]
) -> tuple[dict[str, dict[str, xr.DataArray]], dict[str, str], tuple[str, ...]]:
    """Fill fields from each other and from the times around them.

    Parameters
    ----------
    model : Model
        One with a ``[box]`` in its card.
    ds : Dataset
    masks : mapping of Marked
        The variables that can be filled, and where.

    Returns
    -------
    parts : dict
        For each variable that the model fills ``"filled"``, ``"spread"`` and
        ``"flag"``, along its dimensions; NaN at levels that the model does not read,
        and where nothing is known in any box around a point.
    about : dict
        Attributes that say which fields were used.
    notes : tuple of str
        What was done to the data.

    Raises
    ------
    xatmo.errors.FieldNotFoundError, xatmo.errors.LevelError
        If there is nothing that the model fills.
    xatmo.errors.AtmoError
        As :func:`xatmo.boxes.read_boxes`.

    Warns
    -----
    xatmo.errors.ExtrapolationWarning
        Of variables and levels that are left as they are.
    """
    boxes = _read(model, ds, masks)
    held = _filled(boxes, masks)
    if not held:
        raise _none(boxes, masks)
    _warn_left(model.card, masks, held)
    positions = boxes.times.positions(boxes.step)
    assert positions is not None  # noqa: S101 - so read_boxes has found
    starts = half_shared(int(positions[-1]) + 1, boxes.domain().box[0])
    chunks = None if boxes.data.chunks is None else boxes.data.chunks[0]
    found = filled(boxes, spans_of(boxes, starts), boxes.times, chunks)
    parts = {
        name: _parts(found[name], each, masks[name].values)
        for name, each in held.items()
    }
    return parts, boxes.about, boxes.notes


def _read(model: Model, ds: xr.Dataset, masks: Mapping[str, Marked]) -> Boxes:
    """Read what is left when the mask has been laid over it."""
    seen = {
        name: m.values if m.wanted is None else m.values.where(~m.wanted)
        for name, m in masks.items()
    }
    try:
        return read_boxes(ds.assign(seen), model)
    except LevelError as error:
        if "level=" not in error.hint:
            raise
        # Here the data have to say themselves where they are.
        first = Level.parse(model.card.fields[0].levels[0].level)
        name, value = level_coordinate(first)
        hint = f"ds.assign_coords({name}={value.item():g}), if that is where they are"
        raise LevelError(
            error.problem, found=error.found, needed=error.needed, hint=hint
        ) from None


def _filled(boxes: Boxes, masks: Mapping[str, Marked]) -> dict[str, list[Held]]:
    """What is filled of each variable: not fields that are only read, or derived."""
    held: dict[str, list[Held]] = {}
    for channel in boxes.channels:
        name = channel.held.variable
        if channel.predicted and not channel.held.derived and name in masks:
            held.setdefault(name, []).append(channel.held)
    order = list(masks)
    return {
        name: sorted(held[name], key=lambda h: h.position)
        for name in sorted(held, key=order.index)
    }


def _parts(
    pair: tuple[xr.DataArray, xr.DataArray], held: Sequence[Held], own: xr.DataArray
) -> dict[str, xr.DataArray]:
    """Mean, spread and flag along the dimensions of the user's variable."""
    mean, spread = (_at_all_levels(da, held, own) for da in pair)
    flag: xr.Variable = xr.where(np.isfinite(mean), _NETWORK, _UNFILLED)
    parts = {"filled": mean, "spread": spread, "flag": flag}
    if own.chunks is not None:
        parts = {name: v.chunk(own.chunksizes) for name, v in parts.items()}
    return {name: xr.DataArray(v) for name, v in parts.items()}


def _at_all_levels(
    da: xr.DataArray, held: Sequence[Held], own: xr.DataArray
) -> xr.Variable:
    """NaN at levels of the user's variable that the network does not know."""
    dim: Hashable | None = held[0].level_dim
    if dim is None:
        return da.variable.transpose(*own.dims)
    place = {h.position: i for i, h in enumerate(held)}
    nothing = xr.full_like(da.variable.isel({dim: 0}), np.nan)
    each = [
        da.variable.isel({dim: place[k]}) if k in place else nothing
        for k in range(own.sizes[dim])
    ]
    return xr.Variable.concat(each, dim).transpose(*own.dims)


def _warn_left(
    card: Card, masks: Mapping[str, Marked], held: Mapping[str, Sequence[Held]]
) -> None:
    left = [name for name in masks if name not in held]
    for name, each in held.items():
        dim = each[0].level_dim
        others = 0 if dim is None else masks[name].values.sizes[dim] - len(each)
        if others:
            left.append(f"{name} at {others} other level{'s' * (others > 1)}")
    if left:
        warnings.warn(
            f"{', '.join(left)}: {card.name} does not fill these, and they stay as "
            "they are",
            ExtrapolationWarning,
            stacklevel=outside(),
        )


def _none(boxes: Boxes, masks: Mapping[str, Marked]) -> FieldNotFoundError:
    card = boxes.card
    named = card.network.get("predicted")
    able = [f.quantity for f in card.fields if named is None or f.name in named]
    read = ", ".join(str(channel.held) for channel in boxes.channels)
    msg = f"The data hold no field that {card.name} fills."
    return FieldNotFoundError(
        msg,
        found=f"{', '.join(masks)}, of which it reads {read}",
        needed=f"one or more of {', '.join(able)}",
        hint="ds.atmo.infill('auto'), by methods for any field",
    )
