"""ClimaX: a transformer that forecasts from whatever variables there are.

Each variable is cut into patches; at each place those of all variables become one token
by attention; tokens are told where they are and how far ahead to look, pass through a
vision transformer, and each becomes a patch of every variable that is asked for.

After: Nguyen, Brandstetter, Kapoor, Gupta, Grover, "ClimaX: A foundation model for
weather and climate" (2023), https://arxiv.org/abs/2301.10343.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.nets.climax_encoder import ClimaXEncoder, initialise
from xatmo.nets.climax_guess import Usual, check_guess, error_growth
from xatmo.nets.climax_region import Patches
from xatmo.nets.climax_variables import join_patches

__all__ = ["VARIABLES", "ClimaX"]

_LEVELS = (50, 250, 500, 600, 700, 850, 925)  # hPa
_PROFILES = (
    "geopotential",
    "u_component_of_wind",
    "v_component_of_wind",
    "temperature",
    "relative_humidity",
    "specific_humidity",
)
VARIABLES: tuple[str, ...] = (
    "land_sea_mask",
    "orography",
    "lattitude",  # so spelt in everything that was published
    "2m_temperature",
    "10m_u_component_of_wind",
    "10m_v_component_of_wind",
    *(f"{profile}_{level}" for profile in _PROFILES for level in _LEVELS),
)
"""Variables of the published networks in their order, on levels in hPa."""


class ClimaX(ClimaXEncoder):
    """From some variables now to some variables later, on one grid.

    Parameters
    ----------
    variables : sequence of str
        All that can be read and predicted; those of the published networks if not
        given. Parameters of a variable are stored under its name.
    grid : sequence of int
        Rows and columns of cells. Rows of published networks go from south to north.
    patch : int
        Rows and columns of cells in a patch.
    width, depth, heads : int
        Features of a token, number of blocks, and heads of attention.
    decoder_depth : int
        Layers between the last block and the pixels.
    mlp_ratio : float
        Hidden features of a block, over ``width``.
    dropout : float
    drop_path : float
        How often, in training, a sample passes by a part of the last block; of those
        before less, down to 0 of the first.
    folded : bool
        Make the tokens of variables, and their attention, in one step: the same numbers
        and gradients with half the work (with 48 variables) and a fraction of the
        memory. See :mod:`xatmo.nets.climax_variables`.
    growth : float, optional
        Hours after which the errors of persistence have come near to their limit: 63 %
        of it in squares. The network then predicts changes of the variables it is
        given, in units of such errors. If not given it predicts states, as published.
    damped : bool
        Changes are those from a guess in which anomalies fade, towards the usual state
        of each variable: see :class:`xatmo.nets.climax_guess.Usual`.

    Raises
    ------
    xatmo.errors.OptionError
        If sizes do not fit together, or a name cannot be one of a parameter.

    Notes
    -----
    As published it predicts the whole normalised state, not its change: up to a day
    ahead it is then hardly better than persistence, unless it is trained long.

    What is folded out of the weights is kept, without gradients and in evaluation mode,
    until one of them changes; a change by ``weight.data`` is not seen before the next
    ``eval()``.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.climax import ClimaX
    >>> names = ["2m_temperature", "geopotential_500", "temperature_850"]
    >>> network = ClimaX(names, grid=(32, 64), patch=4, width=64, depth=2, heads=4)
    >>> some = torch.randn(3, 2, 32, 64)
    >>> hours = torch.tensor([6.0, 72.0, 168.0])
    >>> forecast = network(some, hours, names[:2], targets=["temperature_850"])
    >>> forecast.shape
    torch.Size([3, 1, 32, 64])
    """

    def __init__(
        self,
        variables: Sequence[str] = VARIABLES,
        grid: Sequence[int] = (32, 64),
        patch: int = 2,
        width: int = 1024,
        depth: int = 8,
        heads: int = 16,
        decoder_depth: int = 2,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        drop_path: float = 0.1,
        folded: bool = True,
        growth: float | None = None,
        damped: bool = False,
    ) -> None:
        check_guess(growth, damped)
        sizes = (patch, width, depth, heads, mlp_ratio, dropout, drop_path, folded)
        super().__init__(variables, grid, *sizes)
        self.growth = growth
        self.usual = nn.ModuleDict(
            {name: Usual(self.grid) for name in self.variables} if damped else {}
        )
        self.decoder = nn.ModuleList(
            nn.Linear(width, width) for _ in range(decoder_depth)
        )
        self.pixels = nn.ModuleDict(
            {name: nn.Linear(width, patch**2) for name in self.variables}
        )
        initialise(self)

    def forward(
        self,
        fields: Tensor,
        lead: Tensor | float,
        variables: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        region: Patches | None = None,
    ) -> Tensor:
        """Predict.

        Parameters
        ----------
        fields : Tensor, shape (B, V, H, W)
            Normalised variables on the grid, or on the cells of ``region``.
        lead : Tensor, shape (B,), or float
            Hours ahead, of each sample or of all.
        variables : sequence of str, optional
            What the fields are, in their order; all of the network's if not given.
        targets : sequence of str, optional
            What is predicted, in this order; the same variables if not given.
        region : Patches, optional
            The part of the grid that the fields are on: see
            :func:`xatmo.nets.climax_region.patches_of_box`.

        Returns
        -------
        Tensor, shape (B, targets, H, W)

        Raises
        ------
        xatmo.errors.OptionError
            If the network knows no such variable, or the fields are on another grid.
        """
        wanted = self._names(variables if targets is None else targets)
        x = self.encode(fields, lead, variables, region)  # (B, N, D)
        for layer in self.decoder:
            x = F.gelu(layer(x))
        shape = (fields.shape[2] // self.patch, fields.shape[3] // self.patch)
        found = join_patches(self._pixels(x, wanted), shape, self.patch)
        if self.growth is None:
            return found
        known = dict(zip(self._names(variables), fields.unbind(1), strict=True))
        return self._changed(known, found, wanted, lead, region)

    def spread(self, lead: Tensor | float) -> Tensor:
        """How far states are from those ``lead`` hours before, relative to the limit.

        Parameters
        ----------
        lead : Tensor, shape (B,), or float
            Hours.

        Returns
        -------
        Tensor, shape (B,), or of a number ()
            From 0 to 1; always 1 for a network that predicts states.
        """
        hours = torch.as_tensor(lead, dtype=torch.float32, device=self.position.device)
        if self.growth is None:
            return torch.ones_like(hours)
        return error_growth(hours, self.growth)

    def _changed(
        self,
        known: Mapping[str, Tensor],
        found: Tensor,
        wanted: Sequence[str],
        lead: Tensor | float,
        region: Patches | None,
    ) -> Tensor:
        """Add changes to what is guessed from what is known: (B, targets, H, W)."""
        size = self.spread(lead).reshape(-1, 1, 1).to(found)
        hours = torch.as_tensor(lead).to(found).reshape(-1, 1, 1)
        hours = hours.expand(len(found), 1, 1)
        parts = []
        for number, name in enumerate(wanted):
            change, now = found[:, number], known.get(name)
            if now is not None:
                change = size * change
            if name in self.usual:
                usual = cast("Usual", self.usual[name])
                field = usual.field if region is None else region.crop(usual.field)
                now = usual(now, hours, field)
            parts.append(change if now is None else now + change)
        return torch.stack(parts, 1)

    def _pixels(self, x: Tensor, names: Sequence[str]) -> Tensor:
        """Patches of some variables, in one product: (B, N, D) -> (B, N, V, p p)."""
        layers = [self.pixels.get_submodule(name) for name in names]
        weight, bias = (
            torch.cat([layer.get_parameter(kind) for layer in layers])
            for kind in ("weight", "bias")
        )
        return F.linear(x, weight, bias).unflatten(-1, (len(names), -1))
