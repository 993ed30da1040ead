"""The Lightning module of projections: squared errors, weighted by latitude."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xatmo.nets.climax_loss import latitude_mse, latitude_weights
from xatmo.training.climax.module import adamw_groups, freeze_blocks, published_rate
from xatmo.training.module import NumberedSteps, log_epoch

__all__ = ["Projector"]


class Projector(NumberedSteps):
    """Trains a network to make the map of a year of the forcings until then.

    Parameters
    ----------
    network : ClimaXSeries
    settings : Optimizer
    latitude : ndarray, shape (H,)
        Degrees, of the rows.
    """

    def __init__(self, network: nn.Module, settings: Any, latitude: np.ndarray) -> None:
        super().__init__(network, settings)
        self.latitude: Tensor
        rows = torch.from_numpy(latitude).float()
        self.register_buffer("latitude", rows, persistent=False)
        if settings.freeze:
            freeze_blocks(network)

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Squared errors in the units of the target."""
        found = self.network(batch["forcings"]).float()
        loss = latitude_mse(found, batch["target"], self.latitude)
        log_epoch(self, prog_bar=True, train_loss=loss)
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Root mean square error of held-out windows, and its mean over them."""
        found = self.network(batch["forcings"]).float()
        weights = latitude_weights(self.latitude)[:, None]
        errors = ((found - batch["target"]).square() * weights).mean((1, 2, 3))
        log_epoch(self, prog_bar=True, val_rmse=errors.sqrt().mean())

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        return published_rate(self.settings, step)

    def configure_optimizers(self) -> Any:
        """AdamW, which decays all but codes, and leaves alone what is frozen."""
        s = self.settings
        groups = adamw_groups(self.network, s.weight_decay)
        return torch.optim.AdamW(groups, lr=s.learning_rate, betas=s.betas)
