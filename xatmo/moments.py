"""One pass over a field of any size: what its mean, spread and logarithm come from.

The constants of a signed logarithm depend on mean and standard deviation, which are
known only at the end. So the pass keeps a fine histogram: bins that are the leading
bits of the number itself need no scale beforehand, are the same for every chunk, and
add up exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["Sketch", "sketch"]

# Sign, exponent and ten bits of the mantissa of a number in single precision: bins
# are 0.1 % of the number wide. Measured in tests/test_normalization.py: the error of
# the logarithm's constants is below 1e-7 for winds and what is derived from them, and
# below 1e-5 for pressures (101325 ± 1000 Pa).
_BITS = 10
_SHIFT = 23 - _BITS
_BINS = 2 ** (9 + _BITS)
_PIECE = 2**20  # numbers at a time, since each is widened to double precision


@dataclass(frozen=True, eq=False)
class Sketch:
    """Count, sum and sum of squares in each bin of a fine histogram.

    Parameters
    ----------
    bins : ndarray of uint32, (k,)
        Leading bits of the numbers; only bins that hold some, in rising order.
    table : ndarray of float64, (3, k)
        How many, and the sums of their distances from the bin's edge and of the
        squares of these: nothing is lost by cancellation.
    missing : int
        Numbers that are not finite in single precision.

    Examples
    --------
    >>> x = np.arange(5.0)
    >>> whole, parts = Sketch.of(x), Sketch.merge([Sketch.of(x[:2]), Sketch.of(x[2:])])
    >>> whole.mean, parts.mean, round(parts.std, 6)
    (2.0, 2.0, 1.414214)
    """

    bins: np.ndarray
    table: np.ndarray
    missing: int = 0

    @classmethod
    def of(cls, x: np.ndarray) -> Sketch:
        """Read an array of numbers once."""
        flat = np.asarray(x).reshape(-1)
        total, missing = np.zeros((3, _BINS)), 0
        for start in range(0, flat.size, _PIECE):
            with np.errstate(over="ignore"):  # what overflows counts as missing
                piece = flat[start : start + _PIECE]
                single = piece.astype(np.float32)
            good = np.isfinite(single)
            missing += int(good.size - np.count_nonzero(good))
            single, piece = single[good], piece[good].astype(np.float64)
            bins = single.view(np.uint32) >> _SHIFT
            away = piece - _edges(bins)
            total[0] += np.bincount(bins, minlength=_BINS)
            total[1] += np.bincount(bins, away, minlength=_BINS)
            total[2] += np.bincount(bins, away * away, minlength=_BINS)
        held = np.flatnonzero(total[0])
        return cls(held.astype(np.uint32), total[:, held], missing)

    @classmethod
    def merge(cls, sketches: Iterable[Sketch]) -> Sketch:
        """Add up the sketches of parts."""
        sketches = list(sketches)
        bins, place = np.unique(
            np.concatenate([s.bins for s in sketches]), return_inverse=True
        )
        tables = np.concatenate([s.table for s in sketches], axis=1)
        table = np.stack(
            [np.bincount(place, row, minlength=bins.size) for row in tables]
        )
        return cls(bins, table, sum(s.missing for s in sketches))

    @property
    def count(self) -> int:
        """How many finite numbers there were."""
        return int(self.table[0].sum())

    @property
    def mean(self) -> float:
        """Mean of all of them: exact."""
        n, first, _ = self.table
        return float((n * _edges(self.bins) + first).sum() / n.sum())

    @property
    def std(self) -> float:
        """Population standard deviation: exact, and 0 for what is constant."""
        n = self.table[0]
        centres, spread = self._clusters
        variance = (n * (spread**2 + (centres - self.mean) ** 2)).sum() / n.sum()
        # Single precision has seven digits: less than nine is rounding.
        size = float(np.abs(centres).max())
        return math.sqrt(variance) if math.sqrt(variance) > 1e-9 * size else 0.0

    def log_moments(self, alpha: float) -> tuple[float, float]:
        """Mean and standard deviation of sign(z) ln(1 + alpha |z|), z standardised.

        Two points stand for each bin, one standard deviation of its numbers to either
        side of their mean: exact up to the third power of its width.
        """
        n = self.table[0]
        centres, spread = self._clusters
        points = np.stack([centres - spread, centres + spread])
        z = (points - self.mean) / self.std
        y = np.sign(z) * np.log1p(alpha * np.abs(z))
        mean = float((n * y).sum() / (2 * n.sum()))
        variance = float((n * (y - mean) ** 2).sum() / (2 * n.sum()))
        return mean, math.sqrt(variance)

    @cached_property
    def _clusters(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the numbers in each bin."""
        n, first, second = self.table
        away = first / n
        variance = np.maximum(second / n - away**2, 0.0)
        return _edges(self.bins) + away, np.sqrt(variance)


def sketch(x: Any) -> Any:
    """Return the sketch of an array: at once, or as a Dask array to be computed.

    Parameters
    ----------
    x : ndarray or dask.array.Array
        Of numbers, in any chunks.

    Returns
    -------
    Sketch or dask.array.Array
        The latter without dimensions; computed, it is a Sketch. Each chunk is read
        once and a few megabytes of it are kept.
    """
    if not hasattr(x, "dask"):
        return Sketch.of(np.asarray(x))
    import dask.array as da

    return da.reduction(
        x,
        chunk=_chunk,
        aggregate=_merge,
        combine=_merge,
        concatenate=False,
        split_every=64,
        dtype=object,
        meta=np.empty((), dtype=object),
    )


def _chunk(
    x: np.ndarray, axis: Any, keepdims: bool, computing_meta: bool = False
) -> Any:
    # Dask asks what kind of array a chunk gives before there is any data.
    return x.astype(object) if computing_meta else Sketch.of(x)


def _merge(parts: Any, axis: Any, keepdims: bool, computing_meta: bool = False) -> Any:
    return parts if computing_meta else Sketch.merge(_flat(parts))


def _flat(parts: Any) -> Iterator[Sketch]:
    if isinstance(parts, Sketch):
        yield parts
        return
    for part in parts:
        yield from _flat(part)


def _edges(bins: np.ndarray) -> np.ndarray:
    """The number closest to zero in each bin, in double precision."""
    return (bins.astype(np.uint32) << _SHIFT).view(np.float32).astype(np.float64)
