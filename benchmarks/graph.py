"""What a lazy result carries: bytes of its graph, time to build, loads of weights.

Weights must not travel with the tasks, and every process must load them once. Of a
hundred thousand chunks of one field the graph takes no more than the rules by which
they are joined and cut; written down task by task, which Dask does when the result is
computed, it takes longer.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
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
            *_many(10_000 if quick else 100_000),
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


VERBS: dict[str, Callable[[xr.Dataset], Any]] = {
    "embed()": lambda ds: ds.atmo.embed(),
    'embed(reduce="mean")': lambda ds: ds.atmo.embed(reduce="mean"),
    "distance() to one state": lambda ds: ds.atmo.distance(ds.isel(time=0)),
    "downscale()": lambda ds: ds.atmo.downscale(),
    "infill()": lambda ds: ds[["u10"]].atmo.infill("network"),
    "forecast()": lambda ds: ds.atmo.forecast("6h", members=False),
}


def _many(count: int) -> list[Row]:
    """Build graphs of that many chunks of one field."""
    ds, few = _zeros(count), _zeros(32)
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, call in VERBS.items():
            call(few)  # imports what it needs
            start = time.process_time()
            graph = call(ds).__dask_graph__()
            seconds = time.process_time() - start
            case = f"{name} of {count:,} chunks"
            size = _megabytes(graph)
            rows.append(Row(f"building {case}", seconds, goal=20, unit="s"))
            rows.append(Row(f"pickled graph of {case}", size, goal=50, unit="MB"))
    return rows


def _zeros(count: int) -> xr.Dataset:
    """Lazy winds of 1 degree without values, one time in a chunk."""
    import dask.array as da

    lazy = da.zeros((count, 181, 360), chunks=(1, 181, 360), dtype="f4")
    dims = ("time", "latitude", "longitude")
    step = np.timedelta64(6, "h")
    return xr.Dataset(
        {name: (dims, lazy, {"units": "m s-1"}) for name in ("u10", "v10")},
        {
            "time": np.datetime64("1900-01-01", "ns") + step * np.arange(count),
            "latitude": np.arange(90.0, -91, -1),
            "longitude": np.arange(0.0, 360),
        },
    )


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
