"""A vorticity solver: flow in two dimensions, without divergence, that repeats itself.

Such a flow conserves its energy and its enstrophy; without damping the solver does so
too, but for what its time steps lose.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xatmo.errors import OptionError

__all__ = ["VorticitySolver", "check", "check_grid", "check_positive"]

_COURANT = 0.5  # of the steps that the solver chooses
_STABLE = 1.35  # 2 sqrt(2), Runge-Kutta's limit, over 2 pi / 3, the shortest wave's


class VorticitySolver:
    """Two-dimensional flow without divergence, on a plane that repeats itself.

    Vorticity is carried by the wind that belongs to it and by a uniform one. Pseudo-
    spectral, without aliasing (the lower two thirds of the waves are kept [1]_); steps
    of Runge-Kutta of fourth order, uniform wind and damping integrated exactly.

    Parameters
    ----------
    shape : tuple of int
        Numbers of rows, from south to north, and of columns; 8 at least.
    spacing : float
        Of both (m).
    mean_wind : tuple of float
        Eastward and northward (m s-1).
    damping_hours : float, optional
        In which the shortest wave along a row decays to 1/e; the rate grows with the
        8th power of the wavenumber (hyperviscosity). Nothing decays if not given.

    Raises
    ------
    xatmo.errors.OptionError
        If a value is out of its range.

    References
    ----------
    .. [1] Orszag (1971), J. Atmos. Sci. 28, 1074.
    .. [2] Basdevant (1983), J. Comput. Phys. 50, 209-214.

    Examples
    --------
    Without a mean wind a wave along the rows stays where it is.

    >>> import numpy as np
    >>> from xatmo.testing.vorticity import VorticitySolver
    >>> solver = VorticitySolver((16, 16), spacing=50e3)
    >>> wave = 1e-4 * np.cos(2 * np.pi * np.arange(16) / 16) * np.ones((16, 1))
    >>> bool(np.allclose(solver.run(wave, seconds=86400), wave))
    True
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        spacing: float,
        *,
        mean_wind: tuple[float, float] = (0.0, 0.0),
        damping_hours: float | None = None,
    ) -> None:
        check_grid(shape, spacing)
        check(np.isfinite(mean_wind).all(), "mean_wind", mean_wind, "finite numbers")
        self.shape, self.spacing, self.mean_wind = tuple(shape), spacing, mean_wind
        rows, columns = shape
        north = np.fft.fftfreq(rows, 1 / rows)[:, None]  # waves around the plane
        east = np.fft.rfftfreq(columns, 1 / columns)
        self.kept = (3 * abs(north) < rows) & (3 * east < columns)
        self.kept[0, 0] = False
        self.k = k = 2 * np.pi / (spacing * columns) * east  # (columns // 2 + 1,)
        self.l = l_ = 2 * np.pi / (spacing * rows) * north  # (rows, 1)
        squared = np.where(self.kept, k**2 + l_**2, np.inf)
        self._to_winds = np.stack([1j * l_ / squared, -1j * k / squared])
        self._to_tendency = self.kept * np.stack([k**2 - l_**2, k * l_])
        self._rate = -1j * self.kept * (k * mean_wind[0] + l_ * mean_wind[1])
        if damping_hours is not None:
            check_positive("damping_hours", damping_hours)
            relative = self.kept * (k**2 + l_**2) / (self.kept * k).max() ** 2
            self._rate -= relative**4 / (3600 * damping_hours)

    def winds(self, vorticity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the winds u, v (m s-1) of a vorticity (s-1), all of the same shape."""
        u, v = self._own_winds(self._transform(vorticity))
        return u + self.mean_wind[0], v + self.mean_wind[1]

    def run(
        self, vorticity: np.ndarray, seconds: float, steps: int | None = None
    ) -> np.ndarray:
        """Carry a vorticity (s-1) forward; its mean and shortest waves are left out.

        The steps, if not given, are as many as keep the Courant number at 0.5. Too few
        to be stable are refused by an OptionError, as are values that are not finite.
        """
        check_positive("seconds", seconds)
        state = self._transform(vorticity)
        u, v = self._own_winds(state)
        crossed = float((abs(u) + abs(v)).max()) * seconds / self.spacing  # cells
        steps = max(1, math.ceil(crossed / _COURANT)) if steps is None else steps
        least = max(1, math.ceil(crossed / _STABLE))
        check(steps >= least, "steps", steps, f"{least} or more, to be stable")
        half = np.exp(self._rate * seconds / steps / 2)
        for _ in range(steps):
            state = self._step(state, seconds / steps, half)
        return np.fft.irfft2(state, self.shape)

    def _step(self, state: np.ndarray, step: float, half: np.ndarray) -> np.ndarray:
        # Runge-Kutta; ``half`` carries what is linear over half of the step.
        first = self._tendency(state)
        state = half * state
        second = self._tendency(state + step / 2 * half * first)
        third = self._tendency(state + step / 2 * second)
        fourth = self._tendency(half * (state + step * third))
        middle = half * first + 2 * (second + third)
        return half * (state + step / 6 * middle) + step / 6 * fourth

    def _tendency(self, state: np.ndarray) -> np.ndarray:
        # -curl div(uu), two products to transform [2]_; the gradient form has three.
        u, v = self._own_winds(state)
        products = np.fft.rfft2(np.stack([u * v, v**2 - u**2]))
        return (self._to_tendency * products).sum(0)

    def _own_winds(self, state: np.ndarray) -> np.ndarray:
        return np.fft.irfft2(self._to_winds * state, self.shape)  # (2, rows, columns)

    def _transform(self, vorticity: np.ndarray) -> np.ndarray:
        shape, bad = vorticity.shape, np.count_nonzero(~np.isfinite(vorticity))
        check(shape == self.shape, "shape of the vorticity", shape, str(self.shape))
        check(not bad, "number of values that are not finite", bad, "0")
        return self.kept * np.fft.rfft2(vorticity)


def check(holds: Any, name: str, found: Any, needed: str) -> None:
    """Refuse what a flow cannot have."""
    if not holds:
        msg = f"A flow cannot have this {name}."
        hint = "cut_samples(simulate(drifting_vortices(1, (64, 64)), times=8))"
        raise OptionError(msg, found=f"{name}={found}", needed=needed, hint=hint)


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a finite number above 0."""
    check(np.isfinite(value) and value > 0, name, value, "a finite number above 0")


def check_grid(shape: tuple[int, ...], spacing: float) -> None:
    """Refuse a plane that is too small to have vortices."""
    fits = len(shape) == 2 and min(shape) >= 8
    check(fits, "shape", shape, "two numbers of at least 8")
    check_positive("spacing", spacing)
