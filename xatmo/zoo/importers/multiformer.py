"""Settings and weights of published AtmoRep models as those of our Multiformer.

Two generations of the original code are read: that of 2023, with a module for each
attention head, and that of 2024, with the heads of a layer in a few matrices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from xatmo.errors import WeightsError
from xatmo.zoo.importers.common import some

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xatmo.nets.multiformer import Multiformer
    from xatmo.nets.multiformer_attention import MLP, Attention, Layer
    from xatmo.nets.multiformer_tail import EnsembleTail, MemberLinear
    from xatmo.nets.multiformer_tokens import TokenEmbedding

__all__ = ["is_first_generation", "multiformer_from_atmorep", "multiformer_options"]

# Queries (rows, D), and keys and values (rows, D_source), for each source.
_Heads: TypeAlias = "list[tuple[Tensor, Tensor]]"

# What the settings allow and no published model does.
_ONLY = {
    "with_layernorm": True,
    "with_cls": False,
    "learnable_mask": False,
    "size_token_info": 8,
    "encoder_num_mlp_layers": 2,
    "decoder_num_mlp_layers": 2,
    "encoder_att_type": "dense",
    "decoder_att_type": "dense",
    "decoder_self_att": False,
    "decoder_cross_att_ratio": 0.5,
    "decoder_cross_att_rate": 1.0,
}
_NAMES = {
    "encoder_layers": "encoder_num_layers",
    "decoder_layers": "decoder_num_layers",
    "encoder_heads": "encoder_num_heads",
    "decoder_heads": "decoder_num_heads",
    "coupling_heads": "coupling_num_heads_per_field",
    "members": "net_tail_num_nets",
    "tail_layers": "net_tail_num_layers",
    "info_width": "size_token_info_net",
    "dropout": "dropout_rate",
}
# The same tensors under second names, and features of place and time not in use.
_COPIES = re.compile(r"(embeds\.\d+|embeds_token_info\.\d+|embed_token_info)\.\w+$")
_HINT = "build the network with multiformer_options() of the settings beside the file"


def is_first_generation(state: Mapping[str, Tensor]) -> bool:
    """Whether weights are of the code of 2023, with a module for each head."""
    return any(".heads_self." in key for key in state)


def multiformer_options(
    config: Mapping[str, Any], first_generation: bool
) -> dict[str, Any]:
    """Translate an original's settings into keyword arguments of ours.

    Parameters
    ----------
    config : mapping
        Of a file ``model_id<id>.json``.
    first_generation : bool
        Of the weights beside it: see :func:`is_first_generation`.

    Returns
    -------
    dict
        For ``Multiformer(**options)``: plain numbers, strings, lists and tables.

    Raises
    ------
    xatmo.errors.WeightsError
        If a setting is missing, or is one that no published model has.

    Examples
    --------
    >>> import json
    >>> from xatmo.nets.multiformer import Multiformer
    >>> from xatmo.zoo.importers.multiformer import multiformer_options
    >>> config = json.load(open("model_idj8dwr5qj.json"))  # doctest: +SKIP
    >>> options = multiformer_options(config, first_generation=False)  # doctest: +SKIP
    >>> network = Multiformer(**options)  # doctest: +SKIP
    """
    missing = [key for key in ("fields", *_NAMES.values()) if key not in config]
    if missing:
        msg = "These are not all settings of an AtmoRep model."
        needed = "fields, " + ", ".join(_NAMES.values())
        hint = "read the file model_id<id>.json beside the weights"
        said = f"missing: {some(missing)}"
        raise WeightsError(msg, found=said, needed=needed, hint=hint)
    for key, value in _ONLY.items():
        if config.get(key, value) != value:
            msg = f"This network is of a kind that no published model is: {key}."
            found, hint = f"{key} = {config[key]!r}", "import a published model"
            raise WeightsError(msg, found=found, needed=repr(value), hint=hint)
    norm = "plain" if config.get("with_qk_lnorm", False) else "none"
    predicted = config.get("fields_prediction", config["fields"])
    return {
        "fields": [_field(entry) for entry in config["fields"]],
        "predicted": [entry[0] for entry in predicted],
        **{ours: config[theirs] for ours, theirs in _NAMES.items()},
        "qk_norm": norm,
        # Decoders of 2024 normalise always, with scales that they learn.
        "decoder_qk_norm": norm if first_generation else "affine",
        "cross_query_norm": first_generation,
        "published_positions": True,
    }


def multiformer_from_atmorep(
    state: Mapping[str, Tensor], network: Multiformer
) -> dict[str, Tensor]:
    """Translate an original's weights into a state dict of ours.

    Parameters
    ----------
    state : mapping of str to Tensor
        Of either generation, as ``torch.load(file, map_location="cpu",
        weights_only=True)`` reads it.
    network : Multiformer
        Built with :func:`multiformer_options`.

    Returns
    -------
    dict of str to Tensor
        For ``network.load_state_dict(state, strict=True)``.

    Raises
    ------
    xatmo.errors.WeightsError
        If a tensor is missing, has another shape or is not one of this network's.

    Notes
    -----
    Scales and offsets of a tail's layer norm are folded into the linear layer after it.
    Features of when and where a token is are those that the fields share, if a field
    has none of its own or has only zeros, as in models of 2023.
    """
    found = _Checkpoint(state)
    own: dict[str, Tensor] = {}
    for number, name in enumerate(network.fields):
        parts, encoder = network.network(name), f"encoders.{number}"
        embedding = _embedding(found, number, parts.embedding)
        own |= _below(f"networks.{name}.embedding", embedding)
        for at, layer in enumerate(_layers(parts.encoder)):
            key = f"{encoder}.heads.{at}"
            heads = _encoder_heads(found, key, layer.attention)
            weights = _layer(found, layer, heads, key, f"{encoder}.mlps.{at}")
            own |= _below(f"networks.{name}.encoder.{at}", weights)
    for number, name in enumerate(network.predicted):
        parts, decoder = network.network(name), f"decoders.{number}.blocks"
        for at, layer in enumerate(_layers(parts.decoder)):
            key = f"{decoder}.{2 * at}"
            heads = _decoder_heads(found, key, layer.attention)
            weights = _layer(found, layer, heads, key, f"{decoder}.{2 * at + 1}")
            own |= _below(f"networks.{name}.decoder.{at}", weights)
        tail = _tail(found, f"tails.{number}", cast("EnsembleTail", parts.tail))
        own |= _below(f"networks.{name}.tail", tail)
    found.refuse_the_rest()
    return own


class _Checkpoint:
    """Tensors of an original, each of which is taken once."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        # Some files of 2024 hold empty matrices for couplings that are not there.
        self.left = {key: tensor for key, tensor in state.items() if tensor.numel()}
        self.first_generation = is_first_generation(state)

    def take(self, key: str, *shape: int) -> Tensor:
        """Return a tensor that has to be there, in this shape."""
        tensor = self.left.pop(key, None)
        if tensor is None:
            msg = f"The tensor {key!r} is missing."
            rest = some(sorted(self.left)) or "none"
            found, needed = f"not yet used: {rest}", f"{key} {shape}"
            raise WeightsError(msg, found=found, needed=needed, hint=_HINT)
        if tuple(tensor.shape) != shape:
            msg = f"The tensor {key!r} has another shape than the network's."
            found = f"{tuple(tensor.shape)}"
            raise WeightsError(msg, found=found, needed=f"{shape}", hint=_HINT)
        return tensor.float()

    def linear(self, key: str, c_in: int, c_out: int) -> dict[str, Tensor]:
        """Return weight and bias of a layer."""
        weight = self.take(f"{key}.weight", c_out, c_in)
        return {"weight": weight, "bias": self.take(f"{key}.bias", c_out)}

    def matrix(self, key: str, attention: Attention) -> tuple[Tensor, Tensor]:
        """Rows of queries, and of keys and values: three of each of a field's heads."""
        width, heads = attention.sources[attention.own]
        rows = self.take(f"{key}.weight", 3 * heads * attention.head, width)
        rows = rows.unflatten(0, (heads, 3, attention.head))
        return rows[:, 0].flatten(0, 1), rows[:, 1:].flatten(0, 2)

    def modules(
        self, key: str, attention: Attention, source: str, start: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Return the same of heads that are modules, from one of them on."""
        import torch

        own, _ = attention.sources[attention.own]
        width, heads = attention.sources[source]
        widths = {"q": own, "k": width, "v": width}

        def rows(kinds: str) -> Tensor:
            found = [
                self.take(f"{key}.{head}.proj_{kind}s.weight", attention.head, size)
                for head in range(start, start + heads)
                for kind, size in widths.items()
                if kind in kinds
            ]
            return torch.cat(found)

        return rows("q"), rows("kv")

    def refuse_the_rest(self) -> None:
        """Refuse tensors that no part of the network has asked for."""
        unknown = sorted(key for key in self.left if not _COPIES.match(key))
        if unknown:
            msg = "The weights are of another network, which has more parts."
            found, needed = f"unknown: {some(unknown)}", "tensors of this network only"
            raise WeightsError(msg, found=found, needed=needed, hint=_HINT)


def _field(entry: Sequence[Any]) -> dict[str, Any]:
    """Translate a field: name, network, levels, and number and size of tokens."""
    name, (dynamic, width, sources, *_), levels, tokens, token_size, *_ = entry
    if not dynamic:
        msg = f"The field {name!r} does not change with time."
        needed, hint = "fields of the atmosphere", "import a published model"
        raise WeightsError(msg, found="a static field", needed=needed, hint=hint)
    return {
        "name": name,
        "width": width,
        "levels": len(levels),
        "tokens": list(tokens),
        "token_size": list(token_size),
        "sources": list(sources),
    }


def _embedding(
    found: _Checkpoint, number: int, embedding: TokenEmbedding
) -> dict[str, Tensor]:
    info = embedding.info
    theirs = f"encoders.{number}.embed"
    state = _below("values", found.linear(theirs, *_sizes(embedding.values)))
    for key in (f"embeds_token_info.{number}", "embed_token_info"):
        tensors = [found.left.get(f"{key}.{kind}") for kind in ("weight", "bias")]
        if any(tensor is not None and tensor.any() for tensor in tensors):
            break
    # Not taken away: other fields may share it.
    state |= _below("info", _Checkpoint(found.left).linear(key, *_sizes(info)))
    return state


def _encoder_heads(found: _Checkpoint, key: str, attention: Attention) -> _Heads:
    own, *coupled = attention.sources
    if found.first_generation:
        parts = [found.modules(f"{key}.heads_self", attention, own)]
        start = 0
        for source in coupled:
            name = f"{key}.heads_coupling"
            parts.append(found.modules(name, attention, source, start))
            start += attention.sources[source][1]
        return parts
    parts = [found.matrix(f"{key}.proj_heads", attention)]
    if coupled:
        width, head = attention.query.in_features, attention.head
        counts = [attention.sources[source][1] * head for source in coupled]
        queries = found.take(f"{key}.proj_heads_other.0.weight", sum(counts), width)
        for number, (source, q) in enumerate(
            zip(coupled, queries.split(counts), strict=True), start=1
        ):
            size = 2 * len(q), attention.sources[source][0]
            name = f"{key}.proj_heads_other.{number}.weight"
            parts.append((q, found.take(name, *size)))
    return parts


def _decoder_heads(found: _Checkpoint, key: str, attention: Attention) -> _Heads:
    own, other = attention.sources
    if found.first_generation:
        heads = found.modules(f"{key}.heads", attention, own)
        return [heads, found.modules(f"{key}.heads_other", attention, other)]
    width, count = attention.sources[other]
    rows = count * attention.head
    query = found.take(f"{key}.proj_heads_o_q.weight", rows, width)
    key_value = found.take(f"{key}.proj_heads_o_kv.weight", 2 * rows, width)
    return [found.matrix(f"{key}.proj_heads", attention), (query, key_value)]


def _layer(
    found: _Checkpoint, layer: Layer, heads: _Heads, attention: str, mlp: str
) -> dict[str, Tensor]:
    """Translate a layer, of whose attention the heads have been read."""
    translated = _below(
        "attention", _attention(found, attention, layer.attention, heads)
    )
    return translated | _below("mlp", _mlp(found, mlp, layer.mlp))


def _attention(
    found: _Checkpoint, key: str, attention: Attention, parts: _Heads
) -> dict[str, Tensor]:
    """Translate attention, of which queries, keys and values have been read."""
    import torch

    state = {"query.weight": torch.cat([query for query, _ in parts])}
    for source, (_, key_value) in zip(attention.sources, parts, strict=True):
        state[f"key_value.{source}.weight"] = key_value
    c_in, c_out = _sizes(attention.out)
    state["out.weight"] = found.take(f"{key}.proj_out.weight", c_out, c_in)
    if attention.norm == "affine":
        for ours, theirs in (("query_norm", "ln_q"), ("key_norm", "ln_k")):
            for kind in ("weight", "bias"):
                tensor = found.take(f"{key}.{theirs}.{kind}", attention.head)
                state[f"{ours}.{kind}"] = tensor
    return state


def _mlp(found: _Checkpoint, key: str, mlp: MLP) -> dict[str, Tensor]:
    first = found.linear(f"{key}.blocks.0", *_sizes(mlp.first))
    second = found.linear(f"{key}.blocks.3", *_sizes(mlp.second))
    return _below("first", first) | _below("second", second)


def _tail(found: _Checkpoint, key: str, tail: EnsembleTail) -> dict[str, Tensor]:
    """Stack the members' layers, the first of which takes in the layer norm before."""
    import torch

    state = {}
    for depth, layer in enumerate(cast("Iterable[MemberLinear]", tail.layers)):
        members, c_out, c_in = layer.weight.shape
        names = [f"{key}.tail_nets.{member}" for member in range(members)]
        each = [found.linear(f"{name}.{1 + 2 * depth}", c_in, c_out) for name in names]
        if depth == 0:
            norms = [
                [found.take(f"{name}.0.{kind}", c_in) for kind in ("weight", "bias")]
                for name in names
            ]
            each = [_folded(e, *norm) for e, norm in zip(each, norms, strict=True)]
        for kind in ("weight", "bias"):
            state[f"layers.{depth}.{kind}"] = torch.stack([e[kind] for e in each])
    return state


def _folded(
    linear: Mapping[str, Tensor], scale: Tensor, offset: Tensor
) -> dict[str, Tensor]:
    """Return the layer that does what a scale, an offset and a layer do."""
    weight = linear["weight"].double()
    bias = linear["bias"] + weight @ offset.double()
    return {"weight": (weight * scale).float(), "bias": bias.float()}


def _layers(layers: nn.Module | None) -> Iterable[Layer]:
    return cast("Iterable[Layer]", layers)


def _sizes(layer: nn.Linear) -> tuple[int, int]:
    return layer.in_features, layer.out_features


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{key}": tensor for key, tensor in state.items()}
