"""What a network of boxes reads of a user's data, and results back in the user's form.

Such a network knows several fields at several levels, and needs none of them: what the
data hold is read, normalised and put side by side as channels; the others are left out,
and named. Nothing is computed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from xatmo.boxes.back import to_user
from xatmo.boxes.channels import CHANNEL, TIME, Channel, stacked
from xatmo.boxes.fields import Held, held_channels, used_and_left_out
from xatmo.boxes.times import Times, check_step, hours_of, read_times
from xatmo.engine import Call
from xatmo.engine.boxes import Domain
from xatmo.errors import AlignmentError, AtmoError, ExtrapolationWarning, FieldError
from xatmo.fields import (
    Axes,
    Grid,
    as_dataset,
    find_axes,
    read,
    read_grid,
)
from xatmo.gridfit import grid_problem
from xatmo.matching import outside, warn_of_chunks
from xatmo.options import get_options
from xatmo.zoo import Card, Model, constants_of

__all__ = ["Boxes", "check_alike", "read_boxes", "why_not"]

_TAKEN = ("member", "lead_time", CHANNEL)


@dataclass(frozen=True, eq=False)
class Boxes:
    """A user's data as a network of boxes reads them.

    Parameters
    ----------
    model : Model
    dataset : Dataset
        The user's.
    grid : Grid
    axes : Axes
    times : Times
    channels : tuple of Channel
        In the network's order.
    data : DataArray of float32
        Normalised, ``(time, ..., channel, latitude, longitude)`` in canonical
        orientation, NaN where nothing is known; lazy if the data are.
    notes : tuple of str
        What was done to the data, which fields are used, and which are left out.
    """

    model: Model
    dataset: xr.Dataset
    grid: Grid
    axes: Axes
    times: Times
    channels: tuple[Channel, ...]
    data: xr.DataArray
    notes: tuple[str, ...]

    @property
    def card(self) -> Card:
        """The model's card."""
        return self.model.card

    @property
    def step(self) -> float:
        """Hours from one time of a box to the next."""
        return hours_of(self.card)

    @property
    def time(self) -> str:
        """Name of the dimension of times in ``data``."""
        return str(self.data.dims[0])

    @property
    def batch(self) -> tuple[str, ...]:
        """Dimensions of ``data`` between times and channels, such as ``number``."""
        return tuple(str(d) for d in self.data.dims[1:-3])

    @property
    def timeless(self) -> bool:
        """Whether the user's data have no dimension of times."""
        return self.time == TIME

    @cached_property
    def present(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Fields and numbers of their levels, as networks want to hear it."""
        slots: dict[str, list[int]] = {}
        for channel in self.channels:
            held = channel.held
            slots.setdefault(held.field.name, []).append(held.level.slot)
        return tuple((name, tuple(numbers)) for name, numbers in slots.items())

    @cached_property
    def about(self) -> dict[str, str]:
        """Attributes that say which fields a result is from, and which were absent."""
        used, absent = used_and_left_out(self.card, [c.held for c in self.channels])
        return {
            "fields_used": ", ".join(used),
            **({"fields_left_out": ", ".join(absent)} if absent else {}),
        }

    def labels(self, start: np.ndarray | None = None) -> dict[Any, xr.DataArray]:
        """Return the coordinates that windows have: not those of points and channels.

        Parameters
        ----------
        start : ndarray of int, optional
            Which times; all if not given.
        """
        # Of the coordinates alone: nothing is selected of the data.
        known = self.data.coords.to_dataset()
        if start is not None:
            known = known.isel({self.time: start}, missing_dims="ignore")
        gone = {str(d) for d in self.data.dims[-3:]}
        return {n: c for n, c in known.coords.items() if not gone & set(c.dims)}

    def domain(self) -> Domain:
        """Return what the engine needs to know, by the options of the moment."""
        options, network = get_options(), self.card.network
        tables = {f["name"]: f for f in network["fields"]}
        here = [tables[name] for name, _ in self.present]
        # The field with most tokens tells where embeddings lie.
        finest = max(here, key=lambda f: f["tokens"][1] * f["tokens"][2])
        box = [n * size for n, size in zip(*_sizes(finest), strict=True)]
        return Domain(
            call=Call(
                self.model.key,
                method="",
                names=tuple(c.held.variable for c in self.channels),
                device=options.device,
                batch_size=options.batch_size,
            ),
            box=(box[0], box[1], box[2]),
            token=(finest["token_size"][1], finest["token_size"][2]),
            members=int(network.get("members", 16)),  # as Multiformer has it
            latitude=self.grid.latitude,
            longitude=self.grid.longitude,
            spacing=self.grid.spacing[0],
            periodic=self.grid.is_global,
            present=self.present,
        )

    def months(self, offsets: Sequence[int], dim: str) -> xr.DataArray:
        """Return calendar months some steps after each time: (time, dim)."""
        return xr.DataArray(
            self.times.months(offsets, self.step), dims=(self.time, dim)
        )

    def to_user(
        self,
        result: xr.DataArray,
        months: xr.DataArray,
        *,
        spread: bool = False,
        factor: int = 1,
    ) -> dict[str, xr.DataArray]:
        """Put a result into the user's names, units, levels, order and orientation.

        Parameters
        ----------
        result : DataArray
            Normalised, along ``channel``, ``latitude``, ``longitude`` and others.
        months : DataArray of int
            Calendar months, along some of the other dimensions.
        spread : bool
            Whether it is a standard deviation, not a value.
        factor : int
            How many times finer its grid is than the user's.

        Returns
        -------
        dict of DataArray
            By the user's name, or that of the quantity if it was derived; what the
            network only reads is left out. A dimension ``member`` or ``"_draw"`` comes
            first, other new ones after time.
        """
        about = (self.channels, self.dataset, self.grid, self.time)
        return to_user(result, months, *about, spread=spread, factor=factor)


def read_boxes(
    obj: Any,
    model: Model,
    *,
    level: Any = None,
    any_step: bool = False,
    taken: Sequence[str] = _TAKEN,
) -> Boxes:
    """Read what a network of boxes can use of the user's data.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
    model : Model
        One with a ``[box]`` in its card.
    level : str, number or list, optional
        Only these levels; a single one gives no dimension of levels. Data that do not
        say their level are at the one that is named.
    any_step : bool
        Take any time step; else it has to be that of the model.
    taken : sequence of str
        Names that the data may not have, of dimensions that the result gets.

    Returns
    -------
    Boxes

    Raises
    ------
    xatmo.errors.FieldNotFoundError
        If the data hold none of the fields. One is enough, though less is known then.
    xatmo.errors.LevelError
        If they hold some, but at other levels.
    xatmo.errors.GridError, xatmo.errors.TimeAxisError, xatmo.errors.UnitsError
        If grid, times or units are not what can be read.
    xatmo.errors.AlignmentError
        If the variables do not share their dimensions.

    Warns
    -----
    xatmo.errors.ExtrapolationWarning
        Of levels that the model was not trained at.
    """
    ds = as_dataset(obj)
    held = held_channels(ds, model.card, level)
    fields = [read(ds, [h.field.quantity], level=h.asked) for h in held]
    first = fields[0]
    problem = grid_problem(first.grid, first.axes, model.card)
    if problem:
        raise problem
    arrays = [next(iter(f.data.values())) for f in fields]
    check_alike(held, arrays, taken)
    times = read_times(arrays[0], first.axes.time, model.card)
    if not any_step:
        check_step(times, model.card)
    _warn_untrained(held, model.card)
    finer = model.card.downscale
    warn_of_chunks(arrays, growth=finer.factor**2 if finer else 1.0)
    predicted = model.card.network.get("predicted")
    channels = tuple(
        Channel(
            h,
            ds[h.found.name],
            constants_of(model, h.field.name, h.level.level),
            predicted is None or h.field.name in predicted,
        )
        for h in held
    )
    notes = [note for f in fields for note in f.notes]
    return Boxes(
        model=model,
        dataset=ds,
        grid=first.grid,
        axes=first.axes,
        times=times,
        channels=channels,
        data=stacked(arrays, channels, times, first.grid, first.axes.time),
        notes=tuple(dict.fromkeys([*notes, *_said(model, held)])),
    )


def why_not(obj: Any, card: Card) -> AtmoError | None:
    """Return what keeps a model of boxes from reading these data, if anything does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = as_dataset(obj)
            axes = find_axes(ds)
            grid = read_grid(ds, axes)
            first = held_channels(ds, card, None)[0]
            fields = read(ds, [first.field.quantity], level=first.asked)
            times = read_times(next(iter(fields.data.values())), fields.axes.time, card)
            problem = grid_problem(grid, axes, card)
            # To refine a time others are of use, but there may be none.
            if problem is None and card.capabilities != ("downscale",):
                check_step(times, card)
    except AtmoError as error:
        return error
    return problem


# --- What is checked and said ---------------------------------------------------------


def check_alike(
    held: Sequence[Held],
    arrays: Sequence[xr.DataArray],
    taken: Sequence[str] = _TAKEN,
) -> None:
    """Refuse variables of different dimensions, or with names that are needed."""
    sets = {frozenset(da.dims) for da in arrays}
    clash = set(taken) & set().union(*sets)
    if clash:
        name = min(clash)
        msg = f"The data have a dimension of a name that is needed: {name!r}."
        raise FieldError(
            msg,
            found=f"{held[0].variable} {arrays[0].dims}",
            needed=f"{name!r} for what the network adds",
            hint=f'ds.rename({name}="{name}_")',
        )
    if len(sets) == 1:
        return
    shapes = [f"{h.variable} {da.dims}" for h, da in zip(held, arrays, strict=True)]
    msg = "The variables do not have the same dimensions."
    raise AlignmentError(
        msg,
        found="; ".join(dict.fromkeys(shapes)),
        needed="the same dimensions and coordinates for all of them",
        hint="select or broadcast first, e.g. xr.broadcast(u, v)",
    )


def _warn_untrained(held: Sequence[Held], card: Card) -> None:
    new = [str(h) for h in held if not h.level.trained]
    if new:
        warnings.warn(
            f"{card.name} was not trained on {', '.join(new)}, though it can read "
            "them: take the results as extrapolation",
            ExtrapolationWarning,
            stacklevel=outside(),
        )


def _said(model: Model, held: Sequence[Held]) -> list[str]:
    """Say what is not there, and what that costs; and whose constants are used."""
    notes = []
    _, absent = used_and_left_out(model.card, held)
    if absent:
        notes.append(
            f"{model.name} also reads {', '.join(absent)}, which the data do not hold: "
            "its results are less certain without them"
        )
    given = model.normalization
    own = [
        h for h in held if given and (h.field.name, h.level.level) in given.constants
    ]
    if given is not None and own:
        notes.append(
            f"normalisation of {', '.join(map(str, own))} given by the user, sha256 "
            f"{given.digest}"
        )
    return notes


def _sizes(table: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    return table["tokens"], table["token_size"]
