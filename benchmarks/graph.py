"""What a lazy embedding carries: bytes of its graph, time to build, loads of weights.

Weights must not travel with the tasks, and every process must load them once.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import cloudpickle
import dask
import xarray as xr

from benchmarks.fields import patch_sized, wind_store
from benchmarks.rows import Row, report

CHUNKS = 1000


def measure(quick: bool) -> list[Row]:
    """Weigh a graph of 1,000 chunks, then count loads in threads and processes."""
    with tempfile.TemporaryDirectory() as folder:
        rows = _graph(Path(folder))
    return [*rows, *_loads(threads=16, processes=2)]


def _graph(folder: Path) -> list[Row]:
    import xatmo  # noqa: F401 - gives ds its accessor

    path = wind_store(folder, CHUNKS, 1, empty=True)
    ds = xr.open_zarr(path, chunks={"time": 1})
    ds.isel(time=slice(2)).atmo.embed()  # imports what it needs
    start = time.perf_counter()
    embedding = ds.atmo.embed()
    seconds = time.perf_counter() - start
    size, optimized = _megabytes(embedding), _megabytes(*dask.optimize(embedding))
    opened = _megabytes(ds["u10"], ds["v10"])
    tasks = len(embedding.__dask_graph__())
    case = f"embed() of {CHUNKS:,} chunks, from winds"
    return [
        Row(
            f"pickled graph of {case}",
            size,
            goal=1,
            unit="MB",
            detail=f"{tasks:,} tasks; opening the store alone: {opened:.2f} MB; "
            f"as optimised for the workers: {optimized:.2f} MB",
        ),
        Row(f"building the graph of {case}", seconds, unit="s"),
    ]


def _megabytes(*arrays: xr.DataArray) -> float:
    """Size of the graphs as a scheduler gets them."""
    return sum(len(cloudpickle.dumps(a.__dask_graph__())) for a in arrays) / 1e6


def _loads(threads: int, processes: int) -> list[Row]:
    from distributed import Client, LocalCluster

    from xatmo.engine import worker

    embedding = patch_sized(256).chunk(time=1).atmo.embed(level="10 m")
    with dask.config.set(scheduler="threads", num_workers=threads):
        embedding.compute()
    rows = [_load_row(f"{threads} threads of one process", [worker.load_count()])]
    cluster = LocalCluster(
        n_workers=processes, threads_per_worker=2, dashboard_address=None
    )
    with cluster, Client(cluster) as client:
        embedding.compute()
        counts = list(client.run(worker.load_count).values())
    return [*rows, _load_row(f"{processes} processes of 2 threads", counts)]


def _load_row(where: str, counts: list[int]) -> Row:
    return Row(
        f"loads of weights per process, {where}",
        max(counts),
        goal=1,
        detail=f"counted {', '.join(map(str, counts))}",
    )


if __name__ == "__main__":
    report(measure)
