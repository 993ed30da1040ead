"""The input of a job: opened lazily, and known again by its fingerprint."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from xatmo.errors import JobError, OptionError
from xatmo.jobs.plan import Job
from xatmo.opening import files_like, is_remote, open_file

__all__ = ["Watch", "fingerprint", "open_other", "open_source"]

OURS = ".xatmo"  # folder of a job in its store

# Looking at an input again may take this share of the time, and is of no use sooner.
_SHARE, _SOONEST = 0.05, 10.0


def open_source(job: Job, cuts: Sequence[int] = ()) -> xr.Dataset:
    """Open the input of a job: the times that were asked for.

    Parameters
    ----------
    job : Job
    cuts : sequence of int
        Lengths of the chunks along time; those of the file if not given.

    Raises
    ------
    xatmo.errors.OptionError
        If there is no such file, or there are no such times.
    xatmo.errors.JobError
        If it is the unfinished output of another job.
    """
    _check_finished(job.source)
    ds = open_file(job.source, command=f"xatmo {job.verb} path/to/era5.nc OUT")
    window = _window(job, ds)
    name = time_of(ds)
    if name is None or window is None:
        return ds
    if not cuts:
        return ds.isel({name: window})
    if not (is_remote(job.source) or Path(job.source).exists()):
        return ds.isel({name: window}).chunk({name: tuple(cuts)})  # several files
    outer = (window.start, *cuts, ds.sizes[name] - window.stop)
    chunks = {name: tuple(size for size in outer if size)}
    return open_file(job.source, chunks).isel({name: window})


def _window(job: Job, ds: xr.Dataset) -> slice | None:
    """Numbers of the times that were asked for."""
    name = time_of(ds)
    if job.start is None and job.end is None:
        return None if name is None else slice(0, ds.sizes[name])
    if name is None or name not in ds.indexes:
        msg = "There is no time axis to choose from."
        raise OptionError(
            msg,
            found=", ".join(f"{d} ({n})" for d, n in ds.sizes.items()),
            needed="dates, for --start and --end",
            hint=f"xatmo {job.verb} without them",
        )
    try:
        chosen = ds.indexes[name].slice_indexer(job.start, job.end)
        numbers = range(ds.sizes[name])[chosen]
    except (KeyError, ValueError, TypeError) as error:
        raise _no_times(job, ds, name) from error
    if not numbers:
        raise _no_times(job, ds, name)
    return slice(numbers.start, numbers.stop)


def _no_times(job: Job, ds: xr.Dataset, name: str) -> OptionError:
    first, last = (str(ds[name].values[i])[:16] for i in (0, -1))
    msg = "There are no times between --start and --end."
    return OptionError(
        msg,
        found=f"start {job.start}, end {job.end}; {name!r} from {first} to {last}",
        needed="dates that ascend, and at least one of them between the two",
        hint=f"--start {first} --end {last}",
    )


def open_other(path: str, job: Job, option: str) -> xr.Dataset:
    """Open a second input: a reference, or a mask."""
    _check_finished(path)
    other = open_file(path, command=f"xatmo {job.verb} IN OUT --{option} FILE")
    name = time_of(other)
    # One state: it is compared with every time, not with its own only.
    alone = name is not None and other.sizes[name] == 1
    return other.squeeze(name, drop=True) if alone else other


def time_of(ds: xr.Dataset) -> str | None:
    """Return the dimension of the times, None if there is none."""
    for name, index in ds.indexes.items():
        if index.dtype.kind == "M" or type(index).__name__ == "CFTimeIndex":
            return str(name)
    return next((n for n in ("time", "valid_time") if n in ds.dims), None)


def _check_finished(path: str) -> None:
    """Refuse the store of a job that is not done yet."""
    folder = Path(path)
    if (folder / OURS).is_dir() and not (folder / "zarr.json").exists():
        msg = f"{path} is the output of a job that is not finished."
        raise JobError(
            msg,
            found="its journal, and no metadata yet",
            needed="a finished store",
            hint="run the command that writes it once more: it goes on",
        )


def fingerprint(path: str, ds: xr.Dataset) -> dict[str, Any]:
    """Return what tells an input from what it would be after a change.

    Parameters
    ----------
    path : str
        Of a file, a store, or several files.
    ds : Dataset
        As it was opened.

    Returns
    -------
    dict
        ``variables``: names, shapes and types; ``times``: the first, the last, how
        many, and their sum; and of files ``files``, ``bytes``, ``newest`` and ``sum``,
        which is over the names, sizes and dates of all of them. What stands in them is
        not read, which would take as long as the job.
    """
    found = {"variables": _variables(ds), "times": _times(ds)}
    return found if is_remote(path) else {**found, **_files(path)}


def _variables(ds: xr.Dataset) -> str:
    said = [f"{n} {v.dtype} {dict(v.sizes)}" for n, v in sorted(ds.variables.items())]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]


def _times(ds: xr.Dataset) -> str:
    name = time_of(ds)
    if name is None or name not in ds.coords:
        return "none"
    values = ds[name].values
    digest = hashlib.sha256(repr(values.tolist()).encode()).hexdigest()[:16]
    return f"{len(values)} from {values[0]} to {values[-1]}, sum {digest}"


def _files(path: str) -> dict[str, Any]:
    sums, count, size, newest = hashlib.sha256(), 0, 0, 0
    several = [] if Path(path).exists() else files_like(path)
    for root in map(Path, several or [path]):
        for name, status in _walk(root):
            count, size = count + 1, size + status.st_size
            newest = max(newest, status.st_mtime_ns)
            said = f"{root.name}/{name} {status.st_size} {status.st_mtime_ns}\n"
            sums.update(said.encode("utf-8", "surrogateescape"))
    date = dt.datetime.fromtimestamp(newest / 1e9, dt.UTC).isoformat(" ", "seconds")
    return {
        "files": count,
        "bytes": size,
        "newest": date,
        "sum": sums.hexdigest()[:16],
    }


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """All files below a folder in the order of their names; a file alone is its own."""
    if not root.is_dir():
        yield "", root.stat()
        return
    for folder, below, names in os.walk(root):
        # The journal of the job that wrote this store is none of its data.
        below[:] = sorted(set(below) - {OURS})
        for name in sorted(names):
            file = Path(folder, name)
            yield str(file.relative_to(root)), file.stat()


class Watch:
    """Looks from time to time whether inputs are still what they were.

    Parameters
    ----------
    before : mapping of str to dict
        Fingerprint of each input by its path.
    """

    def __init__(self, before: Mapping[str, Mapping[str, Any]]) -> None:
        self._before = before
        self._last, self._cost = time.monotonic(), 0.0

    def changes(self, *, now: bool = False) -> str:
        """Return what has changed; nothing if it is too early to look again."""
        start = time.monotonic()
        if not now and start - self._last < max(_SOONEST, self._cost / _SHARE):
            return ""
        found = self._changes()
        self._last = time.monotonic()
        self._cost = self._last - start
        return found

    def _changes(self) -> str:
        said = []
        for path, before in self._before.items():
            if is_remote(path):
                continue
            try:
                after = _files(path)
            except OSError as error:
                said.append(f"{path}: {error}")
                continue
            said += [
                f"{path}: {name} {before[name]}, now {after[name]}"
                for name in after
                if after[name] != before[name]
            ]
        return "; ".join(said)
