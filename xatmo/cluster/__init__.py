"""Where Dask computes: threads, processes, or workers on many machines.

Nothing here is needed to run a verb on a cluster: a client is. This part opens and
closes schedulers by a name, with settings under which killed workers neither change
results nor leave a run hanging, and carries models to workers that cannot fetch them.
"""

from __future__ import annotations

from xatmo.cluster.config import settings
from xatmo.cluster.faults import explained
from xatmo.cluster.schedulers import SCHEDULERS, Scheduler, scheduler
from xatmo.cluster.sending import send_models

__all__ = [
    "SCHEDULERS",
    "Scheduler",
    "explained",
    "scheduler",
    "send_models",
    "settings",
]
