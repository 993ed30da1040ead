"""From the recipe of a ClimaX to what Lightning trains."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from xatmo.errors import GridError
from xatmo.training.checks import hold_out
from xatmo.training.climax.beginning import begin_with
from xatmo.training.climax.module import LeadForecasts
from xatmo.training.climax.recipe import ClimaXRecipe, read_recipe
from xatmo.training.climax.sampling import LeadSampler
from xatmo.training.constants import Constants, fit_constants, table_of
from xatmo.training.data import NumberedData
from xatmo.training.recipe import Source
from xatmo.training.run import Job
from xatmo.training.sampling import BLOCK_SECONDS, FieldStore
from xatmo.training.scenes import prepared, scenes_of
from xatmo.zoo.importers.climax_card import era5_constants

__all__ = ["begin", "constants_of", "on_grid", "sampler_of"]


def begin(path: Path, asked: Callable[[Any, Any], Any], out: Path) -> Job:
    """Prepare the data of a recipe; ``asked`` changes it as the call wants."""
    recipe: ClimaXRecipe = asked(read_recipe(path), on_data)
    folder = out / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    stores = prepared(recipe, recipe.train, folder)
    recipe = on_grid(recipe, stores)
    constants = constants_of(recipe, stores)
    train = sampler_of(recipe, recipe.train, stores, constants)
    held_out = None
    if recipe.validation:
        kept = prepared(recipe, recipe.validation, folder)
        held_out = sampler_of(recipe, recipe.validation, kept, constants, plain=True)
    s = recipe.optimizer
    data = NumberedData(
        train,
        held_out,
        batch_size=s.batch_size,
        steps=s.steps_per_epoch,
        held_out=s.validation_samples,
        workers=s.workers,
    )
    return Job(
        recipe,
        folder,
        table_of(constants),
        partial(LeadForecasts, recipe=recipe),
        data,
        "samples",
        leaves_out=True,
        initial=partial(begin_with, recipe=recipe, sampler=train, out=out),
    )


def on_data(recipe: ClimaXRecipe, source: Source) -> ClimaXRecipe:
    """Return the recipe on one data set, its last part held out behind three days.

    All levels are read that the recipe reads, unless the source says which.
    """
    gap = dt.timedelta(seconds=BLOCK_SECONDS)
    levels: dict[str | None, tuple[str, ...]] = {}
    for one in recipe.train:
        levels.setdefault(one.level, one.quantities)
    every = tuple(dict.fromkeys(q for s in recipe.train for q in s.quantities))
    wanted = [source.level] if source.level else list(levels)
    asked = [
        replace(
            source,
            level=level,
            scene="data",
            quantities=levels.get(level, every),
        )
        for level in wanted
    ]
    parts = [hold_out(one, gap, least=dt.timedelta(days=1)) for one in asked]
    train = tuple(one for first, _ in parts for one in first)
    held_out = tuple(one for _, last in parts for one in last)
    network = {k: v for k, v in recipe.network.items() if k != "grid"}
    return replace(recipe, train=train, validation=held_out, network=network)


def on_grid(recipe: ClimaXRecipe, stores: Sequence[FieldStore]) -> ClimaXRecipe:
    """Return the recipe for a network on the grid of the data.

    Rows and columns in the south and east that are no whole patches are left out, where
    the recipe does not say the grid itself.

    Raises
    ------
    xatmo.errors.GridError
        If the data have less than one patch, or less than the recipe says.
    """
    patch = int(recipe.network.get("patch", 2))
    least = [
        min(size) - min(size) % patch
        for size in zip(
            *((s.latitude.size, s.longitude.size) for s in stores), strict=True
        )
    ]
    wanted = list(recipe.network.get("grid", least))
    if min(wanted) and all(w <= n for w, n in zip(wanted, least, strict=True)):
        return replace(recipe, network={**recipe.network, "grid": wanted})
    small = min(stores, key=lambda s: s.latitude.size * s.longitude.size)
    msg = f"{small.name} is smaller than the grid of the network."
    raise GridError(
        msg,
        found=f"{small.latitude.size} x {small.longitude.size} points",
        needed=f"{wanted[0] or patch} x {wanted[1] or patch} at least",
        hint="a smaller patch in [network], or no grid there for that of the data",
    )


def constants_of(recipe: ClimaXRecipe, stores: Sequence[FieldStore]) -> Constants:
    """Return those of ERA5 where they are known, else measure them."""
    constants = fit_constants(recipe.fields, recipe.train, stores)
    for field in recipe.fields:
        for level, variable in field.levels.items():
            known = era5_constants().get(variable)
            if known and (field.name, level) in constants:
                mean, std = constants[field.name, level]
                mean, std = mean * 0 + known[0], std * 0 + known[1]
                constants[field.name, level] = mean, std
    return constants


def sampler_of(
    recipe: ClimaXRecipe,
    sources: Sequence[Source],
    stores: Sequence[FieldStore],
    constants: Constants,
    *,
    plain: bool = False,
) -> LeadSampler:
    """Join sources to scenes, and draw pairs of times from them."""
    scenes = scenes_of(sources, stores, recipe.fields, constants)
    known = {
        (field.name, slot): variable
        for field in recipe.fields
        for slot, variable in enumerate(field.levels.values())
    }
    rows, columns = recipe.network["grid"]
    return LeadSampler(
        scenes,
        known,
        recipe.sampling,
        (int(rows), int(columns)),
        seed=recipe.optimizer.seed + plain,
        plain=plain,
        northward=recipe.northward,
    )
