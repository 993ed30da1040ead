"""Scores of fields and of distances, usable without any model.

What is labelled goes in and out: DataArrays or Datasets on the user's own names and
orientation, lazy or not. Nothing here imports torch.
"""

from xatmo.metrics.correlation import anomaly_correlation
from xatmo.metrics.distributions import percentiles, wasserstein
from xatmo.metrics.energy import kinetic_energy_spectrum
from xatmo.metrics.ensembles import (
    crps,
    flatness,
    rank_histogram,
    spread,
    spread_error_ratio,
)
from xatmo.metrics.pairs import by_lag, lag_hours, pairwise_rmse
from xatmo.metrics.places import at_cities, cities
from xatmo.metrics.pointwise import bias, mae, rmse, standard_deviation_ratio
from xatmo.metrics.spectra import (
    gap_spectrum_ratio,
    patch_spectrum,
    power_ratio,
    zonal_spectrum,
)
from xatmo.metrics.structure import semivariogram, total_variation
from xatmo.metrics.uncertain import (
    crps_normal,
    spread_error_curve,
    spread_error_slope,
    spread_ratio,
)

__all__ = [
    "anomaly_correlation",
    "at_cities",
    "bias",
    "by_lag",
    "cities",
    "crps",
    "crps_normal",
    "flatness",
    "gap_spectrum_ratio",
    "kinetic_energy_spectrum",
    "lag_hours",
    "mae",
    "pairwise_rmse",
    "patch_spectrum",
    "percentiles",
    "power_ratio",
    "rank_histogram",
    "rmse",
    "semivariogram",
    "spread",
    "spread_error_curve",
    "spread_error_ratio",
    "spread_error_slope",
    "spread_ratio",
    "standard_deviation_ratio",
    "total_variation",
    "wasserstein",
    "zonal_spectrum",
]
