"""Embed winds on the cores of this machine: python local_cluster.py IN OUT.zarr."""

import sys

import xarray as xr

import xatmo


def main(source=None, target="embedding.zarr", workers=None, memory=None):
    """Write the embedding of a file, or of the sample."""
    if source is None:
        ds = xatmo.open_sample(chunks={"time": 8})
    else:
        ds = xr.open_dataset(source, chunks={"time": 32})
    z = ds.atmo.embed()
    place = xatmo.cluster.scheduler("local-cluster", workers=workers, memory=memory)
    with place as opened:
        print(opened)  # with the address of the dashboard
        z.to_dataset().drop_encoding().to_zarr(target, mode="w")


if __name__ == "__main__":  # each worker imports this file
    main(*sys.argv[1:])
