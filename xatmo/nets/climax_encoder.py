"""The encoder of ClimaX: any of its variables in, one token for each place out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from xatmo.errors import OptionError
from xatmo.nets.climax_blocks import Block, drop_rates
from xatmo.nets.climax_position import number_code, place_code
from xatmo.nets.climax_region import Patches
from xatmo.nets.climax_variables import VariablePool, VariableTokens, patches_of

__all__ = ["ClimaXEncoder", "check_names"]

HOURS = 100.0
"""Hours of lead time that the network reads as 1."""


class ClimaXEncoder(nn.Module):
    """Variables become one token for each place, which a vision transformer reads.

    What :class:`xatmo.nets.climax.ClimaX` and its variant for series have in common:
    their parameters of these names can be exchanged.

    Parameters
    ----------
    variables : sequence of str
        All that can be read.
    grid : tuple of int
        Rows and columns of cells.
    patch : int
        Rows and columns of cells in a patch.
    width, depth, heads : int
        Features of a token, number of blocks, and heads of attention.
    mlp_ratio : float
        Hidden features of a block, over ``width``.
    dropout : float
    drop_path : float
        Of the last block; see :class:`xatmo.nets.climax_blocks.Block`.
    folded : bool
        See :class:`xatmo.nets.climax_variables.VariablePool`.

    Raises
    ------
    xatmo.errors.OptionError
        If sizes do not fit together, or a name cannot be one of a parameter.
    """

    def __init__(
        self,
        variables: Sequence[str],
        grid: Sequence[int],
        patch: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        drop_path: float,
        folded: bool,
    ) -> None:
        super().__init__()
        self.variables, self.grid = tuple(variables), (int(grid[0]), int(grid[1]))
        self.patch, self.width = patch, width
        check_names(self.variables)
        _check_sizes(self.grid, patch, width, heads, depth)
        rows, columns = (n // patch for n in self.grid)
        self.tokens = nn.ModuleDict(
            {name: VariableTokens(width, patch) for name in self.variables}
        )
        self.pool = VariablePool(width, heads, folded)
        self.position = nn.Parameter(place_code(rows, columns, width).float())
        self.lead = nn.Linear(1, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(width, heads, int(width * mlp_ratio), dropout, rate)
            for rate in drop_rates(drop_path, depth)
        )
        self.norm = nn.LayerNorm(width)
        codes = number_code(range(len(self.variables)), width).float()
        for one, code in zip(self._tokens(self.variables), codes, strict=True):
            one.code = nn.Parameter(code.clone())

    def encode(
        self,
        fields: Tensor,
        lead: Tensor | float,
        variables: Sequence[str] | None = None,
        region: Patches | None = None,
    ) -> Tensor:
        """Return a token for each place.

        Parameters
        ----------
        fields : Tensor, shape (B, V, H, W)
            Normalised variables on the grid, or on the cells of ``region``.
        lead : Tensor, shape (B,), or float
            Hours ahead, of each sample or of all.
        variables : sequence of str, optional
            What the fields are, in their order; all of the network's if not given.
        region : Patches, optional
            The part of the grid that the fields are on: see
            :func:`xatmo.nets.climax_region.patches_of_box`.

        Returns
        -------
        Tensor, shape (B, N, D)
            Row by row.

        Raises
        ------
        xatmo.errors.OptionError
            If the network knows no such variable, or the fields are on another grid.
        """
        x = self._pooled(fields, variables, region)  # (B, N, D)
        x = x + self._place(region) + self._ahead(lead, len(x))
        return self._through(x)

    def embed(
        self,
        fields: Tensor,
        lead: Tensor | float,
        variables: Sequence[str] | None = None,
    ) -> Tensor:
        """Return a map of tokens; parameters as of :meth:`encode`.

        Returns
        -------
        Tensor, shape (B, H / patch, W / patch, D)
        """
        shape = (fields.shape[2] // self.patch, fields.shape[3] // self.patch)
        return self.encode(fields, lead, variables).unflatten(1, shape)

    def variable_weights(
        self,
        fields: Tensor,
        variables: Sequence[str] | None = None,
        region: Patches | None = None,
    ) -> Tensor:
        """Return how much each variable counts at each place.

        Parameters
        ----------
        fields, variables, region
            As of :meth:`encode`.

        Returns
        -------
        Tensor, shape (B, N, heads, V)
            Over the variables they add up to 1.
        """
        names = self._names(variables)
        self._check_fields(fields, names, region)
        return self.pool.weights(patches_of(fields, self.patch), self._tokens(names))

    def variable_maps(
        self, fields: Tensor, variables: Sequence[str] | None = None
    ) -> Tensor:
        """Return the same as maps; parameters as of :meth:`variable_weights`.

        Returns
        -------
        Tensor, shape (B, H / patch, W / patch, heads, V)
        """
        shape = (fields.shape[2] // self.patch, fields.shape[3] // self.patch)
        return self.variable_weights(fields, variables).unflatten(1, shape)

    def _pooled(
        self, fields: Tensor, variables: Sequence[str] | None, region: Patches | None
    ) -> Tensor:
        """One token for each place, before it is said where: (B, N, D)."""
        names = self._names(variables)
        self._check_fields(fields, names, region)
        pooled: Tensor = self.pool(patches_of(fields, self.patch), self._tokens(names))
        return pooled

    def _through(self, x: Tensor) -> Tensor:
        """Pass tokens through the blocks: (B, N, D) -> the same."""
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        normalised: Tensor = self.norm(x)
        return normalised

    def _place(self, region: Patches | None) -> Tensor:
        """Codes of places: (N, D)."""
        if region is None:
            return self.position.flatten(0, 1)
        rows, columns = (
            torch.tensor(n, device=self.position.device)
            for n in (region.rows, region.columns)
        )
        return self.position[rows[:, None], columns].flatten(0, 1)

    def _ahead(self, lead: Tensor | float, samples: int) -> Tensor:
        """Features of the lead times: (B, 1, D), or (1, 1, D) of all the same."""
        weight = self.lead.weight
        hours = torch.as_tensor(lead, dtype=weight.dtype, device=weight.device)
        if hours.ndim > 1 or (hours.ndim == 1 and len(hours) not in (1, samples)):
            msg = "There are not as many lead times as samples."
            found, needed = f"{tuple(hours.shape)}", f"({samples},), or one number"
            hint = "pass the hours ahead of each sample, or of all"
            raise OptionError(msg, found=found, needed=needed, hint=hint)
        ahead: Tensor = self.lead(hours.reshape(-1, 1, 1) / HOURS)
        return ahead

    def _tokens(self, names: Sequence[str]) -> list[VariableTokens]:
        return [cast("VariableTokens", self.tokens[name]) for name in names]

    def _names(self, variables: Sequence[str] | None) -> tuple[str, ...]:
        """Check names of variables, and return them; all if not given."""
        if variables is None:
            return self.variables
        names = tuple(variables)
        unknown = [name for name in names if name not in self.tokens]
        if unknown or not names or len(set(names)) < len(names):
            msg = "These are not variables of the network, each of them once."
            found = ", ".join(unknown or names) or "none"
            needed, hint = ", ".join(self.variables), "variables=[...] of these names"
            raise OptionError(msg, found=found, needed=f"some of: {needed}", hint=hint)
        return names

    def _check_fields(
        self, fields: Tensor, names: Sequence[str], region: Patches | None
    ) -> None:
        """Refuse fields that are not of these variables, or not on the grid."""
        h, w = (n // self.patch for n in self.grid)
        rows, columns = (h, w) if region is None else region.shape
        if region is not None and not (
            region.size == self.patch
            and set(region.rows) <= set(range(h))
            and set(region.columns) <= set(range(w))
        ):
            msg = "The region is one of another grid."
            found = f"patches of {region.size}, up to row {max(region.rows)}"
            found += f" and column {max(region.columns)}"
            needed = f"{h} rows and {w} columns of patches of {self.patch}"
            hint = "patches_of_box(...) of the network's grid and patch"
            raise OptionError(msg, found=found, needed=needed, hint=hint)
        needed_shape = (len(names), rows * self.patch, columns * self.patch)
        if fields.ndim != 4 or tuple(fields.shape[1:]) != needed_shape:
            msg = "The fields are not these variables on the network's grid."
            found = f"{tuple(fields.shape)}"
            needed = f"(B, {', '.join(map(str, needed_shape))})"
            hint = "name the variables in their order; region.crop(fields) of a region"
            hint += "; for another grid build a network with resize_positions()"
            raise OptionError(msg, found=found, needed=needed, hint=hint)


def initialise(network: nn.Module) -> None:
    """Draw the weights of all linear layers as the published code does.

    Those that project queries, keys and values of a pool have been drawn already.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            if not name.endswith("attention.project"):
                nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)


def check_names(names: Sequence[str]) -> None:
    """Refuse names that are not each one variable, or that torch cannot use."""
    taken = nn.ModuleDict()
    wrong = [n for n in names if not n or "." in n or hasattr(taken, n)]
    if wrong or not names or len(set(names)) < len(names):
        msg = "Variables of the network need names of their own."
        found = ", ".join(map(repr, wrong or names)) or "none"
        needed = "each name once; without dots, and none that torch uses"
        hint = "variables=['2m_temperature', 'geopotential_500']"
        raise OptionError(msg, found=found, needed=needed, hint=hint)


def _check_sizes(
    grid: tuple[int, int], patch: int, width: int, heads: int, depth: int
) -> None:
    """Refuse sizes that do not fit together."""
    if patch < 1 or min(grid) < patch or any(n % patch for n in grid):
        msg = "The grid is not made of whole patches."
        found = f"{grid[0]} x {grid[1]} cells, patches of {patch} x {patch}"
        needed, hint = "rows and columns of whole patches", "grid=(32, 64), patch=2"
        raise OptionError(msg, found=found, needed=needed, hint=hint)
    if min(width, heads, depth) < 1 or width % 4 or width % heads:
        msg = "The network has an impossible size."
        found = f"width {width}, {heads} heads, {depth} blocks"
        needed = "a width that 4 and the number of heads divide, and a block at least"
        hint = "width=1024, heads=16, depth=8"
        raise OptionError(msg, found=found, needed=needed, hint=hint)
