"""The Lightning module of a network that fills a hole: its loss looks nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.normalization import ZScore
from xatmo.training.content import AtmoDistContent, check_reads
from xatmo.training.hole.recipe import HoleRecipe
from xatmo.training.module import (
    NumberedSteps,
    clip_each,
    log_epoch,
    normalize,
    sum_of_squares,
)

__all__ = ["HoleFiller", "fill"]


class HoleFiller(NumberedSteps):
    """Trains a network on patches whose middle it does not see.

    Parameters
    ----------
    network : AutoencoderSmall
    normalizers : sequence of ZScore
        One per level; a sample says which is its own.
    recipe : HoleRecipe
        Its objective and optimizer are read.
    levels : sequence of str
        The level of each normaliser.
    """

    def __init__(
        self,
        network: nn.Module,
        normalizers: Sequence[ZScore],
        recipe: HoleRecipe,
        levels: Sequence[str],
    ) -> None:
        super().__init__(network, recipe.optimizer)
        self.normalizers, self.objective = normalizers, recipe.objective
        self.content: AtmoDistContent | None = None
        if recipe.objective.content == "atmodist":
            self.content = AtmoDistContent(recipe.objective, normalizers, levels)
            check_reads(self.content.loss.model.card, recipe.quantities)
        self._sums: list[Tensor] = []

    def both(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What fills the hole, and what was there: normalised, (B, C, h, w)."""
        truth = normalize(self.normalizers, batch["fine"], batch["level"])
        rows, columns = self.objective.window
        filled = fill(self.network, truth, self.objective.window)
        return filled, truth[..., rows, columns]

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Squared error or mostly distance, in the hole; and the penalty on kernels."""
        filled, truth = self.both(batch)
        loss = error = F.mse_loss(filled, truth)
        if self.content is not None:
            share = self.objective.content_weight
            distance = self.content(filled, truth, batch["level"])
            loss = share * distance + (1 - share) * error
            log_epoch(self, train_content=distance)
        squares = sum_of_squares(self.network.kernels())
        loss = loss + self.settings.weight_penalty * squares
        log_epoch(self, prog_bar=True, train_loss=loss, train_mse=error)
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Collect errors in physical units, and variances in the hole."""
        scale = torch.tensor([n.std for n in self.normalizers])[batch["level"]]
        filled, truth = (x * scale[:, :, None, None].to(x) for x in self.both(batch))
        variances = [x.var(dim=(-2, -1)).mean() for x in (filled, truth)]
        self._sums.append(torch.stack([(filled - truth).square().mean(), *variances]))

    def on_validation_epoch_end(self) -> None:
        """Log the RMSE in the hole, and the standard deviation over the true one."""
        sums = self.all_gather(torch.stack(self._sums)).flatten(0, -2).mean(0)
        self._sums.clear()
        error, variance, true = sums.unbind()
        values = {"val_rmse": error.sqrt(), "val_std": (variance / true).sqrt()}
        self.log_dict(values, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam. The schedule is ours: see :class:`NumberedSteps`."""
        rate = self.settings.learning_rate
        return torch.optim.Adam(self.network.parameters(), lr=rate)

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        """Clip each tensor by its own norm, penalty included."""
        clip_each(self.network, self.settings.clip_norm)


def fill(network: nn.Module, fields: Tensor, window: tuple[slice, slice]) -> Tensor:
    """Return what a network makes of a hole in whole normalised fields (B, C, H, W)."""
    rows, columns = window
    seen = fields.clone()
    seen[..., rows, columns] = 0.0
    filled: Tensor = network(seen)[..., rows, columns].float()
    return filled
