"""What a network that fills in boxes begins with: plain guesses at the unknown."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["between_times", "from_around"]


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
    >>> between_times(x, x > 0).flatten().tolist()
    [1.0, 1.0, 2.0, 3.0, 4.0, 4.0]
    """
    before, age = _carried(x, seen)
    after, rest = (part.flip(2) for part in _carried(x.flip(2), seen.flip(2)))
    # Far more than any real distance where there is nothing on that side.
    weight = rest / (age + rest).clamp(min=1.0)
    return torch.where(seen, x, before * weight + after * (1 - weight))


def from_around(x: Tensor, known: Tensor) -> Tensor:
    """Fill points from those around them: from means of ever larger blocks.

    Parameters
    ----------
    x : Tensor, shape (B, C, T, Y, X)
    known : Tensor of bool, shape (B, C, Y, X)
        At all times alike.

    Returns
    -------
    Tensor
        What is not known is what lies between the means of the smallest blocks around
        it that hold a point that is; zero where no point is known.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.multiformer_guess import from_around
    >>> x = torch.tensor([[1.0, 1.0, 0.0, 3.0]]).reshape(1, 1, 1, 1, 4)
    >>> from_around(x, x[:, :, 0] > 0).flatten().tolist()
    [1.0, 1.0, 2.5, 3.0]
    """
    if bool(known.all()):
        return x
    flat = x.flatten(0, 1)  # (B C, T, Y, X)
    mask = known.flatten(0, 1)[:, None].to(x.dtype)
    values, masks = [flat * mask], [mask]
    while max(values[-1].shape[-2:]) > 1:
        kept = F.avg_pool2d(masks[-1], 2, ceil_mode=True, count_include_pad=False)
        mean = F.avg_pool2d(values[-1], 2, ceil_mode=True, count_include_pad=False)
        there = (kept > 0).to(x.dtype)
        values.append(mean / kept.clamp(min=1e-6) * there)
        masks.append(there)
    filled = values.pop()
    masks.pop()
    while values:
        value, there = values.pop(), masks.pop()
        wide = F.interpolate(filled, value.shape[-2:], mode="bilinear")
        filled = torch.where(there > 0, value, wide)
    return filled.reshape(x.shape)


_NEVER = 1e6


def _carried(x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The last value that was seen, and how many times ago."""
    value = torch.zeros_like(x[:, :, 0])
    age = torch.full_like(value, _NEVER)
    values, ages = [], []
    for x_t, seen_t in zip(x.unbind(2), seen.unbind(2), strict=True):
        value = torch.where(seen_t, x_t, value)
        age = torch.where(seen_t, 0.0, age + 1)
        values.append(value)
        ages.append(age)
    return torch.stack(values, 2), torch.stack(ages, 2)
