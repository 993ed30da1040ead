"""Random series that look like weather over land and sea: endless, and of any scale.

Waves of a red spectrum drift and decay on top of a climate with coasts, mountains and a
cycle of the day. What a network learns of them is how far an observation reaches in
space and time, which is what kriging has to be told.
"""

from __future__ import annotations

import numpy as np

__all__ = ["random_series"]


def random_series(
    rng: np.random.Generator,
    times: int,
    land: np.ndarray,
    step_hours: float,
) -> np.ndarray:
    """Draw a series.

    Parameters
    ----------
    rng : Generator
    times : int
    land : ndarray, shape (h, w)
        Share of land: there the climate is rougher, and the days differ from nights.
    step_hours : float

    Returns
    -------
    ndarray of float32, shape (times, h, w)
        The weather's variance is 1.
    """
    shape = land.shape
    hours = step_hours * np.arange(times)
    weather = sum(
        share * _weather(rng, times, shape, step_hours)
        for share in rng.dirichlet(np.ones(2)) ** 0.5
    )
    rough = np.exp(rng.uniform(np.log(0.05), np.log(2.0))) * land
    coast = rng.normal() * land
    climate = coast + rough * _red(rng, shape, rng.uniform(1.5, 3.0))
    climate = climate + rng.normal() * _red(rng, shape, 4.0)
    strength = np.exp(rng.uniform(np.log(0.05), np.log(2.0)))
    by_place = 1.0 + 0.3 * _red(rng, shape, 3.0) + 0.1 * _red(rng, shape, 1.5)
    cycle = strength * (land + rng.uniform(0.0, 0.3)) * by_place
    # No day is like another: clouds and wind weaken its cycle.
    today = 1.0 + 0.4 * _weather(rng, times, shape, step_hours)
    late = rng.uniform(0, 2 * np.pi) + 0.2 * _red(rng, shape, 3.0)
    angle = 2 * np.pi * hours[:, None, None] / 24.0 - late
    day = np.cos(angle) + 0.25 * np.cos(2 * angle)
    return (climate + cycle * today * day + weather).astype(np.float32)


def _weather(
    rng: np.random.Generator, times: int, shape: tuple[int, ...], step_hours: float
) -> np.ndarray:
    """Waves that drift and decay: (times, h, w), of variance 1."""
    ky, kx, k = _waves(shape)
    slope, longest = rng.uniform(1.5, 3.5), np.exp(rng.uniform(np.log(8), np.log(120)))
    size = (k**2 + longest**-2.0) ** (-(slope + 1) / 4)
    size[0, 0] *= rng.uniform()
    # Points per hour, and hours that a wave of the longest length lives.
    speed, heading = rng.exponential(1.0), rng.uniform(0, 2 * np.pi)
    life = np.exp(rng.uniform(np.log(4.0), np.log(96.0)))
    decay = np.exp(-step_hours / life * (1 + k * longest) ** (2 / 3))
    moved = speed * step_hours * (ky * np.sin(heading) + kx * np.cos(heading))
    turn = decay * np.exp(-2j * np.pi * moved)
    fresh = size * np.sqrt(1 - decay**2)
    state = size * _noise(rng, k.shape)
    out = np.empty((times, *shape), np.float32)
    for i in range(times):
        out[i] = np.fft.irfft2(state, s=shape)
        state = turn * state + fresh * _noise(rng, k.shape)
    return out / (out.std() or 1.0)


def _red(rng: np.random.Generator, shape: tuple[int, ...], slope: float) -> np.ndarray:
    """A random map with a power spectrum of that slope, of variance 1."""
    _, _, k = _waves(shape)
    size = np.maximum(k, 0.5 / max(shape)) ** (-(slope + 1) / 2)
    size[0, 0] = 0.0
    x = np.fft.irfft2(size * _noise(rng, k.shape), s=shape)
    return x / (x.std() or 1.0)


def _waves(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wavenumbers of a map in cycles per point: along rows, columns, and of both."""
    ky, kx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    return ky, kx, np.hypot(ky, kx)


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    pair = rng.standard_normal((2, *shape), dtype=np.float32)
    return pair[0] + 1j * pair[1]
