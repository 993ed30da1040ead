"""Embed winds on nodes of a SLURM cluster: python slurm.py --queue NAME IN OUT.zarr.

Start it on a login node, or in a small job that lasts as long as the run: the scheduler
runs in it. Needs ``pip install dask-jobqueue``.
"""

import argparse

import dask
import xarray as xr
from dask_jobqueue import SLURMCluster

import xatmo


def options():
    """What to run, and where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", help="a file or store; else the sample")
    parser.add_argument("target", nargs="?", default="embedding.zarr")
    parser.add_argument("--model", default="atmodist-small")
    parser.add_argument("--queue")
    parser.add_argument("--account")
    parser.add_argument("--jobs", type=int, default=4, help="jobs in the queue")
    parser.add_argument("--cores", type=int, default=8, help="cores of a job")
    parser.add_argument("--processes", type=int, default=2, help="workers in a job")
    parser.add_argument("--memory", default="32GB", help="of a job")
    parser.add_argument("--walltime", default="04:00:00")
    parser.add_argument("--lifetime", default="225m", help="a little less than that")
    parser.add_argument("--scratch", default="$TMPDIR", help="a disk of the node")
    parser.add_argument("--interface", help="such as ib0; see `ip link`")
    return parser.parse_args()


def open_cluster(chosen):
    """Return a cluster that has no jobs yet."""
    threads = chosen.cores // chosen.processes
    # In the process of the scheduler, and for as long as it runs: not in a block.
    dask.config.set(xatmo.cluster.settings(torch_threads=threads))
    return SLURMCluster(
        queue=chosen.queue,
        account=chosen.account,
        cores=chosen.processes,  # threads of Dask in a job: one for each worker,
        job_cpu=chosen.cores,  # whose forward pass has several cores
        processes=chosen.processes,
        memory=chosen.memory,
        walltime=chosen.walltime,
        interface=chosen.interface,
        local_directory=chosen.scratch,
        log_directory="logs",
        death_timeout=300,
        job_script_prologue=[
            f"export OMP_NUM_THREADS={threads}",
            f"export MKL_NUM_THREADS={threads}",
        ],
        # Workers hand over what they have before the queue ends them, and not all at
        # once.
        worker_extra_args=["--lifetime", chosen.lifetime, "--lifetime-stagger", "5m"],
        scheduler_options={"dashboard_address": ":0"},
    )


def main():
    """Write the embedding of a file, or of the sample."""
    chosen = options()
    if chosen.source is None:
        ds = xatmo.open_sample(chunks={"time": 8})
    else:
        ds = xr.open_dataset(chosen.source, chunks={"time": 32})
    z = ds.atmo.embed(chosen.model)
    with open_cluster(chosen) as cluster:
        print(cluster.job_script())
        # So many jobs, always: one that ends or is lost is replaced.
        cluster.adapt(minimum_jobs=chosen.jobs, maximum_jobs=chosen.jobs)
        with xatmo.cluster.scheduler(cluster.scheduler_address) as place:
            print(place)
            # Compute nodes have no internet and may have no common home.
            xatmo.cluster.send_models(place.client, chosen.model)
            z.to_dataset().drop_encoding().to_zarr(chosen.target, mode="w")


if __name__ == "__main__":
    main()
