"""Which errors end a job, and which only a region."""

from __future__ import annotations

import concurrent.futures
import errno
from collections.abc import Iterator
from typing import Any

from xatmo.cluster import explained
from xatmo.errors import AtmoError, ClusterError, FieldError, JobError

__all__ = ["fatal", "one_line"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_WRITE = {errno.EROFS, errno.EACCES, errno.EPERM}


def fatal(error: BaseException, target: Any, client: Any) -> AtmoError | None:
    """Return what ends the whole job, None if only the region has failed.

    Parameters
    ----------
    error : BaseException
        As it came out of the computation of a region.
    target : path
        What is written.
    client : distributed.Client or None
        Where it was computed.
    """
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in _FULL:
            return _full(one, target)
        if isinstance(one, OSError) and one.errno in _NO_WRITE:
            return _not_allowed(one, target)
    # What the data are to blame for is the region's own; a model or an option is not.
    if isinstance(error, AtmoError) and not isinstance(error, FieldError):
        return error
    if client is not None and client.status != "running":
        return _lost(error, client)
    if isinstance(error, concurrent.futures.CancelledError):
        return _lost(error, client)
    # Workers that die of one chunk are replaced; a pool without any stays as it is.
    alone = type(error).__name__ == "KilledWorker"
    return None if alone else explained(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _full(error: OSError, target: Any) -> JobError:
    msg = f"There is no space left for {target}."
    return JobError(
        msg,
        found=str(error),
        needed="space for the whole output",
        hint="make room, then run the same command again: it goes on where it stopped",
    )


def _not_allowed(error: OSError, target: Any) -> JobError:
    msg = f"A file may not be read or written, while working on {target}."
    return JobError(
        msg,
        found=str(error),
        needed="an input that may be read and an output that may be written",
        hint="change the permissions, then run the same command again: it goes on",
    )


def _lost(error: BaseException, client: Any) -> ClusterError:
    where = "" if client is None else f" at {client.scheduler.address}"
    msg = f"The scheduler{where} is lost."
    return ClusterError(
        msg,
        found=one_line(error),
        needed="a scheduler that lives as long as the job",
        hint="start it again, then run the same command with its address: it goes on "
        "where it stopped",
    )


def one_line(error: BaseException) -> str:
    """Return an error as one line, with its class."""
    if isinstance(error, AtmoError):
        return f"{type(error).__name__}: {error.problem} Found: {error.found}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500]
