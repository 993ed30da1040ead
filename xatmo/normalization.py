"""fit_normalization(): a model's constants, measured on the user's own data."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from xatmo.errors import (
    ExtrapolationWarning,
    FieldError,
    FieldNotFoundError,
    LevelError,
    MissingValuesError,
    OptionError,
    TimeAxisError,
)
from xatmo.fields import Fields, Level, as_dataset, find_quantities, read
from xatmo.gridfit import grid_problem
from xatmo.matching import model_for, outside
from xatmo.moments import Sketch, sketch
from xatmo.zoo import (
    BoxNormalization,
    Card,
    Constants,
    Model,
    Normalization,
    load_model,
)
from xatmo.zoo.card import BoxField

__all__ = ["constants", "fit_normalization"]


def fit_normalization(
    obj: xr.Dataset | xr.DataArray | xr.DataTree,
    model: str | Model | None = None,
    *,
    level: Any = None,
    by: Literal["month"] | None = None,
    local: bool = False,
) -> Normalization | tuple[Normalization, ...] | BoxNormalization:
    """Measure the constants of a model's normalisation on one's own data.

    For a level that the model does not know, or for data whose spread differs from
    what it was trained on: another grid spacing, a simulation. All grid points and
    times count alike, as in the paper.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
        Holds what the model reads, as for :func:`xatmo.embed`. Eager or lazy: lazy data
        are read once, chunk by chunk, and any chunks give the same constants.
    model : str or Model, optional
        Whose inputs and kind of normalisation to take; the default model for
        embeddings if not given.
    level : str, number or list, optional
        Which level to measure where there are several; any level that the data hold. Of
        a model that reads boxes: some of its levels; all that the data hold if not
        given.
    by : {"month"}, optional
        Of a model that reads boxes: constants for each calendar month, not for all.
    local : bool
        Of a model that reads boxes: constants for each grid point, not for all.

    Returns
    -------
    Normalization or tuple of Normalization
        One for each level of a list. To use, keep and load them see
        :meth:`xatmo.Model.with_normalization` and :class:`xatmo.Normalization`.
    BoxNormalization
        Of a model that reads boxes, for all of its fields that the data hold.

    Raises
    ------
    xatmo.errors.LevelError
        If there are several levels and none was chosen, or the data do not say which.
    xatmo.errors.MissingValuesError
        If a variable has no finite value. Single gaps are left out and counted.
    xatmo.errors.FieldError
        If a variable is constant.
    xatmo.errors.AtmoError
        As for :func:`xatmo.embed`.

    Warns
    -----
    xatmo.errors.ExtrapolationWarning
        If the model does not read this grid: the constants are those of this spacing.

    Notes
    -----
    ``kind="signlog"``: z = (x - mean) / std, y = sign(z) ln(1 + alpha abs(z)), and the
    network reads (y - log_mean) / log_std. Mean and std are exact. Those of y come from
    a histogram with bins of 0.1 %, so that one pass is enough; their measured error is
    below 1e-10 of log_std for winds and their derivatives, 1e-6 for pressures.

    References
    ----------
    Hoffmann, S. and Lessig, C. (2023): AtmoDist: Self-supervised representation
    learning for atmospheric dynamics. Environmental Data Science 2, e6.

    Examples
    --------
    >>> import xatmo
    >>> ds = xatmo.open_sample(chunks={"time": 8})
    >>> norm = xatmo.fit_normalization(ds)
    >>> norm.level, norm.period
    ('sigma 0.95', ('1999-11-30T06:00', '1999-12-10T00:00'))
    >>> model = xatmo.load_model().with_normalization(norm)
    >>> ds.atmo.embed(model).attrs["comment"]
    "...; normalisation at sigma 0.95 fitted to the user's data"
    """
    found = load_model(model) if model else model_for(obj, None, capability="embed")
    card = found.card
    if card.fields:
        return _of_boxes(obj, card, level, by, local)
    if by is not None or local:
        raise _only_boxes(card, by)
    fields = read(obj, [i.quantity for i in card.inputs], level=level)
    _check_levels(fields, level)
    _warn_of_grid(fields, card)
    several = [
        _normalization(fields, card, index, sketches)
        for index, sketches in enumerate(_sketches(fields, card))
    ]
    return (
        tuple(several) if isinstance(level, list | tuple | np.ndarray) else several[0]
    )


def constants(
    sketches: Sequence[Sketch], alpha: float | None
) -> dict[str, tuple[float, ...]]:
    """Return ``mean`` and ``std``, with ``alpha`` also ``log_mean`` and ``log_std``."""
    told = {
        "mean": tuple(s.mean for s in sketches),
        "std": tuple(s.std for s in sketches),
    }
    if alpha is not None:
        log = [s.log_moments(alpha) for s in sketches]
        told |= {"log_mean": tuple(m for m, _ in log)}
        told |= {"log_std": tuple(s for _, s in log)}
    return told


def _sketches(fields: Fields, card: Card) -> list[list[Sketch]]:
    """One for each level and input; all lazy ones in one pass over the data."""
    import dask

    table = [
        [sketch(fields.at_level(i.quantity, index).data) for i in card.inputs]
        for index in range(len(fields.levels))
    ]
    (computed,) = dask.compute(table)
    return computed


def _normalization(
    fields: Fields, card: Card, index: int, sketches: Sequence[Sketch]
) -> Normalization:
    for channel, found in zip(card.inputs, sketches, strict=True):
        _check_numbers(found, fields, channel.quantity, fields.levels[index])
    scaling = card.normalization
    told = constants(sketches, scaling.alpha if scaling.kind == "signlog" else None)
    return Normalization(
        kind=scaling.kind,
        alpha=scaling.alpha,
        level=_label(fields.levels[index], card),
        quantities=tuple(i.quantity for i in card.inputs),
        units=tuple(i.units for i in card.inputs),
        mean=told["mean"],
        std=told["std"],
        log_mean=told.get("log_mean"),
        log_std=told.get("log_std"),
        spacing=fields.grid.spacing,
        period=_period(fields),
        count=tuple(s.count for s in sketches),
        missing=tuple(s.missing for s in sketches),
    )


def _label(level: Level, card: Card) -> str:
    """What the card calls a level, or what it would call it."""
    known = [lv.level for lv in card.levels if Level.parse(lv.level) == level]
    return known[0] if known else str(level)


def _period(fields: Fields) -> tuple[str, str] | None:
    time = fields.axes.time
    field = next(iter(fields.data.values()))
    if time is None or time not in field.indexes or not field.sizes[time]:
        return None
    index = field.indexes[time]
    if not (np.issubdtype(index.dtype, np.datetime64) or index.dtype == object):
        return None
    ends = (index.min(), index.max())
    first, last = (
        e.isoformat(timespec="minutes") if hasattr(e, "isoformat") else str(e)
        for e in ends
    )
    return first, last


def _check_levels(fields: Fields, level: Any) -> None:
    unknown = [lv for lv in fields.levels if lv.kind == "unknown"]
    if unknown:
        msg = "The data do not say what level they are at, and constants need one."
        raise LevelError(
            msg,
            found=", ".join(map(str, fields.levels[:6])),
            needed="the level that these constants are for",
            hint='level="10 m", if that is where they are',
        )
    if len(fields.levels) == 1 or level is not None:
        return
    texts = [f'"{lv}"' for lv in fields.levels]
    msg = "Constants belong to one level, and the data hold several."
    raise LevelError(
        msg,
        found=", ".join(map(str, fields.levels[:6])),
        needed="a choice between them",
        hint=f"level={texts[0]}, or all of them in one pass: "
        f"level=[{', '.join(texts)}]",
    )


def _check_numbers(found: Sketch, fields: Fields, quantity: str, level: Level) -> None:
    names = " and ".join(fields.sources[quantity]) or quantity
    if not found.count:
        msg = f"There is no finite value of {quantity} at {level}."
        raise MissingValuesError(
            msg,
            found=f"{names}: {found.missing:,} missing values, and no other",
            needed="numbers to take the mean of",
            hint="select what has values, e.g. ds.dropna('time', how='all')",
        )
    if found.std == 0.0:
        msg = f"{quantity} at {level} is the same everywhere."
        raise FieldError(
            msg,
            found=f"{names}: {found.mean:g} in all {found.count:,} values",
            needed="a field that varies: it is divided by its standard deviation",
            hint=f"look at ds[{fields.sources[quantity][0]!r}]: is it what was meant?",
        )


def _warn_of_grid(fields: Fields, card: Card) -> None:
    problem = grid_problem(fields.grid, fields.axes, card)
    if problem is None:
        return
    lat, lon = fields.grid.spacing
    warnings.warn(
        f"{problem.problem} These constants are for {lat:g} x {lon:g}° and for no "
        f"other grid: fit them again after {problem.hint}",
        ExtrapolationWarning,
        stacklevel=outside(),
    )


# --- Models that read boxes ---------------------------------------------------------

_WINDS = ("eastward_wind", "northward_wind")  # what others may be derived from
_MONTHS = range(1, 13)


def _of_boxes(
    obj: Any, card: Card, level: Any, by: str | None, local: bool
) -> BoxNormalization:
    """Measure all fields at all their levels that the data hold, in one pass."""
    import dask

    if by not in (None, "month"):
        msg = f"Constants by {by!r} are not known."
        raise OptionError(msg, found=repr(by), needed="'month' or None", hint="by=None")
    found = {
        (entry.name, text): (entry, fields)
        for entry in card.fields
        for text, fields in _held(obj, entry, level).items()
    }
    if not found:
        raise _no_fields(obj, card)
    one = next(fields for _, fields in found.values())
    _warn_of_grid(one, card)
    lazy = {key: _moments(fields, by, local) for key, (_, fields) in found.items()}
    (told,) = dask.compute(lazy)
    constants = {
        key: _of_moments(told[key], fields, entry, key[1], local)
        for key, (entry, fields) in found.items()
    }
    return BoxNormalization(
        constants,
        {entry.name: entry.quantity for entry, _ in found.values()},
        {entry.name: entry.units for entry, _ in found.values()},
        spacing=one.grid.spacing,
        period=_period(one),
        count={key: int(table[0].sum()) for key, table in told.items()},
        missing={key: int(table[3].sum()) for key, table in told.items()},
    )


def _held(obj: Any, entry: BoxField, level: Any) -> dict[str, Fields]:
    """Read a field at those of its levels that the data hold and the user wants."""
    held = find_quantities(as_dataset(obj))
    sources = [entry.quantity] if entry.quantity in held else list(_WINDS)
    offered = {lv for q in sources for one in held.get(q, ()) for lv in one.levels}
    several = level if isinstance(level, list | tuple | np.ndarray) else [level]
    asked = None if level is None else {Level.parse(one) for one in several}
    told: dict[str, Fields] = {}
    for text in (lv.level for lv in entry.levels):
        known = Level.parse(text)
        # Data that do not say their level are at the one that the user names.
        said = known in offered or known.kind == "surface" or asked is not None
        if said and (asked is None or known in asked):
            with contextlib.suppress(FieldNotFoundError, LevelError):
                told[text] = read(obj, [entry.quantity], level=text)
    return told


def _moments(fields: Fields, by: str | None, local: bool) -> tuple[xr.DataArray, ...]:
    """Count, mean, spread and missing values, (month, latitude, longitude) or less."""
    field = next(iter(fields.data.values())).astype(float)
    if by is None:
        groups = [field]
    else:
        months = _months(fields)
        groups = [field.isel({fields.axes.time: months == m}) for m in _MONTHS]
    places = {"latitude", "longitude"} if local else set()
    parts = []
    for group in groups:
        good = group.where(np.isfinite(group))
        over = [d for d in group.dims if d not in places]
        mean, spread = good.mean(over), good.std(over)
        parts.append((good.count(over), mean, spread, good.isnull().sum(over)))
    columns = zip(*parts, strict=True)
    return tuple(
        xr.concat(c, "month", coords="minimal", compat="override") for c in columns
    )


def _months(fields: Fields) -> np.ndarray:
    """Calendar month of each time; all twelve have to be there."""
    time = fields.axes.time
    field = next(iter(fields.data.values()))
    coord = field.coords.get(time) if time in field.dims else None
    hint = "by=None: the same constants for all months"
    if coord is None or not hasattr(coord, "dt") or coord.dtype.kind not in "MO":
        msg = "Constants of months need dates."
        found = f"{field.name} {field.dims}, time axis {time!r}"
        raise TimeAxisError(msg, found=found, needed="a time axis of dates", hint=hint)
    months = np.asarray(coord.dt.month)
    absent = [str(m) for m in _MONTHS if m not in months]
    if absent:
        msg = "The data do not hold all months of the year."
        found = f"nothing of month {', '.join(absent)}"
        needed = "times in each month from 1 to 12"
        raise TimeAxisError(msg, found=found, needed=needed, hint=hint)
    return months


def _of_moments(
    table: tuple[xr.DataArray, ...],
    fields: Fields,
    entry: BoxField,
    level: str,
    local: bool,
) -> Constants:
    """Make constants of count, mean, spread and missing values of one field."""
    count, mean, std, _ = (np.asarray(part, dtype=float) for part in table)
    # Rounding leaves a constant field some spread: see Sketch.std.
    good = std > 1e-9 * np.abs(mean)
    names = " and ".join(fields.sources[entry.quantity])
    if not (count > 0).any() or not (local or (count > 0).all()):
        msg = f"There is no finite value of {entry.quantity} at {level}."
        found, needed = f"{names}: missing values alone", "numbers to take the mean of"
        hint = "select what has values, e.g. ds.dropna('time', how='all')"
        raise MissingValuesError(msg, found=found, needed=needed, hint=hint)
    if not good.any() or not (local or good.all()):
        msg = f"{entry.quantity} at {level} is the same everywhere."
        found = f"{names}: {np.nanmax(mean):g} in all {count.sum():,.0f} values"
        needed = "a field that varies: it is divided by its standard deviation"
        hint = f"look at ds[{fields.sources[entry.quantity][0]!r}]"
        raise FieldError(msg, found=found, needed=needed, hint=hint)
    if not local:
        return Constants.of(mean.ravel(), std.ravel())
    mean, std = (np.where(good, x, np.nan) for x in (mean, std))
    longitude = fields.grid.longitude % 360
    order = np.argsort(longitude, kind="stable")
    return Constants(
        mean[..., order], std[..., order], fields.grid.latitude, longitude[order]
    )


def _no_fields(obj: Any, card: Card) -> FieldNotFoundError:
    held = find_quantities(as_dataset(obj))
    levels = {q: {str(lv) for f in fs for lv in f.levels} for q, fs in held.items()}
    have = "; ".join(f"{q} at {', '.join(sorted(lvs))}" for q, lvs in levels.items())
    msg = f"The data hold no field of {card.name} at a level that it reads."
    return FieldNotFoundError(
        msg,
        found=have or ", ".join(map(str, as_dataset(obj).data_vars)) or "no variables",
        needed="; ".join(
            f"{f.quantity} at {', '.join(lv.level for lv in f.levels)}"
            for f in card.fields
        ),
        hint="level='10 m' if the data do not say theirs; else select or interpolate",
    )


def _only_boxes(card: Card, by: str | None) -> OptionError:
    msg = f"{card.name} has one set of constants for all months and places."
    found = "by=" + repr(by) if by else "local=True"
    needed = "a model that reads boxes, for constants of months or places"
    hint = f"xatmo.fit_normalization(ds, {card.name!r})"
    return OptionError(msg, found=found, needed=needed, hint=hint)
