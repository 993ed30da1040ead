"""Twenty gigabytes through a worker of two: its memory while it embeds them.

    python -m benchmarks.big [--gigabytes 20] [--chunk 64] [--layer block2]
    python -m benchmarks.run --only big

Fields of 181 x 360 points in double precision are made lazily, embedded and averaged,
and the result is written to a Zarr store, by one worker of dask.distributed that is
limited to 2 GiB and has one thread. Its memory is looked at ten times a second. A run
takes as long as the network does: half an hour at most, which is why
``benchmarks.run`` leaves it out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import xarray as xr

from benchmarks.rows import Row, markdown

LIMIT = 2 * 2**30


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="rows for benchmarks.run")
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--layer", default="block2")
    found = parser.parse_args()
    rows = measure(found.gigabytes, found.chunk, found.layer)
    print(json.dumps([asdict(r) for r in rows]) if found.json else markdown(rows))


def measure(gigabytes: float, chunk: int, layer: str | None = None) -> list[Row]:
    """Embed that many, and return what the worker needed."""
    from distributed import Client, LocalCluster

    import xatmo
    from xatmo import memory_estimate

    ds = random_winds(gigabytes, chunk)
    model = xatmo.load_model(capability="embed")
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=1, memory_limit=LIMIT, dashboard_address=None
    )
    with cluster, Client(cluster) as client, tempfile.TemporaryDirectory() as folder:
        (process,) = (n.process.pid for n in cluster.workers.values())
        with Watched(process) as seen:
            start = time.perf_counter()
            mean = ds.atmo.embed(layer=layer, reduce="mean")
            mean.to_dataset().to_zarr(Path(folder) / "mean.zarr", consolidated=False)
            seconds = time.perf_counter() - start
        written = xr.open_zarr(Path(folder) / "mean.zarr", consolidated=False)
        assert bool(np.isfinite(written["embedding"]).all())
        told = client.run_on_scheduler(_deaths)
    fields = ds.sizes["time"]
    case = f"{ds.nbytes / 1e9:.1f} GB, {fields:,} fields in chunks of {chunk}"
    detail = (
        f"{model.name}, layer {layer or 'default'}: {seconds:,.0f} s; median "
        f"{np.median(seen.rss):,.0f} MB, {len(seen.rss):,} looks; workers lost: {told}"
    )
    peak = max(seen.rss)
    print(case, peak, detail, file=sys.stderr)  # what takes so long is not to be lost
    predicted = memory_estimate(ds, "embed", threads=1, layer=layer, reduce="mean")
    return [
        Row(f"peak of the worker, {case}", peak, LIMIT / 1e6, unit="MB", detail=detail),
        Row("of what was predicted", peak * 1e6 / predicted.peak, detail="see memory"),
    ]


def random_winds(gigabytes: float, chunk: int) -> xr.Dataset:
    """Winds of so many gigabytes, which exist when they are asked for."""
    import dask.array as da

    latitude, longitude = np.arange(90.0, -91, -1), np.arange(0.0, 360)
    plane = latitude.size * longitude.size * 8 * 2
    times = -(-int(gigabytes * 1e9) // (plane * chunk)) * chunk
    rng = da.random.default_rng(0)
    shape, chunks = (times, 181, 360), (chunk, 181, 360)
    dims = ("time", "latitude", "longitude")
    return xr.Dataset(
        {
            name: (dims, rng.normal(0, 8, shape, chunks=chunks), {"units": "m s-1"})
            for name in ("u10", "v10")
        },
        {
            "time": np.datetime64("1980-01-01", "ns")
            + np.timedelta64(1, "h") * np.arange(times),
            "latitude": ("latitude", latitude, {"units": "degrees_north"}),
            "longitude": ("longitude", longitude, {"units": "degrees_east"}),
        },
    )


class Watched:
    """Megabytes of a process, ten times a second, while the block runs."""

    def __init__(self, pid: int) -> None:
        self.pid, self.rss = pid, [0.0]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        import psutil

        process = psutil.Process(self.pid)
        while not self._stop.wait(0.1):
            self.rss.append(process.memory_info().rss / 1e6)


def _deaths(dask_scheduler: object) -> int:
    """How many workers were lost: removed, or restarted."""
    events = [e for t, e in getattr(dask_scheduler, "events", {}).items() if t == "all"]
    names = [x[1].get("action") for topic in events for x in topic if x[1]]
    return names.count("remove-worker")


if __name__ == "__main__":
    main()
