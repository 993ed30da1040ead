"""Batches for Lightning: numbered, so that every epoch knows which ones are its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice, repeat
from typing import Any, Protocol

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from xatmo.training.recipe import Optimizer
from xatmo.training.sampling import PairSampler
from xatmo.training.stream import stream

__all__ = ["NumberedBatches", "NumberedData", "PairData", "StreamedBatches"]

# Batches of validation pairs are numbered from here, far from any training batch.
_VALIDATION = 2**40


class Sampler(Protocol):
    """Draws numbered batches."""

    def batch(self, number: int, size: int, part: tuple[int, int] = (0, 1)) -> Any:
        """Return part ``(i, n)`` of a batch: a dataclass of arrays."""


class NumberedBatches(Dataset[dict[str, Tensor]]):
    """``self[i]`` is batch ``numbers[i]`` of a sampler, as tensors.

    ``part`` is ``(i, n)`` for the i-th of n processes that share every batch.
    """

    def __init__(
        self,
        sampler: Sampler,
        numbers: Any,
        size: int,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.sampler, self.numbers, self.size = sampler, numbers, size
        self.part = part

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index >= len(self):
            raise IndexError(index)
        return _tensors(self.sampler.batch(self.numbers[index], self.size, self.part))


class StreamedBatches(IterableDataset[dict[str, Tensor]]):
    """``count`` batches of a stream, that begins anew after ``subset`` of them."""

    def __init__(
        self,
        sampler: PairSampler,
        key: tuple[int, ...],
        count: int,
        size: int,
        part: tuple[int, int] = (0, 1),
        subset: int | None = None,
    ) -> None:
        self.sampler, self.key, self.count = sampler, key, count
        self.size, self.part, self.subset = size, part, subset or count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        subsets = (
            stream(self.sampler, self.key, self.subset, self.size, self.part)
            for _ in repeat(None)
        )
        for batch in islice(chain.from_iterable(subsets), self.count):
            yield _tensors(batch)


class NumberedData(L.LightningDataModule):
    """New samples in every step, the same held-out ones in every validation.

    Parameters
    ----------
    train, validation : sampler
        ``batch(number, size, part)`` returns a dataclass of arrays.
    batch_size : int
        Samples per process and step.
    steps : int
        Per epoch.
    held_out : int
        Samples of a validation.
    workers : int
        Processes that draw batches; 0 draws in the training process.
    """

    def __init__(
        self,
        train: Sampler,
        validation: Sampler | None,
        *,
        batch_size: int,
        steps: int,
        held_out: int,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.train, self.validation = train, validation
        self.batch_size, self.steps, self.held_out = batch_size, steps, held_out
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the current epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        numbers = range(epoch * self.steps, (epoch + 1) * self.steps)
        return self._numbered(self.train, numbers)

    def val_dataloader(self) -> Any:
        """Return the same held-out samples every time."""
        if self.validation is None:
            return []
        count = max(1, self.held_out // self._size)
        return self._numbered(self.validation, range(_VALIDATION, _VALIDATION + count))

    @property
    def part(self) -> tuple[int, int]:
        """Which part of every batch is drawn in this process."""
        if not self.trainer:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    @property
    def _size(self) -> int:
        """Samples of a step, in all processes together."""
        return self.batch_size * self.part[1]

    def _numbered(self, sampler: Sampler, numbers: Any) -> DataLoader[Any]:
        return self._loader(NumberedBatches(sampler, numbers, self._size, self.part))

    def _loader(self, batches: Dataset[Any]) -> DataLoader[Any]:
        return DataLoader(
            batches, batch_size=None, shuffle=False, num_workers=self.workers
        )


class PairData(NumberedData):
    """Warm start on a fixed subset, then new pairs in every step.

    Parameters
    ----------
    train, validation : PairSampler
    settings : Optimizer
        Sizes and numbers of epochs.
    workers : int
        Processes that draw batches; 0 draws in the training process.
    """

    train: PairSampler
    validation: PairSampler | None

    def __init__(
        self,
        train: PairSampler,
        validation: PairSampler | None,
        settings: Optimizer,
        workers: int = 0,
    ) -> None:
        super().__init__(
            train,
            validation,
            batch_size=settings.batch_size,
            steps=settings.steps_per_epoch,
            held_out=settings.validation_pairs,
            workers=workers,
        )
        self.settings = settings

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the current epoch."""
        s, epoch = self.settings, self.trainer.current_epoch if self.trainer else 0
        steps, subset = s.steps_per_epoch, max(1, s.warm_pairs // self._size)
        warm = epoch < s.warm_epochs
        if not self.train.streams:
            numbers: Any = range(epoch * steps, (epoch + 1) * steps)
            if warm:
                numbers = [i % subset for i in numbers]
            return self._numbered(self.train, numbers)
        if not warm:
            return self._streamed(self.train, (1, epoch), steps)
        # The fixed subset in sections of at most one epoch, each a stream of its own.
        section = epoch % -(-subset // steps)
        length = min(steps, subset - section * steps)
        return self._streamed(self.train, (0, section), steps, length)

    def val_dataloader(self) -> Any:
        """Return the same held-out pairs every time."""
        if self.validation is None or not self.validation.streams:
            return super().val_dataloader()
        count = max(1, self.held_out // self._size)
        return self._streamed(self.validation, (2,), count)

    def _streamed(
        self,
        sampler: PairSampler,
        key: tuple[int, ...],
        count: int,
        subset: int | None = None,
    ) -> DataLoader[Any]:
        return self._loader(
            StreamedBatches(sampler, key, count, self._size, self.part, subset)
        )


def _tensors(batch: Any) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in vars(batch).items()}
