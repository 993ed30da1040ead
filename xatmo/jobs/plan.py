"""What a job is asked to do, and how its result is cut into regions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import OptionError

__all__ = ["Job", "Layout", "layout_of", "parse_sizes"]

_STEP = 64  # times in a chunk, if nobody says otherwise and they are not too large
_CHUNK_BYTES = 2**27  # of a chunk that nobody has chosen: codecs end at 2 GiB
_MEMBERS = ("realization", "member", "lead_time")
_SIZES = re.compile(r"\s*([^\s=,]+)\s*=\s*(-1|\d+)\s*$")


@dataclass(frozen=True)
class Job:
    """What was asked for: all that the numbers depend on, but for the input itself.

    Parameters
    ----------
    verb : str
        Such as ``"embed"``.
    source, target : str
        File or store that is read, and the one that is written.
    options : mapping
        Arguments of the verb, as they are called in Python.
    chunks, shards : mapping of str to int
        Of the store, along the dimensions that were named.
    start, end : str, optional
        First and last time that is read.
    missing, precision : str
        As in :class:`xatmo.Options`.
    """

    verb: str
    source: str
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)
    chunks: Mapping[str, int] = field(default_factory=dict)
    shards: Mapping[str, int] = field(default_factory=dict)
    start: str | None = None
    end: str | None = None
    missing: str = "raise"
    precision: str = "float32"

    def said(self) -> dict[str, Any]:
        """Return what has to be the same when a job goes on, as JSON can hold it.

        The names of the files are not part of it: a folder may be moved as a whole, and
        what is in the input is compared by its fingerprint.
        """
        table = asdict(self)
        del table["source"], table["target"]
        return {name: _plain(value) for name, value in sorted(table.items())}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (bool, str, int, float)) or value is None:
        return value
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def parse_sizes(text: str | None, option: str) -> dict[str, int]:
    """Read ``"time=64,member=1"``; -1 is the whole dimension.

    Raises
    ------
    xatmo.errors.OptionError
        If it is something else.

    Examples
    --------
    >>> parse_sizes("time=64, lead_time=1", "--chunks")
    {'time': 64, 'lead_time': 1}
    """
    sizes: dict[str, int] = {}
    for part in (text or "").split(",") if text else []:
        match = _SIZES.match(part)
        if match is None or int(match[2]) == 0 or match[1] in sizes:
            msg = f"{option} cannot be read."
            raise OptionError(
                msg,
                found=repr(text),
                needed="DIM=SIZE of one or several dimensions, each one once, sizes "
                "from 1, or -1 for all of it",
                hint=f"{option} time=64, or {option} time=64,lead_time=1",
            )
        sizes[match[1]] = int(match[2])
    return sizes


@dataclass(frozen=True)
class Layout:
    """How a result is stored: chunks, shards, and regions along one dimension.

    Parameters
    ----------
    dim : str
        Dimension along which regions follow each other: time, where there is one.
    size : int
        Its length.
    step : int
        Positions of a region: those of a chunk, or of a shard where there are some, so
        that no two regions ever write the same file.
    chunks, shards : mapping of str to int
        Along all dimensions of the result; no shards if empty.
    """

    dim: str
    size: int
    step: int
    chunks: Mapping[str, int]
    shards: Mapping[str, int]

    @property
    def count(self) -> int:
        """Number of regions."""
        return max(1, -(-self.size // self.step))

    def span(self, region: int) -> slice:
        """Positions of a region along ``dim``."""
        return slice(region * self.step, min((region + 1) * self.step, self.size))

    def chunk_of(self, dims: Sequence[Any]) -> tuple[int, ...]:
        """Shape of a chunk of a variable with these dimensions."""
        return tuple(self.chunks[str(d)] for d in dims)

    def file_of(self, dims: Sequence[Any]) -> tuple[int, ...]:
        """Shape of what is one file: a shard, or a chunk if there are none."""
        return tuple((self.shards or self.chunks)[str(d)] for d in dims)

    def files(self, var: xr.Variable, region: int) -> Iterator[tuple[int, ...]]:
        """Numbers of the files of a variable that a region writes, along each axis.

        A variable without the dimension of the regions belongs to the first one.
        """
        if self.dim not in var.dims and region > 0:
            return
        shape = self.file_of(var.dims)
        counts = [-(-n // f) for n, f in zip(var.shape, shape, strict=True)]
        for numbers in np.ndindex(
            *(1 if d == self.dim else c for d, c in zip(var.dims, counts, strict=True))
        ):
            yield tuple(
                region if d == self.dim else int(i)
                for d, i in zip(var.dims, numbers, strict=True)
            )


def layout_of(result: xr.Dataset, job: Job) -> Layout:
    """Choose chunks, shards and regions of a result.

    Raises
    ------
    xatmo.errors.OptionError
        If ``chunks`` or ``shards`` name a dimension that the result has not, or a shard
        is no whole number of chunks.
    """
    lazy = [v for v in result.data_vars.values() if v.chunks is not None]
    sizes = {str(d): n for v in lazy for d, n in zip(v.dims, v.shape, strict=True)}
    dim = _region_dim(result, lazy)
    asked = _resolved(job.chunks, sizes, dim, "--chunks")
    outer = _resolved(job.shards, sizes, dim, "--shards")
    chunks = _filled(asked, sizes, dim, lazy)
    shards = _shards(outer, chunks, sizes) if outer else {}
    return Layout(dim, sizes[dim], (shards or chunks)[dim], chunks, shards)


def _region_dim(result: xr.Dataset, lazy: Sequence[xr.DataArray]) -> str:
    """Time where there is one, else the first dimension of the first variable."""
    dims = [str(d) for v in lazy for d in v.dims]
    for dim in dims:
        index = result.indexes.get(dim)
        if index is not None and (
            index.dtype.kind == "M" or type(index).__name__ == "CFTimeIndex"
        ):
            return dim
    for dim in dims:
        if dim in {"time", "valid_time"}:
            return dim
    return dims[0]


def _resolved(
    asked: Mapping[str, int], sizes: Mapping[str, int], dim: str, option: str
) -> dict[str, int]:
    """Sizes by the result's own dimensions; ``time`` is whatever it is called there."""
    found = {}
    for name, size in asked.items():
        own = dim if name == "time" and name not in sizes else name
        if own not in sizes:
            msg = f"The result has no dimension {name!r} to be cut along."
            raise OptionError(
                msg,
                found=f"{option} {name}={size}",
                needed="one of " + ", ".join(f"{d} ({n})" for d, n in sizes.items()),
                hint=f"{option} {dim}={size}",
            )
        found[own] = sizes[own] if size == -1 else min(size, max(1, sizes[own]))
    return found


def _filled(
    asked: Mapping[str, int],
    sizes: Mapping[str, int],
    dim: str,
    lazy: Sequence[xr.DataArray],
) -> dict[str, int]:
    """Chunks along all dimensions: whole but for time, unless that is too much."""
    chunks = {d: max(1, n) for d, n in sizes.items()}
    chunks[dim] = max(1, min(_STEP, sizes[dim]))
    chunks |= asked
    # Ensembles first, then times, space last: maps are read as a whole.
    rest = sorted(set(sizes) - {dim}, key=lambda d: (d not in _MEMBERS, -sizes[d], d))
    for name in sorted([*rest, dim], key=lambda d: (d not in _MEMBERS, d != dim)):
        if name in asked:
            continue
        excess = _bytes(chunks, lazy) / _CHUNK_BYTES
        if excess > 1:
            chunks[name] = max(1, int(chunks[name] / excess))
    return chunks


def _bytes(chunks: Mapping[str, int], lazy: Sequence[xr.DataArray]) -> int:
    return max(
        math.prod(chunks[str(d)] for d in v.dims) * v.dtype.itemsize for v in lazy
    )


def _shards(
    asked: Mapping[str, int], chunks: Mapping[str, int], sizes: Mapping[str, int]
) -> dict[str, int]:
    """Shards along all dimensions: one chunk wide where nobody says otherwise."""
    shards = {}
    for dim, chunk in chunks.items():
        wanted = asked.get(dim, chunk)
        # What reaches to the end may be anything: it is rounded up to whole chunks.
        if wanted % chunk and wanted != sizes[dim]:
            msg = f"A shard along {dim!r} has to hold whole chunks."
            raise OptionError(
                msg,
                found=f"shards of {wanted} and chunks of {chunk}",
                needed=f"a multiple of {chunk}",
                hint=f"--shards {dim}={max(1, wanted // chunk) * chunk}",
            )
        shards[dim] = -(-wanted // chunk) * chunk
    return shards
