"""The Lightning module of a network that fills gaps: scored in the gaps alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from xatmo.losses import AtmoDistLoss
from xatmo.training.infill.recipe import InfillRecipe
from xatmo.training.module import NumberedSteps, log_epoch

__all__ = ["GapFiller", "crps_normal"]


class GapFiller(NumberedSteps):
    """Trains a network to give the mean and the spread of what is hidden.

    Parameters
    ----------
    network : Infiller
    recipe : InfillRecipe
        Its objective and optimizer are read.
    """

    def __init__(self, network: nn.Module, recipe: InfillRecipe) -> None:
        # In the order that its activations have, a step takes two thirds of the time.
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(network, recipe.optimizer)
        self.objective = recipe.objective
        self.content: AtmoDistLoss | None = None
        if self.objective.atmodist:
            self.content = AtmoDistLoss(self.objective.atmodist_model)
        self._sums: list[Tensor] = []

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Score and squared error in the gaps, and the distance of filled winds."""
        o = self.objective
        mean, spread = self.network(batch["frames"], batch["about"]).unbind(1)
        hidden, truth = batch["hidden"], batch["truth"]
        # In a gap of the climatology what is hidden may be many anomalies large: all
        # pieces are to count alike.
        size = _each((truth * hidden).square(), hidden).clamp(min=1.0)
        score = _in_gaps(crps_normal(mean, spread, truth), hidden, size.rsqrt())
        error = _in_gaps((mean - truth).square(), hidden, 1 / size)
        loss = o.crps * score + o.mse * error
        log_epoch(self, train_crps=score, train_mse=error)
        if self.content is not None:
            distance = self.distance(batch, mean)
            loss = loss + o.atmodist * distance
            log_epoch(self, train_atmodist=distance)
        log_epoch(self, prog_bar=True, train_loss=loss)
        return loss

    def distance(self, batch: dict[str, Tensor], mean: Tensor) -> Tensor:
        """AtmoDist distance of filled winds to true ones, at one time of the block."""
        assert self.content is not None  # noqa: S101 - asked for in the objective
        low, high = self.objective.atmodist_spacing
        spacing = batch["spacing"]
        fits = batch["winds"] & (spacing >= low) & (spacing <= high)
        if not fits.any():
            return mean.sum() * 0.0
        scale = batch["scale"][:, None, None, None]
        which = int(torch.randint(mean.shape[1], ()))
        filled = torch.where(batch["hidden"] > 0, mean, batch["truth"])
        both = [
            (batch["base"] + scale * x)[fits, which] for x in (filled, batch["truth"])
        ]
        # The two winds of a pair follow each other.
        return self.content(*(x.unflatten(0, (-1, 2)) for x in both))

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Collect errors in the gaps, in units of the anomalies."""
        mean, spread = self.network(batch["frames"], batch["about"]).unbind(1)
        hidden, truth = batch["hidden"], batch["truth"]
        parts = [
            (mean - truth).square(),
            crps_normal(mean, spread, truth),
            spread.square(),
            truth.square(),
        ]
        self._sums.append(torch.stack([_in_gaps(part, hidden) for part in parts]))

    def on_validation_epoch_end(self) -> None:
        """Log errors relative to those of the climatology, and spread to error."""
        sums = self.all_gather(torch.stack(self._sums)).flatten(0, -2).mean(0)
        self._sums.clear()
        error, score, spread, variance = sums.unbind()
        values = {
            "val_rmse": (error / variance).sqrt(),
            "val_crps": score,
            "val_spread_error": (spread / error).sqrt(),
        }
        self.log_dict(values, prog_bar=True)


def crps_normal(mean: Tensor, spread: Tensor, truth: Tensor) -> Tensor:
    """Continuous ranked probability score of normal distributions, value by value."""
    z = (truth - mean) / spread
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    below = torch.special.ndtr(z)
    return spread * (z * (2 * below - 1) + 2 * density - 1 / math.sqrt(math.pi))


def _in_gaps(values: Tensor, hidden: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Mean over the hidden cells of each piece, then over the pieces with gaps."""
    count = (hidden.sum((1, 2, 3)) > 0).sum()
    return (_each(values, hidden) * weight).sum() / count.clamp(min=1)


def _each(values: Tensor, hidden: Tensor) -> Tensor:
    """Mean over the hidden cells of each piece (B,); 0 where nothing is hidden."""
    return (values * hidden).sum((1, 2, 3)) / hidden.sum((1, 2, 3)).clamp(min=1.0)
