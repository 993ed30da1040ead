"""The AtmoDist distance as what a network is trained by, on fields of any level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from xatmo.errors import LevelError, OptionError
from xatmo.losses import AtmoDistLoss
from xatmo.nets.normalization import ZScore
from xatmo.training.module import normalize
from xatmo.zoo import Card, list_models
from xatmo.zoo.runtime import normalizer

__all__ = ["AtmoDistContent", "check_reads"]


class AtmoDistContent(nn.Module):
    """The AtmoDist distance of normalised fields, whose level each sample says.

    Parameters
    ----------
    objective : Objective
        Of any task: ``content_model``, ``content_layer`` and ``content_level``.
    normalizers : sequence of ZScore
        That the fields were normalised with; the model has its own constants.
    levels : sequence of str
        The level of each normaliser.

    Raises
    ------
    xatmo.errors.LevelError
        If the model has no constants for a level.
    """

    def __init__(
        self,
        objective: Any,
        normalizers: Sequence[ZScore],
        levels: Sequence[str],
    ) -> None:
        super().__init__()
        self.loss = AtmoDistLoss(
            objective.content_model, objective.content_layer, normalized=True
        )
        card = self.loss.model.card
        wanted = [objective.content_level or level for level in levels]
        theirs = [_constants(card, level) for level in wanted]
        self.convert = [
            _Converter(a, b) for a, b in zip(normalizers, theirs, strict=True)
        ]

    def forward(self, fields: Tensor, truth: Tensor, level: Tensor) -> Tensor:
        """Compare (B, C, H, W) in the network's normalised units: a scalar."""
        fields, truth = (normalize(self.convert, x, level) for x in (fields, truth))
        loss: Tensor = self.loss(fields, truth)
        return loss


class _Converter:
    """From one normalisation to another."""

    def __init__(self, ours: ZScore, theirs: Callable[[Tensor], Tensor]) -> None:
        self.ours, self.theirs = ours, theirs

    def __call__(self, x: Tensor) -> Tensor:
        return self.theirs(self.ours.inverse(x))


def check_reads(card: Card, quantities: tuple[str, ...]) -> None:
    """Refuse a content model of other fields: their channels are not told apart.

    Raises
    ------
    xatmo.errors.OptionError
    """
    read = tuple(i.quantity for i in card.inputs)
    if read == quantities:
        return
    able = [
        c.name
        for c in list_models("distance")
        if tuple(i.quantity for i in c.inputs) == quantities
    ]
    msg = f"{card.name} does not compare the fields of the recipe."
    raise OptionError(
        msg,
        found=f"quantities = {list(quantities)} in the recipe",
        needed=f"{list(read)}, in this order, for the content of {card.name}",
        hint=f'content_model = "{able[0]}" in [objective]'
        if able
        else f"quantities = {list(read)}",
    )


def _constants(card: Card, level: str) -> Callable[[Tensor], Tensor]:
    for entry in card.levels:
        if entry.level == level:
            return normalizer(card, entry)
    names = ", ".join(repr(entry.level) for entry in card.levels)
    msg = f"{card.name} has no constants for the level {level!r}."
    raise LevelError(
        msg,
        found=f"training data at {level!r}",
        needed=f"one of {names}",
        hint=f'content_level = "{card.levels[0].level}" in [objective], to read all '
        "levels with its constants",
    )
