"""The Lightning module of a generator that is trained against a discriminator.

The paper's: what is to be right is the content, by the squared error or by the distance
to a pretrained network; what is to look right is left to a second network, that learns
to tell downscaled fields from true ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.errors import LevelError, OptionError
from xatmo.losses import AtmoDistLoss
from xatmo.nets.adversarial import (
    Balance,
    adversarial_loss,
    discriminator_loss,
    mixed_loss,
)
from xatmo.nets.discriminator import Discriminator
from xatmo.nets.normalization import ZScore
from xatmo.training.downscale.module import Downscaler, Drawn
from xatmo.training.downscale.recipe import DownscaleRecipe, Objective
from xatmo.training.module import adamw, log_epoch, normalize
from xatmo.zoo import Card, list_models
from xatmo.zoo.runtime import normalizer

__all__ = ["AdversarialDownscaler", "AtmoDistContent"]

Content = Callable[[Tensor, Tensor, Tensor], Tensor]


class AdversarialDownscaler(Downscaler):
    """Trains a generator and a discriminator in turn.

    Parameters
    ----------
    network : Generator
        Usually trained before by its squared error.
    normalizers : sequence of ZScore
        One per level; a sample says which is its own.
    recipe : DownscaleRecipe
        Its factor, patch, objective and optimizer are read.
    levels : sequence of str
        The level of each normaliser.
    """

    def __init__(
        self,
        network: nn.Module,
        normalizers: Sequence[ZScore],
        recipe: DownscaleRecipe,
        levels: Sequence[str],
    ) -> None:
        super().__init__(network, normalizers, recipe)
        self.automatic_optimization = False
        judge: nn.Module = Discriminator(recipe.sampling.patch, len(recipe.quantities))
        self.discriminator = judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        o = recipe.objective
        self.balance = Balance(o.low, o.high)
        self.content: Content = _mean_square
        if o.content == "atmodist":
            self.content = AtmoDistContent(o, normalizers, levels)
            _check_reads(self.content.loss.model.card, recipe.quantities)

    def training_step(self, batch: dict[str, Tensor], index: int) -> None:
        """A step of the discriminator, one of the generator, and one more if needed."""
        drawn = self.draw(batch, 1)
        judged = self._teach_discriminator(drawn)
        told = self._teach_generator(drawn, batch["level"])
        drawn = self.draw(batch, 1)
        with torch.no_grad():
            extra = self.balance.extra(float(self._judge(drawn)))  # noqa: S610
        if extra == "generator":
            self._teach_generator(drawn, batch["level"])
        elif extra == "discriminator":
            self._teach_discriminator(drawn)
        log_epoch(self, prog_bar=True, train_discriminator=judged, **told)

    def configure_optimizers(self) -> Any:
        """AdamW for either, with the same schedule."""
        s, judge = self.settings, self.discriminator
        kernels = [p for p in judge.parameters() if p.ndim > 1]
        return [super().configure_optimizers(), adamw(judge, kernels, s, s.betas)]

    def _judge(self, drawn: Drawn) -> Tensor:
        """Loss of the discriminator, of one batch of true and downscaled fields."""
        fields = torch.cat([drawn.truth, drawn.fields[0].detach()])
        return discriminator_loss(*self.discriminator(fields).float().chunk(2))

    def _teach_discriminator(self, drawn: Drawn) -> Tensor:
        loss = self._judge(drawn)
        self._step(1, loss)
        return loss.detach()

    def _teach_generator(self, drawn: Drawn, level: Tensor) -> dict[str, Any]:
        fields = drawn.fields[0]
        content = self.content(fields, drawn.truth, level)
        self.discriminator.requires_grad_(False)
        judged = self.discriminator(fields).float()
        self.discriminator.requires_grad_(True)
        loss = mixed_loss(content, judged, self.objective.adversarial_weight)
        loss = loss + self.mismatch(drawn)
        self._step(0, loss)
        parts = {"train_loss": loss, "train_content": content}
        parts["train_adversarial"] = adversarial_loss(judged)
        return {name: value.detach() for name, value in parts.items()}

    def _step(self, which: int, loss: Tensor) -> None:
        optimizer = cast("list[Any]", self.optimizers())[which]
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


class AtmoDistContent(nn.Module):
    """The AtmoDist distance of normalised fields, whose level each sample says.

    Parameters
    ----------
    objective : Objective
        Names the model and the layer.
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
        objective: Objective,
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
        """Compare (B, C, H, W) in the generator's normalised units: a scalar."""
        fields, truth = (normalize(self.convert, x, level) for x in (fields, truth))
        loss: Tensor = self.loss(fields, truth)
        return loss


class _Converter:
    """From one normalisation to another."""

    def __init__(self, ours: ZScore, theirs: Callable[[Tensor], Tensor]) -> None:
        self.ours, self.theirs = ours, theirs

    def __call__(self, x: Tensor) -> Tensor:
        return self.theirs(self.ours.inverse(x))


def _check_reads(card: Card, quantities: tuple[str, ...]) -> None:
    """Refuse a content model of other fields: their channels are not told apart."""
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


def _mean_square(fields: Tensor, truth: Tensor, level: Tensor) -> Tensor:
    return F.mse_loss(fields, truth)
