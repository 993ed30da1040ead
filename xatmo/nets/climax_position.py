"""Codes of places and numbers of ClimaX, and how they come to another grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from xatmo.errors import OptionError

__all__ = ["number_code", "place_code", "resize_field", "resize_positions"]


def number_code(numbers: Tensor | Sequence[float], width: int) -> Tensor:
    """Sines, then cosines, of numbers at ``width / 2`` frequencies.

    Parameters
    ----------
    numbers : Tensor or sequence of float, shape (n,)
    width : int
        An even number.

    Returns
    -------
    Tensor, shape (n, width)
        In double precision.

    Examples
    --------
    >>> from xatmo.nets.climax_position import number_code
    >>> number_code([0, 1], 4).round(decimals=3).tolist()
    [[0.0, 0.0, 1.0, 1.0], [0.841, 0.01, 0.54, 1.0]]
    """
    half = width // 2
    frequency = 10000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.as_tensor(numbers, dtype=torch.float64), frequency)
    return torch.cat([angle.sin(), angle.cos()], 1)


def place_code(rows: int, columns: int, width: int) -> Tensor:
    """Codes of places in a grid: of the column, then of the row.

    Parameters
    ----------
    rows, columns : int
    width : int
        A multiple of four.

    Returns
    -------
    Tensor, shape (rows, columns, width)
        In double precision.
    """
    of_rows = number_code(torch.arange(rows), width // 2)[:, None]
    of_columns = number_code(torch.arange(columns), width // 2)[None]
    shape = (rows, columns, width // 2)
    return torch.cat([of_columns.expand(shape), of_rows.expand(shape)], -1)


def resize_positions(positions: Tensor, shape: Sequence[int]) -> Tensor:
    """Interpolate codes of places to another number of patches, by cubic convolution.

    Parameters
    ----------
    positions : Tensor, shape (h, w, D)
        Of patches that cover the whole domain, row by row.
    shape : sequence of int
        Rows and columns of patches that are to cover the same domain.

    Returns
    -------
    Tensor, shape (rows, columns, D)
        The same tensor if it has this shape.

    Raises
    ------
    xatmo.errors.OptionError
        If there is no such shape.

    Notes
    -----
    As the published code does it: a = -0.75, pixels are areas, edges continue as
    constants (also where the first column follows the last), and nothing is smoothed
    first. What is learnt of the orientation of patches stays: rows have to come in the
    same direction as before.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.climax_position import resize_positions
    >>> resize_positions(torch.randn(16, 32, 64), (32, 64)).shape
    torch.Size([32, 64, 64])
    """
    size = [int(n) for n in shape]
    if len(size) != 2 or min(size) < 1 or positions.ndim != 3:
        msg = "Positions cannot be resized to this shape."
        found = f"{tuple(shape)}, of positions {tuple(positions.shape)}"
        needed = "numbers of rows and columns of patches, of positions (h, w, D)"
        raise OptionError(msg, found=found, needed=needed, hint="shape=(32, 64)")
    if list(positions.shape[:2]) == size:
        return positions
    maps = positions.movedim(-1, 0)[None]  # (1, D, h, w)
    maps = F.interpolate(maps, size=size, mode="bicubic", align_corners=False)
    return maps[0].movedim(0, -1).contiguous()


def resize_field(field: Tensor, grid: tuple[int, int]) -> Tensor:
    """Interpolate a map between the middles of its cells: (H, W) -> ``grid``.

    Parameters
    ----------
    field : Tensor, shape (H, W)
    grid : tuple of int
        Rows and columns that are wanted.

    Returns
    -------
    Tensor
    """
    whole = field[None, None].float()
    return F.interpolate(whole, grid, mode="bilinear", align_corners=False)[0, 0]
