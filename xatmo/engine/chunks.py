"""Chunks joined and cut again, without a graph that grows with their number.

Dask's ``rechunk`` writes down every task when it is called: some kilobytes for each
chunk, and seconds for a hundred thousand of them. Joining neighbours and cutting them
again follows a rule; so the tasks are made from it when they are asked for.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["cut_again", "joined_chunks"]

Cuts = tuple[tuple[int, ...], ...]
_ALL = slice(None)


def joined_chunks(
    field: xr.DataArray, plan: dict[str, tuple[int, ...]]
) -> xr.DataArray:
    """Join neighbouring chunks of a lazy array.

    Parameters
    ----------
    field : DataArray
    plan : dict of str to tuple of int
        New chunks along some dimensions; each consists of whole old ones.

    Returns
    -------
    DataArray
    """
    return _rechunked(field, plan, _Join)


def cut_again(field: xr.DataArray, plan: dict[str, tuple[int, ...]]) -> xr.DataArray:
    """Undo :func:`joined_chunks`: each old chunk consists of whole new ones."""
    return _rechunked(field, plan, _Cut)


def _rechunked(
    field: xr.DataArray,
    plan: dict[str, tuple[int, ...]],
    how: type[_Rule],
) -> xr.DataArray:
    import dask.array as da
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    old: Cuts = field.data.chunks
    new = tuple(plan.get(str(d), c) for d, c in zip(field.dims, old, strict=True))
    if new == old:
        return field
    source = field.data
    name = f"xatmo-{how.__name__.strip('_').lower()}-{tokenize(source.name, new)}"
    layer = _layer()(name, tuple(map(len, new)), how(source.name, old, new))
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[source])
    return field.copy(data=da.Array(graph, name, new, meta=source._meta))


class _Rule:
    """How each new chunk is made of old ones, by its number: made again if unpickled.

    ``old`` and ``new`` are the chunks along each dimension of the array that is named
    ``source`` and of the result.
    """

    def __init__(self, source: str, old: Cuts, new: Cuts) -> None:
        self.source, self.old, self.new = source, old, new

    def __reduce__(self) -> Any:
        return type(self), (self.source, self.old, self.new)

    def of(self, source: str) -> _Rule:
        """The same for an array of another name."""
        return type(self)(source, self.old, self.new)

    def __call__(self, index: tuple[int, ...]) -> tuple[Any, Any, tuple[Any, ...]]:
        """Return a key or several, what is to be done with them, further arguments."""
        raise NotImplementedError


class _Join(_Rule):
    """Several old chunks make a new one."""

    def __init__(self, source: str, old: Cuts, new: Cuts) -> None:
        super().__init__(source, old, new)
        self.first = [_firsts(o, n) for o, n in zip(old, new, strict=True)]

    def __call__(self, index: tuple[int, ...]) -> tuple[Any, Any, tuple[Any, ...]]:
        pairs = zip(self.first, index, strict=True)
        spans = [range(first[i], first[i + 1]) for first, i in pairs]
        keys = [(self.source, *at) for at in product(*spans)]
        if len(keys) == 1:
            return keys[0], None, ()
        return keys, partial(join_parts, tuple(map(len, spans))), ()


class _Cut(_Rule):
    """A new chunk is a part of an old one."""

    def __init__(self, source: str, old: Cuts, new: Cuts) -> None:
        super().__init__(source, old, new)
        self.places = [_places(o, n) for o, n in zip(old, new, strict=True)]

    def __call__(self, index: tuple[int, ...]) -> tuple[Any, Any, tuple[Any, ...]]:
        pairs = zip(self.places, index, strict=True)
        chunks, parts = zip(*(places[i] for places, i in pairs), strict=True)
        key = (self.source, *chunks)
        if all(part == _ALL for part in parts):
            return key, None, ()
        return key, operator.getitem, (parts,)


def _firsts(old: tuple[int, ...], new: tuple[int, ...]) -> list[int]:
    """Which old chunk comes first in each new one; and how many there are."""
    return np.searchsorted(np.cumsum([0, *old]), np.cumsum([0, *new])).tolist()


def _places(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[int, slice]]:
    """In which old chunk each new one is, and where in it."""
    ends = np.cumsum([0, *old])
    stops = np.cumsum(new)
    chunk = np.searchsorted(ends, stops, "left") - 1
    stop = (stops - ends[chunk]).tolist()
    return [
        (i, _ALL if size == old[i] else slice(end - size, end))
        for i, size, end in zip(chunk.tolist(), new, stop, strict=True)
    ]


def join_parts(counts: tuple[int, ...], parts: Sequence[np.ndarray]) -> np.ndarray:
    """Put parts together that lie in rows, the last dimension's neighbours first."""
    joined = list(parts)
    for axis in reversed(range(len(counts))):
        n = counts[axis]
        if n > 1:
            rows = [joined[i : i + n] for i in range(0, len(joined), n)]
            joined = [np.concatenate(row, axis) for row in rows]
    return joined[0]


@lru_cache(maxsize=1)
def _layer() -> type:
    """The class of such layers; only who has lazy data needs Dask."""
    from dask.highlevelgraph import Layer

    class Ruled(Layer):
        """A layer whose tasks are made by a rule, each when it is asked for."""

        def __init__(
            self,
            name: str,
            shape: tuple[int, ...],
            rule: _Rule,
            annotations: Any = None,
        ) -> None:
            super().__init__(annotations)
            self.name, self.shape, self.rule = name, shape, rule

        def __getitem__(self, key: Any) -> Any:
            if key not in self:
                raise KeyError(key)
            return _task(key, *self.rule(key[1:]))

        def __contains__(self, key: Any) -> bool:
            if not isinstance(key, tuple) or len(key) != len(self.shape) + 1:
                return False
            inside = zip(key[1:], self.shape, strict=True)
            return key[0] == self.name and all(0 <= i < n for i, n in inside)

        def __iter__(self) -> Iterator[Any]:
            return ((self.name, *i) for i in product(*map(range, self.shape)))

        def __len__(self) -> int:
            return math.prod(self.shape)

        @property
        def has_legacy_tasks(self) -> bool:
            # Asked before everything else: answered without making all tasks.
            return bool(len(self)) and type(self[next(iter(self))]) in (tuple, list)

        def is_materialized(self) -> bool:
            return False

        def get_output_keys(self) -> set[Any]:
            return set(self)

        def clone(
            self, keys: Any, seed: Any, bind_to: Any = None
        ) -> tuple[Layer, bool]:
            from dask.base import clone_key
            from dask.graph_manipulation import chunks
            from dask.highlevelgraph import MaterializedLayer

            name, rule = clone_key(self.name, seed), self.rule
            if (rule.source, *(0 for _ in self.shape)) in keys:
                again = rule.of(clone_key(rule.source, seed))
                return Ruled(name, self.shape, again), False
            if bind_to is None:
                return Ruled(name, self.shape, rule), False
            tasks = {
                (name, *key[1:]): (chunks.bind, _tuple(*rule(key[1:])), bind_to)
                for key in self
            }
            return MaterializedLayer(tasks), True

        def __reduce__(self) -> Any:
            return _again, (self.name, self.shape, self.rule, self.annotations)

    return Ruled


def _task(key: Any, source: Any, function: Any, arguments: tuple[Any, ...]) -> Any:
    """One task in the form that this version of Dask wants; without function, none."""
    try:
        from dask._task_spec import Alias, List, Task, TaskRef
    except ImportError:  # before 2024.12
        return _tuple(source, function, arguments)
    if function is None:
        return Alias(key, source)
    if isinstance(source, list):
        return Task(key, function, List(*map(TaskRef, source)), *arguments)
    return Task(key, function, TaskRef(source), *arguments)


def _tuple(source: Any, function: Any, arguments: tuple[Any, ...]) -> Any:
    """The same as a tuple, which all versions read."""
    return source if function is None else (function, source, *arguments)


def _again(*arguments: Any) -> Any:
    """Unpickle a layer: its class cannot be found by name."""
    return _layer()(*arguments)
