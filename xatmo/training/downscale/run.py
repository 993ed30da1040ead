"""From the recipe of a downscaling network to what Lightning trains."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from xatmo.errors import OptionError
from xatmo.nets.normalization import ZScore
from xatmo.training.checks import hold_out, warn_of_grid
from xatmo.training.data import NumberedData
from xatmo.training.downscale.adversarial import AdversarialDownscaler
from xatmo.training.downscale.crops import CropSampler
from xatmo.training.downscale.module import Downscaler
from xatmo.training.downscale.recipe import DownscaleRecipe, read_recipe
from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import Source
from xatmo.training.run import Job, fit_levels
from xatmo.training.sampling import BLOCK_SECONDS, FieldStore, open_stores
from xatmo.zoo import list_models

__all__ = ["begin", "crops_as_they_are", "on_data", "prepare_all", "zscore"]


def begin(path: Path, asked: Callable[[Any, Any], Any], out: Path) -> Job:
    """Prepare the data of a recipe; ``asked`` changes it as the call wants."""
    recipe: DownscaleRecipe = asked(read_recipe(path), on_data)
    folder = out / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    levels, crops, held_out = prepare_all(recipe, folder)
    # The first source is what the card tells of; others may be there for variety.
    warn_of_grid(recipe, crops.stores[:1], recipe.factor)
    normalizers = [zscore(constants) for constants in levels.values()]
    s = recipe.optimizer
    data = NumberedData(
        crops,
        held_out,
        batch_size=s.batch_size,
        steps=s.steps_per_epoch,
        held_out=s.validation_crops,
    )
    told: dict[str, Any] = {"normalizers": normalizers, "recipe": recipe}
    adversarial = recipe.objective.kind == "adversarial"
    if adversarial:
        module: Any = partial(AdversarialDownscaler, levels=list(levels), **told)
    else:
        module = partial(Downscaler, **told)
    return Job(recipe, folder, levels, module, data, "crops", parallel=not adversarial)


def on_data(recipe: Any, source: Source) -> Any:
    """Return the recipe on one data set, its last part held out behind three days."""
    gap = dt.timedelta(seconds=BLOCK_SECONDS)
    train, validation = hold_out(source, gap, least=dt.timedelta(days=1))
    return replace(recipe, train=train, validation=validation)


def prepare_all(
    recipe: Any, folder: Path
) -> tuple[dict[str, dict[str, Any]], CropSampler, CropSampler | None]:
    """Write the stores, measure the constants, and build the two samplers.

    ``recipe`` is a DownscaleRecipe, or another whose network learns from crops.
    """
    s, seed = recipe.sampling, recipe.optimizer.seed
    stores = _stores(recipe, recipe.train, folder)
    levels = fit_levels(recipe.train, stores, None)
    if name := recipe.normalization.get("of"):
        known = [*levels, *recipe.normalization.get("levels", ())]
        levels |= _constants_of(name, known, folder.parent)
    weights = [source.weight for source in recipe.train]
    crops = CropSampler(stores, weights, list(levels), s, seed=seed, **_sampled(recipe))
    held_out = None
    if recipe.validation:
        held_out = crops_as_they_are(recipe, recipe.validation, list(levels), folder)
    return levels, crops, held_out


def crops_as_they_are(
    recipe: Any,
    sources: tuple[Source, ...],
    levels: list[str],
    folder: Path,
) -> CropSampler:
    """Sample fields that are not trained on: nothing is mirrored, all count alike."""
    stores = _stores(recipe, sources, folder)
    plain = replace(recipe.sampling, mirror_latitude=False, mirror_longitude=False)
    seed = recipe.optimizer.seed + 1
    weights = [1.0] * len(stores)
    return CropSampler(stores, weights, levels, plain, seed=seed, **_sampled(recipe))


def _stores(recipe: Any, sources: tuple[Source, ...], folder: Path) -> list[FieldStore]:
    paths = [prepare_source(s, recipe.quantities, folder / "data") for s in sources]
    return open_stores(paths, recipe.sampling.cache_mb)


def _sampled(recipe: Any) -> dict[str, int]:
    return {"factor": recipe.factor, "statics": recipe.network.get("statics", 0)}


def zscore(constants: dict[str, Any]) -> ZScore:
    """Build the normalisation of one level from its measured constants."""
    return ZScore(constants["mean"], constants["std"])


def _constants_of(name: str, levels: list[str], out: Path) -> dict[str, dict[str, Any]]:
    """Constants of an earlier run or of a released model, for the levels asked for."""
    file = out / name / "run.json"
    if file.exists():
        known = json.loads(file.read_text())["levels"]
    else:
        cards = [card for card in list_models("downscale") if card.name == name]
        known = {
            lv.level: {"trained": lv.trained, "mean": [*lv.mean], "std": [*lv.std]}
            for card in cards
            for lv in card.levels
        }
    if missing := [level for level in levels if level not in known]:
        msg = f"{name!r} has no constants for {missing[0]}."
        raise OptionError(
            msg,
            found=", ".join(known) or f"no {file}, and no released model {name!r}",
            needed=f"constants for {', '.join(levels)}",
            hint=f"xatmo train the recipe of {name!r} first, with the same --out, or "
            "[normalization] without `of`",
        )
    return {level: known[level] for level in levels}
