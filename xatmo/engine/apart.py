"""Chunks that are to be left apart, for whoever computes them one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["are_apart", "unjoined"]

_apart = ContextVar("apart", default=False)


@contextmanager
def unjoined() -> Iterator[None]:
    """Join no chunks of what verbs build inside the block.

    Joined chunks share a task: where each one is computed by itself the task would run
    for each of them, and a chunk that cannot be read would take its neighbours with it.

    Examples
    --------
    >>> import xatmo
    >>> ds = xatmo.open_sample(chunks={"time": 2})
    >>> with unjoined():
    ...     z = ds.atmo.embed()
    >>> z.chunksizes["time"][:3]
    (2, 2, 2)
    """
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


def are_apart() -> bool:
    """Whether chunks are to be left as they are."""
    return _apart.get()
