"""Batches for Lightning: numbered, so that every epoch knows which ones are its own."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xatmo.training.recipe import Optimizer
from xatmo.training.sampling import PairSampler

__all__ = ["NumberedBatches", "PairData"]

# Batches of validation pairs are numbered from here, far from any training batch.
_VALIDATION = 2**40


class NumberedBatches(Dataset[dict[str, Tensor]]):
    """``self[i]`` is batch ``numbers[i]`` of a sampler, as tensors."""

    def __init__(self, sampler: PairSampler, numbers: range, size: int) -> None:
        self.sampler, self.numbers, self.size = sampler, numbers, size

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index >= len(self):
            raise IndexError(index)
        batch = self.sampler.batch(self.numbers[index], self.size)
        return {k: torch.from_numpy(v) for k, v in asdict(batch).items()}


class PairData(L.LightningDataModule):
    """Warm start on a fixed subset, then new pairs in every step.

    Parameters
    ----------
    train, validation : PairSampler
    settings : Optimizer
        Sizes and numbers of epochs.
    workers : int
        Processes that draw batches; 0 draws in the training process.
    """

    def __init__(
        self,
        train: PairSampler,
        validation: PairSampler | None,
        settings: Optimizer,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.train, self.validation = train, validation
        self.settings, self.workers = settings, workers

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the current epoch."""
        s = self.settings
        epoch = self.trainer.current_epoch if self.trainer else 0
        steps = s.steps_per_epoch
        numbers: Any = range(epoch * steps, (epoch + 1) * steps)
        if epoch < s.warm_epochs:
            subset = max(1, s.warm_pairs // s.batch_size)
            numbers = [i % subset for i in numbers]
        return self._loader(self.train, numbers)

    def val_dataloader(self) -> Any:
        """Return the same held-out pairs every time."""
        if self.validation is None:
            return []
        count = max(1, self.settings.validation_pairs // self.settings.batch_size)
        return self._loader(self.validation, range(_VALIDATION, _VALIDATION + count))

    def _loader(self, sampler: PairSampler, numbers: Any) -> DataLoader[Any]:
        batches = NumberedBatches(sampler, numbers, self.settings.batch_size)
        return DataLoader(
            batches, batch_size=None, shuffle=False, num_workers=self.workers
        )
