"""The network inside a worker process: loaded once by key, on the right device.

Weights never travel with a task. What travels is the key; the first task of a process
that needs a model loads it, the others wait for that and share it.
"""

from __future__ import annotations

import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from xatmo.engine import batchsize
from xatmo.engine.allocator import undo_trimming
from xatmo.engine.batchsize import Known, Spot
from xatmo.engine.compiling import Compiling
from xatmo.engine.devices import held, is_gpu, resolve_device
from xatmo.engine.lanes import Lanes, lanes_for
from xatmo.engine.pipeline import UNDER_WAY, Lane, lane_of
from xatmo.engine.precision import arithmetic
from xatmo.zoo import ModelKey, load_runtime

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Loaded",
    "free_memory",
    "is_out_of_memory",
    "resolve_device",
    "running",
    "watching",
]

_KEEP = 2  # models kept per device: two for a comparison, not a whole zoo
# Passes that a size is timed by, after one that warms up.
_TIMED = 3
# How other libraries than torch say that the device's memory is full.
_FULL = ("can't allocate memory", "out of memory", "ALLOC_FAILED")

Pass = Callable[[str, np.ndarray, dict[str, Any]], np.ndarray]
# Whoever wants to see the passes of this thread: is handed the model and how it is
# called, and calls it.
_watcher: ContextVar[Callable[[Any, Pass], Pass] | None]
_watcher = ContextVar("watcher", default=None)

_lock = threading.Lock()
_loaded: OrderedDict[_Use, Loaded] = OrderedDict()
_load_count = 0

_Use = tuple[ModelKey, str, str, bool | str]


class Asked(Protocol):
    """What is said of a network to be run: :class:`xatmo.engine.batch.Call`."""

    @property
    def key(self) -> ModelKey: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def compile(self) -> bool | str: ...


class Loaded:
    """A network on its device, ready for inference.

    Parameters
    ----------
    key : ModelKey
    device : str
    precision, compile
        As in :class:`xatmo.options.Options`.
    """

    def __init__(
        self,
        key: ModelKey,
        device: str,
        precision: str = "float32",
        compile: bool | str = "auto",
    ) -> None:
        self.device, self.precision, self._key = device, precision, key
        undo_trimming()
        self._runtime = load_runtime(key, device)
        self._compiling = Compiling(compile, device)
        self._lane: Lane | None = lane_of(device) if is_gpu(device) else None
        if self._lane is not None:
            # The weights have to be there: no other stream waits for them.
            self._lane.settle()
        self._known: dict[tuple[str, tuple[int, ...]], Known] = {}
        self._searching = threading.Lock()

    def under_way(self, points: int) -> int:
        """How many batches of so many points to have on their way at a time."""
        if self._lane is not None:
            return UNDER_WAY
        lanes = self._lanes(points)
        # One more than can run: it waits while a result is put away.
        return 1 if lanes is None else lanes.count + 1

    def forward(
        self, method: str, batch: np.ndarray, kwargs: dict[str, Any]
    ) -> np.ndarray:
        """(B, C, *core) in, (B, *out) out, both float32 in main memory.

        Arrays among the further arguments become tensors as well.
        """
        watcher = _watcher.get()
        if watcher is None:
            return self._run(method, batch, kwargs)
        return watcher(self, self._run)(method, batch, kwargs)

    def _run(
        self, method: str, batch: np.ndarray, kwargs: dict[str, Any]
    ) -> np.ndarray:
        return self._timed(method, batch, kwargs)[0]

    def submit(
        self,
        gather: Callable[[], tuple[str, np.ndarray, dict[str, Any]]],
        points: int,
    ) -> Later:
        """Begin a forward pass of what is gathered; returns what waits for its result.

        A batch that takes a whole CPU runs when somebody waits for it.
        """

        def run() -> np.ndarray:
            return self.forward(*gather())

        # On a GPU in other threads, since copies and some networks wait for the device.
        lanes = self._lanes(points) if self._lane is None else self._lane
        if lanes is None:
            return Later(run)
        future = lanes.threads.submit(run)
        return Later(future.result, future)

    def _lanes(self, points: int) -> Lanes | None:
        """Where small batches run side by side, if nothing speaks against it."""
        # Who watches does so in this thread; what compiles may not do so in several.
        if _watcher.get() is not None or self._compiling.on:
            return None
        return lanes_for(points)

    def _timed(
        self, method: str, batch: np.ndarray, kwargs: dict[str, Any]
    ) -> tuple[np.ndarray, float]:
        """Return the result of a pass, and the seconds that a GPU spent on it."""
        import torch

        spot = (method, batch.shape)
        compiled = self._compiling.wanted(spot)

        def network(x: Tensor, given: dict[str, Any]) -> Tensor:
            with arithmetic(self.device, self.precision):
                return self._called(method, x, given, spot, compiled).float()

        if self._lane is not None:
            result, seconds = self._lane.run(network, batch, kwargs)
            self._compiling.took(spot, seconds, compiled=compiled)
            return result, seconds
        # inference_mode is thread-local: it has to be entered in the task itself.
        with torch.inference_mode():
            given = {
                name: torch.from_numpy(value)
                if isinstance(value, np.ndarray)
                else value
                for name, value in kwargs.items()
            }
            return network(torch.from_numpy(batch), given).numpy(), 0.0

    def _called(
        self, method: str, x: Tensor, given: dict[str, Any], spot: Any, compiled: bool
    ) -> Tensor:
        if not compiled:
            return self._runtime(method, x, **given)
        return self._compiling.run(
            spot,
            lambda: self._runtime(method, x, compiled=True, **given),
            lambda: self._runtime(method, x, **given),
            is_out_of_memory,
        )

    # --- Batches ----------------------------------------------------------------------

    def best_batch(
        self,
        method: str,
        core: tuple[int, ...],
        largest: int,
        sample: Callable[[], tuple[str, np.ndarray, dict[str, Any]]],
    ) -> int:
        """Return the smallest batch that is as fast as any on this GPU.

        Found by trying when it is first asked for, on any machine like this one.

        Parameters
        ----------
        method : str
        core : tuple of int
            Shape of a field.
        largest : int
            No larger ones are tried.
        sample : callable
            Gives arguments for :meth:`forward`, of a few fields.
        """
        # One at a time: a second task waits for what the first one finds.
        with self._searching:
            known = self._what_is_known(method, core)
            if not known.answers(largest):
                limit = known.limit
                known = self._search(*sample(), known.fitting(largest))
                known = Known(known.best, known.complete, limit)
                self._keep(method, core, known)
        assert known.best is not None  # noqa: S101 - that is what was searched
        return known.fitting(min(known.best, largest))

    def batch_limit(self, method: str, core: tuple[int, ...], wanted: int) -> int:
        """The batch that is known to fit for fields of this shape."""
        return self._what_is_known(method, core).fitting(wanted)

    def remember_limit(self, method: str, core: tuple[int, ...], size: int) -> None:
        """Keep what running out of memory with a batch of some size has taught."""
        self._keep(method, core, self._what_is_known(method, core).halved(size))

    def _search(
        self, method: str, batch: np.ndarray, kwargs: dict[str, Any], largest: int
    ) -> Known:
        count = len(batch)

        def seconds(size: int) -> float:
            """Time a batch of the sample's fields, again and again."""
            rows = np.resize(np.arange(count), size)
            given = {
                n: value[rows] if _one_each(value, count) else value
                for n, value in kwargs.items()
            }
            try:
                passes = [
                    self._timed(method, batch[rows], given)[1]
                    for _ in range(1 + _TIMED)
                ]
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                free_memory(error)
                return float("inf")
            return min(passes[1:])

        return batchsize.search(seconds, largest, self._fits)

    def _fits(self, _: int) -> bool:
        """Whether twice as many as the last are likely to fit."""
        assert self._lane is not None  # noqa: S101 - or nothing is searched
        taken, free = self._lane.memory()
        return 2 * taken <= batchsize.SHARE * free

    def _what_is_known(self, method: str, core: tuple[int, ...]) -> Known:
        at = (method, core)
        if at not in self._known:
            spot = self._spot(method, core)
            self._known[at] = Known() if spot is None else batchsize.read(spot)
        return self._known[at]

    def _keep(self, method: str, core: tuple[int, ...], known: Known) -> None:
        self._known[method, core] = known
        spot = self._spot(method, core)
        if spot is not None:
            batchsize.write(spot, known)

    def _spot(self, method: str, core: tuple[int, ...]) -> Spot | None:
        """What is kept on disk: nothing of a CPU, whose memory others use as well."""
        if self._lane is None:
            return None
        import torch

        name = self._lane.name
        said = (self._key.sha256, method, core, self.precision, name)
        return Spot(*said, torch=torch.__version__)


class Later:
    """The result of a pass, once it is there.

    Parameters
    ----------
    result : callable
        Waits for it.
    future : Future, optional
        The pass itself, if it is on its way.
    """

    def __init__(
        self,
        result: Callable[[], np.ndarray],
        future: Future[np.ndarray] | None = None,
    ) -> None:
        self.result, self._future = result, future

    def forget(self) -> None:
        """Wait until the pass is no more on its way, however it ends."""
        if self._future is not None and not self._future.cancel():
            self._future.exception()


def _one_each(value: Any, count: int) -> bool:
    """Whether an argument is an array with a row for each field."""
    return isinstance(value, np.ndarray) and value.ndim > 0 and len(value) == count


@contextmanager
def running(asked: Asked) -> Iterator[Loaded]:
    """Hold the model while one forward pass after the other runs.

    At most as many tasks run a network at the same time as keep the device busy: see
    :mod:`xatmo.engine.devices`.

    Parameters
    ----------
    asked : Asked
        A call, or what else names a model, a device and how to compute.
    """
    with held(asked.device) as device:
        yield _get((asked.key, device, asked.precision, asked.compile))


@contextmanager
def watching(watcher: Callable[[Loaded, Pass], Pass]) -> Iterator[None]:
    """Let somebody stand around the forward passes of this thread.

    Parameters
    ----------
    watcher : callable
        From a model and its forward pass to what is called instead.
    """
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def _get(use: _Use) -> Loaded:
    global _load_count
    with _lock:
        found = _loaded.get(use)
        if found is None:
            found = _loaded[use] = Loaded(*use)
            _load_count += 1
            alike = [other for other in _loaded if other[1] == use[1]]
            for other in alike[:-_KEEP]:
                del _loaded[other]
        _loaded.move_to_end(use)
        return found


def load_count() -> int:
    """How often this process has loaded weights."""
    return _load_count


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device, or the machine, ran out of memory."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(s in str(error) for s in _FULL)


def free_memory(error: Exception | None = None) -> None:
    """Give back what a failed pass left in the GPU's pool.

    What its functions had in hand would stay there as long as the error does.
    """
    import torch

    if error is not None:
        traceback.clear_frames(error.__traceback__)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
