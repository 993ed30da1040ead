"""Networks that only measure: the parts of a training loss that are never trained.

What is differentiated here are the fields. Weights are buffers in place of parameters:
they follow the module to its device, and no optimizer, checkpoint or gradient ever
sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.atmodist import Encoder
from xatmo.nets.inference import fold
from xatmo.nets.layers import ResidualBlock, SameConv2d, pad_same, same_padding
from xatmo.nets.normalization import SignLog, ZScore

__all__ = ["FrozenEncoder", "FrozenNormalization"]


class FrozenConv(nn.Module):
    """A convolution with SAME padding and its batch normalisation folded in."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: SameConv2d, bn: nn.BatchNorm2d | None = None) -> None:
        super().__init__()
        weight, bias = fold(conv, bn)
        weight = weight.clone(memory_format=torch.channels_last)
        self.register_buffer("weight", weight, persistent=False)
        bias = None if bias is None else bias.clone()
        self.register_buffer("bias", bias, persistent=False)
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]

    def forward(self, x: Tensor, periodic: bool) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, ceil(H / stride), ceil(W / stride))."""
        rows = same_padding(x.shape[-2], self.kernel, self.stride)
        columns = same_padding(x.shape[-1], self.kernel, self.stride)
        padding = (rows[0], columns[0])
        if periodic or rows[0] != rows[1] or columns[0] != columns[1]:
            x = pad_same(x, self.kernel, self.stride, periodic=periodic)
            padding = (0, 0)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding)


class FrozenBlock(nn.Module):
    """A residual block in evaluation mode."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.conv1 = FrozenConv(block.conv1, block.bn1)
        self.conv2 = FrozenConv(block.conv2, block.bn2)
        projection = block.projection
        self.projection = None if projection is None else FrozenConv(projection)

    def forward(self, x: Tensor, periodic: bool) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, ceil(H / stride), ceil(W / stride))."""
        # Written over the convolution's result, which its own gradient does not need.
        y = self.conv1(x, periodic).relu_()
        y = self.conv2(y, periodic)
        shortcut = x if self.projection is None else self.projection(x, periodic)
        return y.add_(shortcut).relu_()


class FrozenEncoder(nn.Module):
    """An encoder up to one of its layers, for gradients of its input alone.

    The numbers of :class:`Encoder` in evaluation mode, whatever mode this module is
    put into, at less cost: batch normalisation is folded into the convolutions,
    activations are in channels-last order, and sums and ReLUs are done in place.

    Parameters
    ----------
    encoder : Encoder
        Copied as it is now.
    layer : str
        The last layer that is computed.
    """

    def __init__(self, encoder: Encoder, layer: str) -> None:
        super().__init__()
        stages = list(encoder.stages)[: encoder.layers.index(layer) + 1]
        blocks = (b for s in stages for b in cast("Iterable[ResidualBlock]", s))
        with torch.inference_mode(False):
            self.stem = FrozenConv(encoder.in_conv, encoder.in_bn)
            self.blocks = nn.ModuleList(map(FrozenBlock, blocks))
        self.pool = encoder.pool

    def forward(self, x: Tensor, periodic: bool = False) -> Tensor:
        """Encode normalised fields: (B, C, H, W) -> (B, F, h, w)."""
        x = x.to(self.stem.weight.dtype, memory_format=torch.channels_last)
        x = self.stem(x, periodic).relu_()  # (B, C0, H/s, W/s)
        if self.pool is not None:
            x = self.pool(x, periodic)
        for block in self.blocks:
            x = block(x, periodic)
        return x


class FrozenNormalization(nn.Module):
    """A normalisation whose constants lie on the device of the fields.

    Parameters
    ----------
    normalization : SignLog or ZScore
        Its constants are kept in float32 or better: in half precision the standard
        deviation of a divergence would be zero.
    """

    def __init__(self, normalization: SignLog | ZScore) -> None:
        super().__init__()
        self.exact = normalization
        self.names = [
            f.name
            for f in fields(normalization)
            if not isinstance(getattr(normalization, f.name), float)
        ]
        self._fill(torch.device("cpu"), torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """Physical (..., C, H, W) to normalised, same shape, in float32 or better."""
        constants: dict[str, Any] = {name: getattr(self, name) for name in self.names}
        dtype = torch.promote_types(x.dtype, torch.float32)
        return replace(self.exact, **constants)(x.to(dtype))

    def _fill(self, device: torch.device, dtype: torch.dtype) -> None:
        for name in self.names:
            values = torch.tensor(getattr(self.exact, name), device=device, dtype=dtype)
            self.register_buffer(name, values, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        moved = getattr(self, self.names[0])
        # Filled anew, since a conversion to fewer digits and back loses them.
        self._fill(moved.device, torch.promote_types(moved.dtype, torch.float32))
        return self
