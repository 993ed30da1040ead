"""Regions of a lazy result: the tasks of each, cut out of one graph.

The graph is written down once. A region's tasks are found by walking back from what it
writes, which takes as long as it has tasks, however many regions there are.

Where many regions need the same task (the mean over all times, the states that every
other one is compared with) it runs once, and its result is kept for the others.
"""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import Future
from itertools import product
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
from dask.core import get_dependencies
from dask.optimization import cull

from xatmo.jobs.store import Store

__all__ = ["Pieces"]

# Regions that need a task before its result is kept: neighbours that look at each
# other's times share what they read, and that costs less to read again than to keep.
_SHARED = 4
_IN_MEMORY = 2**20  # bytes of an array that is kept as it is; larger ones go to disk


class Pieces:
    """What has to be computed for each region of a result.

    Parameters
    ----------
    result : Dataset
    store : Store
        To write to; large results that several regions need are kept beside its
        journal.
    """

    def __init__(self, result: xr.Dataset, store: Store) -> None:
        self._store, self._layout = store, store.layout
        # No two tasks write one file: what is computed is cut as the store is.
        self._arrays = {
            name: result[name].data.rechunk(self._layout.file_of(var.dims))
            for name, var in store.variables.items()
        }
        self._graph: dict[Hashable, Any] = {}
        for array in self._arrays.values():
            self._graph.update(array.__dask_graph__())
        self._kept = _Kept(store.ours / "kept")
        self._last_use = self._find_shared()

    def compute(self, region: int) -> None:
        """Compute a region and write it, wherever Dask computes.

        Raises
        ------
        Exception
            Whatever goes wrong on the way.
        """
        import dask.array as da

        sources, targets, places = [], [], []
        for name, array in self._arrays.items():
            keys, chunks, place = self._blocks(name, region)
            if not keys:
                continue
            graph = self._cut(keys.values())
            label = f"{array.name}-region-{region}"
            graph |= {(label, *number): key for number, key in keys.items()}
            sources.append(da.Array(graph, label, chunks, array.dtype))
            targets.append(self._store.arrays[name])
            places.append(place)
        stored = da.store(sources, targets, regions=places, lock=False, compute=False)
        dask.compute(stored)

    def release(self, region: int) -> None:
        """Forget results that only regions before this one need."""
        while self._last_use and self._last_use[-1][0] < region:
            self._kept.forget(self._last_use.pop()[1])

    def close(self) -> None:
        """Forget all results that were kept."""
        self._kept.clear()

    def _blocks(
        self, name: str, region: int
    ) -> tuple[dict[tuple[int, ...], Hashable], Any, tuple[slice, ...]]:
        """Keys of a region's blocks by their number in it, their sizes, their place."""
        array, dims = self._arrays[name], self._store.variables[name].dims
        dim, cuts, place = self._layout.dim, [], []
        if dim not in dims and region > 0:
            return {}, (), ()
        first = [region if d == dim else 0 for d in dims]
        for own, size, sizes in zip(dims, array.shape, array.chunks, strict=True):
            along = own == dim
            cuts.append(sizes[region : region + 1] if along else sizes)
            place.append(self._layout.span(region) if along else slice(0, size))
        keys: dict[tuple[int, ...], Hashable] = {
            number: (array.name, *(i + f for i, f in zip(number, first, strict=True)))
            for number in product(*(range(len(c)) for c in cuts))
        }
        return keys, tuple(cuts), tuple(place)

    def _cut(self, keys: Iterable[Hashable]) -> dict[Hashable, Any]:
        """The tasks behind some keys; those whose results are kept run now, if new."""
        graph: dict[Hashable, Any] = {}
        work = list(keys)
        while work:
            key = work.pop()
            if key in graph:
                continue
            if key in self._shared:
                graph[key] = (_value_of, self._kept.get(key, self._run))
                continue
            graph[key] = self._graph[key]
            work.extend(get_dependencies(self._graph, key))
        return graph

    def _run(self, key: Hashable) -> Any:
        """Compute one task alone."""
        graph: dict[Hashable, Any] = {}
        for other in get_dependencies(self._graph, key):
            graph |= self._cut([other])
        graph[key] = self._graph[key]
        return _computed(graph, key)

    def _find_shared(self) -> list[tuple[int, Hashable]]:
        """Find the tasks whose results are kept, with the last region that needs them.

        In descending order of these regions.
        """
        graph, first, last = self._graph, dict(self._ends()), dict(self._ends())
        _, behind = cull(graph, list(first))
        asked = Counter(k for keys in behind.values() for k in set(keys))
        ready = [k for k in behind if not asked[k]]
        while ready:
            key = ready.pop()
            for other in set(behind[key]):
                first[other] = min(first.get(other, first[key]), first[key])
                last[other] = max(last.get(other, last[key]), last[key])
                asked[other] -= 1
                if not asked[other]:
                    ready.append(other)
        everywhere = max(1, self._layout.count - 1)
        far = min(_SHARED - 1, everywhere)
        wide = {k for k in first if last[k] - first[k] >= far}
        edge = {d for k in behind if k not in wide for d in behind[k] if d in wide}
        self._shared = {k for k in edge if behind[k] and _is_task(graph[k])}
        return sorted(((last[k], k) for k in self._shared), key=_first, reverse=True)

    def _ends(self) -> Iterator[tuple[Hashable, int]]:
        """All blocks of the result, and the region of each."""
        for region in range(self._layout.count):
            for name in self._arrays:
                for key in self._blocks(name, region)[0].values():
                    yield key, region


def _first(pair: tuple[int, Hashable]) -> int:
    return pair[0]


def _is_task(value: Any) -> bool:
    """Whether it is something to compute, and no other name of something else."""
    return type(value).__name__ not in {"Alias", "DataNode"}


def _computed(graph: dict[Hashable, Any], key: Hashable) -> Any:
    from dask.delayed import Delayed

    return Delayed(key, graph).compute()


class _File:
    """An array that lies in a file, read where it is needed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> np.ndarray:
        return np.asarray(np.load(self.path, mmap_mode="r", allow_pickle=False))


class _Value:
    """Anything else, so wrapped that Dask does not look for tasks in it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def read(self) -> Any:
        return self.value


def _value_of(kept: _File | _Value) -> Any:
    return kept.read()


class _Kept:
    """Results by their keys; each is computed once, whoever asks for it first."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0
        self._lock = threading.Lock()
        self._found: dict[Hashable, Future[_File | _Value]] = {}

    def get(self, key: Hashable, compute: Any) -> _File | _Value:
        """Return a result; an error is kept as well, and raised again."""
        with self._lock:
            mine = key not in self._found
            future = self._found.setdefault(key, Future())
        if mine:
            try:
                future.set_result(self._wrapped(compute(key)))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def _wrapped(self, value: Any) -> _File | _Value:
        plain = type(value) is np.ndarray and not value.dtype.hasobject
        if not plain or value.nbytes < _IN_MEMORY:
            return _Value(value)
        with self._lock:
            self._number += 1
            path = self._folder / f"{self._number}.npy"
        self._folder.mkdir(exist_ok=True)
        np.save(path, value, allow_pickle=False)
        return _File(path)

    def forget(self, key: Hashable) -> None:
        with self._lock:
            future = self._found.pop(key, None)
        if future and future.done() and not future.exception():
            kept = future.result()
            if isinstance(kept, _File):
                # A region that still reads it has it open.
                kept.path.unlink(missing_ok=True)

    def clear(self) -> None:
        with self._lock:
            self._found.clear()
        shutil.rmtree(self._folder, ignore_errors=True)
