"""How a network that gives a finer grid runs over chunks, in pieces of bounded size.

Its reach is finite: any piece of the domain can be computed with a halo of neighbours,
and gets the numbers that it would get in the whole. What a point draws at random has to
belong to the point, therefore; it comes from a function of where and when that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np
import xarray as xr

from xatmo.blocks import with_means
from xatmo.engine import worker
from xatmo.engine.batch import Call, Step, in_batches, missing_values
from xatmo.engine.plan import cut_alike, joined, merge

__all__ = ["Finer", "apply_finer", "near"]

# Points of the input that the network sees at a time: 150 MB with 64 features.
TILE_POINTS = 2**17
# Smaller chunks are joined: a task takes some tenths of a second on a CPU at least.
TASK_POINTS = 2**14


@dataclass(frozen=True)
class Finer:
    """What is to be known of a network whose results lie on a finer grid.

    Parameters
    ----------
    factor : int
        Fine points for each point, along both core dimensions.
    halo : int
        Points around a place that its result depends on.
    turn : float, optional
        A full turn, if the second core dimension closes on itself.
    trim : tuple of int
        Fine points left out at the beginning and at the end of the first core
        dimension: fewer than ``factor``.
    conserve : bool
        Shift the fine points of each point so that their mean is its value.
    noise : callable, optional
        From keys (n,), the coordinates of rows (h,) and columns (w,) and the number of
        a realization to what the network reads as ``noise``: (n, K, h, w).
    statics : callable, optional
        From the coordinates of rows and columns to what the network reads as
        ``statics``: (1, S, factor h, factor w).
    """

    factor: int
    halo: int
    turn: float | None = None
    trim: tuple[int, int] = (0, 0)
    conserve: bool = True
    noise: Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray] | None = None
    statics: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


def apply_finer(
    call: Call,
    fields: Sequence[xr.DataArray],
    finer: Finer,
    *,
    core: tuple[str, str],
    new: tuple[str, str],
    keys: dict[str, np.ndarray],
    realizations: int = 1,
) -> xr.DataArray:
    """Run a network over labelled arrays, lazily where they are lazy.

    Parameters
    ----------
    call : Call
        Which network, and how. Its method is called with (B, C, h, w) and, where there
        are such, ``noise`` and ``statics``; it gives (B, C, factor h, factor w).
    fields : sequence of DataArray
        One per channel, with the same dimensions (..., *core), and with coordinates
        along the core dimensions.
    finer : Finer
    core : tuple of str
        Dimensions that become finer.
    new : tuple of str
        What to call the dimensions of channels and of realizations.
    keys : dict of str to ndarray of uint64
        For every other dimension a number for each position; the sum of a field's
        numbers is its key.
    realizations : int
        How many to draw.

    Returns
    -------
    DataArray
        ``(*new, ..., *core)``, without coordinates, of the type of
        the fields; lazy if those are. Chunks may have been joined.
    """
    fields = cut_alike(fields)
    lead = [str(d) for d in fields[0].dims if d not in core]
    axes = [fields[0][d].values.astype(np.float64) for d in core]
    lazy = fields[0].chunks is not None
    if lazy:
        fields = _joined(fields, core, finer.halo)
    arrays = [f.transpose(*lead, *core).data for f in fields]
    cuts = arrays[0].chunks[-2:] if lazy else [(x.size,) for x in axes]
    turns = (None, finer.turn)
    marks = [
        _marks(x, cut, finer.halo, turn)
        for x, cut, turn in zip(axes, cuts, turns, strict=True)
    ]
    run = partial(
        _run_piece,
        call=call,
        finer=finer,
        n_rows=axes[0].size,
        n_lead=len(lead),
        dtype=np.result_type(*(f.dtype for f in fields)),
    )
    labels = [keys[d] for d in lead]
    if lazy:
        data = _blockwise(run, realizations, marks, labels, arrays, finer)
    else:
        # What is lazily indexed (a file without chunks) is read here.
        values = [f.transpose(*lead, *core).values for f in fields]
        once = [part for pair in marks for (part,) in pair]
        data = run(np.arange(realizations), *once, *labels, *values)
    return xr.DataArray(data, dims=(*new, *lead, *core))


def _joined(
    fields: Sequence[xr.DataArray], core: tuple[str, str], halo: int
) -> list[xr.DataArray]:
    """Join chunks until neither halos nor the number of tasks cost much.

    A domain that is no larger than a tile becomes one: that costs less than halos.
    """
    points = int(np.prod([fields[0].sizes[d] for d in core]))
    if points <= TILE_POINTS:
        return joined(fields, core, max(1, TASK_POINTS // points))[0]
    rows, columns = (fields[0].chunksizes[d] for d in core)
    # Wide rather than tall: the longer a row, the fewer of its points are halo.
    columns = merge(columns, TILE_POINTS // max(merge(rows, 2 * halo, halo)), halo)
    rows = merge(rows, max(TILE_POINTS // max(columns), 2 * halo), halo)
    plan = dict(zip(core, (rows, columns), strict=True))
    return [field.chunk(plan) for field in fields]


def _marks(
    x: np.ndarray, cut: tuple[int, ...], halo: int, turn: float | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each piece along an axis, its positions, and the coordinates that it sees."""
    own, seen = [], []
    for stop, size in zip(np.cumsum(cut), cut, strict=True):
        own.append(np.arange(stop - size, stop))
        at = np.arange(stop - size - halo, stop + halo)
        if turn is None:
            seen.append(x[at[(at >= 0) & (at < x.size)]])
        else:
            seen.append(x[at % x.size] + turn * (at // x.size))
    return own, seen


def _blockwise(
    run: Callable[..., np.ndarray],
    realizations: int,
    marks: list[tuple[list[np.ndarray], list[np.ndarray]]],
    labels: list[np.ndarray],
    arrays: Sequence[Any],
    finer: Finer,
) -> Any:
    """One task for each chunk and realization; nothing in it grows with the data."""
    import dask.array as da

    batch = tuple(f"b{i}" for i in range(len(labels)))
    arguments: list[Any] = [da.from_array(np.arange(realizations), chunks=1), "r"]
    for dim, pair in zip("yx", marks, strict=True):
        for parts in pair:
            chunks = tuple(part.size for part in parts)
            arguments += [da.from_array(np.concatenate(parts), chunks=(chunks,)), dim]
    for dim, label, chunks in zip(batch, labels, arrays[0].chunks, strict=False):
        arguments += [da.from_array(label, chunks=(chunks,)), (dim,)]
    for array in arrays:
        arguments += [_with_halo(array, finer), (*batch, "y", "x")]
    rows, columns = ([finer.factor * n for n in cut] for cut in arrays[0].chunks[-2:])
    rows[0] -= finer.trim[0]
    rows[-1] -= finer.trim[1]
    dtype = run.keywords["dtype"]  # type: ignore[attr-defined]
    return da.blockwise(
        run,
        ("q", "r", *batch, "y", "x"),
        *arguments,
        new_axes={"q": len(arrays)},
        adjust_chunks={"y": tuple(rows), "x": tuple(columns)},
        align_arrays=False,
        dtype=dtype,
        meta=np.empty((0,) * (len(batch) + 4), dtype),
    )


def _with_halo(array: Any, finer: Finer) -> Any:
    """Give chunks the halo of their neighbours, along axes where there are several."""
    from dask.array.overlap import overlap

    axes = range(array.ndim - 2, array.ndim)
    depth = {a: finer.halo if array.numblocks[a] > 1 else 0 for a in axes}
    if not any(depth.values()):
        return array
    closed = "none" if finer.turn is None else "periodic"
    return overlap(array, depth, dict(zip(axes, ("none", closed), strict=True)))


def _run_piece(
    numbers: np.ndarray,
    rows: np.ndarray,
    y: np.ndarray,
    columns: np.ndarray,
    x: np.ndarray,
    *rest: np.ndarray,
    call: Call,
    finer: Finer,
    n_rows: int,
    n_lead: int,
    dtype: np.dtype,
) -> np.ndarray:
    """Run a call on one piece of the domain, band by band.

    Parameters
    ----------
    numbers : ndarray of int, shape (R,)
        Which realizations.
    rows, columns : ndarray of int, shape (h,) and (w,)
        Positions of the piece in the domain.
    y, x : ndarray
        Coordinates of all that the piece sees.
    *rest : ndarray
        Keys along the other dimensions, then a field (..., y, x) per channel. Where the
        piece is the whole circle, columns that are seen twice are there once.
    """
    labels, arrays = rest[:n_lead], rest[n_lead:]
    lead, f = arrays[0].shape[:-2], finer.factor
    keys = reduce(np.add.outer, labels, np.zeros((), np.uint64)).reshape(-1)
    flat = [a.reshape(-1, *a.shape[-2:]) for a in arrays]
    top = min(finer.halo, int(rows[0]))
    left = min(finer.halo, int(columns[0])) if finer.turn is None else finer.halo
    # All columns that are seen, of a whole circle once more beyond its ends.
    take = (np.arange(x.size) - (x.size - flat[0].shape[-1]) // 2) % flat[0].shape[-1]
    first = finer.trim[0] if rows[0] == 0 else 0
    last = f * rows.size - (finer.trim[1] if rows[-1] == n_rows - 1 else 0)
    shape = len(arrays), numbers.size, len(keys), last - first, f * columns.size
    out = np.empty(shape, dtype)
    if not out.size:
        return out.reshape(*shape[:2], *lead, *shape[3:])
    with worker.running(call) as model:
        for start, stop in _bands(rows.size, x.size, finer.halo):
            low = max(top + start - finer.halo, 0)
            high = min(top + stop + finer.halo, y.size)
            kept = slice(max(first, f * start), min(last, f * stop))
            band = _Band(
                fields=[a[:, low:high] for a in flat],
                take=take,
                keys=keys,
                y=y[low:high],
                x=x,
                rows=slice(top + start - low, top + stop - low),
                columns=slice(left, left + columns.size),
                kept=slice(kept.start - f * start, kept.stop - f * start),
            )
            part = out[..., kept.start - first : kept.stop - first, :]
            _run_band(band, numbers, part, call, finer, model)
    return out.reshape(*shape[:2], *lead, *shape[3:])


def _bands(height: int, width: int, halo: int) -> Iterator[tuple[int, int]]:
    """Rows that are computed at a time: as many as a tile has, but more than halo."""
    step = max(TILE_POINTS // width, 2 * halo, 1)
    for start in range(0, height, step):
        yield start, min(start + step, height)


@dataclass(frozen=True)
class _Band:
    """Some rows of a piece, with all that they see.

    ``fields`` are (n, h, columns) per channel, of which ``take`` gives the w columns
    seen; ``rows`` and ``columns`` are the band's own among h and w; ``kept`` are the
    fine rows that there are of it.
    """

    fields: list[np.ndarray]
    take: np.ndarray
    keys: np.ndarray
    y: np.ndarray
    x: np.ndarray
    rows: slice
    columns: slice
    kept: slice


def _run_band(
    band: _Band,
    numbers: np.ndarray,
    out: np.ndarray,
    call: Call,
    finer: Finer,
    model: worker.Loaded,
) -> None:
    """Fill (C, R, n, fine rows, fine columns)."""
    static: dict[str, Any] = dict(call.kwargs)
    if finer.statics is not None:
        static["statics"] = finer.statics(band.y, band.x)

    def step(start: int, stop: int, size: int) -> Step:
        r, start = divmod(start, count)
        stop -= r * count
        fields = [a[start:stop][..., band.take] for a in band.fields]
        seen = np.stack(fields, axis=1)  # (n, C, h, w)
        batch, gaps = _without_gaps(seen, call, start)
        kwargs = dict(static)
        if finer.noise is not None:
            keys, number = band.keys[start:stop], int(numbers[r])
            kwargs["noise"] = finer.noise(keys, band.y, band.x, number)
        fine = yield call.method, batch, kwargs
        own = seen[..., band.rows, band.columns]
        out[:, r, start:stop] = _own(fine, own, gaps, band, finer).swapaxes(0, 1)

    core, count = (band.y.size, band.x.size), len(band.keys)
    in_batches(step, numbers.size * count, core, call, model, every=count, alone=True)


def _without_gaps(
    seen: np.ndarray, call: Call, start: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """What the network reads; where there were gaps (n, h, w), if there were any."""
    batch = seen.astype(np.float32)
    missing: np.ndarray = np.logical_not(np.isfinite(batch))
    if not missing.any():
        return batch, None
    if call.missing == "raise":
        raise missing_values(np.asarray(missing.any(axis=(2, 3))), call, start)
    batch[missing] = 0.0
    return batch, np.asarray(missing.any(axis=1))


def _own(
    fine: np.ndarray,
    own: np.ndarray,
    gaps: np.ndarray | None,
    band: _Band,
    finer: Finer,
) -> np.ndarray:
    """A band's own part of what the network gave: (n, C, fine rows, fine columns)."""
    f = finer.factor
    rows, columns = (
        slice(f * part.start, f * part.stop) for part in (band.rows, band.columns)
    )
    fine = fine[..., rows, columns]
    if finer.conserve:
        fine = with_means(fine, own, f, band.kept)
    if gaps is not None:
        # As far as a gap was seen the numbers mean nothing, whatever the chunks.
        close = near(gaps, finer.halo)[:, band.rows, band.columns]
        fine = np.where(close.repeat(f, -2).repeat(f, -1)[:, None], np.nan, fine)
    return fine[..., band.kept, :]


def near(gaps: np.ndarray, halo: int) -> np.ndarray:
    """Whether there is a gap within ``halo`` rows and columns: (n, h, w)."""
    for axis in (1, 2):
        size = gaps.shape[axis]
        count = np.insert(np.cumsum(gaps, axis), 0, 0, axis)
        at = np.arange(size)
        above = count.take(np.minimum(at + halo + 1, size), axis)
        gaps = above > count.take(np.maximum(at - halo, 0), axis)
    return gaps
