"""What downscaled fields are scored by while a network learns."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

__all__ = ["crps", "differences", "ensemble_loss"]


def crps(members: Tensor, truth: Tensor, fairness: float = 1.0) -> Tensor:
    """Continuous ranked probability score, averaged over everything.

    Parameters
    ----------
    members : Tensor, shape (M, ...)
    truth : Tensor, shape (...)
    fairness : float
        1 for the fair score, whose mean does not depend on the number of members; 0
        for the mean absolute error of the members.

    Returns
    -------
    Tensor
        A scalar, in the units of the fields.
    """
    count = len(members)
    score = (members - truth).abs().mean()
    if count == 1:
        return score
    pairs = combinations(range(count), 2)
    apart = torch.stack([(members[i] - members[j]).abs().mean() for i, j in pairs])
    return score - 0.5 * fairness * apart.mean()


def differences(x: Tensor) -> list[Tensor]:
    """Finite differences of (..., H, W).

    Along rows and columns between points one and two apart, and the mixed second one.
    """
    east, south = x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]
    far = x[..., 2:] - x[..., :-2], x[..., 2:, :] - x[..., :-2, :]
    return [east, south, *far, east[..., 1:, :] - east[..., :-1, :]]


def ensemble_loss(
    members: Tensor, truth: Tensor, *, fairness: float, weight: float
) -> Tensor:
    """CRPS of the values, and ``weight`` times that of their differences.

    Differences make neighbours agree: by values alone, each point could be drawn for
    itself.
    """
    loss = crps(members, truth, fairness)
    if weight:
        parts = zip(differences(members), differences(truth), strict=True)
        scores = [crps(m, t, fairness) for m, t in parts]
        loss = loss + weight * torch.stack(scores).sum()
    return loss
