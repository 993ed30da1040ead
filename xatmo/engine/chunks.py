"""Chunks joined and cut again, without a graph that grows with their number."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from xatmo.engine.rules import Cuts, Key, Rule, lazy_array

__all__ = ["cut_again", "joined_chunks", "rechunked"]

_ALL = slice(None)


def joined_chunks(
    field: xr.DataArray, plan: Mapping[str, tuple[int, ...]]
) -> xr.DataArray:
    """Join neighbouring chunks of a lazy array.

    Parameters
    ----------
    field : DataArray
    plan : mapping of str to tuple of int
        New chunks along some dimensions; each consists of whole old ones.

    Returns
    -------
    DataArray
    """
    return _with(field, _rechunked(field.data, _planned(field, plan), _Join))


def cut_again(field: xr.DataArray, plan: Mapping[str, tuple[int, ...]]) -> xr.DataArray:
    """Undo :func:`joined_chunks`: each old chunk consists of whole new ones."""
    return _with(field, _rechunked(field.data, _planned(field, plan), _Cut))


def rechunked(array: Any, new: Cuts) -> Any:
    """Cut a Dask array differently: by Dask where that is neither joining nor cutting.

    Parameters
    ----------
    array : dask array
    new : tuple of tuple of int
        Its chunks to be, along each dimension.

    Returns
    -------
    dask array
    """
    old: Cuts = array.chunks
    if _nested(old, new):
        return _rechunked(array, new, _Join)
    if _nested(new, old):
        return _rechunked(array, new, _Cut)
    return array.rechunk(new)


def _nested(fine: Cuts, coarse: Cuts) -> bool:
    """Whether each coarse chunk consists of whole fine ones."""
    ends = zip(map(np.cumsum, coarse), map(np.cumsum, fine), strict=True)
    return all(np.isin(outer, inner).all() for outer, inner in ends)


def _planned(field: xr.DataArray, plan: Mapping[str, tuple[int, ...]]) -> Cuts:
    old: Cuts = field.data.chunks
    return tuple(plan.get(str(d), c) for d, c in zip(field.dims, old, strict=True))


def _with(field: xr.DataArray, data: Any) -> xr.DataArray:
    return field if data is field.data else field.copy(data=data)


def _rechunked(source: Any, new: Cuts, how: type[_Rechunk]) -> Any:
    from dask.base import tokenize

    if new == source.chunks:
        return source
    name = f"xatmo-{how.__name__.strip('_').lower()}-{tokenize(source.name, new)}"
    rule = how(source.name, source.chunks, new)
    return lazy_array(name, new, rule, [source], source._meta)


class _Rechunk(Rule):
    """How each new chunk is made of old ones: found when the first is asked for.

    ``old`` and ``new`` are the chunks along each dimension of the array that is named
    ``source`` and of the result.
    """

    def __init__(self, source: str, old: Cuts, new: Cuts) -> None:
        self.source, self.old, self.new = source, old, new

    def __reduce__(self) -> Any:
        return type(self), (self.source, self.old, self.new)

    @property
    def firsts(self) -> tuple[Key, ...]:
        return ((self.source, *(0 for _ in self.old)),)

    def renamed(self, names: Mapping[str, str]) -> Rule:
        return type(self)(names[self.source], self.old, self.new)


class _Join(_Rechunk):
    """Several old chunks make a new one."""

    @cached_property
    def _first(self) -> list[list[int]]:
        return [_firsts(o, n) for o, n in zip(self.old, self.new, strict=True)]

    def __call__(self, index: tuple[int, ...]) -> tuple[Any, Any, tuple[Any, ...]]:
        pairs = zip(self._first, index, strict=True)
        spans = [range(first[i], first[i + 1]) for first, i in pairs]
        keys = [(self.source, *at) for at in product(*spans)]
        if len(keys) == 1:
            return keys[0], None, ()
        return keys, partial(join_parts, tuple(map(len, spans))), ()


class _Cut(_Rechunk):
    """A new chunk is a part of an old one."""

    @cached_property
    def _places(self) -> list[list[tuple[int, slice]]]:
        return [_places(o, n) for o, n in zip(self.old, self.new, strict=True)]

    def __call__(self, index: tuple[int, ...]) -> tuple[Any, Any, tuple[Any, ...]]:
        pairs = zip(self._places, index, strict=True)
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
