"""What a lazy result carries: bytes of its graph, time to build, loads of weights.

Weights must not travel with the tasks, and every process must load them once.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import xarray as xr

from benchmarks.fields import wind_store
from benchmarks.rows import Row, report

CHUNKS = 1000


def measure(quick: bool) -> list[Row]:
    """Weigh a graph of 1,000 chunks, then count loads in threads and processes."""
    times = 16 if quick else 64
    with tempfile.TemporaryDirectory() as folder:
        return [
            *_graph(Path(folder)),
            *_loads(Path(folder), times, threads=16, processes=2),
        ]


def _graph(folder: Path) -> list[Row]:
    import xatmo  # noqa: F401 - gives ds its accessor

    path = wind_store(folder, CHUNKS, 1, empty=True)
    ds = xr.open_zarr(path, chunks={"time": 1}, consolidated=False)
    of_store = _megabytes(ds[["u10", "v10"]].__dask_graph__())
    return [
        *_graph_of(ds, "embed()", lambda ds: ds.atmo.embed(), of_store),
        *_graph_of(ds, "infill()", lambda ds: ds.atmo.infill("network"), of_store),
    ]


def _graph_of(
    ds: xr.Dataset, verb: str, call: Callable[[xr.Dataset], Any], of_store: float
) -> list[Row]:
    call(ds.isel(time=slice(2)))  # imports what it needs
    start = time.perf_counter()
    graph = call(ds).__dask_graph__()
    seconds = time.perf_counter() - start
    # Before anything looks at single tasks, which would be kept in the graph.
    size = _megabytes(graph)
    detail = (
        f"{of_store:.2f} MB of it for opening the store; spelled out, {len(graph):,} "
        f"tasks of {_megabytes(dict(graph)):.2f} MB"
    )
    case = f"{verb} of {CHUNKS:,} chunks, from winds"
    return [
        Row(f"pickled graph of {case}", size, goal=1, unit="MB", detail=detail),
        Row(f"building the graph of {case}", seconds, unit="s"),
    ]


def _megabytes(graph: object) -> float:
    return len(cloudpickle.dumps(graph)) / 1e6


def _loads(folder: Path, times: int, threads: int, processes: int) -> list[Row]:
    from distributed import Client, LocalCluster

    from xatmo.engine import worker

    path = wind_store(folder, times, 1)
    ds = xr.open_zarr(path, chunks={"time": 1}, consolidated=False)
    embedding = ds.atmo.embed()
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
