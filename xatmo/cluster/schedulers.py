"""Open the place where Dask computes by its name, and close it again."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask

from xatmo.cluster.config import settings, unless_chosen
from xatmo.cluster.faults import HOWTO, explained
from xatmo.errors import ClusterError, MissingDependencyError, OptionError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["SCHEDULERS", "Scheduler", "scheduler"]

SCHEDULERS = ("threads", "processes", "local-cluster", "tcp://HOST:PORT")
"""What a scheduler may be called."""

_WAIT = "30s"  # for a scheduler to answer


@dataclass(frozen=True)
class Scheduler:
    """Where Dask computes.

    Attributes
    ----------
    name : str
        As it was asked for.
    description : str
        One line for people; also what ``str`` gives.
    client : distributed.Client or None
        None without :mod:`dask.distributed`.
    """

    name: str
    description: str
    client: Client | None = None

    def __str__(self) -> str:
        return self.description


@contextlib.contextmanager
def scheduler(
    name: str, *, workers: int | None = None, memory: str | None = None
) -> Iterator[Scheduler]:
    """Let Dask compute in a place of that name, inside the block.

    What is opened for the block is closed behind it. The settings of
    :func:`xatmo.cluster.settings` hold inside, but for those that the user has set.

    Parameters
    ----------
    name : str
        ``"threads"`` and ``"processes"`` of this machine; ``"local-cluster"``, the
        same with a dashboard, a limit of memory and workers that are replaced when
        they die; or the address of a scheduler that is there, ``"tcp://HOST:PORT"``.
    workers : int, optional
        How many threads or processes, as many as there are cores if not given. At an
        address: for how many workers to wait, one if not given.
    memory : str, optional
        Of one worker of a local cluster, such as ``"4GB"``; an even share of the
        machine's if not given.

    Yields
    ------
    Scheduler

    Raises
    ------
    xatmo.errors.OptionError
        If there is no scheduler of that name, or ``memory`` means nothing to it.
    xatmo.errors.MissingDependencyError
        If it needs ``distributed``, which is not installed.
    xatmo.errors.ClusterError
        If the address does not answer, or workers died until a chunk was given up.

    Examples
    --------
    >>> import xatmo.cluster
    >>> z = xatmo.open_sample(chunks={"time": 20}).atmo.embed(reduce="mean")
    >>> with xatmo.cluster.scheduler("threads", workers=2) as place:
    ...     print(place)
    ...     z = z.compute()
    threads, 2 workers
    """
    opened = _opener(name, workers, memory)
    with opened as place:
        try:
            yield place
        except Exception as error:
            told = explained(error)
            if told is None:
                raise
            raise told from error


def _opener(
    name: str, workers: int | None, memory: str | None
) -> contextlib.AbstractContextManager[Scheduler]:
    _check_workers(workers)
    if str(name).startswith(("tcp://", "tls://")):
        _check_memory(name, memory)
        return _connected(name, workers)
    if name == "local-cluster":
        return _local_cluster(workers or cores(), memory)
    plain: dict[str, Callable[[int], Any]] = {
        "threads": _threads,
        "processes": _processes,
    }
    if name not in plain:
        raise _unknown(name)
    _check_memory(name, memory)
    return plain[name](workers or cores())


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _threads(workers: int) -> Iterator[Scheduler]:
    with dask.config.set(scheduler="threads", num_workers=workers):
        yield Scheduler("threads", f"threads, {_several(workers)}")


@contextlib.contextmanager
def _processes(workers: int) -> Iterator[Scheduler]:
    # One pool for all computations of the block: processes keep the models they loaded.
    with (
        _hash_seed(),
        ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_process,
            initargs=(_share(workers),),
        ) as pool,
        dask.config.set(scheduler="processes", pool=pool, num_workers=workers),
    ):
        yield Scheduler("processes", f"processes, {_several(workers)}")


def _start_process(threads: int) -> None:
    """Limit torch to its share of the cores, which it reads when it is imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))


@contextlib.contextmanager
def _hash_seed() -> Iterator[None]:
    """Let processes agree on the hashes of strings, as Dask does for its own pools."""
    with _environment(("PYTHONHASHSEED",)):
        if os.environ.get("PYTHONHASHSEED") in (None, "0"):
            os.environ["PYTHONHASHSEED"] = "6640"
        yield


@contextlib.contextmanager
def _local_cluster(workers: int, memory: str | None) -> Iterator[Scheduler]:
    distributed = _distributed("local-cluster")
    told = unless_chosen(settings(_share(workers)))
    # Nannies leave the variables of their workers in this process's environment.
    names = [k.rpartition(".")[2] for k in told if ".pre-spawn-environ." in k]
    with (
        _environment((*names, "MALLOC_TRIM_THRESHOLD_", "PYTHONHASHSEED")),
        dask.config.set(told),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=memory or "auto",
            dashboard_address=":0",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        # As many as there are, always. Dask gives a worker up that is absent some time
        # after a loss, even if that is another absence, and would not replace it.
        cluster.adapt(minimum=workers, maximum=workers)
        text = f"local-cluster, {_several(workers)}"
        text += f" of {memory}" if memory else ""
        if importlib.util.find_spec("bokeh"):  # without it there is no page to show
            text += f", dashboard {cluster.dashboard_link}"
        yield Scheduler("local-cluster", text, client)


@contextlib.contextmanager
def _connected(address: str, workers: int | None) -> Iterator[Scheduler]:
    distributed = _distributed(address)
    try:
        client = distributed.Client(address, timeout=_WAIT)
    except (OSError, ValueError) as error:
        raise _silent(address, error) from error
    # Leaving the block closes the connection; the scheduler and its workers stay.
    with client, dask.config.set(unless_chosen(settings())):
        _wait(client, workers or 1)
        count = len(client.nthreads())
        yield Scheduler(address, f"{address}, {_several(count)}", client)


def _wait(client: Client, workers: int) -> None:
    limit = dask.config.get("distributed.scheduler.no-workers-timeout")
    try:
        client.wait_for_workers(workers, timeout=limit)
    except TimeoutError as error:
        msg = "Too few workers came to compute."
        raise ClusterError(
            msg,
            found=f"{_several(len(client.nthreads()))} within {limit}",
            needed=_several(workers),
            hint=f"look at the queue and at the log of the workers: {HOWTO}",
        ) from error


@contextlib.contextmanager
def _environment(names: tuple[str, ...]) -> Iterator[None]:
    """Give variables of the environment their values back behind the block."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _share(workers: int) -> int:
    return max(1, cores() // workers)


def _several(workers: int) -> str:
    return f"{workers} worker{'s' * (workers != 1)}"


# --- What cannot be -------------------------------------------------------------------


def _distributed(name: str) -> Any:
    try:
        import distributed
    except ImportError as error:
        msg = f"The scheduler {name!r} needs the package distributed."
        raise MissingDependencyError(
            msg,
            found="no distributed in this environment",
            needed="distributed, of the same version as dask",
            hint='pip install "dask[distributed]"; or "threads" or "processes"',
        ) from error
    return distributed


def _unknown(name: object) -> OptionError:
    msg = f"There is no scheduler {name!r}."
    return OptionError(
        msg,
        found=repr(name),
        needed=f"one of {', '.join(map(repr, SCHEDULERS))}",
        hint="for SLURM and dask-cuda start the scheduler first and give its address, "
        f"as shown in {HOWTO}",
    )


def _check_workers(workers: int | None) -> None:
    if workers is None or (isinstance(workers, int) and workers >= 1):
        return
    msg = "There is nobody to compute."
    raise OptionError(
        msg,
        found=f"workers={workers!r}",
        needed="a whole number from 1",
        hint="leave it out for as many workers as there are cores",
    )


def _check_memory(name: str, memory: str | None) -> None:
    if memory is None:
        return
    msg = f"The scheduler {name!r} has no limit of memory."
    raise OptionError(
        msg,
        found=f"memory={memory!r}",
        needed="'local-cluster', whose workers have one each",
        hint=f"leave memory out, or take 'local-cluster'; see also {HOWTO}",
    )


def _silent(address: str, error: Exception) -> ClusterError:
    msg = f"No scheduler answers at {address}."
    return ClusterError(
        msg,
        found=str(error).split("\n")[0] or type(error).__name__,
        needed="a Dask scheduler that this machine can reach",
        hint=f"check the address and that the scheduler runs: {HOWTO}",
    )
