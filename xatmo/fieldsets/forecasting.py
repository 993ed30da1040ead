"""Forecasts by networks that are told how far ahead to look."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import xarray as xr

from xatmo.boxes.channels import CHANNEL
from xatmo.boxes.leads import LEAD, lead_hours, with_lead_times
from xatmo.errors import ExtrapolationWarning, OptionError
from xatmo.fieldsets.choosing import chosen
from xatmo.fieldsets.reading import SPACE, FieldSet, read_fieldset
from xatmo.lags import as_hours
from xatmo.matching import outside
from xatmo.provenance import sign
from xatmo.zoo import Card, Model

__all__ = ["forecast_fieldset"]


def forecast_fieldset(
    obj: Any,
    model: Model,
    lead: Any,
    *,
    variables: str | Sequence[str] | None,
    steps: int | None,
    level: Any,
    history: str,
) -> xr.Dataset:
    """Forecast by a network that reads one time; called by :func:`xatmo.forecast`.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
    model : Model
        One with ``[leads]`` in its card.
    lead : str, timedelta or list
        One lead time, or several: each is forecast on its own, from the data.
    variables : str or sequence of str, optional
        What is forecast, of what the data hold; all of it if not given.
    steps : int, optional
        How often to go on from the forecast itself, ``lead`` further each time.
    level : str, number or list, optional
        Only these levels.
    history : str
        Of the input.

    Returns
    -------
    Dataset
        With a dimension ``lead_time`` after time; lazy if the input is.

    Raises
    ------
    xatmo.errors.AtmoError
        As :func:`xatmo.fieldsets.read_fieldset` and
        :func:`xatmo.fieldsets.choosing.chosen`.
    xatmo.errors.OptionError
        If a lead time is not after the start, or ``steps`` is no number of steps.

    Warns
    -----
    xatmo.errors.ExtrapolationWarning
        Of lead times that the network was not trained with.
    """
    hours = _checked(lead, steps)
    data = read_fieldset(obj, model, level=level)
    which = chosen(data.channels, variables, model.card)
    _warn_untrained(hours, model.card)
    if steps is None:
        parts = [_ahead(data, data.arrays, one, which) for one in hours]
    else:
        parts = [
            state.isel({CHANNEL: list(which)})
            for state in islice(_rolled(data, hours[0]), int(steps))
        ]
        hours = [hours[0] * number for number in range(1, int(steps) + 1)]
    result = xr.concat(parts, LEAD, coords="minimal", compat="override")
    arguments = {"lead": lead, "variables": variables, "steps": steps, "level": level}
    return _dataset(data, result, hours, which, arguments, history)


def _ahead(
    data: FieldSet,
    arrays: Sequence[xr.DataArray],
    hours: float,
    which: Sequence[int],
) -> xr.DataArray:
    """Forecast some channels, normalised: (..., channel, latitude, longitude)."""
    shape = (data.grid.latitude.size, data.grid.longitude.size)
    out = {CHANNEL: len(which), **dict(zip(SPACE, shape, strict=True))}
    targets = tuple(data.variables[number] for number in which)
    result = data.run("forward", arrays, out, lead=float(hours), targets=targets)
    return result.assign_coords({dim: getattr(data.grid, dim) for dim in SPACE})


def _rolled(data: FieldSet, hours: float) -> Iterator[xr.DataArray]:
    """Forecast all channels, then go on from there, for ever."""
    arrays, which = list(data.arrays), range(len(data.channels))
    while True:
        state = _ahead(data, arrays, hours, which)
        yield state
        arrays = [state.isel({CHANNEL: number}, drop=True) for number in which]


def _dataset(
    data: FieldSet,
    result: xr.DataArray,
    hours: Sequence[float],
    which: Sequence[int],
    arguments: Mapping[str, Any],
    history: str,
) -> xr.Dataset:
    variables = data.to_user(result, data.months(hours, LEAD), which)
    signed = partial(
        sign,
        verb="forecast",
        card=data.card,
        arguments=arguments,
        notes=data.notes,
        history=history,
    )
    for variable in variables.values():
        signed(variable, attrs={**variable.attrs, **data.about})
    ds = xr.Dataset(variables)
    ds = with_lead_times(ds, hours, data.times, timeless=data.timeless)
    return signed(ds, attrs=dict(data.about))


# --- What is asked for ----------------------------------------------------------------


def _checked(lead: Any, steps: Any) -> list[float]:
    """Return the lead times in hours, ascending, each once."""
    hours = sorted(set(lead_hours(lead)))
    if hours[0] <= 0:
        msg = "A forecast is for a time to come."
        needed = "a lead time greater than 0"
        found = f'lead="{hours[0]:g}h"'
        raise OptionError(msg, found=found, needed=needed, hint='lead="6h"')
    if steps is None:
        return hours
    whole = isinstance(steps, int | np.integer) and not isinstance(steps, bool)
    if not whole or steps < 1:
        msg = f"{steps!r} is no number of steps."
        needed, hint = "a whole number from 1 on", f'lead="{hours[0]:g}h", steps=4'
        raise OptionError(msg, found=f"steps={steps!r}", needed=needed, hint=hint)
    if len(hours) > 1:
        msg = "Steps are all of one length."
        found = f"{len(hours)} lead times and steps={steps}"
        needed, hint = "one lead time", f'lead="{hours[0]:g}h", steps={steps}'
        raise OptionError(msg, found=found, needed=needed, hint=hint)
    return hours


def _warn_untrained(hours: Sequence[float], card: Card) -> None:
    leads = card.leads
    assert leads is not None  # noqa: S101 - asked of such cards only
    step = as_hours(leads.step)
    new = [
        f"{one:g} h"
        for one in hours
        if not leads.shortest <= one <= leads.longest
        or abs(one / step - round(one / step)) > 1e-6
    ]
    if new:
        warnings.warn(
            f"{card.name} was trained with lead times from {leads.shortest} to "
            f"{leads.longest} h in steps of {step:g} h, not with {', '.join(new)}: "
            "take the forecast as extrapolation",
            ExtrapolationWarning,
            stacklevel=outside(),
        )
