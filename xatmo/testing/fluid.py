"""A fluid to learn from: vortices on a plane that drift, or carry each other.

What happens is known: drift is exact, and what vortices do to each other is solved for
and conserves what a two-dimensional flow conserves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import xarray as xr

from xatmo.fields.winds import EARTH_RADIUS
from xatmo.testing.vorticity import VorticitySolver, check, check_grid, check_positive

__all__ = ["Vortex", "cut_samples", "drifting_vortices", "simulate"]

_NARROWEST = 2.0  # grid spacings within the shorter semi-axis of a vortex
_START = np.datetime64("2020-01-01", "ns")
_ATTRS = {
    "vo": ("atmosphere_relative_vorticity", "s-1"),
    "u": ("eastward_wind", "m s-1"),
    "v": ("northward_wind", "m s-1"),
    "latitude": ("latitude", "degrees_north"),
    "longitude": ("longitude", "degrees_east"),
    "level": ("air_pressure", "hPa"),
}


@dataclass(frozen=True)
class Vortex:
    """An elliptic vortex: its vorticity is a Gaussian, round or drawn out.

    Parameters
    ----------
    latitude, longitude : float
        Of its centre (degrees).
    radius : float
        At which the vorticity is 1/e of the peak (m); of an ellipse, the geometric mean
        of its semi-axes.
    peak : float
        Vorticity at the centre (s-1); above 0 it turns counterclockwise.
    eccentricity : float
        From 0, a circle, to below 1.
    angle : float
        Of the long axis, counterclockwise from east (degrees).
    drift : tuple of float
        Eastward and northward (m s-1).

    Raises
    ------
    xatmo.errors.OptionError
        If a value is not finite or out of its range.
    """

    latitude: float
    longitude: float
    radius: float
    peak: float
    eccentricity: float = 0.0
    angle: float = 0.0
    drift: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        finite = all(np.isfinite(value).all() for value in astuple(self))
        check(finite, "vortex", self, "finite numbers")
        check(self.radius > 0, "radius", self.radius, "metres, above 0")
        oval = 0 <= self.eccentricity < 1
        check(oval, "eccentricity", self.eccentricity, "from 0 to below 1")


def drifting_vortices(
    times: int = 8,
    shape: tuple[int, int] = (64, 64),
    *,
    vortices: int | Sequence[Vortex] = 6,
    spacing: float = 0.25,
    step_hours: float = 3,
    seed: int = 0,
) -> xr.Dataset:
    """Move vortices over a plane, each by its own drift and without a change of shape.

    Parameters
    ----------
    times : int
        Number of times.
    shape : tuple of int
        Numbers of latitudes and longitudes.
    vortices : int or sequence of Vortex
        Or how many to draw: of any position and angle, with radii of 1/14 to 1/9 of the
        shorter side, eccentricities up to 0.8, peaks of 1 to 2e-4 s-1 of either sign, a
        drift in common (standard deviation 5 m s-1) and one of their own (1.5 m s-1).
    spacing : float
        Of the grid (degrees). A finer one has the same vortices.
    step_hours : float
        Between the times.
    seed : int

    Returns
    -------
    Dataset
        ``vo`` (s-1) and the winds ``u``, ``v`` (m s-1), float32, ``(time, latitude,
        longitude)``, at 500 hPa. The mean wind is the mean drift of the vortices.

    Raises
    ------
    xatmo.errors.OptionError
        If a value is out of its range, or a vortex too small for the grid.

    Notes
    -----
    The plane touches the Earth at the equator and repeats itself both ways. A degree is
    one of a great circle either way, so that derivatives on the sphere differ from its
    own by ``1 - cos(latitude)``. Vorticity that repeats itself has no mean: that of the
    vortices is taken off everywhere.

    Examples
    --------
    >>> from xatmo.testing.fluid import drifting_vortices
    >>> ds = drifting_vortices(times=2)
    >>> dict(ds.sizes), list(ds)
    ({'time': 2, 'latitude': 64, 'longitude': 64}, ['vo', 'u', 'v'])
    """
    check_grid(shape, spacing)
    inside = spacing * shape[0] <= 180 and spacing * shape[1] <= 360
    check(inside, "spacing", spacing, f"{shape} points within 180 x 360 degrees")
    count = vortices if isinstance(vortices, int) else len(vortices)
    check(count > 0, "number of vortices", count, "1 or more")
    if isinstance(vortices, int):
        vortices = _draw(count, shape, spacing, np.random.default_rng(seed))
    east, north = np.mean([vortex.drift for vortex in vortices], axis=0).tolist()
    solver = VorticitySolver(shape, _metres(spacing), mean_wind=(east, north))
    seconds = _seconds(times, step_hours)
    states = [_vorticity(vortices, solver, elapsed) for elapsed in seconds]
    return _dataset(solver, states, _START, seconds)


def simulate(
    initial: xr.Dataset,
    times: int = 8,
    *,
    step_hours: float = 3,
    damping_hours: float | None = 1.0,
) -> xr.Dataset:
    """Simulate how vortices turn, shed filaments, carry each other and merge.

    Parameters
    ----------
    initial : Dataset
        As of :func:`drifting_vortices`, of whose drifts only the mean wind is left. The
        last time counts if there are several.
    times : int
        Number of times, the initial one included.
    step_hours : float
        Between the times.
    damping_hours : float or None
        See :class:`~xatmo.testing.vorticity.VorticitySolver`; what filaments leave
        becomes noise without it.

    Returns
    -------
    Dataset
        As of :func:`drifting_vortices`.

    Raises
    ------
    xatmo.errors.OptionError
        If a value is out of its range, or the points are not equally spaced.

    Examples
    --------
    >>> from xatmo.testing.fluid import drifting_vortices, simulate
    >>> ds = simulate(drifting_vortices(1, seed=2), times=3)
    >>> energy = (ds.u**2 + ds.v**2).mean(["latitude", "longitude"]) / 2
    >>> (energy / energy[0]).values.round(3)
    array([1., 1., 1.], dtype=float32)
    """
    seconds = _seconds(times, step_hours)
    start, spacing = _read(initial)
    solver = VorticitySolver(
        start["vo"].shape,
        _metres(spacing),
        mean_wind=(float(start["u"].mean()), float(start["v"].mean())),
        damping_hours=damping_hours,
    )
    states = [start["vo"].values]
    for elapsed in np.diff(seconds):
        states.append(solver.run(states[-1], elapsed))
    time = start.coords.get("time", xr.DataArray(_START))
    return _dataset(solver, states, time.values, seconds)


def cut_samples(ds: xr.Dataset, history: int = 3) -> tuple[xr.Dataset, xr.Dataset]:
    """Cut a series into what a network sees (t-2, t-1, t) and has to say (t+1).

    Parameters
    ----------
    ds : Dataset
        With the dimension ``time``, evenly spaced; others stay as they are.
    history : int
        Number of times that the network sees.

    Returns
    -------
    inputs : Dataset
        With ``(sample, lag)`` in place of ``time``; the last ``lag`` is 0, that of t.
    targets : Dataset
        With ``sample`` in place of ``time``. Both keep ``time`` as a coordinate, and
        are lazy where ``ds`` is.

    Raises
    ------
    xatmo.errors.OptionError
        If there are fewer times than a sample has, or they are not evenly spaced.

    Examples
    --------
    >>> from xatmo.testing.fluid import cut_samples, drifting_vortices
    >>> inputs, targets = cut_samples(drifting_vortices(times=6))
    >>> inputs.vo.dims, inputs.vo.shape
    (('sample', 'lag', 'latitude', 'longitude'), (3, 3, 64, 64))
    """
    check(history >= 1, "history", history, "1 or more")
    count, needed = ds.sizes.get("time", 0), f"{history + 1} or more, evenly spaced"
    check(count > history, "number of times", count, needed)
    apart = np.diff(ds["time"].values)
    found = f"{apart.min()} to {apart.max()}"
    check((apart == apart[0]).all(), "time step", found, needed)
    last = np.arange(history - 1, count - 1)
    back = np.arange(1 - history, 1)
    seen = xr.DataArray(last[:, None] + back, dims=("sample", "lag"))
    inputs = ds.isel(time=seen).assign_coords(lag=back * apart[0])
    return inputs, ds.isel(time=xr.DataArray(last + 1, dims="sample"))


def _draw(
    count: int, shape: tuple[int, int], spacing: float, rng: np.random.Generator
) -> list[Vortex]:
    shared = rng.normal(0, 5, 2)
    return [
        Vortex(
            latitude=spacing * shape[0] * rng.uniform(-0.5, 0.5),
            longitude=spacing * shape[1] * rng.random(),
            radius=_metres(spacing) * min(shape) * rng.uniform(1 / 14, 1 / 9),
            peak=rng.choice([-1, 1]) * rng.uniform(1e-4, 2e-4),
            eccentricity=rng.uniform(0, 0.8),
            angle=rng.uniform(0, 180),
            drift=tuple((shared + rng.normal(0, 1.5, 2)).tolist()),
        )
        for _ in range(count)
    ]


def _vorticity(
    vortices: Sequence[Vortex], solver: VorticitySolver, seconds: float
) -> np.ndarray:
    # A Gaussian with all of its periodic images is a Gaussian of the waves.
    k, l_ = solver.k, solver.l
    first = solver.spacing * (1 - solver.shape[0] / 2)  # row, north of the equator
    waves = np.zeros(solver.kept.shape, complex)
    for vortex in vortices:
        squeeze = (1 - vortex.eccentricity**2) ** 0.25
        a, b = vortex.radius / squeeze, vortex.radius * squeeze
        least = _NARROWEST * solver.spacing
        check(b >= least, "shorter semi-axis", b, f"{least:.0f} m or more here")
        cos, sin = np.cos(np.deg2rad(vortex.angle)), np.sin(np.deg2rad(vortex.angle))
        along, across = a * (k * cos + l_ * sin), b * (l_ * cos - k * sin)
        east = _metres(vortex.longitude) + seconds * vortex.drift[0]
        north = _metres(vortex.latitude) + seconds * vortex.drift[1] - first
        shape = np.exp(-(along**2 + across**2) / 4 - 1j * (k * east + l_ * north))
        waves += vortex.peak * np.pi * a * b / solver.spacing**2 * shape
    return np.fft.irfft2(solver.kept * waves, solver.shape)


def _dataset(
    solver: VorticitySolver, states: list[np.ndarray], start: Any, seconds: np.ndarray
) -> xr.Dataset:
    fields = [np.stack([state, *solver.winds(state)]) for state in states]
    series = np.stack(fields, axis=1)[..., ::-1, :].astype(np.float32)
    dims = ("time", "latitude", "longitude")
    rows, columns = (np.arange(n) for n in solver.shape)
    spacing = np.rad2deg(solver.spacing / EARTH_RADIUS).round(12)
    ds = xr.Dataset(
        {name: (dims, x) for name, x in zip(("vo", "u", "v"), series, strict=True)},
        coords={
            "time": start + (seconds * 1e9).round().astype("timedelta64[ns]"),
            "latitude": spacing * (rows.size / 2 - rows),
            "longitude": spacing * columns,
            # Where the flow of the atmosphere is nearest to one without divergence.
            "level": 500.0,
        },
    )
    for name, (standard_name, units) in _ATTRS.items():
        ds[name].attrs = {"standard_name": standard_name, "units": units}
    return ds


def _metres(degrees: float) -> float:
    return EARTH_RADIUS * math.radians(degrees)


def _seconds(times: int, step_hours: float) -> np.ndarray:
    check(times >= 1, "number of times", times, "1 or more")
    check_positive("step_hours", step_hours)
    return 3600 * step_hours * np.arange(times)


def _read(ds: xr.Dataset) -> tuple[xr.Dataset, float]:
    """Last state, rows from south to north, and the spacing (degrees)."""
    found = sorted({"vo", "u", "v", "latitude", "longitude"} & set(ds.variables))
    check(len(found) == 5, "state", found, "vo, u, v on latitude and longitude")
    ds = ds.isel(time=-1) if "time" in ds.dims else ds
    ds = ds.sortby("latitude").transpose("latitude", "longitude")
    steps = np.r_[np.diff(ds["latitude"]), np.diff(ds["longitude"])]
    even = np.allclose(steps, steps[0], rtol=1e-3)
    apart = f"{steps.min():g} to {steps.max():g} degrees"
    check(even, "spacing", apart, "the same everywhere, both ways")
    return ds, float(np.median(steps))
