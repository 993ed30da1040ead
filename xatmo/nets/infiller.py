"""The network that fills gaps: a U-Net that reads what is observed, and where.

It sees a block of times with those around it, values and masks as channels, and gives
for every cell of the block the mean and the spread of what may be there. First it
interpolates: means of what is near in space and time, weighted by what is there, which
convolutions cannot divide by. What it has learnt is added to that. Nothing is
normalised over the grid: what comes out at a place depends on what lies within its
reach, and any domain will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Infiller"]

# Sweeps that relax an interpolation, on the grid and on ever coarser ones: there they
# carry what is observed further, and cost less.
_SWEEPS = (6, 10, 16, 16)
_NARROW = 0.05  # squared cosine of the latitude beyond which columns are not closer
_LEAST_SPREAD = 1e-3  # of what is predicted, in the units of the anomalies


class Conv(nn.Module):
    """A 3 x 3 convolution: plain, or with a gate that a second one opens."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1, gated: bool = False):
        super().__init__()
        self.gated = gated
        width = 2 * c_out if gated else c_out
        self.conv = nn.Conv2d(c_in, width, 3, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, h, w) -> (B, c_out, h, w), halved with a stride of 2."""
        x = self.conv(x)
        if self.gated:
            x, gate = x.chunk(2, dim=1)
            x = x * torch.sigmoid(gate)
        return x


class Block(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int, gated: bool = False) -> None:
        super().__init__()
        self.conv1 = Conv(width, width, gated=gated)
        self.conv2 = Conv(width, width)
        nn.init.zeros_(self.conv2.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, W, h, w) -> the same."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Infiller(nn.Module):
    """From frames with gaps to mean and spread of a block of times.

    Parameters
    ----------
    times : int
        Times of a block.
    context : int
        Times before the block, and after it, that are read too; beside them as many as
        the block has of an earlier day, and of a later one.
    extra : int
        Maps that are read beside: what does not change.
    about : int
        Numbers that are read beside, about the series as a whole.
    sine : int
        Which of the extra maps is the sine of the latitude.
    horizons : sequence of float
        Steps in which observations lose their weight by a factor of e, one
        interpolation each; 0 reads each time alone.
    widths : sequence of int
        Features on the grid, and on each grid with half the points of the one before.
    depth : int
        Blocks on the coarsest grid.
    convolution : str
        ``"plain"``, ``"gated"`` (features of the way down are multiplied by gates), or
        ``"partial"`` (the first one is scaled by the share of what it sees that is
        there).

    Attributes
    ----------
    channels : int
        Maps that are read: values of all times, their masks, and the extra ones.
    stride : int
        Side in points of a cell of the coarsest grid: a piece of a domain has to begin
        on a multiple of it.
    reach : int
        Points around a place that its result may depend on.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.infiller import Infiller
    >>> network = Infiller(context=1, extra=3, about=3, widths=(8, 16, 16))
    >>> network.channels
    31
    >>> network(torch.randn(2, 31, 33, 49), torch.randn(2, 3)).shape
    torch.Size([2, 2, 4, 33, 49])
    """

    weights: Tensor

    def __init__(
        self,
        times: int = 4,
        context: int = 6,
        extra: int = 5,
        about: int = 8,
        sine: int = 2,
        horizons: Sequence[float] = (0.0, 1.5, 5.0),
        widths: Sequence[int] = (32, 48, 64, 80, 112),
        depth: int = 2,
        convolution: str = "plain",
    ) -> None:
        super().__init__()
        if convolution not in ("plain", "gated", "partial"):
            msg = f"no such convolution: {convolution!r}"
            raise ValueError(msg)
        gated = convolution == "gated"
        self.times, self.seen, self.sine = times, 3 * times + 2 * context, sine
        self.channels = 2 * self.seen + extra
        self.partial = convolution == "partial"
        self.stride = 2 ** (len(widths) - 1)
        self.reach = _reach(len(widths), depth)
        weights = torch.cat([_weights(times, context, h) for h in horizons])
        # Weighted sums of the values and of their masks, and the sine, in one.
        still = F.one_hot(torch.tensor([sine]), extra)
        sums = torch.block_diag(weights, weights, still)[..., None, None]
        self.register_buffer("weights", sums.float(), persistent=False)
        self.mix = nn.Parameter(torch.full((len(horizons), 1, 1, 1), 1 / len(horizons)))
        read = self.channels + len(weights)
        self.first = nn.Conv2d(read, widths[0], 3, padding=1)
        self.about = nn.Linear(about, widths[0])
        pairs = list(pairwise(widths))
        self.encoders = nn.ModuleList(Block(w, gated) for w in widths[:-1])
        self.downs = nn.ModuleList(Conv(a, b, 2, gated) for a, b in pairs)
        self.bottom = nn.ModuleList(Block(widths[-1], gated) for _ in range(depth))
        self.ups = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.merges = nn.ModuleList(Conv(2 * a, a) for a, _ in pairs)
        self.decoders = nn.ModuleList(Block(a) for a, _ in pairs)
        self.last = nn.Conv2d(widths[0], 2 * times, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, about: Tensor) -> Tensor:
        """Fill a block of times.

        Parameters
        ----------
        x : Tensor, shape (B, channels, h, w)
        about : Tensor, shape (B, about)

        Returns
        -------
        Tensor, shape (B, 2, times, h, w)
            Mean and standard deviation, in the units of the values that were read.
        """
        h, w = x.shape[-2:]
        x = self.whole_cells(x)
        guesses = self.interpolate(x)  # (B, horizons times, H, W)
        out = self.features(x, guesses, about)[..., :h, :w]
        mean, spread = out.float().unflatten(1, (2, self.times)).unbind(1)
        guesses = guesses.unflatten(1, (-1, self.times))[..., :h, :w]
        mean = mean + (self.mix * guesses).sum(1)
        return torch.stack([mean, F.softplus(spread) + _LEAST_SPREAD], 1)

    def whole_cells(self, x: Tensor) -> Tensor:
        """Pad to whole cells of the coarsest grid, in the order convolutions like."""
        h, w = x.shape[-2:]
        x = F.pad(x, (0, -w % self.stride, 0, -h % self.stride))
        return x.contiguous(memory_format=torch.channels_last)

    def features(self, x: Tensor, guesses: Tensor, about: Tensor) -> Tensor:
        """Compute what is learnt: (B, 2 times, H, W), on whole cells of all grids."""
        x = self._first(torch.cat([x, guesses], 1))
        x = x + self.about(about)[:, :, None, None]
        kept = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            kept.append(x)
            x = down(F.relu(x))
        for block in self.bottom:
            x = block(x)
        for level in reversed(range(len(kept))):
            # Fewer features first: the interpolation is the larger part of the cost.
            x = F.interpolate(self.ups[level](x), scale_factor=2, mode="bilinear")
            x = self.merges[level](F.relu(torch.cat([x, kept[level]], 1)))
            x = self.decoders[level](x)
        return self.last(F.relu(x))

    def for_inference(self) -> Infiller:
        """Return a copy that gives the same numbers, faster; it cannot be trained."""
        from xatmo.nets.infiller_inference import FastInfiller

        return FastInfiller(self)

    @torch.no_grad()
    def interpolate(self, x: Tensor) -> Tensor:
        """Interpolate in space and time: (B, channels, h, w) -> (B, G, h, w).

        The times of the block for each horizon in turn; in single precision.
        """
        with torch.autocast(x.device.type, enabled=False):
            count = len(self.mix) * self.times
            read = F.conv2d(x.float(), self.weights).contiguous()
            total, weight, sine = read.split([count, count, 1], 1)
            closeness = (1 - sine.square()).clamp(min=_NARROW)
            levels = self.stride.bit_length() - 1
            return _interpolated(total, weight, closeness, levels, 0)

    def kernels(self) -> list[nn.Parameter]:
        """Weights of the convolutions, without biases."""
        return [p for p in self.parameters() if p.ndim > 1 and p is not self.mix]

    def _first(self, x: Tensor) -> Tensor:
        if not self.partial:
            return self.first(x)
        # What is missing is zero: the sum stands for as many values as were there.
        there = x[:, self.seen : 2 * self.seen].mean(1, keepdim=True)
        share = F.avg_pool2d(there, 3, 1, 1, count_include_pad=False)
        return self.first(x) / share.clamp(min=0.1)


def _weights(times: int, context: int, horizon: float) -> Tensor:
    """Weights of the times that are read, for each time of the block: (times, seen)."""
    here = torch.arange(times)[:, None]
    near = torch.arange(-context, times + context)[None] - here
    # The same hour of another day counts as a time just out of sight.
    away = torch.where(torch.arange(times)[None] == here, context + 2.0, torch.inf)
    apart = torch.cat([near.abs().float(), away, away], 1)
    return torch.exp(-apart / horizon) if horizon else (apart == 0).float()


def _interpolated(
    total: Tensor, weight: Tensor, narrow: Tensor, levels: int, level: int
) -> Tensor:
    """Weighted means of cells; where little is known, a smooth surface between them.

    It begins with that of means of 2 x 2 cells, and is relaxed a little.
    """
    mean = total / weight.clamp(min=1e-6)
    if level == levels:
        return mean
    coarse, share = 4 * F.avg_pool2d(total, 2), 4 * F.avg_pool2d(weight, 2)
    below = _interpolated(coarse, share, F.avg_pool2d(narrow, 2), levels, level + 1)
    rough = F.interpolate(below, scale_factor=2, mode="bilinear")
    trust = weight.clamp(max=1.0)
    return _relaxed(torch.lerp(rough, mean, trust), mean, trust, narrow, level)


def _relaxed(
    x: Tensor, mean: Tensor, trust: Tensor, narrow: Tensor, level: int
) -> Tensor:
    """Smooth a surface that is held where it is trusted, like a membrane.

    ``narrow`` is the squared width of columns relative to the height of rows: near the
    poles what is east and west counts for more.
    """
    across = 0.5 / (1 + narrow)  # weight of either neighbour in a row
    along = 0.5 - across
    for _ in range(_SWEEPS[min(level, len(_SWEEPS) - 1)]):
        p = F.pad(x, (1, 1, 1, 1), mode="replicate")
        x = p[..., 1:-1, :-2] + p[..., 1:-1, 2:]
        beside = p[..., :-2, 1:-1] + p[..., 2:, 1:-1]
        x = x.mul_(across).addcmul_(beside, along).lerp_(mean, trust)
    return x


def _reach(levels: int, depth: int) -> int:
    """Points that convolutions and interpolations see, on all grids together."""
    reach = 1 + 1  # the first and the last convolution
    for level in range(levels - 1):
        size = 2**level
        # Block and stride on the way down; merging and block on the way up, between
        # two cells of the coarser grid.
        reach += size * (2 + 1 + 1 + 2) + 2 * (2 * size)
        # The interpolation comes before all that.
        reach += size * (_SWEEPS[min(level, len(_SWEEPS) - 1)] + 2)
    return reach + 2 * depth * 2 ** (levels - 1) + 2 * 2 ** (levels - 1)
