"""What the labels cost: bare torch against ``ds.atmo.downscale()``.

Bare torch runs the same network, prepared for inference in the same way, in batches of
the same size, on the same arrays in memory; its noise is from ``torch.randn``. E is its
CPU time over that of xatmo, which draws noise by date and place, restores block means
and labels the result: 1 if all of that costs nothing. By the clock it is the same on a
quiet machine. The plain module is the network as it was trained: float32, channels
first. Pixels are points of the fine grid, by CPU time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import xarray as xr

from benchmarks.rows import Row, best_times, report
from xatmo.engine.allocator import keep_freed_memory

if TYPE_CHECKING:
    from torch import Tensor

LEVEL = "10 m"
FACTOR = 4


def measure(quick: bool) -> list[Row]:
    """Compare a region, in memory and in chunks, and the globe."""
    from xatmo.testing import synthetic_winds

    keep_freed_memory()
    repeats = 2 if quick else 5
    region = synthetic_winds(16, np.arange(60.0, 12, -1), np.arange(0.0, 64))
    globe = synthetic_winds(1, np.arange(90.0, -91, -1), np.arange(0.0, 360))
    in_chunks = {
        "Dask, time=8": region.chunk(time=8),
        "Dask, time=1": region.chunk(time=1),
        "Dask, 4 tiles": _in_tiles(region),
    }
    return [
        *compare("16 fields of 48 x 64", region, in_chunks, repeats),
        *compare("181 x 360", globe, {"Dask, 4 tiles": _in_tiles(globe)}, repeats),
    ]


def _in_tiles(ds: xr.Dataset) -> xr.Dataset:
    """Two by two chunks of about one size."""
    halves = {d: -(-ds.sizes[d] // 2) for d in ("latitude", "longitude")}
    return ds.chunk(halves)


def compare(
    name: str, ds: xr.Dataset, in_chunks: dict[str, xr.Dataset], repeats: int
) -> list[Row]:
    """Rows for the data in memory, in chunks, and against the plain module."""
    cases = {"in memory": (ds, 0.95), **{k: (d, 0.9) for k, d in in_chunks.items()}}
    bare, plain = bare_loop(ds), bare_loop(ds, plain=True)
    _check_equal(ds)
    functions = {"bare": bare, "plain": plain}
    functions |= {case: _downscaled(data) for case, (data, _) in cases.items()}
    spent = best_times(functions, repeats)
    pixels = FACTOR**2 * ds["u10"].size
    rows = [
        Row(
            f"{name}, {case}",
            spent["bare"][0] / spent[case][0],
            goal=goal,
            higher=True,
            detail=_detail("bare", case, spent, pixels),
        )
        for case, (_, goal) in cases.items()
    ]
    cost = spent["in memory"][0] / spent["plain"][0]
    detail = _detail("plain", "in memory", spent, pixels)
    return [*rows, Row(f"{name}, time over the plain module's", cost, detail=detail)]


def _detail(
    other: str, own: str, spent: dict[str, tuple[float, float]], pixels: int
) -> str:
    (cpu, wall), (own_cpu, own_wall) = spent[other], spent[own]
    return (
        f"CPU {other} {cpu:.3f} s, xatmo {own_cpu:.3f} s, "
        f"{pixels / own_cpu / 1e6:.2f} million pixels/s; by the clock "
        f"{wall / own_wall:.3f}"
    )


def _downscaled(ds: xr.Dataset, **options: Any) -> Callable[[], np.ndarray]:
    import xatmo

    def call() -> np.ndarray:
        fine = xatmo.downscale(ds, level=LEVEL, **options).compute()
        return np.stack([fine["u10"].values, fine["v10"].values], axis=1)

    return call


def bare_loop(
    ds: xr.Dataset, *, plain: bool = False, draw: Callable[..., Tensor] | None = None
) -> Callable[[], np.ndarray]:
    """Return what one would write without xatmo, on the arrays of ``ds``.

    A globe is closed by as many columns of the other side as the network sees, and
    what lies beyond the poles is left out.
    """
    import torch

    import xatmo
    from xatmo.engine import Call
    from xatmo.zoo.runtime import load_runtime

    model = xatmo.load_model(capability="downscale")
    runtime = load_runtime(model.key, "cpu")
    network = model.network() if plain else runtime.network
    normalise, draw = runtime.normalizers[LEVEL], draw or torch.randn
    u, v = ds["u10"].values, ds["v10"].values
    columns = u.shape[-1]
    halo = model.card.grid.halo if columns == 360 else 0
    take = np.arange(-halo, columns + halo) % columns
    keep = slice(FACTOR * halo, FACTOR * (halo + columns))
    statics, rows = _statics(ds, take)
    size = Call(model.key, "forward").fields_per_batch(u[0].size, "cpu")

    def loop() -> np.ndarray:
        results = []
        with torch.inference_mode():
            for start in range(0, len(u), size):
                few = slice(start, start + size)
                batch = np.stack([u[few][..., take], v[few][..., take]], axis=1)
                x = normalise(torch.from_numpy(batch))
                noise = draw(len(x), network.noise, *x.shape[-2:])
                fine = network(x, noise, statics)[..., rows, keep]
                results.append(normalise.inverse(fine))
            return torch.cat(results).numpy()

    return loop


def _statics(ds: xr.Dataset, take: np.ndarray) -> tuple[Tensor, slice]:
    """The share of land on the fine grid, and the rows of it that there are."""
    import torch

    from xatmo.fields import land_share_of_cells

    parts = (np.arange(FACTOR) - 0.5 * (FACTOR - 1)) / FACTOR  # of points 1° apart
    y = (ds["latitude"].values[:, None] - parts).ravel()
    x = (ds["longitude"].values[take, None] + parts).ravel()
    land = land_share_of_cells(y, x, (1 / FACTOR, 1 / FACTOR))
    there = np.flatnonzero(np.abs(y) <= 90)
    return torch.from_numpy(land[None, None]), slice(there[0], there[-1] + 1)


def _check_equal(ds: xr.Dataset) -> None:
    """A fast wrong answer is no result; without noise both have to give the same."""
    import torch

    def silent(keys: Any, y: np.ndarray, x: np.ndarray, channels: int) -> np.ndarray:
        return np.zeros((len(keys), channels, y.size, x.size), np.float32)

    expected = bare_loop(ds, draw=torch.zeros)()
    with mock.patch("xatmo.noise.normal", silent):
        found = _downscaled(ds, conserve=False)()
    np.testing.assert_allclose(found, expected, atol=1e-4)


if __name__ == "__main__":
    report(measure)
