"""Arrays side by side, and one of those that are: a rule, not a task for each chunk.

``concat`` and ``isel`` of xarray write those tasks down when they are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xatmo.engine.plan import cut_alike, over_chunks

__all__ = ["picked", "side_by_side"]


def side_by_side(
    fields: Sequence[xr.DataArray], dim: str, core: Sequence[str] = ()
) -> xr.DataArray:
    """Put arrays side by side along a new dimension.

    Parameters
    ----------
    fields : sequence of DataArray
        With the same dimensions, in any order and in any chunks.
    dim : str
        The new dimension, in one chunk.
    core : sequence of str, optional
        Dimensions that come after it; it is the last one else.

    Returns
    -------
    DataArray, dimensions (..., dim, *core)
        With the coordinates of the first one, without attributes.
    """
    first = fields[0]
    dims = [*(d for d in first.dims if d not in core), *core]
    fields = cut_alike([field.transpose(*dims) for field in fields])
    task = partial(_stack, axis=-1 - len(core))
    if fields[0].chunks is None:
        data = task(*(field.values for field in fields))
    else:
        data = _blockwise(task, [field.data for field in fields], len(core))
    at = len(dims) - len(core)
    together = xr.DataArray(data, first.coords, [*dims[:at], dim, *dims[at:]])
    return together.rename(None)  # it takes that of a lazy array


def picked(field: xr.DataArray, **at: int) -> xr.DataArray:
    """Select one position along dimensions, as ``isel(..., drop=True)`` does.

    Parameters
    ----------
    field : DataArray
    **at : int
        Positions along dimensions that are in one chunk each.

    Returns
    -------
    DataArray
    """
    if field.chunks is None or any(len(field.chunksizes[d]) > 1 for d in at):
        return field.isel(at, drop=True)
    where = (..., *at.values())
    task = partial(_pick, where=where)
    one = over_chunks(task, [field], core=list(at), out={}, dtype=field.dtype)
    return one.assign_attrs(field.attrs).rename(field.name)


def _blockwise(task: Any, arrays: Sequence[Any], n_core: int) -> Any:
    import dask.array as da

    lead, core = range(arrays[0].ndim - n_core), range(-n_core, 0)
    new = arrays[0].ndim
    return da.blockwise(
        task,
        (*lead, new, *core),
        *(x for array in arrays for x in (array, (*lead, *core))),
        new_axes={new: len(arrays)},
        dtype=np.result_type(*(array.dtype for array in arrays)),
        meta=np.empty((0,) * (new + 1)),
    )


def _stack(*arrays: np.ndarray, axis: int) -> np.ndarray:
    return np.stack(arrays, axis)


def _pick(array: np.ndarray, where: tuple[Any, ...]) -> np.ndarray:
    return np.asarray(array[where])
