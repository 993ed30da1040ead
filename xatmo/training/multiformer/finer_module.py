"""The Lightning module of finer tails: members are scored on the fine grid."""

from __future__ import annotations

import torch
from torch import Tensor

from xatmo.nets.multiformer_finer import smooth_field
from xatmo.nets.multiformer_loss import crps_loss
from xatmo.nets.resample import conserve
from xatmo.training.downscale.losses import ensemble_loss
from xatmo.training.downscale.module import fine_power
from xatmo.training.module import log_epoch
from xatmo.training.multiformer.module import MaskedBoxes
from xatmo.training.multiformer.sampling import present_of

__all__ = ["FinerBoxes"]

_LEAST = 0.1  # of a standard deviation


class FinerBoxes(MaskedBoxes):
    """Trains a Multiformer with finer tails on block means of fine fields.

    Parameters
    ----------
    network : BoxMultiformer
        With ``finer`` above 1.
    recipe : MultiformerRecipe
    numbers : mapping
        (field, slot) -> number of the channel.
    """

    def refined(
        self, batch: dict[str, Tensor], members: Tensor | None = None
    ) -> Tensor:
        """Return members (E, B, C, f Y, f X) of the last time, normalised.

        The last time alone is trained: verbs want no other, and it is the one whose
        tokens say the same whether times before it are there or not.
        """
        present = present_of(batch["channels"][0].tolist(), self.numbers)
        places = (batch[k] for k in ("when", "latitude", "longitude", "spacing"))
        options = {"frames": 1, "present": present, "members": members}
        fine: Tensor = self.network.refine(batch["x"], *places, **options)
        return fine[:, :, :, 0].movedim(1, 0).float()

    def scored(self, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return members (B, E, V, f Y, f X) of each field, and the truth."""
        members, truth = self.refined(batch).movedim(0, 1), batch["truth"]
        present = present_of(batch["channels"][0].tolist(), self.numbers)
        counts = [len(levels) for _, levels in present]
        parts = zip(members.split(counts, 2), truth.split(counts, 1), strict=True)
        return {name: part for (name, _), part in zip(present, parts, strict=True)}

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Score some members, in units of what a smooth field leaves in each box."""
        o, count = self.objective, self.network.members
        # A few give the score of all, on the mean over steps, at a part of the cost:
        # the same in all processes.
        draw = torch.Generator().manual_seed(self.settings.seed + self.global_step)
        chosen = torch.randperm(count, generator=draw)[: o.members].to(self.device)
        truth = batch["truth"]
        unit = self._unit(batch["x"][:, :, -1], truth)
        members = self.refined(batch, chosen) / unit
        # Members are functions that were learnt and not draws: the score of all as a
        # whole distribution, of which pairs are this share.
        score = ensemble_loss(
            members,
            truth / unit,
            fairness=1 - 1 / count,
            weight=o.differences,
            spectrum=o.spectrum,
        )
        loss = o.crps * score
        if o.offsets:
            loss = loss + o.offsets * self._offsets(members, batch["channels"][0])
        log_epoch(self, prog_bar=True, train_loss=loss)
        return loss

    def _unit(self, coarse: Tensor, truth: Tensor) -> Tensor:
        """Root mean square error of a smooth field: (B, C, 1, 1).

        From 4 degrees to 1 it is twice that of from 1 to 0.25: both are to count.
        """
        smooth = smooth_field(coarse, self.network.finer)
        smooth = conserve(smooth, coarse, self.network.finer)
        error = (truth - smooth).square().mean((-2, -1), keepdim=True).sqrt()
        return error.clamp(min=_LEAST)

    def _offsets(self, members: Tensor, channels: Tensor) -> Tensor:
        """Squared mean deviation of each member, at each place in a token.

        Without it members find it easiest to differ by patterns that never change.
        """
        deviations, start, parts = members - members.mean(0), 0, []
        for name, levels in present_of(channels.tolist(), self.numbers):
            size = [
                self.network.finer * n for n in self.network.fields[name].token_size[1:]
            ]
            part = deviations[:, :, start : start + len(levels)]
            cut = part.unflatten(-1, (-1, size[1])).unflatten(-3, (-1, size[0]))
            parts.append(cut.mean((1, 3, 5)).square().mean())  # (E, V, y, x)
            start += len(levels)
        return torch.stack(parts).mean()

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Collect errors in physical units, and power above the coarse Nyquist."""
        scale = batch["std"][:, :, None, None]
        members, truth = self.refined(batch) * scale, batch["truth"] * scale
        spread, mean = torch.std_mean(members, 0)
        some = (members[0], mean, truth)
        sums = [
            (mean - truth).square().mean(),
            (members[0] - truth).square().mean(),
            spread.square().mean(),
            crps_loss(members.movedim(0, 1), truth),
            *(fine_power(x, self.network.finer) for x in some),
        ]
        self._sums.append(torch.stack(sums))

    def on_validation_epoch_end(self) -> None:
        """Log RMSE (mean and member), CRPS, spread over error, shares of the power."""
        sums = self.all_gather(torch.stack(self._sums)).flatten(0, -2).mean(0)
        self._sums.clear()
        mean, member, spread, score, power, power_mean, true = sums.unbind()
        values = {
            "val_rmse": mean.sqrt(),
            "val_rmse_member": member.sqrt(),
            "val_crps": score,
            "val_spread_error": (spread / mean).sqrt(),
            "val_power": power / true,
            "val_power_mean": power_mean / true,
        }
        self.log_dict(values, prog_bar=True)
