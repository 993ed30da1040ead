"""The Zarr store that a job writes, region by region.

While a job runs, its store has arrays and a journal, but not the metadata of the group
that makes a dataset of them: these wait in the folder of the journal, and come as the
last thing. So what is not finished cannot be opened, and what can be opened is whole.
That one step, a rename, is all there is to get right; a copy under another name would
have to be moved as a whole, which not every file system does at once.

What a region writes are whole files, chunks or shards, each of which appears at once
under its name. They are looked at and brought to disk before the journal says that a
region is done: a worker that writes to a disk of its own is found out.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xatmo.errors import JobError, MissingDependencyError
from xatmo.jobs.inputs import OURS
from xatmo.jobs.plan import Layout

__all__ = ["FAILED", "Store", "check_zarr", "create", "sync", "write_whole"]

FAILED = "xatmo_failed"  # attribute that lists the regions without numbers
_ROOT = "root.json"  # metadata of the group while the job runs


def check_zarr() -> None:
    """Refuse versions of Zarr that do not know its third format.

    Raises
    ------
    xatmo.errors.MissingDependencyError
    """
    import zarr

    if int(zarr.__version__.split(".")[0]) < 3:
        msg = "Batch jobs write the third format of Zarr."
        raise MissingDependencyError(
            msg,
            found=f"zarr {zarr.__version__}",
            needed="zarr 3 or newer",
            hint='pip install "zarr>=3"',
        )


def create(
    path: Path, result: xr.Dataset, layout: Layout, attrs: Mapping[str, Any]
) -> None:
    """Write metadata and coordinates of a store: all but the metadata of the group.

    Parameters
    ----------
    path : Path
        Folder in which there is that of the journal, and nothing else.
    result : Dataset
        Lazy variables get arrays without chunks in them.
    layout : Layout
    attrs : mapping
        Of the dataset, beside those of the result.
    """
    import dask.array as da

    # Where nobody looks for it: for a moment it could be opened.
    new = path / OURS / "new"
    template, encoding = result.assign_attrs(attrs), {}
    for name, var in result.data_vars.items():
        if var.chunks is None:
            continue
        # One chunk: what was cut would have to be listed, and is not computed anyway.
        empty = da.empty(var.shape, dtype=var.dtype, chunks=-1)
        template[name] = (var.dims, empty, var.attrs)
        encoding[name] = {"chunks": layout.chunk_of(var.dims), "fill_value": _fill(var)}
        if layout.shards:
            encoding[name]["shards"] = layout.file_of(var.dims)
    with warnings.catch_warnings():
        # Of consolidated metadata and texts, which Zarr has not standardised yet.
        warnings.simplefilter("ignore")
        template.to_zarr(new, compute=False, zarr_format=3, encoding=encoding)
    ours = path / OURS
    for found in list(new.iterdir()):
        os.replace(
            found, ours / _ROOT if found.name == "zarr.json" else path / found.name
        )
    new.rmdir()
    # A group of its own: whoever lists the store finds nothing unknown in it.
    about = {"comment": "journal of the batch job of xatmo that writes this store"}
    group = {"zarr_format": 3, "node_type": "group", "attributes": about}
    write_whole(ours / "zarr.json", json.dumps(group))
    for found in path.rglob("*"):
        sync(found)


def _fill(var: xr.DataArray) -> Any:
    """What a cell reads as that was not computed: no number that a verb gives."""
    kind = var.dtype.kind
    return np.nan if kind == "f" else np.iinfo(var.dtype).max


def write_whole(path: Path, text: str) -> None:
    """Write a small file that appears at once, and stays."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


class Store:
    """Arrays of a job to write to.

    Parameters
    ----------
    path : Path
        Folder of the store.
    result : Dataset
        What is written.
    layout : Layout
    """

    def __init__(self, path: Path, result: xr.Dataset, layout: Layout) -> None:
        import zarr

        # Workers may have been started in another folder.
        self.path, self.layout = path.resolve(), layout
        self.variables = {
            str(n): v.variable for n, v in result.data_vars.items() if v.chunks
        }
        # What holds nothing but NaN is written as well: a file that is not there has
        # not been computed.
        config = {"write_empty_chunks": True}
        self.arrays = {
            name: zarr.open_array(str(self.path / name), mode="r+", config=config)
            for name in self.variables
        }

    @property
    def ours(self) -> Path:
        """Folder of the journal."""
        return self.path / OURS

    @property
    def finished(self) -> bool:
        """Whether the store can be opened."""
        return (self.path / "zarr.json").exists()

    def files(self, region: int) -> Iterator[Path]:
        """Paths of the files that a region consists of."""
        for name, var in self.variables.items():
            metadata = self.arrays[name].metadata
            for numbers in self.layout.files(var, region):
                yield self.path / name / metadata.encode_chunk_key(numbers)

    def secure(self, region: int) -> int:
        """Bring the files of a region to disk, and return their size in bytes.

        Raises
        ------
        xatmo.errors.JobError
            If one is not there.
        """
        size, folders = 0, set()
        for file in self.files(region):
            try:
                sync(file)
                size += file.stat().st_size
            except FileNotFoundError as error:
                raise _elsewhere(file) from error
            folders.add(file.parent)
        for folder in folders:
            sync(folder)
        return size

    def size(self, region: int) -> int:
        """Return the size of a region's files in bytes, -1 if one is not there."""
        try:
            return sum(os.stat(file).st_size for file in self.files(region))
        except FileNotFoundError:
            return -1

    def clean(self) -> None:
        """Remove what writers left that were killed."""
        for file in self.path.rglob("*.partial"):
            file.unlink(missing_ok=True)

    def remove(self, region: int) -> None:
        """Remove what there may be of a region: it reads as not computed."""
        for file in self.files(region):
            file.unlink(missing_ok=True)

    def finish(self, failed: Mapping[str, Any] | None) -> None:
        """Make a dataset of the arrays, and say in its attributes what is missing."""
        text = (self.ours / _ROOT).read_text("utf-8")
        root = json.loads(text)
        root["attributes"].pop(FAILED, None)
        if failed:
            root["attributes"][FAILED] = json.dumps(failed, ensure_ascii=False)
        write_whole(self.path / "zarr.json", json.dumps(root, indent=2))


def _elsewhere(file: Path) -> JobError:
    msg = "A worker has computed a region, but its data are not here."
    return JobError(
        msg,
        found=f"no file {file}",
        needed="an output folder that all workers and this machine share",
        hint="write to a folder of the shared file system, then run the command again",
    )
