"""What tokens of a Multiformer attend to: probabilities of all tokens, as maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import torch
from torch import Tensor

from xatmo.nets.multiformer_attention import Layer, layer_norm
from xatmo.nets.multiformer_fields import FieldSpec

if TYPE_CHECKING:
    from torch import nn

    from xatmo.nets.multiformer import Multiformer

__all__ = ["attention_maps"]

_Places: TypeAlias = dict[str, tuple[slice, FieldSpec]]


def attention_maps(
    network: Multiformer,
    tokens: Mapping[str, Tensor],
    info: Mapping[str, Tensor],
    query: tuple[int, int, int],
    cells: tuple[int, int, int],
    fields: Sequence[str],
    part: Literal["encoder", "decoder"] = "encoder",
    layers: Sequence[int] = (0,),
    mean: bool = True,
    heads: Sequence[int] | None = None,
    present: Mapping[str, Sequence[int]] | None = None,
) -> Tensor:
    """Return how much the tokens at one place attend to all others.

    Parameters
    ----------
    network : Multiformer
    tokens, info, present
        As for :meth:`xatmo.nets.multiformer.Multiformer.forward`.
    query : tuple of int
        The point of the box, in time, latitude and longitude, whose tokens ask: one of
        each level.
    cells : tuple of int
        Cells of the maps in time, latitude and longitude: multiples of the tokens of
        each field. A token that covers several cells is shared out evenly.
    fields : sequence of str
        Which ones ask.
    part : {"encoder", "decoder"}
    layers : sequence of int
        Counted from 0, ascending.
    mean : bool
        Return the mean over these layers, not each.
    heads : sequence of int, optional
        Of each source, counted from 0; NaN where there are fewer. The mean over all of
        them if not given.

    Returns
    -------
    Tensor, shape (B, A, K, layers or 1, heads or 1, T, Y, X)
        Probabilities, of sum 1 over the levels and cells of one source. A are the
        levels of the fields that ask, K those of all fields; of decoders twice, first
        ``"decoder"``, then ``"encoder"``. NaN where fields are not coupled.

    Notes
    -----
    One pass, whatever is asked for. Only the tokens that ask have rows of probabilities
    computed, so that memory grows with the number of tokens, not with its square.
    """
    some = network.there(present)
    specs = {n: network.fields[n].only(levels, some) for n, levels in some.items()}
    depth = max(layers) + 1 if part == "encoder" else None
    states = network.encode(tokens, info, depth, some)
    weights = _encoder if part == "encoder" else _decoder
    rows = []
    for name in fields:
        places, width = _places(specs, name, part)
        asking = _asking(specs[name], query).to(states[name][0].device)
        maps = [
            _row(found, places, width, cells, heads)
            for found in weights(network, name, states, layers, asking)
        ]
        row = torch.stack(maps, 3)  # (B, V, K, L, H, T, Y, X)
        rows.append(row.mean(3, keepdim=True) if mean else row)
    return torch.cat(rows, 1)


def _encoder(
    network: Multiformer,
    name: str,
    states: Mapping[str, Sequence[Tensor]],
    layers: Sequence[int],
    asking: Tensor,
) -> Iterator[dict[str, Tensor]]:
    """Probabilities (B, h, n, N) of each source, layer by layer."""
    for number in layers:
        layer = cast("Layer", network.network(name).encoder[number])
        sources = {n: layer_norm(kept[number]) for n, kept in states.items()}
        yield layer.attention.weights(sources, asking)


def _decoder(
    network: Multiformer,
    name: str,
    states: Mapping[str, Sequence[Tensor]],
    layers: Sequence[int],
    asking: Tensor,
) -> Iterator[dict[str, Tensor]]:
    """The same of a decoder, which runs once up to the last of the layers."""
    field, kept = network.network(name), states[name]
    x = kept[-1]
    for number in range(max(layers) + 1):
        layer = cast("Layer", cast("nn.ModuleList", field.decoder)[number])
        sources = field.sources(x, kept, number)
        if number in layers:
            yield layer.attention.weights(sources, asking)
        x = layer(x, sources)


def _places(
    specs: Mapping[str, FieldSpec], name: str, part: str
) -> tuple[_Places, int]:
    """Where each source of a field stands among all, and how many there are."""
    places: _Places = {}
    count = 0
    for field, spec in specs.items():
        places[field] = slice(count, count + spec.levels), spec
        count += spec.levels
    if part == "encoder":
        return places, count
    own, spec = places[name]
    again = slice(own.start + count, own.stop + count)
    return {"decoder": (own, spec), "encoder": (again, spec)}, 2 * count


def _asking(spec: FieldSpec, query: tuple[int, int, int]) -> Tensor:
    """Numbers of the tokens at a point, one of each level."""
    _, times, rows, columns = spec.plane
    t, y, x = (i // size for i, size in zip(query, spec.token_size, strict=True))
    first = (t * rows + y) * columns + x
    return first + times * rows * columns * torch.arange(spec.levels)


def _row(
    weights: Mapping[str, Tensor],
    places: _Places,
    width: int,
    cells: tuple[int, int, int],
    heads: Sequence[int] | None,
) -> Tensor:
    """Maps (B, V, K, H, T, Y, X) of the probabilities of one layer."""
    some = next(iter(weights.values()))
    size = (len(some), some.shape[2], width, 1 if heads is None else len(heads))
    out = some.new_full((*size, *cells), math.nan)
    for source, probability in weights.items():
        columns, spec = places[source]
        each = _of_heads(probability, heads).unflatten(-1, spec.plane)
        out[:, :, columns] = _on_cells(each, spec, cells).movedim(1, 3)
    return out


def _of_heads(probability: Tensor, heads: Sequence[int] | None) -> Tensor:
    """(B, h, n, N) -> (B, H, n, N): some heads, or the mean of all."""
    if heads is None:
        return probability.mean(1, keepdim=True)
    there = probability.unbind(1)
    nothing = torch.full_like(there[0], math.nan)
    chosen = [there[head] if head < len(there) else nothing for head in heads]
    return torch.stack(chosen, 1)


def _on_cells(x: Tensor, spec: FieldSpec, cells: tuple[int, int, int]) -> Tensor:
    """Share tokens (..., T, Y, X) out over cells."""
    shares = [n // m for n, m in zip(cells, spec.tokens, strict=True)]
    for dim, share in zip((-3, -2, -1), shares, strict=True):
        x = x.repeat_interleave(share, dim) if share > 1 else x
    return x / math.prod(shares)
