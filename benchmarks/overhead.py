"""What the labels cost: a bare torch loop against ``ds.atmo.embed()``.

Both run the same network, prepared for inference in the same way, in batches of the
same size, on the same arrays in memory. What is told is the time of xatmo over the bare
one: 1 if the library costs nothing. It includes building the graph, reading names and
units, and labelling the result.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from benchmarks.fields import global_degree, patch_sized
from benchmarks.rows import Row, best_of, report
from xatmo.engine.allocator import keep_freed_memory

LEVEL = "10 m"
MODEL = "atmodist-vortdiv"  # for divergence and vorticity, which the data hold


def measure(quick: bool) -> list[Row]:
    """Compare region and globe, in memory and in chunks.

    By default glibc hands the activations of a layer back and asks for them again at
    the next one, which takes up to a third of the time, and does so differently in the
    main thread and in Dask's: that would be measured in place of the library.
    """
    keep_freed_memory()
    regions, globes = (512, 4) if quick else (1024, 16)
    repeats = 4 if quick else 12
    return [
        *_compare("32 x 64", patch_sized(regions), {256: 1.05, 1: 1.3}, repeats),
        *_compare("181 x 360", global_degree(globes), {4: 1.1, 1: 1.3}, repeats),
    ]


def _compare(
    size: str, ds: xr.Dataset, goals: dict[int, float], repeats: int
) -> list[Row]:
    """One row for the data in memory, and one for each size of chunk."""
    times = ds.sizes["time"]
    bare = bare_loop(ds)
    cases = {f"{times} fields of {size} in memory": (_embedding(ds), 1.05)}
    for chunk, goal in goals.items():
        name = f"{times} fields of {size}, Dask, {chunk} per chunk"
        cases[name] = (_embedding(ds.chunk(time=chunk)), goal)
    functions = {name: function for name, (function, _) in cases.items()}
    _check_equal(bare, functions)
    seconds = best_of({"bare": bare, **functions}, repeats)
    return [
        Row(
            name,
            seconds[name] / seconds["bare"],
            goal=goal,
            detail=f"bare {seconds['bare']:.3f} s, xatmo {seconds[name]:.3f} s",
        )
        for name, (_, goal) in cases.items()
    ]


def _embedding(ds: xr.Dataset) -> Callable[[], np.ndarray]:
    import xatmo  # noqa: F401 - gives ds its accessor

    return lambda: ds.atmo.embed(MODEL, level=LEVEL).values


def bare_loop(ds: xr.Dataset) -> Callable[[], np.ndarray]:
    """Return what one would write without xatmo, on the arrays of ``ds``."""
    import torch

    import xatmo
    from xatmo.engine import Call
    from xatmo.zoo.runtime import load_runtime

    model = xatmo.load_model(MODEL)
    runtime = load_runtime(model.key, "cpu")
    network, normalize = runtime.network, runtime.normalizers[LEVEL]
    d, vo = ds["d"].values, ds["vo"].values
    periodic = ds.sizes["longitude"] == 360
    size = Call(model.key, "embed").fields_per_batch(d[0].size, "cpu")

    def loop() -> np.ndarray:
        results = []
        with torch.inference_mode():
            for start in range(0, len(d), size):
                stop = start + size
                batch = np.stack([d[start:stop], vo[start:stop]], axis=1)
                x = normalize(torch.from_numpy(batch))
                results.append(network.embed(x, periodic=periodic))
            return torch.cat(results).numpy()

    return loop


def _check_equal(
    bare: Callable[[], np.ndarray], functions: dict[str, Callable[[], np.ndarray]]
) -> None:
    """A fast wrong answer is no result."""
    expected = bare()
    for function in functions.values():
        np.testing.assert_allclose(function(), expected, atol=1e-5)


if __name__ == "__main__":
    report(measure)
