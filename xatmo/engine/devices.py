"""Where a task's network runs: which device, and how many tasks may use it at a time.

One process that sees several GPUs and may choose gives each task to the one that is
least busy. A worker of dask.distributed takes the first that it sees: there is one
worker for each GPU then, and dask-cuda puts a worker's own GPU first.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from xatmo.errors import OptionError

__all__ = ["cpu_count", "held", "is_gpu", "permits_of", "resolve_device"]

# Tasks that share a GPU: while the batches of one are computed others gather theirs,
# and put away what they got. No two passes are in its memory for that: networks run
# one after the other there, whoever asks (see xatmo.engine.pipeline).
GPU_TASKS = 4

_lock = threading.Lock()
_gates: dict[tuple[str, int], threading.Semaphore] = {}
_tasks: dict[str, int] = {}  # in front of a device's gate, or behind it


@contextmanager
def held(device: str) -> Iterator[str]:
    """Wait for a device, and hold it; gives the one that was chosen.

    Parameters
    ----------
    device : str
        ``"auto"`` is the GPU with the fewest tasks, or the CPU where there is none.

    Raises
    ------
    xatmo.errors.OptionError
        If there is no such device.
    """
    several = _candidates(device)
    with _lock:
        chosen = min(several, key=lambda one: _tasks.get(one, 0))
        _tasks[chosen] = _tasks.get(chosen, 0) + 1
    try:
        with _gate(chosen):
            yield chosen
    finally:
        with _lock:
            _tasks[chosen] -= 1


def resolve_device(device: str) -> str:
    """Return what ``"auto"`` and ``"cuda"`` stand for; anything else is checked."""
    return _candidates(device)[0]


def is_gpu(device: str) -> bool:
    """Whether a device is a GPU."""
    return device.startswith("cuda")


def permits_of(device: str) -> int:
    """How many tasks may use a device at a time.

    On a CPU as many as keep all cores busy, given the threads that torch uses for each:
    a plain process lets torch have every core, so one; workers of dask.distributed hold
    torch to one thread, so as many as there are cores. There it is the worker's own
    number of threads that limits: all workers together use what they were given.
    """
    import torch

    if is_gpu(device):
        return GPU_TASKS
    return max(1, cpu_count() // torch.get_num_threads())


def cpu_count() -> int:
    """Cores this process may use, by affinity and by the limits of its container."""
    from dask.system import CPU_COUNT  # read once: it costs a part of a small batch

    return int(CPU_COUNT)


def gpu_count() -> int:
    """GPUs that this process sees."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _candidates(device: str) -> list[str]:
    """Devices that an option stands for, the first one first."""
    kind, _, number = device.partition(":")
    if device == "cpu":
        return ["cpu"]
    count = gpu_count()
    if device == "auto":
        several = 1 if _in_dask_worker() else count
        return [f"cuda:{i}" for i in range(min(several, count))] or ["cpu"]
    if kind == "cuda" and int(number or 0) < count:
        return [f"cuda:{int(number or 0)}"]
    msg = f"The device {device!r} cannot be used here."
    raise OptionError(
        msg,
        found=f"device={device!r}, CUDA available: {bool(count)}"
        + (f", {count} GPUs" if count else ""),
        needed="'auto', 'cpu', or 'cuda' on a machine with a GPU",
        hint="xatmo.set_options(device='auto')",
    )


def _in_dask_worker() -> bool:
    """Whether this is a task of a worker of dask.distributed."""
    distributed = sys.modules.get("distributed.worker")
    if distributed is None:  # what has not been imported cannot run this
        return False
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


def _gate(device: str) -> threading.Semaphore:
    """Return the semaphore of a device; another one if torch's threads have changed."""
    permits = permits_of(device)
    with _lock:
        return _gates.setdefault((device, permits), threading.Semaphore(permits))
