"""Ctrl-C and SIGTERM: the regions at work end, no other begins."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Stop", "Stopped", "stoppable"]


class Stopped(KeyboardInterrupt):
    """A job was stopped by a signal; what is done is kept.

    Parameters
    ----------
    message : str
        How to go on.
    number : int
        Of the signal.
    at_once : bool
        Whether it came twice: regions were still at work.
    """

    def __init__(self, message: str, number: int, *, at_once: bool = False) -> None:
        super().__init__(message)
        self.number, self.at_once = number, at_once


class Stop:
    """Whether a signal has come, which, and whether it came twice."""

    number: int | None = None
    twice = False

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Take a signal; the second one does not wait any more."""
        if self.number is not None:
            self.twice = True
            msg = "stopped at once"
            raise Stopped(msg, number, at_once=True)
        self.number = number


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Take signals inside the block, where that is possible: in the main thread."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
