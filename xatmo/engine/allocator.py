"""Memory of activations: kept for the next layer, not handed back to the system.

Dask starts its workers with ``MALLOC_TRIM_THRESHOLD_=65536``, so that what tasks leave
is given back at once. With that, glibc also stops to learn how large allocations are:
each activation of a network is mapped, zeroed by the system page by page, and unmapped
again, which took 1.5 times as long as the network itself (181 x 360 points, one core).
"""

from __future__ import annotations

import contextlib
import ctypes
import os

__all__ = ["keep_freed_memory", "undo_trimming"]

_VARIABLE = "MALLOC_TRIM_THRESHOLD_"
_OF_DASK = "65536"
# mallopt's numbers for them. The first is the most that glibc would learn by itself,
# the second bounds what an idle thread keeps.
_MMAP_THRESHOLD, _MMAP_BYTES = -3, 2**25
_TRIM_THRESHOLD, _TRIM_BYTES = -1, 2**28


def undo_trimming() -> bool:
    """Keep freed memory where nobody but Dask has said otherwise.

    Returns
    -------
    bool
        Whether that was the case. Another number in ``MALLOC_TRIM_THRESHOLD_`` is
        somebody's choice, and without one glibc learns what is best.
    """
    if os.environ.get(_VARIABLE) != _OF_DASK:
        return False
    return keep_freed_memory()


def keep_freed_memory() -> bool:
    """Keep what was freed in this process, 256 MiB at most; False if it cannot."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        first = mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
        return bool(first and mallopt(_TRIM_THRESHOLD, _TRIM_BYTES))
    return False
