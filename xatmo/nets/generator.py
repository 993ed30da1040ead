"""The downscaling network: from a coarse field to one several times finer.

The generator of the AtmoDist paper (after PhIRE and SRGAN): residual blocks on the
coarse grid, then sub-pixel convolutions that double the resolution. Its reach is
finite, so that any domain can be computed in pieces. Beyond the published network it
may read noise (then each draw gives another realization) and static fields on the fine
grid (where there is land), and add what it finds to an interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.resample import conserve, interpolate

__all__ = ["Generator"]

SLOPE = 0.2  # of the leaky ReLU on the negative side


class Block(nn.Module):
    """Two convolutions beside the identity, without normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, W, h, w) -> the same."""
        return x + self.conv2(F.leaky_relu(self.conv1(x), SLOPE))


class Generator(nn.Module):
    """From (B, channels, h, w) to (B, channels, factor h, factor w).

    The defaults are the published network: 1,534,850 parameters.

    Parameters
    ----------
    channels : int
        Fields in and out.
    width : int
        Features on the coarse grid.
    blocks : int
        Residual blocks.
    factor : int
        How many times finer: a power of two.
    kernel : int
        Side of the first and the last convolution; odd.
    tail : sequence of int, optional
        Features behind each doubling; ``width`` each if not given.
    noise : int
        Channels of noise on the coarse grid that each realization draws; 0 makes the
        network deterministic, as the published one is.
    statics : int
        Static fields on the fine grid that are read, such as the share of land.
    base : str, optional
        ``"bicubic"``: what the network gives is added to that interpolation, whose
        block means are the input's.

    Attributes
    ----------
    reach : int
        Coarse points around a place that its result depends on.
    tail_reach : int
        The same for :meth:`refine` alone.

    Raises
    ------
    ValueError
        If an option has a value it cannot have; in a call, if a tensor is missing or
        does not have its shape.

    Notes
    -----
    Any domain will do, down to a single point. What lies beyond its edges is zero to
    every convolution: a result within ``reach`` of an edge depends on where the edge
    is, and no other does. A globe is closed by handing over ``reach`` columns of the
    other side on either side.

    References
    ----------
    Hoffmann, S. and Lessig, C. (2023): AtmoDist: Self-supervised representation
    learning for atmospheric dynamics. Environmental Data Science 2, e6.

    Stengel, K. et al. (2020): Adversarial super-resolution of climatological wind and
    solar data. PNAS 117, 16805-16815.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.generator import Generator
    >>> network = Generator(width=8, blocks=2, kernel=5, noise=4, base="bicubic")
    >>> network.reach
    9
    >>> network(torch.randn(1, 2, 13, 17), torch.randn(1, 4, 13, 17)).shape
    torch.Size([1, 2, 52, 68])
    """

    def __init__(
        self,
        channels: int = 2,
        width: int = 64,
        blocks: int = 16,
        factor: int = 4,
        kernel: int = 9,
        tail: Sequence[int] | None = None,
        noise: int = 0,
        statics: int = 0,
        base: str | None = None,
    ) -> None:
        super().__init__()
        least = {"channels": 1, "width": 1, "blocks": 0, "factor": 2, "kernel": 1}
        given = {"channels": channels, "width": width, "blocks": blocks}
        given |= {"factor": factor, "kernel": kernel, "noise": noise}
        for name, value in (given | {"statics": statics}).items():
            _check_whole(name, value, least.get(name, 0))
        _check_options(factor, kernel, base)
        tail = _widths(tail, width, factor.bit_length() - 1, factor)
        self.channels, self.factor, self.base = channels, factor, base
        self.noise, self.statics = noise, statics
        self.tail_reach = _tail_reach(kernel, len(tail))
        # At least two, which is as far as the interpolation looks.
        self.reach = kernel // 2 + 2 * blocks + 1 + self.tail_reach
        read = channels + noise + statics * factor**2
        self.first = nn.Conv2d(read, width, kernel, padding=kernel // 2)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.doublings = nn.ModuleList(
            nn.Conv2d(a, 4 * b, 3, padding=1)
            for a, b in zip((width, *tail[:-1]), tail, strict=True)
        )
        self.last = nn.Conv2d(tail[-1], channels, kernel, padding=kernel // 2)
        self.apply(_initialise)
        for conv in self.doublings:
            _without_checkerboard(conv)

    def forward(
        self, x: Tensor, noise: Tensor | None = None, statics: Tensor | None = None
    ) -> Tensor:
        """Downscale normalised fields.

        Parameters
        ----------
        x : Tensor, shape (B, channels, h, w)
        noise : Tensor, shape (B, noise, h, w)
            Standard normal; needed if the network reads noise.
        statics : Tensor, shape (B or 1, statics, factor h, factor w)
            Needed if the network reads static fields.

        Returns
        -------
        Tensor, shape (B, channels, factor h, factor w)
        """
        fine = self.refine(self.trunk(x, noise, statics))
        if self.base is None:
            return fine
        below = interpolate(x, self.factor, self.base)
        return fine + conserve(below, x, self.factor)

    def trunk(
        self, x: Tensor, noise: Tensor | None = None, statics: Tensor | None = None
    ) -> Tensor:
        """All that happens on the coarse grid: -> (B, width, h, w)."""
        b, _, h, w = x.shape
        read = [_checked("x", x, (b,), (self.channels, h, w))]
        if self.noise:
            read.append(_checked("noise", noise, (b,), (self.noise, h, w)))
        if self.statics:
            fine = self.statics, self.factor * h, self.factor * w
            packed = F.pixel_unshuffle(
                _checked("statics", statics, (b, 1), fine), self.factor
            )
            read.append(packed.expand(b, -1, -1, -1))
        return self.body(torch.cat(read, 1) if len(read) > 1 else x)

    def body(self, h: Tensor) -> Tensor:
        """From all that is read to features: (B, read, h, w) -> (B, width, h, w)."""
        first = F.leaky_relu(self.first(h), SLOPE)
        h = first
        for block in self.blocks:
            h = block(h)
        return self.middle(h) + first

    def refine(self, h: Tensor) -> Tensor:
        """From features on the coarse grid to fine fields: (B, width, h, w) -> fine."""
        for conv in self.doublings:
            h = F.leaky_relu(F.pixel_shuffle(conv(h), 2), SLOPE)
        return self.last(h)

    def for_inference(self) -> Generator:
        """Return a copy that computes the same, faster and in bounded memory.

        See :class:`xatmo.nets.generator_inference.FastGenerator`.
        """
        from xatmo.nets.generator_inference import FastGenerator

        return FastGenerator(self)

    def kernels(self) -> list[nn.Parameter]:
        """Weights of the convolutions, without biases: what a decay applies to."""
        return [p for p in self.parameters() if p.ndim > 1]


def _tail_reach(kernel: int, doublings: int) -> int:
    """Coarse points around a place that the convolutions behind the trunk look at."""
    # From the first fine point of a coarse one backwards, through layer by layer.
    lowest = -(kernel // 2)
    for _ in range(doublings):
        lowest = lowest // 2 - 1
    return -lowest


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return
    msg = f"{name} must be a whole number of at least {least}, not {value!r}"
    raise ValueError(msg)


def _check_options(factor: int, kernel: int, base: str | None) -> None:
    if factor & (factor - 1):
        msg = f"factor must be a power of two, not {factor}"
        raise ValueError(msg)
    if kernel % 2 == 0:
        msg = f"kernel must be odd, so that it has a middle, not {kernel}"
        raise ValueError(msg)
    if base not in (None, "bicubic"):
        msg = f"base must be 'bicubic' or absent, not {base!r}"
        raise ValueError(msg)


def _widths(
    tail: Sequence[int] | None, width: int, doublings: int, factor: int
) -> tuple[int, ...]:
    if tail is None:
        return (width,) * doublings
    if len(tail) != doublings:
        msg = f"tail must have {doublings} widths for factor {factor}, not {len(tail)}"
        raise ValueError(msg)
    for value in tail:
        _check_whole("tail", value, 1)
    return tuple(tail)


def _checked(
    name: str, x: Tensor | None, batch: tuple[int, ...], rest: tuple[int, ...]
) -> Tensor:
    """Return a tensor that is there and has its shape."""
    if x is not None and x.shape[0] in batch and x.shape[1:] == rest:
        return x
    found = "nothing was given" if x is None else f"{tuple(x.shape)} was given"
    msg = f"this network reads {name} of shape {(batch[0], *rest)}, but {found}"
    raise ValueError(msg)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def _without_checkerboard(conv: nn.Module) -> None:
    """Begin with one kernel for all four pixels that a point becomes."""
    assert isinstance(conv, nn.Conv2d)  # noqa: S101 - for type checkers
    with torch.no_grad():
        kernel = nn.init.xavier_uniform_(torch.empty_like(conv.weight[::4]))
        conv.weight.copy_(kernel.repeat_interleave(4, 0))
