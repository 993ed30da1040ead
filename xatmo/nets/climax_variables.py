"""Tokens of the variables of ClimaX, and how those of one place become one.

Every variable is cut into patches, and every patch is a token: an affine map of its
pixels, with a code of the variable. At each place a learnt query, the same for all
places, attends to the tokens of whatever variables are there; their mean, so weighted,
is what the transformer reads.

Both steps are one here. The query is a constant, and keys and values are affine in the
pixels: the maps from pixels to scores and to values are multiplied out of the weights
before any field is seen, and the tokens, as many as places times variables, are never
made. The numbers and the gradients are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Folded",
    "QueryPool",
    "VariablePool",
    "VariableTokens",
    "join_patches",
    "patches_of",
    "plain_tokens",
    "token_maps",
]


class VariableTokens(nn.Module):
    """From the pixels of a patch to a token of one variable.

    Parameters
    ----------
    width : int
        Features of a token.
    size : int
        Rows and columns of a patch.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, size, size))
        self.bias = nn.Parameter(torch.empty(width))
        self.code = nn.Parameter(torch.zeros(width))  # says which variable it is
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.uniform_(self.bias, -1 / size, 1 / size)


def token_maps(variables: Sequence[VariableTokens]) -> Tensor:
    """Stack the affine maps of some variables.

    Returns
    -------
    Tensor, shape (D, V, p * p + 1)
        From pixels, row by row, and a 1.
    """
    weights = torch.stack([one.weight.flatten(1) for one in variables], 1)
    biases = torch.stack([one.bias for one in variables], 1)
    codes = torch.stack([one.code for one in variables], 1)  # (D, V)
    return torch.cat([weights, (biases + codes)[..., None]], -1)


def patches_of(fields: Tensor, size: int) -> Tensor:
    """Cut fields into patches: (B, V, h p, w p) -> (B, h w, V, p p), row by row."""
    x = fields.unflatten(-1, (-1, size)).unflatten(-3, (-1, size))
    return x.permute(0, 2, 4, 1, 3, 5).flatten(4).flatten(1, 2)  # of (B, V, h, p, w, p)


def join_patches(patches: Tensor, shape: tuple[int, int], size: int) -> Tensor:
    """Put patches together again: (B, h w, V, p p) -> (B, V, h p, w p)."""
    x = patches.unflatten(-1, (size, size)).unflatten(1, shape)  # (B, h, w, V, p, p)
    return x.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


class QueryPool(nn.Module):
    """Make one token of several, by multi-head attention with a learnt query.

    Parameters
    ----------
    width : int
    heads : int
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head = heads, width // heads
        self.query = nn.Parameter(torch.zeros(width))
        self.project = nn.Linear(width, 3 * width)  # queries, keys, values
        self.out = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.project.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., n, D) -> (..., D)."""
        k, v = self._keys_and_values(tokens)
        q = self.scaled_query().expand(len(k), -1, -1)[:, :, None]  # (M, h, 1, d)
        found = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        return self.out(found.reshape(*tokens.shape[:-2], -1))

    def weights(self, tokens: Tensor) -> Tensor:
        """Return how much each token counts: (..., n, D) -> (..., heads, n)."""
        k, _ = self._keys_and_values(tokens)
        q = self.scaled_query()[:, :, None]  # (h, d, 1)
        weights = (k @ q)[..., 0].softmax(-1)  # (M, h, n)
        return weights.unflatten(0, tokens.shape[:-2])

    def scaled_query(self) -> Tensor:
        """Return the query of each head, over the root of their number: (h, d)."""
        width = len(self.query)
        weight, bias = self.project.weight[:width], self.project.bias[:width]
        query = F.linear(self.query, weight, bias) * self.head**-0.5
        return query.view(self.heads, self.head)

    def _keys_and_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Project all tokens: (..., n, D) -> (M, h, n, d) twice."""
        width = len(self.query)
        weight, bias = self.project.weight[width:], self.project.bias[width:]
        both = F.linear(tokens.flatten(0, -3), weight, bias)
        both = both.unflatten(-1, (2, self.heads, self.head))  # (M, n, 2, h, d)
        k, v = both.permute(2, 0, 3, 1, 4)
        return k, v


class Folded(NamedTuple):
    """From pixels, and a 1, to what attention makes of them.

    Parameters
    ----------
    scores : Tensor, shape (V, p * p + 1, h)
    values : Tensor, shape (h, V * (p * p + 1), d)
    """

    scores: Tensor
    values: Tensor


class Kept(NamedTuple):
    """What was folded out of some weights.

    Parameters
    ----------
    stamp : tuple
        Of the weights as they were.
    weights : list of Tensor
        So that no other tensor takes their place in memory.
    maps : Folded
    """

    stamp: tuple[tuple[int, int], ...]
    weights: list[Tensor]
    maps: Folded


class VariablePool(nn.Module):
    """Make one token of those of all variables at a place.

    Parameters
    ----------
    width : int
    heads : int
    folded : bool
        Leave out tokens, keys and values: see the module. The plain way is there to be
        compared with.
    """

    def __init__(self, width: int, heads: int, folded: bool = True) -> None:
        super().__init__()
        self.attention = QueryPool(width, heads)
        self.folded = folded
        self._kept: Kept | None = None

    def forward(self, patches: Tensor, variables: Sequence[VariableTokens]) -> Tensor:
        """Attend: (B, N, V, p * p) -> (B, N, D)."""
        if not self.folded:
            return self.attention(plain_tokens(patches, variables))
        # Products of weights are not for half precision, and cost next to nothing.
        with torch.autocast(patches.device.type, enabled=False):
            pixels, maps = self._read(patches, variables)
            weights = _weights(pixels, maps)  # (B, N, V, h)
            heads = [
                (weight[..., None] * pixels).flatten(2) @ values  # (B, N, d)
                for weight, values in zip(weights.unbind(-1), maps.values, strict=True)
            ]  # one by one: together they hold as many numbers as the tokens did
            out = self.attention.out
            return out(torch.cat(heads, -1).to(out.weight.dtype))

    def weights(self, patches: Tensor, variables: Sequence[VariableTokens]) -> Tensor:
        """Return how much variables count: (B, N, V, p * p) -> (B, N, h, V)."""
        if not self.folded:
            return self.attention.weights(plain_tokens(patches, variables))
        with torch.autocast(patches.device.type, enabled=False):
            return _weights(*self._read(patches, variables)).transpose(-2, -1)

    def fold(self, variables: Sequence[VariableTokens]) -> Folded:
        """Multiply out what does not depend on fields, in single precision or better.

        The bias of the keys is left out: it changes the scores of all variables alike,
        and so none of the weights. That of the values passes through their mean.
        """
        tokens = _precise(token_maps(variables))  # (D, V, k)
        flat = tokens.flatten(1)
        _, key, value = _precise(self.attention.project.weight).chunk(3)
        *_, bias = _precise(self.attention.project.bias).chunk(3)
        query = _precise(self.attention.scaled_query())  # (h, d)
        asked = torch.einsum("hd,hdc->hc", query, key.unflatten(0, query.shape))
        scores = (asked @ flat).unflatten(1, tokens.shape[1:])  # (h, V, k)
        values = (value @ flat).unflatten(1, tokens.shape[1:])  # (D, V, k)
        values = values + F.pad(bias[:, None, None], (tokens.shape[-1] - 1, 0))
        values = values.flatten(1).unflatten(0, query.shape)  # (h, d, V k)
        return Folded(scores.permute(1, 2, 0), values.transpose(1, 2))

    def _read(
        self, patches: Tensor, variables: Sequence[VariableTokens]
    ) -> tuple[Tensor, Folded]:
        """Pixels with a 1, in the precision of the maps, and the maps."""
        maps = self._maps(variables)
        return _with_one(patches).to(maps.values.dtype), maps

    def _maps(self, variables: Sequence[VariableTokens]) -> Folded:
        """Fold, unless the same weights were folded before."""
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.fold(variables)
        weights = [p for m in (self.attention, *variables) for p in m.parameters()]
        if any(weight.is_inference() for weight in weights):
            return self.fold(variables)  # torch does not count their versions
        kept = self._kept  # read once: other threads may write it
        stamp = _stamp(weights)
        if kept is None or kept.stamp != stamp:
            held = [weight.detach() for weight in weights]
            self._kept = kept = Kept(stamp, held, self.fold(variables))
        return kept.maps

    def train(self, mode: bool = True) -> VariablePool:
        """Forget what was folded: it is seldom the same again."""
        self._kept = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._kept = None  # weights go to another device, or to another precision
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}  # made anew where it is needed


def plain_tokens(patches: Tensor, variables: Sequence[VariableTokens]) -> Tensor:
    """Make the tokens of all variables: (B, N, V, p * p) -> (B, N, V, D)."""
    return torch.einsum("bnvk,dvk->bnvd", _with_one(patches), token_maps(variables))


def _with_one(patches: Tensor) -> Tensor:
    return F.pad(patches, (0, 1), value=1.0)


def _weights(pixels: Tensor, maps: Folded) -> Tensor:
    """Weights of variables that add up to 1: (B, N, V, k) -> (B, N, V, h)."""
    return torch.einsum("bnvk,vkh->bnvh", pixels, maps.scores).softmax(-2)


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _stamp(weights: Iterable[Tensor]) -> tuple[tuple[int, int], ...]:
    """What changes when a weight does: its place in memory, or its version there."""
    return tuple((weight.data_ptr(), weight._version) for weight in weights)
