"""Open the files that commands are given: one file, a Zarr store, or several files."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from xatmo.errors import OptionError

__all__ = ["files_like", "is_remote", "open_file"]

_GRIB = {".grib", ".grb", ".grib2", ".grb2"}


def open_file(
    path: str | Path,
    chunks: Mapping[str, Any] | None = None,
    *,
    command: str = "xatmo demo path/to/era5.nc, or xatmo demo alone for the sample",
) -> xr.Dataset:
    """Open any file or Zarr store that xarray reads, lazily.

    Parameters
    ----------
    path : str or Path
        Of a netCDF or GRIB file or a Zarr store; the address of a Zarr store
        (``"gs://..."``); or a pattern such as ``"era5-*.nc"``, whose files follow each
        other along their coordinates.
    chunks : mapping, optional
        Dask chunks, as for ``xarray.open_dataset``; those of the file if not given.
    command : str
        The call that the error proposes if there is no such file.

    Returns
    -------
    Dataset

    Raises
    ------
    xatmo.errors.OptionError
        If there is no such file, or no engine reads it.
    """
    text, chunks = str(path), dict(chunks or {})
    there = is_remote(text) or Path(text).exists()
    several = [] if there else files_like(text)
    if not (there or several):
        raise _nothing(text, command)
    try:
        with warnings.catch_warnings():
            # Whoever asks for other chunks than those of the file has a reason.
            warnings.filterwarnings("ignore", message="The specified chunks separate")
            warnings.filterwarnings("ignore", message="Failed to open Zarr store with")
            if several:
                return xr.open_mfdataset(
                    several, chunks=chunks, combine="by_coords", data_vars="minimal"
                )
            return xr.open_dataset(text, chunks=chunks, **_options(text))
    except (ValueError, OSError, EOFError, ImportError) as error:
        raise _unreadable(text, error) from error


def files_like(pattern: str) -> list[str]:
    """Return the files that a pattern such as ``"era5-*.nc"`` stands for, sorted."""
    return sorted(glob.glob(pattern)) if glob.has_magic(pattern) else []


def is_remote(path: str | Path) -> bool:
    """Whether it is an address, and not a file of this machine."""
    return "://" in str(path)


def _options(text: str) -> dict[str, Any]:
    if is_remote(text) or Path(text).is_dir():
        return {"engine": "zarr"}
    if Path(text).suffix in _GRIB:
        # No index file beside the data: the folder may not be ours to write to.
        return {"engine": "cfgrib", "backend_kwargs": {"indexpath": ""}}
    return {}


def _nothing(text: str, command: str) -> OptionError:
    pattern = glob.has_magic(text)
    msg = (
        f"No file is called like {text!r}."
        if pattern
        else f"There is no file {text!r}."
    )
    return OptionError(
        msg,
        found="nothing at that path",
        needed="a netCDF or GRIB file, or a Zarr store",
        hint=command,
    )


def _unreadable(text: str, error: Exception) -> OptionError:
    path = Path(text)
    said = (str(error).splitlines() or [type(error).__name__])[0]
    size = f", {path.stat().st_size} bytes" if path.is_file() else ""
    msg = f"xarray cannot open {text!r}: {said}"
    return OptionError(
        msg,
        found=f"{path.name}{size}",
        needed="netCDF, Zarr, or GRIB (with cfgrib installed)",
        hint=f"xr.open_dataset({text!r}) shows what xarray says; "
        "pip install cfgrib for GRIB",
    )
