"""``xatmo evaluate MODEL --data FILE`` for Multiformers: ahead, between and in gaps.

Everything goes through the verbs that people call, on whole domains: forecasts beside
persistence and the climatology, times between others beside straight lines, and gaps
beside plain methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from xatmo.errors import OptionError, TimeAxisError
from xatmo.fields import find_axes, find_quantities
from xatmo.metrics import crps, crps_normal, mae, rmse, spread_error_ratio, spread_ratio
from xatmo.training.infill.evaluate import EXAMPLE
from xatmo.training.infill.evaluate import evaluate as evaluate_gaps
from xatmo.training.multiformer.masked import PLAIN, masked_scores
from xatmo.training.recipe import Source
from xatmo.training.series import evenly, levels_of
from xatmo.training.source import open_source, said
from xatmo.zoo import Model, load_model

__all__ = ["EVERY", "EXAMPLE", "FAMILIES", "LEADS", "evaluate"]

LEADS = ("6h", "12h", "18h", "24h")
EVERY = (2, 4)
"""Of so many times one is kept, and the others are found again."""
FAMILIES = ("blocks", "clouds")
_TIMES = 16
_GAP_TIMES = 4
_GAP_POINTS = 2**20  # of series whose gaps are filled in whole: more takes an hour
_LONGEST = 25  # times of the stretch that times between are left out of


def evaluate(
    model: str | Model | Sequence[str | Model],
    data: Source,
    *,
    times: int | None = None,
    folder: str | Path = "runs/evaluate",
    seed: int = 7,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a Multiformer on data, beside plain methods.

    Parameters
    ----------
    model : str or Model, or several of them
        With the capability ``forecast``; of several the first.
    data : Source
        A file or store that xarray opens and xatmo reads: the truth.
    times : int, optional
        How many forecasts are scored, 16 by default, spread over the series.
    folder : path
        Prepared data are kept there.
    seed : int
        Of gaps.
    progress : bool
        Show a progress bar on the standard error stream.

    Returns
    -------
    dict
        ``forecast``, ``between`` and ``masked``: lists of rows; ``gaps``: as of
        :func:`xatmo.training.infill.evaluate.evaluate`, or None; ready for JSON.

    Raises
    ------
    xatmo.errors.OptionError
        If there are not enough times.
    """
    if times is not None and times < 1:
        msg = f"There cannot be {times} times to score."
        needed = "at least 1"
        raise OptionError(msg, found=f"times={times}", needed=needed, hint="times=8")
    first = model if isinstance(model, str | Model) else model[0]
    found = load_model(first, capability="forecast")
    ds = open_source(data)
    names = _names(ds, data, found)
    ds = ds[names].compute()
    time = str(find_axes(ds).time)
    rows = [*_ahead(ds, time, found, times or _TIMES, progress)]
    # Boxes and gaps are of one level.
    flat = all(len(list(levels_of(ds[name], time))) == 1 for name in names)
    few = max(da.size for da in ds.data_vars.values()) <= _GAP_POINTS
    gaps = None
    if flat and few:
        gaps = _gaps(found, data, times, Path(folder), seed, progress)
    masked = masked_scores(found, data, Path(folder), seed=seed) if flat else []
    card = found.card
    return {
        "model": f"{card.name} {card.version}",
        "sha256": card.weights.sha256,
        "data": [said(data)],
        "seed": seed,
        "forecast": rows,
        "between": [*_between(ds, time, found, progress)],
        "masked": masked,
        "gaps": gaps,
    }


def _gaps(
    model: Model,
    data: Source,
    times: int | None,
    folder: Path,
    seed: int,
    progress: bool,
) -> dict[str, Any]:
    """Gaps in whole domains, each quantity by itself."""
    gaps = evaluate_gaps(
        model,
        data,
        methods=PLAIN,
        families=FAMILIES,
        times=min(times or _GAP_TIMES, _GAP_TIMES),
        folder=folder,
        seed=seed,
        progress=progress,
    )
    gaps.pop(EXAMPLE)  # maps, which no figure here shows
    return gaps


def _names(ds: xr.Dataset, data: Source, model: Model) -> list[str]:
    """Return the variables that are scored."""
    able = [field.quantity for field in model.card.fields]
    wanted = [q for q in data.quantities or able if q in able]
    found = find_quantities(ds)
    return [f.name for q in wanted for f in found.get(q, ())]


# --- Forecasts ------------------------------------------------------------------------


def _ahead(
    ds: xr.Dataset, time: str, model: Model, most: int, progress: bool
) -> Iterator[dict[str, Any]]:
    """One row for each variable, level and lead."""
    import xatmo

    lazy = ds.chunk({time: 4})
    forecast = xatmo.forecast(lazy, LEADS[-1], model)
    index = ds.indexes[time]
    able = [
        i
        for i, start in enumerate(forecast.indexes[time])
        if all(start + pd.Timedelta(lead) in index for lead in LEADS)
    ]
    if not able:
        msg = "No forecast of these data can be compared with what came."
        raise OptionError(
            msg,
            found=f"{len(index)} times from {index[0]} to {index[-1]}",
            needed=f"times without gaps for {LEADS[-1]} after a forecast begins",
            hint="take a longer series",
        )
    some = [able[i] for i in evenly(len(able), most)]
    parts = []
    for i in tqdm(some, "forecasts", disable=not progress):
        parts.append(forecast.isel({time: [i]}).compute())
    members = xr.concat(parts, time, coords="minimal", compat="override")
    usual, starts = ds.mean(time), members.indexes[time]
    before = ds.sel({time: starts})
    for lead in LEADS:
        ahead = members.sel(lead_time=pd.Timedelta(lead)).drop_vars(
            ["lead_time", "valid_time"], errors="ignore"
        )
        # Under the times when forecasts of them began.
        truth = ds.sel({time: starts + pd.Timedelta(lead)})
        truth = truth.assign_coords({time: starts})
        for name in ds.data_vars:
            for level, choose in levels_of(ds[name], time):
                row = _scored(
                    ahead[name].isel(choose),
                    truth[name].isel(choose),
                    before[name].isel(choose),
                    usual[name].isel(choose),
                )
                head = {"variable": str(name), "level": level, "lead": lead}
                yield {**head, "times": len(some), **row}


def _scored(
    members: xr.DataArray,
    truth: xr.DataArray,
    before: xr.DataArray,
    usual: xr.DataArray,
) -> dict[str, float]:
    mean = members.mean("member")
    return {
        "rmse": float(rmse(mean, truth)),
        "crps": float(crps(members, truth, "member", fair=False)),
        "spread_error": float(spread_error_ratio(members, truth, "member")),
        "persistence": float(rmse(before, truth)),
        "persistence_mae": float(mae(before, truth)),
        "climatology": float(rmse(usual.broadcast_like(truth), truth)),
    }


# --- Times between --------------------------------------------------------------------


def _between(
    ds: xr.Dataset, time: str, model: Model, progress: bool
) -> Iterator[dict[str, Any]]:
    """One row for each variable, level and width of gaps in time."""
    import xatmo

    whole = _longest(ds, time, model)
    for every in tqdm(EVERY, "between", disable=not progress):
        kept = whole.isel({time: slice(None, None, every)})
        if kept.sizes[time] < 3:
            continue
        step = pd.Timedelta(model.card.box.step)  # type: ignore[union-attr]
        try:
            found = xatmo.interpolate_time(kept, step, model)
        except TimeAxisError:  # times that are farther apart than a box is long
            continue
        last = kept.indexes[time][-1]
        truth = whole.sel({time: slice(None, last)})
        new = np.flatnonzero(np.arange(truth.sizes[time]) % every)
        line = kept.interp({time: truth[time]})
        for name in ds.data_vars:
            for level, choose in levels_of(ds[name], time):
                at = {**choose, time: new}
                mean, spread, plain, true = (
                    x.isel(at)
                    for x in (
                        found[name],
                        found[f"{name}_spread"],
                        line[name],
                        truth[name],
                    )
                )
                yield {
                    "variable": str(name),
                    "level": level,
                    "hours": float(every * step / pd.Timedelta("1h")),
                    "times": len(new),
                    "rmse": float(rmse(mean, true)),
                    "crps": float(crps_normal(mean, spread, true)),
                    "spread_error": float(spread_ratio(mean, spread, true)),
                    "linear": float(rmse(plain, true)),
                    "linear_mae": float(mae(plain, true)),
                }


def _longest(ds: xr.Dataset, time: str, model: Model) -> xr.Dataset:
    """The longest stretch of times without a gap, or the first part of it."""
    step = pd.Timedelta(model.card.box.step)  # type: ignore[union-attr]
    index = ds.indexes[time]
    breaks = np.flatnonzero(np.diff(index) != step) + 1
    parts = np.split(np.arange(len(index)), breaks)
    return ds.isel({time: max(parts, key=len)[:_LONGEST]})
