"""A GPU that is none: streams that do their work late, in threads of their own.

What torch's streams promise is all that they keep: order within one, and across several
only what an event was waited for. Memory that nobody has written to yet is NaN.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from xatmo.engine import devices, worker
from xatmo.engine.pipeline import Lane
from xatmo.zoo import load_runtime

LATE = 2e-3  # seconds that everything takes


class Stream:
    """Does one thing after the other."""

    def __init__(self, device: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            self._jobs.get()()

    def put(self, job: Callable[[], Any]) -> None:
        self._jobs.put(job)

    def wait_event(self, event: Event) -> None:
        self.put(partial(event.there.wait, 300))


class Event:
    """A point in what a stream does."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
        self.there, self.time = threading.Event(), 0.0

    def record(self, stream: Stream) -> None:
        def reach() -> None:
            self.time = time.perf_counter()
            self.there.set()

        stream.put(reach)

    def synchronize(self) -> None:
        assert self.there.wait(300)

    def elapsed_time(self, other: Event) -> float:
        return 1e3 * (other.time - self.time)


class Cuda:
    """In place of ``torch.cuda``."""

    Stream, Event = Stream, Event

    def __init__(self) -> None:
        self._local = threading.local()

    @property
    def current(self) -> Stream:
        return self._local.stream

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before = getattr(self._local, "stream", None)
        self._local.stream = stream
        yield
        self._local.stream = before

    def synchronize(self, device: str) -> None:
        pass


class Emulated(Lane):
    """A lane over such streams, with a diary of what began and ended when."""

    name = "Emulated, 1 GiB"

    def __init__(self, device: str) -> None:
        super().__init__(device, api=Cuda())
        self.diary: list[tuple[str, float, float]] = []
        self.sizes: list[int] = []
        self.kept: list[tuple[tuple[int, ...], Stream]] = []
        self.fits = 10**9  # fields that the memory holds
        self.cost: Callable[[int], float] = lambda n: 1e-3 * max(n, 4)

    def run(self, network: Any, batch: np.ndarray, kwargs: Any) -> Any:
        self.sizes.append(len(batch))
        result, _ = super().run(network, batch, kwargs)
        return result, self.cost(len(batch))

    def memory(self) -> tuple[int, int]:
        return 0, 1

    @property
    def _place(self) -> str:
        return "cpu"

    def _page_locked(self, like: Tensor) -> Tensor:
        return torch.full(like.shape, torch.nan, dtype=like.dtype)

    def _copy(self, to: Tensor, source: Tensor) -> None:
        to.fill_(torch.nan)
        name = "in" if self._api.current is self._in else "out"
        self._api.current.put(lambda: self._late(name, lambda: to.copy_(source)))

    def _kept_for(self, tensor: Tensor, stream: Any) -> None:
        self.kept.append((tuple(tensor.shape), stream))

    def _called(self, network: Any, x: Tensor, kwargs: Any) -> Tensor:
        if len(x) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory (emulated)")
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def job() -> None:
            try:
                answer.put(network(x, kwargs))
            except Exception as error:
                answer.put(error)

        self._api.current.put(job)
        found = answer.get(timeout=300)
        if isinstance(found, Exception):
            raise found
        result = torch.full_like(found, torch.nan)
        self._api.current.put(
            lambda: self._late("compute", lambda: result.copy_(found))
        )
        return result

    def _late(self, name: str, job: Callable[[], Any]) -> None:
        began = time.perf_counter()
        time.sleep(LATE)
        with torch.inference_mode():  # of this thread
            job()
        self.diary.append((name, began, time.perf_counter()))


@pytest.fixture
def gpus(monkeypatch, tmp_path) -> dict[str, Emulated]:
    """Two GPUs: ``device="auto"`` takes them, and networks run there as on a CPU."""
    lanes = {f"cuda:{i}": Emulated(f"cuda:{i}") for i in range(2)}
    monkeypatch.setenv("XATMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(devices, "gpu_count", lambda: len(lanes))
    monkeypatch.setattr(devices, "_gates", {})
    monkeypatch.setattr(worker, "lane_of", lanes.__getitem__)
    monkeypatch.setattr(worker, "load_runtime", lambda key, _: load_runtime(key, "cpu"))
    monkeypatch.setattr(worker, "_loaded", type(worker._loaded)())
    monkeypatch.setattr(worker, "_TIMED", 1)  # these GPUs do not vary
    return lanes
