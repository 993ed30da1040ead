"""How much memory a worker needs: known before it runs, from a small rehearsal.

    peak = base + weights + threads x (read + written + work)

What a task reads and writes follows from the chunks. What the network needs on its way
is proportional to the points that it sees at a time: it is counted on a small region,
tensor by tensor, without any of the user's values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xatmo.engine import rehearsal
from xatmo.errors import OptionError
from xatmo.fields import as_dataset, find_axes
from xatmo.options import set_options

__all__ = ["MemoryEstimate", "memory_estimate"]

# Interpreter, libraries and torch in a process that has run a network. Measured.
BASE = 510e6
# What the allocator holds beside the tensors that are alive, and buffers of
# convolutions and products that no tensor shows. Measured.
SLACK = 1.5
# A rehearsal is for so many points along an axis, and so many times.
_POINTS, _TIMES = 64, 16
# Spread of the noise: no value is too far from a mean, whatever the quantity is.
_NOISE = np.float32(1e-6)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a worker process needs at most.

    Parameters
    ----------
    base : float
        The process with its libraries, without any data.
    weights : float
        Of the network.
    read, written : float
        What a task reads of the data, and what it gives.
    work : float
        Batches on their way through the network.
    threads : int
        Tasks that a process runs at the same time.
    """

    base: float
    weights: float
    read: float
    written: float
    work: float
    threads: int

    @property
    def peak(self) -> float:
        """All of it."""
        return self.base + self.weights + self.threads * self.per_thread

    @property
    def per_thread(self) -> float:
        """What each task adds."""
        return self.read + self.written + self.work

    def __str__(self) -> str:
        terms = (self.base, self.weights, self.read, self.written, self.work)
        b, w, r, o, a = (f"{x / 1e6:,.0f}" for x in terms)
        return (
            f"{self.peak / 1e9:.2f} GB per worker = {b} + {w} + {self.threads} x "
            f"({r} + {o} + {a}) MB: base + weights + threads x (read + written + work)"
        )


def memory_estimate(
    obj: xr.Dataset | xr.DataArray | xr.DataTree,
    verb: str,
    *arguments: Any,
    threads: int = 1,
    **options: Any,
) -> MemoryEstimate:
    """Estimate the memory of a worker that computes a verb of these data.

    Parameters
    ----------
    obj : Dataset, DataArray or DataTree
        The data, in the chunks that they are computed in. None of their values is read.
    verb : str
        ``"embed"``, ``"distance"``, ``"downscale"``, ``"infill"``, ``"forecast"``, ...
    *arguments, **options
        Those of the verb. Without another object a distance is that to the first time.
    threads : int, optional
        Tasks that one process runs at the same time: ``threads_per_worker``. Without a
        cluster one task has all cores, but runs batches of small fields side by side.

    Returns
    -------
    MemoryEstimate
        On a CPU. What is measured is 0.6 to 1.0 of its ``peak``.

    Raises
    ------
    xatmo.errors.OptionError
        If there is no such verb, or no thread.
    xatmo.errors.AtmoError
        What keeps the verb from reading the data.

    Examples
    --------
    >>> import xatmo
    >>> ds = xatmo.open_sample(chunks={"time": 8})
    >>> estimate = xatmo.memory_estimate(ds, "embed", threads=2)
    >>> 0.3e9 < estimate.peak < 2e9
    True
    """
    ds = as_dataset(obj)
    run = _verb(ds, verb, arguments, options)
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        msg = f"A worker cannot have {threads!r} threads."
        raise OptionError(
            msg,
            found=f"threads={threads!r}",
            needed="a whole number of at least 1: tasks of one process at a time",
            hint=f'xatmo.memory_estimate(ds, "{verb}", threads=1)',
        )
    axes = find_axes(ds)
    space = (axes.latitude, axes.longitude)
    with _quiet():
        result = run(_lazy(ds))
        seen = rehearsal.watched(lambda: run(_small(ds, space, axes.time, verb)))
    plane = math.prod(ds.sizes[d] for d in space)
    task = rehearsal.task_of(seen, _lazy(ds), result, plane, space)
    return MemoryEstimate(
        base=BASE,
        weights=seen.weights,
        read=task.read,
        written=task.written,
        work=SLACK * task.work,
        threads=threads,
    )


def _verb(
    ds: xr.Dataset, verb: str, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Callable[[xr.Dataset], Any]:
    accessor = type(ds.atmo)
    if verb.startswith("_") or not callable(getattr(accessor, verb, None)):
        known = [n for n in vars(accessor) if not n.startswith("_")]
        msg = f"There is no verb {verb!r}."
        raise OptionError(
            msg,
            found=f"verb={verb!r}",
            needed=f"one of {', '.join(sorted(known))}",
            hint='xatmo.memory_estimate(ds, "embed")',
        )

    def run(data: xr.Dataset) -> Any:
        given = arguments
        if verb == "distance" and not given and "other" not in options:
            time = find_axes(data).time
            given = () if options.get("pairwise") else (data.isel({time: 0}),)
        return getattr(data.atmo, verb)(*given, **options)

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Rehearse on the CPU, without the warnings that the verb itself will give."""
    import warnings

    with warnings.catch_warnings(), set_options(device="cpu", missing="propagate"):
        warnings.simplefilter("ignore")
        yield


def _lazy(ds: xr.Dataset) -> xr.Dataset:
    """The data in their chunks; those in memory are one."""
    return ds if any(v.chunks for v in ds.values()) else ds.chunk()


def _small(
    ds: xr.Dataset, space: tuple[str, str], time: str | None, verb: str
) -> xr.Dataset:
    """A few times of a region, with noise in place of values."""
    part = ds.isel({d: slice(_POINTS) for d in space})
    if time in ds.dims:
        part = part.isel({time: slice(_TIMES)})
    rng = np.random.default_rng(0)

    def noise(da: xr.DataArray) -> xr.DataArray:
        if da.dtype.kind != "f":
            return da
        values = _NOISE * rng.standard_normal(da.shape, np.float32)
        values = values.astype(da.dtype)
        if verb == "infill":
            values[..., 20:30, 20:30] = np.nan
        return da.copy(data=values)

    return part.map(noise, keep_attrs=True)
