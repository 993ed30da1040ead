"""What Dask says when workers die, in words that name the next call."""

from __future__ import annotations

import sys
from concurrent.futures.process import BrokenProcessPool

from xatmo.errors import AtmoError, ClusterError

__all__ = ["HOWTO", "explained"]

HOWTO = "docs/howto/cluster.md"


def explained(error: BaseException) -> AtmoError | None:
    """Return what an error of Dask's means, None if it speaks for itself.

    Parameters
    ----------
    error : BaseException
        As raised by a computation.

    Returns
    -------
    AtmoError or None
        To be raised from the other one.

    Examples
    --------
    >>> explained(ValueError("something else")) is None
    True
    """
    if isinstance(error, BrokenProcessPool):
        return _broken(error)
    # Where nothing has imported distributed, nothing of it can have been raised.
    module = sys.modules.get("distributed.scheduler")
    if module is None:
        return None
    if isinstance(error, module.KilledWorker):
        return _killed(error)
    # The second one has a class of its own in newer versions only.
    alone = (module.NoValidWorkerError, getattr(module, "NoWorkerError", ()))
    return _alone(error) if isinstance(error, alone) else None


def _killed(error: BaseException) -> ClusterError:
    task, worker, failures = error.args
    msg = "A chunk was given up: every worker that computed it died."
    return ClusterError(
        msg,
        found=f"{failures + 1} workers died on the task {task!r}, the last one of them "
        f"{worker.address}",
        needed="memory for a chunk, its result and the network in every worker, or "
        "another chunk: workers die of too little memory most of the time",
        hint="smaller chunks, such as ds.chunk(time=8); more memory for each worker; "
        "`xatmo embed --on-error skip` computes all others first. The log of the "
        f"workers says why they died: {HOWTO}",
    )


def _alone(error: BaseException) -> ClusterError:
    msg = "No worker came to compute."
    return ClusterError(
        msg,
        found=str(error).split("\n")[0],
        needed="workers that reach the scheduler and have what tasks ask for",
        hint="look at the queue and at the log of the workers; wait for longer with "
        "dask.config.set({'distributed.scheduler.no-workers-timeout': '1h'}): "
        f"{HOWTO}",
    )


def _broken(error: BaseException) -> ClusterError:
    msg = "A process died while it computed a chunk."
    return ClusterError(
        msg,
        found=str(error).split("\n")[0],
        needed="memory for as many chunks, results and networks as there are processes",
        hint="fewer workers or smaller chunks, such as ds.chunk(time=8); or the "
        "scheduler 'local-cluster', which replaces workers that die",
    )
