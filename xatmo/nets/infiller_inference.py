"""The network that fills gaps as a processor likes it: fewer steps, same numbers.

Activations and sums are part of the convolutions, and what the plain network joins to
one map before it convolves is convolved part by part: nothing is copied together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.inference import (
    CentredConv,
    FastCopy,
    can_fuse,
    pad_channels_last,
    verified,
)
from xatmo.nets.infiller import Block, Conv, Infiller

__all__ = ["FastInfiller"]


class FastInfiller(FastCopy, Infiller):
    """An infiller for inference only: the same numbers, faster.

    On a CPU the convolutions are those of :class:`xatmo.nets.inference.FastEncoder`,
    which see for how, and for where the plain modules run instead. So they do for gated
    and partial convolutions.

    Parameters
    ----------
    infiller : Infiller
        Copied as it is now: training it further does not change the copy.

    Notes
    -----
    Results agree with the plain network within 1e-5 of their maximum. Calls change
    nothing and may be made from several threads.
    """

    def pack(self) -> FusedInfiller | None:
        """Fuse the copy."""
        if self.partial or any(m.gated for m in self.modules() if isinstance(m, Conv)):
            return None
        return _fuse(self)

    def whole_cells(self, x: Tensor) -> Tensor:
        """Compute what :meth:`Infiller.whole_cells` does, in one copy."""
        if not can_fuse(x):
            return super().whole_cells(x)
        down, right = (-n % self.stride for n in x.shape[-2:])
        return pad_channels_last(x, (0, down), (0, right), periodic=False)

    def features(self, x: Tensor, guesses: Tensor, about: Tensor) -> Tensor:
        """Compute what :meth:`Infiller.features` does."""
        if self.fused is not None and can_fuse(x):
            return self.fused(x, guesses, self.about(about))
        return super().features(x, guesses, about)


def _fuse(infiller: Infiller) -> FusedInfiller | None:
    """Fuse an infiller, or return None where this torch or this machine cannot."""
    channels, side = infiller.channels, 2 * infiller.stride

    def parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        about = x[:, : infiller.about.in_features, 0, 0]
        x = x.contiguous(memory_format=torch.channels_last)
        return x[:, :channels], x[:, channels:], about

    def run(fused: FusedInfiller, x: Tensor) -> Tensor:
        x, guesses, about = parts(x)
        return fused(x, guesses, infiller.about(about))

    return verified(
        lambda: FusedInfiller(infiller),
        run,
        lambda x: Infiller.features(infiller, *parts(x)),
        infiller.first.weight,
        size=(side, side + infiller.stride),
    )


class FusedInfiller:
    """The U-Net as a chain of fused convolutions; only for float32 on a CPU."""

    def __init__(self, infiller: Infiller) -> None:
        channels = infiller.channels
        self.first, self.guess = _split(infiller.first, channels)
        self.encoders = _blocks(infiller.encoders)
        self.downs = [
            CentredConv(m.conv) for m in cast("Iterable[Conv]", infiller.downs)
        ]
        self.bottom = _blocks(infiller.bottom)
        ups = cast("Iterable[nn.Conv2d]", infiller.ups)
        self.ups = [CentredConv(conv) for conv in ups]
        merges = cast("Iterable[Conv]", infiller.merges)
        self.merges = [_split(m.conv, m.conv.in_channels // 2) for m in merges]
        self.decoders = _blocks(infiller.decoders)
        self.last = CentredConv(infiller.last)

    def __call__(self, x: Tensor, guesses: Tensor, about: Tensor) -> Tensor:
        """Compute what :meth:`Infiller.features` does, of ``about`` made features."""
        guesses = guesses.contiguous(memory_format=torch.channels_last)
        h = self.guess.onto(self.first(x), guesses).add_(about[:, :, None, None])
        kept = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            h = encoder(h)
            kept.append(h.relu_())
            h = down(h)
        for block in self.bottom:
            h = block(h)
        for level in reversed(range(len(kept))):
            h = F.interpolate(self.ups[level](h), scale_factor=2, mode="bilinear")
            here, before = self.merges[level]
            h = before.onto(here(h.relu_()), kept.pop())
            h = self.decoders[level](h)
        return self.last(h.relu_())


class FusedBlock:
    """Two convolutions beside the identity."""

    def __init__(self, block: Block) -> None:
        self.conv1, self.conv2 = (
            CentredConv(m.conv) for m in (block.conv1, block.conv2)
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Return the block's result, written over ``x``."""
        return self.conv2.onto(x, self.conv1(F.relu(x), "relu"))


def _blocks(blocks: nn.ModuleList) -> list[FusedBlock]:
    return [FusedBlock(block) for block in cast("Iterable[Block]", blocks)]


def _split(conv: nn.Conv2d, channels: int) -> tuple[CentredConv, CentredConv]:
    """Return what a convolution does with its first channels, and with the others.

    The bias is in the first one.
    """
    size, padding = conv.kernel_size[0], conv.padding
    others = conv.in_channels - channels
    kinds = ((channels, True), (others, False))
    one, two = (
        nn.utils.skip_init(
            nn.Conv2d, n, conv.out_channels, size, padding=padding, bias=bias
        )
        for n, bias in kinds
    )
    with torch.no_grad():
        one.weight.copy_(conv.weight[:, :channels])
        two.weight.copy_(conv.weight[:, channels:])
        assert conv.bias is not None and one.bias is not None  # noqa: S101, PT018
        one.bias.copy_(conv.bias)
    return CentredConv(one), CentredConv(two)
