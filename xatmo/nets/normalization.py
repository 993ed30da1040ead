"""From physical fields to what a network reads, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SignLog", "ZScore"]


@dataclass(frozen=True)
class SignLog:
    """AtmoDist's normalisation: z-score, signed logarithm, z-score again.

    Vorticity and divergence have tails of thirty standard deviations; the logarithm
    brings them to about twelve. All constants are one number per channel.

    Parameters
    ----------
    mean, std : sequence of float
        Of the physical field.
    log_mean, log_std : sequence of float
        Of the field behind the logarithm.
    alpha : float
        How early the logarithm bends; 0.2 as published.
    """

    mean: Sequence[float]
    std: Sequence[float]
    log_mean: Sequence[float]
    log_std: Sequence[float]
    alpha: float = 0.2

    def __call__(self, x: Tensor) -> Tensor:
        """Physical (..., C, H, W) to normalised, same shape."""
        mean, std, log_mean, log_std = self._constants(x)
        z = (x - mean) / std
        sign = _sign(z)
        y = sign * torch.log1p(self.alpha * (sign * z))
        return (y - log_mean) / log_std

    def inverse(self, x: Tensor) -> Tensor:
        """Normalised (..., C, H, W) to physical, same shape."""
        mean, std, log_mean, log_std = self._constants(x)
        y = x * log_std + log_mean
        sign = _sign(y)
        z = sign * torch.expm1(sign * y) / self.alpha
        return z * std + mean

    def _constants(self, x: Tensor) -> list[Tensor]:
        values = (self.mean, self.std, self.log_mean, self.log_std)
        return [_per_channel(x, v) for v in values]


@dataclass(frozen=True)
class ZScore:
    """Standard score, with one mean and one standard deviation per channel."""

    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, x: Tensor) -> Tensor:
        """Physical (..., C, H, W) to normalised, same shape."""
        return (x - _per_channel(x, self.mean)) / _per_channel(x, self.std)

    def inverse(self, x: Tensor) -> Tensor:
        """Normalised (..., C, H, W) to physical, same shape."""
        return x * _per_channel(x, self.std) + _per_channel(x, self.mean)


def _sign(z: Tensor) -> Tensor:
    """Return 1 or -1, never 0: times ``z`` it is |z| with a slope at zero as well.

    The slope of ``torch.abs`` is 0 there, which would hide from a loss that the signed
    logarithm is as steep at zero as anywhere near it.
    """
    return torch.ones_like(z).copysign(z.detach())


def _per_channel(x: Tensor, values: Sequence[float]) -> Tensor:
    return torch.as_tensor(values, dtype=x.dtype, device=x.device)[:, None, None]
