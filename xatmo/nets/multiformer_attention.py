"""Attention of the Multiformer: heads on a field itself, and on others beside it.

All heads take their queries from the same tokens; keys and values come from one source
or another. An encoder attends to its own field and to those that it is coupled with, a
decoder to itself and to an encoder: both are the same module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.in_place import gelu, onto

__all__ = ["Attention", "Layer", "Norm", "layer_norm", "take"]

Norm: TypeAlias = Literal["none", "plain", "affine"]
"""Of queries and keys: none, to zero mean and unit variance, or with learnt scales."""


class Attention(nn.Module):
    """Multi-head attention to several sources, added to what it was asked for.

    Parameters
    ----------
    width : int
        Features of a token that asks.
    head : int
        Features of a head.
    sources : mapping of str to tuple of int
        Width of the tokens of each source, and heads that attend to it. The first is
        that of the tokens that ask.
    norm : {"none", "plain", "affine"}
    norm_all_queries : bool
        Whether also the queries to other sources than the first are normalised.
    dropout : float
    """

    def __init__(
        self,
        width: int,
        head: int,
        sources: Mapping[str, tuple[int, int]],
        norm: Norm = "plain",
        norm_all_queries: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.head, self.sources, self.own = head, dict(sources), next(iter(sources))
        self.norm, self.norm_all_queries = norm, norm_all_queries
        self.heads = [heads for _, heads in sources.values()]
        total = sum(self.heads) * head
        self.query = nn.Linear(width, total, bias=False)
        self.key_value = nn.ModuleDict(
            {
                name: nn.Linear(source, 2 * heads * head, bias=False)
                for name, (source, heads) in sources.items()
            }
        )
        self.query_norm, self.key_norm = _norm(norm, head), _norm(norm, head)
        self.out = nn.Linear(total, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, sources: Mapping[str, Tensor], index: Tensor | None = None
    ) -> Tensor:
        """Attend.

        Parameters
        ----------
        x : Tensor, shape (B, N, D)
        sources : mapping of str to Tensor, shapes (B, N_source, D_source)
            Normalised tokens; those of ``x`` are the first source. Heads on sources
            that are not there add nothing.
        index : Tensor of int, shape (B, n) or (n,), optional
            Tokens that ask; all if not given.

        Returns
        -------
        Tensor, shape (B, N, D) or (B, n, D)
        """
        found = {
            name: F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
            for name, q, k, v in self.projected(sources, index)
        }
        heads = [
            found[name] if name in found else self._nothing(found[self.own], count)
            for name, count in zip(self.sources, self.heads, strict=True)
        ]  # (B, n, h, d)
        joined = torch.cat(heads, 2) if heads[1:] else heads[0]  # (B, n, H, d)
        return onto(self.dropout(self.out(joined.flatten(2))), take(x, index))

    def _nothing(self, like: Tensor, heads: int) -> Tensor:
        """What heads find that have no source: (B, n, heads, d)."""
        return like.new_zeros(*like.shape[:2], heads, self.head)

    def weights(
        self, sources: Mapping[str, Tensor], index: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return how much each source's tokens count: (B, h, n, N_source) each.

        Over the tokens of one source they add up to 1. Memory grows with the tokens
        that ask, times those of the sources.
        """
        scale = self.head**-0.5
        return {
            name: (q * scale @ k.transpose(-2, -1)).float().softmax(-1)
            for name, q, k, _ in self.projected(sources, index)
        }

    def projected(
        self, sources: Mapping[str, Tensor], index: Tensor | None = None
    ) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
        """Name, queries (B, h, n, d), keys and values (B, h, N, d) for each source."""
        query = self.query(take(sources[self.own], index))
        query = query.unflatten(-1, (-1, self.head)).transpose(1, 2)  # (B, H, n, d)
        parts = query.split(self.heads, 1)
        for name, heads, q in zip(self.sources, self.heads, parts, strict=True):
            if name not in sources:
                continue
            both = self.key_value[name](sources[name])
            both = both.unflatten(-1, (heads, 2, self.head))  # (B, N, h, 2, d)
            k, v = both.transpose(1, 2).unbind(-2)
            if self.norm_all_queries or name == self.own:
                q = self.query_norm(q)
            # In one piece: the kernel reads keys and values for every block of queries.
            yield name, *(t.contiguous() for t in (q, self.key_norm(k), v))


class MLP(nn.Module):
    """Two layers over the features of a token, activated twice, added to the token."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(width, 2 * width)
        self.second = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> the same."""
        hidden = self.dropout(gelu(self.first(layer_norm(x))))  # (B, N, 2 D)
        return onto(gelu(self.second(hidden)), x)


class Layer(nn.Module):
    """Attention, then the MLP."""

    def __init__(self, attention: Attention, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = MLP(attention.out.out_features, dropout)

    def forward(
        self, x: Tensor, sources: Mapping[str, Tensor], index: Tensor | None = None
    ) -> Tensor:
        """(B, N, D) -> the same, or (B, n, D): see :meth:`Attention.forward`."""
        return cast("Tensor", self.mlp(self.attention(x, sources, index)))


def layer_norm(x: Tensor) -> Tensor:
    """Normalise each token to zero mean and unit variance."""
    return F.layer_norm(x, x.shape[-1:])


def take(x: Tensor, index: Tensor | None) -> Tensor:
    """Take some tokens of (B, N, D): the same (n,) of all boxes, or (B, n) of each."""
    if index is None:
        return x
    if index.ndim == 1:
        return x[:, index]
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def _norm(norm: Norm, head: int) -> nn.Module:
    if norm == "none":
        return nn.Identity()
    return nn.LayerNorm(head, elementwise_affine=norm == "affine")
