"""The network inside a worker process: loaded once by key, on the right device.

Weights never travel with a task. What travels is the key; the first task of a process
that needs a model loads it, the others wait for that and share it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from xatmo.errors import OptionError
from xatmo.zoo import ModelKey, load_runtime

__all__ = ["Loaded", "free_memory", "is_out_of_memory", "running"]

_KEEP = 2  # models kept per process: two for a comparison, not a whole zoo

_lock = threading.Lock()
_loaded: OrderedDict[tuple[ModelKey, str], Loaded] = OrderedDict()
_gates: dict[str, threading.Semaphore] = {}
_load_count = 0


class Loaded:
    """A network on its device, ready for inference."""

    def __init__(self, key: ModelKey, device: str) -> None:
        self.device = device
        self._runtime = load_runtime(key, device)
        self._limits: dict[tuple[int, ...], int] = {}

    def forward(
        self, method: str, batch: np.ndarray, kwargs: dict[str, Any]
    ) -> np.ndarray:
        """(B, C, *core) in, (B, *out) out, both float32 in main memory.

        Arrays among the further arguments become tensors as well.
        """
        import torch

        # inference_mode is thread-local: it has to be entered in the task itself.
        with torch.inference_mode():
            x = torch.from_numpy(batch).to(self.device)
            kwargs = {
                name: torch.from_numpy(value).to(self.device)
                if isinstance(value, np.ndarray)
                else value
                for name, value in kwargs.items()
            }
            return self._runtime(method, x, **kwargs).float().cpu().numpy()

    def batch_limit(self, core: tuple[int, ...], wanted: int) -> int:
        """The batch that is known to fit for fields of this shape."""
        return min(wanted, self._limits.get(core, wanted))

    def remember_limit(self, core: tuple[int, ...], size: int) -> None:
        """Keep what running out of memory has taught."""
        self._limits[core] = size


@contextmanager
def running(key: ModelKey, device: str) -> Iterator[Loaded]:
    """Hold the model while one forward pass after the other runs.

    At most as many tasks run a network at the same time as keep the cores busy: one
    per GPU, and on a CPU one per group of threads that torch uses for itself.
    """
    resolved = resolve_device(device)
    with _gate(resolved):
        yield _get(key, resolved)


def resolve_device(device: str) -> str:
    """``"auto"`` means CUDA where there is one; anything else is checked."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.split(":")[0]
    usable = {"cpu": True, "cuda": torch.cuda.is_available()}
    if not usable.get(kind, False):
        msg = f"The device {device!r} cannot be used here."
        raise OptionError(
            msg,
            found=f"device={device!r}, CUDA available: {torch.cuda.is_available()}",
            needed="'auto', 'cpu', or 'cuda' on a machine with a GPU",
            hint="xatmo.set_options(device='auto')",
        )
    return device


def _get(key: ModelKey, device: str) -> Loaded:
    global _load_count
    with _lock:
        found = _loaded.get((key, device))
        if found is None:
            found = _loaded[key, device] = Loaded(key, device)
            _load_count += 1
            while len(_loaded) > _KEEP:
                _loaded.popitem(last=False)
        _loaded.move_to_end((key, device))
        return found


def _gate(device: str) -> threading.Semaphore:
    import torch

    with _lock:
        if device not in _gates:
            permits = 1
            if device == "cpu":
                # Workers of dask.distributed hold torch to one thread; a plain process
                # lets it use every core. Either way all cores are used once.
                permits = max(1, cpu_count() // torch.get_num_threads())
            _gates[device] = threading.Semaphore(permits)
        return _gates[device]


def cpu_count() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_count() -> int:
    """How often this process has loaded weights."""
    return _load_count


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device, or the machine, ran out of memory."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def free_memory() -> None:
    """Give back what the failed pass left in the GPU's pool."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
