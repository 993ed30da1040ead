"""What one task does: cut its fields into fixed batches and run the network on them.

Batches have one size, whatever the chunk: the last one is padded. So a field gets the
same numbers, to the last bit, in whatever company it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from xatmo.engine import worker
from xatmo.errors import MissingValuesError, OutOfMemoryError
from xatmo.zoo import ModelKey

__all__ = ["Call", "execute", "in_batches", "missing_values"]

# Grid points of one forward pass. On a CPU larger batches gain nothing (measured for
# 32 x 32 to 181 x 360 points), and small ones waste little where they are padded.
CPU_POINTS = 2**14
GPU_POINTS = 2**20


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
    device, batch_size, missing
        As in :class:`xatmo.options.Options`.
    """

    key: ModelKey
    method: str
    kwargs: tuple[tuple[str, Hashable], ...] = ()
    names: tuple[str, ...] = ()
    device: str = "auto"
    batch_size: int | None = None
    missing: str = "raise"

    def fields_per_batch(self, points: int, device: str) -> int:
        """Return how many fields of ``points`` grid points make a batch."""
        if self.batch_size is not None:
            return self.batch_size
        budget = CPU_POINTS if device == "cpu" else GPU_POINTS
        return max(1, budget // points)


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

    def step(start: int, stop: int, size: int) -> None:
        batch, bad = _gather(flat, start, stop, size, call)
        result = model.forward(call.method, batch, kwargs)
        out[start:stop] = result[: stop - start]
        out[start:stop][bad] = np.nan

    if len(out):
        with worker.running(call.key, call.device) as model:
            in_batches(step, len(out), core, call, model)
    return out.reshape(*lead, *out_core)


def in_batches(
    step: Callable[[int, int, int], None],
    count: int,
    core: tuple[int, ...],
    call: Call,
    model: worker.Loaded,
) -> None:
    """Call ``step(start, stop, size)`` until all fields have had their turn.

    Parameters
    ----------
    step : callable
        Runs the network on the fields ``start`` to ``stop``, of which there are
        ``size`` in a full batch. When it runs out of memory it is called again with
        half as many.
    count : int
        Number of fields.
    core : tuple of int
        Shape of one.
    call : Call
    model : Loaded
    """
    size = call.fields_per_batch(int(np.prod(core)), model.device)
    size = model.batch_limit(core, size)
    start = 0
    while start < count:
        stop = min(start + size, count)
        try:
            step(start, stop, size)
        except Exception as error:
            if not worker.is_out_of_memory(error):
                raise
            size = _halved(size, error, call, model, core)
            continue
        start = stop


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
    worker.free_memory()
    if size == 1:
        msg = f"Not enough memory on {model.device} for a single field."
        raise OutOfMemoryError(
            msg,
            found=f"a field of {' x '.join(map(str, core))} points, model "
            f"{call.key.name} ({type(error).__name__})",
            needed="memory for one field and the network's activations",
            hint="xatmo.set_options(device='cpu'), or select a smaller region",
        ) from error
    model.remember_limit(core, size // 2)
    return size // 2
