"""For tests of code that uses xatmo: synthetic fields, and proof of laziness."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["Forwards", "count_forwards", "raise_if_computes", "synthetic_winds"]


def synthetic_winds(
    times: int = 4,
    latitude: np.ndarray | None = None,
    longitude: np.ndarray | None = None,
    *,
    step_hours: int = 6,
    seed: int = 0,
) -> xr.Dataset:
    """Make smooth random 10 m winds that move eastward, as ERA5 would hold them.

    Parameters
    ----------
    times : int
        Number of times.
    latitude, longitude : ndarray, optional
        Degrees; a global 2° grid if not given.
    step_hours : int
    seed : int

    Returns
    -------
    Dataset
        ``u10``, ``v10`` (m s-1), float32, ``(time, latitude, longitude)``.

    Examples
    --------
    >>> dict(synthetic_winds(times=2).sizes)
    {'time': 2, 'latitude': 91, 'longitude': 180}
    """
    lat = np.arange(90.0, -90.1, -2.0) if latitude is None else np.asarray(latitude)
    lon = np.arange(0.0, 360.0, 2.0) if longitude is None else np.asarray(longitude)
    rng = np.random.default_rng(seed)
    phi, lam = np.deg2rad(lat)[:, None], np.deg2rad(lon)[None, :]
    t = np.arange(times)[:, None, None]
    winds = np.zeros((2, times, lat.size, lon.size))
    for wave in range(1, 9):
        for part in winds:
            phase, tilt = rng.uniform(0, 2 * np.pi, 2)
            # Every wave vanishes at the poles and drifts with a speed of its own.
            part += (
                np.cos(phi) ** 2
                * np.sin(wave * lam - 0.06 * step_hours * t / wave + phase + tilt * phi)
                * rng.normal(0, 6)
            )
    start = np.datetime64("2020-01-01", "ns")
    time = start + np.arange(times) * np.timedelta64(step_hours, "h")
    dims = ("time", "latitude", "longitude")
    names = {"u10": "eastward_wind", "v10": "northward_wind"}
    return xr.Dataset(
        {
            name: (dims, part.astype(np.float32), {"units": "m s-1", "long_name": said})
            for (name, said), part in zip(names.items(), winds, strict=True)
        },
        coords={
            "time": time,
            "latitude": ("latitude", lat, {"units": "degrees_north"}),
            "longitude": ("longitude", lon, {"units": "degrees_east"}),
        },
    )


@contextmanager
def raise_if_computes() -> Iterator[None]:
    """Fail if anything is computed by Dask within the block.

    Examples
    --------
    >>> import xatmo
    >>> ds = xatmo.open_sample(chunks={"time": 8})
    >>> with raise_if_computes():
    ...     z = ds.atmo.embed()
    """
    import dask

    def refuse(*args: Any, **kwargs: Any) -> None:
        msg = "something was computed that should have stayed lazy"
        raise AssertionError(msg)

    with dask.config.set(scheduler=refuse):
        yield


@dataclass
class Forwards:
    """How many forward passes ran, and on how many fields."""

    calls: int = 0
    fields: int = 0


@contextmanager
def count_forwards() -> Iterator[Forwards]:
    """Count the forward passes of this process within the block."""
    from xatmo.engine import worker

    counted, original = Forwards(), worker.Loaded.forward

    def counting(
        self: worker.Loaded, method: str, batch: np.ndarray, kwargs: dict[str, Any]
    ) -> np.ndarray:
        counted.calls += 1
        counted.fields += len(batch)
        return original(self, method, batch, kwargs)

    worker.Loaded.forward = counting  # type: ignore[method-assign]
    try:
        yield counted
    finally:
        worker.Loaded.forward = original  # type: ignore[method-assign]
