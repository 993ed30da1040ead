"""What is measured of a piece that fills a hole, added up over times and places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from xatmo import metrics
from xatmo.losses import AtmoDistLoss
from xatmo.training.downscale.statistics import ratio_interval

__all__ = ["Pieces", "Scores", "linear"]

_SPACE = ["latitude", "longitude"]


@dataclass(frozen=True)
class Pieces:
    """True pieces (B, C, h, w) of the same rows, in physical units."""

    truth: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    losses: Sequence[AtmoDistLoss]
    """The distance, layer by layer."""

    def labelled(self, values: np.ndarray) -> xr.DataArray:
        """Pieces with their places, as metrics read them."""
        units = {"latitude": "degrees_north", "longitude": "degrees_east"}
        coords = {
            name: (name, getattr(self, name), {"standard_name": name, "units": unit})
            for name, unit in units.items()
        }
        return xr.DataArray(values, dims=("piece", "channel", *_SPACE), coords=coords)

    def distances(self, values: np.ndarray) -> dict[str, float]:
        """Mean AtmoDist distance to the truth at every layer."""
        x, y = (torch.from_numpy(np.array(v, np.float32)) for v in (values, self.truth))
        with torch.inference_mode():
            return {loss.layer: float(loss(x, y).mean()) for loss in self.losses}


class Scores:
    """Sums of one method, or of the truth itself.

    Parameters
    ----------
    label : str
    days : ndarray
        When each time is.
    """

    def __init__(self, label: str, days: np.ndarray) -> None:
        self.label, self.days = label, days
        self.square = np.zeros(days.size)
        self.count = 0
        self.sums: dict[str, float] = defaultdict(float)
        self.power: Any = 0.0

    def add(self, time: int, pieces: Pieces, values: np.ndarray) -> None:
        """Score pieces (B, C, h, w) of one time."""
        x = pieces.labelled(np.asarray(values, np.float64))
        y = pieces.labelled(pieces.truth)
        self.square[time] += float((metrics.rmse(x, y, dim=_SPACE) ** 2).mean())
        spread = x - x.weighted(np.cos(np.deg2rad(x.latitude))).mean(_SPACE)
        self.sums["variance"] += float((spread**2).mean())
        self.sums["variation"] += float(metrics.total_variation(x).mean())
        spectrum = metrics.zonal_spectrum(x)
        places = [d for d in spectrum.dims if d != "wavenumber"]
        self.power = self.power + spectrum.mean(places).values
        for layer, value in pieces.distances(values).items():
            self.sums[f"distance_{layer}"] += value
        self.count += 1

    def told(self, truth: Scores, first: Scores) -> dict[str, Any]:
        """The numbers that are told: errors, and ratios to the truth or the first."""
        short = np.arange(1, self.power.size + 1) > 4  # a quarter of the hole
        distances = {k: v / self.count for k, v in self.sums.items() if "distance" in k}
        own, rival = (s.square.mean() for s in (self, first))
        same = self is first
        return {
            "label": self.label,
            "rmse": float(np.sqrt(self.square.sum() / self.count)),
            "rmse_ratio": float(np.sqrt(own / rival)),
            "rmse_ratio_95": None
            if same
            else ratio_interval(
                self.square, first.square, np.floor(self.days), root=True
            ),
            "std": float(np.sqrt(self.sums["variance"] / truth.sums["variance"])),
            "power_long": float(self.power[~short].sum() / truth.power[~short].sum()),
            "power_short": float(self.power[short].sum() / truth.power[short].sum()),
            "total_variation": self.sums["variation"] / truth.sums["variation"],
            **distances,
        }

    def spectrum(self) -> list[float]:
        """Mean zonal spectrum, from one wave in the hole on."""
        return [float(f"{p / self.count:.5g}") for p in self.power]


def linear(fields: np.ndarray, window: tuple[slice, slice]) -> np.ndarray:
    """Fill a hole in whole fields (..., H, W) by straight lines from edge to edge.

    The mean of those along rows and along columns.
    """
    rows, columns = window
    north, south = fields[..., rows.start - 1, columns], fields[..., rows.stop, columns]
    west, east = fields[..., rows, columns.start - 1], fields[..., rows, columns.stop]
    down, right = (
        np.arange(1, s.stop - s.start + 1, dtype=np.float32) / (s.stop - s.start + 1)
        for s in window
    )
    along_columns = north[..., None, :] * (1 - down[:, None]) + (
        south[..., None, :] * down[:, None]
    )
    along_rows = west[..., None] * (1 - right) + east[..., None] * right
    filled: np.ndarray = 0.5 * (along_columns + along_rows)
    return filled
