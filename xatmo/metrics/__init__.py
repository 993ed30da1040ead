"""Scores of fields and of distances, usable without any model."""

from xatmo.metrics.pairs import by_lag, lag_hours, pairwise_rmse

__all__ = ["by_lag", "lag_hours", "pairwise_rmse"]
