"""What filling gaps costs: the network beside kriging and biharmonic, and the labels.

Each method fills the same clouds in the same maps, in one process and on one thread, as
``ds.atmo.infill(method, spread=False)``; speeds are in filled cells per second of the
CPU. The kriging of this package solves a small system for each cell. GSTools' own takes
all observations at once: its time grows with their number cubed, and its matrix would
hold 8.5 GB at 1°, so that it stands here for a coarser grid.

Bare torch runs the same network, prepared in the same way, on the batches that the verb
has fed it with. E is its CPU time over that of ``ds.atmo.infill("network")``, which
also makes the climatology and what the network reads, and labels the result: 1 if all
of that costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import xarray as xr

from benchmarks.rows import Row, best_times, report
from xatmo.engine.allocator import keep_freed_memory

NAME = "u10"


def measure(quick: bool) -> list[Row]:
    """Compare methods on the globe, and the verb with its network alone."""
    import torch

    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*speeds(quick), *overheads(quick)]
    finally:
        torch.set_num_threads(before)


def clouded(times: int, degrees: float) -> xr.Dataset:
    """Synthetic winds around the globe, of which clouds hide half."""
    from xatmo.testing import synthetic_winds
    from xatmo.testing.gaps import with_gaps

    latitude = np.arange(90.0, -90.1, -degrees)
    winds = synthetic_winds(times, latitude, np.arange(0.0, 360.0, degrees))
    return with_gaps(winds[[NAME]], "clouds", seed=1)


# --- The network and plain methods ----------------------------------------------------


def speeds(quick: bool) -> list[Row]:
    """Cells per second of the network, and over those of plain methods."""
    degrees = 4.0 if quick else 1.0
    cases = {"a series of 8": clouded(8, degrees), "one map": clouded(1, degrees)}
    rows = [row for name, ds in cases.items() for row in _speeds(name, ds, quick)]
    return [*rows, _gstools(clouded(1, 6.0))]


def _speeds(name: str, ds: xr.Dataset, quick: bool) -> list[Row]:
    rivals = ("biharmonic", "kriging")
    functions = {m: _filling(ds, m, spread=False) for m in ("network", *rivals)}
    spent = best_times(functions, 1 if quick else 2)
    gone, fields = int(ds[NAME].isnull().sum()), ds.sizes["time"]
    case = f"{name}, {_size(ds)}"
    own = spent["network"][0]
    cells = Row(
        f"network, {case}",
        gone / own,
        unit="cells/s",
        detail=f"CPU {own / fields:.3f} s a field, {gone // fields:,} cells of it",
    )
    return [cells, *(_ratio(f"{m}, {case}", spent[m][0], own, fields) for m in rivals)]


def _gstools(ds: xr.Dataset) -> Row:
    """Kriging by GSTools itself, with a variogram that is known."""
    import gstools

    field = ds[NAME].isel(time=0)
    flat = field.stack(cell=("latitude", "longitude"))
    seen, gone = flat[flat.notnull()], flat[flat.isnull()]
    model = gstools.Exponential(latlon=True, var=40, len_scale=1500, geo_scale=6371)

    def krige() -> None:
        places = seen.latitude.values, seen.longitude.values
        found = gstools.krige.Ordinary(model, places, seen.values)
        found((gone.latitude.values, gone.longitude.values), return_var=False)

    start = time.process_time()
    krige()
    other = time.process_time() - start
    own = best_times({"network": _filling(ds, "network", spread=False)}, 2)["network"]
    return _ratio(f"GSTools, one map, {_size(ds)}", other, own[0], 1)


def _ratio(case: str, other: float, own: float, fields: int) -> Row:
    return Row(
        f"speed of the network over that of {case}",
        other / own,
        goal=10,
        higher=True,
        detail=f"CPU {own / fields:.3f} s and {other / fields:.3f} s a field",
    )


def _size(ds: xr.Dataset) -> str:
    return " x ".join(map(str, ds[NAME].shape[1:]))


def _filling(ds: xr.Dataset, method: str, **options: Any) -> Callable[[], np.ndarray]:
    import xatmo  # noqa: F401 - gives ds its accessor

    return lambda: ds.atmo.infill(method, **options)[NAME].values


# --- The labels -----------------------------------------------------------------------


def overheads(quick: bool) -> list[Row]:
    """Bare torch over the verb, for a region and for the globe."""
    region = clouded(64, 2.0).isel(latitude=slice(15, 47), longitude=slice(64))
    globe = clouded(4 if quick else 8, 1.0)
    repeats = 2 if quick else 5
    cases = (region, {"time=64": 64, "time=8": 8}), (globe, {"time=4": 4, "time=1": 1})
    return [row for ds, chunks in cases for row in _overhead(ds, chunks, repeats)]


def _overhead(ds: xr.Dataset, chunks: dict[str, int], repeats: int) -> list[Row]:
    bare, expected = bare_loop(ds)
    cases = {"in memory": (_filling(ds, "network"), 0.95)}
    for name, length in chunks.items():
        cases[f"Dask, {name}"] = (_filling(ds.chunk(time=length), "network"), 0.9)
    for function, _ in cases.values():
        np.testing.assert_array_equal(function(), expected)
    functions = {
        "bare": bare,
        **{name: function for name, (function, _) in cases.items()},
    }
    spent = best_times(functions, repeats)
    base = spent["bare"][0]
    return [
        Row(
            f"{ds.sizes['time']} fields of {_size(ds)}, {name}",
            base / spent[name][0],
            goal=goal,
            higher=True,
            detail=f"CPU bare {base:.3f} s, xatmo {spent[name][0]:.3f} s; by the clock "
            f"{spent['bare'][1] / spent[name][1]:.3f}",
        )
        for name, (_, goal) in cases.items()
    ]


def bare_loop(ds: xr.Dataset) -> tuple[Callable[[], None], np.ndarray]:
    """Return a loop over the batches that the verb makes, and what the verb gives."""
    import torch

    import xatmo
    from xatmo.engine import worker
    from xatmo.zoo.runtime import load_runtime

    batches: list[tuple[str, np.ndarray, dict[str, Any]]] = []
    forward = worker.Loaded.forward

    def recorded(self: Any, method: str, batch: Any, kwargs: Any) -> np.ndarray:
        batches.append((method, batch.copy(), kwargs))
        return forward(self, method, batch, kwargs)

    with mock.patch.object(worker.Loaded, "forward", recorded):
        filled = _filling(ds, "network")()
    runtime = load_runtime(xatmo.load_model(capability="infill").key, "cpu")

    def loop() -> None:
        with torch.inference_mode():
            for method, batch, kwargs in batches:
                about = torch.from_numpy(kwargs["about"])
                rest = {**kwargs, "about": about}
                runtime(method, torch.from_numpy(batch), **rest).float().numpy()

    return loop, filled


if __name__ == "__main__":
    report(measure)
