"""interpolate_time(): the times between those of the data, by a network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from xatmo.boxes import Boxes, read_boxes
from xatmo.boxes.filling import filled, on_own_columns, spans_of, spread_attrs
from xatmo.boxes.steps import Steps, check_steps
from xatmo.embedding import history_of
from xatmo.errors import ModelNotFoundError, OptionError
from xatmo.fields import unpack
from xatmo.lags import as_hours
from xatmo.provenance import sign
from xatmo.zoo import Card, Model, list_models, load_model

__all__ = ["interpolate_time"]


def interpolate_time(
    obj: xr.Dataset | xr.DataArray | xr.DataTree,
    freq: Any,
    model: str | Model | None = None,
    *,
    spread: bool = True,
    level: Any = None,
) -> xr.Dataset:
    """Interpolate atmospheric fields in time, by what a network knows of how they move.

    A mean of two fields has each vortex twice and half as deep. The network was trained
    to fill in what is hidden of a box in space and time; here that is all times between
    those of the data.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
        Holds some of the fields that the model reads (see ``xatmo.load_model()``), in
        names and units of the common sources, at equal time steps: multiples of the
        model's that a box has room for. Eager or lazy, in any chunks.
    freq : str or timedelta
        The new time step: that of the model, or a multiple of it that divides the time
        step of the data.
    model : str or Model, optional
        The default model for interpolation if not given.
    spread : bool, optional
        Give the standard deviation of the members of the ensemble under
        ``<name>_spread``: how sure the network is.
    level : str, number or list, optional
        Which levels to use: ``"10 m"``, ``[850, 500]`` (hPa); all that both the data
        and the model have if not given.

    Returns
    -------
    Dataset
        The fields that the model predicts, from the first to the last time of the data,
        in the names, units, order, orientation, type and chunks of the input; a chunk
        spans the same days and so has more times. What the data hold stays as it is, to
        the last bit, and has no spread (0); what is between are means of the ensemble.
        ``attrs`` say which fields were used and which ones the data lack.

    Raises
    ------
    xatmo.errors.FieldNotFoundError, xatmo.errors.UnitsError, xatmo.errors.LevelError
        If none of the model's fields can be read from ``obj``.
    xatmo.errors.GridError
        If the grid is too coarse, too fine or too small for the model.
    xatmo.errors.TimeAxisError
        If there is one time only, or times are not equally far apart, or not in steps
        that suit the model.
    xatmo.errors.OptionError
        If ``freq`` is no multiple of the model's time step, does not divide that of the
        data, or is the same.

    Notes
    -----
    Missing values (NaN) at the times of the data stay missing, and a point that is
    missing both before and after is so in between: gaps are filled by
    :func:`xatmo.infill`.

    References
    ----------
    Lessig, C. et al. (2023): AtmoRep: A stochastic model of atmosphere dynamics using
    large scale representation learning. https://arxiv.org/abs/2308.13280

    Examples
    --------
    >>> import xatmo
    >>> ds = xatmo.open_sample()[["u", "v"]].isel(lat=slice(36, 60), lon=slice(24))
    >>> twice_a_day = ds.isel(time=slice(0, 9, 2))
    >>> six_hourly = twice_a_day.atmo.interpolate_time(freq="6h")
    >>> six_hourly.sizes["time"], list(six_hourly)
    (9, ['u', 'v', 'u_spread', 'v_spread'])
    """
    _check_spread(spread)
    found = load_model(model, capability="interpolate")
    if found.card.box is None:
        raise _no_way(found.card)
    hours = _hours(freq)
    boxes = read_boxes(obj, found, level=level, any_step=True)
    steps = check_steps(hours, boxes)
    variables = _interpolated(boxes, steps, spread=bool(spread))
    signed = partial(
        sign,
        verb="interpolate_time",
        card=boxes.card,
        arguments={"freq": freq, "spread": spread, "level": level},
        notes=(*boxes.notes, _said(boxes, steps)),
        history=history_of(obj),
    )
    for variable in variables.values():
        signed(variable, attrs={**variable.attrs, **boxes.about})
    return signed(xr.Dataset(variables), attrs=dict(boxes.about))


def _interpolated(
    boxes: Boxes, steps: Steps, *, spread: bool
) -> dict[str, xr.DataArray]:
    size = boxes.domain().box[0]
    starts = steps.starts(size)
    spans = spans_of(boxes, starts, steps.target(starts, size))
    times = boxes.times.at(np.arange(steps.stop) * steps.new, boxes.step)
    chunks = None if boxes.data.chunks is None else _grown(boxes.data, steps)
    variables, spreads = {}, {}
    for name, (mean, deviation) in filled(boxes, spans, times, chunks).items():
        known = _known(boxes, name, mean)
        gone = known.isnull()
        # Missing before and after: there is nothing to be between.
        never = gone & gone.shift({boxes.time: -1}, fill_value=True)
        about = (boxes, name, steps)
        values = _mixed(known, mean.variable, never, boxes.time, steps)
        variables[name] = _labelled(mean, values, mean.attrs, *about)
        if spread:
            none = xr.where(gone, np.nan, 0.0)
            values = _mixed(none, deviation.variable, never, boxes.time, steps)
            attrs = spread_attrs(mean.attrs, name)
            spreads[f"{name}_spread"] = _labelled(mean, values, attrs, *about)
    return variables | spreads


def _mixed(
    known: xr.Variable,
    new: xr.Variable,
    never: xr.Variable,
    time: str,
    steps: Steps,
) -> xr.Variable:
    """What is known, and what is new between, but where it ``never`` was."""
    known, never = (_repeated(part, time, steps) for part in (known, never))
    at = xr.Variable((time,), steps.known)
    mixed = xr.where(at, known.astype(new.dtype, copy=False), new.where(~never))
    return mixed.transpose(*new.dims)


def _known(boxes: Boxes, name: str, like: xr.DataArray) -> xr.Variable:
    """What the data hold of a variable of the result, along its dimensions."""
    channels = [c for c in boxes.channels if c.held.variable == name]
    held = sorted((c.held for c in channels), key=lambda h: h.position)
    dim = held[0].found.level_dim
    if not held[0].derived:
        own = unpack(channels[0].source)
        own = own.compute() if own.chunks is None else own
        if dim is not None:
            single = held[0].level_dim is None
            at = [h.position for h in held]
            own = own.isel({dim: at[0] if single else at})
        if set(own.dims) == set(like.dims):
            return own.variable.transpose(*like.dims)
    # Made of others: from what the network reads.
    months = xr.DataArray(boxes.times.index.month, dims=(boxes.time,))
    values = boxes.to_user(boxes.data, months)[name]
    return on_own_columns(values, boxes.grid).variable.transpose(*like.dims)


def _repeated(known: xr.Variable, time: str, steps: Steps) -> xr.Variable:
    """Each time as often as there are times until the next, the last one once."""
    axis = known.get_axis_num(time)
    repeat: Any = np.repeat
    if known.chunks is not None:
        import dask.array

        repeat = dask.array.repeat
    values = repeat(known.data, steps.times, axis=axis)
    return xr.Variable(known.dims, values).isel({time: slice(steps.stop)})


def _grown(da: xr.DataArray, steps: Steps) -> tuple[int, ...]:
    """Chunks along time that span what they did before."""
    *first, last = da.chunks[0] if da.chunks is not None else (da.sizes[da.dims[0]],)
    return *(n * steps.times for n in first), (last - 1) * steps.times + 1


def _labelled(
    like: xr.DataArray,
    values: xr.Variable,
    attrs: Mapping[str, Any],
    boxes: Boxes,
    name: str,
    steps: Steps,
) -> xr.DataArray:
    """Values with the user's coordinates and chunks, and with times in between."""
    own = next(c.source for c in boxes.channels if c.held.variable == name)
    coords: dict[Any, Any] = {}
    for key, coord in own.coords.items():
        if coord.dims == (boxes.time,):
            coords |= _between(coord, steps)
        elif all(like.sizes.get(d) == n for d, n in coord.sizes.items()):
            coords[key] = coord.variable
        elif key in like.coords:
            coords[key] = like.coords[key].variable
    rest = {n: c.variable for n, c in like.coords.items() if n not in coords}
    da = xr.DataArray(values, coords=coords | rest, name=like.name, attrs=dict(attrs))
    if da.chunks is None or own.chunks is None:
        return da
    cut = {d: c for d, c in own.chunksizes.items() if sum(c) == da.sizes.get(d)}
    return da.chunk({**cut, boxes.time: _grown(own.transpose(boxes.time, ...), steps)})


def _between(coord: xr.DataArray, steps: Steps) -> dict[Any, xr.Variable]:
    """Times, or lengths of time, and those between them; nothing else can be said."""
    old = coord.compute(scheduler="synchronous").values
    if old.dtype.kind not in "mM" and not hasattr(old[0], "dayofyr"):
        return {}
    new = [
        x + (y - x) * part // steps.times
        for x, y in pairwise(old)
        for part in range(steps.times)
    ]
    attrs = {k: v for k, v in coord.attrs.items() if k != "bounds"}
    values = np.array([*new, old[-1]], old.dtype)
    return {coord.name: xr.Variable(coord.dims, values, attrs)}


def _said(boxes: Boxes, steps: Steps) -> str:
    every = steps.old * boxes.step
    return (
        f"times every {every:g} h from the first on are those of the data, the others "
        f"means of {boxes.domain().members} members"
    )


# --- What cannot be asked for ---------------------------------------------------------


def _hours(freq: Any) -> float:
    # A unit alone, as in pandas: "D".
    text = f"1{freq}" if isinstance(freq, str) and freq.isalpha() else freq
    try:
        hours = as_hours(text)
    except OptionError as error:
        msg = f"{freq!r} is no time step."
        raise OptionError(
            msg,
            found=f"freq={freq!r}",
            needed="a length of time: text such as '6h', or a timedelta",
            hint=error.hint.replace("lag=", "freq="),
        ) from None
    if hours > 0:
        return hours
    msg = "A time step is longer than nothing."
    raise OptionError(
        msg, found=f"freq={freq!r}", needed="a length of time above 0", hint='freq="6h"'
    )


def _check_spread(spread: Any) -> None:
    if isinstance(spread, bool | np.bool_):
        return
    msg = f"spread is yes or no, not {spread!r}."
    raise OptionError(
        msg,
        found=f"spread={spread!r}",
        needed="True (give the standard deviation of the members) or False",
        hint="ds.atmo.interpolate_time(freq='6h', spread=True)",
    )


def _no_way(card: Card) -> ModelNotFoundError:
    able = [c.name for c in list_models("interpolate") if c.box is not None]
    msg = f"This version of xatmo cannot interpolate with {card.name!r}."
    return ModelNotFoundError(
        msg,
        found=f"architecture {card.architecture!r}, without a [box] in its card",
        needed=f"a model of boxes: {', '.join(able) or 'there is none yet'}",
        hint=f"model={able[0]!r}" if able else "xatmo.list_models('interpolate')",
    )
