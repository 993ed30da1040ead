"""Verbs as batch jobs: from a file to a store, block by block, to go on when killed.

A job computes one lazy result in regions along time, each of which is a whole number
of the store's chunks, and keeps a journal of those that are done in the store itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xatmo.jobs.run import Failure, Report, run_job

__all__ = ["Failure", "Report", "run_job"]


# The command line adds its parsers without what runs a job.
def __getattr__(name: str) -> Any:
    if name in __all__:
        from xatmo.jobs import run

        return getattr(run, name)
    msg = f"module 'xatmo.jobs' has no attribute {name!r}"
    raise AttributeError(msg)
