"""Scores of one method, added up block by block: no series is ever whole in memory.

What a block gives is measured by :mod:`xatmo.metrics`; here it is only summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xatmo import metrics
from xatmo.blocks import block_mean
from xatmo.fields import area_weights
from xatmo.training.downscale.estimates import magnitude
from xatmo.training.downscale.truth import Truth

__all__ = ["LAGS", "PERCENTILES", "Ensemble", "Sums", "ratio_interval"]

_SPACE = ["latitude", "longitude"]
PERCENTILES = (1.0, 50.0, 99.0, 99.9)
LAGS = (1, 2, 4, 8, 16)  # of the variogram, in fine points
_BINS = 8192  # of the distribution; its scores are exact to the width of one
_PAIRS = 8_000  # of points, for each lag of the variogram
_DRAWS = 1000
_POLAR = 80.0  # beyond it, rows are so short that spectra are of other scales


class Sums:
    """Everything that is scored of one estimate, or of the truth itself.

    Parameters
    ----------
    truth : Truth
    top : float
        Above the largest magnitude in the data.
    lags_km : sequence of float
        Of the variogram.
    seed : int
        Of the places that the variogram is taken at.
    """

    def __init__(
        self, truth: Truth, top: float, lags_km: tuple[float, ...], seed: int
    ) -> None:
        self.truth, self.top, self.lags_km, self.seed = truth, top, lags_km, seed
        shape = len(truth), len(truth.quantities)
        self.square, self.absolute, self.error = np.zeros((3, *shape))
        self.variation = np.zeros(shape)
        self.power: Any = 0.0
        self.variogram: Any = 0.0
        self.count = np.zeros(_BINS)
        self.violation = 0.0
        self.cities: list[np.ndarray] = []
        self._rows = area_weights(truth.latitude)[:, None]

    def add(self, times: np.ndarray, fields: np.ndarray, fine: np.ndarray) -> None:
        """Score fields (T, C, H, W) at some positions of the series."""
        t = self.truth
        x, y = t.labelled(fields, times), t.labelled(fine, times)
        if fields is not fine:
            self.square[times] = metrics.rmse(x, y, dim=_SPACE).values ** 2
            self.absolute[times] = metrics.mae(x, y, dim=_SPACE).values
            self.error[times] = metrics.bias(x, y, dim=_SPACE).values
            gap = np.abs(block_mean(fields, t.factor) - block_mean(fine, t.factor))
            self.violation = max(self.violation, float(gap.max()))
        self.variation[times] = metrics.total_variation(x).values
        rows = np.abs(t.latitude) <= _POLAR
        spectrum = metrics.zonal_spectrum(x.isel(latitude=rows))
        self.power = self.power + _total(spectrum, "wavenumber")
        self.variogram = self.variogram + _total(
            metrics.semivariogram(
                x, lags_km=self.lags_km, samples=_PAIRS, seed=self.seed
            ),
            "lag",
        )
        self._distribution(magnitude(fields))

    def _distribution(self, size: np.ndarray) -> None:
        """Count the areas that a magnitude is found in; keep its series at cities."""
        place = np.minimum(size / self.top * _BINS, _BINS - 1).astype(np.int64)
        area = np.broadcast_to(self._rows, size.shape[-2:])
        for one in place:
            self.count += np.bincount(one.ravel(), area.ravel(), _BINS)
        if self.truth.periodic:
            at = xr.DataArray(
                size,
                dims=("time", *_SPACE),
                coords=self.truth.places,
            )
            self.cities.append(metrics.at_cities(at).values)

    # --- What the sums say ---

    def rmse(self) -> float:
        """Root of the mean squared error, all channels together."""
        return float(np.sqrt(self.square.mean()))

    def percentile(self, q: float) -> float:
        """Of the magnitude, area-weighted."""
        share = np.cumsum(self.count) / self.count.sum()
        edges = np.linspace(0.0, self.top, _BINS + 1)
        return float(np.interp(q / 100, np.concatenate([[0.0], share]), edges))

    def wasserstein(self, other: Sums) -> float:
        """Wasserstein-1 distance of the distributions of the magnitude."""
        one = np.cumsum(self.count) / self.count.sum()
        two = np.cumsum(other.count) / other.count.sum()
        return float(np.abs(one - two).sum() * self.top / _BINS)


@dataclass
class Ensemble:
    """What only several realizations have."""

    truth: Truth
    members: int

    def __post_init__(self) -> None:
        shape = len(self.truth), len(self.truth.quantities)
        self.crps, self.variance = np.zeros((2, *shape))
        self.ranks = np.zeros(self.members + 1)

    def add(self, times: np.ndarray, members: np.ndarray, fine: np.ndarray) -> None:
        """Score members (R, T, C, H, W)."""
        x = self.truth.labelled(members, times)
        y = self.truth.labelled(fine, times)
        self.crps[times] = metrics.crps(x, y, dim=_SPACE).values
        self.variance[times] = metrics.spread(x, dim=_SPACE).values ** 2
        self.ranks += len(times) * metrics.rank_histogram(x, y).values

    def spread(self) -> float:
        """Root of the mean variance of the members."""
        return float(np.sqrt(self.variance.mean()))

    def spread_error(self, error: float) -> float | None:
        """Spread over the error of the mean, 1 for an honest ensemble of any size.

        As :func:`xatmo.metrics.spread_error_ratio`: the mean of n members has a share
        1/n of their scatter itself.
        """
        factor = np.sqrt((self.members + 1) / self.members)
        return float(factor * self.spread() / error) if error else None


def ratio_interval(
    above: np.ndarray,
    below: np.ndarray,
    day: np.ndarray,
    *,
    root: bool,
    length: int = 3,
    seed: int = 0,
) -> list[float] | None:
    """95 % interval of a ratio of means, by a bootstrap over moving blocks of days.

    Parameters
    ----------
    above, below : ndarray, shape (T,)
        Errors at each time.
    day : ndarray, shape (T,)
        Which day each time is of.
    root : bool
        Whether the ratio is one of roots of means.
    length : int
        Days of a block: weather of the same days is one case, not many.

    Returns
    -------
    list of two floats, or None
        None with fewer than two blocks.
    """
    names, which = np.unique(day, return_inverse=True)
    count = names.size - length + 1
    if count <= length:
        return None
    sums = np.stack([np.bincount(which, x, names.size) for x in (above, below)])
    # Sums over each block of neighbouring days, then over as many as fill the series.
    moving = np.lib.stride_tricks.sliding_window_view(sums, length, axis=1).sum(-1)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(count, size=(_DRAWS, -(-names.size // length)))
    one, two = moving[:, drawn].sum(axis=2)
    ratio = np.sqrt(one / two) if root else one / two
    low, high = np.quantile(ratio, [0.025, 0.975])
    return [float(low), float(high)]


def _total(da: xr.DataArray, kept: str) -> np.ndarray:
    """Sum over times, mean over places: (C, kept)."""
    places = [d for d in da.dims if d not in ("time", "channel", kept)]
    return np.asarray(da.mean(places).sum("time").transpose("channel", kept).values)
