"""How well xatmo keeps a GPU busy, from memory and from a Zarr store on local disk.

    python -m benchmarks.gpu [--quick] [--device cuda|cpu] [--only CASE]

For each case and precision, and for both sources:

- fields per second, by the clock, of a whole call with its result in memory;
- the share of time in which the GPU runs a kernel: the union of the kernels' times that
  the profiler has seen, over the clock's. Where it has seen none, the time between the
  first and the last kernel of each batch, which is never less;
- the share of the matmul ceiling: the network's products and convolutions, counted by
  ``torch.utils.flop_counter``, over what a large matrix product does in the same time
  and precision on the same device.

ClimaX has the size that was published for 5.625° and random weights. Without a GPU
there is nothing to measure, and this says so; ``--device cpu --quick`` runs through all
of it to see that it works.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import xarray as xr

from benchmarks.rows import Row, markdown

GOALS = {"memory": 0.9, "Zarr": 0.6}
PRECISIONS = ("float32", "bfloat16")
NOTHING = "There is no GPU here: nothing was measured."
CLIMAX = "climax-random"  # no released model: see `random_climax`


@dataclass(frozen=True)
class Case:
    """What is measured.

    Parameters
    ----------
    model : str
        Its name.
    run : callable
        The verb, from data to a result.
    degrees : float
        Spacing of the global grid.
    times, quick_times : int
        Fields of the data.
    chunk : int
        Fields in a chunk of the store.
    variables : int
        Of the data.
    """

    model: str
    run: Callable[[xr.Dataset], Any]
    degrees: float
    times: int
    quick_times: int
    chunk: int
    variables: int = 2


def cases() -> dict[str, Case]:
    """Return all cases by their names."""

    def embed(ds: xr.Dataset) -> Any:
        return ds.atmo.embed("atmodist-small")

    def downscale(ds: xr.Dataset) -> Any:
        return ds.atmo.downscale(model="downscale-winds")

    def forecast(ds: xr.Dataset) -> Any:
        return ds.atmo.forecast("6h", "multiformer-small", members=False)

    return {
        "embed": Case("atmodist-small", embed, 1.0, 1024, 2, 32),
        "downscale": Case("downscale-winds", downscale, 1.0, 64, 1, 2),
        "forecast": Case("multiformer-small", forecast, 2.0, 48, 6, 8),
        "climax": Case(CLIMAX, climax, 5.625, 4096, 2, 128, variables=48),
    }


def measure(
    quick: bool, device: str = "cuda", only: str | None = None, seconds: float = 4.0
) -> list[Row]:
    """Measure all cases; none without a GPU."""
    import torch

    if device != "cpu" and not torch.cuda.is_available():
        return []
    rows = []
    precisions = PRECISIONS[:1] if quick and device == "cpu" else PRECISIONS
    for precision in precisions:
        top = ceiling(device, precision)
        rows.append(Row(f"matmul ceiling, {precision}", top / 1e12, unit="TFLOP/s"))
        for name, case in cases().items():
            if only in (None, name):
                rows += measure_case(
                    name, case, device, precision, top, quick=quick, seconds=seconds
                )
    return rows


def measure_case(
    name: str,
    case: Case,
    device: str,
    precision: str,
    top: float,
    *,
    quick: bool,
    seconds: float,
) -> list[Row]:
    """Measure one case from memory and from disk."""
    import xatmo

    ds = fields(case, case.quick_times if quick else case.times)
    context = random_climax(quick) if case.model == CLIMAX else nullcontext()
    rows = []
    with (
        context,
        tempfile.TemporaryDirectory() as folder,
        xatmo.set_options(device=device, precision=precision, progress=False),
    ):
        work = flops(case, ds)
        store = Path(folder) / "fields.zarr"
        ds.chunk(time=case.chunk).to_zarr(store, consolidated=False)
        lazy = xr.open_zarr(store, chunks={}, consolidated=False)
        for source, data in (("memory", ds), ("Zarr", lazy)):

            def once(data: xr.Dataset = data) -> None:
                # Options are read here, by the verb; threads are Dask's own.
                case.run(data).compute()

            what = f"{name} from {source}, {precision}"
            rows += rates(what, once, ds.sizes["time"], work, top, device, seconds)
            if device != "cpu":
                rows.append(busy_row(what, once, device, GOALS[source]))
    return rows


def rates(
    what: str,
    once: Callable[[], None],
    count: int,
    work: float,
    top: float,
    device: str,
    seconds: float,
) -> list[Row]:
    """Return fields per second, and the share of the ceiling that these make."""
    once()  # weights, batch sizes and the files are warm
    runs, began = 0, time.perf_counter()
    while not runs or (device != "cpu" and time.perf_counter() - began < seconds):
        once()
        runs += 1
    speed = runs * count / (time.perf_counter() - began)
    return [
        Row(f"{what}: fields per second", speed, detail=f"{runs} x {count} fields"),
        Row(
            f"{what}: share of the matmul ceiling",
            speed * work / top,
            detail=f"{work / 1e9:.3g} GFLOP per field",
        ),
    ]


# --- How busy the GPU is ------------------------------------------------------------


def busy_row(what: str, once: Callable[[], None], device: str, goal: float) -> Row:
    """Return the share of the time in which a kernel runs."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from xatmo.engine.devices import resolve_device
    from xatmo.engine.pipeline import lane_of

    lane = lane_of(resolve_device(device))
    before = lane.seconds
    began = time.perf_counter()
    once()
    torch.cuda.synchronize()
    plain = time.perf_counter() - began
    events = (lane.seconds - before) / plain
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        began = time.perf_counter()
        once()
        torch.cuda.synchronize()
        wall = time.perf_counter() - began
    kernels = union(kernel_times(seen)) / 1e9 / wall
    detail = f"{events:.2f} by the events of batches, in {plain:.2f} s"
    if not kernels:
        detail, kernels = detail + "; the profiler saw no kernels", events
    return Row(f"{what}: GPU busy", kernels, goal, higher=True, detail=detail)


def kernel_times(profile: Any) -> Iterator[tuple[int, int]]:
    """Begin and end, in ns, of what ran on the GPU; copies do not count."""
    import torch

    for event in profile.profiler.kineto_results.events():
        name = event.name().lower()
        if event.device_type() != torch.autograd.DeviceType.CUDA:
            continue
        if not name.startswith(("memcpy", "memset")):
            start = event.start_ns()
            yield start, start + event.duration_ns()


def union(times: Iterator[tuple[int, int]]) -> int:
    """Length of all intervals together, what overlaps counted once."""
    total, until = 0, 0
    for start, stop in sorted(times):
        total += max(0, stop - max(start, until))
        until = max(until, stop)
    return total


# --- Work ---------------------------------------------------------------------------


def ceiling(device: str, precision: str) -> float:
    """FLOP/s of a large matrix product on random numbers, without TF32."""
    import torch

    from xatmo.engine.precision import arithmetic

    size, repeats = (512, 2) if device == "cpu" else (8192, 10)
    kind = getattr(torch, precision)
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in "ab")
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    with arithmetic("cuda:0" if device != "cpu" else "cpu", "float32"):
        for _ in range(3):
            a @ b
        wait()
        began = time.perf_counter()
        for _ in range(repeats):
            a @ b
        wait()
    return 2 * size**3 * repeats / (time.perf_counter() - began)


def flops(case: Case, ds: xr.Dataset) -> float:
    """FLOP for each field, of all batches that a few of them are run in, on a CPU.

    Fused operators are not counted, so that the network is run in its plain form.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import xatmo
    from xatmo.engine import worker

    few = ds.isel(time=slice(min(8 if case.model == "multiformer-small" else 1, 6)))
    asked: list[tuple[Any, str, np.ndarray, dict[str, Any]]] = []
    forward = worker.Loaded.forward

    def recorded(self: Any, method: str, batch: Any, kwargs: Any) -> np.ndarray:
        asked.append((self, method, batch, kwargs))
        return forward(self, method, batch, kwargs)

    with (
        mock.patch.object(worker.Loaded, "forward", recorded),
        xatmo.set_options(device="cpu", batch_size=1, precision="float32"),
    ):
        case.run(few).compute()
    total = 0
    for loaded, method, batch, kwargs in asked[:4]:
        runtime = loaded._runtime
        plain = runtime.network
        for module in plain.modules():
            if hasattr(module, "fused"):
                module.fused = None
        given = {
            n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v
            for n, v in kwargs.items()
        }
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            runtime(method, torch.from_numpy(batch), **given)
        total += counter.get_total_flops()
    worker._loaded.clear()  # what has been taken apart is loaded again
    return total / len(asked[:4]) * len(asked) / few.sizes["time"]


# --- Data and models ------------------------------------------------------------------


def fields(case: Case, times: int) -> xr.Dataset:
    """Noise of the size of winds around the globe."""
    if case.degrees >= 5:
        latitude = np.arange(90 - case.degrees / 2, -90, -case.degrees)
    else:
        latitude = np.arange(90.0, -90.1, -case.degrees)
    longitude = np.arange(0.0, 360.0, case.degrees)
    rng = np.random.default_rng(0)
    dims = ("time", "latitude", "longitude")
    shape = (times, latitude.size, longitude.size)
    names = ("u10", "v10") if case.variables == 2 else range(case.variables)
    arrays = {
        str(name): (
            dims,
            np.float32(5) * rng.standard_normal(shape, dtype=np.float32),
            {"units": "m s-1"},
        )
        for name in names
    }
    start, step = np.datetime64("2000-01-01", "ns"), np.timedelta64(6, "h")
    return xr.Dataset(
        arrays,
        {
            "time": start + step * np.arange(times),
            "latitude": ("latitude", latitude, {"units": "degrees_north"}),
            "longitude": ("longitude", longitude, {"units": "degrees_east"}),
        },
    )


def climax(ds: xr.Dataset) -> xr.DataArray:
    """Forecast all variables by the network of random weights, through the engine."""
    from xatmo.engine import Call, apply
    from xatmo.options import get_options
    from xatmo.zoo import ModelKey

    call = Call(
        ModelKey(CLIMAX, "1", "0" * 64),
        "forward",
        kwargs=(("lead", 72.0), ("level", None)),
        device=get_options().device,
        batch_size=get_options().batch_size,
        cpu_batch=1,
    )
    core = ("latitude", "longitude")
    out = {"channel": len(ds), **{dim: ds.sizes[dim] for dim in core}}
    return apply(call, list(ds.values()), core=core, out=out, halo="global")


@contextmanager
def random_climax(quick: bool) -> Iterator[None]:
    """Let the engine find ClimaX under a name that is no released model's."""
    import torch

    from xatmo.engine import worker
    from xatmo.nets.climax import ClimaX
    from xatmo.zoo.runtime import Runtime, load_runtime

    def load(key: Any, device: str) -> Any:
        if key.name != CLIMAX:
            return load_runtime(key, device)
        torch.manual_seed(0)
        size = {"width": 64, "depth": 1, "heads": 4} if quick else {}
        network = ClimaX(**size).eval().requires_grad_(False)  # type: ignore[arg-type]
        return Runtime(SimpleNamespace(levels=()), network, device)  # type: ignore[arg-type]

    with mock.patch.object(worker, "load_runtime", load):
        yield


def main() -> None:
    """Print the table, or rows for ``benchmarks.run``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="less data")
    parser.add_argument("--json", action="store_true", help="rows for benchmarks.run")
    parser.add_argument("--device", default="cuda", help="'cuda:1', say, or 'cpu'")
    parser.add_argument("--only", choices=cases(), help="one case")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each rate")
    given = parser.parse_args()
    rows = measure(given.quick, given.device, given.only, given.seconds)
    if given.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(markdown(rows) if rows else NOTHING)


if __name__ == "__main__":
    main()
