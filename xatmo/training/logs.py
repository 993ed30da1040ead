"""What a run tells of itself: its speed while it runs, and its learning curve after."""

from __future__ import annotations

import csv
import json
import logging
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

# Names in the logs, and in the curve.
_COLUMNS = {
    "train_loss": "train_loss",
    "train_ce": "train_ce",
    "train_accuracy": "train_accuracy",
    "val_ce": "val_ce",
    "val_accuracy": "val_accuracy",
    "learning_rate": "lr",
    "pairs_per_second": "pairs_per_second",
}


class Throughput(Callback):
    """Logs the pairs per second of each epoch: drawing and training, not validation."""

    def __init__(self) -> None:
        self._start = self._end = 0.0
        self._pairs = 0

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock."""
        self._start = self._end = time.perf_counter()
        self._pairs = 0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
    ) -> None:
        """Count the pairs of all processes."""
        self._pairs += len(batch["label"]) * trainer.world_size
        self._end = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Log what was reached."""
        rate = self._pairs / max(self._end - self._start, 1e-9)
        module.log("pairs_per_second", rate, prog_bar=True, sync_dist=True)


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
        ``train_accuracy``, ``val_ce``, ``val_accuracy``, ``lr``, ``pairs_per_second``.
        None where nothing was measured: not every epoch is validated.
    """
    epochs: dict[int, dict[str, Any]] = {}
    versions = Path(folder, "csv").glob("version_*/metrics.csv")
    for file in sorted(versions, key=lambda f: int(f.parent.name.split("_")[1])):
        with file.open(newline="") as stream:
            for row in csv.DictReader(stream):
                if not row.get("epoch"):
                    continue
                epoch = int(row["epoch"])
                # An epoch that was cut short and repeated: the later start counts.
                entry = epochs.setdefault(epoch, dict.fromkeys(_COLUMNS.values()))
                entry |= {
                    name: float(row[column])
                    for column, name in _COLUMNS.items()
                    if row.get(column)
                }
    return [{"epoch": epoch, **epochs[epoch]} for epoch in sorted(epochs)]


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
    rates = [e["pairs_per_second"] for e in curve if e["pairs_per_second"]]
    if rates:
        parts.append(f"{sorted(rates)[len(rates) // 2]:.0f} pairs/s")
    scored = [e for e in curve if e["val_accuracy"] is not None]
    if scored:
        best = max(scored, key=lambda e: e["val_accuracy"])
        parts.append(
            f"validation accuracy {scored[-1]['val_accuracy']:.3f} "
            f"(best {best['val_accuracy']:.3f} after epoch {best['epoch'] + 1})"
        )
    elif curve[-1]["train_accuracy"] is not None:
        parts.append(f"training accuracy {curve[-1]['train_accuracy']:.3f}")
    return f"trained in {folder}: {', '.join(parts)}"


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
