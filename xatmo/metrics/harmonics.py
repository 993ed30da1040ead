"""Power per degree of spherical harmonics, exactly, on the grids that allow it.

Fields become Fourier series along each latitude circle and are then projected on
associated Legendre functions. Equally spaced rows are first interpolated by their own
trigonometric series, over the poles and back, to twice as many: there a quadrature is
exact for products of all the degrees that the grid holds. Gaussian rows have theirs.
Angles are colatitudes in radians; arrays are numpy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["HIGHEST_DEGREE", "Rows", "find_rows", "scalar_power", "vector_power"]

HIGHEST_DEGREE = 1900
"""Beyond it the recursion of Legendre functions starts from less than 1e-308."""

_TABLE = 2**22  # numbers in a table of Legendre functions: 32 MB
_SERIES = 2**23  # numbers in the Fourier series of a batch of fields: 128 MB


@dataclass(frozen=True)
class Rows:
    """How the rows of a grid lie between the poles.

    Parameters
    ----------
    kind : {"gaussian", "equal"}
    count : int
    north, south : bool
        Whether the first and the last of equally spaced rows lie on the poles; half a
        step away if neither does, a whole step if only the other one does.
    """

    kind: str
    count: int
    north: bool = False
    south: bool = False

    @property
    def steps(self) -> int:
        """Steps from pole to pole."""
        return self.count - 1 if self.north and self.south else self.count


def find_rows(latitude: np.ndarray) -> Rows | None:
    """Return how descending latitudes (degrees) lie; None if in no exact way."""
    count = latitude.size
    step = 180.0 / count
    candidates = (
        (Rows("equal", count), 90 - (np.arange(count) + 0.5) * step),
        (Rows("equal", count, True, True), np.linspace(90, -90, count)),
        (Rows("equal", count, True, False), 90 - np.arange(count) * step),
        (Rows("equal", count, False, True), 90 - (np.arange(count) + 1) * step),
        (Rows("gaussian", count), None),
    )
    best, least = None, 0.01 * step  # Gaussian rows are nearer than that to equal ones
    for rows, values in candidates:
        if values is None:
            values = 90 - np.rad2deg(np.arccos(_gauss(count)[0]))
        away = float(np.abs(latitude - values).max())
        if away < least:
            best, least = rows, away
    return best


def scalar_power(field: np.ndarray, rows: Rows, degree: int) -> np.ndarray:
    """Mean square per degree: (..., latitude, longitude) -> (..., degree + 1).

    Rows from north to south, equally spaced longitudes all around. Summed over degrees
    this is the mean of the squared field over the sphere.
    """

    def project(f: np.ndarray) -> np.ndarray:
        theta, weights, (f,) = _on_quadrature([f], rows, degree, odd=0)
        out = np.zeros((len(f), degree + 1))
        for orders, table in _tables(theta, degree):
            c = _integrals(table, f[:, orders] * weights, orders, flips=0)
            out += _sum_orders(np.abs(c) ** 2, orders)
        return out

    return _in_batches(project, field)


def vector_power(u: np.ndarray, v: np.ndarray, rows: Rows, degree: int) -> np.ndarray:
    """Mean square of a wind per degree, from vector harmonics; as `scalar_power`.

    Parameters
    ----------
    u, v : ndarray, shape (..., latitude, longitude)
        Eastward and northward component.
    """

    def project(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        theta, weights, (east, south) = _on_quadrature([u, -v], rows, degree, odd=1)
        weights = weights / np.sin(theta)
        out = np.zeros((len(u), degree + 1))
        norm = np.maximum(np.arange(degree + 1) * np.arange(1, degree + 2), 1)
        for orders, table in _tables(theta, degree):
            slope = _slopes(table, theta, orders)
            im = 1j * orders[:, None]
            e, s = east[:, orders] * weights, south[:, orders] * weights
            # Along the gradients of the harmonics, and along these turned by 90°.
            b = _integrals(slope, s, orders, 1) - _integrals(table, im * e, orders, 0)
            c = _integrals(slope, e, orders, 1) + _integrals(table, im * s, orders, 0)
            out += _sum_orders((np.abs(b) ** 2 + np.abs(c) ** 2) / norm, orders)
        return out

    return _in_batches(project, *np.broadcast_arrays(u, v))


def _in_batches(project: Callable[..., np.ndarray], *fields: np.ndarray) -> np.ndarray:
    """Apply to some fields at a time: tables are made once for each batch."""
    batch, shape = fields[0].shape[:-2], fields[0].shape[-2:]
    flat = [f.reshape(-1, *shape) for f in fields]
    size = max(1, _SERIES // (2 * shape[0] * shape[1]))
    starts = range(0, len(flat[0]), size)
    parts = [project(*(f[i : i + size] for f in flat)) for i in starts]
    return np.concatenate(parts).reshape(*batch, -1)


@lru_cache(maxsize=8)
def _gauss(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of colatitude from north to south, and their weights."""
    x, weights = np.polynomial.legendre.leggauss(count)
    return x[::-1], weights[::-1]


def _on_quadrature(
    fields: list[np.ndarray], rows: Rows, degree: int, odd: int
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Fourier series (n, m, row) on rows with exact weights, and these rows."""
    series = []
    for field in fields:
        # In double precision: what power is left at high degrees is 1e-8 of the whole.
        modes = np.fft.rfft(field.astype(np.float64), axis=-1, norm="forward")
        series.append(modes[..., : degree + 1].swapaxes(-1, -2))
    if rows.kind == "gaussian":
        x, weights = _gauss(rows.count)
        return np.arccos(x), weights, series
    count = 2 * rows.steps + 2  # exact for twice the degree, and even
    theta = (np.arange(count) + 0.5) * np.pi / count
    return theta, _fejer(count), [_resample(f, rows, count, odd) for f in series]


@lru_cache(maxsize=8)
def _fejer(count: int) -> np.ndarray:
    """Weights for rows half a step from the poles: exact for degrees below ``count``.

    References
    ----------
    Waldvogel, J. (2006): Fast construction of the Fejér and Clenshaw-Curtis quadrature
    rules. BIT Numer. Math. 46, 195-202.
    """
    theta = (np.arange(count) + 0.5) * np.pi / count
    k = np.arange(2, count, 2)
    return (2 / count) * (1 - 2 * np.cos(theta[:, None] * k) @ (1 / (k**2 - 1.0)))


def _resample(f: np.ndarray, rows: Rows, count: int, odd: int) -> np.ndarray:
    """Interpolate (n, m, row) trigonometrically to ``count`` midpoints.

    Beyond a pole a circle of latitude is met again, half way round: there the mode m
    has the sign (-1)^m, for components of a vector the opposite one.
    """
    sign = 1.0 - 2.0 * ((np.arange(f.shape[1]) + odd) % 2)[:, None]
    circle = _around(f, rows, sign)
    n = circle.shape[-1]
    waves = np.fft.fft(circle, axis=-1, norm="forward")
    half = n // 2
    k = np.arange(-half, half + 1)
    coefficients = waves[..., k % n]
    coefficients[..., [0, -1]] *= 0.5  # the last wave stands at both ends
    first = 0.0 if rows.north else np.pi / n * (1 if not rows.south else 2)
    shift = np.exp(1j * k * (0.5 * np.pi / count - first))
    longer = np.zeros((*f.shape[:-1], 2 * count), complex)
    longer[..., k] = coefficients * shift
    return np.fft.ifft(longer, axis=-1, norm="forward")[..., :count]


def _around(f: np.ndarray, rows: Rows, sign: np.ndarray) -> np.ndarray:
    """Go over both poles: (n, m, row) -> (n, m, 2 steps), from the first row on."""
    if not (rows.north or rows.south):
        return np.concatenate([f, sign * f[..., ::-1]], axis=-1)
    if not rows.north:  # from the south pole, and the other way round
        mirrored = Rows(rows.kind, rows.count, True, False)
        other = _around(f[..., ::-1], mirrored, sign)
        return np.roll(other[..., ::-1], -rows.steps, axis=-1)
    f = _with_pole(f, rows, sign)
    # What changes its sign over a pole vanishes there.
    f[..., [0, -1]] *= 0.5 * (1 + sign)
    return np.concatenate([f, sign * f[..., -2:0:-1]], axis=-1)


def _with_pole(f: np.ndarray, rows: Rows, sign: np.ndarray) -> np.ndarray:
    """Add the south pole where it is no row: so that the shortest wave vanishes."""
    if rows.south:
        return f.copy()
    alternate = (-1.0) ** np.arange(rows.steps)
    total = (f * alternate)[..., 1:].sum(-1, keepdims=True) * (1 + sign)
    pole = -((-1.0) ** rows.steps) * (f[..., :1] + total)
    return np.concatenate([f, pole], axis=-1)


def _tables(theta: np.ndarray, degree: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield orders of one parity and their functions (order, degree + 1, half of rows).

    Normalised so that the integral of the square over cos(theta) from -1 to 1 is 1.
    The southern half of the rows follows from the northern one.
    """
    theta = theta[: (theta.size + 1) // 2]
    size = max(1, _TABLE // ((degree + 1) * theta.size))
    for parity in (0, 1):
        every = np.arange(parity, degree + 1, 2)
        for i in range(0, every.size, size):
            orders = every[i : i + size]
            yield orders, _legendre(orders, degree, theta)


def _legendre(orders: np.ndarray, degree: int, theta: np.ndarray) -> np.ndarray:
    """Forward recursion in the degree, from logarithms of the first function.

    References
    ----------
    Holmes, S. A., and Featherstone, W. E. (2002): A unified approach to the Clenshaw
    summation and the recursive computation of very high degree and order normalised
    associated Legendre functions. J. Geodesy 76, 279-299.
    """
    m = orders.astype(np.float64)
    table = np.zeros((orders.size, degree + 1, theta.size))
    steps = np.log1p(0.5 / np.maximum(np.arange(orders.max() + 1), 1)) * 0.5
    steps[0] = 0.5 * np.log(0.5)
    log_first = np.cumsum(steps)[orders][:, None] + m[:, None] * np.log(np.sin(theta))
    table[np.arange(orders.size), orders] = np.exp(log_first)
    x = np.cos(theta)
    for n in range(int(orders.min()) + 1, degree + 1):
        going = orders < n
        square = m[going] ** 2
        a = np.sqrt((4.0 * n * n - 1) / (n * n - square))[:, None]
        b = np.sqrt(((n - 1.0) ** 2 - square) / (4.0 * (n - 1) ** 2 - 1))[:, None]
        before = table[going, n - 2] if n > 1 else 0.0
        table[going, n] = a * (x * table[going, n - 1] - b * before)
    return table


def _slopes(table: np.ndarray, theta: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """The functions' derivatives by theta, times sin(theta)."""
    n = np.arange(table.shape[1], dtype=np.float64)
    square = np.maximum(n**2 - orders[:, None] ** 2.0, 0.0)
    factor = np.sqrt(square * (2 * n + 1) / np.maximum(2 * n - 1, 1.0))
    slope = n[:, None] * np.cos(theta[: table.shape[-1]]) * table
    slope[:, 1:] -= factor[:, 1:, None] * table[:, :-1]
    return slope


def _integrals(
    table: np.ndarray, f: np.ndarray, orders: np.ndarray, flips: int
) -> np.ndarray:
    """Sum over rows (n, order, row) with functions -> (n, order, degree + 1).

    A function is even about the equator where degree + order is (its derivative where
    it is not: ``flips``), so that half of the rows are enough.
    """
    half = table.shape[-1]
    south = f[..., : -half - 1 : -1].copy()
    if f.shape[-1] % 2:
        south[..., -1] = 0.0  # the equator has no counterpart
    out = np.zeros((f.shape[0], *table.shape[:2]), complex)
    start = (int(orders[0]) + flips) % 2
    north = f[..., :half]
    for first, folded in ((start, north + south), (1 - start, north - south)):
        columns = folded.transpose(1, 2, 0)  # (order, row, n)
        rows = table[:, first::2]
        both = np.concatenate([columns.real, columns.imag], axis=-1)
        real, imag = np.split(rows @ both, 2, axis=-1)
        out[..., first::2] = (real + 1j * imag).transpose(2, 0, 1)
    return out


def _sum_orders(power: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Add orders, the negative ones too; mean over the sphere instead of integral."""
    twice = np.where(orders == 0, 0.5, 1.0)
    return np.einsum("nml,m->nl", power, twice)
