"""What a network that fills in boxes begins with: plain guesses at the unknown.

Between times in a straight line; between points by a smooth surface; and where both can
be had, both, in proportion to how near what is known is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["between_times", "from_around", "from_both"]

_NEVER = 1e6
# A step in time says as little as so many points in space: for winds every six hours,
# at one and at two degrees, some four to eight are about as good (measured).
_POINTS_OF_STEP = 6.0
_SWEEPS = 24  # towards the smoothest surface, on each grid from coarse to fine
_RATE = 0.03  # below 2 / 64, the inverse of the largest eigenvalue
# The Laplacian of the Laplacian on a square grid.
_STENCIL = (
    (0.0, 0.0, 1.0, 0.0, 0.0),
    (0.0, 2.0, -8.0, 2.0, 0.0),
    (1.0, -8.0, 20.0, -8.0, 1.0),
    (0.0, 2.0, -8.0, 2.0, 0.0),
    (0.0, 0.0, 1.0, 0.0, 0.0),
)


def between_times(x: Tensor, seen: Tensor) -> Tensor:
    """Fill gaps from the times before and after, in proportion to how near these are.

    Parameters
    ----------
    x : Tensor, shape (B, C, T, Y, X)
        Zero where not seen.
    seen : Tensor of bool, same shape

    Returns
    -------
    Tensor
        The nearest time before the first and after the last that is seen, and zero
        where a point is never seen.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.multiformer_guess import between_times
    >>> x = torch.tensor([0.0, 1, 0, 0, 4, 0]).reshape(1, 1, 6, 1, 1)
    >>> between_times(x, x > 0).flatten().round(decimals=3).tolist()
    [1.0, 1.0, 2.0, 3.0, 4.0, 4.0]
    """
    return _in_time(x, seen)[0]


def from_around(x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Fill gaps from the points around, map by map, by a surface that bends little.

    From means of ever larger blocks, and then on ever finer grids by some sweeps
    towards the biharmonic surface: about as good as that, in a fraction of the time.

    Parameters
    ----------
    x : Tensor, shape (N, Y, X)
        Zero where not seen.
    seen : Tensor of bool, same shape

    Returns
    -------
    filled : Tensor, shape (N, Y, X)
        Zero where no point of a map is seen.
    distance : Tensor, shape (N, Y, X)
        About how many points away what is seen is; 0 where it is, a million in maps
        without any.
    """
    values, masks = [(x * seen)[:, None]], [seen[:, None].to(x.dtype)]
    while max(values[-1].shape[-2:]) > 1:
        share, mean = _halved(masks[-1]), _halved(values[-1])
        there = (share > 0).to(x.dtype)
        values.append(mean / share.clamp(min=1e-6) * there)
        masks.append(there)
    size = 2.0 ** (len(values) - 1)
    filled, there = values.pop(), masks.pop()
    away = torch.where(there > 0, size, _NEVER)
    while values:
        value, there, size = values.pop(), masks.pop(), size / 2
        shape = value.shape[-2:]
        filled = F.interpolate(filled, shape, mode="bilinear")
        filled = _smooth(torch.where(there > 0, value, filled), 1 - there)
        away = F.interpolate(away, shape, mode="bilinear")
        away = torch.where(there > 0, size if values else 0.0, away)
    return filled[:, 0], away[:, 0]


def from_both(x: Tensor, seen: Tensor) -> Tensor:
    """Fill gaps from the times and from the points around, in proportion to nearness.

    Parameters and result as for :func:`between_times`.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.multiformer_guess import from_both
    >>> x = torch.full((1, 1, 6, 8, 8), 3.0)
    >>> x[..., 2:5, 2:6] = 0
    >>> from_both(x, x > 0).mean()
    tensor(3.)
    """
    in_time, steps = _in_time(x, seen)
    maps = seen.flatten(3).any(3) & ~seen.flatten(3).all(3)  # (B, C, T)
    if not bool(maps.any()):
        return in_time
    in_space, points = torch.zeros_like(x), torch.full_like(x, _NEVER)
    in_space[maps], points[maps] = from_around(x[maps], seen[maps])
    # Errors grow with the distance: their inverse says how much each counts.
    weights = [
        torch.where(far < _NEVER, 1 / far.clamp(min=1e-6), 1e-9)
        for far in (_POINTS_OF_STEP * steps, points)
    ]
    both = (in_time * weights[0] + in_space * weights[1]) / (weights[0] + weights[1])
    return torch.where(seen, x, both)


def _in_time(x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Values between times, and how many steps away these are; or never."""
    before, age = _carried(x, seen)
    after, rest = (part.flip(2) for part in _carried(x.flip(2), seen.flip(2)))
    # Far more than any real distance where there is nothing on that side.
    total = (age + rest).clamp(min=1.0)
    weight = rest / total
    filled = torch.where(seen, x, before * weight + after * (1 - weight))
    # Between two times less is open than beyond one: as of a bridge of random steps.
    return filled, age * weight


def _carried(x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The last value that was seen, and how many times ago."""
    value = torch.zeros_like(x[:, :, 0])
    age = torch.full_like(value, 2 * _NEVER)
    values, ages = [], []
    for x_t, seen_t in zip(x.unbind(2), seen.unbind(2), strict=True):
        value = torch.where(seen_t, x_t, value)
        age = torch.where(seen_t, 0.0, age + 1)
        values.append(value)
        ages.append(age)
    return torch.stack(values, 2), torch.stack(ages, 2)


def _halved(x: Tensor) -> Tensor:
    """Means of 2 x 2 points, of fewer at an odd end."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def _smooth(x: Tensor, unknown: Tensor) -> Tensor:
    """Bend a surface (N, 1, Y, X) less where it is not known."""
    stencil = x.new_tensor(_STENCIL)[None, None]
    for _ in range(_SWEEPS):
        bent = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), stencil)
        x = x - _RATE * unknown * bent
    return x
