"""The Lightning module of a generator that is trained by a score of its fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.normalization import ZScore
from xatmo.nets.resample import block_mean, conserve
from xatmo.training.downscale.losses import crps, ensemble_loss
from xatmo.training.downscale.recipe import DownscaleRecipe
from xatmo.training.module import NumberedSteps, log_epoch, normalize

__all__ = ["Downscaler", "Drawn", "fine_power"]

_MEMBERS = 8  # of an ensemble that is validated


class Drawn(NamedTuple):
    """Downscaled fields, in normalised units and single precision."""

    raw: Tensor
    """(M, B, C, H, W) of M members, as the network gives them."""
    fields: Tensor
    """The same with the block means of the coarse field."""
    truth: Tensor
    """(B, C, H, W)."""
    coarse: Tensor
    """(B, C, h, w)."""


class Downscaler(NumberedSteps):
    """Trains a generator on the block means of fine fields.

    Parameters
    ----------
    network : Generator
    normalizers : sequence of ZScore
        One per level; a sample says which is its own.
    recipe : DownscaleRecipe
        Its factor, objective and optimizer are read.
    """

    def __init__(
        self,
        network: nn.Module,
        normalizers: Sequence[ZScore],
        recipe: DownscaleRecipe,
    ) -> None:
        super().__init__(network, recipe.optimizer)
        self.normalizers, self.factor = normalizers, recipe.factor
        self.objective = recipe.objective
        self._sums: list[Tensor] = []

    def draw(self, batch: dict[str, Tensor], members: int) -> Drawn:
        """Downscale the block means of a batch, with noise of their own for members."""
        truth = normalize(self.normalizers, batch["fine"], batch["level"])
        coarse = block_mean(truth, self.factor)
        x, statics, noise = coarse.repeat(members, 1, 1, 1), None, None
        if self.network.statics:
            statics = batch["statics"].repeat(members, 1, 1, 1)
        if self.network.noise:
            shape = (len(x), self.network.noise, *x.shape[-2:])
            noise = torch.randn(shape, device=x.device)
        raw = self.network(x, noise, statics).float()
        fields = conserve(raw, x, self.factor)
        shape = (members, *truth.shape)
        return Drawn(raw.view(shape), fields.view(shape), truth, coarse)

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor | None:
        """Score of the conserved fields, plus the error of raw block means."""
        o = self.objective
        members = o.members if o.kind == "crps" else 1
        drawn = self.draw(batch, members)
        if o.kind == "crps":
            score = ensemble_loss(
                drawn.fields,
                drawn.truth,
                fairness=o.fairness,
                weight=o.differences,
                spectrum=o.spectrum,
            )
        else:
            score = F.mse_loss(drawn.fields[0], drawn.truth)
        loss = score + self.mismatch(drawn)
        log_epoch(self, prog_bar=True, train_loss=loss)
        return loss

    def mismatch(self, drawn: Drawn) -> Tensor:
        """Weighted squared error of block means before they were corrected."""
        means = block_mean(drawn.raw.flatten(0, 1), self.factor)
        off = means.view(-1, *drawn.coarse.shape) - drawn.coarse
        return self.objective.block_mean * off.square().mean()

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Collect errors in physical units, and power above the coarse Nyquist."""
        count = _MEMBERS if self.network.noise else 1
        drawn = [self.draw(batch, 1) for _ in range(count)]
        fields, truth = torch.cat([d.fields for d in drawn]), drawn[0].truth
        scale = torch.tensor([n.std for n in self.normalizers]).to(truth)
        scale = scale[batch["level"]][:, :, None, None]
        power = [fine_power(x, self.factor) for x in (fields[0], fields.mean(0), truth)]
        fields, truth = fields * scale, truth * scale
        errors = [
            (fields.mean(0) - truth).square().mean(),
            (fields[0] - truth).square().mean(),
            (fields.mean(0) - truth).abs().mean(),
            crps(fields, truth),
        ]
        self._sums.append(torch.stack([*errors, *power]))

    def on_validation_epoch_end(self) -> None:
        """Log RMSE (mean and member), MAE, fair CRPS, and shares of the power."""
        sums = self.all_gather(torch.stack(self._sums)).flatten(0, -2).mean(0)
        self._sums.clear()
        mean, member, mae, score, power, power_mean, true = sums.unbind()
        values = {
            "val_rmse": mean.sqrt(),
            "val_rmse_member": member.sqrt(),
            "val_mae": mae,
            "val_crps": score,
            "val_power": power / true,
            "val_power_mean": power_mean / true,
        }
        self.log_dict(values, prog_bar=True)


def fine_power(x: Tensor, factor: int) -> Tensor:
    """Power along longitude above the Nyquist wavenumber of a coarser grid.

    Parameters
    ----------
    x : Tensor, shape (..., W)
    factor : int
        How much coarser.

    Returns
    -------
    Tensor
        A scalar: of rows without their mean, tapered by a Hann window.
    """
    width = x.shape[-1]
    window = torch.hann_window(width, periodic=False, device=x.device)
    rows = (x - x.mean(-1, keepdim=True)) * window
    spectrum = torch.fft.rfft(rows, dim=-1).abs().square().flatten(0, -2).mean(0)
    return spectrum[torch.fft.rfftfreq(width) > 0.5 / factor].sum()
