"""The Lightning module of a ClimaX: squared errors, weighted by latitude."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xatmo.nets.climax_loss import latitude_mse
from xatmo.training.climax.recipe import ClimaXRecipe
from xatmo.training.module import NumberedSteps, log_epoch

__all__ = ["LeadForecasts", "adamw_groups", "published_rate"]

# Parameters that are not decayed: codes of variables, places and times, and how long
# anomalies last. Biases and norms are, as in the published code.
_CODES = ("code", "position", "time", "memory")


class LeadForecasts(NumberedSteps):
    """Trains a ClimaX to predict the state some hours later.

    Parameters
    ----------
    network : ClimaX
    recipe : ClimaXRecipe
    """

    def __init__(self, network: nn.Module, recipe: ClimaXRecipe) -> None:
        super().__init__(network, recipe.optimizer)
        self.variables = recipe.variables
        self._sums: dict[int, list[Tensor]] = {}
        if recipe.optimizer.freeze:
            freeze_blocks(network)

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Squared errors in units of what persistence leaves, if it is the guess."""
        found = self.predict(batch)
        size = self.network.spread(batch["lead"]).clamp(min=0.1).reshape(-1, 1, 1, 1)
        loss = latitude_mse(found / size, batch["y"] / size, batch["latitude"][0])
        log_epoch(self, prog_bar=True, train_loss=loss)
        return loss

    def predict(self, batch: dict[str, Tensor]) -> Tensor:
        """States later: (B, V, H, W) in float32."""
        names = [self.variables[n] for n in batch["channels"][0].tolist()]
        found: Tensor = self.network(batch["x"], batch["lead"], names)
        return found.float()

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Collect squared errors, and those of no change, of each lead time."""
        found, true, latitude = self.predict(batch), batch["y"], batch["latitude"][0]
        for lead in batch["lead"].unique().tolist():
            mine = batch["lead"] == lead
            errors = [
                latitude_mse(guess[mine], true[mine], latitude)
                for guess in (found, batch["x"])
            ]
            count = mine.sum().to(found)
            total = torch.stack([*(e * count for e in errors), count])
            self._sums.setdefault(int(lead), []).append(total)

    def on_validation_epoch_end(self) -> None:
        """Log the error, and its ratio to that of persistence at some lead times."""
        sums = {k: torch.stack(v).sum(0) for k, v in sorted(self._sums.items())}
        self._sums.clear()
        every = torch.stack(list(sums.values())).sum(0)
        values = {"val_rmse": (every[0] / every[2]).sqrt()}
        for lead in _shown(list(sums)):
            values[f"val_{lead}h"] = (sums[lead][0] / sums[lead][1]).sqrt()
        log_epoch(self, prog_bar=True, **values)

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        return published_rate(self.settings, step)

    def configure_optimizers(self) -> Any:
        """AdamW, which decays all but codes."""
        s = self.settings
        groups = adamw_groups(self.network, s.weight_decay)
        return torch.optim.AdamW(groups, lr=s.learning_rate, betas=s.betas)


def adamw_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Sort parameters by whether they are decayed, as published: all but codes are.

    Parameters
    ----------
    network : ClimaX or ClimaXSeries
    weight_decay : float

    Returns
    -------
    list of dict
        Parameter groups of an optimizer; without those that are frozen.
    """
    named = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    codes = [p for n, p in named if n.rpartition(".")[2] in _CODES]
    known = {id(p) for p in codes}
    rest = [p for _, p in named if id(p) not in known]
    groups: list[dict[str, Any]] = [{"params": rest, "weight_decay": weight_decay}]
    return [*groups, {"params": codes, "weight_decay": 0.0}]


def freeze_blocks(network: Any) -> None:
    """Keep the blocks of an encoder as they are, but for their norms."""
    for name, parameter in network.blocks.named_parameters():
        if "norm" not in name:
            parameter.requires_grad_(requires_grad=False)


def published_rate(settings: Any, step: int) -> float:
    """Return the learning rate of a step: up a line, then down a cosine.

    As in the published code: it begins and ends at ``end_rate``, is at its height one
    step before the rise is over, and stays there for one more.

    Parameters
    ----------
    settings : Optimizer
    step : int

    Returns
    -------
    float
    """
    s = settings
    if step < s.rise_steps:
        share = step / max(1, s.rise_steps - 1)
        return float(s.end_rate + share * (s.learning_rate - s.end_rate))
    if s.schedule == "constant":
        return float(s.learning_rate)
    last = s.epochs * s.steps_per_epoch
    done = min(1.0, (step - s.rise_steps) / max(1, last - s.rise_steps))
    height = 0.5 * (1 + math.cos(math.pi * done))
    return float(s.end_rate + height * (s.learning_rate - s.end_rate))


def _shown(leads: Sequence[int]) -> list[int]:
    """The shortest lead time, a day and the longest, of those that there are."""
    return sorted({leads[0], leads[-1], *({24} & set(leads))})
