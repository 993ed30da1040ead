"""What the methods that fill gaps read and give: maps in time, with gaps, without."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from xatmo.errors import MissingDependencyError

__all__ = ["Filled", "Gappy", "hide", "needs"]

_AROUND = 6  # times before and after a test that a moved gap goes on for


@dataclass(frozen=True)
class Gappy:
    """Maps in time with gaps, as every method reads them.

    Attributes
    ----------
    values : ndarray, shape (T, H, W)
        In double precision; NaN where missing.
    latitude, longitude : ndarray, shape (H,) and (W,)
        Degrees; north to south, longitude ascending.
    hours : ndarray, shape (T,), or None
        Times in hours since any midnight, ascending; None if they are not known.
    periodic : bool
        Whether the last column is the first one's neighbour.
    """

    values: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    hours: np.ndarray | None
    periodic: bool

    @property
    def steps(self) -> np.ndarray:
        """Distances from each time to the next, in the most usual one, (T - 1,)."""
        if self.hours is None or len(self.hours) < 2:
            return np.ones(len(self.values) - 1)
        gaps = np.diff(self.hours)
        return gaps / np.median(gaps)

    def with_values(self, values: np.ndarray) -> Gappy:
        """Return the same times and places with other values."""
        return replace(self, values=values)


@dataclass(frozen=True)
class Filled:
    """Maps whose gaps are filled.

    Attributes
    ----------
    values : ndarray, shape (T, H, W)
        As given where it was observed; NaN where the method has nothing to say.
    spread : ndarray, shape (T, H, W), or None
        Standard deviation that is expected of the error, in units of the values; 0
        where observed. None for methods that do not tell.
    """

    values: np.ndarray
    spread: np.ndarray | None = None


def hide(missing: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pick observed cells to score a method on, in gaps of the shapes that there are.

    The gaps themselves are moved to other times and places, in runs of times; scores
    are for the middle of each run, because what is observed before and after it is a
    step away from its ends.

    Parameters
    ----------
    missing : ndarray of bool, shape (T, H, W)
    seed : int

    Returns
    -------
    hidden, tested : ndarray of bool, shape (T, H, W)
        Observed cells to be hidden, and those among them to test at. None if there are
        no gaps.
    """
    rng = np.random.default_rng(seed)
    hidden, tested = np.zeros_like(missing), np.zeros_like(missing)
    times = len(missing)
    half = min(_AROUND, times // 16)
    for middle in range(0, times, 4 * (2 * half + 1)):
        middle = min(middle + int(rng.integers(4 * (2 * half + 1))), times - 1)
        run = slice(max(middle - half, 0), middle + half + 1)
        moved = np.roll(missing, [rng.integers(n) for n in missing.shape], (0, 1, 2))
        found = moved[run] & ~missing[run]
        hidden[run] |= found
        tested[middle] |= moved[middle] & ~missing[middle]
    # Gaps may be whole times: of those that were seen, half at least are to stay so.
    seen = ~missing.all(axis=(1, 2))
    lost = np.flatnonzero(seen & (missing | hidden).all(axis=(1, 2)))
    kept = rng.permutation(lost)[: max(len(lost) - int(seen.sum()) // 2, 0)]
    hidden[kept] = tested[kept] = False
    return hidden, tested


def needs(package: str, version: str, what: str) -> MissingDependencyError:
    """Return the error that says which extra to install."""
    msg = f"{what} needs {package}."
    return MissingDependencyError(
        msg,
        found=f"no {package} in this environment",
        needed=f"{package} {version} or newer",
        hint='pip install "xatmo[infill]"',
    )
