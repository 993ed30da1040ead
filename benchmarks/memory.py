"""Whether memory stays flat: the peak of writing ten times as many embeddings.

Each run is a process of its own, since a peak can only be read once.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import xarray as xr

from benchmarks.fields import wind_store
from benchmarks.rows import Row, report

CHUNK = 8


def measure(quick: bool) -> list[Row]:
    """Write the embeddings of a short and of a tenfold longer Zarr store."""
    times = 32 if quick else 64
    with tempfile.TemporaryDirectory() as folder:
        stores = [wind_store(Path(folder), n, CHUNK) for n in (times, 10 * times)]
        peaks = [_in_new_process(store) for store in stores]
    short, long = peaks
    return [
        Row(
            f"peak memory of embed().to_zarr(), {10 * times} over {times} fields of "
            "181 x 360",
            long / short,
            goal=1.1,
            detail=f"{short:.0f} MB and {long:.0f} MB; the longer input holds "
            f"{10 * times * 181 * 360 * 8 / 1e6:.0f} MB",
        )
    ]


def _in_new_process(store: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", "--store", str(store)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def peak(store: Path) -> float:
    """Megabytes that this process needed at most to embed a store."""
    import xatmo  # noqa: F401 - gives ds its accessor

    ds = xr.open_zarr(store, chunks={}, consolidated=False)
    ds.atmo.embed().to_zarr(store.with_suffix(".out.zarr"), consolidated=False)
    return _own_peak()


def _own_peak() -> float:
    """Peak memory in MB; ``ru_maxrss`` may include the parent's at the fork."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if "VmHWM" in x)
        return int(line.split()[1]) / 1e3
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--store", type=Path)
    found, _ = parser.parse_known_args()
    if found.store:
        print(peak(found.store))
    else:
        report(measure)
