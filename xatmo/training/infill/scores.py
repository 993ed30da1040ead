"""Numbers that tell how well gaps were filled: the same for every method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xatmo import metrics
from xatmo.methods.series import Filled
from xatmo.training.infill.truth import Truth

__all__ = ["curve", "hole_spectra", "rmse_of", "score"]

_BINS = 10
_MOST_UNFILLED = 0.1
_LEAST_HOLE = 8  # points on a side, for a spectrum to say anything


def score(
    truth: Truth, found: Mapping[str, Filled], gaps: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Score methods on the cells (n, h, w) in gaps that all of them have filled.

    A method that leaves more than a tenth of them unfilled is not scored, and takes no
    cells from the others.
    """
    filled = {name: gaps & np.isfinite(f.values) for name, f in found.items()}
    unfilled = {name: 1 - there.sum() / gaps.sum() for name, there in filled.items()}
    shared = gaps.copy()
    for name, there in filled.items():
        if unfilled[name] <= _MOST_UNFILLED:
            shared &= there
    return {
        name: {
            "unfilled": float(unfilled[name]),
            **(_scores(truth, f, shared) if unfilled[name] <= _MOST_UNFILLED else {}),
        }
        for name, f in found.items()
    }


def _scores(truth: Truth, found: Filled, cells: np.ndarray) -> dict[str, Any]:
    estimate, true = truth.labelled(found.values), truth.labelled(truth.values)
    inside = true.where(cells)
    power = metrics.gap_spectrum_ratio(estimate, true, inside.notnull())
    told = {
        "rmse": metrics.rmse(estimate, inside),
        "std_ratio": metrics.standard_deviation_ratio(estimate, inside),
        "power_small": power.sel(band="small"),
        "power_total": power.sel(band="total"),
        # Without a spread it is an ensemble of one: its score is the absolute error.
        "crps": metrics.mae(estimate, inside),
    }
    if found.spread is not None and np.isfinite(found.spread[cells]).all():
        spread = truth.labelled(found.spread)
        told |= {
            "crps": metrics.crps_normal(estimate, spread, inside),
            "slope": metrics.spread_error_slope(estimate, spread, inside),
            "spread_ratio": metrics.spread_ratio(estimate, spread, inside),
        }
    return {key: _number(value) for key, value in told.items()}


def rmse_of(truth: Truth, found: Filled, gaps: np.ndarray) -> float | None:
    """Error in the gaps that a method has filled."""
    inside = truth.labelled(truth.values).where(gaps)
    return _number(metrics.rmse(truth.labelled(found.values), inside))


def curve(truth: Truth, found: Filled, gaps: np.ndarray) -> dict[str, list[float]]:
    """Spread and error in bins of the spread, for a figure; empty without a spread."""
    if found.spread is None:
        return {}
    inside = truth.labelled(truth.values).where(gaps)
    mean, spread = truth.labelled(found.values), truth.labelled(found.spread)
    told = metrics.spread_error_curve(mean, spread, inside, bins=_BINS)
    if not np.isfinite(told).all():
        return {}
    return {of: _listed(told.sel(of=of)) for of in ("spread", "error")}


def hole_spectra(
    truth: Truth, found: Mapping[str, Filled], hole: np.ndarray
) -> dict[str, Any]:
    """Zonal spectra inside a rectangle (h, w), the same at all times."""
    rows, columns = (np.flatnonzero(hole.any(axis)) for axis in (1, 0))
    if min(rows.size, columns.size) < _LEAST_HOLE:
        return {}
    fields = {"truth": truth.values, **{n: f.values for n, f in found.items()}}
    power = {}
    for name, values in fields.items():
        cut = truth.labelled(values).isel(latitude=rows, longitude=columns)
        if cut.notnull().all():
            spectrum = metrics.zonal_spectrum(cut, ["time", "latitude"])
            power[name] = _listed(spectrum)
    return {"cycles_per_degree": _listed(spectrum["wavenumber"]), "power": power}


def _number(value: Any) -> float | None:
    found = float(value)
    return found if np.isfinite(found) else None


def _listed(values: Any) -> list[float]:
    return [float(f"{v:.5g}") for v in np.asarray(values)]
