"""The loss that an ensemble is trained with: its members, and what they say together.

After the AtmoRep model: Lessig, Luise, Gong, Langguth, Stadtler, Schultz, "AtmoRep: A
stochastic model of atmosphere dynamics using large scale representation learning"
(2023), https://arxiv.org/abs/2308.13280.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from xatmo.errors import OptionError
from xatmo.nets.multiformer_tail import mean_and_spread

__all__ = ["crps_loss", "ensemble_loss", "member_loss", "statistical_loss"]


def check_ensemble(members: Tensor) -> None:
    """Refuse a single member, which has no spread."""
    if members.shape[1] < 2:
        msg = "The loss needs the spread of an ensemble."
        needed, hint = "two at least", "Multiformer(..., members=16)"
        raise OptionError(msg, found="one member", needed=needed, hint=hint)


def member_loss(members: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of members: (n, E, ...) and (n, ...) -> a number."""
    return (members - target[:, None]).square().mean()


def statistical_loss(members: Tensor, target: Tensor) -> Tensor:
    """How far a target is from what the ensemble as a whole finds likely.

    The squared distance from 1 of a Gaussian of mean and spread of the members, which
    is 1 at its mean, and the root of the spread, so that no spread grows that is not
    needed.

    Parameters
    ----------
    members : Tensor, shape (n, E, ...)
        Two at least.
    target : Tensor, shape (n, ...)

    Returns
    -------
    Tensor
        A number.

    Raises
    ------
    xatmo.errors.OptionError
        If there is one member only, which has no spread.
    """
    check_ensemble(members)
    mean, spread = mean_and_spread(members)
    likely = torch.exp(-0.5 * ((target - mean) / spread).square())
    return (1 - likely).square().mean() + spread.sqrt().mean()


def crps_loss(members: Tensor, target: Tensor) -> Tensor:
    """Continuous ranked probability score of the members as a whole distribution.

    Members are functions that were learnt and not draws: at the minimum they are the
    quantiles in the middle of equal parts of the distribution. The score that is fair
    for draws would let the outermost of them drift away.

    Parameters
    ----------
    members : Tensor, shape (n, E, ...)
        Two at least.
    target : Tensor, shape (n, ...)

    Returns
    -------
    Tensor
        A number.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.multiformer_loss import crps_loss
    >>> crps_loss(torch.tensor([[0.0, 2.0]]), torch.tensor([1.0]))
    tensor(0.5000)
    """
    check_ensemble(members)
    count = members.shape[1]
    distance = (members - target[:, None]).abs().mean()
    # Mean distance of two members by their ranks, in place of all pairs.
    ranks = torch.arange(1, count + 1, device=members.device, dtype=members.dtype)
    weights = (2 * ranks - count - 1) * 2 / count**2
    between = (members.sort(1).values.movedim(1, -1) * weights).sum(-1).mean()
    return distance - between / 2


def ensemble_loss(
    members: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    weights: Mapping[str, float] | None = None,
) -> Tensor:
    """Mean of both losses, over fields.

    Parameters
    ----------
    members : mapping of str to Tensor, shapes (n, E, ...)
        What :class:`xatmo.nets.multiformer.Multiformer` predicts.
    targets : mapping of str to Tensor, shapes (n, ...)
        True values of the same tokens.
    weights : mapping of str to float, optional
        How much each field counts; all the same if not given.

    Returns
    -------
    Tensor
        A number.
    """
    weights = weights or dict.fromkeys(members, 1.0)
    total = torch.zeros(())
    for name, found in members.items():
        loss = member_loss(found, targets[name])
        loss = loss + statistical_loss(found, targets[name])
        total = total.to(loss) + weights[name] * loss
    return total / (2 * sum(weights[name] for name in members))
