"""Finer grids by networks of boxes whose tails divide each cell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from xatmo.boxes import Boxes, read_boxes
from xatmo.boxes.channels import CHANNEL, DRAW
from xatmo.engine import FinerBoxes, over_windows
from xatmo.errors import FieldNotFoundError, OptionError
from xatmo.fields import fine_coordinates
from xatmo.options import get_options
from xatmo.zoo import Card, Model

__all__ = ["refine_boxes"]

_DIM = "realization"
_SPACE = ("latitude", "longitude")


def refine_boxes(
    obj: Any, model: Model, *, realizations: int, conserve: bool, level: Any
) -> tuple[list[xr.DataArray], Boxes]:
    """Refine fields by a network of boxes; called by :func:`xatmo.downscale`.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
    model : Model
        One with ``[box]`` and ``[downscale]`` in its card.
    realizations : int
        How many members of its ensemble are given: the first ones.
    conserve : bool
    level : str, number or list, optional
        Only these levels.

    Returns
    -------
    list of DataArray
        Each variable that the network refines, on the finer grid in the user's form,
        with a first dimension ``"_draw"``.
    Boxes
        What was read.

    Raises
    ------
    xatmo.errors.AtmoError
        As :func:`xatmo.boxes.read_boxes`, for any time step.
    xatmo.errors.OptionError
        If the network has fewer members.
    xatmo.errors.FieldNotFoundError
        If the data hold nothing that it refines.

    Notes
    -----
    A window ends with the time that is refined: of those before it the ones count that
    are there, at multiples of the model's time step.
    """
    taken = (CHANNEL, _DIM) if realizations > 1 else (CHANNEL,)
    boxes = read_boxes(obj, model, level=level, any_step=True, taken=taken)
    job = _job(boxes, realizations, conserve)
    months = xr.DataArray(np.asarray(boxes.times.index.month), dims=(boxes.time,))
    refined = replace(boxes, channels=tuple(boxes.channels[i] for i in job.wanted))
    found = refined.to_user(_run(boxes, job), months, factor=job.factor)
    if boxes.timeless:
        found = {n: da.isel({boxes.time: 0}, drop=True) for n, da in found.items()}
    return list(found.values()), boxes


def _job(boxes: Boxes, realizations: int, conserve: bool) -> FinerBoxes:
    card, domain = boxes.card, boxes.domain()
    assert card.downscale is not None  # noqa: S101 - so are cards that downscale
    if realizations > domain.members:
        raise _too_many(realizations, domain.members, card)
    wanted = tuple(i for i, c in enumerate(boxes.channels) if c.predicted)
    if not wanted:
        raise _nothing(boxes)
    factor = card.downscale.factor
    fine = fine_coordinates(boxes.grid, factor)
    call = replace(domain.call, missing=get_options().missing)
    return FinerBoxes(
        replace(domain, call=call),
        factor=factor,
        members=realizations,
        wanted=wanted,
        # Parts of cells that lie beyond a pole.
        trim=(fine.rows.start, fine.row_weight.size - fine.rows.stop),
        conserve=conserve,
    )


def _run(boxes: Boxes, job: FinerBoxes) -> xr.DataArray:
    """(time, ..., draw, channel, fine latitude, fine longitude), normalised."""
    offsets = range(1 - job.domain.box[0], 1)
    index = boxes.times.near(offsets, boxes.step)
    when = boxes.times.when(offsets, boxes.step)
    data = over_windows(boxes.data.data, index, when, job, job.shape)
    coords = boxes.labels()
    fine = fine_coordinates(boxes.grid, job.factor)
    coords |= {d: xr.DataArray(getattr(fine, d), dims=d) for d in _SPACE}
    dims = (boxes.time, *boxes.batch, DRAW, CHANNEL, *_SPACE)
    return xr.DataArray(data, dims=dims, coords=coords)


# --- What cannot be asked for ---------------------------------------------------------


def _too_many(realizations: int, members: int, card: Card) -> OptionError:
    msg = f"{card.name} has an ensemble of {members}: it cannot give more."
    return OptionError(
        msg,
        found=f"realizations={realizations}",
        needed=f"realizations from 1 to {members}",
        hint=f"ds.atmo.downscale(realizations={members}, model={card.name!r})",
    )


def _nothing(boxes: Boxes) -> FieldNotFoundError:
    card = boxes.card
    predicted = card.network.get("predicted")
    names = ", ".join(f.quantity for f in card.fields if f.name in (predicted or ()))
    held = ", ".join(dict.fromkeys(c.held.variable for c in boxes.channels))
    msg = f"The data hold none of the fields that {card.name} refines."
    return FieldNotFoundError(
        msg,
        found=f"{held}, which it only reads",
        needed=f"one or more of {names}",
        hint="xatmo.list_models('downscale')",
    )
