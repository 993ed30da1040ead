"""Dask's settings for networks, as data: each with the reason why it is there."""

from __future__ import annotations

from typing import Any

import dask

__all__ = ["settings", "unless_chosen"]

# What libraries read the number of their threads from.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_SETTINGS: dict[str, Any] = {
    # A worker that is started anew imports torch first. With 15 seconds, the default, a
    # busy machine loses it for ever, and with the last one the run waits without end.
    "distributed.deploy.lost-worker-timeout": "5 minutes",
    # Nobody is there to compute: an error after this time, where the default waits.
    "distributed.scheduler.no-workers-timeout": "10 minutes",
    # Chunks are read when a worker is free for them, not all at the start.
    "distributed.scheduler.worker-saturation": 1.1,
    # A chunk that has killed so many workers, and one more, is given up.
    "distributed.scheduler.allowed-failures": 3,
    # A forked process would inherit the locks of torch's threads.
    "distributed.worker.multiprocessing-method": "spawn",
    # Shares of a worker's memory at which results go to disk, no new task begins, and
    # the worker is started anew before the system kills a process of its own choice.
    "distributed.worker.memory.target": 0.60,
    "distributed.worker.memory.spill": 0.70,
    "distributed.worker.memory.pause": 0.80,
    "distributed.worker.memory.terminate": 0.95,
}


def settings(torch_threads: int = 1) -> dict[str, Any]:
    """Return Dask's settings for runs of networks on a cluster.

    :func:`xatmo.cluster.scheduler` sets them by itself. Where you make the cluster,
    set them first, in the process in which the scheduler runs, and not in a block that
    ends before the run does: some are read when a worker is lost.

    Parameters
    ----------
    torch_threads : int
        Threads of one forward pass: a machine's cores, divided by the number of tasks
        that run on it at the same time.

    Returns
    -------
    dict of str to value
        By the names that :func:`dask.config.set` takes.

    Examples
    --------
    >>> import dask
    >>> import xatmo.cluster
    >>> told = xatmo.cluster.settings(torch_threads=2)
    >>> told["distributed.deploy.lost-worker-timeout"]
    '5 minutes'
    >>> with dask.config.set(told):  # without `with`, for the rest of the script
    ...     pass
    """
    prefix = "distributed.nanny.pre-spawn-environ"
    threads = {f"{prefix}.{name}": torch_threads for name in _THREADS}
    return _SETTINGS | threads


def unless_chosen(told: dict[str, Any]) -> dict[str, Any]:
    """Leave out the settings of which the user has chosen another value.

    Such as by a file in ``~/.config/dask`` or by ``DASK_DISTRIBUTED__...`` in the
    environment.
    """
    return {key: value for key, value in told.items() if not _is_chosen(key)}


def _is_chosen(key: str) -> bool:
    absent = object()
    found = dask.config.get(key, absent)
    return found is not absent and found != _default(key, absent)


def _default(key: str, absent: Any) -> Any:
    """What Dask and its parts say where a user says nothing: the last of them."""
    for defaults in reversed(dask.config.defaults):
        found = dask.config.get(key, absent, config=defaults)
        if found is not absent:
            return found
    return absent
