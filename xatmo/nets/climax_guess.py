"""What a variable will be like if nothing is known but its present and the usual."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xatmo.errors import OptionError

__all__ = ["Usual", "check_guess", "error_growth"]

_HOURS = 48.0  # of memory, before any has been learnt


class Usual(nn.Module):
    """Anomalies that fade: damped persistence of one variable.

    Parameters
    ----------
    grid : sequence of int
        Rows and columns of cells.

    Attributes
    ----------
    field : Tensor, shape (H, W)
        The usual state, normalised: 0 until the mean of training data is put there.
    memory : Parameter
        Logarithm of the hours in which an anomaly fades to 37 %.
    """

    field: Tensor

    def __init__(self, grid: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("field", torch.zeros(int(grid[0]), int(grid[1])))
        self.memory = nn.Parameter(torch.tensor(_HOURS).log())

    def forward(self, now: Tensor | None, hours: Tensor, field: Tensor) -> Tensor:
        """Guess: (B, H, W) and hours (B, 1, 1) -> (B, H, W); the usual if not given."""
        if now is None:
            return field.expand(len(hours), *field.shape)
        return field + (now - field) * torch.exp(-hours / self.memory.exp())


def error_growth(hours: Tensor, growth: float) -> Tensor:
    """How far states are from those some hours before, relative to the limit: 0 to 1.

    Their squares come near to it like ``1 - exp(-hours / growth)``. Of no hours it is
    1: a network that is asked for the same time is to find finer fields.
    """
    size = (1 - torch.exp(-hours / growth)).clamp(min=0).sqrt()
    return torch.where(hours > 0, size, torch.ones_like(size))


def check_guess(growth: float | None, damped: bool) -> None:
    """Refuse arguments of a network that cannot be."""
    if growth is not None and growth <= 0:
        msg = "Errors of persistence cannot grow in no time."
        needed, hint = "hours above 0, or None", "growth=24.0"
        raise OptionError(msg, found=f"growth={growth}", needed=needed, hint=hint)
    if damped and growth is None:
        msg = "A network that predicts states has no guess that could be damped."
        needed, hint = "growth in hours", "growth=24.0, damped=True"
        found = "damped=True without growth"
        raise OptionError(msg, found=found, needed=needed, hint=hint)
