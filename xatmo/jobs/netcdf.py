"""The netCDF file of a job, made of its store when all regions are there."""

from __future__ import annotations

import warnings
from pathlib import Path

import dask
import xarray as xr

from xatmo.errors import OptionError
from xatmo.jobs.plan import Layout
from xatmo.zoo.files import draft

__all__ = ["ID", "id_in", "write_netcdf"]

ID = "xatmo_job"  # attribute that says of which job a file is


def write_netcdf(store: Path, target: Path, layout: Layout) -> None:
    """Copy a finished store into a file, which appears when it is complete.

    Region by region, so that memory holds a few of them at a time.

    Parameters
    ----------
    store : Path
        Zarr.
    target : Path
    layout : Layout
        Its chunks become those of the file.
    """
    for left in target.parent.glob(f".{target.name}.*.draft"):
        left.unlink(missing_ok=True)  # of a process that was killed
    with xr.open_zarr(store, chunks={layout.dim: layout.step}) as ds:
        ds = ds.drop_encoding()
        # Sizes, since a file without limits along time is smaller and read faster.
        encoding = {
            str(name): {"chunksizes": layout.chunk_of(var.dims), "zlib": False}
            for name, var in ds.data_vars.items()
            if var.dims and set(var.dims) <= set(layout.chunks)
        }
        with (
            draft(target) as unfinished,
            # netCDF takes one block at a time: more workers would only fill memory.
            dask.config.set(scheduler="synchronous"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            ds.to_netcdf(unfinished, engine="netcdf4", encoding=encoding)


def id_in(path: Path) -> str | None:
    """Return of which job a file is, None if it does not say.

    Raises
    ------
    xatmo.errors.OptionError
        If it is no netCDF file.
    """
    try:
        with xr.open_dataset(path, engine="netcdf4", decode_times=False) as ds:
            said = ds.attrs.get(ID)
    except (OSError, ValueError) as error:
        msg = f"{path} is there already, and is no netCDF file."
        raise OptionError(
            msg,
            found=str(error).splitlines()[0],
            needed="a name that is free",
            hint="choose another name, or --overwrite (overwrite=True)",
        ) from error
    return None if said is None else str(said)
