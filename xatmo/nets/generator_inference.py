"""The downscaling network as a processor likes it: same numbers, bounded memory.

What costs is behind the trunk, where features have many channels on an ever finer grid.
It is done tile by tile, and the last doubling is never carried out: the four pixels
that a point becomes stay channels of it up to the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise, product
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.generator import SLOPE, Block, Generator
from xatmo.nets.inference import CentredConv, FastCopy, can_fuse, verified

__all__ = ["FastGenerator"]

# Side in coarse points of the tiles behind the trunk, on a CPU and on a GPU. Smaller
# ones take less memory, but more of each is margin that is computed twice.
_SIDE = {False: 96, True: 512}


class Part(NamedTuple):
    """A part of a dimension, of which some more is read than is kept."""

    read: slice
    """Coarse points."""
    kept: slice
    """Fine points, among those that were made of what was read."""
    place: slice
    """Fine points, among all."""


class FastGenerator(FastCopy, Generator):
    """A generator for inference only: the same numbers, faster, in bounded memory.

    On a CPU, activations stay in channels-last order, weights are packed once, and the
    leaky ReLU and the sums of the residual blocks are part of the convolutions (see
    :class:`xatmo.nets.inference.FastEncoder` for how, and for where the plain modules
    run instead). The last convolution runs on the grid before the last doubling, with
    the pixels as channels: two channels out, as published, leave most of a processor's
    vector unused.

    Parameters
    ----------
    generator : Generator
        Copied as it is now: training it further does not change the copy.

    Notes
    -----
    Results agree with the plain network within 1e-5 of their maximum, and do not depend
    on the tiles. Calls change nothing and may be made from several threads.

    CPU time relative to the plain module under ``inference_mode``, 181 x 360 points to
    724 x 1440, one thread of a Xeon (AVX-512), torch 2.13: published network 0.53, with
    8 blocks, kernels of 5 and a tail of 64 and 32 features 0.56; channels-last order
    alone gives 0.78 and 0.71. Memory on top of the weights and the input: some 100 MB
    in place of 570, and 80 MB in place of 330.
    """

    def pack(self) -> FusedGenerator | None:
        """Fuse the copy."""
        return _fuse(self)

    def body(self, h: Tensor) -> Tensor:
        """Compute what :meth:`Generator.body` does."""
        h = h.contiguous(memory_format=torch.channels_last)
        if self.fused is not None and can_fuse(h):
            return self.fused.body(h)
        return super().body(h)

    def refine(self, h: Tensor) -> Tensor:
        """Compute what :meth:`Generator.refine` does, tile by tile."""
        refine = super().refine
        if self.fused is not None and can_fuse(h):
            refine = self.fused.refine
        b, _, rows, columns = h.shape
        fine = h.new_empty(b, self.channels, self.factor * rows, self.factor * columns)
        side = _SIDE[h.is_cuda]
        fields = max(1, side**2 // max(1, rows * columns))
        parts = self._parts(rows, side), self._parts(columns, side)
        for start, y, x in product(range(0, b, fields), *parts):
            few = slice(start, start + fields)
            tile = h[few, :, y.read, x.read]
            found = refine(tile.contiguous(memory_format=torch.channels_last))
            fine[few, :, y.place, x.place] = found[..., y.kept, x.kept]
        return fine

    def _parts(self, size: int, side: int) -> Iterator[Part]:
        """Cut a dimension into parts of about the same size, ``side`` at the most."""
        n, f = max(1, -(-size // side)), self.factor
        for start, stop in pairwise(size * i // n for i in range(n + 1)):
            low = max(start - self.tail_reach, 0)
            high = min(stop + self.tail_reach, size)
            kept = slice(f * (start - low), f * (stop - low))
            yield Part(slice(low, high), kept, slice(f * start, f * stop))


def _fuse(generator: Generator) -> FusedGenerator | None:
    """Fuse a generator, or return None where this torch or this machine cannot."""

    def run(fused: FusedGenerator, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return fused.refine(fused.body(x))

    return verified(
        lambda: FusedGenerator(generator),
        run,
        lambda x: Generator.refine(generator, Generator.body(generator, x)),
        generator.first.weight,
        size=(12, 17),
    )


class FusedGenerator:
    """The generator as a chain of fused convolutions; only for float32 on a CPU."""

    def __init__(self, generator: Generator) -> None:
        self.first = LeakyConv(generator.first)
        self.blocks = [
            (LeakyConv(block.conv1), LeakyConv(block.conv2))
            for block in cast("Iterable[Block]", generator.blocks)
        ]
        self.middle = LeakyConv(generator.middle)
        convs = cast("Iterable[nn.Conv2d]", generator.doublings)
        self.doublings = [LeakyConv(conv) for conv in convs]
        self.last = LeakyConv(before_doubling(generator.last))

    def body(self, h: Tensor) -> Tensor:
        """Compute what :meth:`Generator.body` does."""
        first = self.first.leaky(h)
        h = first.clone()
        for conv1, conv2 in self.blocks:
            h = conv2.onto(h, conv1.leaky(h))
        return self.middle.onto(first, h)

    def refine(self, h: Tensor) -> Tensor:
        """Compute what :meth:`Generator.refine` does."""
        for conv in self.doublings[:-1]:
            h = F.pixel_shuffle(conv.leaky(h), 2)
        h = self.doublings[-1].leaky(h)  # (B, 4 W, h, w): pixels as channels
        return F.pixel_shuffle(self.last(h), 2)


class LeakyConv(CentredConv):
    """A convolution that can apply the leaky ReLU."""

    def leaky(self, x: Tensor) -> Tensor:
        """Return ``leaky_relu(conv(x))``."""
        return self(x, "leaky_relu", [SLOPE])


def before_doubling(conv: nn.Conv2d) -> nn.Conv2d:
    """Return the convolution that does with pixels as channels what ``conv`` does.

    ``conv(pixel_shuffle(h, 2))`` equals ``pixel_shuffle(before_doubling(conv)(h), 2)``.
    """
    half = conv.kernel_size[0] // 2
    reach = -(-half // 2)
    spare = 2 * reach - half
    # For each of the four pixels that come out: the kernel, moved to where it lies
    # among the points around, which are then taken apart into their pixels.
    kernels = [
        F.pad(conv.weight, (spare + x, spare + 1 - x, spare + y, spare + 1 - y))
        for y, x in product((0, 1), repeat=2)
    ]
    packed = torch.stack([F.pixel_unshuffle(kernel, 2) for kernel in kernels], 1)
    c_out, c_in, size = 4 * conv.out_channels, 4 * conv.in_channels, 2 * reach + 1
    before = nn.utils.skip_init(nn.Conv2d, c_in, c_out, size, padding=reach)
    with torch.no_grad():
        before.weight.copy_(packed.flatten(0, 1))
        assert conv.bias is not None and before.bias is not None  # noqa: S101, PT018
        before.bias.copy_(conv.bias.repeat_interleave(4))
    return before
