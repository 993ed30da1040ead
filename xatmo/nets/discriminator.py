"""The network that tells true fine fields from made ones: only training needs it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.generator import SLOPE
from xatmo.nets.layers import SameConv2d

__all__ = ["Discriminator"]


class Discriminator(nn.Module):
    """From (B, channels, size, size) to one logit for each field: (B, 1).

    The defaults are the published network: 10,611,201 parameters.

    Parameters
    ----------
    size : int or (int, int)
        Rows and columns of the fine fields; fixed, because the last two layers are
        dense.
    channels : int
        Fields in.
    widths : sequence of int
        Features of the convolutions, whose strides are 1, 2, 1, 2, ...
    hidden : int
        Features of the dense layer.

    References
    ----------
    Hoffmann, S. and Lessig, C. (2023): AtmoDist: Self-supervised representation
    learning for atmospheric dynamics. Environmental Data Science 2, e6.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.discriminator import Discriminator
    >>> Discriminator(size=32, widths=(8, 8, 16, 16))(torch.randn(3, 2, 32, 32)).shape
    torch.Size([3, 1])
    """

    def __init__(
        self,
        size: int | Sequence[int] = 96,
        channels: int = 2,
        widths: Sequence[int] = (32, 32, 64, 64, 128, 128, 256, 256),
        hidden: int = 1024,
    ) -> None:
        super().__init__()
        rows, columns = (size, size) if isinstance(size, int) else size
        self.shape = (channels, rows, columns)
        self.convs = nn.ModuleList(
            SameConv2d(a, b, 3, stride, bias=True)
            for (a, b), stride in zip(
                pairwise((channels, *widths)), cycle((1, 2)), strict=False
            )
        )
        for _ in widths[1::2]:  # SAME padding rounds up
            rows, columns = -(-rows // 2), -(-columns // 2)
        self.dense = nn.Linear(rows * columns * widths[-1], hidden)
        self.logit = nn.Linear(hidden, 1)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Judge normalised fine fields; above zero means taken for true.

        Raises
        ------
        ValueError
            If the fields do not have the size that the network is built for.
        """
        if x.shape[1:] != self.shape:
            msg = f"built for fields of {self.shape}, not {tuple(x.shape[1:])}"
            raise ValueError(msg)
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
        # Flattened rows, columns, channels: the order published weights expect.
        x = self.dense(x.permute(0, 2, 3, 1).flatten(1))
        return self.logit(F.leaky_relu(x, SLOPE))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
    else:
        return
    nn.init.zeros_(module.bias)  # type: ignore[arg-type]
