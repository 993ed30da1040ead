"""Whether memory stays flat: the peak of writing several times as many results.

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


def measure(quick: bool) -> list[Row]:
    """Write the results of a short and of a longer Zarr store, for three verbs."""
    few = {"embed": 32, "downscale": 2} if quick else {"embed": 64, "downscale": 4}
    return [
        compare("embed", few["embed"], times_longer=10, chunk=8),
        compare("downscale", few["downscale"], times_longer=4, chunk=1),
        # From the one length on at which tasks are as large as they get.
        compare("infill", 128, times_longer=2 if quick else 4, chunk=8),
    ]


def compare(verb: str, times: int, *, times_longer: int, chunk: int) -> Row:
    """One row: the peak for the longer store over that for the short one."""
    with tempfile.TemporaryDirectory() as folder:
        several = (times, times_longer * times)
        stores = [wind_store(Path(folder), n, chunk) for n in several]
        (short, _), (long, written) = (_in_new_process(verb, s) for s in stores)
    return Row(
        f"peak memory of {verb}().to_zarr(), {several[1]} over {times} fields of "
        "181 x 360",
        long / short,
        goal=1.1,
        detail=f"{short:.0f} MB and {long:.0f} MB; the longer input holds "
        f"{several[1] * 181 * 360 * 8 / 1e6:.0f} MB, its result {written:.0f} MB",
    )


def _in_new_process(verb: str, store: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.memory", verb, "--store", str(store)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak, written = done.stdout.split()
    return float(peak), float(written)


def peak(verb: str, store: Path) -> tuple[float, float]:
    """Megabytes that this process needed at most for a store, and of the result."""
    import xatmo  # noqa: F401 - gives ds its accessor

    ds = xr.open_zarr(store, chunks={}, consolidated=False)
    result = _infilled(ds) if verb == "infill" else getattr(ds.atmo, verb)()
    result.to_zarr(store.with_suffix(".out.zarr"), consolidated=False)
    return own_peak(), result.nbytes / 1e6


def _infilled(ds: xr.Dataset) -> xr.Dataset:
    """Fill a quarter of one wind that is hidden, the same part at all times."""
    gone = (ds["latitude"] > 0) & (ds["longitude"] < 180)
    return ds[["u10"]].where(~gone).atmo.infill("network")


def own_peak() -> float:
    """Peak memory in MB; ``ru_maxrss`` may include the parent's at the fork."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if "VmHWM" in x)
        return int(line.split()[1]) / 1e3
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("verb", nargs="?")
    parser.add_argument("--store", type=Path)
    found, _ = parser.parse_known_args()
    if found.store:
        print(*peak(found.verb, found.store))
    else:
        report(measure)
