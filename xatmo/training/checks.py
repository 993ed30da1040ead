"""Does a recipe fit itself, the data, and the machine? Asked before training."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from xatmo.errors import ExtrapolationWarning, OptionError, TimeAxisError
from xatmo.fields import find_axes
from xatmo.gridfit import spacing_range
from xatmo.training.recipe import AnyRecipe, Recipe, Source
from xatmo.training.sampling import FieldStore
from xatmo.training.source import open_source

__all__ = [
    "check_alone",
    "check_classes",
    "check_devices",
    "hold_out",
    "on_data",
    "warn_of_grid",
]


def check_classes(recipe: Recipe) -> None:
    """Refuse a network that is built for other lags or patches than are drawn.

    Raises
    ------
    xatmo.errors.OptionError
    """
    for key, ours in (("n_classes", "n_lags"), ("patch", "patch")):
        built, drawn = recipe.network.get(key), getattr(recipe.sampling, ours)
        if built is None or _plain(built) == _plain(drawn):
            continue
        msg = "The network is built for other pairs than are drawn."
        raise OptionError(
            msg,
            found=f"{key} = {_plain(built)} in [network], "
            f"{ours} = {_plain(drawn)} in [sampling]",
            needed="the same in both",
            hint=f"{key} = {_plain(drawn)} in [network]",
        )


def check_devices(devices: int, accelerator: str) -> None:
    """Refuse more devices than there are.

    Raises
    ------
    xatmo.errors.OptionError
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wants_gpu = accelerator == "gpu" or (accelerator == "auto" and gpus > 0)
    if accelerator not in ("auto", "cpu", "gpu"):
        problem = f"There is no accelerator {accelerator!r}."
    elif devices < 1:
        problem = "Training needs a device."
    elif wants_gpu and devices > gpus:
        problem = f"There are not {devices} GPUs."
    else:
        return
    raise OptionError(
        problem,
        found=f"devices={devices}, accelerator={accelerator!r}, {gpus} GPUs here",
        needed="at least one device, and no more GPUs than there are",
        hint=f"--devices {max(1, gpus)}, or --accelerator cpu for any number of "
        "processes",
    )


def check_alone(devices: int) -> None:
    """Refuse several devices for what is trained on one.

    Raises
    ------
    xatmo.errors.OptionError
    """
    if devices == 1:
        return
    msg = "Two networks that are trained against each other need one device."
    raise OptionError(
        msg,
        found=f"devices={devices}",
        needed="one device with the objective 'adversarial'",
        hint="--devices 1, and a larger batch_size in [optimizer]",
    )


def warn_of_grid(
    recipe: AnyRecipe, stores: Sequence[FieldStore], factor: int = 1
) -> None:
    """Say so if data are on another grid than the model's card will promise.

    The card tells of the grid that is read: ``factor`` times coarser than the data.
    """
    promised = recipe.card.get("grid", {}).get("spacing")
    if not promised:
        return
    fine, coarse = (spacing / factor for spacing in promised)
    least, most = spacing_range((fine, coarse))
    for store in stores:
        low, high = min(store.spacing), max(store.spacing)
        if least <= low and high <= most:
            continue
        blocks = round(fine / low)
        finer = f", {factor} times finer than what is read" if factor > 1 else ""
        way = f"--coarsen {blocks}, or " if blocks > 1 else ""
        note = (
            f"{store.name} has a grid of "
            f"{store.spacing[0]:g} x {store.spacing[1]:g}°, the recipe's card promises "
            f"{fine:g} to {coarse:g}°{finer}: {way}write its spacing into [card.grid]."
        )
        warnings.warn(note, ExtrapolationWarning, stacklevel=3)
        return


def on_data(recipe: Recipe, source: Source) -> Recipe:
    """Return the recipe on one data set: the last part held out, behind a gap.

    The gap is as long as the longest lag, so that no pair reaches from one part into
    the other. A series too short for two parts is trained on as a whole.

    Raises
    ------
    xatmo.errors.TimeAxisError
        If the data are shorter than the longest lag.
    """
    longest = dt.timedelta(hours=recipe.sampling.step_hours * recipe.sampling.n_lags)
    times = _times(source)
    if times[-1] - times[0] < longest:
        raise _too_short(recipe, Path(source.path).name, times, longest)
    train, validation = hold_out(source, longest, least=longest)
    return replace(recipe, train=train, validation=validation, constants=())


def hold_out(
    source: Source, gap: dt.timedelta, least: dt.timedelta
) -> tuple[tuple[Source, ...], tuple[Source, ...]]:
    """Divide a data set into what is trained on and what is held out, behind a gap.

    A tenth of the period is held out, but twice the gap if there is as much; nothing
    if that were less than ``least``.
    """
    times = _times(source)
    period = times[-1] - times[0]
    held = max(period / 10, min(2 * gap, (period - gap) / 2))
    if held < least:
        name = Path(source.path).name
        note = f"{name} is too short to hold a part of it out: nothing is validated."
        warnings.warn(note, stacklevel=5)
        return (source,), ()
    cut = times[-1] - held
    train = replace(source, end=(cut - gap).isoformat())
    return (train,), (replace(source, start=cut.isoformat()),)


def _times(source: Source) -> Any:
    ds = open_source(source)
    return ds.indexes[str(find_axes(ds).time)]


def _too_short(
    recipe: Recipe, name: str, times: Any, longest: dt.timedelta
) -> TimeAxisError:
    step, hours = recipe.sampling.step_hours, longest.total_seconds() / 3600
    held = (times[-1] - times[0]).total_seconds() / 3600
    fewer = int(held // step)
    msg = f"{name} is shorter than the longest lag."
    return TimeAxisError(
        msg,
        found=f"{len(times)} times in {held:g} h, from {times[0]} to {times[-1]}",
        needed=f"more than {hours:g} h: {recipe.sampling.n_lags} lags of {step} h",
        hint="--data with a longer series"
        + (f", or n_lags = n_classes = {fewer} in the recipe" if fewer > 1 else ""),
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
