"""Blocks of ClimaX: those of a vision transformer, normalised before each part."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.in_place import gelu, onto

__all__ = ["Block", "drop_rates"]


class Block(nn.Module):
    """Attention of all tokens to each other, then two layers over each token.

    Parameters
    ----------
    width : int
        Features of a token.
    heads : int
    hidden : int
        Features between the two layers.
    dropout : float
        Of what either part gives, and of the hidden features.
    drop_path : float
        How often, in training, a sample passes by a part as if it were not there.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.drop_path = heads, drop_path
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> the same."""
        x = self._onto(self.dropout(self.out(self._attended(self.norm1(x)))), x)
        hidden = self.dropout(gelu(self.first(self.norm2(x))))  # (B, N, hidden)
        return self._onto(self.dropout(self.second(hidden)), x)

    def _attended(self, x: Tensor) -> Tensor:
        """Values by attention, heads side by side: (B, N, D) -> the same."""
        three = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, h, d)
        q, k, v = three.permute(2, 0, 3, 1, 4)  # (B, h, N, d) each
        # In one piece: the kernel reads keys and values for every block of queries.
        k, v = k.contiguous(), v.contiguous()
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def _onto(self, x: Tensor, state: Tensor) -> Tensor:
        """Add what is new to the state before."""
        if self.training and self.drop_path:
            kept = 1 - self.drop_path
            shape = (len(x), *[1] * (x.ndim - 1))  # whole samples
            return state + x * x.new_empty(shape).bernoulli_(kept).div_(kept)
        return onto(x, state)


def drop_rates(last: float, depth: int) -> list[float]:
    """Rates that rise evenly from 0 in the first block to ``last`` in the last one.

    Examples
    --------
    >>> from xatmo.nets.climax_blocks import drop_rates
    >>> drop_rates(0.5, 3)
    [0.0, 0.25, 0.5]
    """
    return [last * number / max(depth - 1, 1) for number in range(depth)]
