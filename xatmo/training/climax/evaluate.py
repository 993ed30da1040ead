"""``xatmo evaluate MODEL --data FILE`` for ClimaX: forecasts beside plain ones.

Everything goes through :func:`xatmo.forecast`, on whole domains. The rivals are no
change, the usual state, linear regression, and other models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from xatmo.errors import FieldNotFoundError, LevelError, OptionError
from xatmo.fields import find_axes, find_quantities
from xatmo.metrics import anomaly_correlation, rmse
from xatmo.training.climax.plain import LinearForecast, fit_linear
from xatmo.training.recipe import Source
from xatmo.training.series import evenly, levels_of
from xatmo.training.source import open_source, said
from xatmo.zoo import Card, Model, load_model

__all__ = ["LEADS", "evaluate"]

LEADS = (6, 24, 72)
"""Hours ahead that are scored, of those that a model was trained with."""
_TIMES = 120
_CHUNK = 16


def evaluate(
    model: str | Model | Sequence[str | Model],
    data: Source | Sequence[Source],
    *,
    reference: Sequence[Sequence[Source]] = (),
    leads: Sequence[int] | None = None,
    times: int | None = None,
    folder: str | Path = "runs/evaluate",
    seed: int = 7,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a ClimaX on data, beside plain forecasts.

    Parameters
    ----------
    model : str or Model, or several of them
        With ``[leads]`` in the card. All are scored, the first is the one that the
        page is about.
    data : Source or sequence of them
        Files or stores of one scene: the truth, on the grid of the model.
    reference : sequence of sequences of Source
        Scenes that the climatology is the mean of, and that linear regression is fitted
        to: those of training. Without it the climatology is the mean of the data
        themselves, which favours it, and there is no regression.
    leads : sequence of int, optional
        Hours ahead; 6, 24 and 72 if not given, or the shortest and the longest of the
        first model's training where that is shorter.
    times : int, optional
        How many forecasts are scored, 120 by default, spread over the series.
    folder : path
        Not used: nothing has to be prepared.
    seed : int
        Of the points that the regression is fitted on.
    progress : bool
        Show a progress bar on the standard error stream.

    Returns
    -------
    dict
        ``forecast``: a list of rows, one for each variable, level and lead time; ready
        for JSON.

    Raises
    ------
    xatmo.errors.OptionError
        If there are not enough times.
    """
    if times is not None and times < 1:
        msg, needed = f"There cannot be {times} times to score.", "at least 1"
        raise OptionError(msg, found=f"times={times}", needed=needed, hint="times=8")
    asked = [model] if isinstance(model, str | Model) else list(model)
    models = [load_model(one, capability="forecast") for one in asked]
    sources = [data] if isinstance(data, Source) else list(data)
    ds = _opened(sources, models[0])
    if ds is None:
        raise _nothing(sources, models[0])
    held = [_opened(list(scene), models[0], least=list(ds)) for scene in reference]
    fitted = [one for one in held if one is not None]
    asked_leads = leads or _known_leads(models[0])
    rows = [*_rows(ds, fitted, models, asked_leads, times or _TIMES, seed, progress)]
    card = models[0].card
    return {
        "model": f"{card.name} {card.version}",
        "sha256": card.weights.sha256,
        "against": [f"{m.card.name} {m.card.version}" for m in models[1:]],
        "data": ["; ".join(dict.fromkeys(map(said, sources)))],
        "climatology": _reference_said(reference, held),
        "seed": seed,
        "forecast": rows,
    }


def _known_leads(model: Model) -> list[int]:
    told = model.card.leads
    assert told is not None  # noqa: S101 - such models are scored here
    found = [lead for lead in LEADS if told.shortest <= lead <= told.longest]
    return found if len(found) > 1 else sorted({told.shortest, told.longest})


def _placed(ds: xr.Dataset, card: Card) -> xr.Dataset:
    """Leave the points of the region, where a model reads one alone."""
    if card.grid.latitude is None or card.grid.longitude is None:
        return ds
    axes = find_axes(ds)
    lat, lon = str(axes.latitude), str(axes.longitude)
    rows, columns = card.grid.patch
    north = np.linspace(*card.grid.latitude, rows)
    away = (np.linspace(*card.grid.longitude, columns) - float(ds[lon][0])) % 360
    east = float(ds[lon][0]) + away
    points = {lat: north if ds[lat][0] > ds[lat][-1] else north[::-1], lon: east}
    return ds.sel(points, method="nearest", tolerance=0.51 * max(card.grid.spacing))


def _opened(
    sources: Sequence[Source], model: Model, *, least: Sequence[str] = ()
) -> Any:
    """Read a scene into memory: its variables that the model knows.

    None if it lacks some of those that are wanted at least.
    """
    parts: dict[tuple[object, ...], tuple[Source, list[str]]] = {}
    for source in sources:
        # Levels of one file are all read at once.
        key = (source.path, source.start, source.end, source.coarsen, source.grid)
        parts.setdefault(key, (source, []))[1].extend(source.quantities)
    able = {field.quantity for field in model.card.fields}
    opened = []
    for source, quantities in parts.values():
        ds = _placed(open_source(source), model.card)
        found = find_quantities(ds)
        wanted = [q for q in dict.fromkeys(quantities or sorted(able)) if q in able]
        names = [f.name for q in wanted for f in found.get(q, ())]
        if names := [n for n in names if not least or n in least]:
            opened.append(ds[names])
    if not opened:
        return None
    merged = xr.merge(opened, join="inner", compat="override")
    if least:
        if not set(least) <= set(merged.data_vars):
            return None
        merged = merged[list(least)]
    return merged.compute()


def _reference_said(
    reference: Sequence[Sequence[Source]], held: Sequence[xr.Dataset | None]
) -> str:
    used = [
        "; ".join(dict.fromkeys(map(said, scene)))
        for scene, ds in zip(reference, held, strict=True)
        if ds is not None
    ]
    return " and ".join(used) if used else "the data themselves"


# --- Forecasts ------------------------------------------------------------------------


def _rows(
    ds: xr.Dataset,
    reference: Sequence[xr.Dataset],
    models: Sequence[Model],
    leads: Sequence[int],
    most: int,
    seed: int,
    progress: bool,
) -> Iterator[dict[str, Any]]:
    """One row for each variable, level and lead time."""
    time = str(find_axes(ds).time)
    usual, linear = _fitted(ds, reference, time, leads, seed)
    index = ds.indexes[time]
    scored = 0
    for lead in tqdm(leads, "lead times", disable=not progress):
        ahead = pd.Timedelta(hours=lead)
        able = index[[start + ahead in index for start in index]]
        if not len(able):
            continue
        scored += 1
        starts = able[evenly(len(able), most)]
        now = ds.sel({time: starts})
        truth = ds.sel({time: starts + ahead}).assign_coords({time: starts})
        found = {"persistence": now, "climatology": usual.broadcast_like(truth)}
        if linear:
            found["linear"] = _predicted(linear, now, time, lead)
        for number, model in enumerate(models):
            told = _ahead(now, ahead, model, time, optional=number > 0)
            if told is not None:
                found[model.card.name if number else "rmse"] = told
        yield from _scores(found, truth, usual, time, lead)
    if not scored:
        raise _too_short(index, leads)


def _ahead(
    now: xr.Dataset, ahead: pd.Timedelta, model: Model, time: str, *, optional: bool
) -> xr.Dataset | None:
    """Forecast; None if another model reads none of these variables."""
    import xatmo

    try:
        told = xatmo.forecast(now.chunk({time: _CHUNK}), ahead, model)
    except (FieldNotFoundError, LevelError):
        if optional:
            return None
        raise
    told = told.isel(lead_time=0, drop=True)
    return told.drop_vars("valid_time", errors="ignore").compute()


def _scores(
    found: dict[str, xr.Dataset],
    truth: xr.Dataset,
    usual: xr.Dataset,
    time: str,
    lead: int,
) -> Iterator[dict[str, Any]]:
    places = [str(find_axes(truth).latitude), str(find_axes(truth).longitude)]
    for name in truth.data_vars:
        for level, choose in levels_of(truth[name], time):
            true, mean = truth[name].isel(choose), usual[name].isel(choose)
            row: dict[str, Any] = {
                "variable": str(name),
                "level": level,
                "units": str(true.attrs.get("units", "")),
                "lead": f"{lead}h",
                "times": int(true.sizes[time]),
            }
            for rival, forecast in found.items():
                if name not in forecast:
                    continue
                one = forecast[name].isel(choose)
                # As published: the mean of the errors of single forecasts.
                row[rival] = float(rmse(one, true, places).mean())
                if rival in ("rmse", "persistence", "linear"):
                    key = "acc" if rival == "rmse" else f"acc_{rival}"
                    row[key] = float(anomaly_correlation(one, true, mean))
            yield row


def _nothing(sources: Sequence[Source], model: Model) -> FieldNotFoundError:
    msg = f"The data hold nothing that {model.card.name} forecasts."
    return FieldNotFoundError(
        msg,
        found="; ".join(map(said, sources)),
        needed=f"one of {', '.join(f.quantity for f in model.card.fields)}",
        hint="xr.open_dataset(...).atmo shows what was recognised",
    )


def _too_short(index: Any, leads: Sequence[int]) -> OptionError:
    msg = "No forecast of these data can be compared with what came."
    return OptionError(
        msg,
        found=f"{len(index)} times from {index[0]} to {index[-1]}",
        needed=f"times that lie {', '.join(map(str, leads))} h apart",
        hint="take a longer series",
    )


# --- Plain forecasts ------------------------------------------------------------------


def _fitted(
    ds: xr.Dataset,
    reference: Sequence[xr.Dataset],
    time: str,
    leads: Sequence[int],
    seed: int,
) -> tuple[xr.Dataset, LinearForecast | None]:
    """Return the climatology, and the regression if there are data for it."""
    if not reference:
        return ds.mean(time, keep_attrs=True), None
    stacks = [_stack(one, time) for one in reference]
    series = [
        (_hours(one.indexes[time]), stack)
        for one, stack in zip(reference, stacks, strict=True)
    ]
    latitude = ds[str(find_axes(ds).latitude)].values
    linear = fit_linear(series, latitude, leads, seed=seed)
    usual = _unstack(linear.usual[None], ds.isel({time: [0]}), time)
    return usual.isel({time: 0}, drop=True), linear


def _predicted(
    linear: LinearForecast, now: xr.Dataset, time: str, lead: int
) -> xr.Dataset:
    return _unstack(linear.forecast(_stack(now, time), lead), now, time)


def _stack(ds: xr.Dataset, time: str) -> np.ndarray:
    """All variables at all levels: (T, C, H, W)."""
    axes = find_axes(ds)
    order = (time, str(axes.latitude), str(axes.longitude))
    return np.stack(
        [
            ds[name].isel(choose).transpose(*order).values
            for name in ds.data_vars
            for _, choose in levels_of(ds[name], time)
        ],
        1,
    )


def _unstack(values: np.ndarray, like: xr.Dataset, time: str) -> xr.Dataset:
    """The other way round, with the coordinates of a data set."""
    axes = find_axes(like)
    order = (time, str(axes.latitude), str(axes.longitude))
    out, at = {}, 0
    for name in like.data_vars:
        da = like[name].astype(values.dtype).copy()
        for _, choose in levels_of(like[name], time):
            where = da.isel(choose).transpose(*order)
            da[choose] = where.copy(data=values[:, at])
            at += 1
        out[name] = da
    return xr.Dataset(out, attrs=like.attrs)


def _hours(index: pd.Index) -> np.ndarray:
    return np.asarray((index - index[0]) // pd.Timedelta(hours=1))
