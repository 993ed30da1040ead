"""Random numbers that belong to a place and a time, not to a position in an array.

A generator that counts gives each point the number of its turn: another chunking, or a
part of the domain, and every point has another number. Here the numbers are a hash of
where and when a point is, so that they are the same in whatever company it comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

__all__ = ["Draw", "hash_values", "key_of", "keys_of", "normal"]

_ROUND = 1e4  # coordinates in single precision still agree to this part of a degree
_CIRCLE = np.uint64(360 * _ROUND)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_MIDDLE, _UNIT = np.float32(0.5), np.float32(2.0**-32)
# Coordinates, beside dates, that tell fields apart even where they are no dimension.
_MEMBERS = {"number", "member", "realization", "ensemble", "ensemble_member"}


@dataclass(frozen=True)
class Draw:
    """Standard normal numbers by place and by number of the draw.

    Parameters
    ----------
    base : int
        Key of all that does not vary.
    channels : int
    """

    base: int
    channels: int

    def __call__(
        self, keys: np.ndarray, latitude: np.ndarray, longitude: np.ndarray, number: int
    ) -> np.ndarray:
        """Draw once: see :func:`normal`."""
        own = np.uint64(self.base) + hash_values("draw", np.array([number]))
        return normal(keys + own, latitude, longitude, self.channels)


def keys_of(
    field: xr.DataArray, core: Sequence[str], *parts: int | str
) -> tuple[int, dict[str, np.ndarray]]:
    """Return what the fields of an array are known by.

    Parameters
    ----------
    field : DataArray
        With dimensions (..., *core).
    core : sequence of str
    *parts : int or str
        What else is to make a difference.

    Returns
    -------
    base : int
        One number for all fields.
    keys : dict of ndarray of uint64
        For each further dimension a number for each position, by its coordinate if it
        has one. Their sum is a field's own.
    """
    base = np.array([key_of(*parts)], np.uint64)
    for name, coord in field.coords.items():
        if coord.ndim == 0 and _tells_apart(field, str(name)):
            base = base + hash_values(str(name), coord.values.reshape(1))
    keys = {}
    for dim in (str(d) for d in field.dims if d not in core):
        known = dim in field.indexes
        values = field[dim].values if known else np.arange(field.sizes[dim])
        keys[dim] = hash_values(dim, values)
    return int(base[0]), keys


def _tells_apart(field: xr.DataArray, name: str) -> bool:
    """Whether a scalar coordinate was a dimension before one of its values was chosen.

    So that ``ds.isel(time=3)`` gets what that time gets in ``ds``.
    """
    coord = field[name]
    if (name == "valid_time" and "time" in field.coords) or not isinstance(
        coord.data, np.ndarray | np.generic
    ):
        return False  # it follows from others; or it is lazy, as no dimension's are
    dated = coord.dtype.kind in "mM" or hasattr(coord.values.item(), "calendar")
    return dated or bool({name.lower(), coord.attrs.get("standard_name")} & _MEMBERS)


def key_of(*parts: int | str) -> int:
    """Return one number for a sequence of numbers and names; their order counts.

    Examples
    --------
    >>> key_of("a", 1) == key_of("a", 1), key_of("a", 1) == key_of(1, "a")
    (True, False)
    """
    key = np.zeros(1, np.uint64)
    for part in parts:
        number = part % 2**64 if isinstance(part, int) else _hash_text(part)
        key = _mix(key + _mix(np.array([number], np.uint64)))
    return int(key[0])


def hash_values(name: str, values: np.ndarray) -> np.ndarray:
    """Return one number for each value along an axis.

    Parameters
    ----------
    name : str
        Of the axis: 3 hours are something else than member 3.
    values : ndarray, shape (n,)
        Dates (also cftime's), time steps, numbers or texts.

    Returns
    -------
    ndarray of uint64, shape (n,)
        To be added to those of other axes.
    """
    return _mix(_mix(_bits(np.asarray(values))) + np.uint64(key_of(name)))


def normal(
    keys: np.ndarray, latitude: np.ndarray, longitude: np.ndarray, channels: int
) -> np.ndarray:
    """Draw standard normal numbers, independent of each other.

    Parameters
    ----------
    keys : ndarray of uint64, shape (n,)
        One for each field.
    latitude, longitude : ndarray, shape (h,) and (w,)
        Degrees; full circles more or less are the same place.
    channels : int
        Numbers for each point.

    Returns
    -------
    ndarray of float32, shape (n, channels, h, w)

    Notes
    -----
    The finaliser of SplitMix64 (Steele et al., 2014) over keys and coordinates; its two
    halves give two normal numbers by the method of Box and Muller. None is beyond 6.8.

    Examples
    --------
    >>> import numpy as np
    >>> key = np.array([key_of("2020-01-01", 0)], np.uint64)
    >>> whole = normal(key, np.array([1.0, 0.0]), np.array([-1.0, 0.0]), 2)
    >>> part = normal(key, np.array([0.0]), np.array([359.0]), 2)
    >>> bool((whole[:, :, 1:, :1] == part).all())
    True
    """
    pairs = -(-channels // 2)
    turns = np.arange(pairs, dtype=np.uint64) * _GOLDEN
    seeds = _mix(np.asarray(keys, np.uint64)[:, None] + turns)  # (n, pairs)
    places = _mix(_mix(_rounded(latitude))[:, None] + _around(longitude))  # (h, w)
    bits = _mix(places + seeds[:, :, None, None])
    # In single precision, several times faster: a network asks for no more digits.
    high, low = (part.astype(np.float32) for part in (bits >> _HALF, bits & _LOW))
    radius = np.sqrt(np.float32(-2.0) * np.log((high + _MIDDLE) * _UNIT))
    angle = low * (np.float32(2.0 * np.pi) * _UNIT)
    drawn = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    n, _, _, h, w = drawn.shape
    return drawn.reshape(n, 2 * pairs, h, w)[:, :channels]


def _mix(x: np.ndarray) -> np.ndarray:
    """Turn numbers into others that look random, each bit depending on every bit."""
    with np.errstate(over="ignore"):
        x = x + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _rounded(x: np.ndarray) -> np.ndarray:
    return np.rint(np.asarray(x, np.float64) * _ROUND).astype(np.int64).view(np.uint64)


def _around(longitude: np.ndarray) -> np.ndarray:
    # Rounded before it is taken off: a hair below 360 is 0.
    turns = np.floor(np.asarray(longitude, np.float64) / 360.0)
    return _rounded(longitude - 360.0 * turns) % _CIRCLE


def _bits(values: np.ndarray) -> np.ndarray:
    kind = values.dtype.kind
    if kind == "M":
        return values.astype("datetime64[us]").view(np.uint64)
    if kind == "m":
        return values.astype("timedelta64[us]").view(np.uint64)
    if kind in "iufb":
        # Adding nothing makes -0.0 a 0.0: equal values have equal bits.
        return (values.astype(np.float64) + 0.0).view(np.uint64)
    return np.array([_hash_text(t) for t in _texts(values)], np.uint64)


def _texts(values: np.ndarray) -> Iterable[str]:
    for value in values.tolist():
        # A date of another calendar is another day.
        calendar = getattr(value, "calendar", "")
        yield f"{calendar} {value.isoformat()}" if calendar else str(value)


def _hash_text(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
