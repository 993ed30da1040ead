"""Gaps as observations have them: clouds, swaths, blocks, dead stations, lost hours.

Seeded, so that methods which fill gaps can be trained on, and scored on, the same ones.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xatmo.errors import OptionError

__all__ = ["FAMILIES", "gap_mask", "with_gaps"]

_FAINT = 1e-4  # waves of clouds weaker than this, relative to the longest, are left out
_DRAWN = 1024  # blocks drawn at a time

Shape = tuple[int, int, int]
T = TypeVar("T", xr.DataArray, xr.Dataset)


@dataclass(frozen=True)
class _Family:
    """How gaps of a kind are drawn, how much they take, and what can be set."""

    draw: Callable[..., np.ndarray]
    share: float
    options: Mapping[str, float | None] = field(default_factory=dict)


def gap_mask(
    family: str,
    shape: Shape,
    seed: int = 0,
    *,
    share: float | None = None,
    rng: np.random.Generator | None = None,
    **options: float,
) -> np.ndarray:
    """Draw gaps of a family on an array of times and points.

    Parameters
    ----------
    family : str
        One of ``FAMILIES``:

        ``random_50``, ``random_90``
            Single cells, independent in space and time.
        ``blocks``
            Boxes of 1 to ``2 size - 1`` points on a side (``size=6``) that last 1 to
            ``2 duration - 1`` steps (``duration=6``) and may overlap.
        ``clouds``
            The lowest values of white noise smoothed by a Gaussian with a standard
            deviation of ``scale=6`` points and ``duration=6`` steps; ends are periodic.
            The share is that of all times together: a single one may lose nearly
            everything or nothing.
        ``swaths``
            Parallel tilted stripes, as polar orbiters leave between their tracks, of
            about ``width`` points (by the seed, 4 to 12, if not given), that move on
            from time to time. Tilt and drift are drawn by the seed.
        ``centre_hole``
            A rectangle in the middle, the same at all times.
        ``missing_times``
            Whole fields, in runs of 1 to ``2 duration - 1`` steps (``duration=3``);
            at least one field goes and one stays.
    shape : tuple of int
        Numbers of times, latitudes and longitudes.
    seed : int
    share : float, optional
        Of the cells that are missing, above 0 and below 1; by default .5, .9, .35, .5,
        .4, .25 and .3 for the families in the order of ``FAMILIES``.
    rng : numpy.random.Generator, optional
        Takes the place of the seed.
    **options : float
        What is named above for the family.

    Returns
    -------
    ndarray of bool
        Of that shape, True where a value is missing. The share is met to within the
        rounding of a cell, of a stripe's edges, of a rectangle or of a time.

    Raises
    ------
    xatmo.errors.OptionError
        If there is no such family or option, a value is out of its range, or times are
        to be missing where there is only one.

    Examples
    --------
    >>> from xatmo.testing.gaps import gap_mask
    >>> gap_mask("centre_hole", (1, 4, 6))[0].astype(int)
    array([[0, 0, 0, 0, 0, 0],
           [0, 1, 1, 1, 0, 0],
           [0, 1, 1, 1, 0, 0],
           [0, 0, 0, 0, 0, 0]])
    >>> gap_mask("clouds", (24, 30, 40), seed=3, share=0.3, scale=4).mean().item()
    0.3
    """
    plan = _plan(family, shape, share=share, **options)
    return _draw(plan, seed if rng is None else rng)


def with_gaps(
    obj: T, family: str, seed: int = 0, *, each: bool = False, **options: float
) -> T:
    """Take values out of fields, in gaps of a family.

    Parameters
    ----------
    obj : DataArray or Dataset
        On latitudes and longitudes, with or without time, under any names. All other
        dimensions (levels, members) have the same gaps. In a Dataset what is no number,
        or does not lie on all of its latitudes, longitudes and times, stays whole.
    family : str
        One of ``FAMILIES``; see :func:`gap_mask`.
    seed : int
    each : bool
        Whether every variable of a Dataset has gaps of its own.
    **options : float
        ``share`` and what else :func:`gap_mask` takes for the family.

    Returns
    -------
    DataArray or Dataset
        The same with NaN in the gaps; lazy where it was. Gaps depend on the seed and
        the numbers of times and points, not on chunks or the order of dimensions.

    Raises
    ------
    xatmo.errors.OptionError
        As :func:`gap_mask` does.
    xatmo.errors.FieldNotFoundError
        If latitude or longitude is missing.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo.testing.gaps import with_gaps
    >>> ds = xatmo.open_sample()
    >>> cloudy = with_gaps(ds, "clouds", seed=1)
    >>> gone = cloudy.isnull()
    >>> gone.u.mean().item(), gone.u.equals(gone.v)
    (0.5, True)
    """
    from xatmo.fields import find_axes

    if isinstance(obj, xr.DataArray):
        ds = obj.to_dataset(name="__field__")
        opened = with_gaps(ds, family, seed, each=False, **options)
        return opened["__field__"].rename(obj.name)
    axes = find_axes(obj)
    dims = [d for d in (axes.time, axes.latitude, axes.longitude) if d is not None]
    found = {}
    for name, da in obj.data_vars.items():
        if da.dtype.kind in "iuf" and set(dims) <= set(da.dims):
            key = [seed, zlib.crc32(str(name).encode())] if each else seed
            found[name] = da.where(~_mask_of(da, dims, family, key, options))
    return obj.assign(found)


def _mask_of(
    da: xr.DataArray, dims: list[str], family: str, seed: Any, options: dict[str, float]
) -> xr.DataArray:
    """Gaps along an array's dimensions; drawn only when computed if the array is."""
    sizes = [da.sizes[d] for d in dims]
    shape = (1, *sizes)[-3:]
    plan = _plan(family, shape, **options)
    if da.chunks is None:
        return xr.DataArray(_draw(plan, seed).reshape(sizes), dims=dims)
    import dask
    import dask.array

    mask = dask.delayed(_draw, pure=True)(plan, seed)
    whole = dask.array.from_delayed(mask, shape, bool)
    return xr.DataArray(whole.reshape(sizes), dims=dims)


def _plan(
    family: str, shape: tuple[int, ...], share: float | None = None, **options: float
) -> Callable[..., np.ndarray]:
    """Return what draws the gaps once it has a generator; refuse what cannot be."""
    if family not in _FAMILIES:
        msg = f"There is no family of gaps {family!r}."
        raise _refused(msg, f"family={family!r}", f"one of {', '.join(FAMILIES)}")
    kind = _FAMILIES[family]
    share = kind.share if share is None else share
    if not 0 < share < 1:
        msg = "The share of missing cells is out of its range."
        raise _refused(msg, f"share={share}", "a number above 0 and below 1")
    if len(shape) != 3 or min(shape) < 1:
        msg = "Gaps are drawn on times, latitudes and longitudes."
        raise _refused(msg, f"shape={shape}", "three numbers of at least 1")
    if family == "missing_times" and shape[0] == 1:
        msg = "Of a single time none can be missing: one has to stay."
        raise _refused(msg, f"shape={shape}", "two times or more", "blocks")
    for name, value in options.items():
        _check(family, kind, name, value)
    return functools.partial(
        kind.draw, shape, share=share, **{**kind.options, **options}
    )


def _check(family: str, kind: _Family, name: str, value: float) -> None:
    if name not in kind.options:
        msg = f"Gaps of the family {family!r} have no option {name!r}."
        known = ", ".join(["share", *kind.options])
        raise _refused(msg, f"{name}={value!r}", f"one of {known}", family)
    # Clouds without any extent are noise; a block has at least a cell.
    least = 0 if family == "clouds" else 1
    if not (value >= least and np.isfinite(value)):
        msg = f"Option {name!r} of the family {family!r} is out of its range."
        raise _refused(msg, f"{name}={value!r}", f"a number from {least} on", family)


def _refused(msg: str, found: str, needed: str, family: str = "clouds") -> OptionError:
    hint = f"gap_mask({family!r}, (24, 64, 64), seed=0, share=0.4)"
    return OptionError(msg, found=found, needed=needed, hint=hint)


def _draw(plan: Callable[..., np.ndarray], seed: Any) -> np.ndarray:
    return plan(np.random.default_rng(seed))


# --- The families: (times, latitudes, longitudes), a generator, a share -> a mask ---


def _random(shape: Shape, rng: np.random.Generator, share: float) -> np.ndarray:
    return _lowest(rng.random(shape, np.float32), share)


def _clouds(
    shape: Shape, rng: np.random.Generator, share: float, scale: float, duration: float
) -> np.ndarray:
    # White noise is white in any orthonormal basis: only the waves that the Gaussian
    # lets pass are drawn at all, some thousands for a million of cells.
    waves = [
        _waves(n, width)
        for n, width in zip(shape, (duration, scale, scale), strict=True)
    ]
    noise = rng.standard_normal([w.shape[1] for w in waves], np.float32)
    for axis, basis in enumerate(waves):
        noise = np.moveaxis(np.tensordot(basis, noise, (1, axis)), 0, axis)
    return _lowest(noise, share)


def _waves(n: int, width: float) -> np.ndarray:
    """(n, m): the sines and cosines that are left of noise smoothed by a Gaussian."""
    k = np.arange(n // 2 + 1)
    passed = np.exp(-0.5 * (2 * np.pi * width / n * k) ** 2)
    k, passed = k[passed > _FAINT], passed[passed > _FAINT]
    angle = 2 * np.pi / n * np.arange(n)[:, None] * k
    norm = np.where((k == 0) | (2 * k == n), 1.0, np.sqrt(2.0))
    cosines, sines = norm * passed * np.cos(angle), norm * passed * np.sin(angle)
    real = (k > 0) & (2 * k < n)  # the mean and the shortest wave have no sine
    return np.concatenate([cosines, sines[:, real]], axis=1).astype(np.float32)


def _lowest(values: np.ndarray, share: float) -> np.ndarray:
    """Mark the lowest share of values, all together."""
    count = min(max(1, round(share * values.size)), values.size - 1)
    if count < 1:
        return np.zeros(values.shape, bool)
    return values < np.partition(values, count, axis=None)[count]


def _blocks(
    shape: Shape, rng: np.random.Generator, share: float, size: float, duration: float
) -> np.ndarray:
    count = max(1, round(share * math.prod(shape)))
    return _boxes(shape, rng, count, (duration, size, size))


def _missing_times(
    shape: Shape, rng: np.random.Generator, share: float, duration: float
) -> np.ndarray:
    count = min(max(1, round(share * shape[0])), shape[0] - 1)
    gone = _boxes((shape[0], 1, 1), rng, count, (duration, 1, 1))
    return np.broadcast_to(gone, shape).copy()


def _boxes(
    shape: Shape,
    rng: np.random.Generator,
    count: int,
    mean: tuple[float, float, float],
) -> np.ndarray:
    """Throw boxes until so many cells are covered; the last one is cut to fit."""
    mask = np.zeros(shape, bool)
    left = count
    while True:
        lengths = rng.integers(1, 2 * np.array(mean, int), (_DRAWN, 3))
        # Begun before the edge as well, so that no place is hit less than others.
        starts = rng.integers(1 - lengths, shape)
        stops = starts + lengths
        for first, last in zip(starts.clip(0).tolist(), stops.tolist(), strict=True):
            box = mask[tuple(map(slice, first, last))]
            free = box.size - int(np.count_nonzero(box))
            if free >= left:
                box.flat[np.flatnonzero(~box)[:left]] = True
                return mask
            box[...] = True
            left -= free


def _swaths(
    shape: Shape, rng: np.random.Generator, share: float, width: float | None
) -> np.ndarray:
    times, rows, columns = shape
    width = rng.uniform(4, 12) if width is None else width
    # A whole number of stripes, so that they meet around the globe and every row has
    # the share.
    stripes = max(1, round(columns * share / width))
    tilt = rng.uniform(0.2, 0.8) * rng.choice([-1, 1]) * stripes / columns
    start, drift = rng.uniform(0, 1), rng.uniform(0.2, 0.8)
    t, y, x = np.ogrid[:times, :rows, :columns]
    phase = start + drift * t + tilt * y + stripes / columns * x
    return phase % 1 < share


def _centre_hole(shape: Shape, rng: np.random.Generator, share: float) -> np.ndarray:
    _, rows, columns = shape
    height = min(max(1, round(rows * share**0.5)), rows)
    width = min(max(1, round(share * rows * columns / height)), columns)
    top, left = (rows - height) // 2, (columns - width) // 2
    mask = np.zeros(shape, bool)
    mask[:, top : top + height, left : left + width] = True
    return mask


_FAMILIES: dict[str, _Family] = {
    "random_50": _Family(_random, 0.5),
    "random_90": _Family(_random, 0.9),
    "blocks": _Family(_blocks, 0.35, {"size": 6, "duration": 6}),
    "clouds": _Family(_clouds, 0.5, {"scale": 6, "duration": 6}),
    "swaths": _Family(_swaths, 0.4, {"width": None}),
    "centre_hole": _Family(_centre_hole, 0.25),
    "missing_times": _Family(_missing_times, 0.3, {"duration": 3}),
}

FAMILIES: tuple[str, ...] = tuple(_FAMILIES)
"""Names of the families of gaps."""
