"""Checkpoints that survive a kill at any moment, and what may be resumed from them."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from xatmo.errors import OptionError
from xatmo.training.recipe import AnyRecipe
from xatmo.zoo.files import draft

__all__ = [
    "EveryEpoch",
    "WholeFiles",
    "check_unchanged",
    "find_checkpoint",
    "write_run",
]

# Weights follow from these parts of a recipe, but for some keys of theirs.
_BINDING = ("architecture", "network", "quantities", "normalization", "sampling")
_TABLES = (*_BINDING, "train", "optimizer", "objective")
_FREE = {
    "epochs",
    "validate_every",
    "validation_pairs",
    "validation_crops",
    "precision",
}


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint aside, and keeps the one before."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write ``last.ckpt`` in one step; what was there becomes ``previous.ckpt``."""
        last = Path(path)
        with draft(last) as file:
            torch.save(checkpoint, file)
            if last.exists():
                os.replace(last, last.with_name("previous.ckpt"))


class EveryEpoch(Checkpoint):
    """Saves after every epoch, the schedule's step included."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save; Lightning calls this after the module's own end of the epoch."""
        trainer.save_checkpoint(self.folder / "last.ckpt")


def find_checkpoint(folder: Path) -> Path | None:
    """Return what to resume from: the last checkpoint that is whole, if there is one.

    Raises
    ------
    xatmo.errors.OptionError
        If there are checkpoints, but none can be read.
    """
    paths = [folder / name for name in ("last.ckpt", "previous.ckpt")]
    paths = [path for path in paths if path.exists()]
    for path in paths:
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            reason = str(error).splitlines()[0]
            note = f"{path} cannot be read ({reason}): the one before is tried."
            warnings.warn(note, stacklevel=2)
        else:
            return path
    if not paths:
        return None
    msg = "No checkpoint of this run can be read."
    raise OptionError(
        msg,
        found=f"damaged: {', '.join(map(str, paths))}",
        needed="at least one whole checkpoint",
        hint=f"delete {folder.parent} to begin anew, or another --out",
    )


def write_run(recipe: AnyRecipe, levels: Mapping[str, Any], folder: Path) -> None:
    """Write ``run.json``: the recipe and the constants of the normalisation."""
    with draft(folder / "run.json") as file:
        file.write_text(json.dumps(_told(recipe, levels), indent=1))


def check_unchanged(
    recipe: AnyRecipe, levels: Mapping[str, Any], folder: Path, hint: str = ""
) -> None:
    """Refuse to go on with another recipe, or other data, than a run began with.

    Parameters
    ----------
    recipe : Recipe or DownscaleRecipe
    levels : mapping
        Constants of the normalisation, level by level.
    folder : Path
        Of the run.
    hint : str
        What to do; unless given, how to train anew.

    Raises
    ------
    xatmo.errors.OptionError
        Names what has changed.
    """
    file = folder / "run.json"
    if not file.exists():
        return
    before, now = json.loads(file.read_text()), _told(recipe, levels)
    changes: list[str] = []
    for table in _TABLES:
        parts = (told["recipe"].get(table) for told in (before, now))
        changes += _changes(table, *parts)
    if not changes and not _same_constants(before["levels"], now["levels"]):
        changes = ["the data: the constants of the normalisation are others"]
    if not changes:
        return
    msg = f"The recipe has changed since the run in {folder} began."
    raise OptionError(
        msg,
        found="; ".join(changes[:6]),
        needed="the recipe and the data that the run began with",
        hint=hint
        or f"another --out, or delete {folder} to begin anew; --max-epochs may differ",
    )


def _told(recipe: AnyRecipe, levels: Mapping[str, Any]) -> dict[str, Any]:
    """What ``run.json`` holds, as it will be read again."""
    table = asdict(recipe)  # type: ignore[call-overload]
    text = json.dumps({"recipe": table, "levels": levels}, default=list)
    told: dict[str, Any] = json.loads(text)
    return told


def _changes(name: str, before: Any, now: Any) -> list[str]:
    """Say where two values differ; keys of only one version are no difference."""
    if isinstance(before, dict) and isinstance(now, dict):
        shared = [key for key in now if key in before and key not in _FREE]
        parts = [_changes(f"{name}.{key}", before[key], now[key]) for key in shared]
        return [change for part in parts for change in part]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        numbered = enumerate(zip(before, now, strict=True), 1)
        parts = [_changes(f"{name}[{i}]", *values) for i, values in numbered]
        return [change for part in parts for change in part]
    if before == now:
        return []
    return [f"{name} was {_short(before)}, is {_short(now)}"]


def _short(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(str(Path(source["path"]).name) for source in value)
    return repr(value)


def _same_constants(before: dict[str, Any], now: dict[str, Any]) -> bool:
    names = ("mean", "std", "log_mean", "log_std")
    trained = [level for level, values in now.items() if values["trained"]]
    return all(
        level in before
        and np.allclose(before[level][name], now[level][name], rtol=1e-5, atol=0)
        for level in trained
        for name in names
        if name in now[level]
    )
