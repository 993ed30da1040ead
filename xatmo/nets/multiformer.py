"""The Multiformer: a transformer for each physical field, coupled by attention.

It reads a box of space and time of a few fields and predicts those parts of it that
were hidden: what comes next, what lies between, or what is missing. Every field has an
encoder, whose tokens attend to each other over all levels, times and places, and to
those of the fields that it is coupled with; a decoder, which attends to the encoder's
layers from the last to the first; and many small tails, whose spread says how sure the
prediction is.

After the AtmoRep model: Lessig, Luise, Gong, Langguth, Stadtler, Schultz, "AtmoRep: A
stochastic model of atmosphere dynamics using large scale representation learning"
(2023), https://arxiv.org/abs/2308.13280.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from xatmo.errors import OptionError
from xatmo.nets.multiformer_attention import Attention, Layer, Norm, layer_norm
from xatmo.nets.multiformer_fields import (
    INFO,
    FieldSpec,
    check_fields,
    check_finer,
    check_inputs,
    check_layers,
    check_present,
    check_width,
)
from xatmo.nets.multiformer_tail import EnsembleTail
from xatmo.nets.multiformer_tokens import TokenEmbedding

__all__ = ["FieldSpec", "Multiformer"]


class FieldTransformer(nn.Module):
    """Encoder, decoder and ensemble of one field.

    Parameters
    ----------
    field : FieldSpec
    embedding : TokenEmbedding
    encoder : sequence of Layer
    finer : int
        How many times finer the grid of what is predicted is.

    Attributes
    ----------
    decoder : ModuleList of Layer or None
    tail : EnsembleTail or None
        Neither, if the field is read only.
    """

    decoder: nn.ModuleList | None
    tail: EnsembleTail | None

    def __init__(
        self,
        field: FieldSpec,
        embedding: TokenEmbedding,
        encoder: Sequence[Layer],
        finer: int = 1,
    ) -> None:
        super().__init__()
        self.field, self.embedding = field, embedding
        t, y, x = field.token_size
        self.answered = (t, finer * y, finer * x)
        self.encoder = nn.ModuleList(encoder)
        self.decoder = self.tail = None

    def predict(
        self, states: Sequence[Tensor], target: Tensor, members: Tensor | None = None
    ) -> Tensor:
        """Predict some tokens: see :meth:`Multiformer.forward`."""
        assert self.tail is not None  # noqa: S101 - for type checkers
        plane = self.field.plane[1:]
        shape = (len(states[-1]), states[-1].shape[1] // math.prod(plane), *plane)
        target = target.to(states[-1].device).expand(shape)
        index, meant = _rows(target.flatten(1))
        x = self.decode(states, index)  # (B, n, D)
        x = x.flatten(0, 1) if meant is None else x[meant]
        found: Tensor = self.tail(x, members)
        return found.unflatten(-1, self.answered)

    def decode(
        self,
        states: Sequence[Tensor],
        index: Tensor | None = None,
        layers: int | None = None,
    ) -> Tensor:
        """Decode.

        Parameters
        ----------
        states : sequence of Tensor, shapes (B, N, D)
            All that :meth:`Multiformer.encode` gives of the field.
        index : Tensor of int, shape (B, n) or (n,), optional
            Tokens that are wanted of the last layer; all if not given.
        layers : int, optional
            How many layers are run; all if not given.

        Returns
        -------
        Tensor, shape (B, N, D), or (B, n, D) of the tokens that are wanted
        """
        assert self.decoder is not None  # noqa: S101 - for type checkers
        x, count = states[-1], len(self.decoder) if layers is None else layers
        for number, layer in enumerate(self.decoder[:count], start=1):
            # What is not wanted serves as keys and values to the very end.
            asking = index if number == count else None
            x = layer(x, self.sources(x, states, number - 1), asking)
        return x

    def sources(
        self, x: Tensor, states: Sequence[Tensor], layer: int
    ) -> dict[str, Tensor]:
        """What a layer of the decoder attends to: the first to the encoder's last."""
        return {"decoder": layer_norm(x), "encoder": layer_norm(states[-1 - layer])}


class Multiformer(nn.Module):
    """Transformers of several fields.

    Parameters
    ----------
    fields : sequence of FieldSpec or mapping
        They may differ in levels, in number and size of tokens, and in width.
    predicted : sequence of str, optional
        Fields that have a decoder; all if not given.
    encoder_layers, decoder_layers : int
        No more of the second than of the first.
    encoder_heads, decoder_heads : int
        Heads of a field on itself. Half of the decoder's attend to the encoder.
    coupling_heads : int
        Heads on each other field that an encoder attends to, beside its own.
    members : int
        Size of the ensemble.
    tail_layers : int
        Hidden layers of each of its members.
    info_width : int
        Features of a token that say when and where it is.
    info_size : int
        Numbers that these are made of.
    channels : int
        Numbers that are read of each point: tokens have as many times the columns.
    dropout : float
    qk_norm, decoder_qk_norm : {"none", "plain", "affine"}
        How queries and keys are normalised in encoders and in decoders.
    cross_query_norm : bool
        Whether queries to other fields are normalised too: published networks of 2024
        do without.
    published_positions : bool
        Number rows of tokens as the published networks do: see
        :func:`xatmo.nets.multiformer_tokens.position_code`.
    finer : int
        How many times finer the grid is that tails give a token's values on.

    Raises
    ------
    xatmo.errors.OptionError
        If fields and sizes do not fit together.

    Notes
    -----
    Attention is by ``scaled_dot_product_attention``: its memory grows with the number
    of tokens, not with its square. Of the last layer of a decoder only the tokens that
    are asked for are computed, and the ensemble is one product.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.multiformer import Multiformer
    >>> u = {"name": "u", "width": 32, "levels": 2, "tokens": (4, 3, 6)}
    >>> t = {"name": "t", "width": 48, "levels": 1, "tokens": (4, 2, 4)}
    >>> u |= {"token_size": (3, 6, 6), "sources": ["t"]}
    >>> t |= {"token_size": (3, 9, 9)}
    >>> network = Multiformer([u, t], encoder_layers=2, decoder_layers=2,
    ...                       encoder_heads=4, decoder_heads=4).eval()
    >>> tokens = {f.name: torch.randn(1, *f.shape) for f in network.fields.values()}
    >>> info = {f.name: torch.zeros(1, f.count, 8) for f in network.fields.values()}
    >>> last = torch.zeros(2, 4, 3, 6, dtype=torch.bool)
    >>> last[:, -1] = True  # the last time of both levels
    >>> network(tokens, info, {"u": last})["u"].shape  # 36 tokens, 16 members
    torch.Size([36, 16, 3, 6, 6])
    """

    def __init__(
        self,
        fields: Sequence[FieldSpec | Mapping[str, Any]],
        predicted: Sequence[str] | None = None,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        encoder_heads: int = 16,
        decoder_heads: int = 16,
        coupling_heads: int = 1,
        members: int = 16,
        tail_layers: int = 0,
        info_width: int = 16,
        info_size: int = INFO,
        channels: int = 1,
        dropout: float = 0.05,
        qk_norm: Norm = "plain",
        decoder_qk_norm: Norm = "affine",
        cross_query_norm: bool = True,
        published_positions: bool = False,
        finer: int = 1,
    ) -> None:
        super().__init__()
        specs = [FieldSpec.of(field) for field in fields]
        self.fields = {spec.name: spec for spec in specs}
        self.predicted = tuple(self.fields if predicted is None else predicted)
        check_fields(specs, self.predicted)
        check_layers(encoder_layers, decoder_layers, decoder_heads, members)
        check_finer(finer)
        for spec in specs:
            check_width(spec, info_width, (encoder_heads, decoder_heads))
        self.encoder_layers, self.info_size = encoder_layers, info_size
        self.members, self.channels, self.finer = members, channels, finer

        def encoder(spec: FieldSpec) -> list[Layer]:
            coupled = {s: (self.fields[s].width, coupling_heads) for s in spec.sources}
            sources = {spec.name: (spec.width, encoder_heads), **coupled}
            norms = (qk_norm, cross_query_norm)
            return _layers(encoder_layers, encoder_heads, sources, norms, dropout)

        def decoder(spec: FieldSpec) -> list[Layer]:
            across = decoder_heads // 2
            own = (spec.width, decoder_heads - across)
            sources = {"decoder": own, "encoder": (spec.width, across)}
            norms = (decoder_qk_norm, True)
            return _layers(decoder_layers, decoder_heads, sources, norms, dropout)

        self.networks = nn.ModuleDict()
        for spec in specs:
            embedding = TokenEmbedding(
                spec, info_width, published_positions, info_size, channels
            )
            network = FieldTransformer(spec, embedding, encoder(spec), finer)
            if spec.name in self.predicted:
                network.decoder = nn.ModuleList(decoder(spec))
                sizes = (members, spec.width, spec.points * finer**2, tail_layers)
                network.tail = EnsembleTail(*sizes)
            self.networks[spec.name] = network

    def forward(
        self,
        tokens: Mapping[str, Tensor],
        info: Mapping[str, Tensor],
        targets: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Sequence[int]] | None = None,
        members: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Predict tokens of some fields from those of all.

        Parameters
        ----------
        tokens : mapping of str to Tensor, shapes (B, V, T, Y, X, t, y, x)
            Normalised fields as :func:`xatmo.nets.multiformer_tokens.tokenize` cuts
            them; what is hidden is zero, say.
        info : mapping of str to Tensor, shapes (B, N, 8)
            As of :func:`xatmo.nets.multiformer_tokens.token_info`; or with as many
            numbers as ``info_size`` says.
        targets : mapping of str to Tensor of bool, shapes (B, V, T, Y, X) or without B
            Fields that are predicted, and their tokens; all if not given.
        present : mapping of str to sequence of int, optional
            Fields that are there, and their levels, counted from 0; all if not given.
            Tokens of others are left out, and cost nothing; V is of those there.
        members : Tensor of int, shape (E,), optional
            Which members are computed; all if not given.

        Returns
        -------
        dict of str to Tensor, shapes (n, members, t, finer y, finer x)
            Of each field in ``targets``, in the order of ``tokens[field][target]``.

        Raises
        ------
        xatmo.errors.OptionError
            If a field is missing, has another shape, or is none that is predicted.
        """
        if targets is None:
            there = [n for n in self.predicted if present is None or n in present]
            targets = dict.fromkeys(there, torch.ones((), dtype=torch.bool))
        self._check_predicted(targets)
        states = self.encode(tokens, info, present=present)
        return {
            name: self.network(name).predict(states[name], target, members)
            for name, target in targets.items()
        }

    def encode(
        self,
        tokens: Mapping[str, Tensor],
        info: Mapping[str, Tensor],
        layers: int | None = None,
        present: Mapping[str, Sequence[int]] | None = None,
    ) -> dict[str, list[Tensor]]:
        """Return the states (B, N, D) of each field: embedded, and after each layer.

        Of the first ``layers`` layers, or of all; ``present`` as for a prediction.
        """
        some = self.there(present)
        fields = {n: self.fields[n].only(levels, some) for n, levels in some.items()}
        check_inputs(fields, tokens, info, self.info_size, self.channels)
        networks = {name: self.network(name) for name in some}
        states = {
            name: [network.embedding(tokens[name], info[name], self._part(name, some))]
            for name, network in networks.items()
        }
        for number in range(self.encoder_layers if layers is None else layers):
            # Once for each field, however many others attend to it.
            sources = {name: layer_norm(kept[-1]) for name, kept in states.items()}
            for name, network in networks.items():
                layer = network.encoder[number]
                states[name].append(layer(states[name][-1], sources))
        return states

    def attention(
        self,
        tokens: Mapping[str, Tensor],
        info: Mapping[str, Tensor],
        field: str,
        layer: int,
        part: Literal["encoder", "decoder"] = "encoder",
        index: Tensor | None = None,
        present: Mapping[str, Sequence[int]] | None = None,
    ) -> dict[str, Tensor]:
        """Return how much tokens of a field attend to those of each source.

        Parameters
        ----------
        tokens, info : mapping of str to Tensor
            As for a prediction.
        field : str
        layer : int
            Counted from 0, in the order of computation.
        part : {"encoder", "decoder"}
        index : Tensor of int, shape (B, n) or (n,), optional
            Tokens that ask, counted over levels, times, rows and columns; all if not
            given. The result has as many rows.
        present : mapping, optional
            As for a prediction.

        Returns
        -------
        dict of str to Tensor, shapes (B, heads, n, N_source)
            Probabilities. Sources of an encoder are the field and those it is coupled
            with, by their names; those of a decoder are ``"decoder"`` and
            ``"encoder"``, both of the same field.

        Raises
        ------
        xatmo.errors.OptionError
            If there is no such field or layer.
        """
        self._check_layer(field, layer, part)
        network = self.network(field)
        if part == "encoder":
            attention = cast("Layer", network.encoder[layer])
            states = self.encode(tokens, info, layer, present)
            sources = {name: layer_norm(kept[-1]) for name, kept in states.items()}
        else:
            kept = self.encode(tokens, info, present=present)[field]
            x = network.decode(kept, layers=layer)
            sources = network.sources(x, kept, layer)
            attention = cast("Layer", cast("nn.ModuleList", network.decoder)[layer])
        return attention.attention.weights(sources, index)

    def there(
        self, present: Mapping[str, Sequence[int]] | None
    ) -> dict[str, Sequence[int]]:
        """Return fields and levels that are there, in order: all if it is not said."""
        if present is None:
            return {name: range(field.levels) for name, field in self.fields.items()}
        check_present(self.fields, present)
        return {name: present[name] for name in self.fields if name in present}

    def _part(
        self, name: str, present: Mapping[str, Sequence[int]]
    ) -> Sequence[int] | None:
        """Levels of a field that are there; None if all are."""
        return None if len(present[name]) == self.fields[name].levels else present[name]

    def network(self, name: str) -> FieldTransformer:
        """Return the transformer of a field."""
        return cast("FieldTransformer", self.networks[name])

    def _check_predicted(self, names: Collection[str]) -> None:
        for name in names:
            if name not in self.predicted:
                msg = f"This network does not predict {name!r}."
                hint, needed = "ask for one of them", ", ".join(self.predicted)
                raise OptionError(msg, found=repr(name), needed=needed, hint=hint)

    def _check_layer(self, field: str, layer: int, part: str) -> None:
        known = list(self.fields if part == "encoder" else self.predicted)
        if part not in ("encoder", "decoder") or field not in known:
            msg = "There is no such attention."
            needed = f"encoder or decoder, of {', '.join(known)}"
            found, hint = f"{part} of {field!r}", f"field={known[0]!r}, part='encoder'"
            raise OptionError(msg, found=found, needed=needed, hint=hint)
        network = self.network(field)
        count = len(getattr(network, part))
        if not 0 <= layer < count:
            msg = f"The {part} of {field!r} has no layer {layer}."
            needed, hint = f"0 to {count - 1}", f"layer={count - 1}"
            raise OptionError(msg, found=str(layer), needed=needed, hint=hint)


def _layers(
    count: int,
    heads: int,
    sources: Mapping[str, tuple[int, int]],
    norms: tuple[Norm, bool],
    dropout: float,
) -> list[Layer]:
    """Layers that attend to some sources, of which the first is what they are for."""
    width = next(iter(sources.values()))[0]
    return [
        Layer(Attention(width, width // heads, sources, *norms, dropout), dropout)
        for _ in range(count)
    ]


def _rows(target: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Which tokens are wanted: (B, N) of bool -> (B, n), and which of these are meant.

    Boxes may want different numbers of tokens: what is too many is computed for all,
    and not meant. None stands for all of them.
    """
    if bool(target.all()):
        return None, None
    counts = target.sum(1)
    most = int(counts.max())
    index = (~target).byte().argsort(dim=1, stable=True)[:, :most]
    if bool((counts == most).all()):
        return index, None
    return index, torch.arange(most, device=index.device) < counts[:, None]
