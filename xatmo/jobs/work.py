"""One job at its place: begun, or gone on with, and finished."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import xarray as xr

from xatmo.errors import AtmoError, JobError
from xatmo.jobs.faults import fatal, one_line
from xatmo.jobs.inputs import Watch, fingerprint
from xatmo.jobs.journal import Journal
from xatmo.jobs.lazy import FILES, build, model_of
from xatmo.jobs.netcdf import ID, id_in, write_netcdf
from xatmo.jobs.place import Place
from xatmo.jobs.plan import Job, Layout
from xatmo.jobs.store import Store, create
from xatmo.opening import open_file

__all__ = ["Work", "no_space_told", "planned"]


@dataclass
class Work:
    """What a job is about to do.

    Parameters
    ----------
    job : Job
    place : Place
    layout : Layout
    result : Dataset
        Lazy.
    journal : Journal
    watch : Watch
    todo : sequence of int
        Regions to compute.
    complete : bool
        Whether there is nothing to do, not even to finish.
    """

    job: Job
    place: Place
    layout: Layout
    result: xr.Dataset
    journal: Journal
    watch: Watch
    todo: Sequence[int]
    complete: bool = False

    @cached_property
    def store(self) -> Store:
        """What regions are written to."""
        return Store(self.place.work, self.result, self.layout)

    def fields(self, region: int) -> int:
        """Return how many positions along time a region has."""
        span = self.layout.span(region)
        return span.stop - span.start

    def where(self, region: int) -> str:
        """Return what a region is called: its first and last time."""
        span, dim = self.layout.span(region), self.layout.dim
        if dim not in self.result.coords:
            return f"{dim} {span.start} to {span.stop - 1}"
        labels = self.result[dim].values[[span.start, span.stop - 1]]
        first, last = (_short(label) for label in labels)
        return f"{dim} {first}" if first == last else f"{dim} {first} to {last}"

    def stopped(self) -> str:
        """Return what to tell when a signal has ended the job."""
        done, count = len(self.journal.done), self.layout.count
        return (
            f"stopped with {done} of {count} blocks of {self.place.target} done; "
            "run the same command again to go on"
        )

    def failed(self, region: int, error: BaseException) -> JobError:
        """Return the error for a block that has failed."""
        done, count = len(self.journal.done), self.layout.count
        msg = f"The block {self.where(region)} could not be computed."
        return JobError(
            msg,
            found=one_line(error),
            needed=f"numbers in every block; {done} of {count} are done",
            hint="mend the input and go on with --same-input; or leave such blocks "
            "out: the same command with --on-error skip goes on with the others",
        )

    def changed(self, *, now: bool = False) -> JobError | None:
        """Look whether the input is another one, and write that down."""
        found = self.watch.changes(now=now)
        if not found:
            return None
        self.journal.note(changed=found)
        return _input_changed(found)

    def finish(self) -> None:
        """Let the output be opened: all regions are there, or listed as missing.

        Raises
        ------
        xatmo.errors.JobError
            If the input has changed meanwhile, nothing could be computed, or there is
            no space left.
        """
        if self.complete:
            return
        changed = self.changed(now=True) if self.todo else None
        if changed is not None:
            raise changed
        if not self.journal.done:
            raise self._nothing()
        with no_space_told(self.place):
            self._finish()

    def _finish(self) -> None:
        failed = sorted(self.journal.failed)
        for region in failed:
            self.store.remove(region)
        self.store.clean()
        self.store.finish({self.where(r): self.journal.failed[r] for r in failed})
        now = dt.datetime.now(dt.UTC).isoformat(" ", "seconds")
        self.journal.note(finished=now)
        if self.place.netcdf:
            write_netcdf(self.place.work, self.place.target, self.layout)
            if not failed:
                shutil.rmtree(self.place.work)

    def _nothing(self) -> JobError:
        region, error = min(self.journal.failed.items())
        msg = "None of the blocks could be computed: nothing is written."
        return JobError(
            msg,
            found=f"{self.where(region)}: {error}",
            needed="at least one block without an error",
            hint=f"try xatmo.{self.job.verb}(ds) on a few times of the input",
        )


def _short(label: Any) -> str:
    """A date without what is zero anyway."""
    text = str(label)
    return text[:16] if text[10:11] == "T" else text


@contextlib.contextmanager
def planned(
    job: Job, place: Place, *, overwrite: bool, same_input: bool = False
) -> Iterator[Work]:
    """Plan a job, and hold its place.

    Parameters
    ----------
    job : Job
    place : Place
    overwrite : bool
        Begin anew where something else, or something finished, is there. A job of the
        same kind that was not finished goes on even so: a command that is run again
        by a queue must not lose what it has done.
    same_input : bool
        Files of the input may have changed.

    Yields
    ------
    Work

    Raises
    ------
    xatmo.errors.AtmoError
    """
    place.check_foreign(overwrite=overwrite)
    source, result, layout = build(job)
    header, inputs = _header(job, source, result, layout)
    watch = Watch(inputs)
    found = Work(job, place, layout, result, Journal(place.journal, header), watch, ())
    if _is_written(place, header) and not overwrite:
        found.complete = True
        yield found
        return
    with place.held():
        with no_space_told(place):
            journal = _gone_on_with(
                place, header, overwrite=overwrite, same_input=same_input
            )
            if journal is None:
                place.clear()
                attrs = {ID: _id(header), "Conventions": "CF-1.11"}
                create(place.work, result, layout, attrs)
                journal = Journal.create(place.journal, header)
        found.journal = journal
        _forget_damaged(found)
        found.todo = [r for r in range(layout.count) if r not in journal.done]
        found.complete = not found.todo and found.store.finished and not place.netcdf
        yield found


def _header(
    job: Job, source: xr.Dataset, result: xr.Dataset, layout: Layout
) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """What a job has to be to go on, and the fingerprints of its inputs by path."""
    from xatmo import __version__

    inputs: dict[str, Mapping[str, Any]] = {job.source: fingerprint(job.source, source)}
    said = {"input": inputs[job.source]}
    for name, option in FILES.items():
        if job.options.get(name) is not None:
            path = str(job.options[name])
            inputs[path] = said[option] = fingerprint(path, open_file(path))
    asked = job.said()
    for name in FILES:
        asked["options"].pop(name, None)
    header = {
        **asked,
        **said,
        "model": dict(model_of(result)),
        "cut": {
            "chunks": dict(layout.chunks),
            "shards": dict(layout.shards),
            "blocks": layout.count,
        },
        "format": "netCDF" if job.target.endswith(".nc") else "Zarr",
        "xatmo": __version__,
    }
    return header, inputs


def _id(header: Mapping[str, Any]) -> str:
    text = json.dumps(header, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_written(place: Place, header: Mapping[str, Any]) -> bool:
    """Whether a netCDF file is there already, made by this very job."""
    if not place.netcdf or not place.target.exists() or place.begun:
        return False
    return id_in(place.target) == _id(header)


def _gone_on_with(
    place: Place, header: Mapping[str, Any], *, overwrite: bool, same_input: bool
) -> Journal | None:
    """Return the journal of the same job if it was begun; None to begin."""
    if not place.journal.exists():
        if place.netcdf and place.target.exists() and not overwrite:
            raise _other_file(place)
        return None
    if overwrite:
        with contextlib.suppress(JobError):
            journal = place.read()
            notes = journal.notes
            over = notes.get("finished") or notes.get("changed")
            return None if over or _different(journal, header) else journal
        return None
    journal = place.read()
    if same_input:
        files = {name: header[name] for name in _INPUTS if name in header}
        if _looks_other(journal, files):
            raise _another_job(place, _different(journal, header))
        journal.note(changed="", inputs=files)
    if journal.notes.get("changed"):
        raise _input_changed(str(journal.notes["changed"]))
    different = _different(journal, header)
    if different:
        raise _another_job(place, different)
    return journal


_INPUTS = ("input", *FILES.values())


def _different(journal: Journal, header: Mapping[str, Any]) -> list[str]:
    """What is not as the job began, or was taken for the same since."""
    before = {**journal.header, **journal.notes.get("inputs", {})}
    return _differences(before, header)


def _looks_other(journal: Journal, files: Mapping[str, Any]) -> bool:
    """Whether an input has other times or variables: then no word makes it the same."""
    return any(
        journal.header.get(name, {}).get(part) != found.get(part)
        for name, found in files.items()
        for part in ("variables", "times")
    )


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What is not the same, by name."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            text
            for key in sorted({*before, *now})
            for text in _differences(
                before.get(key), now.get(key), f"{name} {key}".strip()
            )
        ]
    # As the journal has it: what JSON makes a list was a tuple.
    same = json.loads(json.dumps(now)) == before
    return [] if same else [f"{name}: {_said(before)} then, {_said(now)} now"]


def _said(value: Any) -> str:
    return "not given" if value is None else str(value)


def _forget_damaged(work: Work) -> None:
    """Compute again what the journal calls done, and is not there as it was written."""
    done = work.journal.done
    for region in [r for r, size in done.items() if work.store.size(r) != size]:
        del done[region]


@contextlib.contextmanager
def no_space_told(place: Place) -> Iterator[None]:
    """Say what it means when a file cannot be written inside the block."""
    try:
        yield
    except OSError as error:
        told = (
            None if isinstance(error, AtmoError) else fatal(error, place.target, None)
        )
        if told is None:
            raise
        raise told from error


def _other_file(place: Place) -> JobError:
    msg = f"{place.target} is there already, and is not what this job writes."
    return JobError(
        msg,
        found="a file of other options, another input or another origin",
        needed="a name that is free, or the options that it was made with",
        hint="choose another name, or --overwrite (overwrite=True)",
    )


def _another_job(place: Place, different: Sequence[str]) -> JobError:
    msg = f"{place.target} was begun by another job than this one."
    return JobError(
        msg,
        found="; ".join(different),
        needed="the same options, model, input and version of xatmo, to go on with it",
        hint="give the options of then; --same-input if only files of the input were "
        "mended; or begin anew with --overwrite (overwrite=True)",
    )


def _input_changed(found: str) -> JobError:
    msg = (
        "The input has changed since the job began: its blocks do not belong together."
    )
    return JobError(
        msg,
        found=found,
        needed="an input that stays as it is while it is read",
        hint="begin anew with --overwrite (overwrite=True) when nobody writes to it; "
        "or go on with --same-input if its numbers are those of before",
    )
