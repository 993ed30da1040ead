"""Layers shared by the networks: convolutions padded as TensorFlow pads them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ResidualBlock", "SameConv2d", "SameMaxPool2d", "batch_norm", "same_padding"]

# Keras' defaults, which the published networks were trained with. Keras writes its
# momentum as the share kept (0.99), torch as the share taken.
BN_EPS = 1.001e-5
BN_MOMENTUM = 0.01


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Rows to pad (before, after) so that the output has ``ceil(size / stride)`` rows.

    TensorFlow's SAME rule: the smaller half goes before, the larger after.

    Examples
    --------
    >>> same_padding(160, 8, 2), same_padding(161, 8, 2), same_padding(80, 3, 2)
    ((3, 3), (3, 4), (0, 1))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_same(
    x: Tensor, kernel: int, stride: int, *, periodic: bool, value: float = 0.0
) -> Tensor:
    """Pad rows with ``value``; columns too, or from the other side if ``periodic``."""
    top, bottom = same_padding(x.shape[-2], kernel, stride)
    left, right = same_padding(x.shape[-1], kernel, stride)
    if periodic and (left or right):
        x = F.pad(x, (left, right, 0, 0), mode="circular")
        left = right = 0
    if left or right or top or bottom:
        x = F.pad(x, (left, right, top, bottom), value=value)
    return x


class SameConv2d(nn.Conv2d):
    """A convolution with SAME padding, circular along longitude on request."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, *, bias: bool = False
    ) -> None:
        super().__init__(c_in, c_out, kernel, stride, bias=bias)
        nn.init.kaiming_normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, periodic: bool = False) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows = same_padding(x.shape[-2], kernel, stride)
        columns = same_padding(x.shape[-1], kernel, stride)
        if not periodic and rows[0] == rows[1] and columns[0] == columns[1]:
            # Symmetric: the convolution pads by itself, which saves a copy.
            padding = (rows[0], columns[0])
        else:
            x = pad_same(x, kernel, stride, periodic=periodic)
            padding = (0, 0)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding)


class SameMaxPool2d(nn.Module):
    """Max pooling with SAME padding: what is padded never wins."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor, periodic: bool = False) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))."""
        lowest = float("-inf")
        x = pad_same(x, self.kernel, self.stride, periodic=periodic, value=lowest)
        return F.max_pool2d(x, self.kernel, self.stride)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with Keras' constants."""
    return nn.BatchNorm2d(channels, eps=BN_EPS, momentum=BN_MOMENTUM)


class ResidualBlock(nn.Module):
    """conv - BN - ReLU - conv - BN, added to the shortcut, then ReLU.

    The shortcut is the identity, or a 1x1 convolution without batch normalisation
    where the number of channels or the resolution changes.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = SameConv2d(c_in, c_out, 3, stride)
        self.bn1 = batch_norm(c_out)
        self.conv2 = SameConv2d(c_out, c_out, 3)
        self.bn2 = batch_norm(c_out)
        changes = c_in != c_out or stride != 1
        self.projection = SameConv2d(c_in, c_out, 1, stride) if changes else None

    def forward(self, x: Tensor, periodic: bool = False) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, ceil(H / stride), ceil(W / stride))."""
        y = torch.relu(self.bn1(self.conv1(x, periodic)))
        y = self.bn2(self.conv2(y, periodic))
        shortcut = x if self.projection is None else self.projection(x)
        return torch.relu(y + shortcut)
