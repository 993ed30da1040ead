"""Whether memory stays flat, and whether it is what was predicted.

The peak of writing several times as many results; and the peak of a process over what
``xatmo.memory_estimate`` says of it before: 0.6 to 1.0, for verbs, fields, chunks and
threads of several sizes. Each run is a process of its own, since a peak can only be
read once.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
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
        *predicted(),
    ]


class Shape(NamedTuple):
    """Fields, as they are chunked, and what is done with them."""

    verb: str
    size: tuple[int, int]
    times: int
    chunk: int
    threads: int
    options: dict[str, Any]


SHAPES = (
    Shape("embed", (32, 64), 2048, 512, 1, {}),
    Shape("embed", (181, 360), 256, 64, 2, {}),
    Shape("embed", (257, 512), 64, 16, 2, {"reduce": "mean"}),
    Shape("downscale", (181, 360), 8, 2, 1, {}),
    Shape("downscale", (32, 64), 256, 64, 2, {}),
    Shape("infill", (181, 360), 128, 8, 1, {"method": "network"}),
    Shape("infill", (721, 1440), 16, 8, 1, {"method": "network"}),
    Shape("forecast", (72, 144), 24, 8, 1, {"lead": "6h", "members": False}),
)


def predicted() -> list[Row]:
    """Two rows for each shape: neither more than was said, nor much less."""
    rows = []
    for number, shape in enumerate(SHAPES):
        command = [sys.executable, "-m", "benchmarks.memory", "--shape", str(number)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peak, said, told = done.stdout.splitlines()[-1].split(maxsplit=2)
        share = float(peak) / float(said)
        y, x = shape.size
        case = (
            f"{shape.verb} of {y} x {x}, {shape.chunk} per chunk, {shape.threads} "
            "thread(s), peak over predicted"
        )
        rows.append(Row(case, share, goal=1.0, detail=f"{peak} MB; {told}"))
        rows.append(Row(f"{case}, at least", share, goal=0.6, higher=True))
    return rows


def of_shape(shape: Shape) -> tuple[float, float, str]:
    """Predict, then run: MB of both, and what the prediction is made of."""
    import dask

    import xatmo

    ds = _made(shape)
    said = xatmo.memory_estimate(ds, shape.verb, threads=shape.threads, **shape.options)
    result = getattr(ds.atmo, shape.verb)(**shape.options)
    result = result.to_dataset() if isinstance(result, xr.DataArray) else result
    with (
        tempfile.TemporaryDirectory() as folder,
        dask.config.set(scheduler="threads", num_workers=shape.threads),
    ):
        result.drop_encoding().to_zarr(Path(folder) / "out.zarr", consolidated=False)
    return own_peak(), said.peak / 1e6, str(said)


def _made(shape: Shape) -> xr.Dataset:
    """Winds of a shape that exist when they are asked for."""
    import dask.array as da

    ny, nx = shape.size
    spacing = 180 / (ny - 1) if ny > 180 else 1.0
    rng = da.random.default_rng(0)
    sizes, chunks = (shape.times, ny, nx), (shape.chunk, ny, nx)
    dims = ("time", "latitude", "longitude")
    names = ["u10"] if shape.verb == "infill" else ["u10", "v10"]
    fields = {
        n: (
            dims,
            rng.normal(0, 8, sizes, chunks=chunks).astype("f4"),
            {"units": "m s-1"},
        )
        for n in names
    }
    step = np.timedelta64(6, "h")
    ds = xr.Dataset(
        fields,
        {
            "time": np.datetime64("2000-01-01", "ns") + step * np.arange(shape.times),
            "latitude": min(90.0, spacing * (ny - 1)) - spacing * np.arange(ny),
            "longitude": spacing * np.arange(nx),
        },
    )
    if shape.verb == "infill":
        ds = ds.where(~((ds.latitude > 0) & (ds.longitude < 180)))
    return ds


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
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("verb", nargs="?")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--shape", type=int)
    found, _ = parser.parse_known_args()
    if found.shape is not None:
        print(*of_shape(SHAPES[found.shape]))
    elif found.store:
        print(*peak(found.verb, found.store))
    else:
        report(measure)
