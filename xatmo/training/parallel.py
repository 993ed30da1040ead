"""Several processes train as one with the larger batch: batch statistics are shared.

PyTorch synchronises batch normalisation on GPUs only; this does it on processors too.
"""

from __future__ import annotations

import atexit
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback
from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import Tensor, nn

__all__ = ["LeaveInOrder", "SharedBatchNorm2d", "SharedStatistics"]


class _SumOfAll(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation by the mean and variance of the batches of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if not (self.training and dist.is_initialized()):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            mean, variance, count = _moments(x.float())
        self._remember(mean.detach(), variance.detach(), count)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Update the running statistics as torch does: unbiased variance."""
        assert self.running_mean is not None  # noqa: S101 - for type checkers
        assert self.running_var is not None  # noqa: S101
        assert self.num_batches_tracked is not None  # noqa: S101
        share = float(self.momentum or 0.0)
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), share)


class SharedStatistics(LayerSync):
    """Lightning's hook: makes all batch normalisations of a model shared ones."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace them; weights and statistics stay the same tensors."""
        return _replaced(model, nn.BatchNorm2d, SharedBatchNorm2d)

    def revert(self, model: nn.Module) -> nn.Module:
        """Bring the ordinary ones back."""
        return _replaced(model, SharedBatchNorm2d, nn.BatchNorm2d)


class LeaveInOrder(Callback):
    """Close the connections of a process before Python ends it.

    Left to the end, the threads of gloo now and then are still running when their
    process is taken down, which aborts it: training is over, and fails.
    """

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Ask for it, once the processes are connected."""
        if dist.is_initialized():
            atexit.register(dist.destroy_process_group)


def _moments(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and variance (C,) over all processes, and how many values they are of."""
    count = x.numel() // x.shape[1] * dist.get_world_size()
    mean = _SumOfAll.apply(x.sum((0, 2, 3))) / count
    # Of what is left without the mean: no difference of two large numbers.
    squares = (x - mean[:, None, None]).square().sum((0, 2, 3))
    return mean, _SumOfAll.apply(squares) / count, count


def _replaced(
    model: nn.Module, old: type[nn.Module], new: type[nn.Module]
) -> nn.Module:
    # They differ in nothing but what they do: no tensor has to be handed over.
    for module in model.modules():
        if type(module) is old:
            module.__class__ = new
    return model
