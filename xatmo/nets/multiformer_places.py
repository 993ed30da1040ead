"""When and where the tokens of boxes are, in the numbers that networks read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from xatmo.nets.multiformer_fields import FieldSpec

__all__ = ["PERIODIC", "place_info"]

PERIODIC = 11
"""Numbers that say when, where and how well known a token is, of our own networks."""

_DAYS = 365.25


def place_info(
    spec: FieldSpec,
    levels: Sequence[float],
    share: Tensor,
    when: Tensor,
    latitude: Tensor,
    longitude: Tensor,
    resolution: Tensor,
    *,
    published: bool,
    fractional_day: bool,
) -> Tensor:
    """Say when and where tokens are, and how much of them is known.

    At the last time of a token, and at the point that half of its rows and columns lie
    before.

    Parameters
    ----------
    spec : FieldSpec
    levels : sequence of float
        The number of each level that is there.
    share : Tensor, shape (B, V, T, Y, X)
        How much of each token is known.
    when : Tensor, shape (B, T t, 3)
        Year, day of the year (the first is 0), hour.
    latitude, longitude : Tensor, shapes (B, Y y) and (B, X x)
        Degrees north and east.
    resolution : Tensor, shape (B,)
        Degrees between points.
    published : bool
        Eight plain numbers, as of :func:`xatmo.nets.multiformer_tokens.token_info`; or
        eleven: sines and cosines of hour, day and place, the level, the spacing of the
        grid and the share.
    fractional_day : bool
        Add the time of the day to the day of the year, to plain numbers.

    Returns
    -------
    Tensor, shape (B, V T Y X, 8 or 11)
    """
    t, rows, columns = spec.token_size
    year, day, hour = when[:, t - 1 :: t].unbind(-1)  # (B, T)
    y, x = latitude[:, rows // 2 :: rows], longitude[:, columns // 2 :: columns]
    level = torch.tensor(levels, dtype=share.dtype, device=share.device)
    if published:
        day = day + hour / 24 if fractional_day else day
        times, ys, xs = [year, day, hour], [90 - y], [x]
        order = [0, 1, 2, 3, 4, 5, 3, 6]  # the level twice
    else:
        times = [*_circle(hour / 24), *_circle((day + hour / 24) / _DAYS)]
        ys, xs = [*_circle(y / 360)], [*_circle(x / 360)]
        resolution = resolution.log2()
        order = [*range(11)]
    numbers = [
        *(n[:, None, :, None, None] for n in times),
        level[:, None, None, None],
        *(n[:, None, None, :, None] for n in ys),
        *(n[:, None, None, None, :] for n in xs),
        resolution[:, None, None, None, None],
        share,
    ]
    wide = [numbers[i].expand(share.shape) for i in order]
    return torch.stack(wide, -1).flatten(1, 4)


def _circle(turns: Tensor) -> tuple[Tensor, Tensor]:
    angle = 2 * math.pi * turns
    return angle.sin(), angle.cos()
