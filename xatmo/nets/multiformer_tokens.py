"""Tokens of the Multiformer: blocks of space and time, where they are, and their code.

A field is a few levels of a box in time, latitude and longitude. A token is a small
block of one level of it; tokens are ordered by level, time, row and column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from xatmo.errors import OptionError
from xatmo.nets.multiformer_fields import INFO, FieldSpec

__all__ = [
    "TokenEmbedding",
    "detokenize",
    "position_code",
    "token_info",
    "tokenize",
]


def tokenize(x: Tensor, token_size: Sequence[int]) -> Tensor:
    """Cut a box into tokens: a view of it.

    Parameters
    ----------
    x : Tensor, shape (..., T * t, Y * y, X * x)
    token_size : sequence of int
        t, y, x: points of a token.

    Returns
    -------
    Tensor, shape (..., T, Y, X, t, y, x)

    Raises
    ------
    xatmo.errors.OptionError
        If the box is not made of whole tokens.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.multiformer_tokens import detokenize, tokenize
    >>> box = torch.randn(1, 5, 36, 54, 108)  # batch, level, time, latitude, longitude
    >>> tokens = tokenize(box, (3, 18, 18))
    >>> tokens.shape
    torch.Size([1, 5, 12, 3, 6, 3, 18, 18])
    >>> bool((detokenize(tokens) == box).all())
    True
    """
    if any(n % s for n, s in zip(x.shape[-3:], token_size, strict=True)):
        msg = "The box is not made of whole tokens."
        found = f"{tuple(x.shape[-3:])} points"
        needed = f"multiples of {tuple(token_size)} (time, latitude, longitude)"
        raise OptionError(msg, found=found, needed=needed, hint="take another box")
    t, rows, columns = token_size
    x = x.unflatten(-1, (-1, columns)).unflatten(-3, (-1, rows)).unflatten(-5, (-1, t))
    return x.movedim((-5, -3, -1), (-3, -2, -1))  # of (..., T, t, Y, y, X, x)


def detokenize(tokens: Tensor) -> Tensor:
    """Put tokens together again: (..., T, Y, X, t, y, x) -> (..., T t, Y y, X x)."""
    x = tokens.movedim((-3, -2, -1), (-5, -3, -1))  # (..., T, t, Y, y, X, x)
    return x.flatten(-2).flatten(-3, -2).flatten(-4, -3)


def token_info(
    times: np.ndarray,
    colatitude: np.ndarray,
    longitude: np.ndarray,
    levels: Sequence[float],
    token_size: Sequence[int],
    resolution: float,
    fractional_day: bool = False,
) -> Tensor:
    """Say when and where tokens are: eight plain numbers each, as the network reads.

    Year, day of the year (the first is 0), hour, level, colatitude, longitude, level
    again, and resolution of the grid; at the last time of a token, and at the point
    that half of its rows and columns lie before.

    Parameters
    ----------
    times : ndarray of datetime64, shape (B, T * t)
        Of each box.
    colatitude, longitude : ndarray, shapes (B, Y * y) and (B, X * x)
        Degrees from the north pole, and degrees east.
    levels : sequence of float
        As the network was trained with: numbers of model levels in published ones.
    token_size : sequence of int
        t, y, x: points of a token.
    resolution : float
        Degrees between points of the grid.
    fractional_day : bool
        Add the time of the day to the day of the year, as the first published networks
        had it.

    Returns
    -------
    Tensor, shape (B, levels * T * Y * X, 8)

    Examples
    --------
    >>> import numpy as np
    >>> from xatmo.nets.multiformer_tokens import token_info
    >>> times = np.datetime64("2021-02-10T00") + np.arange(6)[None]
    >>> place = 80 + 0.25 * np.arange(4.0)[None], 10 + 0.25 * np.arange(8.0)[None]
    >>> info = token_info(times, *place, [137], (3, 4, 4), 0.25)
    >>> [float(x) for x in info[0, -1]]
    [2021.0, 40.0, 5.0, 137.0, 80.5, 11.5, 137.0, 0.25]
    """
    t, rows, columns = token_size
    when = _when(times[:, t - 1 :: t], fractional_day)  # (B, T, 3)
    where = torch.stack(
        [
            _where(tuple(map(float, levels)), tuple(y), tuple(x), float(resolution))
            for y, x in zip(
                colatitude[:, rows // 2 :: rows].tolist(),
                longitude[:, columns // 2 :: columns].tolist(),
                strict=True,
            )
        ]
    )  # (B, V, Y, X, 5)
    shape = (*where.shape[:2], when.shape[1], *where.shape[2:4])  # (B, V, T, Y, X)
    when = when[:, None, :, None, None].expand(*shape, -1)
    return torch.cat([when, where[:, :, None].expand(*shape, -1)], -1).flatten(1, 4)


def _when(times: np.ndarray, fractional_day: bool) -> Tensor:
    """Year, day of the year and hour of each time."""
    years = times.astype("datetime64[Y]")
    hours = (times - years).astype("timedelta64[h]").astype(float)
    day, hour = np.divmod(hours, 24)
    day = hours / 24 if fractional_day else day
    return torch.from_numpy(
        np.stack([years.astype(float) + 1970, day, hour], -1)
    ).float()


@lru_cache(maxsize=1024)
def _where(
    levels: tuple[float, ...],
    colatitude: tuple[float, ...],
    longitude: tuple[float, ...],
    resolution: float,
) -> Tensor:
    """What does not change with time, kept for the tiles of a domain: (V, Y, X, 5)."""
    axes = (torch.tensor(axis) for axis in (levels, colatitude, longitude))
    level, y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([level, y, x, level, torch.full_like(level, resolution)], -1)


def position_code(field: FieldSpec, published: bool = False) -> Tensor:
    """Sines and cosines of the place that a token has in the box.

    Parameters
    ----------
    field : FieldSpec
    published : bool
        Count rows as the published networks do, which take the number of rows for that
        of columns: neighbours in a row may get numbers of different rows.

    Returns
    -------
    Tensor, shape (N, D)

    Notes
    -----
    All places differ if there are no more rows nor columns than a 32nd of the width.
    """
    levels, times, rows, columns = field.plane
    # Single precision and this order: published networks have learnt their rounding.
    frequency = 2 * math.pi * torch.arange(0, field.width, 2.0) / field.width
    place = torch.arange(rows * columns)
    row = (place // (rows if published else columns))[:, None]
    column = (place % columns)[:, None]
    time = torch.arange(times)[:, None, None]
    level = torch.arange(levels)[:, None, None, None]
    even = (time * frequency).sin() + 0.5 * (8 * row * frequency).sin()
    odd = (level * frequency).cos() + 0.5 * (8 * column * frequency).cos()
    shape = (levels, times, rows * columns, len(frequency))
    code = torch.stack([even.expand(shape), odd.expand(shape)], -1)
    return code.flatten(-2).flatten(0, 2)


class TokenEmbedding(nn.Module):
    """Features of a token: of its values, of when and where it is, and its position.

    Parameters
    ----------
    field : FieldSpec
    info_width : int
        Features of when and where.
    published_positions : bool
        See :func:`position_code`.
    info_size : int
        Numbers that say when and where.
    channels : int
        Numbers that are read of a point.
    """

    position: Tensor

    def __init__(
        self,
        field: FieldSpec,
        info_width: int,
        published_positions: bool = False,
        info_size: int = INFO,
        channels: int = 1,
    ) -> None:
        super().__init__()
        self.levels = field.levels
        self.values = nn.Linear(channels * field.points, field.width - info_width)
        self.info = nn.Linear(info_size, info_width)
        nn.init.zeros_(self.info.weight)
        nn.init.zeros_(self.info.bias)
        code = position_code(field, published_positions)
        self.register_buffer("position", code, persistent=False)

    def forward(
        self, tokens: Tensor, info: Tensor, levels: Sequence[int] | None = None
    ) -> Tensor:
        """(B, V, T, Y, X, t, y, x) and (B, N, I) -> (B, N, D); V may be some levels."""
        values = self.values(tokens.flatten(5).flatten(1, 4))  # (B, N, D - info_width)
        position = self.position
        if levels is not None:
            each = position.unflatten(0, (self.levels, -1))
            position = each[list(levels)].flatten(0, 1)
        return torch.cat([values, self.info(info)], -1) + position
