"""How well hidden parts of boxes are known: what the network was trained for, itself.

Boxes are cut at random from data that it has not seen, with all that these hold; tokens
are hidden, or a hole of a quarter of the box, and are predicted beside plain methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from xatmo.methods.gaps import fill
from xatmo.metrics import crps
from xatmo.training.multiformer.masking import hide
from xatmo.training.multiformer.recipe import Boxes, Field, Masking
from xatmo.training.multiformer.sampling import Batch, BoxSampler, present_of
from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import Source
from xatmo.training.sampling import open_stores
from xatmo.training.scenes import scenes_of
from xatmo.zoo import Model
from xatmo.zoo.constants import constants_of

__all__ = ["KINDS", "PLAIN", "masked_scores"]

KINDS = {
    "tokens": "a quarter of the tokens, on average, of one field",
    "hole": "half of the rows and of the columns at all times, of all fields",
    "hole_day": "the same, at the last four times",
}
PLAIN = ("climatology", "nearest", "interpolate", "biharmonic")
_MASKING = Masking(masked=1.0, noised=0.0, coarsened=0.0, together=1.0)
_CACHE_MB = 1024


def masked_scores(
    model: Model, data: Source, folder: Path, boxes: int = 48, seed: int = 7
) -> list[dict[str, Any]]:
    """Score a network of boxes where parts of these were hidden.

    Parameters
    ----------
    model : Model
        Of boxes.
    data : Source
    folder : Path
        Prepared data are kept there.
    boxes : int
        How many, for each kind of what is hidden.
    seed : int

    Returns
    -------
    list of dict
        One for each kind and level of a field: errors in physical units.
    """
    network: Any = model.network()
    sampler = _sampler(model, network, data, folder, seed)
    rows = []
    for kind in KINDS:
        sums: dict[int, dict[str, list[float]]] = {}
        for number in range(boxes):
            batch = sampler.batch(number, 1)
            _collect(network, sampler, batch, kind, [seed, number], sums)
        rows += list(_rows(sampler, model, kind, sums, boxes))
    return rows


def _sampler(
    model: Model, network: Any, data: Source, folder: Path, seed: int
) -> BoxSampler:
    """Boxes of all that the data hold at one level."""
    card = model.card
    fields = []
    for field in card.fields:
        count = 1 + max(level.slot for level in field.levels)
        slots = [
            tuple(lv.level for lv in field.levels if lv.slot == n) for n in range(count)
        ]
        fields.append(Field(field.name, field.quantity, tuple(slots)))
    able = tuple(field.quantity for field in fields)
    wanted = tuple(q for q in data.quantities or able if q in able)
    source = replace(data, quantities=wanted)
    path = prepare_source(source, wanted, folder)
    stores = open_stores([path], _CACHE_MB)
    scenes = scenes_of([source], stores, fields, _constants(model, stores[0].level))
    specs = {n: (spec.box, spec.token_size) for n, spec in network.fields.items()}
    assert card.box is not None  # noqa: S101 - a model of boxes
    hours = int(pd.Timedelta(card.box.step) / pd.Timedelta("1h"))
    sampling = Boxes(step_hours=hours, area_weighted=1.0)
    return BoxSampler(scenes, fields, specs, sampling, _MASKING, seed=seed, plain=True)


def _constants(
    model: Model, level: str
) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    found = {}
    for field in model.card.fields:
        if level in {lv.level for lv in field.levels}:
            told = constants_of(model, field.name, level)
            months = (np.broadcast_to(x[:, 0, 0], 12) for x in (told.mean, told.std))
            found[field.name, level] = tuple(months)
    return found  # type: ignore[return-value]


def _collect(
    network: Any,
    sampler: BoxSampler,
    batch: Batch,
    kind: str,
    key: Sequence[int],
    sums: dict[int, dict[str, list[float]]],
) -> None:
    """Hide a part of a box, find it again in every way, and add up the errors."""
    numbers = batch.channels[0]
    truth = np.where(batch.truth == 0, np.nan, batch.truth)[0]
    present = present_of(numbers.tolist(), sampler.numbers)
    hidden = _hidden(kind, truth, key, sampler, present)
    x = np.where(hidden, np.nan, truth).astype(np.float32)
    with torch.inference_mode():
        members = network.predict(
            torch.from_numpy(x[None]),
            torch.from_numpy(batch.when),
            torch.from_numpy(batch.latitude),
            torch.from_numpy(batch.longitude),
            float(batch.spacing[0]),
            present=present,
        )[0].numpy()
    for i, number in enumerate(numbers):
        at = hidden[i] & np.isfinite(truth[i])
        if not at.any():
            continue
        own = sums.setdefault(int(number), {})
        _add(own, members[:, i][:, at], truth[i][at])
        for name in PLAIN:
            found = _plain(name, x[i], batch, sampler.sampling.step_hours)
            own.setdefault(name, []).append(np.square(found[at] - truth[i][at]).sum())
        own.setdefault("count", []).append(float(at.sum()))


def _hidden(
    kind: str,
    truth: np.ndarray,
    key: Sequence[int],
    sampler: BoxSampler,
    present: Any,
) -> np.ndarray:
    """What is hidden, (C, T, Y, X) of bool."""
    rng = np.random.default_rng(key)
    if kind == "tokens":
        names = [name for name, levels in present for _ in levels]
        which = str(rng.choice(sorted(set(names))))
        rates = [0.5 if name == which else 0.0 for name in names]
        sizes = [sampler.specs[name][1] for name in names]
        return hide(rng, truth, "tokens", sampler.masking, rates, sizes).wanted
    hidden = np.zeros(truth.shape, bool)
    rows, columns = truth.shape[2] // 4, truth.shape[3] // 4
    first = max(1, truth.shape[1] - 4) if kind == "hole_day" else 0
    hidden[:, first:, rows:-rows, columns:-columns] = True
    return hidden


def _plain(name: str, x: np.ndarray, batch: Batch, step: float) -> np.ndarray:
    """Fill a box (T, Y, X) by a plain method; the mean where it leaves something."""
    if name == "climatology":
        return np.zeros_like(x)
    hours = step * np.arange(len(x))
    # Across the prime meridian too: longitudes have to ascend.
    longitude = np.unwrap(batch.longitude[0].astype(float), period=360)
    axes = (batch.latitude[0].astype(float), longitude)
    filled = fill(name, x, *axes, hours, periodic=False).values
    return np.where(np.isfinite(filled), filled, 0.0)


def _add(own: dict[str, list[float]], members: np.ndarray, truth: np.ndarray) -> None:
    """Squared error of the mean, squared spread, and score: (E, P), (P,)."""
    error = np.square(members.mean(0) - truth).sum()
    spread = members.var(0, ddof=1).sum()
    score = crps(
        xr.DataArray(members, dims=("member", "point")),
        xr.DataArray(truth, dims="point"),
        "member",
        fair=False,
        weighted=False,
    )
    own.setdefault("own", []).append(error)
    own.setdefault("spread", []).append(spread)
    own.setdefault("crps", []).append(float(score) * truth.size)


def _rows(
    sampler: BoxSampler,
    model: Model,
    kind: str,
    sums: dict[int, dict[str, list[float]]],
    boxes: int,
) -> Iterator[dict[str, Any]]:
    back = {number: key for key, number in sampler.numbers.items()}
    level = sampler.scenes[0].grid.level
    for number, own in sorted(sums.items()):
        name, _ = back[number]
        size = float(constants_of(model, name, level).std.mean())
        total = {key: float(np.sum(values)) for key, values in own.items()}
        count = total.pop("count")
        yield {
            "kind": kind,
            "variable": sampler.fields[name].quantity,
            "level": level,
            "boxes": boxes,
            "rmse": size * float(np.sqrt(total["own"] / count)),
            "crps": size * total["crps"] / count,
            "spread_error": float(np.sqrt(total["spread"] / total["own"])),
            **{p: size * float(np.sqrt(total[p] / count)) for p in PLAIN},
        }
