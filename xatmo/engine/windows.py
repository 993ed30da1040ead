"""Windows of times of a series, and a function of each, chunk by chunk.

A task gets the chunks that its windows touch, as they are: neighbours in time are not
joined, and a time that many windows share is not repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from xatmo.engine.chunks import rechunked
from xatmo.engine.rules import Cuts, Key, Rule, lazy_array

__all__ = ["Windows", "cut_again", "over_windows"]

# A task's result is no larger, unless a single window's is: workers have a few GB.
TASK_BYTES = 2**28


class Run(Protocol):
    """What is done with windows: results (N, *shape), float32."""

    def __call__(
        self, windows: Windows, when: np.ndarray, out: np.ndarray, /
    ) -> None: ...  # pragma: no cover


class Windows(Sequence[np.ndarray]):
    """Windows (C, T, ny, nx) of a series, made when they are asked for.

    Parameters
    ----------
    parts : sequence of ndarray, shapes (times, *batch, C, ny, nx)
        Pieces of the series, one after the other.
    index : ndarray of int, shape (N, T)
        Which times, counted over the pieces; -1 for one that is not there.
    """

    def __init__(self, parts: Sequence[np.ndarray], index: np.ndarray) -> None:
        self._frames: list[Any] = [frame for part in parts for frame in part]
        self.times, self.batch = index, parts[0].shape[1:-3]
        self.core = parts[0].shape[-3:]

    def __len__(self) -> int:
        return len(self.times) * int(np.prod(self.batch, dtype=int))

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        window, *inner = np.unravel_index(number, (len(self.times), *self.batch))
        channels, *plane = self.core
        times = self.times[window]
        out = np.full((channels, len(times), *plane), np.nan, np.float32)
        for frame, time in enumerate(times):
            if time >= 0:
                out[:, frame] = self._frames[time][tuple(inner)]
        return out


def over_windows(
    values: Any,
    index: np.ndarray,
    when: np.ndarray,
    run: Run,
    shape: tuple[int, ...],
    chunks: tuple[int, ...] | None = None,
) -> Any:
    """Run a function over windows of a series, lazily if that is lazy.

    Parameters
    ----------
    values : ndarray or dask array, shape (time, *batch, C, ny, nx)
    index : ndarray of int, shape (N, T)
        Which times are in each window; -1 for one that is not there.
    when : ndarray, shape (N, K, 3)
        Handed to ``run`` as it is, once for each window and position of ``batch``.
    run : callable
        ``run(windows, when, out)`` fills ``out``, float32, of ``shape`` for each
        window. What it needs it can be asked for by Dask's ``tokenize``.
    shape : tuple of int
    chunks : tuple of int, optional
        How many windows a task has; the chunks of ``values`` if not given, as far as
        they go.

    Returns
    -------
    ndarray or dask array, shape (N, *batch, *shape)
    """
    if not hasattr(values, "dask"):
        return _block([values], index, when, run, shape)
    from dask.base import tokenize

    whole = tuple((n,) for n in values.shape[-3:])
    values = rechunked(values, (*values.chunks[:-3], *whole))
    chunks = cut_again(values.chunks[0] if chunks is None else chunks, len(index))
    inner = values.chunks[1:-3]
    largest = np.prod([max(c) for c in inner], dtype=int) * np.prod(shape) * 4
    chunks = _not_larger(chunks, max(1, TASK_BYTES // int(largest)))
    name = f"xatmo-windows-{tokenize(values.name, index, when, run, shape, chunks)}"
    job = f"{name}-run"
    rule = _Each((values.name, job), values.chunks, chunks, index, when, shape)
    cut = (chunks, *inner, *((n,) for n in shape))
    meta = np.empty((0,) * len(cut), np.float32)
    return lazy_array(name, cut, rule, [values], meta, {job: run})


class _Each(Rule):
    """Which pieces of a series a task needs, and which of their times its windows have.

    ``names`` are those of the series, in chunks ``old``, and of what is done with the
    windows, of which each task has as many as ``chunks`` say.
    """

    def __init__(
        self,
        names: tuple[str, str],
        old: Cuts,
        chunks: tuple[int, ...],
        index: np.ndarray,
        when: np.ndarray,
        shape: tuple[int, ...],
    ) -> None:
        self.names, self.old, self.chunks = names, old, chunks
        self.index, self.when, self.shape = index, when, shape
        self.starts, self.ends = np.cumsum([0, *old[0]]), np.cumsum([0, *chunks])

    def __reduce__(self) -> Any:
        mine = (self.old, self.chunks, self.index, self.when, self.shape)
        return type(self), (self.names, *mine)

    @property
    def firsts(self) -> tuple[Key, ...]:
        series, job = self.names
        return (series, *(0 for _ in self.old)), (job,)

    def renamed(self, names: Mapping[str, str]) -> Rule:
        series, job = (names.get(name, name) for name in self.names)
        return type(self)((series, job), *self.__reduce__()[1][1:])

    def __call__(self, index: tuple[int, ...]) -> tuple[Any, Any, tuple[Any, ...]]:
        series, job = self.names
        at = index[1 : len(self.old) - 3]
        span = slice(*self.ends[index[0] : index[0] + 2])
        pieces, local = _touched(self.index[span], self.starts)
        parts = [(series, piece, *at, 0, 0, 0) for piece in pieces]
        return [(job,), *parts], _task, (local, self.when[span], self.shape)


def cut_again(chunks: Iterable[int], count: int) -> tuple[int, ...]:
    """Cut fewer elements as before: the last chunks are shorter, or gone.

    So all but the last stay of one size if they were, as Zarr stores want them.

    Examples
    --------
    >>> from xatmo.engine.windows import cut_again
    >>> cut_again((4, 4, 4), 10)
    (4, 4, 2)
    """
    ends = np.minimum(np.cumsum([*chunks]), count)
    return tuple(n for n in np.diff(ends, prepend=0).tolist() if n)


def _not_larger(chunks: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Divide chunks that are too large, equally if that can be."""
    cut: list[int] = []
    for size in chunks:
        piece = next(n for n in range(min(most, size), 0, -1) if size % n == 0)
        # A size of few divisors: pieces as large as may be, and a rest.
        piece = piece if 2 * piece > min(most, size) else min(most, size)
        cut += [*[piece] * (size // piece), *([size % piece] if size % piece else [])]
    return tuple(cut)


def _touched(index: np.ndarray, starts: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Which pieces some windows touch, and their times counted over these."""
    there = index >= 0
    piece = np.searchsorted(starts, np.where(there, index, 0), "right") - 1
    pieces = np.unique(piece[there]) if there.any() else np.zeros(1, int)
    sizes = np.diff(starts)[pieces]
    offset = np.zeros(len(starts), int)
    offset[pieces] = np.cumsum(sizes) - sizes - starts[pieces]
    return pieces.tolist(), np.where(there, index + offset[piece], -1)


def _task(
    inputs: Sequence[Any], index: np.ndarray, when: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    run, *parts = inputs
    return _block(parts, index, when, run, shape)


def _block(
    parts: Sequence[np.ndarray],
    index: np.ndarray,
    when: np.ndarray,
    run: Run,
    shape: tuple[int, ...],
) -> np.ndarray:
    """(N, *batch, *shape) of the windows of one task."""
    windows = Windows(parts, index)
    out = np.empty((len(windows), *shape), np.float32)
    each = int(np.prod(windows.batch, dtype=int))
    if len(windows):
        run(windows, np.repeat(when, each, 0), out)
    return out.reshape(len(index), *windows.batch, *shape)
