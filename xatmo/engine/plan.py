"""How a call meets its data: at once, chunk by chunk, or chunk by chunk with a halo.

Three ways, and which one is taken follows from the data and the network alone:

* arrays in memory run at once, without Dask in between;
* a network that sees whole fields runs once per chunk of the other dimensions, small
  chunks being joined first (and the result cut again) so that batches are full;
* a network with a finite reach that gives one value per grid point can leave the core
  dimensions chunked: every chunk gets a halo as wide as the reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xatmo.engine.apart import are_apart
from xatmo.engine.batch import Call, execute
from xatmo.engine.chunks import cut_again, joined_chunks
from xatmo.errors import ChunkError

__all__ = ["apply", "cut_alike", "joined", "merge", "over_chunks", "weighted_mean"]

# Small chunks are joined until a task has this many grid points: on a CPU some tenths
# of a second, on a GPU half a batch, and always less than one field of 0.25 degrees.
JOIN_POINTS = 2**19


def apply(
    call: Call,
    fields: Sequence[xr.DataArray],
    *,
    core: Sequence[str],
    out: dict[str, int],
    halo: int | str | None = None,
    periodic: Sequence[str] = (),
    join: bool = True,
    weights: np.ndarray | None = None,
) -> xr.DataArray:
    """Run a network over labelled arrays, lazily where they are lazy.

    Parameters
    ----------
    call : Call
        Which network, and how.
    fields : sequence of DataArray
        One per channel, with the same dimensions (..., *core).
    core : sequence of str
        Dimensions the network sees.
    out : dict of str to int
        Dimensions of one result and their sizes.
    halo : int, "global" or None
        Reach of the network in grid points, where results lie on the grid of the
        input; ``"global"`` if every point sees every other and core dimensions may
        not be chunked; None if chunks of the core dimensions are to be joined.
    periodic : sequence of str
        Core dimensions that close on themselves.
    join : bool
        Join small chunks for the time of the run; False where results are so large
        that the chunks were chosen with care.
    weights : ndarray, optional
        Of a mean over the first dimensions of ``out``, as many as it has; taken where
        the network runs, so that no more than it is handed on.

    Returns
    -------
    DataArray, dimensions (..., *out) without those of ``weights``
        Of float32, or of float64 if it is a mean.

    Raises
    ------
    xatmo.errors.ChunkError
        If a core dimension is chunked that must not be.
    """
    fields = cut_alike(fields)
    first = fields[0]
    blocks = partial(_blocks, call, core=core, out=out, weights=weights)
    if first.chunks is None:
        return blocks(fields)
    chunked = [d for d in core if len(first.chunksizes[d]) > 1]
    if chunked and halo == "global":
        raise _must_be_whole(chunked, first, call)
    if chunked and isinstance(halo, int):
        return _overlapping(call, fields, core, halo, periodic)
    if not join:
        whole = dict.fromkeys(core, -1)
        return blocks([f.chunk(whole) for f in fields])
    points = int(np.prod([first.sizes[d] for d in core]))
    wanted = max(call.batch_size or 1, JOIN_POINTS // points)
    fields, undo = joined(fields, core, wanted)
    result = blocks(fields)
    return cut_again(result, undo) if undo else result


def _blocks(
    call: Call,
    fields: Sequence[xr.DataArray],
    core: Sequence[str],
    out: dict[str, int],
    weights: np.ndarray | None,
) -> xr.DataArray:
    sizes = tuple(out.values())
    task: Callable[..., np.ndarray]
    task = partial(execute, call=call, n_core=len(core), out_core=sizes)
    if weights is None:
        return over_chunks(task, fields, core=core, out=out)
    kept = dict(list(out.items())[weights.ndim :])
    task = partial(_averaged, task=task, weights=weights / weights.sum())
    return over_chunks(task, fields, core=core, out=kept, dtype=np.float64)


def _averaged(
    *arrays: np.ndarray, task: Callable[..., np.ndarray], weights: np.ndarray
) -> np.ndarray:
    return weighted_mean(task(*arrays), weights, axis=arrays[0].ndim - weights.ndim)


def weighted_mean(values: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Average over the dimensions from ``axis`` on that ``weights`` have.

    Parameters
    ----------
    values : ndarray, shape (..., *weights.shape, ...)
    weights : ndarray
        Of sum 1.
    axis : int

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> import numpy as np
    >>> from xatmo.engine.plan import weighted_mean
    >>> weighted_mean(np.ones((5, 2, 3, 4)), np.full((2, 3), 1 / 6), 1).shape
    (5, 4)
    """
    lead, rest = values.shape[:axis], values.shape[axis + weights.ndim :]
    flat = values.reshape(math.prod(lead), weights.size, math.prod(rest))
    out = np.empty((len(flat), flat.shape[-1]))
    # Field by field: a chunk in double precision would be twice the chunk.
    for mean, field in zip(out, flat, strict=True):
        mean[:] = weights.reshape(-1) @ field
    return out.reshape(*lead, *rest)


def over_chunks(
    task: Callable[..., np.ndarray],
    fields: Sequence[xr.DataArray],
    *,
    core: Sequence[str],
    out: dict[str, int],
    dtype: Any = np.float32,
) -> xr.DataArray:
    """Call a function of arrays for each chunk, lazily where fields are lazy.

    It is one layer of the graph, written as a rule: ``dask="parallelized"`` of xarray
    would write down a task for each chunk at once.

    Parameters
    ----------
    task : callable
        From arrays (..., *core) to one (..., *out).
    fields : sequence of DataArray
        In one chunk along the core dimensions.
    core : sequence of str
    out : dict of str to int
        Dimensions of what it gives, besides the others, and their sizes.
    dtype : dtype
        Of what it gives.
    """
    return xr.apply_ufunc(
        partial(_each_block, task=task, sizes=tuple(out.values()), dtype=dtype),
        *fields,
        kwargs={"n_core": len(core)},
        input_core_dims=[list(core)] * len(fields),
        output_core_dims=[list(out)],
        exclude_dims=set(core),
        dask="allowed",
        join="exact",
        keep_attrs=False,
    )


def _each_block(
    *arrays: Any,
    task: Callable[..., np.ndarray],
    n_core: int,
    sizes: tuple[int, ...],
    dtype: Any,
) -> Any:
    if not any(hasattr(a, "dask") for a in arrays):
        return task(*arrays)
    import dask.array as da

    # Numbers for the dimensions: what an array lacks are the first ones.
    ndim = max(a.ndim for a in arrays)
    lead, new = range(ndim - n_core), range(ndim, ndim + len(sizes))
    arguments = [x for a in arrays for x in (a, tuple(range(ndim - a.ndim, ndim)))]
    return da.blockwise(
        partial(_on_blocks, task=task),
        (*lead, *new),
        *arguments,
        new_axes=dict(zip(new, sizes, strict=True)),
        dtype=dtype,
        meta=np.empty((0,) * (len(lead) + len(new)), dtype),
    )


def _on_blocks(*blocks: Any, task: Callable[..., np.ndarray]) -> np.ndarray:
    """Take blocks out of the lists that Dask puts them in: one along each dimension."""
    return task(*map(_only, blocks))


def _only(block: Any) -> Any:
    while isinstance(block, list):
        (block,) = block
    return block


def cut_alike(fields: Sequence[xr.DataArray]) -> list[xr.DataArray]:
    """Return fields in the same chunks, or all in memory.

    One may be in memory, or cut differently: the first lazy one leads.
    """
    cut = next((f.chunksizes for f in fields if f.chunks is not None), None)
    return [f if cut is None or f.chunksizes == cut else f.chunk(cut) for f in fields]


def joined(
    fields: Sequence[xr.DataArray], core: Sequence[str], wanted: int
) -> tuple[list[xr.DataArray], dict[str, tuple[int, ...]]]:
    """Join what is cut too small for the network; return also how to undo it.

    Core dimensions become whole, and neighbouring chunks of the others one, until
    there are about as many fields in each as are wanted.
    """
    wanted = 0 if are_apart() else wanted
    first = fields[0]
    plan: dict[str, Any] = dict.fromkeys(core, -1)
    lead = [str(d) for d in first.dims if d not in core]
    undo: dict[str, tuple[int, ...]] = {}
    have = int(np.prod([max(first.chunksizes[d]) for d in lead])) if lead else wanted
    # The innermost dimension first: its chunks lie next to each other on disk.
    for dim in reversed(lead):
        chunks = first.chunksizes[dim]
        if have >= wanted or len(chunks) == 1:
            continue
        plan[dim] = merge(chunks, max(1, wanted * max(chunks) // have))
        undo[dim] = chunks
        have = have // max(chunks) * max(plan[dim])
    plan = {d: (first.sizes[d],) if n == -1 else n for d, n in plan.items()}
    return [joined_chunks(field, plan) for field in fields], undo


def merge(chunks: tuple[int, ...], target: int, least: int = 1) -> tuple[int, ...]:
    """Join neighbours until each has about ``target`` elements; cut none.

    None has fewer than ``least`` elements in the end, if there are as many.
    """
    merged: list[int] = []
    for size in chunks:
        if merged and (merged[-1] + size <= target or merged[-1] < least):
            merged[-1] += size
        else:
            merged.append(size)
    if len(merged) > 1 and merged[-1] < least:
        merged[-2:] = [sum(merged[-2:])]
    return tuple(merged)


def _overlapping(
    call: Call,
    fields: Sequence[xr.DataArray],
    core: Sequence[str],
    halo: int,
    periodic: Sequence[str],
) -> xr.DataArray:
    """Chunks with a halo from their neighbours, cut off again behind the network."""

    def over_chunks(*arrays: Any) -> Any:
        import dask.array as da

        axes = range(arrays[0].ndim - len(core), arrays[0].ndim)
        depth = dict.fromkeys(axes, halo)
        boundary = {
            axis: "periodic" if dim in periodic else "none"
            for axis, dim in zip(axes, core, strict=True)
        }
        return da.map_overlap(
            partial(_same_grid, call=call, n_core=len(core)),
            *arrays,
            depth=depth,
            boundary=boundary,
            dtype=np.float32,
            meta=np.empty((0,) * arrays[0].ndim, np.float32),
        )

    return xr.apply_ufunc(
        over_chunks,
        *fields,
        input_core_dims=[list(core)] * len(fields),
        output_core_dims=[list(core)],
        dask="allowed",
        join="exact",
        keep_attrs=False,
    )


def _same_grid(*arrays: np.ndarray, call: Call, n_core: int) -> np.ndarray:
    out_core = arrays[0].shape[arrays[0].ndim - n_core :]
    return execute(*arrays, call=call, n_core=n_core, out_core=out_core)


def _must_be_whole(chunked: list[str], field: xr.DataArray, call: Call) -> ChunkError:
    sizes = ", ".join(f"{d}: {len(field.chunksizes[d])} chunks" for d in chunked)
    whole = ", ".join(f"{d!r}: -1" for d in chunked)
    msg = f"{call.key.name} sees whole fields, but {' and '.join(chunked)} is chunked."
    return ChunkError(
        msg,
        found=sizes,
        needed="one chunk along each of them: every point looks at every other",
        hint=f"ds.chunk({{{whole}}})",
    )
