"""ClimaX for climate projections: series of forcings in, one map out.

The variant of the ClimateBench task in: Nguyen, Brandstetter, Kapoor, Gupta, Grover,
"ClimaX: A foundation model for weather and climate" (2023),
https://arxiv.org/abs/2301.10343.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from xatmo.errors import OptionError
from xatmo.nets.climax_encoder import ClimaXEncoder, initialise
from xatmo.nets.climax_position import number_code
from xatmo.nets.climax_variables import QueryPool

__all__ = ["ClimaXSeries"]


class ClimaXSeries(ClimaXEncoder):
    """From some variables at several times to one map.

    Each time passes through the encoder of :class:`xatmo.nets.climax.ClimaX`, for a
    lead time of zero; the means of their tokens over all places become one by
    attention, of which one layer makes the map.

    Parameters
    ----------
    variables : sequence of str
        Those of ClimateBench if not given.
    times : int
    grid, patch, width, depth, heads, mlp_ratio, dropout, drop_path, folded
        As of :class:`xatmo.nets.climax.ClimaX`, whose parameters of the same names and
        shapes this network can begin with.

    Raises
    ------
    xatmo.errors.OptionError
        If sizes do not fit together, or a name cannot be one of a parameter.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.climax_series import ClimaXSeries
    >>> network = ClimaXSeries(times=10, width=64, depth=2, heads=4)
    >>> network(torch.randn(2, 10, 4, 32, 64)).shape
    torch.Size([2, 1, 32, 64])
    """

    def __init__(
        self,
        variables: Sequence[str] = ("CO2", "SO2", "CH4", "BC"),
        times: int = 10,
        grid: Sequence[int] = (32, 64),
        patch: int = 2,
        width: int = 1024,
        depth: int = 8,
        heads: int = 16,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        drop_path: float = 0.1,
        folded: bool = True,
    ) -> None:
        sizes = (patch, width, depth, heads, mlp_ratio, dropout, drop_path, folded)
        super().__init__(variables, grid, *sizes)
        if times < 1:
            msg = "A series has a time at least."
            raise OptionError(msg, found=f"{times}", needed="1", hint="times=10")
        self.time = nn.Parameter(number_code(range(times), width).float())
        self.time_attention = QueryPool(width, heads)
        self.map = nn.Linear(width, self.grid[0] * self.grid[1])
        initialise(self)

    def forward(self, fields: Tensor, variables: Sequence[str] | None = None) -> Tensor:
        """Predict.

        Parameters
        ----------
        fields : Tensor, shape (B, T, V, H, W)
            Normalised variables on the grid, from the first time to the last.
        variables : sequence of str, optional
            What the fields are, in their order; all of the network's if not given.

        Returns
        -------
        Tensor, shape (B, 1, H, W)

        Raises
        ------
        xatmo.errors.OptionError
            If the network knows no such variable, or the fields are on another grid or
            at another number of times.
        """
        times = len(self.time)
        if fields.ndim != 5 or fields.shape[1] != times:
            msg = "The fields are not a series of as many times as the network reads."
            found, needed = f"{tuple(fields.shape)}", f"(B, {times}, V, H, W)"
            raise OptionError(msg, found=found, needed=needed, hint=f"{times} times")
        samples = len(fields)
        x = self._pooled(fields.flatten(0, 1), variables, None)  # (B T, N, D)
        x = x + self._place(None) + self._ahead(0.0, 1)
        x = x + self.time.repeat(samples, 1)[:, None]
        x = self._through(x).mean(1).unflatten(0, (samples, times))  # (B, T, D)
        x = self.map(self.time_attention(x))  # (B, H W)
        return x.unflatten(-1, (1, *self.grid))
