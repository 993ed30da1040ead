"""Weights of a Multiformer with other fields, or with other couplings between them.

Fields are networks of their own that hear of each other through some heads of their
encoders. So a field is taken away with its heads, and a new one brings heads that say
nothing at first: what was learnt stays what it was. That is also how the published
networks were made: fields on their own first, then coupled and trained on.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xatmo.errors import OptionError
from xatmo.nets.multiformer_fields import FieldSpec

__all__ = ["couple", "coupled_fields", "fields_without"]


@dataclass(frozen=True)
class _Rows:
    """Rows of an attention's matrices that belong to each source, in order."""

    head: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, spec: FieldSpec, heads: int, coupling_heads: int) -> _Rows:
        head = spec.width // heads
        coupled = dict.fromkeys(spec.sources, coupling_heads * head)
        return cls(head, {spec.name: heads * head, **coupled})

    def split(self, tensor: Tensor, dim: int) -> dict[str, Tensor]:
        """Cut a matrix into the part of each source."""
        parts = tensor.split(list(self.counts.values()), dim)
        return dict(zip(self.counts, parts, strict=True))


def couple(
    state: Mapping[str, Tensor],
    before: Sequence[FieldSpec],
    after: Sequence[FieldSpec],
    *,
    encoder_heads: int = 16,
    coupling_heads: int = 1,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return the weights of a network with other fields or couplings.

    Fields that are in ``before`` alone are left out, with the heads on them; of heads
    that are new, the keys and values are drawn and the outputs are zero.

    Parameters
    ----------
    state : mapping of str to Tensor
        Of a :class:`xatmo.nets.multiformer.Multiformer` with the fields ``before``; or
        of several such networks together, whose fields have different names.
    before, after : sequence of FieldSpec
        Fields in ``after`` differ from those in ``before`` by their sources alone.
    encoder_heads, coupling_heads : int
        Of both networks.
    seed : int
        Of what is drawn: the same numbers for the same fields.

    Returns
    -------
    dict of str to Tensor
        For ``Multiformer(after, ...).load_state_dict(state, strict=True)``. Tensors
        that do not change are those of ``state``.

    Raises
    ------
    xatmo.errors.OptionError
        If a field is new or of other sizes, or weights are missing.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.multiformer import FieldSpec, Multiformer
    >>> from xatmo.nets.multiformer_surgery import couple, coupled_fields
    >>> options = {"encoder_layers": 1, "decoder_layers": 1, "encoder_heads": 4,
    ...            "decoder_heads": 4}
    >>> u = FieldSpec("u", 32, 2, (4, 3, 6), (3, 6, 6))
    >>> t = FieldSpec("t", 48, 1, (4, 2, 4), (3, 9, 9))
    >>> alone = [Multiformer([field], **options) for field in (u, t)]
    >>> state = alone[0].state_dict() | alone[1].state_dict()
    >>> both = coupled_fields([u], [t])
    >>> network = Multiformer(both, **options)
    >>> network.load_state_dict(couple(state, [u, t], both, encoder_heads=4))
    <All keys matched successfully>
    """
    known = {spec.name: spec for spec in before}
    widths = {spec.name: spec.width for spec in after}
    made: dict[str, Tensor] = {}
    for spec in after:
        old = _same(known.get(spec.name), spec)
        sizes = (encoder_heads, coupling_heads)
        rows = (_Rows.of(old, *sizes), _Rows.of(spec, *sizes))
        made |= _other_than_attention(state, spec.name)
        for layer in _layers(state, spec.name):
            key = f"networks.{spec.name}.encoder.{layer}.attention"
            generator = torch.Generator().manual_seed(_seed(seed, spec.name, layer))
            made |= _attention(state, key, *rows, spec, widths, generator)
    return made


def coupled_fields(
    fields: Sequence[FieldSpec],
    others: Sequence[FieldSpec],
    sources: bool | Mapping[str, Sequence[str]] = True,
) -> list[FieldSpec]:
    """Return fields and others in one network.

    Parameters
    ----------
    fields, others : sequence of FieldSpec
    sources : bool or mapping of str to sequence of str
        Whether all fields hear of all others and the other way round; or which field
        hears of which, in addition to what it hears of already.

    Raises
    ------
    xatmo.errors.OptionError
        If ``sources`` names a field that is not there.
    """
    names = [spec.name for spec in (*fields, *others)]
    if sources is True:
        ours, theirs = names[: len(fields)], names[len(fields) :]
        sources = dict.fromkeys(ours, theirs) | dict.fromkeys(theirs, ours)
    more = sources or {}
    strange = {*more, *(s for given in more.values() for s in given)} - set(names)
    if strange:
        msg = "Fields cannot be coupled to what is not there."
        found, needed = ", ".join(sorted(strange)), f"some of {', '.join(names)}"
        hint = "coupled=True: every field to every new one"
        raise OptionError(msg, found=found, needed=needed, hint=hint)
    return [
        replace(spec, sources=_once(*spec.sources, *more.get(spec.name, ())))
        for spec in (*fields, *others)
    ]


def fields_without(
    fields: Sequence[FieldSpec], names: Collection[str]
) -> list[FieldSpec]:
    """Return the fields that are left, coupled to each other as they were."""
    left = [spec.name for spec in fields if spec.name not in names]
    return [
        replace(spec, sources=tuple(s for s in spec.sources if s in left))
        for spec in fields
        if spec.name in left
    ]


def _once(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _same(old: FieldSpec | None, new: FieldSpec) -> FieldSpec:
    """The field as it was: the same but for its sources."""
    if old is not None and replace(old, sources=new.sources) == new:
        return old
    msg = f"There are no weights for the field {new.name!r} of this size."
    found = "no such field" if old is None else str(old)
    hint = "train the field on its own first"
    raise OptionError(msg, found=found, needed=str(new), hint=hint)


def _other_than_attention(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """What does not depend on other fields: all but attention in the encoder."""
    own, encoder = f"networks.{name}.", f"networks.{name}.encoder."
    return {
        key: tensor
        for key, tensor in state.items()
        if key.startswith(own)
        and not (key.startswith(encoder) and ".attention." in key)
    }


def _layers(state: Mapping[str, Tensor], name: str) -> list[int]:
    """Numbers of the encoder's layers."""
    start = f"networks.{name}.encoder."
    found = {int(k[len(start) :].split(".")[0]) for k in state if k.startswith(start)}
    if not found:
        msg = f"There are no weights of the field {name!r}."
        some = ", ".join(sorted(state)[:3]) or "none"
        needed, hint = f"{start}0...", "pass the state dict of a Multiformer"
        raise OptionError(msg, found=some, needed=needed, hint=hint)
    return sorted(found)


def _attention(
    state: Mapping[str, Tensor],
    key: str,
    old: _Rows,
    new: _Rows,
    spec: FieldSpec,
    widths: Mapping[str, int],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Weights of one layer's attention, source by source."""
    query, out = f"{key}.query.weight", f"{key}.out.weight"
    queries = old.split(state[query], 0)  # (rows, D) each
    columns = old.split(state[out], 1)  # (D, rows) each
    like = state[query]
    made = {
        name: tensor
        for name, tensor in state.items()
        if name.startswith((f"{key}.query_norm.", f"{key}.key_norm."))
    }
    for source, count in new.counts.items():
        both = f"{key}.key_value.{source}.weight"
        if source in queries:
            made[both] = state[both]
            continue
        queries[source] = _drawn(count, spec.width, like, generator)
        made[both] = _drawn(2 * count, widths[source], like, generator)
        # Nothing is added yet; a first step of training changes this, then the rest.
        columns[source] = like.new_zeros(spec.width, count)
    made[query] = torch.cat([queries[source] for source in new.counts])
    made[out] = torch.cat([columns[source] for source in new.counts], 1)
    return made


def _drawn(rows: int, width: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Weights (rows, width) as a layer begins with."""
    bound = 1 / math.sqrt(width)
    drawn = torch.rand(rows, width, generator=generator) * 2 * bound - bound
    return drawn.to(like)


def _seed(seed: int, name: str, layer: int) -> int:
    """A seed for each layer of each field, whatever others there are."""
    return zlib.crc32(f"{seed} {name} {layer}".encode())
