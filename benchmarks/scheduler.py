"""What a scheduler of Dask can keep busy: measured per task, then simulated.

Tasks that do nothing tell what one costs the process that the scheduler and the client
live in: seconds of the CPU and bytes. With those a discrete-event model runs a whole
job: workers ask one after the other, the scheduler serves them one at a time, and each
works as long as chunks of that length take. Utilisation is the share of the workers'
time that is spent in tasks.
"""

from __future__ import annotations

import heapq
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Row, report

RATES = Path(__file__).with_name("rates.json")


def measure(quick: bool) -> list[Row]:
    """Measure a scheduler, and let the model serve a million tasks."""
    count = 2_000 if quick else 20_000
    seconds, memory = per_task(count)
    rates = json.loads(RATES.read_text())["scheduler"]
    durations = spread_around(0.1, 10_000 if quick else 1_000_000)
    start = time.perf_counter()
    share = simulate(durations, 64, rates["seconds_per_task"])
    took = time.perf_counter() - start
    return [
        Row(
            "scheduler and client, CPU per task",
            1e6 * seconds,
            unit="us",
            detail=f"{count:,} tasks; the scale page uses "
            f"{1e6 * rates['seconds_per_task']:.0f} us",
        ),
        Row("scheduler and client, memory per task", memory / 1e3, unit="kB"),
        Row(
            f"utilisation of 64 workers, {len(durations):,} tasks of 0.1 s (model)",
            share,
            detail=f"simulated in {took:.1f} s",
        ),
    ]


def per_task(count: int) -> tuple[float, float]:
    """Seconds of the CPU and bytes that a task costs where the scheduler is."""
    import psutil
    from distributed import Client, LocalCluster, wait

    own = psutil.Process()
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster):
        wait(_nothings(10).persist())  # warm
        before = own.memory_info().rss
        start = time.process_time()
        held = _nothings(count).persist()
        wait(held)
        seconds = time.process_time() - start
        after = own.memory_info().rss
    return seconds / count, max(0.0, after - before) / count


def _nothings(count: int) -> Any:
    """One task for each number, which hands it on."""
    import dask.array as da

    return da.zeros(count, chunks=1).map_blocks(_nothing, dtype=float)


def _nothing(block: np.ndarray) -> np.ndarray:
    return block


def spread_around(mean: float, count: int) -> np.ndarray:
    """Durations of tasks of equal size, as unequal as they were measured."""
    quantiles = np.array(json.loads(RATES.read_text())["task_durations_over_mean"])
    return mean * np.random.default_rng(0).choice(quantiles, count)


def simulate(durations: np.ndarray, workers: int, service: float) -> float:
    """Return the share of time that workers spend in tasks.

    Parameters
    ----------
    durations : ndarray
        Seconds of each task, in the order in which they are handed out.
    workers : int
        One thread each.
    service : float
        Seconds of the scheduler for each task; one after the other.
    """
    free = [0.0] * min(workers, len(durations))
    served = 0.0
    for duration in durations.tolist():
        # The worker that is free first asks, and waits until its turn.
        served = max(heapq.heappop(free), served) + service
        heapq.heappush(free, served + duration)
    return float(durations.sum() / (max(free) * workers))


def expected(mean: float, workers: int, service: float) -> float:
    """The same for endlessly many tasks: either side may be the slower one."""
    return min(mean / (mean + service), mean / (workers * service))


if __name__ == "__main__":
    report(measure)
