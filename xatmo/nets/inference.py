"""The AtmoDist encoder as a processor likes it: fewer and larger steps, same numbers.

Most of what the plain module does beside convolving is moving data: activations are
reordered for every convolution, and batch normalisation, ReLU and the shortcut's sum
each read and write them once more. Here all of that happens inside the convolutions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.atmodist import AtmoDist, Encoder
from xatmo.nets.layers import ResidualBlock, SameMaxPool2d, same_padding

__all__ = ["FastEncoder", "fast_encoder", "for_inference"]

# Largest difference from the plain module, relative to the largest feature, with which
# the fused one is trusted. Rounding gives a few 1e-6; a mistake gives far more.
TRUST = 1e-4

Fused = TypeVar("Fused")


def for_inference(network: AtmoDist) -> AtmoDist:
    """Return a copy of a network that computes the same, faster, and cannot be trained.

    See :class:`FastEncoder` for what is fast; the comparison head is as it was.
    """
    with torch.inference_mode(False):
        fast = copy.deepcopy(network).eval().requires_grad_(False)
    fast.encoder = fast_encoder(network)
    return fast


def fast_encoder(network: AtmoDist) -> FastEncoder:
    """Return the encoder of a network, made fast: see :class:`FastEncoder`."""
    return FastEncoder(network.encoder)


class FastCopy(nn.Module):
    """A copy of a network for inference only, and its fused form where there is one.

    Comes before the network's own class among the bases of one that is fast.

    Parameters
    ----------
    network : Module
    """

    fused: Any

    def __init__(self, network: nn.Module) -> None:
        nn.Module.__init__(self)
        # Built in inference mode, the copy could never again be used outside of it.
        with torch.inference_mode(False):
            self.__dict__.update(copy.deepcopy(network).__dict__)
            self.eval().requires_grad_(False)
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.fused = self.pack()

    def pack(self) -> Any:
        """Return the fused form, or None where this torch or machine cannot have it."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        # Packed weights can neither be copied nor pickled: they are packed again.
        return {**self.__dict__, "fused": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        with torch.inference_mode(False):
            self.fused = self.pack()


class FastEncoder(FastCopy, Encoder):
    """An encoder for inference only: the same numbers with less data moved about.

    On a CPU, batch normalisation is folded into the convolutions, activations stay in
    channels-last order, weights are packed once, and ReLU and the sum with the shortcut
    are part of the convolution (the oneDNN operators that ``torch.compile`` uses, here
    without a compiler). Where that cannot be done the plain modules run instead, in
    channels-last order: without oneDNN, for other types than float32, under autocast,
    for gradients with respect to the input, and on a GPU.

    Parameters
    ----------
    encoder : Encoder
        Copied as it is now: training it further does not change the copy.

    Notes
    -----
    Features agree with the plain encoder in eval mode within 1e-5 of their maximum.
    They come in channels-last order, so that ``permute(0, 2, 3, 1)`` is contiguous.
    Calls change nothing and may be made from several threads.

    CPU time relative to the plain module under ``inference_mode``, published network,
    16 patches of 160 x 160, one thread of a Xeon (AVX-512), torch 2.13: channels-last
    order alone 0.75-0.80, with folded batch normalisation too 0.68-0.72, frozen
    TorchScript 0.70-0.83, this class 0.53-0.57, ``torch.compile`` with frozen weights
    0.56. One patch alone takes 0.65, since every call has a fixed cost. With 16 it does
    four fifths as many multiplications per second as that machine's matrix product, so
    little is left to gain. ``benchmarks/encoder.py`` measures it again.
    """

    def pack(self) -> FusedEncoder | None:
        """Fuse the copy."""
        return _fuse(self)

    def forward(
        self, x: Tensor, layer: str | None = None, periodic: bool = False
    ) -> Tensor:
        """Encode as :meth:`Encoder.forward` does: (B, C, H, W) -> (B, F, h, w)."""
        if self.fused is not None and can_fuse(x):
            last = len(self.stages) if layer is None else self.layers.index(layer) + 1
            return self.fused(x, last, periodic)
        if x.is_cuda:
            x = x.contiguous(memory_format=torch.channels_last)
        return super().forward(x, layer, periodic)


def _fuse(encoder: Encoder) -> FusedEncoder | None:
    """Fuse an encoder, or return None where this torch or this machine cannot."""
    depth = len(encoder.stages)
    return verified(
        lambda: FusedEncoder(encoder),
        lambda fused, x: fused(x, depth, periodic=False),
        lambda x: Encoder.forward(encoder, x),
        encoder.in_conv.weight,
        size=(40, 56),
    )


def verified(
    build: Callable[[], Fused],
    run: Callable[[Fused, Tensor], Tensor],
    plain: Callable[[Tensor], Tensor],
    weight: Tensor,
    size: tuple[int, int],
) -> Fused | None:
    """Build a fused network if it does here what the plain one does, else None.

    The operators are not documented: whether they are there and do what they did is
    found out on a small input, so that another torch may be slower but not wrong.

    Parameters
    ----------
    build, run : callable
        Makes the fused network; gives its result for (1, C, *size).
    plain : callable
        Gives what it has to be.
    weight : Tensor
        Of the first convolution.
    size : tuple of int
    """
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return None
    shape = (1, weight.shape[1], *size)
    x = torch.linspace(-3, 3, math.prod(shape), dtype=torch.float64).sin()
    x = x.float().reshape(shape)
    with torch.autocast("cpu", enabled=False):
        try:
            fused = build()
            found = run(fused, x)
        except (AttributeError, RuntimeError):
            return None
        expected = plain(x)
    agrees = (found - expected).abs().max() <= TRUST * expected.abs().max()
    return fused if agrees else None


def can_fuse(x: Tensor) -> bool:
    """Whether the fused operators can take this tensor, as torch is set now."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.ndim == 4
        and x.numel() > 0
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
        and not (x.requires_grad and torch.is_grad_enabled())
    )


class FusedEncoder:
    """The encoder as a chain of fused convolutions; only for float32 on a CPU."""

    def __init__(self, encoder: Encoder) -> None:
        self.stem = FusedConv(encoder.in_conv, encoder.in_bn)
        self.pool = encoder.pool
        self.stages = [
            [FusedBlock(block) for block in cast("Iterable[ResidualBlock]", stage)]
            for stage in encoder.stages
        ]

    def __call__(self, x: Tensor, last: int, periodic: bool) -> Tensor:
        """Run up to and including stage number ``last``."""
        x = self.stem(x, periodic, "relu")  # (B, C0, H/s, W/s)
        if self.pool is not None:
            x = max_pool(self.pool, x, periodic)
        for stage in self.stages[:last]:
            for block in stage:
                x = block(x, periodic)
        return x


class FusedBlock:
    """A residual block in two convolutions, or three with a projection."""

    def __init__(self, block: ResidualBlock) -> None:
        self.conv1 = FusedConv(block.conv1, block.bn1)
        self.conv2 = FusedConv(block.conv2, block.bn2)
        projection = block.projection
        self.projection = None if projection is None else FusedConv(projection)

    def __call__(self, x: Tensor, periodic: bool) -> Tensor:
        """Return the block's result; ``x`` is used up."""
        y = self.conv1(x, periodic, "relu")
        shortcut = x if self.projection is None else self.projection(x, periodic)
        return self.conv2.add_to(shortcut, y, periodic)


class PackedConv:
    """A convolution with its batch normalisation folded in and its weights packed."""

    def __init__(self, conv: nn.Conv2d, bn: nn.BatchNorm2d | None = None) -> None:
        self.kernel, self.stride = conv.kernel_size[0], list(conv.stride)
        weight, self.bias = fold(conv, bn)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, [self.kernel // 2] * 2, self.stride, [1, 1], 1
        )


class FusedConv(PackedConv):
    """One that pads as TensorFlow does: what is odd comes last."""

    def __call__(self, x: Tensor, periodic: bool, activation: str = "none") -> Tensor:
        """Convolve, then apply ``"relu"`` or ``"none"``."""
        x, padding = pad_unevenly(x, self.kernel, self.stride[0], periodic)
        return torch.ops.mkldnn._convolution_pointwise(
            *(x, self.weight, self.bias, padding, self.stride, [1, 1], 1),
            *(activation, [], ""),
        )

    def add_to(self, shortcut: Tensor, x: Tensor, periodic: bool) -> Tensor:
        """Return ``relu(shortcut + conv(x))``, written over the shortcut."""
        x, padding = pad_unevenly(x, self.kernel, self.stride[0], periodic)
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            *(shortcut, x, self.weight, self.bias, padding, self.stride, [1, 1], 1),
            *("add", 1.0, "relu", [], None),
        )


class CentredConv(PackedConv):
    """One that pads as torch does: as much before as after."""

    def __call__(
        self, x: Tensor, activation: str = "none", scalars: Sequence[float] = ()
    ) -> Tensor:
        """Convolve, then apply ``"none"``, ``"relu"`` or ``"leaky_relu"``."""
        return torch.ops.mkldnn._convolution_pointwise(
            *(x, self.weight, self.bias, [self.kernel // 2] * 2, self.stride),
            *([1, 1], 1, activation, list(scalars), ""),
        )

    def onto(self, other: Tensor, x: Tensor) -> Tensor:
        """Return ``other + conv(x)``, written over the other."""
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            *(other, x, self.weight, self.bias, [self.kernel // 2] * 2, self.stride),
            *([1, 1], 1, "add", 1.0, None, [], None),
        )


def fold(conv: nn.Conv2d, bn: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the one convolution that equals ``bn(conv(x))``."""
    if bn is None:
        return conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
    mean, variance = bn.running_mean, bn.running_var
    assert mean is not None and variance is not None  # noqa: S101, PT018 - for mypy
    scale = bn.weight.detach() * torch.rsqrt(variance + bn.eps)
    shift = -mean if conv.bias is None else conv.bias.detach() - mean
    weight = conv.weight.detach() * scale[:, None, None, None]
    return weight, shift * scale + bn.bias.detach()


def pad_unevenly(
    x: Tensor, kernel: int, stride: int, periodic: bool
) -> tuple[Tensor, list[int]]:
    """Pad what a convolution cannot pad itself; return also what is left to it.

    A convolution pads zeros, as many before as after.
    """
    top, bottom = same_padding(x.shape[-2], kernel, stride)
    left, right = same_padding(x.shape[-1], kernel, stride)
    padding = [0, 0]
    if top == bottom:
        padding[0], top, bottom = top, 0, 0
    if left == right and not periodic:
        padding[1], left, right = left, 0, 0
    if top or bottom or left or right:
        x = pad_channels_last(x, (top, bottom), (left, right), periodic)
    return x, padding


def pad_channels_last(
    x: Tensor, rows: tuple[int, int], columns: tuple[int, int], periodic: bool
) -> Tensor:
    """Pad rows with zeros and columns with zeros or, if periodic, circularly.

    One copy, which torch's own padding does not keep to: it fills the whole tensor
    first, and its circular mode leaves the channels-last order.
    """
    (top, bottom), (left, right) = rows, columns
    n, c, h, w = x.shape
    if periodic and max(columns) > w:
        # Not possible: raises what the plain encoder raises.
        return F.pad(x, (left, right, 0, 0), mode="circular")
    shape = (n, c, h + top + bottom, w + left + right)
    out = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    inner = out[:, :, top : top + h]
    inner[..., left : left + w] = x
    inner[..., :left] = x[..., w - left :] if periodic else 0.0
    inner[..., left + w :] = x[..., :right] if periodic else 0.0
    out[:, :, :top] = 0.0
    out[:, :, top + h :] = 0.0
    return out


def max_pool(pool: SameMaxPool2d, x: Tensor, periodic: bool) -> Tensor:
    """Pool without a padded copy, unless columns have to be wrapped around.

    TensorFlow's uneven padding is what ``ceil_mode`` does: with a stride above 1, the
    last window may hang over by one.
    """
    top, _ = same_padding(x.shape[-2], pool.kernel, pool.stride)
    left, right = same_padding(x.shape[-1], pool.kernel, pool.stride)
    if periodic:
        x, left = pad_channels_last(x, (0, 0), (left, right), periodic), 0
    return F.max_pool2d(x, pool.kernel, pool.stride, (top, left), ceil_mode=True)
