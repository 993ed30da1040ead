"""What to say of chunks that are far too small, and which ones would do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import xarray as xr

from xatmo.engine.apart import are_apart

__all__ = ["too_small"]

# Each chunk makes some tasks of its own (opening, handing over, cutting again), which
# cost the scheduler 0.2 to 1 ms each: nothing beside a network that runs for seconds,
# and as much as the network for some thousands of points.
TINY_POINTS = 2**17
# So few chunks cost less than a second, whatever they hold.
FEW = 256
# A scheduler keeps about a kilobyte and spends about a millisecond per task: beyond
# this many chunks that counts even where each is of a reasonable size ...
MANY = 100_000
# ... unless they are of the size that Dask recommends.
LARGE_POINTS = 2**24
# Points of a chunk that is proposed: 16 MB for each variable, in float32.
GOOD_POINTS = 2**22


def too_small(
    fields: Sequence[xr.DataArray], core: Sequence[str], growth: float = 1.0
) -> str | None:
    """Return what to say of chunks that are far too small; None if they are not.

    Parameters
    ----------
    fields : sequence of DataArray
        What a network reads, with the user's own dimensions besides the core ones.
    core : sequence of str
        Dimensions of a field, which are not to be chunked anyway.
    growth : float
        Values of the result for each one that is read: chunks of the result are larger
        by so much.

    Returns
    -------
    str or None

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from xatmo.engine.advice import too_small
    >>> dims = ("time", "latitude", "longitude")
    >>> u = xr.DataArray(np.zeros((1000, 32, 64), "f4"), dims=dims, name="u")
    >>> too_small([u.chunk(time=100)], dims[1:]) is None
    True
    >>> print(too_small([u.chunk(time=1)], dims[1:]))
    1,000 chunks of 1 x 32 x 64 points are far too small: ...chunk(time=125)...
    """
    lazy = [f for f in fields if f.chunks is not None]
    if not lazy or are_apart():
        return None
    field = max(lazy, key=lambda f: math.prod(f.data.numblocks))
    lead = [str(d) for d in field.dims if d not in core]
    count = math.prod(len(field.chunksizes[d]) for d in lead)
    plane = math.prod(field.sizes[d] for d in core)
    points = plane * math.prod(max(field.chunksizes[d]) for d in lead)
    tiny = count >= FEW and points < TINY_POINTS
    if not tiny and not (count > MANY and points < LARGE_POINTS):
        return None
    plan = _better(field, lead, plane, GOOD_POINTS / max(growth, 1.0))
    if all(n <= max(field.chunksizes[d]) for d, n in plan.items()):
        return None
    largest = [max(field.chunksizes[str(d)]) for d in field.dims if str(d) in lead]
    shape = " x ".join(map(str, [*largest, *(field.sizes[d] for d in core)]))
    return (
        f"{count:,} chunks of {shape} points are far too small: {_cost(plane)} "
        f"Use ds.{_call(plan)}, or open the data with chunks={plan!r}."
    )


def _cost(plane: int) -> str:
    joined = "Where the network needs it they are joined before it runs, but each is"
    return f"{joined} still read, cut and scheduled by itself."


def _better(
    field: xr.DataArray, lead: Sequence[str], plane: int, points: float
) -> dict[str, int]:
    """Chunks of about so many points, of whole old ones, that leave some to share."""
    wanted = max(1, int(points // plane))
    plan: dict[str, int] = {}
    # The longest dimension is the one to be cut: time, in general.
    for dim in sorted(lead, key=lambda d: -field.sizes[d]):
        now, size = max(field.chunksizes[dim]), field.sizes[dim]
        others = math.prod(
            max(field.chunksizes[d]) for d in lead if d not in (dim, *plan)
        )
        most = math.ceil(size / _SHARES) if not plan else size
        room = wanted // max(1, others * math.prod(plan.values()))
        new = max(now, min(most, room) // now * now)
        if new > now:
            plan[dim] = min(new, size)
    return plan


# Parts of a series at least, so that several workers have something to do.
_SHARES = 8


def _call(plan: dict[str, int]) -> str:
    if all(name.isidentifier() for name in plan):
        return f"chunk({', '.join(f'{d}={n}' for d, n in plan.items())})"
    return f"chunk({plan!r})"
