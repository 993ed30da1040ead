"""Layers of Dask graphs whose tasks are made by a rule, each when it is asked for.

Dask writes down every task of a ``rechunk`` or a selection when it is called: some
kilobytes for each chunk, and seconds for a hundred thousand of them. What follows a
rule need not be written down before it is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

__all__ = ["Rule", "lazy_array"]

Key = tuple[Any, ...]
Cuts = tuple[tuple[int, ...], ...]


class Rule:
    """How each chunk of an array is made of those of others.

    It is pickled with the graph: what can be found again, ``__reduce__`` leaves out.
    """

    def __call__(self, index: tuple[int, ...]) -> tuple[Any, Any, tuple[Any, ...]]:
        """Return a key or several, what is to be done with them, further arguments.

        Without a function the chunk is that of the key.
        """
        raise NotImplementedError

    @property
    def firsts(self) -> tuple[Key, ...]:
        """The first key of each array that it takes chunks of."""
        raise NotImplementedError

    def renamed(self, names: Mapping[str, str]) -> Rule:
        """The same for arrays of other names."""
        raise NotImplementedError


def lazy_array(
    name: str,
    chunks: Cuts,
    rule: Rule,
    sources: Sequence[Any],
    meta: np.ndarray,
    constants: Mapping[str, Any] | None = None,
) -> Any:
    """Return an array of Dask whose chunks are made by a rule.

    Parameters
    ----------
    name : str
        Of its keys: another one for other values.
    chunks : tuple of tuple of int
    rule : Rule
    sources : sequence of dask arrays
        What the rule takes chunks of.
    meta : ndarray
        An empty one of the type of the result.
    constants : dict of str to object, optional
        What many tasks need: under the key ``(name,)`` it is in the graph once.
    """
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

    layer = _layer()(name, tuple(map(len, chunks)), rule)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=sources)
    layers, needs = dict(graph.layers), dict(graph.dependencies)
    for constant, value in (constants or {}).items():
        layers[constant] = MaterializedLayer({(constant,): value})
        needs[constant] = set()
        needs[name] = {*needs[name], constant}
    return da.Array(HighLevelGraph(layers, needs), name, chunks, meta=meta)


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
            rule: Rule,
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
            cloned = [key[0] for key in rule.firsts if key in keys]
            if cloned:
                again = rule.renamed({old: clone_key(old, seed) for old in cloned})
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
