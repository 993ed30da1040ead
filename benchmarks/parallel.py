"""Two processes over one, and data from a Zarr store over data in memory.

The same fields are embedded by one and by two workers of dask.distributed, of one
thread each, that are started and warm before the clock runs. And they are embedded from
a Zarr store, in its chunks, and from memory in the same chunks, by the same scheduler.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import xarray as xr

from benchmarks.fields import wind_store
from benchmarks.rows import Row, best_times, report


def measure(quick: bool) -> list[Row]:
    """Two ratios, each within one run."""
    times, repeats = (64, 2) if quick else (256, 5)
    with tempfile.TemporaryDirectory() as folder:
        store = wind_store(Path(folder), times, 16)
        ds = xr.open_zarr(store, chunks={}, consolidated=False)
        return [processes(ds, repeats), zarr(ds, repeats)]


def processes(ds: xr.Dataset, repeats: int) -> Row:
    """How much faster two processes are, by the clock."""
    one, two = (_seconds(ds, n, repeats) for n in (1, 2))
    return Row(
        f"speed of two processes over that of one, {ds.sizes['time']} fields of "
        "181 x 360",
        one / two,
        goal=1.8,
        higher=True,
        detail=f"{one:.2f} s and {two:.2f} s, from Zarr",
    )


def _seconds(ds: xr.Dataset, workers: int, repeats: int) -> float:
    from distributed import Client, LocalCluster

    options = {"threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(n_workers=workers, **options) as cluster, Client(cluster):
        embedding = ds.atmo.embed(reduce="mean")
        embedding.compute()  # torch and weights are there
        return min(_timed(embedding.compute) for _ in range(repeats))


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
