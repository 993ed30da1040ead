"""Embed winds on all GPUs of a machine: python cuda.py IN OUT.zarr.

Needs ``pip install dask-cuda`` and torch for CUDA.
"""

import sys

import dask
import xarray as xr
from dask_cuda import LocalCUDACluster

import xatmo


def main(source=None, target="embedding.zarr"):
    """Write the embedding of a file, or of the sample."""
    if source is None:
        ds = xatmo.open_sample(chunks={"time": 8})
    else:
        ds = xr.open_dataset(source, chunks={"time": 256})
    with xatmo.set_options(device="cuda"):  # an error rather than hours on the CPU
        z = ds.atmo.embed()
    dask.config.set(xatmo.cluster.settings())
    # One worker for each GPU, which sees no other one. Of its four threads one computes
    # while the others read.
    with (
        LocalCUDACluster(threads_per_worker=4) as cluster,
        xatmo.cluster.scheduler(cluster.scheduler_address) as place,
    ):
        print(place)
        z.to_dataset().drop_encoding().to_zarr(target, mode="w")


if __name__ == "__main__":  # each worker imports this file
    main(*sys.argv[1:])
