"""Run a job: region by region, until all are there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask

from xatmo.cluster import Scheduler, explained, send_models
from xatmo.cluster import scheduler as open_scheduler
from xatmo.errors import AtmoError, ClusterError, OptionError
from xatmo.jobs.faults import fatal, one_line
from xatmo.jobs.inputs import open_source
from xatmo.jobs.lazy import check_options, model_of
from xatmo.jobs.pieces import Pieces
from xatmo.jobs.place import place_of
from xatmo.jobs.plan import Job
from xatmo.jobs.progress import Progress
from xatmo.jobs.signals import Stop, Stopped, stoppable
from xatmo.jobs.store import check_zarr
from xatmo.jobs.work import Work, no_space_told, planned
from xatmo.options import get_options

__all__ = ["Failure", "Report", "run_job"]

_POLL = 0.5  # seconds between looks at signals, where waiting cannot be interrupted
_MOST = 64  # regions at work at the same time, on however many workers


@dataclass(frozen=True)
class Failure:
    """A region that could not be computed.

    Attributes
    ----------
    region : int
    where : str
        Such as ``"time 2020-01-01T00 to 2020-01-02T18"``.
    error : str
        On one line.
    """

    region: int
    where: str
    error: str

    def __str__(self) -> str:
        return f"{self.where}: {self.error}"


@dataclass(frozen=True)
class Report:
    """What a job has done.

    Attributes
    ----------
    path : Path
        What was written.
    regions : int
        How many there are.
    computed : int
        How many of them this run has computed.
    fields : int
        How many positions along time these have.
    failures : tuple of Failure
        Those that are missing in what was written.
    seconds : float
        How long it took.
    """

    path: Path
    regions: int
    computed: int
    fields: int
    failures: tuple[Failure, ...]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.failures

    def __str__(self) -> str:
        if not self.computed and self.complete:
            return f"{self.path} is complete already: nothing was left to do"
        before = self.regions - self.computed - len(self.failures)
        kept = f" ({before} from before)" if before else ""
        rate = self.fields / max(self.seconds, 1e-9)
        text = f"wrote {self.path}: {self.computed} of {self.regions} blocks{kept}, "
        text += f"{self.fields} fields in {self.seconds:.1f} s, {rate:.1f} fields/s"
        return text + (f"; {len(self.failures)} failed" if self.failures else "")


def run_job(
    verb: str,
    source: str | Path,
    target: str | Path,
    *,
    chunks: Mapping[str, int] | None = None,
    shards: Mapping[str, int] | None = None,
    start: str | None = None,
    end: str | None = None,
    scheduler: str = "threads",
    workers: int | None = None,
    memory: str | None = None,
    on_error: str = "raise",
    overwrite: bool = False,
    same_input: bool = False,
    progress: bool | None = False,
    **options: Any,
) -> Report:
    """Run a verb on a file of any length and write the result, to go on if killed.

    The result is computed in blocks along time. Each is whole chunks of the output, and
    is on disk before the journal in the output says so: run the same call again after
    anything that ended it, and it computes the blocks that are missing, and no other.
    The output cannot be opened before it is complete.

    Parameters
    ----------
    verb : str
        ``"embed"``, ``"distance"``, ``"downscale"``, ``"infill"`` or ``"forecast"``.
    source : str or Path
        A netCDF or GRIB file, a Zarr store, or a pattern of files (``"era5-*.nc"``).
    target : str or Path
        What to write: ``.zarr`` (Zarr, third format) or ``.nc`` (netCDF-4).
    chunks : mapping of str to int, optional
        Of the output, such as ``{"time": 64}``: what is computed and written at a time.
        64 times, or fewer so that a chunk has no more than 128 MiB, if not given.
    shards : mapping of str to int, optional
        Of a Zarr store: so much goes into one file, such as ``{"time": 512}``, and is
        computed at a time.
    start, end : str, optional
        First and last time to read, such as ``"2020-01-01"``.
    scheduler : str, optional
        ``"threads"``, ``"processes"``, ``"local-cluster"`` or ``"tcp://HOST:PORT"``.
    workers : int, optional
        How many threads or processes; as many as there are cores if not given.
    memory : str, optional
        Of one worker of a local cluster.
    on_error : {"raise", "skip"}, optional
        What a block that cannot be computed does: end the job, which can go on later,
        or be left out. Then all others are computed and the output is finished; cells
        of those that failed are NaN (the largest value, where numbers are whole), and
        the attribute ``xatmo_failed`` lists them. Run the job again to compute these.
    overwrite : bool, optional
        Begin anew if there is something already; but a job of the same kind that is not
        finished goes on.
    same_input : bool, optional
        Take the input for the one that the job began with although its files are
        others by size or date: damaged ones were mended, or all were moved.
    progress : bool, optional
        Show a bar; None does if there is a terminal.
    **options
        Of the verb. ``other`` and ``mask`` are paths here. Device, batch size and what
        is done with missing values are those of :func:`xatmo.set_options`.

    Returns
    -------
    Report
        What was computed, and what failed.

    Raises
    ------
    xatmo.errors.OptionError
        If something was asked for that there is not.
    xatmo.errors.JobError
        If the output is somebody else's, or was begun with other options, another model
        or another input; if the disk is full; if the input changes; if a block fails
        with ``on_error="raise"``.
    xatmo.errors.AtmoError
        Of the verb, before anything is written.

    Notes
    -----
    All blocks are cut from one lazy result of the whole input: verbs that look at
    neighbouring times find them, and the numbers are those of the verb itself.

    Examples
    --------
    >>> import tempfile, xarray as xr, xatmo
    >>> folder = tempfile.mkdtemp()
    >>> ds = xatmo.open_sample().isel(time=slice(8), lat=slice(32, 64))
    >>> ds.to_netcdf(f"{folder}/in.nc")
    >>> said = {"chunks": {"time": 4}, "reduce": "mean"}
    >>> report = xatmo.run_job("embed", f"{folder}/in.nc", f"{folder}/z.zarr", **said)
    >>> report.computed, report.complete
    (2, True)
    >>> dict(xr.open_zarr(f"{folder}/z.zarr").embedding.sizes)
    {'time': 8, 'feature': 96}
    """
    _check_choice(on_error)
    given = {name: value for name, value in options.items() if value is not None}
    cut = (dict(chunks or {}), dict(shards or {}))
    now = get_options()
    numbers = (now.missing, now.precision)
    job = Job(verb, str(source), str(target), given, *cut, start, end, *numbers)
    check_options(job)
    check_zarr()
    began = time.monotonic()
    place = place_of(job)
    open_source(job).close()  # what is not there is said before a cluster starts
    with (
        open_scheduler(scheduler, workers=workers, memory=memory) as there,
        planned(job, place, overwrite=overwrite, same_input=same_input) as work,
        no_space_told(place),
    ):
        if work.todo:
            with stoppable() as stop:
                _equip(there, work)
                _Loop(work, there, on_error, progress, stop).run()
        work.finish()
        return _report(work, time.monotonic() - began)


def _equip(there: Scheduler, work: Work) -> None:
    """Give workers on other machines the weights, which they may have no way to get."""
    if there.client is None or there.name == "local-cluster":
        return
    said = model_of(work.result).get("xatmo_model", "")
    if models := [one.rpartition(" ")[0] for one in said.split("; ") if one]:
        send_models(there.client, *models)


def _check_choice(on_error: str) -> None:
    if on_error not in ("raise", "skip"):
        msg = f"A job cannot {on_error!r} on an error."
        raise OptionError(
            msg,
            found=f"on_error={on_error!r}",
            needed="'raise' or 'skip'",
            hint="--on-error skip (on_error='skip')",
        )


def _report(work: Work, seconds: float) -> Report:
    failures = [
        Failure(region, work.where(region), error)
        for region, error in sorted(work.journal.failed.items())
    ]
    computed = [r for r in work.todo if r in work.journal.done]
    return Report(
        work.place.target,
        work.layout.count,
        len(computed),
        sum(work.fields(r) for r in computed),
        tuple(failures),
        seconds,
    )


class _Loop:
    """Keeps some regions at work, and writes down how each of them ends.

    Parameters
    ----------
    work : Work
    there : Scheduler
        Where Dask computes.
    on_error : str
    progress : bool or None
    stop : Stop
    """

    def __init__(
        self,
        work: Work,
        there: Scheduler,
        on_error: str,
        progress: bool | None,
        stop: Stop,
    ) -> None:
        self._work, self._there, self._stop = work, there, stop
        self._skip = on_error == "skip"
        self._most = _at_once(there)
        self._pieces = Pieces(work.result, work.store)
        self._end: AtmoError | None = None
        count, size = work.layout.count, work.layout.size
        left = sum(work.fields(region) for region in work.todo)
        before = (count - len(work.todo), size - left)
        self._bar = Progress(progress, work.job.verb, count, size, before)

    def run(self) -> None:
        """Compute what is missing.

        Raises
        ------
        AtmoError
            What ended the job before its time.
        Stopped
            By a signal.
        """
        pool = ThreadPoolExecutor(self._most, "xatmo-job")
        try:
            self._run(pool)
        finally:
            # After a second signal, or without a scheduler, nobody waits.
            gone = isinstance(self._end, ClusterError) or self._stop.twice
            pool.shutdown(wait=not gone, cancel_futures=True)
            self._pieces.close()
            self._bar.close()
        if self._stop.number is not None:
            raise Stopped(self._work.stopped(), self._stop.number)
        if self._end is not None:
            raise self._end

    def _run(self, pool: ThreadPoolExecutor) -> None:
        todo = iter(self._work.todo)
        pending: dict[Future[int], int] = {}
        while True:
            while len(pending) < self._most and not self._ending:
                region = next(todo, None)
                if region is None:
                    break
                pending[pool.submit(self._compute, region)] = region
            if not pending or isinstance(self._end, ClusterError):
                return
            # Signals are looked at between two waits.
            settled, _ = wait(pending, _POLL, return_when=FIRST_COMPLETED)
            for future in settled:
                self._settle(pending.pop(future), future)
            self._pieces.release(min(pending.values(), default=0))

    @property
    def _ending(self) -> bool:
        return self._end is not None or self._stop.number is not None

    def _compute(self, region: int) -> int:
        self._pieces.compute(region)
        return self._work.store.secure(region)

    def _settle(self, region: int, future: Future[int]) -> None:
        """Write down how a region has ended."""
        work, error = self._work, future.exception()
        if error is None:
            work.journal.record_done(region, future.result())
        elif self._stop.number is None:
            self._failed(region, error)
        self._end = self._end or work.changed()
        self._bar.add(work.fields(region), len(work.journal.failed))

    def _failed(self, region: int, error: BaseException) -> None:
        """Write down that a region has failed, if it alone has, and end the job or not.

        After a signal nothing is said: it has reached the workers as well.
        """
        work = self._work
        told = fatal(error, work.place.target, self._there.client)
        if told is None:
            said = explained(error) or error
            work.store.remove(region)
            work.journal.record_failed(region, one_line(said))
            told = None if self._skip else work.failed(region, said)
        if told is not None and self._end is None:
            self._end = told
            if told is not error:
                told.__cause__ = error


def _at_once(there: Scheduler) -> int:
    """Regions at work at the same time: while one computes, another one is written."""
    if there.client is not None:
        threads = sum(there.client.nthreads().values())
        return max(2, min(2 * threads, _MOST))
    if there.name == "processes":
        return max(2, dask.config.get("num_workers", 2))
    return 2
