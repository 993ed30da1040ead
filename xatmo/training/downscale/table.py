"""From sums to the numbers that are told: one table, the same for every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xatmo import metrics
from xatmo.training.downscale.statistics import (
    PERCENTILES,
    Ensemble,
    Sums,
    ratio_interval,
)

__all__ = ["Row", "spectra", "table", "variograms", "verdicts"]

# What a release has to reach, on weeks that it has not seen.
_RMSE_RATIO, _LEAST_POWER = 0.97, 0.5
_CRPS_RATIO, _POWER_RANGE = 0.93, (0.8, 1.2)


@dataclass(frozen=True)
class Row:
    """One method: its sums, or those of an ensemble and of its mean."""

    name: str
    label: str
    sums: Sums | None
    ensemble: Ensemble | None = None
    mean: Sums | None = None


def table(
    rows: Sequence[Row], truth: Sums, ridge: Sums | None
) -> dict[str, dict[str, Any]]:
    """All scores of all methods, in order."""
    return {
        row.name: {"label": row.label, **_scores(row, truth, ridge)} for row in rows
    }


def _scores(row: Row, truth: Sums, ridge: Sums | None) -> dict[str, Any]:
    if row.ensemble is not None and row.mean is not None:
        return _of_ensemble(row.ensemble, row.mean, ridge)
    assert row.sums is not None  # noqa: S101 - a row has one or the other
    return _of_fields(row.sums, truth, ridge)


def _of_fields(s: Sums, truth: Sums, ridge: Sums | None) -> dict[str, Any]:
    mae = float(s.absolute.mean())
    ratio = s.variogram.sum(0) / truth.variogram.sum(0)
    return {
        "rmse": s.rmse(),
        "mae": mae,
        # A single estimate is an ensemble of one: its score is the absolute error.
        "crps": mae,
        "bias": [float(b) for b in s.error.mean(0)],
        **_to_ridge("rmse", s.square, ridge, s, root=True),
        **_to_ridge("crps", s.absolute, ridge, s, root=False),
        **_power(s, truth),
        "semivariogram": [float(r) for r in ratio],
        "wasserstein": s.wasserstein(truth),
        "wasserstein_cities": _at_cities(s, truth),
        "total_variation": float(s.variation.mean() / truth.variation.mean()),
        "percentiles": {
            f"{q:g}": _over(s.percentile(q), truth.percentile(q)) for q in PERCENTILES
        },
        "block_violation": s.violation,
        "by_channel": _by_channel(s, truth),
    }


def _of_ensemble(e: Ensemble, mean: Sums, ridge: Sums | None) -> dict[str, Any]:
    ranks = xr.DataArray(e.ranks / e.ranks.sum(), dims="rank")
    return {
        "crps": float(e.crps.mean()),
        **_to_ridge("crps", e.crps, ridge, mean, root=False),
        "spread": e.spread(),
        "spread_error": e.spread_error(mean.rmse()),
        "rank_histogram": ranks.values.tolist(),
        "rank_flatness": float(metrics.flatness(ranks)),
    }


def _to_ridge(
    name: str, own: np.ndarray, ridge: Sums | None, s: Sums, *, root: bool
) -> dict[str, Any]:
    """The ratio of errors to those of the regression, with its interval."""
    if ridge is None:
        return {f"{name}_ratio": None, f"{name}_ratio_95": None}
    rival = ridge.square if root else ridge.absolute
    one, two = own.mean(1), rival.mean(1)
    ratio = _over(float(one.mean()), float(two.mean()))
    if ratio is not None and root:
        ratio = ratio**0.5
    interval = ratio_interval(one, two, np.floor(s.truth.days), root=root)
    return {f"{name}_ratio": ratio, f"{name}_ratio_95": interval}


def _power(s: Sums, truth: Sums) -> dict[str, float | None]:
    """Power of both bands over that of the truth, all channels together."""
    return _bands(s.power.sum(0), truth.power.sum(0), s)


def _bands(power: np.ndarray, other: np.ndarray, s: Sums) -> dict[str, float | None]:
    # Per fine point, from one wave per row on.
    cycles = np.arange(1, power.size + 1) / s.truth.longitude.size
    nyquist = 0.5 / s.truth.factor
    high = cycles > nyquist
    middle = (cycles > nyquist / 2) & ~high
    return {
        "power_middle": _over(power[middle].sum(), other[middle].sum()),
        "power_high": _over(power[high].sum(), other[high].sum()),
    }


def _by_channel(s: Sums, truth: Sums) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "rmse": float(np.sqrt(s.square[:, i].mean())),
            "mae": float(s.absolute[:, i].mean()),
            "bias": float(s.error[:, i].mean()),
            **_bands(s.power[i], truth.power[i], s),
        }
        for i, name in enumerate(s.truth.quantities)
    }


def _at_cities(s: Sums, truth: Sums) -> float | None:
    """Mean over cities of the Wasserstein-1 distance of their series."""
    if not s.cities:
        return None
    one, two = (
        xr.DataArray(np.concatenate(x.cities), dims=("time", "city"))
        for x in (s, truth)
    )
    return float(metrics.wasserstein(one, two, dim="time").mean())


def spectra(truth: Sums, sums: Mapping[str, Sums]) -> dict[str, Any]:
    """Zonal spectra, all channels together: means over times and rows."""
    size, spacing = truth.truth.longitude.size, truth.truth.store.spacing[1]
    count = len(truth.truth)
    told = {name: s.power.sum(0) for name, s in {"truth": truth, **sums}.items()}
    return {
        "cycles_per_degree": [k / (size * spacing) for k in range(1, size // 2 + 1)],
        "coarse_nyquist": 0.5 / (truth.truth.factor * spacing),
        "power": {n: [_short(v / count) for v in x] for n, x in told.items()},
    }


def variograms(truth: Sums, sums: Mapping[str, Sums]) -> dict[str, Any]:
    """Semivariograms, all channels together."""
    count = len(truth.truth)
    told = {name: s.variogram.sum(0) for name, s in {"truth": truth, **sums}.items()}
    return {
        "lags_km": [_short(lag) for lag in truth.lags_km],
        "value": {n: [_short(v / count) for v in x] for n, x in told.items()},
    }


def verdicts(methods: Mapping[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Whether a model reaches what a release should, on these data."""
    one, whole = methods[name], methods.get(f"{name} ensemble")
    told = [
        _verdict(
            f"RMSE at most {_RMSE_RATIO} of ridge's, at least {_LEAST_POWER} of the "
            "power above the coarse Nyquist wavenumber, in one realization",
            one["rmse_ratio"],
            one["power_high"],
            _RMSE_RATIO,
            (_LEAST_POWER, np.inf),
        )
    ]
    if whole is not None:
        low, high = _POWER_RANGE
        told.append(
            _verdict(
                f"CRPS at most {_CRPS_RATIO} of the MAE of ridge, {low} to {high} of "
                "that power",
                whole["crps_ratio"],
                one["power_high"],
                _CRPS_RATIO,
                _POWER_RANGE,
            )
        )
    return [verdict for verdict in told if verdict]


def _verdict(
    text: str,
    ratio: float | None,
    power: float | None,
    most: float,
    within: tuple[float, float],
) -> dict[str, Any]:
    if ratio is None or power is None:
        return {}
    met = ratio <= most and within[0] <= power <= within[1]
    return {"target": text, "ratio": ratio, "power": power, "met": bool(met)}


def _over(a: float, b: float) -> float | None:
    return float(a / b) if b else None


def _short(value: float) -> float:
    return float(f"{value:.5g}")
