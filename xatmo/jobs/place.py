"""The place a job writes to: new, its own of before, or somebody else's."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from xatmo.errors import JobError, OptionError
from xatmo.jobs.inputs import OURS
from xatmo.jobs.journal import Journal
from xatmo.jobs.plan import Job
from xatmo.opening import files_like, is_remote

__all__ = ["Place", "place_of"]

_METADATA = ("zarr.json", ".zmetadata", ".zgroup", ".zattrs")  # of a Zarr group
_NETCDF = {".nc", ".nc4", ".netcdf"}


class Place:
    """Where a job writes.

    Attributes
    ----------
    target : Path
        What the user gets.
    work : Path
        The store that regions are written to: the target itself, or for netCDF a store
        beside it, of which the file is made in the end. An HDF5 file that is being
        written when the process is killed cannot be read any more, so a job could not
        go on with it.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.netcdf = target.suffix in _NETCDF
        self.work = (
            target.with_name(target.name + ".partial") if self.netcdf else target
        )

    @property
    def journal(self) -> Path:
        """Path of the journal."""
        return self.work / OURS / "journal.jsonl"

    @property
    def begun(self) -> bool:
        """Whether a job has begun to write here."""
        return self.journal.parent.is_dir()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the place: no other process writes to it meanwhile.

        Raises
        ------
        xatmo.errors.JobError
            If another one does.
        """
        folder = self.work / OURS
        folder.mkdir(parents=True, exist_ok=True)
        lock, note = FileLock(folder / "lock", timeout=0), folder / "holder.json"
        try:
            lock.acquire()
        except Timeout as error:
            raise _held(self.target, note) from error
        try:
            now = dt.datetime.now(dt.UTC).isoformat(" ", "seconds")
            host = socket.gethostname()
            said = {"process": os.getpid(), "host": host, "since": now}
            with contextlib.suppress(OSError):  # on a full disk nobody is told
                note.write_text(json.dumps(said), "utf-8")
            yield
        finally:
            with contextlib.suppress(OSError):
                note.unlink(missing_ok=True)
            lock.release()

    def clear(self) -> None:
        """Remove all that is there, but for the lock that is held.

        What makes a dataset of it goes first: at no time can the rest be opened.
        """
        for name in (*_METADATA, f"{OURS}/journal.jsonl"):
            (self.work / name).unlink(missing_ok=True)
        for path in [*self.work.iterdir(), *(self.work / OURS).iterdir()]:
            if path.name in {OURS, "lock", "holder.json"}:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def read(self) -> Journal:
        """Read the journal of the job that has begun here.

        Raises
        ------
        xatmo.errors.JobError
            If it cannot be read.
        """
        try:
            return Journal.read(self.journal)
        except (ValueError, KeyError, TypeError, OSError) as error:
            msg = f"The journal of {self.target} cannot be read: {error}"
            raise JobError(
                msg,
                found=str(self.journal),
                needed="the journal of a job",
                hint="begin again with --overwrite (overwrite=True)",
            ) from error

    def check_foreign(self, *, overwrite: bool) -> None:
        """Refuse to write over what no job has written, unless it may be.

        Raises
        ------
        xatmo.errors.JobError
        """
        if not self.target.exists() or self.begun:
            return
        if self.netcdf and self.target.is_file():
            return  # it may say of which job it is; a new one replaces it at the end
        size = "a folder" if self.target.is_dir() else "a file"
        if not overwrite:
            msg = (
                f"{self.target} is there already, and no job of xatmo is at work on it."
            )
            raise JobError(
                msg,
                found=size,
                needed="a name that is free, or a job that was begun there",
                hint="choose another name, or --overwrite (overwrite=True)",
            )
        if not (self.target.is_dir() and _is_store(self.target)):
            msg = f"{self.target} is not what would be written there: it stays."
            raise JobError(
                msg,
                found=size,
                needed="a netCDF file or a Zarr store, as the suffix says",
                hint="choose another name, or remove it yourself",
            )


def _is_store(folder: Path) -> bool:
    return any((folder / name).exists() for name in (*_METADATA, ".zarray"))


def place_of(job: Job) -> Place:
    """Return the place a job writes to.

    Raises
    ------
    xatmo.errors.OptionError
        If it has no suffix that is known, or is in the way of the input.
    """
    text = job.target.rstrip("/")
    target = Path(text)
    hint = f"xatmo {job.verb} IN {target.stem or 'result'}.zarr"
    if is_remote(job.target):
        msg = "Jobs write to folders that this machine can reach."
        found = job.target
    elif target.suffix not in {".zarr", *_NETCDF}:
        msg = f"The suffix of {job.target!r} does not say what to write."
        found = repr(target.suffix) if target.suffix else "no suffix"
    elif not target.absolute().parent.is_dir():
        msg = "There is no folder to write to."
        found = f"nothing at {target.absolute().parent}"
        hint = f"mkdir -p {target.absolute().parent}"
    else:
        _check_apart(job, target)
        return Place(target)
    needed = "a path that ends in .zarr (Zarr) or .nc (netCDF), in a folder that exists"
    raise OptionError(msg, found=found, needed=needed, hint=hint)


def _check_apart(job: Job, target: Path) -> None:
    """Refuse an output that is an input, is in one, or has one in it."""
    others = [
        job.source,
        *(
            str(job.options[n])
            for n in ("other", "mask")
            if job.options.get(n) is not None
        ),
    ]
    out = target.resolve()
    for text in others:
        if is_remote(text):
            continue
        there = [text] if Path(text).exists() else files_like(text)
        for path in (Path(p).resolve() for p in there):
            if path == out or path in out.parents or out in path.parents:
                msg = "The output lies where the input is."
                raise OptionError(
                    msg,
                    found=f"input {text}, output {target}",
                    needed="an output apart from all inputs",
                    hint=f"xatmo {job.verb} {text} another-name{target.suffix}",
                )


def _held(target: Path, note: Path) -> JobError:
    try:
        said: Mapping[str, Any] = json.loads(note.read_text("utf-8"))
        who = "process {process} on {host}, since {since}".format(**said)
    except (OSError, ValueError, KeyError):
        who = "another process, which has not said who it is"
    msg = f"Another job is writing to {target}."
    return JobError(
        msg,
        found=who,
        needed="one job at a time for one output",
        hint="wait for it to end, or write to another name",
    )
