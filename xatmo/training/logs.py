"""What a run tells of itself: its speed while it runs, and its learning curve after."""

from __future__ import annotations

import csv
import json
import logging
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from xatmo.zoo.files import draft

__all__ = [
    "Throughput",
    "learning_curve",
    "summary",
    "without_chatter",
    "write_curve",
]

# Names in the logs, and in the curve; of each task.
_COLUMNS = {
    "pairs": {
        "train_loss": "train_loss",
        "train_ce": "train_ce",
        "train_accuracy": "train_accuracy",
        "val_ce": "val_ce",
        "val_accuracy": "val_accuracy",
        "learning_rate": "lr",
        "pairs_per_second": "pairs_per_second",
    },
    "downscale": {
        "train_loss": "train_loss",
        "train_content": "train_content",
        "train_adversarial": "train_adversarial",
        "train_discriminator": "train_discriminator",
        "val_rmse": "val_rmse",
        "val_rmse_member": "val_rmse_member",
        "val_mae": "val_mae",
        "val_crps": "val_crps",
        "val_power": "val_power",
        "val_power_mean": "val_power_mean",
        "learning_rate": "lr",
        "crops_per_second": "crops_per_second",
    },
    "multiformer": {
        "train_loss": "train_loss",
        "val_rmse": "val_rmse",
        "val_rmse_member": "val_rmse_member",
        "val_crps": "val_crps",
        "val_spread_error": "val_spread_error",
        "val_power": "val_power",
        "val_power_mean": "val_power_mean",
        "val_tokens": "val_tokens",
        "val_forecast": "val_forecast",
        "val_between": "val_between",
        "val_gaps": "val_gaps",
        "learning_rate": "lr",
        "boxes_per_second": "boxes_per_second",
    },
    "climax": {
        "train_loss": "train_loss",
        "val_rmse": "val_rmse",
        "val_0h": "val_0h",
        "val_6h": "val_6h",
        "val_24h": "val_24h",
        "val_72h": "val_72h",
        "learning_rate": "lr",
        "samples_per_second": "samples_per_second",
    },
    "projection": {
        "train_loss": "train_loss",
        "val_rmse": "val_rmse",
        "learning_rate": "lr",
        "windows_per_second": "windows_per_second",
    },
    "hole": {
        "train_loss": "train_loss",
        "train_mse": "train_mse",
        "train_content": "train_content",
        "val_rmse": "val_rmse",
        "val_std": "val_std",
        "learning_rate": "lr",
        "crops_per_second": "crops_per_second",
    },
    "infill": {
        "train_loss": "train_loss",
        "train_crps": "train_crps",
        "train_mse": "train_mse",
        "train_atmodist": "train_atmodist",
        "val_rmse": "val_rmse",
        "val_crps": "val_crps",
        "val_spread_error": "val_spread_error",
        "learning_rate": "lr",
        "pieces_per_second": "pieces_per_second",
    },
}
_UNITS = {
    "pairs": "pairs",
    "infill": "pieces",
    "multiformer": "boxes",
    "climax": "samples",
    "projection": "windows",
}  # of the others: crops


class Throughput(Callback):
    """Logs the samples per second of an epoch: drawing and training, not validation.

    Parameters
    ----------
    unit : str
        What a sample is called.
    """

    def __init__(self, unit: str = "pairs") -> None:
        self.unit = unit
        self._start = self._end = 0.0
        self._samples = 0

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock."""
        self._start = self._end = time.perf_counter()
        self._samples = 0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
    ) -> None:
        """Count the samples of all processes."""
        self._samples += len(next(iter(batch.values()))) * trainer.world_size
        self._end = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Log what was reached."""
        rate = self._samples / max(self._end - self._start, 1e-9)
        module.log(f"{self.unit}_per_second", rate, prog_bar=True, sync_dist=True)


def learning_curve(folder: str | Path) -> list[dict[str, Any]]:
    """Join the logs of all starts of a run to one table.

    Parameters
    ----------
    folder : path
        Of the run: ``<out>/<name>``.

    Returns
    -------
    list of dict
        One per epoch, in order: ``epoch`` (from 0), ``train_loss``, ``train_ce``,
        ``train_accuracy``, ``val_ce``, ``val_accuracy``, ``lr``, ``pairs_per_second``;
        of a downscaling network its losses and held-out scores. None where nothing was
        measured: not every epoch is validated.
    """
    columns = _COLUMNS[_task(Path(folder))]
    epochs: dict[int, dict[str, Any]] = {}
    versions = Path(folder, "csv").glob("version_*/metrics.csv")
    for file in sorted(versions, key=lambda f: int(f.parent.name.split("_")[1])):
        with file.open(newline="") as stream:
            for row in csv.DictReader(stream):
                if not row.get("epoch"):
                    continue
                epoch = int(row["epoch"])
                # An epoch that was cut short and repeated: the later start counts.
                entry = epochs.setdefault(epoch, dict.fromkeys(columns.values()))
                entry |= {
                    name: float(row[column])
                    for column, name in columns.items()
                    if row.get(column)
                }
    return [{"epoch": epoch, **epochs[epoch]} for epoch in sorted(epochs)]


def _task(folder: Path) -> str:
    """What a run trains for, as it has written down."""
    file = folder / "run.json"
    recipe = json.loads(file.read_text())["recipe"] if file.exists() else {}
    return str(recipe.get("task", "pairs"))


def write_curve(folder: Path) -> list[dict[str, Any]]:
    """Write the learning curve of a run to its ``curve.json``, and return it."""
    curve = learning_curve(folder)
    with draft(folder / "curve.json") as file:
        file.write_text(json.dumps(curve, indent=1) + "\n")
    return curve


def summary(folder: str | Path) -> str:
    """Say in a line what a run has come to."""
    curve = learning_curve(folder)
    if not curve:
        return f"nothing was trained in {folder}"
    parts = [f"{len(curve)} epoch" + "s" * (len(curve) > 1)]
    task = _task(Path(folder))
    unit = _UNITS.get(task, "crops")
    rates = [e[f"{unit}_per_second"] for e in curve if e[f"{unit}_per_second"]]
    if rates:
        parts.append(f"{sorted(rates)[len(rates) // 2]:.0f} {unit}/s")
    parts += _accuracies(curve) if task == "pairs" else _skill(curve)
    return f"trained in {folder}: {', '.join(parts)}"


def _accuracies(curve: list[dict[str, Any]]) -> list[str]:
    scored = [e for e in curve if e["val_accuracy"] is not None]
    if scored:
        best = max(scored, key=lambda e: e["val_accuracy"])
        end = f"(best {best['val_accuracy']:.3f} after epoch {best['epoch'] + 1})"
        return [f"validation accuracy {scored[-1]['val_accuracy']:.3f} {end}"]
    if curve[-1]["train_accuracy"] is not None:
        return [f"training accuracy {curve[-1]['train_accuracy']:.3f}"]
    return []


def _skill(curve: list[dict[str, Any]]) -> list[str]:
    scored = [e for e in curve if e["val_rmse"] is not None]
    if not scored:
        return [f"training loss {curve[-1]['train_loss']:.3g}"]
    last = scored[-1]
    if "val_std" in last:
        told = f"held-out RMSE {last['val_rmse']:.3g} in the hole"
        return [told, f"{last['val_std']:.2f} of the standard deviation"]
    if "val_crps" not in last:
        ratios = {k: last[k] for k in last if re.fullmatch(r"val_\d+h", k) and last[k]}
        told = f"held-out RMSE {last['val_rmse']:.3g}"
        shares = ", ".join(f"{v:.2f} at {k[4:-1]} h" for k, v in ratios.items())
        return [told, f"over persistence {shares}"] if shares else [told]
    scores = f"held-out RMSE {last['val_rmse']:.3g} and CRPS {last['val_crps']:.3g}"
    if "val_spread_error" in last:
        return [scores, f"spread over error {last['val_spread_error']:.2f}"]
    return [scores, f"{last['val_power']:.2f} of the fine scales' power"]


@contextmanager
def without_chatter() -> Iterator[None]:
    """Show our own warnings as notes; what Lightning tells developers, not at all."""

    def note(message: Any, *_: Any, **__: Any) -> None:
        sys.stderr.write(f"note: {message}\n")

    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning|torch")
            warnings.showwarning = note
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
