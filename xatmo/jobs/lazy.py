"""The lazy result that a job writes: one call of a verb on the whole input.

Regions are cut from the result, not from the input. So a verb that looks at the times
around another one finds them, and the numbers are those of a call in a notebook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from xatmo.distances import distance
from xatmo.downscaling import downscale
from xatmo.embedding import embed
from xatmo.engine import unjoined
from xatmo.errors import ChunkError, OptionError, TimeAxisError
from xatmo.forecasting import forecast
from xatmo.infilling import infill
from xatmo.jobs.inputs import open_other, open_source, time_of
from xatmo.jobs.plan import Job, Layout, layout_of
from xatmo.options import set_options

__all__ = ["VERBS", "build", "check_options"]

_Result = xr.Dataset | xr.DataArray

VERBS: dict[str, tuple[Callable[..., _Result], frozenset[str]]] = {
    "embed": (embed, frozenset({"model", "layer", "level", "reduce"})),
    "distance": (
        distance,
        frozenset({"model", "layer", "level", "reduce", "join", "pairwise", "other"}),
    ),
    "downscale": (
        downscale,
        frozenset({"model", "factor", "realizations", "conserve", "seed", "level"}),
    ),
    "infill": (infill, frozenset({"model", "method", "spread", "mask", "seed"})),
    "forecast": (
        forecast,
        frozenset({"model", "lead", "members", "level", "variables", "steps"}),
    ),
}
"""The verbs that can be jobs, and their options."""

FILES = {"other": "reference", "mask": "mask"}
"""Options that name a file, and what the command calls them."""


def check_options(job: Job) -> None:
    """Refuse verbs and options that there are not.

    Raises
    ------
    xatmo.errors.OptionError
    """
    if job.verb not in VERBS:
        msg = f"There is no job {job.verb!r}."
        raise OptionError(
            msg,
            found=repr(job.verb),
            needed=f"one of {', '.join(VERBS)}",
            hint='xatmo.run_job("embed", "era5.zarr", "embedding.zarr")',
        )
    unknown = set(job.options) - VERBS[job.verb][1]
    if unknown:
        msg = f"{job.verb} has no option {sorted(unknown)[0]!r}."
        raise OptionError(
            msg,
            found=", ".join(sorted(unknown)),
            needed=f"some of {', '.join(sorted(VERBS[job.verb][1]))}",
            hint=f"help(xatmo.{job.verb})",
        )


def build(job: Job) -> tuple[xr.Dataset, xr.Dataset, Layout]:
    """Return the input, the lazy result, and its layout.

    Raises
    ------
    xatmo.errors.AtmoError
        Of the verb: what it does not find in the input.
    """
    # Once to see what comes out, with few large chunks; then as it will be read.
    source = open_source(job)
    layout = layout_of(_call(job, source), job)
    source = open_source(job, _reading(source, layout, 0))
    result = _call(job, source)
    begins = _begins(source, result)
    if begins:
        # Forecasts have no first times: read so that regions end where chunks do.
        source = open_source(job, _reading(source, layout, begins))
        result = _call(job, source)
    return source, result, layout_of(result, job)


def _reading(source: xr.Dataset, layout: Layout, begins: int) -> list[int]:
    """Chunks along time in which the input is read: those of the result."""
    name = time_of(source)
    if name is None or name != layout.dim or not source.sizes[name]:
        return []
    size, first = source.sizes[name], layout.step + begins
    cuts = [min(first, size)]
    while sum(cuts[:1]) + layout.step * (len(cuts) - 1) < size:
        cuts.append(layout.step)
    cuts[-1] = size - sum(cuts[:-1])
    return cuts


def _begins(source: xr.Dataset, result: xr.Dataset) -> int:
    """How many times of the input come before the first one of the result."""
    name = time_of(source)
    if name is None or name not in result.coords or not result.sizes.get(name):
        return 0
    return int(np.flatnonzero(source[name].values == result[name].values[0])[0])


def _call(job: Job, source: xr.Dataset) -> xr.Dataset:
    """Call the verb, with space in one piece if it needs that."""
    try:
        return _called(job, source)
    except ChunkError:
        time = time_of(source)
        return _called(job, source.chunk(dict.fromkeys(set(source.dims) - {time}, -1)))


def _called(job: Job, source: xr.Dataset) -> xr.Dataset:
    verb, _ = VERBS[job.verb]
    options = dict(job.options)
    for name, option in FILES.items():
        if options.get(name) is not None:
            options[name] = open_other(str(options[name]), job, option)
    numbers = {"missing": job.missing, "precision": job.precision}
    with set_options(**numbers), unjoined():
        result = verb(source, **options)
    return _as_dataset(result, job)


def _as_dataset(result: _Result, job: Job) -> xr.Dataset:
    """A Dataset with labels in memory and something to compute."""
    if isinstance(result, xr.DataArray):
        ds = result.to_dataset(name=str(result.name or job.verb))
        ds.attrs = {k: v for k, v in result.attrs.items() if k in _OF_THE_WHOLE}
    else:
        ds = result.copy()
    ds = ds.drop_encoding()
    ds = ds.assign_coords({n: c.compute() for n, c in ds.coords.items() if c.chunks})
    odd = [n for n, v in ds.data_vars.items() if v.chunks and v.dtype.kind not in "fiu"]
    ds = ds.assign({n: ds[n].compute() for n in odd})
    if not any(v.chunks is not None and v.size for v in ds.data_vars.values()):
        msg = f"{job.verb} gives nothing that could be computed."
        raise TimeAxisError(
            msg,
            found=", ".join(f"{d} ({n})" for d, n in ds.sizes.items()) or "no values",
            needed="at least one time",
            hint="look at the input: xr.open_dataset(...).atmo",
        )
    return ds


_OF_THE_WHOLE = ("history", "xatmo_model", "xatmo_model_sha256", "xatmo_normalization")


def model_of(result: xr.Dataset) -> Mapping[str, str]:
    """Return which models a result is of, by the attributes that verbs write."""
    parts = [result.attrs, *(v.attrs for v in result.data_vars.values())]
    found: dict[str, str] = {}
    for name in _OF_THE_WHOLE[1:]:
        said = dict.fromkeys(str(attrs[name]) for attrs in parts if name in attrs)
        if said:
            found[name] = "; ".join(said)
    return found
