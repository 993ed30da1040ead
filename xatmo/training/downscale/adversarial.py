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

from xatmo.nets.adversarial import (
    Balance,
    adversarial_loss,
    discriminator_loss,
    mixed_loss,
)
from xatmo.nets.discriminator import Discriminator
from xatmo.nets.normalization import ZScore
from xatmo.training.content import AtmoDistContent, check_reads
from xatmo.training.downscale.module import Downscaler, Drawn
from xatmo.training.downscale.recipe import DownscaleRecipe
from xatmo.training.module import adamw, log_epoch

__all__ = ["AdversarialDownscaler"]

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
            check_reads(self.content.loss.model.card, recipe.quantities)

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


def _mean_square(fields: Tensor, truth: Tensor, level: Tensor) -> Tensor:
    return F.mse_loss(fields, truth)
