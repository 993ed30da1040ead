"""In which arithmetic a network runs: full single precision, or bfloat16 where it may.

All of it is entered in the thread that runs the network: ``inference_mode`` and
``autocast`` hold for one thread only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from xatmo.engine.devices import is_gpu

__all__ = ["PRECISIONS", "arithmetic"]

PRECISIONS = ("float32", "bfloat16")

_lock = threading.Lock()
_users = 0  # threads that rely on the flags now
_before: list[tuple[Any, str, Any]] = []  # the flags when the first of them came

# What the flags are without TF32.
_WITHOUT: dict[tuple[str, type], Any] = {
    ("allow_tf32", bool): False,
    ("fp32_precision", str): "ieee",
}


@contextmanager
def arithmetic(device: str, precision: str) -> Iterator[None]:
    """Compute without gradients and in a precision, in this thread.

    Parameters
    ----------
    device : str
    precision : {"float32", "bfloat16"}
        With ``"float32"`` a GPU may not round to TF32, which torch lets convolutions
        do by default: results would differ from those of a CPU by some 1e-3. With
        ``"bfloat16"`` torch's autocast chooses the steps that bear it: products and
        convolutions; sums and normalisation stay in single precision.
    """
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if precision == "bfloat16":
            kind = device.split(":")[0]
            stack.enter_context(torch.autocast(kind, dtype=torch.bfloat16))
        elif is_gpu(device):
            stack.enter_context(_without_tf32())
        yield


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Switch TF32 off as long as anyone is here.

    The flags hold for the process: who comes first sets them, who leaves last puts
    back what the user had. Each for itself would put back what another one has set.
    """
    global _users, _before
    with _lock:
        if not _users:
            _before = _flags()
            for owner, name, value in _before:
                setattr(owner, name, _WITHOUT[name, type(value)])
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                for flag in _before:
                    setattr(*flag)


def _flags() -> list[tuple[Any, str, Any]]:
    """Owner, name and value of the flags, by torch's older names where these will do.

    Once a user has set the newer ones the older cannot be read, or do not rule; and
    the newer, once set, spoil the older for everybody.
    """
    import torch

    backends: Any = torch.backends
    older = [(part, "allow_tf32") for part in (backends.cuda.matmul, backends.cudnn)]
    wide = (backends, backends.cudnn)
    try:
        found = [(*flag, getattr(*flag)) for flag in older]
        if not any(getattr(part, "fp32_precision", "") == "tf32" for part in wide):
            return found
    except RuntimeError:
        pass
    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    return [(part, "fp32_precision", part.fp32_precision) for part in parts]
