"""Which layers and heads of attention are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xatmo.errors import OptionError
from xatmo.zoo import Card

__all__ = ["Choice", "read_choice"]

_PARTS = ("encoder", "decoder")


@dataclass(frozen=True)
class Choice:
    """Layers and heads, counted from 0 as networks do.

    Parameters
    ----------
    part : str
    layers : tuple of int
    heads : tuple of int or None
        None for the mean of those of each source.
    mean : bool
        Whether the mean over layers is wanted.
    single : dict of str to bool
        Whether ``layer`` and ``head`` are no dimensions.
    """

    part: str
    layers: tuple[int, ...]
    heads: tuple[int, ...] | None
    mean: bool
    single: dict[str, bool]

    @property
    def kwargs(self) -> dict[str, Any]:
        """What the network is told."""
        return {
            "part": self.part,
            "layers": self.layers,
            "heads": self.heads,
            "mean": self.mean,
        }

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and heads of the result."""
        layers = 1 if self.mean else len(self.layers)
        return layers, 1 if self.heads is None else len(self.heads)

    @property
    def gone(self) -> list[str]:
        """What is averaged over."""
        both = {"layer": self.mean, "head": self.heads is None}
        return [name for name, averaged in both.items() if averaged]

    @property
    def labels(self) -> dict[str, list[int]]:
        """Numbers from 1 of layers and heads that are not averaged."""
        known = {"layer": self.layers, "head": self.heads or ()}
        return {n: [i + 1 for i in known[n]] for n in known if n not in self.gone}

    @property
    def averaged(self) -> dict[str, str]:
        """Attribute that says what is averaged over."""
        return {"averaged_over": ", ".join(f"{n}s" for n in self.gone) or "nothing"}


def read_choice(card: Card, part: Any, layer: Any, head: Any) -> Choice:
    """Read what a user says of layers and heads.

    Parameters
    ----------
    card : Card
        Of a network of boxes.
    part : {"encoder", "decoder"}
    layer, head : int, str or None
        Counted from 1; ``"all"``, or None for the mean.

    Raises
    ------
    xatmo.errors.OptionError
        If there are no such.
    """
    if part not in _PARTS:
        msg = f"A network of boxes has no part {part!r}."
        needed = " or ".join(map(repr, _PARTS))
        found = f"part={part!r}"
        raise OptionError(msg, found=found, needed=needed, hint='part="encoder"')
    count = int(card.network.get(f"{part}_layers", 6))  # as Multiformer has it
    most = _most_heads(card, part)
    layers = _numbers(layer, "layer", count, card, part)
    heads = _numbers(head, "head", most, card, part)
    return Choice(
        part=part,
        layers=tuple(range(count)) if layers is None else layers,
        heads=heads,
        mean=layers is None,
        single={"layer": layer != "all", "head": head != "all"},
    )


def _most_heads(card: Card, part: str) -> int:
    """Heads of the source that has most of them."""
    heads = int(card.network.get(f"{part}_heads", 16))  # as Multiformer has it
    if part == "decoder":
        return heads - heads // 2
    return max(heads, int(card.network.get("coupling_heads", 1)))


def _numbers(
    asked: Any, kind: str, count: int, card: Card, part: str
) -> tuple[int, ...] | None:
    if asked is None:
        return None
    if isinstance(asked, str) and asked == "all":
        return tuple(range(count))
    number = asked
    if kind == "layer" and isinstance(asked, str):
        ending = asked.removeprefix(part)
        number = int(ending) if ending.isdecimal() and ending != asked else None
    whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
    if whole and 1 <= number <= count:
        return (int(number) - 1,)
    raise _none_such(asked, kind, count, card, part)


def _none_such(asked: Any, kind: str, count: int, card: Card, part: str) -> OptionError:
    said = f", or '{part}1' to '{part}{count}'" if kind == "layer" else ""
    other = next(p for p in _PARTS if p != part)
    hint = f"{kind}={count}"
    if kind == "layer" and isinstance(asked, str) and asked.startswith(other):
        hint = f'part="{other}"'
    return OptionError(
        f"The {part} of {card.name} has no {kind} {asked!r}.",
        found=f"{kind}={asked!r}",
        needed=f"1 to {count}{said}; 'all' for each, None for their mean",
        hint=hint,
    )
