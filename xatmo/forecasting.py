"""forecast(): what comes next, as an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xatmo.boxes import Boxes, card_step, hours_of, read_boxes
from xatmo.boxes.filling import spread_attrs
from xatmo.boxes.leads import LEAD, lead_hours, with_lead_times
from xatmo.embedding import history_of
from xatmo.engine import Rollout, over_windows, picked
from xatmo.errors import ModelNotFoundError, OptionError, TimeAxisError
from xatmo.fieldsets import forecast_fieldset
from xatmo.provenance import sign
from xatmo.zoo import Card, Model, list_models, load_model

__all__ = ["forecast"]

_SPACE = ("latitude", "longitude")


def forecast(
    obj: xr.Dataset | xr.DataArray | xr.DataTree,
    lead: Any = "24h",
    model: str | Model | None = None,
    *,
    members: bool = True,
    level: Any = None,
    variables: str | Sequence[str] | None = None,
    steps: int | None = None,
) -> xr.Dataset:
    """Forecast atmospheric fields from the times before.

    From each time whose history is there, for all lead times up to the one that is
    asked for. The network was trained to fill in what is hidden of a box in space and
    time; here that is what has not happened yet. The members of its ensemble tell how
    sure it is.

    Models with ``[leads]`` in their card, such as ClimaX, are another kind: they read
    one time of the whole globe on a grid of their own, are told how far ahead to look,
    and give one forecast for each lead time.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
        Holds some of the fields that the model reads (see ``xatmo.load_model()``), in
        names and units of the common sources, in the model's time step. One field is
        enough; with fewer of them the network knows less. Missing values are no harm
        unless they are many: they count as unknown. Eager or lazy, in any chunks.
    lead : str, timedelta or list, optional
        How far to forecast: gives all multiples of the model's time step up to that; a
        list gives those in it. Of a model with ``[leads]``, which needs no times on the
        way: that lead time alone, or those in a list.
    model : str or Model, optional
        The default model for forecasts if not given.
    members : bool, optional
        Give all members. If False their mean, and their standard deviation under
        ``<name>_spread``, which takes much less memory. A model with ``[leads]`` has
        neither.
    level : str, number or list, optional
        Which levels to use: ``"10 m"``, ``[850, 500]`` (hPa); all that both the data
        and the model have if not given.
    variables : str or list of str, optional
        Of a model with ``[leads]``: what is forecast of what the data hold, by the name
        of the variable, that of the network (``"temperature_850"``) or the CF standard
        name; all of it if not given.
    steps : int, optional
        Of a model with ``[leads]``: go on from the forecast itself so many times, by
        ``lead`` each time; gives ``lead``, 2 ``lead``, ... Such errors add up.

    Returns
    -------
    Dataset
        The fields in the names, units, order and orientation of the input, with the
        dimensions ``member`` (first) and ``lead_time`` (after time). Times are those
        that forecasts start from, which are fewer than those of the input;
        ``valid_time`` says when a forecast is for. A dimension of times that is called
        ``valid_time`` becomes ``time``. Lazy if the input is, in its chunks or, where a
        chunk would be larger than 256 MiB, in parts of these. ``attrs`` say which
        fields were used and which ones the data lack.

    Raises
    ------
    xatmo.errors.FieldNotFoundError, xatmo.errors.UnitsError, xatmo.errors.LevelError
        If none of the model's fields can be read from ``obj``.
    xatmo.errors.GridError
        If the grid is too coarse, too fine or too small for the model.
    xatmo.errors.TimeAxisError
        If the time step is another one, or there are too few times.
    xatmo.errors.OptionError
        If ``lead`` is no multiple of the time step, there is no such variable, or an
        argument is for models of the other kind.
    xatmo.errors.ChunkError
        If latitude or longitude is chunked, for a model with ``[leads]``.

    Warns
    -----
    xatmo.errors.ExtrapolationWarning
        Of levels and lead times that the model was not trained with.

    Notes
    -----
    A model forecasts some times at once: ``ahead`` in the ``[box]`` of its card, of
    which fewer are taken if ``lead`` is shorter; the other times of a box are the
    history that is needed. What lies further ahead is rolled out: each member goes on
    from its own fields, so that each further step takes as long as the first one times
    the number of members.

    A domain is covered by boxes that overlap by half, and is blended smoothly; global
    longitudes close on themselves.

    References
    ----------
    Lessig, C. et al. (2023): AtmoRep: A stochastic model of atmosphere dynamics using
    large scale representation learning. https://arxiv.org/abs/2308.13280

    Nguyen, T. et al. (2023): ClimaX: A foundation model for weather and climate.
    https://arxiv.org/abs/2301.10343

    Examples
    --------
    >>> import xatmo
    >>> ds = xatmo.open_sample()[["u", "v"]].isel(lat=slice(36, 60), lon=slice(24))
    >>> fc = ds.isel(time=slice(8)).atmo.forecast(lead="12h")
    >>> dict(fc.u.sizes)
    {'member': 16, 'time': 5, 'lead_time': 2, 'lat': 24, 'lon': 24}
    >>> fc = ds.atmo.forecast(["1d", "3d"], "climax-5.625deg")  # doctest: +SKIP
    >>> fc.t2m.dims  # doctest: +SKIP
    ('time', 'lead_time', 'latitude', 'longitude')
    """
    _check_members(members)
    found = load_model(model, capability="forecast")
    card = found.card
    if card.leads is not None:
        return forecast_fieldset(
            obj,
            found,
            lead,
            variables=variables,
            steps=steps,
            level=level,
            history=history_of(obj),
        )
    if card.box is None:
        raise _no_way(card)
    _refuse(card, variables=variables, steps=steps)
    reached, ahead = _steps(lead, card)
    boxes = read_boxes(obj, found, level=level)
    rollout = Rollout(boxes.domain(), ahead, reached, members)
    start = _starts(boxes, rollout)
    result = _run(boxes, rollout, start)
    return _dataset(boxes, rollout, start, result, obj, {"lead": lead, "level": level})


def _run(boxes: Boxes, rollout: Rollout, start: np.ndarray) -> xr.DataArray:
    """Forecasts in canonical form: (time, ..., member, channel, lead, y, x)."""
    history = rollout.domain.box[0] - rollout.ahead
    past = range(1 - history, 1)
    index = boxes.times.windows(past, boxes.step)[start]
    future = np.full((len(start), rollout.ahead), -1)
    calls = -(-rollout.steps[-1] // rollout.ahead)
    reached = range(1 - history, 1 + calls * rollout.ahead)
    when = boxes.times.isel(start).when(reached, boxes.step)
    data = over_windows(
        boxes.data.data,
        np.concatenate([index, future], 1),
        when,
        rollout,
        rollout.shape,
    )
    dims = (boxes.time, *boxes.batch, "member", "channel", LEAD, *_SPACE)
    coords = boxes.labels(start)
    coords |= {d: boxes.data[d] for d in _SPACE}
    return xr.DataArray(data, dims=dims, coords=coords)


def _starts(boxes: Boxes, rollout: Rollout) -> np.ndarray:
    """Numbers of the times whose history is there: those early enough are not."""
    history = rollout.domain.box[0] - rollout.ahead
    positions = boxes.times.positions(boxes.step)
    assert positions is not None  # noqa: S101 - so read_boxes has found
    start = np.flatnonzero(positions >= history - 1)
    if start.size:
        return start
    name, card = boxes.times.name, boxes.card
    msg = f"There are too few times for {card.name} to forecast from."
    raise TimeAxisError(
        msg,
        found=f"{len(boxes.times)} of them along {name!r}",
        needed=f"{history} of them, every {card_step(card)}: it reads so many to "
        f"forecast {rollout.ahead} at once",
        hint=_fewer(card, rollout, len(boxes.times)),
    )


def _fewer(card: Card, rollout: Rollout, count: int) -> str:
    """A longer lead needs less history, until as much as can be is forecast at once."""
    assert card.box is not None  # noqa: S101 - asked of such cards only
    length = rollout.domain.box[0]
    if length - card.box.ahead <= count < length - rollout.ahead:
        hours = (length - count) * hours_of(card)
        return f'ds.atmo.forecast(lead="{hours:g}h"), which takes less history'
    return "open more times before: xr.open_mfdataset([...])"


# --- The result -----------------------------------------------------------------------


def _dataset(
    boxes: Boxes,
    rollout: Rollout,
    start: np.ndarray,
    result: xr.DataArray,
    obj: Any,
    arguments: Mapping[str, Any],
) -> xr.Dataset:
    times = boxes.times.isel(start)
    months = xr.DataArray(
        times.months(rollout.steps, boxes.step), dims=(boxes.time, LEAD)
    )
    result = result.transpose("member", ...)
    if rollout.members:
        variables = boxes.to_user(result, months)
    else:
        variables = boxes.to_user(picked(result, member=0), months)
        spreads = picked(result, member=1)
        for name, spread in boxes.to_user(spreads, months, spread=True).items():
            spread.attrs = spread_attrs(variables[name].attrs, name)
            variables[f"{name}_spread"] = spread
    signed = partial(
        sign,
        verb="forecast",
        card=boxes.card,
        arguments={**arguments, "members": rollout.members},
        notes=boxes.notes,
        history=history_of(obj),
    )
    for variable in variables.values():
        signed(variable, attrs={**variable.attrs, **boxes.about})
    ds = _with_times(xr.Dataset(variables), boxes, rollout, start)
    return signed(ds, attrs=dict(boxes.about))


def _with_times(
    ds: xr.Dataset, boxes: Boxes, rollout: Rollout, start: np.ndarray
) -> xr.Dataset:
    """Name times and members."""
    if boxes.timeless:
        ds = ds.isel({boxes.time: 0}, drop=True)
    if rollout.members:
        number = np.arange(rollout.domain.members)
        about = {"standard_name": "realization", "long_name": "member", "units": "1"}
        ds = ds.assign_coords(member=("member", number, about))
    hours = [step * boxes.step for step in rollout.steps]
    times = boxes.times.isel(start)
    return with_lead_times(ds, hours, times, timeless=boxes.timeless)


# --- What cannot be asked for ---------------------------------------------------------


def _steps(lead: Any, card: Card) -> tuple[tuple[int, ...], int]:
    """Return the lead times in steps, ascending, and how many are forecast at once."""
    assert card.box is not None  # noqa: S101 - asked of such cards only
    single = isinstance(lead, str) or np.ndim(lead) == 0
    hours = lead_hours(lead)
    step = hours_of(card)
    for one in hours:
        if one <= 0 or abs(one / step - round(one / step)) > 1e-6:
            raise _no_multiple(one, step, card)
    steps = sorted({round(one / step) for one in hours})
    steps = list(range(1, steps[-1] + 1)) if single else steps
    return tuple(steps), min(steps[-1], card.box.ahead)


def _no_multiple(hours: float, step: float, card: Card) -> OptionError:
    near = max(1, round(hours / step)) * step
    msg = (
        "A forecast is for a time to come."
        if hours <= 0
        else f"{card.name} forecasts in steps of {step:g} h."
    )
    return OptionError(
        msg,
        found=f'lead="{hours:g}h"',
        needed=f"a multiple of {step:g} h, greater than 0",
        hint=f'lead="{near:g}h"',
    )


def _check_members(members: Any) -> None:
    if isinstance(members, bool | np.bool_):
        return
    msg = f"members is yes or no, not {members!r}."
    raise OptionError(
        msg,
        found=f"members={members!r}",
        needed="True (all members) or False (their mean and spread)",
        hint="ds.atmo.forecast(members=True)",
    )


def _refuse(card: Card, **arguments: Any) -> None:
    """Refuse what is for models that are told the lead time."""
    given = [key for key, value in arguments.items() if value is not None]
    if given:
        msg = f"{card.name} forecasts all fields and all times on the way at once."
        hint = 'ds.atmo.forecast(lead="24h")[["u10"]], without it'
        needed = "a model with [leads] in its card"
        raise OptionError(msg, found=f"{given[0]}=", needed=needed, hint=hint)


def _no_way(card: Card) -> ModelNotFoundError:
    able = [c.name for c in list_models("forecast") if c.box or c.leads]
    msg = f"This version of xatmo cannot forecast with {card.name!r}."
    return ModelNotFoundError(
        msg,
        found=f"architecture {card.architecture!r}, without [box] or [leads]",
        needed=f"a model with one of them: {', '.join(able) or 'there is none yet'}",
        hint=f"model={able[0]!r}" if able else "xatmo.list_models('forecast')",
    )
