"""What a network needs on its way: counted in a rehearsal, scaled to a task.

All that is alive between two operations of torch is added up, whatever network it is;
the most that ever was is what a pass needs. That is proportional to the points of its
batch, which are known for each way in which networks run.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from xatmo.engine import batch, finer, gaps, plan, worker

__all__ = ["Seen", "Task", "task_of", "watched"]


# What is read stands there as it came, and as the network wants it; what is written, as
# it is and as it is encoded or handed on.
_COPIES = 2.0
# A piece of a domain that becomes finer, with its halo, over the piece.
_WIDER = 1.3
# Members on a finer grid are many times what is read: how often they stand there, with
# what the allocator holds between them. Measured.
_FINER = 4.0
# How networks run, by the methods that are called; others are told by what they get.
_KINDS = {"predict": "boxes", "states": "boxes", "refine": "boxes"}
_SERIES = "about"
# Points that small chunks are joined to. Pieces of a series have others around them.
_JOINED = {
    "whole": plan.JOIN_POINTS,
    "finer": finer.TASK_POINTS,
    "series": 3 * gaps.TASK_POINTS,
    "boxes": 0,
}


@dataclass
class Pass:
    """One forward pass: bytes, and points of all fields of its batch."""

    method: str
    fields: int
    points: int
    read: int
    alive: int
    written: int
    rows: int
    given: tuple[str, ...] = ()


@dataclass
class Seen:
    """What a rehearsal has shown."""

    passes: list[Pass] = field(default_factory=list)
    weights: float = 0.0

    @property
    def largest(self) -> Pass:
        """The pass that needs most for each point."""
        return max(self.passes, key=lambda p: p.alive / p.points)


@dataclass(frozen=True)
class Task:
    """Bytes of one task."""

    read: float
    written: float
    work: float


def watched(run: Callable[[], object]) -> Seen:
    """Call something that runs networks, and return what these needed."""
    seen = Seen()
    with worker.watching(_listener(seen)):
        run()
    return seen


def task_of(
    seen: Seen, ds: xr.Dataset, result: Any, plane: int, space: Sequence[str]
) -> Task:
    """Scale a rehearsal to the tasks of the data.

    Parameters
    ----------
    seen : Seen
    ds : Dataset
        Lazy.
    result : DataArray or Dataset
        What the verb gives of it, lazy.
    plane : int
        Points of a field.
    space : sequence of str
        Dimensions of a field.
    """
    used = [v for v in ds.values() if set(space) <= set(v.dims) and v.chunks]
    field = sum(plane * v.dtype.itemsize for v in used)
    fields = max(math.prod(_others(v, space)) for v in used)
    total = max(math.prod(v.sizes[d] for d in v.dims if d not in space) for v in used)
    handed = float(sum(_chunk_bytes(v) for v in _lazy_of(result)))
    if not seen.passes:  # no network: a method that works on the values themselves
        read = _COPIES * fields * field
        return Task(read, _COPIES * handed, read)
    most = seen.largest
    kind = _KINDS.get(most.method, "whole")
    if kind == "whole" and _SERIES in most.given:
        kind = "series"
    elif kind == "whole" and most.method == "forward":
        kind = "finer"
    joined = min(max(fields, _JOINED[kind] // plane, 1), total)
    points = {
        "whole": _batch_of(plane),
        "finer": _batch_of(min(plane, _WIDER * finer.TILE_POINTS)),
        "series": _batch_of(min(plane, gaps.TILE_POINTS)),
        "boxes": float(most.points),
    }[kind]
    # Before a mean is taken, or members are counted, the task holds all of it.
    whole = most.written / most.points * plane * joined
    refines = most.method == "refine"
    times = _FINER if refines else 1.0
    work = (most.alive + times * most.written) / most.points * points
    if kind == "boxes":
        # Blended one window at a time; on a finer grid, one row of boxes at a time.
        rows = most.rows / ds.sizes[space[0]] if refines else 1.0
        blended = most.written / most.points * plane * min(rows, 1.0)
        whole, work = 0.0, work + times * blended
    return Task(_COPIES * joined * field, max(_COPIES * handed, whole), work)


def _batch_of(plane: float) -> float:
    """Points of a batch of fields of that size."""
    return max(plane, batch.CPU_POINTS // plane * plane)


def _others(v: xr.DataArray, space: Sequence[str]) -> list[int]:
    return [max(v.chunksizes[d]) for d in v.dims if d not in space] or [1]


def _chunk_bytes(v: xr.DataArray) -> float:
    return math.prod(max(c) for c in v.chunks or ()) * v.dtype.itemsize


def _lazy_of(result: Any) -> list[xr.DataArray]:
    arrays = [result] if isinstance(result, xr.DataArray) else list(result.values())
    return [a for a in arrays if a.chunks is not None]


# --- Listening ------------------------------------------------------------------------


def _listener(seen: Seen) -> Callable[[worker.Loaded, worker.Pass], worker.Pass]:
    """Have every forward pass counted."""

    def listen(model: worker.Loaded, forward: worker.Pass) -> worker.Pass:
        def counted(method: str, x: np.ndarray, kwargs: dict[str, Any]) -> np.ndarray:
            with _counting() as count:
                result = forward(method, x, kwargs)
            seen.weights = max(seen.weights, float(_weights(model)))
            points = len(x) * math.prod(x.shape[-2:])
            sizes = (x.nbytes, count.most + x.nbytes, result.nbytes)
            about = (len(x), points, *sizes, int(x.shape[-2]))
            seen.passes.append(Pass(method, *about, given=tuple(kwargs)))
            return result

        return counted

    return listen


def _weights(model: worker.Loaded) -> int:
    """Bytes of the parameters: twice, of what they are read from as well."""
    network = model._runtime.network
    return 2 * sum(p.numel() * p.element_size() for p in network.parameters())


class _Count:
    """Bytes of the tensors that are alive, and the most there ever were."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._known: dict[int, int] = {}

    def add(self, tensor: Any) -> None:
        """Count the memory of a tensor as long as something holds it."""
        storage = tensor.untyped_storage()
        at = storage._cdata
        if at in self._known:
            return
        self._known[at] = storage.nbytes()
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, at)

    def _gone(self, at: int) -> None:
        self.now -= self._known.pop(at, 0)


@contextmanager
def _counting() -> Iterator[_Count]:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    count = _Count()

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            for one in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(one, torch.Tensor) and not one.is_mkldnn:
                    count.add(one)
            return out

    with Counting():
        yield count
