"""The Lightning module of a Multiformer: scored where something was hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from xatmo.nets.multiformer_box import BoxMultiformer
from xatmo.nets.multiformer_loss import (
    crps_loss,
    member_loss,
    statistical_loss,
)
from xatmo.training.module import NumberedSteps, log_epoch
from xatmo.training.multiformer.masking import KINDS
from xatmo.training.multiformer.recipe import MultiformerRecipe
from xatmo.training.multiformer.sampling import present_of

__all__ = ["MaskedBoxes"]


class Points(NamedTuple):
    """Points that were hidden, of all boxes of a batch.

    ``members`` (P, E), ``truth``, ``guess`` and ``unit`` (P,): the size of the errors
    that the guess makes in their box.
    """

    members: Tensor
    truth: Tensor
    guess: Tensor
    unit: Tensor


class MaskedBoxes(NumberedSteps):
    """Trains a Multiformer to predict what is hidden of boxes.

    Parameters
    ----------
    network : BoxMultiformer
    recipe : MultiformerRecipe
    numbers : mapping
        (field, slot) -> number of the channel.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: MultiformerRecipe,
        numbers: Mapping[tuple[str, int], int],
    ) -> None:
        super().__init__(network, recipe.optimizer)
        self.objective = recipe.objective
        self.numbers = dict(numbers)
        self.weights = {field.name: field.weight for field in recipe.fields}
        self._sums: list[Tensor] = []

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Losses of the ensemble at what was hidden."""
        found = self.answers(batch)
        shares = self._shares({name: len(p.truth) for name, p in found.items()})
        # All fields that some process has found points of count alike.
        fields = max(1, sum(share is not None for share in shares.values()))
        losses = [
            (shares[name] or 0.0) * self.weights[name] * self._loss(points) / fields
            for name, points in found.items()
        ]
        if not losses:  # nothing of these boxes was there to be hidden
            return 0.0 * torch.stack([p.sum() for p in self.network.parameters()]).sum()
        loss = torch.stack(losses).sum()
        log_epoch(self, prog_bar=True, train_loss=loss)
        return loss

    def _loss(self, points: Points) -> Tensor:
        """Return a field's loss: a mean over its points."""
        o = self.objective
        # In units of what the guess leaves: hours ahead of the last analysis are to
        # count as much as holes where nothing is known.
        members = (points.members - points.guess[:, None]) / points.unit[:, None]
        truth = (points.truth - points.guess) / points.unit
        parts = [
            weight * loss(members, truth)
            for weight, loss in (
                (o.member, member_loss),
                (o.statistical, statistical_loss),
                (o.crps, crps_loss),
            )
            if weight
        ]
        return torch.stack(parts).sum()

    def _shares(self, counts: Mapping[str, int]) -> dict[str, float | None]:
        """How much more points a process has than the mean of all; None if none has.

        So the gradients' mean is that of all points, as if one process had them.
        """
        names = list(self.weights)
        own = torch.tensor([float(counts.get(n, 0)) for n in names], device=self.device)
        mean = own.clone()
        if dist.is_initialized():
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        return {
            name: float(share) if total > 0 else None
            for name, share, total in zip(names, own / mean, mean, strict=True)
        }

    def answers(self, batch: dict[str, Tensor]) -> dict[str, Points]:
        """Return what is predicted of each field, point by point."""
        network: BoxMultiformer = self.network
        present = present_of(batch["channels"][0].tolist(), self.numbers)
        read = network.read(
            batch["x"],
            batch["when"],
            batch["latitude"],
            batch["longitude"],
            batch["spacing"],
            present,
        )
        truth = network.split(batch["truth"], present)
        wanted = network.split(batch["wanted"], present)
        targets = {
            name: part.flatten(5).any(-1)
            for name, part in wanted.items()
            if name in network.predicted and part.any()
        }
        found = network.answer(read, targets, present)
        guesses = read.guess or dict.fromkeys(found)
        return {
            n: _points(members, targets[n], truth[n], wanted[n], guesses[n])
            for n, members in found.items()
        }

    def scored(self, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return members (P, E) of each field at what was hidden, and the truth."""
        return {name: (p.members, p.truth) for name, p in self.answers(batch).items()}

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Collect errors of the ensemble and of the first guess, by kind of masking."""
        sums = torch.zeros(len(KINDS), 5, device=batch["x"].device)
        kind = int(batch["kind"][0])
        for p in self.answers(batch).values():
            spread, mean = torch.std_mean(p.members, 1)
            parts = [
                (mean - p.truth).square().sum(),
                spread.square().sum(),
                (p.guess - p.truth).square().sum(),
                crps_loss(p.members, p.truth) * len(p.truth),
                torch.tensor(float(len(p.truth)), device=sums.device),
            ]
            sums[kind] += torch.stack(parts)
        self._sums.append(sums)

    def on_validation_epoch_end(self) -> None:
        """Log error and score, error over that of the guess, and spread over error."""
        sums = self.all_gather(torch.stack(self._sums)).flatten(0, -3).sum(0)
        self._sums.clear()
        error, spread, guess, crps, count = sums.unbind(-1)
        values = {
            "val_rmse": (error.sum() / count.sum()).sqrt(),
            "val_crps": crps.sum() / count.sum(),
            "val_spread_error": (spread.sum() / error.sum()).sqrt(),
        }
        for number, kind in enumerate(KINDS):
            if count[number]:
                values[f"val_{kind}"] = (error[number] / guess[number]).sqrt()
        self.log_dict(values, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW, which decays matrices alone."""
        s = self.settings
        parameters = list(self.network.parameters())
        groups = [
            {
                "params": [p for p in parameters if p.ndim >= 2],
                "weight_decay": s.weight_decay,
            },
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=s.learning_rate, betas=s.betas)


def _points(
    members: Tensor,
    target: Tensor,
    truth: Tensor,
    wanted: Tensor,
    guess: Tensor | None,
) -> Points:
    """Single points of tokens: members (n, E, t, y, x), the others (B, V, ...)."""
    here = wanted[target]  # (n, t, y, x)
    guess = torch.zeros_like(truth) if guess is None else guess
    box = target.nonzero()[:, 0]  # which one a token is of
    box = box[:, None, None, None].expand(here.shape)[here]
    true, guessed = truth[target][here], guess[target][here]
    return Points(
        members=members.float().movedim(1, -1)[here],
        truth=true,
        guess=guessed,
        unit=_difficulty((true - guessed).square(), box, len(target))[box],
    )


def _difficulty(squares: Tensor, box: Tensor, count: int) -> Tensor:
    """Root mean square error of the guess in each box (B,), at least a tenth."""
    total = squares.new_zeros(count).index_add(0, box, squares)
    points = torch.bincount(box, minlength=count).clamp(min=1)
    return (total / points).sqrt().clamp(min=0.1)
