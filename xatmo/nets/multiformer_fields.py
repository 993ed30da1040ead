"""Fields of the Multiformer, and whether they and its other sizes fit together."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from xatmo.errors import OptionError

__all__ = [
    "INFO",
    "FieldSpec",
    "check_fields",
    "check_finer",
    "check_inputs",
    "check_layers",
    "check_levels",
    "check_present",
    "check_width",
]

INFO = 8
"""Numbers that say when and where a token is, of published networks."""


@dataclass(frozen=True)
class FieldSpec:
    """What the network has to know of a field before it is built.

    Parameters
    ----------
    name : str
    width : int
        Features of its tokens: an even number.
    levels : int
        Levels, each with tokens of its own.
    tokens, token_size : sequence of int
        Tokens of one level, and points of one token, in time, latitude and longitude.
    sources : sequence of str
        Other fields that its encoder attends to.

    Raises
    ------
    xatmo.errors.OptionError
        If one of these is not possible.

    Examples
    --------
    >>> from xatmo.nets.multiformer_fields import FieldSpec
    >>> u = FieldSpec("velocity_u", 1024, 5, (12, 3, 6), (3, 18, 18))
    >>> u.count, u.points
    (1080, 972)
    """

    name: str
    width: int
    levels: int
    tokens: tuple[int, int, int]
    token_size: tuple[int, int, int]
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in ("tokens", "token_size"):
            object.__setattr__(self, key, _three(self.name, key, getattr(self, key)))
        object.__setattr__(self, "sources", tuple(self.sources))
        if not self.name.isidentifier() or hasattr(nn.ModuleDict(), self.name):
            msg = f"A field of the network cannot be called {self.name!r}."
            needed = "letters, digits and underscores, and no name that torch uses"
            hint = f"name it field_{self.name or 1} or the like"
            raise OptionError(msg, found=repr(self.name), needed=needed, hint=hint)
        if self.levels < 1 or self.width < 2 or self.width % 2:
            msg = f"The field {self.name!r} has an impossible size."
            found = f"width {self.width}, {self.levels} levels"
            needed = "an even width, and at least one level"
            raise OptionError(msg, found=found, needed=needed, hint="width=1024")

    @classmethod
    def of(cls, field: FieldSpec | Mapping[str, Any]) -> FieldSpec:
        """Return a field given as such, or by its parameters as a table of a card."""
        return field if isinstance(field, FieldSpec) else cls(**field)

    def only(self, levels: Collection[int], fields: Collection[str]) -> FieldSpec:
        """Return what is left of the field with some levels, coupled to some fields."""
        left = tuple(name for name in self.sources if name in fields)
        return replace(self, levels=len(levels), sources=left)

    @property
    def count(self) -> int:
        """Tokens of all levels."""
        return self.levels * math.prod(self.tokens)

    @property
    def points(self) -> int:
        """Points of a token."""
        return math.prod(self.token_size)

    @property
    def box(self) -> tuple[int, int, int]:
        """Points in time, latitude and longitude."""
        t, y, x = (n * s for n, s in zip(self.tokens, self.token_size, strict=True))
        return t, y, x

    @property
    def plane(self) -> tuple[int, int, int, int]:
        """Levels, and tokens in time, latitude and longitude."""
        return (self.levels, *self.tokens)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its tokens for one box: levels, tokens, and points of each."""
        return (*self.plane, *self.token_size)


def check_fields(specs: Sequence[FieldSpec], predicted: Sequence[str]) -> None:
    """Refuse fields that do not fit each other."""
    names = [spec.name for spec in specs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        msg = "Fields of the network need names of their own."
        hint = "name each field once"
        found = _names(names)
        raise OptionError(msg, found=found, needed="each name once", hint=hint)
    for name in predicted:
        if name not in names:
            msg = f"The field {name!r} cannot be predicted, since it is not read."
            hint = "add it to fields, or take it out of predicted"
            raise OptionError(msg, found=_names(names), needed=name, hint=hint)
    for spec in specs:
        wrong = [s for s in spec.sources if s not in names or s == spec.name]
        if wrong or len(set(spec.sources)) < len(spec.sources):
            msg = f"The field {spec.name!r} cannot be coupled in this way."
            others = [name for name in names if name != spec.name]
            needed = f"some of: {_names(others)}; each once"
            hint = "correct sources, or add the fields that they name"
            found = _names(spec.sources)
            raise OptionError(msg, found=found, needed=needed, hint=hint)


def check_layers(encoder: int, decoder: int, heads: int, members: int) -> None:
    """Refuse a decoder that the encoder has nothing for."""
    if min(encoder, decoder, members) < 1 or decoder > encoder:
        msg = "Each layer of a decoder needs one of the encoder."
        found = f"{encoder} and {decoder} layers, {members} members"
        needed = "one of each at least, and no more decoder than encoder layers"
        hint = f"decoder_layers={max(encoder, 1)}"
        raise OptionError(msg, found=found, needed=needed, hint=hint)
    if heads < 2:
        msg = "Half of a decoder's heads attend to the encoder."
        hint = "decoder_heads=16"
        raise OptionError(msg, found=f"{heads}", needed="two at least", hint=hint)


def check_finer(finer: int) -> None:
    """Refuse a grid that is no whole number of times finer."""
    if finer < 1:
        msg = f"A grid cannot be {finer} times finer."
        hint = "finer=4"
        raise OptionError(msg, found=f"finer={finer}", needed="1 or more", hint=hint)


def check_width(spec: FieldSpec, info_width: int, heads: tuple[int, int]) -> None:
    """Refuse a width that heads cannot share."""
    if spec.width <= info_width or any(n < 1 or spec.width % n for n in heads):
        msg = f"The width of the field {spec.name!r} does not fit."
        needed = f"more than {info_width}, and a multiple of its heads: {heads}"
        hint = "change width or the numbers of heads"
        raise OptionError(msg, found=str(spec.width), needed=needed, hint=hint)


def check_inputs(
    fields: Mapping[str, FieldSpec],
    tokens: Mapping[str, Tensor],
    info: Mapping[str, Tensor],
    info_size: int = INFO,
    channels: int = 1,
) -> None:
    """Refuse inputs of other fields, or of other shapes, than a network reads."""
    for what, given in (("tokens", tokens), ("info", info)):
        missing = [name for name in fields if name not in given]
        if missing:
            msg = f"There are no {what} of {', '.join(missing)}."
            hint = f"pass {what} of all fields; what is not known is zero"
            needed = ", ".join(fields)
            raise OptionError(msg, found=_names(given), needed=needed, hint=hint)
    for name, spec in fields.items():
        columns = channels * spec.shape[-1]
        wanted = {
            "tokens": (*spec.shape[:-1], columns),
            "info": (spec.count, info_size),
        }
        found = {"tokens": tokens[name].shape[1:], "info": info[name].shape[1:]}
        for what, shape in wanted.items():
            if tuple(found[what]) != shape:
                msg = f"The {what} of {name!r} have another shape."
                hint = "tokenize(box, token_size) and token_info(...) make them"
                sizes = str(tuple(found[what])), str(shape)
                raise OptionError(msg, found=sizes[0], needed=sizes[1], hint=hint)


def check_levels(
    fields: Mapping[str, FieldSpec], numbers: Mapping[str, Sequence[float]]
) -> tuple[int, int, int]:
    """Refuse fields of different boxes, or levels without a number; return the box."""
    boxes = {name: field.box for name, field in fields.items()}
    if len(set(boxes.values())) > 1:
        msg = "Fields of a network cover the same box."
        found = "; ".join(f"{name}: {box}" for name, box in boxes.items())
        hint = "change tokens or token_size"
        needed = "the same points in time, latitude and longitude"
        raise OptionError(msg, found=found, needed=needed, hint=hint)
    for name, field in fields.items():
        told = len(numbers.get(name, ()))
        if told != field.levels:
            msg = f"Each level of the field {name!r} needs a number."
            found, needed = f"{told} numbers", f"{field.levels}"
            hint = f"level_numbers={{{name!r}: {list(range(field.levels))}}}"
            raise OptionError(msg, found=found, needed=needed, hint=hint)
    return next(iter(boxes.values()))


def check_present(
    fields: Mapping[str, FieldSpec], present: Mapping[str, Sequence[int]]
) -> None:
    """Refuse a part of the fields and levels that is none."""
    for name, levels in present.items():
        count = fields[name].levels if name in fields else 0
        if not levels or not set(levels) <= set(range(count)):
            msg = "There are no such fields or levels."
            found = f"{name}: levels {list(levels)}"
            said = "; ".join(f"{n}: 0 to {f.levels - 1}" for n, f in fields.items())
            hint = f"present={{{next(iter(fields))!r}: [0]}}"
            raise OptionError(msg, found=found, needed=f"some of {said}", hint=hint)


def _three(name: str, key: str, value: Sequence[int]) -> tuple[int, int, int]:
    sizes = tuple(int(n) for n in value)
    if len(sizes) != 3 or min(sizes) < 1:
        msg = f"{key} of the field {name!r} is not a size in space and time."
        needed = "three positive numbers: time, latitude, longitude"
        raise OptionError(msg, found=str(sizes), needed=needed, hint=f"{key}=(3, 9, 9)")
    return sizes[0], sizes[1], sizes[2]


def _names(given: Collection[str]) -> str:
    return ", ".join(given) or "none"
