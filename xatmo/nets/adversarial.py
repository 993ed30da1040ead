"""What two networks that train against each other minimise, and when one must wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "ADVERSARIAL_WEIGHT",
    "Balance",
    "ContentLoss",
    "Judgement",
    "adversarial_loss",
    "discriminator_loss",
    "judgement",
    "mixed_loss",
]

ADVERSARIAL_WEIGHT = 0.001  # published


class ContentLoss(Protocol):
    """How far a generated field is from the true one.

    ``torch.nn.MSELoss()`` is one and :class:`xatmo.losses.AtmoDistLoss` another, whose
    ``pixel_weight`` mixes both.
    """

    def __call__(self, prediction: Tensor, target: Tensor, /) -> Tensor:
        """Compare (B, C, H, W) with (B, C, H, W): a scalar, or one number for each."""
        ...


def adversarial_loss(fake: Tensor) -> Tensor:
    """Cross-entropy of the logits of generated fields with "true": a scalar.

    What the generator minimises in order to be taken for true.
    """
    return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


def discriminator_loss(true: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of the logits of true and of generated fields with what they are.

    The mean over all of them: a scalar, ln 2 where the discriminator cannot tell.
    """
    labels = torch.cat([torch.ones_like(true), torch.zeros_like(fake)])
    return F.binary_cross_entropy_with_logits(torch.cat([true, fake]), labels)


def mixed_loss(
    content: Tensor, fake: Tensor, weight: float = ADVERSARIAL_WEIGHT
) -> Tensor:
    """Content loss plus weighted adversarial loss: what the generator minimises.

    Parameters
    ----------
    content : Tensor
        A :class:`ContentLoss`, of the batch or of each field.
    fake : Tensor, shape (B, 1)
        Logits of the generated fields.
    weight : float
        Of the adversarial loss.
    """
    return content.mean() + weight * adversarial_loss(fake)


class Judgement(NamedTuple):
    """Shares of the true and of the generated fields that were taken for what."""

    true_positive: Tensor
    true_negative: Tensor
    false_positive: Tensor
    false_negative: Tensor


def judgement(true: Tensor, fake: Tensor) -> Judgement:
    """Count what the discriminator's logits take true and generated fields for."""
    shares = (true > 0, fake < 0, fake > 0, true < 0)
    return Judgement(*(share.float().mean() for share in shares))


@dataclass(frozen=True)
class Balance:
    """Which of the two networks gets one more step, so that neither runs away.

    Each batch trains the discriminator, then the generator, and then by the loss that
    the discriminator has now one of them again, or none. The defaults are published.

    Parameters
    ----------
    low : float
        A discriminator with less loss wins too easily: the generator goes on.
    high : float
        A discriminator with more loss is fooled: it goes on itself.

    Examples
    --------
    >>> from xatmo.nets.adversarial import Balance
    >>> [Balance().extra(loss) for loss in (0.3, 0.5, 0.69)]
    ['generator', None, 'discriminator']
    """

    low: float = 0.46
    high: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            msg = f"low and high must be 0 <= low <= high, not {self.low}, {self.high}"
            raise ValueError(msg)

    def extra(self, loss: float) -> Literal["generator", "discriminator"] | None:
        """Say who gets one more step at this loss of the discriminator."""
        if loss < self.low:
            return "generator"
        return "discriminator" if loss > self.high else None
