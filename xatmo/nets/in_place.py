"""Steps of transformers that write over what no gradient will ask for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["gelu", "onto"]


def gelu(x: Tensor) -> Tensor:
    """Activate, in place where no gradient will ask for what was there."""
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


def onto(x: Tensor, state: Tensor) -> Tensor:
    """Add what is new and the state before, likewise in place of what is new."""
    if torch.is_grad_enabled() or x.dtype != state.dtype:  # differ under autocast
        return x + state
    return x.add_(state)
