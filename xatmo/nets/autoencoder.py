"""The autoencoder that fills a hole: the AtmoDist paper's network for missing data.

An encoder, a mixing of its cells, and a decoder that mirrors it, without skips: all
that a hole is filled with has passed through 5 x 5 cells. After Hoffmann and Lessig,
"AtmoDist: Self-supervised representation learning for atmospheric dynamics",
Environmental Data Science 2 (2023), e6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.atmodist import Encoder
from xatmo.nets.layers import (
    BN_EPS,
    BN_MOMENTUM,
    ResidualBlock,
    SameConv2d,
    batch_norm,
)

__all__ = ["AutoencoderSmall", "Decoder"]


class UpBlock(ResidualBlock):
    """A residual block on twice as many rows and columns.

    The field is interpolated before anything else, so that the shortcut is as well.
    """

    def forward(self, x: Tensor, periodic: bool = False) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, 2 H, 2 W)."""
        # Centres of points half a step inside their edges, as TensorFlow has them.
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return super().forward(x, periodic)


class Decoder(nn.Module):
    """From the cells of an encoder back to fields.

    Parameters
    ----------
    out_channels : int
        Number of fields.
    cells : tuple of int
        Rows and columns of the encoder's last layer, all of which are mixed.
    widths : sequence of int
        Channels of the encoder's stages, in its order.
    depth : int
        Residual blocks of a stage; the last of them doubles the resolution.
    """

    def __init__(
        self,
        out_channels: int = 2,
        cells: tuple[int, int] = (5, 5),
        widths: Sequence[int] = (16, 32, 64, 128),
        depth: int = 6,
    ) -> None:
        super().__init__()
        first, *rest = reversed(widths)
        positions = math.prod(cells)
        self.spatial_dense = nn.Linear(positions, positions)
        # Over all channels: one mean and one variance for each position.
        self.spatial_bn = nn.BatchNorm1d(positions, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.channel_conv = SameConv2d(first, first, 1, bias=True)
        self.channel_bn = batch_norm(first)
        self.first_up = UpBlock(first, rest[0])
        self.stages = nn.ModuleList(
            _stage(c_in, c_out, depth)
            for c_in, c_out in zip([rest[0], *rest], rest, strict=False)
        )
        self.last_up = UpBlock(rest[-1], rest[-1])
        self.out_conv = SameConv2d(rest[-1], out_channels, 8, bias=True)
        nn.init.kaiming_normal_(self.spatial_dense.weight)
        nn.init.zeros_(self.spatial_dense.bias)
        nn.init.xavier_normal_(self.out_conv.weight)

    def forward(self, z: Tensor) -> Tensor:
        """(B, F, h, w) -> (B, C, 32 h, 32 w), with four stages."""
        x = z.flatten(2)  # (B, F, h w), row by row
        x = self.spatial_dense(x).transpose(1, 2)  # (B, h w, F)
        x = torch.relu(self.spatial_bn(x)).transpose(1, 2)
        x = x.reshape(z.shape)  # (B, F, h, w)
        x = torch.relu(self.channel_bn(self.channel_conv(x)))
        x = self.first_up(x)  # (B, F / 2, 2 h, 2 w)
        for stage in self.stages:  # to 4 h, 8 h, 16 h
            assert isinstance(stage, nn.ModuleList)  # noqa: S101 - for type checkers
            for block in stage:
                x = block(x)
        return self.out_conv(self.last_up(x))  # (B, C, 32 h, 32 w)


class AutoencoderSmall(nn.Module):
    """Fields of one size in, the same fields out: what is missing is 0 in the input.

    Parameters
    ----------
    channels : int
        Number of fields.
    patch : sequence of int
        Rows and columns of a field, in whole cells of the encoder: the mixing of cells
        is built for as many as they make.
    widths : sequence of int
        Channels of the stages.
    depth : int
        Residual blocks in each.

    Raises
    ------
    ValueError
        If a patch is not made of whole cells.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.autoencoder import AutoencoderSmall
    >>> network = AutoencoderSmall()
    >>> network(torch.zeros(1, 2, 160, 160)).shape
    torch.Size([1, 2, 160, 160])
    """

    def __init__(
        self,
        channels: int = 2,
        patch: Sequence[int] = (160, 160),
        widths: Sequence[int] = (16, 32, 64, 128),
        depth: int = 6,
    ) -> None:
        super().__init__()
        strides = [1, *[2] * (len(widths) - 1)]
        self.encoder = Encoder(
            channels, widths=widths, depths=[depth] * len(widths), strides=strides
        )
        self.patch = (int(patch[0]), int(patch[1]))
        stride = math.prod(self.encoder.downscalings)
        if any(n <= 0 or n % stride for n in self.patch):
            msg = f"patch must be multiples of {stride}, not {self.patch}"
            raise ValueError(msg)
        cells = (self.patch[0] // stride, self.patch[1] // stride)
        self.decoder = Decoder(channels, cells, widths, depth)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised fields (B, C, H, W), 0 where they are missing -> the same shape.

        Raises
        ------
        ValueError
            If they have another size than the network is built for.
        """
        if tuple(x.shape[-2:]) != self.patch:
            msg = f"this network reads {self.patch} points, not {tuple(x.shape[-2:])}"
            raise ValueError(msg)
        return self.decoder(self.encoder(x))

    def kernels(self) -> list[nn.Parameter]:
        """Weights of convolutions and dense layers: those that are regularised."""
        return [p for p in self.parameters() if p.ndim > 1]


def _stage(c_in: int, c_out: int, depth: int) -> nn.ModuleList:
    """Residual blocks, the last of which doubles the resolution."""
    inputs = [c_in, *[c_out] * (depth - 1)]
    kinds = [*[ResidualBlock] * (depth - 1), UpBlock]
    blocks = zip(kinds, inputs, strict=True)
    return nn.ModuleList(kind(width, c_out) for kind, width in blocks)
