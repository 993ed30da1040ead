"""The Lightning module: AtmoDist's loss, clipping and schedule, as published."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.normalization import SignLog
from xatmo.training.recipe import Optimizer

__all__ = [
    "NumberedSteps",
    "PairClassifier",
    "adamw",
    "clip_each",
    "cosine",
    "log_epoch",
    "normalize",
    "seed_step",
    "sum_of_squares",
]


class PairClassifier(L.LightningModule):
    """Trains a siamese network to name the lag between two patches.

    Parameters
    ----------
    network : Module
        ``(x1, x2) -> logits`` with a method ``kernels()``.
    normalizers : list of SignLog
        One per level; a sample says which is its own.
    optimizer : Optimizer
        Learning rate, penalty, clipping, schedule.
    """

    def __init__(
        self, network: nn.Module, normalizers: list[SignLog], optimizer: Optimizer
    ) -> None:
        super().__init__()
        self.network: Any = network.to(memory_format=torch.channels_last)  # type: ignore
        self.normalizers = normalizers
        self.settings = optimizer
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self._resumed: dict[str, Any] | None = None

    def normalize(self, x: Tensor, level: Tensor) -> Tensor:
        """Physical (B, C, H, W) to normalised, each sample by its level."""
        return normalize(self.normalizers, x, level)

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        """(B, n_classes) in float32, whatever the precision of the network."""
        first = self.normalize(batch["first"], batch["level"])
        second = self.normalize(batch["second"], batch["level"])
        return self.network(first, second).float()

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Cross-entropy plus the penalty on kernels."""
        logits = self.logits(batch)
        cross_entropy = F.cross_entropy(logits, batch["label"])
        loss = cross_entropy + self._penalty()
        accuracy = (logits.argmax(1) == batch["label"]).float().mean()
        log_epoch(self, train_loss=loss)
        log_epoch(self, prog_bar=True, train_ce=cross_entropy, train_accuracy=accuracy)
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Cross-entropy, accuracy and top-3 accuracy on held-out pairs."""
        logits, label = self.logits(batch), batch["label"]
        top3 = (logits.topk(3).indices == label[:, None]).any(1).float().mean()
        values = {
            "val_ce": F.cross_entropy(logits, label),
            "val_accuracy": (logits.argmax(1) == label).float().mean(),
            "val_top3": top3,
        }
        log_epoch(self, prog_bar=True, **values)

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        """Clip each tensor by its own norm (Keras' clipnorm), penalty included."""
        clip_each(self.network, self.settings.clip_norm)

    def configure_optimizers(self) -> dict[str, Any]:
        """SGD or AdamW. The schedule is ours: see :meth:`on_train_epoch_end`."""
        s = self.settings
        optimizer = self._optimizer()
        if s.schedule == "plateau":
            # Keras lowers the rate in the epoch that fills its patience, torch after.
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer,
                factor=0.1,
                patience=max(0, s.plateau_patience - 1),
                threshold=s.plateau_delta,
                threshold_mode="abs",
                min_lr=1e-5,
            )
            if self._resumed:
                self._plateau.load_state_dict(self._resumed)
        return {"optimizer": optimizer}

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        """Make a step what its number says: its dropout, and its rate on a cosine."""
        step = self.global_step
        seed_step(self.settings.seed, step, self.global_rank)
        if self.settings.schedule == "cosine":
            rate = self.settings.learning_rate * cosine(self.settings, step)
            for group in self._groups():
                group["lr"] = rate

    def on_train_epoch_end(self) -> None:
        """Lower the rate on a plateau, once the warm start is over.

        Lightning would do so after the checkpoint, which a resumed run would miss.
        """
        log_epoch(self, learning_rate=self._groups()[0]["lr"])
        if self._plateau and self.current_epoch >= self.settings.warm_epochs:
            self._plateau.step(float(self.trainer.callback_metrics["train_loss"]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the schedule remembers."""
        if self._plateau:
            checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember it for when the optimizer is made."""
        self._resumed = checkpoint.get("plateau")

    def _groups(self) -> list[dict[str, Any]]:
        optimizer: Any = self.optimizers()
        return optimizer.param_groups

    def _penalty(self) -> Tensor | float:
        """The penalty on kernels; AdamW has its decay in the step itself."""
        if self.settings.method == "adamw":
            return 0.0
        return self.settings.weight_penalty * sum_of_squares(self.network.kernels())

    def _optimizer(self) -> torch.optim.Optimizer:
        s = self.settings
        if s.method == "sgd":
            return torch.optim.SGD(
                self.network.parameters(), lr=s.learning_rate, momentum=s.momentum
            )
        return adamw(self.network, self.network.kernels(), s, (0.9, 0.99))


class NumberedSteps(L.LightningModule):
    """A module whose steps are what their numbers say: random numbers, learning rate.

    Parameters
    ----------
    network : Module
    settings : Optimizer
        Of any task, with a ``schedule`` that is ``"cosine"`` or ``"constant"``.
    """

    def __init__(self, network: nn.Module, settings: Any) -> None:
        super().__init__()
        self.network: Any = network.to(memory_format=torch.channels_last)  # type: ignore
        self.settings = settings

    def configure_optimizers(self) -> Any:
        """AdamW, unless a task has another. The schedule is ours: see :meth:`rate`."""
        s = self.settings
        return adamw(self.network, self.network.kernels(), s, s.betas)

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        """Clip the norm of all gradients together, unless a task does otherwise."""
        limit = self.settings.clip_norm
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit)

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        """Make a step what its number says: its noise, and its learning rate."""
        # Not the global step, which counts those of all optimizers.
        step = self.current_epoch * self.settings.steps_per_epoch + index
        seed_step(self.settings.seed, step, self.global_rank)
        for group in self._groups():
            group["lr"] = self.rate(step)

    def on_validation_epoch_start(self) -> None:
        """Draw the same noise in every validation."""
        seed_step(self.settings.seed + 1, 0, self.global_rank)

    def on_train_epoch_end(self) -> None:
        """Log what the learning rate has come to."""
        log_epoch(self, learning_rate=self._groups()[0]["lr"])

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        s = self.settings
        return s.learning_rate * (cosine(s, step) if s.schedule == "cosine" else 1.0)

    def _groups(self) -> list[dict[str, Any]]:
        found: Any = self.optimizers()
        several = found if isinstance(found, list) else [found]
        return [group for optimizer in several for group in optimizer.param_groups]


def clip_each(network: nn.Module, limit: float) -> None:
    """Clip the gradient of each tensor by its own norm: Keras' clipnorm."""
    for parameter in network.parameters():
        if parameter.grad is not None:
            torch.nn.utils.clip_grad_norm_([parameter], limit)


def sum_of_squares(kernels: Sequence[nn.Parameter]) -> Tensor:
    """Sum of all squared weights: what Keras' l2 is a multiple of."""
    return torch.stack([p.square().sum() for p in kernels]).sum()


def adamw(
    network: nn.Module,
    kernels: Sequence[nn.Parameter],
    settings: Optimizer | Any,
    betas: tuple[float, float],
) -> torch.optim.AdamW:
    """AdamW, which decays kernels alone."""
    known = {id(p) for p in kernels}
    groups = [
        {"params": list(kernels), "weight_decay": settings.weight_decay},
        {
            "params": [p for p in network.parameters() if id(p) not in known],
            "weight_decay": 0.0,
        },
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas)


def normalize(
    normalizers: Sequence[Callable[[Tensor], Tensor]], x: Tensor, level: Tensor
) -> Tensor:
    """Physical (B, C, H, W) to normalised, each sample by its level; channels last."""
    out = torch.empty_like(x)
    for index, normalizer in enumerate(normalizers):
        mine = level == index
        if mine.any():
            out[mine] = normalizer(x[mine])
    return out.contiguous(memory_format=torch.channels_last)


def log_epoch(module: Any, prog_bar: bool = False, **values: Any) -> None:
    """Log means over the epoch and over all processes, of a module with settings."""
    module.log_dict(
        values,
        prog_bar=prog_bar,
        on_step=False,
        on_epoch=True,
        batch_size=module.settings.batch_size,
        sync_dist=True,
    )


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make a step's random numbers a function of its number alone."""
    key = np.random.SeedSequence([seed, 5, step, rank])
    torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))


def cosine(settings: Optimizer | Any, step: int) -> float:
    """Share of the learning rate: up at first, then down over the main phase."""
    s, warm = settings, getattr(settings, "warm_epochs", 0)
    done = (step / s.steps_per_epoch - warm) / max(1, s.epochs - warm)
    rise = min(1.0, (step + 1) / max(1, s.rise_steps))
    return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))
