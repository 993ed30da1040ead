"""Reading, copying and computing at the same time on a GPU.

A batch passes through three streams: it is copied in on the first, computed on the
second and copied out on the third. Each pass is one call of :meth:`Lane.run`, which
waits for its own result; several calls from several threads overlap. What orders them
is said at each place where one waits for another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["UNDER_WAY", "Lane", "lane_of"]

# Batches on their way through a GPU: one is copied in, one computed, one copied out.
UNDER_WAY = 3


class Lane:
    """The streams of one GPU, shared by all tasks and models that use it.

    Parameters
    ----------
    device : str
        ``"cuda:0"``, for example.
    api : module, optional
        Where streams and events come from: ``torch.cuda`` if not given.

    Attributes
    ----------
    seconds : float
        Time that the device has spent between the beginnings and the ends of passes.
    threads : ThreadPoolExecutor
        Where passes may run, as many at a time as may be under way.
    """

    def __init__(self, device: str, api: Any = None) -> None:
        import torch

        self.device, self._api = device, api or torch.cuda
        self._in, self._compute, self._out = (
            self._api.Stream(device) for _ in ("in", "compute", "out")
        )
        self._launching = threading.Lock()
        self.seconds = 0.0
        self.threads = ThreadPoolExecutor(UNDER_WAY, "xatmo-" + device)

    def run(
        self,
        network: Callable[[Tensor, dict[str, Any]], Tensor],
        batch: np.ndarray,
        kwargs: Mapping[str, Any],
    ) -> tuple[np.ndarray, float]:
        """Copy a batch in, compute, and copy the result out.

        Parameters
        ----------
        network : callable
            Called with the batch and further arguments on the device, in the stream
            that computes; gives float32.
        batch : ndarray of float32, shape (B, ...)
        kwargs : mapping
            Arrays among them are copied too.

        Returns
        -------
        result : ndarray of float32
            In page-locked memory.
        seconds : float
            That the device took from the first to the last step of the network.
        """
        import torch

        with torch.inference_mode():  # of this thread
            return self._run(network, batch, kwargs)

    def _run(
        self,
        network: Callable[[Tensor, dict[str, Any]], Tensor],
        batch: np.ndarray,
        kwargs: Mapping[str, Any],
    ) -> tuple[np.ndarray, float]:
        x, *rest = self._copied_in([batch, *_arrays(kwargs).values()])
        given = {**kwargs, **dict(zip(_arrays(kwargs), rest, strict=True))}
        arrived = self._marked(self._in)
        # One network is launched at a time, so that what it needs beside the batch is
        # in memory once: the next one's memory is what this one's has been, which is
        # safe since all of them run in the one stream, one after the other.
        with self._launching, self._api.stream(self._compute):
            # Not before the batch is there: streams do not wait for each other.
            self._compute.wait_event(arrived)
            for tensor in (x, *rest):
                # Their memory is the copying stream's, which would use it for the next
                # batch as soon as Python lets go of them; if the network fails halfway,
                # for one, while it is still being read. Now it waits for this stream.
                self._kept_for(tensor, self._compute)
            began = self._marked(self._compute, timed=True)
            result = self._called(network, x, given)
            ended = self._marked(self._compute, timed=True)
        with self._api.stream(self._out):
            # Not before the network is through.
            self._out.wait_event(ended)
            found = self._page_locked(result)
            self._copy(found, result)
            # As above: the next pass must not write over it while it is copied.
            self._kept_for(result, self._out)
        # The only place where the processor waits, in this thread alone. All that came
        # before is done then: the page-locked batch may go as well.
        self._marked(self._out).synchronize()
        seconds = began.elapsed_time(ended) / 1e3
        self._count(seconds)
        return found.numpy(), seconds

    def settle(self) -> None:
        """Wait for all that was done outside the lane, such as copying weights.

        That happens in the stream of whoever does it, for which these do not wait.
        """
        self._api.synchronize(self.device)

    @cached_property
    def name(self) -> str:
        """What kind of GPU it is, and how much memory it has."""
        import torch

        about = torch.cuda.get_device_properties(self.device)
        return f"{about.name}, {about.total_memory / 2**30:.0f} GiB"

    def memory(self) -> tuple[int, int]:
        """Return bytes that passes have taken at most, and those that are free.

        The first since this was asked last.
        """
        import torch

        held = torch.cuda.memory_allocated(self.device)
        taken = torch.cuda.max_memory_allocated(self.device) - held
        torch.cuda.reset_peak_memory_stats(self.device)
        # What torch keeps for later is free for it as well.
        kept = torch.cuda.memory_reserved(self.device) - held
        return taken, torch.cuda.mem_get_info(self.device)[0] + kept

    def _copied_in(self, arrays: list[np.ndarray]) -> list[Tensor]:
        """Begin to copy arrays to the device.

        From page-locked memory, or else the processor would have to wait. It is
        torch's, which keeps it for the next batch, but hands it out no sooner than the
        copy that reads it is done.
        """
        import torch

        found = []
        with self._api.stream(self._in):
            for array in arrays:
                plain = torch.from_numpy(np.ascontiguousarray(array))
                locked = self._page_locked(plain)
                locked.copy_(plain)
                there = torch.empty_like(locked, device=self._place)
                self._copy(there, locked)
                found.append(there)
        return found

    def _marked(self, stream: Any, *, timed: bool = False) -> Any:
        """Return an event at the end of what a stream has to do until now.

        Waiting for it lets the processor's core sleep.
        """
        event = self._api.Event(enable_timing=timed, blocking=True)
        event.record(stream)
        return event

    def _count(self, seconds: float) -> None:
        with self._launching:
            self.seconds += seconds

    # What a test without a GPU does otherwise.

    @property
    def _place(self) -> str:
        return self.device

    def _page_locked(self, like: Tensor) -> Tensor:
        import torch

        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def _copy(self, to: Tensor, source: Tensor) -> None:
        to.copy_(source, non_blocking=True)

    def _kept_for(self, tensor: Tensor, stream: Any) -> None:
        tensor.record_stream(stream)

    def _called(self, network: Callable[..., Tensor], x: Tensor, kwargs: Any) -> Tensor:
        return network(x, kwargs)


def _arrays(kwargs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {n: value for n, value in kwargs.items() if isinstance(value, np.ndarray)}


@lru_cache
def lane_of(device: str) -> Lane:
    """Return the lane of a device, the same for all of this process."""
    return Lane(device)
