"""The ensemble that ends the Multiformer: many small networks, computed as one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.multiformer_attention import layer_norm

__all__ = ["EnsembleTail", "MemberLinear", "mean_and_spread"]


class MemberLinear(nn.Module):
    """A linear layer for each member, in one product.

    Parameters
    ----------
    members, c_in, c_out : int
    """

    def __init__(self, members: int, c_in: int, c_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(c_in)  # each member as torch's own linear layer
        self.weight = nn.Parameter(torch.empty(members, c_out, c_in))
        self.bias = nn.Parameter(torch.empty(members, c_out))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        """(n, C_in), the same for all members, or (n, E, C_in) -> (n, E, C_out).

        ``members`` (E,) says which, if not all.
        """
        both: list[Tensor] = [self.weight, self.bias]
        weight, bias = both if members is None else (t[members] for t in both)
        if x.ndim == 2:
            y = F.linear(x, weight.flatten(0, 1), bias.flatten())
            return y.unflatten(-1, bias.shape)
        x, weight = x.transpose(0, 1), weight.transpose(1, 2)
        return torch.baddbmm(bias[:, None], x, weight).transpose(0, 1)


class EnsembleTail(nn.Module):
    """Members read the values of a token from its features.

    Their layer norms share mean and variance; the scales and offsets that each of the
    original's has are part of the layer that follows, which can express them.

    Parameters
    ----------
    members : int
    width : int
        Features of a token.
    points : int
        Values of a token.
    depth : int
        Hidden layers.
    """

    def __init__(self, members: int, width: int, points: int, depth: int = 0) -> None:
        super().__init__()
        widths = [width] * depth + [points]
        self.layers = nn.ModuleList(MemberLinear(members, width, w) for w in widths)

    def forward(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        """(n, D) -> (n, E, points), in the weights' precision even under autocast.

        ``members`` (E,) says which of them are computed, if not all.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = layer_norm(x.to(next(self.parameters()).dtype))
            for number, layer in enumerate(self.layers):
                x = layer(F.gelu(x) if number else x, members)
            return x


def mean_and_spread(members: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of an ensemble: (n, E, ...) -> (n, ...) twice.

    The spread of a single member is zero.
    """
    if members.shape[1] == 1:
        return members[:, 0], torch.zeros_like(members[:, 0])
    spread, mean = torch.std_mean(members, 1)
    return mean, spread
