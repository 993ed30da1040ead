"""What one task does: cut its fields into fixed batches and run the network on them.

Batches have one size, whatever the chunk: the last one is padded. So a field gets the
same numbers, to the last bit, in whatever company it comes.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from xatmo.engine import worker
from xatmo.engine.devices import is_gpu
from xatmo.errors import MissingValuesError, OutOfMemoryError
from xatmo.options import get_options
from xatmo.zoo import ModelKey

__all__ = ["Call", "Pass", "Step", "execute", "in_batches", "missing_values"]

Pass: TypeAlias = tuple[str, np.ndarray, dict[str, Any]]
"""A forward pass that is wanted: what :meth:`worker.Loaded.forward` is called with."""

Step: TypeAlias = Generator[Pass, np.ndarray, None]
"""Gathers a batch, yields a pass and gets its result, and puts that away."""

# Grid points of one forward pass. On a CPU larger batches gain nothing (measured for
# 32 x 32 to 181 x 360 points), and small ones waste little where they are padded.
CPU_POINTS = 2**14
# At most, on a GPU: as many as chunks are joined to, so that a task fills a batch.
GPU_POINTS = 2**19


@dataclass(frozen=True)
class Call:
    """Everything a task needs to know: small, picklable, the same in every process.

    Parameters
    ----------
    key : ModelKey
        Which network; each process loads it once.
    method : str
        Method of the network that is called with (B, C, *core).
    kwargs : tuple of (str, value)
        Its further arguments.
    names : tuple of str
        What the fields are called by the user, for messages.
    device, batch_size, missing, precision, compile
        As in :class:`xatmo.options.Options`; the last two as they are when the call is
        planned, if not given.
    cpu_batch : int, optional
        Fields of a batch on a CPU; by their points if not given.
    gpu_batch : int, optional
        Fields of a batch on a GPU at most; by their points if not given.
    """

    key: ModelKey
    method: str
    kwargs: tuple[tuple[str, Hashable], ...] = ()
    names: tuple[str, ...] = ()
    device: str = "auto"
    batch_size: int | None = None
    missing: str = "raise"
    precision: str = field(default_factory=lambda: get_options().precision)
    compile: bool | str = field(default_factory=lambda: get_options().compile)
    cpu_batch: int | None = None
    gpu_batch: int | None = None

    def fields_per_batch(self, points: int, device: str) -> int:
        """Return how many fields of ``points`` grid points make a batch.

        Of a GPU, how many at most: see :meth:`worker.Loaded.best_batch`.
        """
        if self.batch_size is not None:
            return self.batch_size
        own, budget = self.cpu_batch, CPU_POINTS
        if is_gpu(device):
            own, budget = self.gpu_batch, GPU_POINTS
        return own or max(1, budget // points)


def execute(
    *arrays: np.ndarray, call: Call, n_core: int, out_core: tuple[int, ...]
) -> np.ndarray:
    """Run a call on the fields of one chunk.

    Parameters
    ----------
    *arrays : ndarray, shape (..., *core)
        One per input channel, all of the same shape.
    call : Call
    n_core : int
        Number of trailing dimensions that the network sees.
    out_core : tuple of int
        Shape of one result.

    Returns
    -------
    ndarray of float32, shape (..., *out_core)
    """
    lead = arrays[0].shape[: arrays[0].ndim - n_core]
    core = arrays[0].shape[arrays[0].ndim - n_core :]
    flat = [a.reshape(-1, *core) for a in arrays]
    out = np.empty((len(flat[0]), *out_core), np.float32)
    kwargs = dict(call.kwargs)

    def step(start: int, stop: int, size: int) -> Step:
        batch, bad = _gather(flat, start, stop, size, call)
        result = yield call.method, batch, kwargs
        out[start:stop] = result[: stop - start]
        out[start:stop][bad] = np.nan

    if len(out):
        with worker.running(call) as model:
            in_batches(step, len(out), core, call, model, alone=True)
    return out.reshape(*lead, *out_core)


def in_batches(
    step: Callable[[int, int, int], Step],
    count: int,
    core: tuple[int, ...],
    call: Call,
    model: worker.Loaded,
    every: int | None = None,
    alone: bool = False,
) -> None:
    """Run ``step(start, stop, size)`` until all fields have had their turn.

    Parameters
    ----------
    step : callable
        Gathers the fields ``start`` to ``stop``, of which there are ``size`` in a full
        batch, yields what the network is to be called with, once or several times, and
        puts away what it gets for that. Later steps may gather before the results of
        earlier ones are there; these are put away in order. When the device runs out of
        memory, steps are begun again with half as many.
    count : int
        Number of fields.
    core : tuple of int
        Shape of one.
    call : Call
    model : Loaded
    every : int, optional
        No batch has fields on both sides of a multiple of this.
    alone : bool
        Whether steps have nothing in common until they get their results: several may
        gather at the same time then, in other threads.
    """
    every = every or count
    size = _size(step, min(count, every), core, call, model)
    done = 0
    while done < count:
        try:
            cuts = _cuts(done, count, size, every)
            # A batch that has no other beside it is better off with all threads.
            single = count - done <= size
            points = sys.maxsize if single else size * math.prod(core)
            begun = (
                (stop, _Batch(step(start, stop, size), model, points, alone))
                for start, stop in cuts
            )
            for stop in _ended(begun, model.under_way(points)):
                done = stop
        except Exception as error:
            if not worker.is_out_of_memory(error):
                raise
            size = _halved(size, error, call, model, core)


def _size(
    step: Callable[[int, int, int], Step],
    count: int,
    core: tuple[int, ...],
    call: Call,
    model: worker.Loaded,
) -> int:
    """Fields of a full batch: by field and device, never by the chunk."""
    size = call.fields_per_batch(int(np.prod(core)), model.device)
    if call.batch_size is not None or not is_gpu(model.device):
        return model.batch_limit(call.method, core, size)

    def sample() -> Pass:
        # Two fields: what has a row for each of them is told from what has one for all.
        begun = step(0, min(2, count), 2)
        asked = next(begun)
        begun.close()
        return asked

    return model.best_batch(call.method, core, size, sample)


def _cuts(start: int, count: int, size: int, every: int) -> Iterator[tuple[int, int]]:
    """Where batches begin and end."""
    while start < count:
        stop = min(start + size, count, (start // every + 1) * every)
        yield start, stop
        start = stop


def _ended(begun: Iterator[tuple[int, _Batch]], most: int) -> Iterator[int]:
    """Run batch after batch, as many on their way as may be; yields where each ends."""
    ahead: deque[tuple[int, _Batch]] = deque()
    try:
        for one in begun:
            ahead.append(one)
            if len(ahead) == most:
                yield _first(ahead)
        while ahead:
            yield _first(ahead)
    finally:
        for _, batch in ahead:
            batch.forget()


def _first(ahead: deque[tuple[int, _Batch]]) -> int:
    stop, batch = ahead.popleft()
    batch.finish()
    return stop


class _Batch:
    """A step whose first pass has been begun."""

    def __init__(
        self, step: Step, model: worker.Loaded, points: int, alone: bool
    ) -> None:
        self._step, self._model, self._points = step, model, points
        gather = partial(next, step) if alone else _given(next(step))
        self._later = model.submit(gather, points)

    def finish(self) -> None:
        """Put away what comes, and run what else is wanted, until the step ends."""
        while True:
            result = self._later.result()
            try:
                asked = self._step.send(result)
            except StopIteration:
                return
            self._later = self._model.submit(_given(asked), self._points)

    def forget(self) -> None:
        """Leave it, to be begun again perhaps."""
        self._later.forget()  # first, since it may be gathering
        self._step.close()


def _given(asked: Pass) -> Callable[[], Pass]:
    return lambda: asked


def _gather(
    flat: list[np.ndarray], start: int, stop: int, size: int, call: Call
) -> tuple[np.ndarray, np.ndarray]:
    """One padded batch (size, C, *core), and which of its fields cannot be used."""
    batch = np.empty((size, len(flat), *flat[0].shape[1:]), np.float32)
    for channel, array in enumerate(flat):
        batch[: stop - start, channel] = array[start:stop]
    batch[stop - start :] = 0.0
    used = batch[: stop - start]
    # A batch is small: its mask costs less than a sum in which overflow is no matter.
    complete = np.isfinite(used).all(axis=tuple(range(2, used.ndim)))  # (n, C)
    bad: np.ndarray = np.logical_not(complete)
    if bad.any():
        if call.missing == "raise":
            raise missing_values(bad, call, start)
        used[bad.any(axis=1)] = 0.0
    return batch, np.asarray(bad.any(axis=1))


def missing_values(bad: np.ndarray, call: Call, start: int) -> MissingValuesError:
    """Return the error for a batch with gaps.

    Parameters
    ----------
    bad : ndarray of bool, shape (fields, channels)
        Which have some.
    call : Call
    start : int
        Number of the first field in its chunk.
    """
    names = call.names or tuple(f"input {i}" for i in range(bad.shape[1]))
    columns = np.asarray(bad.any(axis=0))
    first = start + int(np.argmax(bad.any(axis=1)))
    # Fields derived from the same winds are called alike.
    which = ", ".join(dict.fromkeys(names[i] for i in np.flatnonzero(columns)))
    msg = f"NaN or infinite values in {which}: the network needs complete fields."
    return MissingValuesError(
        msg,
        found=f"{int(bad.any(axis=1).sum())} of {len(bad)} fields with missing values "
        f"in one batch, the first of them number {first} of its chunk (from 0)",
        needed="finite numbers everywhere",
        hint="fill the gaps first: ds.atmo.infill(); or use "
        "xatmo.set_options(missing='propagate') to get NaN in their place",
    )


def _halved(
    size: int,
    error: Exception,
    call: Call,
    model: worker.Loaded,
    core: tuple[int, ...],
) -> int:
    """Half the batch after running out of memory, and remember it for this shape."""
    worker.free_memory(error)
    if size == 1:
        msg = f"Not enough memory on {model.device} for a single field."
        raise OutOfMemoryError(
            msg,
            found=f"a field of {' x '.join(map(str, core))} points, model "
            f"{call.key.name} ({type(error).__name__})",
            needed="memory for one field and the network's activations",
            hint="xatmo.set_options(device='cpu'), or select a smaller region",
        ) from error
    model.remember_limit(call.method, core, size)
    return size // 2
