"""AtmoDist: a network that tells how far apart in time two fields are.

A siamese ResNet encoder and a comparison head, after Hoffmann and Lessig, "AtmoDist:
Self-supervised representation learning for atmospheric dynamics", Environmental Data
Science 2 (2023), e6. The defaults are the published network: 160x160 patches of
divergence and vorticity, 23 classes of time lag. The encoder's feature space is what
gives the distance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xatmo.nets.layers import ResidualBlock, SameConv2d, SameMaxPool2d, batch_norm

__all__ = ["AtmoDist", "ComparisonHead", "Encoder"]

# Grid points of the windows that are encoded together, on a CPU and on a GPU: a CPU
# gains nothing from more, and both keep within bounded memory however many there are.
_POINTS = {False: 2**14, True: 2**20}


class Encoder(nn.Module):
    """The representation network, fully convolutional.

    Parameters
    ----------
    in_channels : int
        Number of input fields.
    stem : tuple of int
        Kernel size and stride of the first convolution.
    pool : bool
        Max pooling (3x3, stride 2) behind the stem.
    widths, depths, strides : sequence of int
        Channels, residual blocks, and stride of the first block, one per stage.
    stem_width : int, optional
        Channels of the stem; those of the first stage unless given.
    """

    def __init__(
        self,
        in_channels: int = 2,
        stem: tuple[int, int] = (8, 2),
        pool: bool = True,
        widths: Sequence[int] = (16, 32, 64, 128),
        depths: Sequence[int] = (6, 6, 6, 6),
        strides: Sequence[int] = (1, 2, 2, 2),
        stem_width: int | None = None,
    ) -> None:
        super().__init__()
        width = stem_width or widths[0]
        kernel, stride = stem
        self.in_conv = SameConv2d(in_channels, width, kernel, stride, bias=True)
        self.in_bn = batch_norm(width)
        self.pool = SameMaxPool2d(3, 2) if pool else None
        stages = []
        for c_out, depth, step in zip(widths, depths, strides, strict=True):
            blocks = [ResidualBlock(width, c_out, step)]
            blocks += [ResidualBlock(c_out, c_out) for _ in range(depth - 1)]
            stages.append(nn.ModuleList(blocks))
            width = c_out
        self.stages = nn.ModuleList(stages)
        self.widths = list(widths)
        self.downscalings = [stride, 2 if pool else 1, *strides]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that can be read out: ``block1`` ... ``blockN``."""
        return tuple(f"block{i + 1}" for i in range(len(self.stages)))

    def cells(self, size: int) -> int:
        """Rows of the last layer for an input of ``size`` rows."""
        for stride in self.downscalings:
            size = -(-size // stride)
        return size

    def stride(self, layer: str) -> int:
        """Grid points per cell of a layer."""
        return math.prod(self.downscalings[: self.layers.index(layer) + 3])

    def features(self, layer: str) -> int:
        """Channels of a layer."""
        return self.widths[self.layers.index(layer)]

    def forward(
        self, x: Tensor, layer: str | None = None, periodic: bool = False
    ) -> Tensor:
        """Encode normalised fields, up to and including ``layer`` (the last if None).

        (B, C, H, W) -> (B, F, h, w). With ``periodic`` the columns close on
        themselves, as longitudes of a global grid do.
        """
        last = len(self.stages) if layer is None else self.layers.index(layer) + 1
        x = torch.relu(self.in_bn(self.in_conv(x, periodic)))  # (B, C0, H/s, W/s)
        if self.pool is not None:
            x = self.pool(x, periodic)
        for stage in self.stages[:last]:
            assert isinstance(stage, nn.ModuleList)  # noqa: S101 - for type checkers
            for block in stage:
                x = block(x, periodic)
        return x


class ComparisonHead(nn.Module):
    """From two representations to the logits of the lag classes."""

    def __init__(
        self,
        features: int,
        cells: tuple[int, int],
        n_classes: int,
        width: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        h, w = (-(-n // 2) for n in cells)
        self.conv1 = SameConv2d(2 * features, width, 3, 2, bias=True)
        self.bn1 = batch_norm(width)
        self.conv2 = SameConv2d(width, width, 3, bias=True)
        self.bn2 = batch_norm(width)
        self.dropout = nn.Dropout(dropout)
        self.pred = nn.Linear(h * w * width, n_classes, bias=False)
        nn.init.kaiming_normal_(self.pred.weight)

    def forward(self, r1: Tensor, r2: Tensor) -> Tensor:
        """Two (B, F, h, w) -> (B, n_classes); ``r1`` is the earlier one."""
        x = torch.cat([r1, r2], dim=1)  # (B, 2F, h, w)
        x = torch.relu(self.bn1(self.conv1(x)))  # (B, width, h/2, w/2)
        x = torch.relu(self.bn2(self.conv2(x)))
        # Flattened rows, columns, channels: the order published weights expect.
        return self.pred(self.dropout(x.permute(0, 2, 3, 1).flatten(1)))


class AtmoDist(nn.Module):
    """Encoder and head together: classify the time lag between two fields.

    Parameters
    ----------
    n_classes : int
        Number of lag classes.
    patch : tuple of int
        Rows and columns the head is built for. The encoder takes any size.
    head_width : int
        Channels of the comparison head.
    dropout : float
        Share of the head's features dropped in training; the published network has 0.
    **encoder
        Passed to :class:`Encoder`.
    """

    def __init__(
        self,
        n_classes: int = 23,
        patch: Sequence[int] = (160, 160),
        head_width: int = 128,
        dropout: float = 0.0,
        **encoder: object,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(**encoder)  # type: ignore[arg-type]
        self.patch = (int(patch[0]), int(patch[1]))
        rows, columns = (self.encoder.cells(n) for n in patch)
        features = self.encoder.features(self.encoder.layers[-1])
        self.head = ComparisonHead(
            features, (rows, columns), n_classes, head_width, dropout
        )

    def encode(
        self, x: Tensor, layer: str | None = None, periodic: bool = False
    ) -> Tensor:
        """Feature maps of normalised fields: (B, C, H, W) -> (B, F, h, w)."""
        return self.encoder(x, layer, periodic)

    def embed(
        self, x: Tensor, layer: str | None = None, periodic: bool = False
    ) -> Tensor:
        """Return the map of vectors: (B, C, H, W) -> (B, h, w, F)."""
        return self.encode(x, layer, periodic).permute(0, 2, 3, 1)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Logits of the lag from ``x1`` to the later ``x2``: -> (B, n_classes).

        The encoder runs once per field, so that in training each keeps its own batch
        statistics, as in the original.
        """
        return self.head(self.encoder(x1), self.encoder(x2))

    def window_features(
        self, x: Tensor, rows: Sequence[int], columns: Sequence[int]
    ) -> Tensor:
        """Encode windows of fields, each on its own as in training.

        (B, C, H, W) -> (B, R, Q, F * h * w): a window of the size of ``patch`` for
        each first row and each first column. Columns beyond the last go on at the
        first, as longitudes of a global grid do.
        """
        height, width = self.patch
        at = [(r, c) for r in rows for c in columns]
        size = max(1, _POINTS[x.is_cuda] // (height * width))
        wrapped = torch.cat([x, x[..., : width - 1]], dim=-1)  # (B, C, H, W + w - 1)
        out = []
        # Field by field, so that a field gets the same numbers in any company.
        for field in wrapped:
            for some in (at[i : i + size] for i in range(0, len(at), size)):
                windows = [field[:, r : r + height, c : c + width] for r, c in some]
                out.append(self.encoder(torch.stack(windows)).flatten(1))
        return torch.cat(out).reshape(len(x), len(rows), len(columns), -1)

    def lag_probabilities(self, x: Tensor) -> Tensor:
        """Probabilities of the lag classes, from :meth:`window_features` of two states.

        (B, 2, R, Q, F * h * w), the earlier state first -> (B, R, Q, n_classes).
        """
        h, w = (self.encoder.cells(n) for n in self.patch)
        pairs = x.flatten(2, 3).unflatten(-1, (-1, h, w))  # (B, 2, R * Q, F, h, w)
        size = max(1, _POINTS[x.is_cuda] // (self.patch[0] * self.patch[1]))
        logits = [
            self.head(first, second)
            for pair in pairs
            for first, second in zip(*(p.split(size) for p in pair), strict=True)
        ]
        shape = (*x.shape[:1], *x.shape[2:4], -1)
        return torch.cat(logits).softmax(dim=-1).reshape(shape)

    def for_inference(self) -> AtmoDist:
        """Return a copy that computes the same, faster: see ``nets/inference.py``."""
        from xatmo.nets.inference import for_inference

        return for_inference(self)

    def kernels(self) -> list[nn.Parameter]:
        """Weights of convolutions and dense layers: those that are regularised."""
        return [p for p in self.parameters() if p.ndim > 1]
