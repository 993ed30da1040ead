"""What a network that is told the lead time reads of a user's data, and results back.

Such a network reads any of the variables that it knows, at one time. What the data hold
is read and normalised; what they lack is left out, and named. Nothing is computed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import xarray as xr

from xatmo.boxes.back import to_user
from xatmo.boxes.channels import CHANNEL, TIME, Channel
from xatmo.boxes.fields import Held, held_channels, used_and_left_out
from xatmo.boxes.reading import check_alike
from xatmo.boxes.times import Times, read_times, scalar_date
from xatmo.engine import Call, apply
from xatmo.errors import AtmoError
from xatmo.fields import (
    Grid,
    as_dataset,
    find_axes,
    from_canonical,
    read,
    read_grid,
)
from xatmo.fields.levels import describe_levels
from xatmo.fieldsets.grids import check_whole, grid_notes, whole_grid_problem
from xatmo.lags import dated
from xatmo.matching import warn_of_chunks
from xatmo.options import get_options
from xatmo.zoo import Card, Model, constants_of

__all__ = ["SPACE", "FieldSet", "read_fieldset", "why_not"]

SPACE = ("latitude", "longitude")


@dataclass(frozen=True, eq=False)
class FieldSet:
    """A user's data as a network reads them that is told how far ahead to look.

    Parameters
    ----------
    model : Model
    dataset : Dataset
        The user's.
    grid : Grid
    channels : tuple of Channel
        In the order of the card.
    arrays : tuple of DataArray of float32
        Normalised, ``(..., latitude, longitude)`` in canonical orientation, one for
        each channel; lazy if the data are.
    time : str
        The user's dimension of times; ``TIME`` if there is none.
    times : Times or None
        Dates along it, or the one of data without it; None if they are not known.
    notes : tuple of str
        What was done to the data, which fields are used, and which are left out.
    """

    model: Model
    dataset: xr.Dataset
    grid: Grid
    channels: tuple[Channel, ...]
    arrays: tuple[xr.DataArray, ...]
    time: str
    times: Times | None
    notes: tuple[str, ...]

    @property
    def card(self) -> Card:
        """The model's card."""
        return self.model.card

    @property
    def timeless(self) -> bool:
        """Whether the user's data have no dimension of times."""
        return self.time == TIME

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """What the network calls the channels."""
        return tuple(str(channel.held.level.variable) for channel in self.channels)

    @cached_property
    def about(self) -> dict[str, str]:
        """Attributes that say which fields a result is from, and which were absent."""
        held = [channel.held for channel in self.channels]
        used, absent = used_and_left_out(_trained(self.card), held)
        return {
            "fields_used": ", ".join(used),
            **({"fields_left_out": ", ".join(absent)} if absent else {}),
        }

    def run(
        self,
        method: str,
        arrays: Sequence[xr.DataArray],
        out: dict[str, int],
        **kwargs: Any,
    ) -> xr.DataArray:
        """Run a method of the network on normalised fields, lazily if they are lazy.

        Parameters
        ----------
        method : str
        arrays : sequence of DataArray
            As :attr:`arrays`.
        out : dict of str to int
            Dimensions of one result and their sizes.
        **kwargs
            Further arguments, without those that say what the fields are.

        Returns
        -------
        DataArray of float32, dimensions (..., *out)
            Rows from north to south; without coordinates along ``out``.
        """
        options = get_options()
        kwargs |= {"level": None, "variables": self.variables}
        call = Call(
            self.model.key,
            method,
            kwargs=tuple(sorted(kwargs.items())),
            names=tuple(channel.held.variable for channel in self.channels),
            device=options.device,
            batch_size=options.batch_size,
            # A field is worth some tenths of a second, and every batch is filled up.
            cpu_batch=1,
            missing=options.missing,
        )
        turned = [self._turned(da) for da in arrays]
        result = apply(call, turned, core=SPACE, out=out, halo="global")
        return self._turned(result)

    def months(self, hours: Sequence[float], dim: str) -> xr.DataArray:
        """Return calendar months some hours after each time: (time, dim)."""
        if self.times is None:
            return xr.DataArray(1)  # no constants differ from month to month
        months = self.times.months(hours, 1.0)
        if self.timeless:
            return xr.DataArray(months[0], dims=dim)
        return xr.DataArray(months, dims=(self.time, dim))

    def to_user(
        self, result: xr.DataArray, months: xr.DataArray, which: Sequence[int]
    ) -> dict[str, xr.DataArray]:
        """Put some channels, along ``channel``, into the user's form."""
        channels = [self.channels[number] for number in which]
        about = (channels, self.dataset, self.grid, self.time)
        return to_user(result, months, *about)

    def placed(self, result: xr.DataArray) -> xr.DataArray:
        """Put maps in canonical orientation into the user's; new dimensions are last.

        Coordinates of a single date or calendar come along.
        """
        result = from_canonical(result, self.grid)
        source = self.channels[0].source
        scalars = {n: c for n, c in source.coords.items() if c.ndim == 0}
        level = self.channels[0].held.level_dim
        kept = {n: c for n, c in scalars.items() if c.dtype.kind in "MO" and n != level}
        result = result.assign_coords(
            {n: c for n, c in kept.items() if n not in result.coords}
        )
        own = [str(d) for d in source.dims if d in result.dims]
        return result.transpose(*own, ...)

    def _turned(self, da: xr.DataArray) -> xr.DataArray:
        """Turn rows round where the network's are in the other order."""
        if not self.card.grid.northward:
            return da
        return da.isel(latitude=slice(None, None, -1))


def read_fieldset(obj: Any, model: Model, *, level: Any = None) -> FieldSet:
    """Read what a network can use of the user's data.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
    model : Model
        One with ``[leads]`` in its card.
    level : str, number or list, optional
        Only these levels; a single one gives no dimension of levels.

    Returns
    -------
    FieldSet

    Raises
    ------
    xatmo.errors.FieldNotFoundError
        If the data hold none of the fields. One is enough, though less is known then.
    xatmo.errors.LevelError
        If they hold some, but at other levels.
    xatmo.errors.GridError, xatmo.errors.ChunkError
        If they are on another grid than the network's, or in chunks of it.
    xatmo.errors.UnitsError, xatmo.errors.AlignmentError
        If units cannot be read, or the variables do not share their dimensions.
    """
    ds = as_dataset(obj)
    card = _trained(model.card)
    held = held_channels(ds, card, level)
    axes = find_axes(ds)
    problem = whole_grid_problem(read_grid(ds, axes), axes, card)
    if problem:
        raise problem
    check_whole([ds[h.found.name] for h in held], axes, card)
    fields = [read(ds, [h.field.quantity], level=h.asked) for h in held]
    arrays = [next(iter(f.data.values())) for f in fields]
    check_alike(held, arrays, taken=("lead_time", CHANNEL))
    warn_of_chunks(arrays)
    grid, time = fields[0].grid, fields[0].axes.time
    channels = tuple(
        Channel(
            h,
            ds[h.found.name],
            constants_of(model, h.field.name, h.level.level),
            predicted=True,
        )
        for h in held
    )
    time = str(time) if time in arrays[0].dims else TIME
    times = _times(arrays[0], time)
    if times is None and any(channel.constants.monthly for channel in channels):
        times = read_times(arrays[0], time, card)  # which says what is wrong
    data = FieldSet(model, ds, grid, channels, (), time, times, ())
    months = data.months([0.0], "_now")
    months = months.isel(_now=0) if months.ndim else months
    alone = [
        _alone(c.normalised(da, grid, months))
        for c, da in zip(channels, arrays, strict=True)
    ]
    notes = [note for f in fields for note in f.notes]
    notes += [*grid_notes(grid, card), *_said(data, held)]
    return replace(data, arrays=tuple(alone), notes=tuple(dict.fromkeys(notes)))


def why_not(obj: Any, card: Card) -> AtmoError | None:
    """Return what keeps such a model from reading these data, if anything does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = as_dataset(obj)
            axes = find_axes(ds)
            problem = whole_grid_problem(read_grid(ds, axes), axes, card)
            first = held_channels(ds, _trained(card), None)[0]
            read(ds, [first.field.quantity], level=first.asked)
    except AtmoError as error:
        return error
    return problem


def _trained(card: Card) -> Card:
    """Return the card without what the network was not trained with.

    Weights of such variables are as they were drawn at random: they would do harm.
    """
    fields = [
        replace(field, levels=tuple(lv for lv in field.levels if lv.trained))
        for field in card.fields
    ]
    return replace(card, fields=tuple(field for field in fields if field.levels))


def _alone(da: xr.DataArray) -> xr.DataArray:
    """Drop the coordinates that say the level, which differ between channels."""
    gone = [n for n, c in da.coords.items() if c.ndim == 0]
    da = da.drop_vars(gone)
    da.attrs = {}
    return da.rename(None)


def _times(field: xr.DataArray, time: str) -> Times | None:
    """The dates of a field, in whatever order they are."""
    if time in field.dims:
        index = dated(field, time)
        return None if index is None else Times(time, index.round("s"))
    found = scalar_date(field)
    if found is None:
        return None
    return Times(str(found.name), found.expand_dims(_t=1).to_index())


def _said(data: FieldSet, held: Sequence[Held]) -> list[str]:
    """Say what is not there and what is not read."""
    card, notes = data.card, []
    if "fields_left_out" in data.about:
        notes.append(
            f"{card.name} also reads {data.about['fields_left_out']}, which the data "
            "do not hold: its results are less certain without them"
        )
    for name in dict.fromkeys(h.found.name for h in held):
        mine = [h for h in held if h.found.name == name]
        used = {h.asked for h in mine}
        rest = [lv for lv in mine[0].found.levels if lv not in used]
        if rest and len(mine[0].found.levels) > 1:
            notes.append(f"{name} is not read at {describe_levels(rest)}")
    return notes
