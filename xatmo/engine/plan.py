"""How a call meets its data: at once, chunk by chunk, or chunk by chunk with a halo.

Three ways, and which one is taken follows from the data and the network alone:

* arrays in memory run at once, without Dask in between;
* a network that sees whole fields runs once per chunk of the other dimensions, small
  chunks being joined first (and the result cut again) so that batches are full;
* a network with a finite reach that gives one value per grid point can leave the core
  dimensions chunked: every chunk gets a halo as wide as the reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xatmo.engine.batch import Call, execute
from xatmo.errors import ChunkError

__all__ = ["apply", "cut_alike", "joined", "merge"]

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

    Returns
    -------
    DataArray of float32, dimensions (..., *out)

    Raises
    ------
    xatmo.errors.ChunkError
        If a core dimension is chunked that must not be.
    """
    fields = cut_alike(fields)
    first = fields[0]
    if first.chunks is None:
        return _blocks(call, fields, core, out)
    chunked = [d for d in core if len(first.chunksizes[d]) > 1]
    if chunked and halo == "global":
        raise _must_be_whole(chunked, first, call)
    if chunked and isinstance(halo, int):
        return _overlapping(call, fields, core, halo, periodic)
    if not join:
        whole = dict.fromkeys(core, -1)
        return _blocks(call, [f.chunk(whole) for f in fields], core, out)
    points = int(np.prod([first.sizes[d] for d in core]))
    wanted = max(call.batch_size or 1, JOIN_POINTS // points)
    fields, undo = joined(fields, core, wanted)
    result = _blocks(call, fields, core, out)
    return result.chunk(undo) if undo else result


def _blocks(
    call: Call, fields: Sequence[xr.DataArray], core: Sequence[str], out: dict[str, int]
) -> xr.DataArray:
    core, names = list(core), list(out)
    task = partial(execute, call=call, n_core=len(core), out_core=tuple(out.values()))
    return xr.apply_ufunc(
        task,
        *fields,
        input_core_dims=[core] * len(fields),
        output_core_dims=[names],
        exclude_dims=set(core),
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": out},
        output_dtypes=[np.float32],
        join="exact",
        keep_attrs=False,
    )


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
    return [field.chunk(plan) for field in fields], undo


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
