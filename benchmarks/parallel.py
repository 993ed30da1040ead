"""Two processes over one, and data from a Zarr store over data in memory.

The same fields are embedded by one and by two workers of dask.distributed, of one
thread each, that are started and warm before the clock runs. And they are embedded from
a Zarr store, in its chunks, and from memory in the same chunks, by the same scheduler.

Cores that share a socket are not twice one core: beside it stands what two processes
reach that have nothing in common, each running the bare network by itself.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import xarray as xr

from benchmarks.fields import wind_store
from benchmarks.rows import Row, best_of, best_times, report


def measure(quick: bool) -> list[Row]:
    """Two ratios, each within one run."""
    times, repeats = (64, 2) if quick else (256, 5)
    with tempfile.TemporaryDirectory() as folder:
        store = wind_store(Path(folder), times, 16)
        ds = xr.open_zarr(store, chunks={}, consolidated=False)
        return [*processes(ds, repeats), zarr(ds, repeats)]


def processes(ds: xr.Dataset, repeats: int) -> list[Row]:
    """How much faster two processes are by the clock; and of what could be."""
    one, two = _seconds(ds, (1, 2), repeats)
    alone, beside = (_bare_seconds(n, repeats) for n in (1, 2))
    could = 2 * alone / beside
    case = f"{ds.sizes['time']} fields of 181 x 360"
    return [
        Row(
            f"speed of two processes over that of one, {case}",
            one / two,
            goal=1.8,
            higher=True,
            detail=f"{one:.2f} s and {two:.2f} s, from Zarr",
        ),
        Row(
            "of what two processes reach that have nothing in common",
            one / two / could,
            goal=0.9,
            higher=True,
            detail=f"those: {could:.2f} times one; the bare network takes "
            f"{alone:.2f} s alone, {beside:.2f} s beside another",
        ),
    ]


def _bare_seconds(count: int, repeats: int) -> float:
    """How long the bare network takes in each of so many processes at a time."""
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(count), context.Queue()
    arguments = (barrier, told, repeats)
    running = [context.Process(target=_bare, args=arguments) for _ in range(count)]
    for process in running:
        process.start()
    seconds = [told.get() for _ in running]
    for process in running:
        process.join()
    return max(seconds)


def _bare(barrier: Barrier, told: Any, repeats: int) -> None:
    import torch

    from benchmarks.fields import global_degree
    from benchmarks.overhead import bare_loop

    torch.set_num_threads(1)
    loop = bare_loop(global_degree(32))
    loop()
    best = float("inf")
    for _ in range(repeats):
        barrier.wait()  # none goes on while another rests
        best = min(best, _timed(loop))
    told.put(best)


def _seconds(ds: xr.Dataset, counts: tuple[int, ...], repeats: int) -> list[float]:
    """Least seconds of each number of workers; they take turns, the others rest."""
    from distributed import Client, LocalCluster

    options = {"threads_per_worker": 1, "dashboard_address": None}
    with ExitStack() as stack:
        clients = []
        for count in counts:
            cluster = stack.enter_context(LocalCluster(n_workers=count, **options))
            clients.append(stack.enter_context(Client(cluster, set_as_default=False)))
        embedding = ds.atmo.embed(reduce="mean")
        cases = {
            str(client.id): lambda client=client: client.compute(embedding).result()
            for client in clients
        }
        return list(best_of(cases, repeats).values())


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def zarr(ds: xr.Dataset, repeats: int) -> Row:
    """How much longer it takes from a store than from memory, in CPU time."""
    held = ds.compute().chunk(ds.chunksizes)
    cases = {
        name: lambda data=data: data.atmo.embed(reduce="mean").compute(
            scheduler="threads"
        )
        for name, data in (("memory", held), ("zarr", ds))
    }
    found = best_times(cases, repeats)
    cpu, wall = (found["zarr"][i] / found["memory"][i] for i in (0, 1))
    return Row(
        f"time from Zarr over that from memory, {ds.sizes['time']} fields of 181 x 360",
        cpu,
        goal=1.2,
        detail=f"CPU {found['zarr'][0]:.2f} and {found['memory'][0]:.2f} s; by the "
        f"clock {wall:.3f}",
    )


if __name__ == "__main__":
    import xatmo  # noqa: F401 - gives ds its accessor

    report(measure)
