"""Means and standard deviations of each level of each field, of training data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from xatmo.training.recipe import SlottedField, Source
from xatmo.training.sampling import FieldStore

__all__ = ["Constants", "fit_constants", "table_of"]

Constants: TypeAlias = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]
"""(field, level) -> mean and standard deviation (12,), one for each calendar month."""

_MONTHS = 12


def fit_constants(
    fields: Sequence[SlottedField],
    sources: Sequence[Source],
    stores: Sequence[FieldStore],
    *,
    monthly: bool = False,
) -> Constants:
    """Measure the constants: those of the first grid that a level comes on.

    All points and times count alike. With ``monthly`` a month that no data are of
    gets the constants of all data.
    """
    found: Constants = {}
    for field in fields:
        for level in (name for names in field.slots for name in names):
            here = [
                i
                for i, store in enumerate(stores)
                if store.level == level and field.quantity in store.quantities
            ]
            if not here:
                continue
            grid = sources[here[0]].coarsen, sources[here[0]].spacing
            same = [
                stores[i]
                for i in here
                if (sources[i].coarsen, sources[i].spacing) == grid
            ]
            found[field.name, level] = _measured(field.quantity, same, monthly)
    return found


def table_of(constants: Constants) -> dict[str, dict[str, Any]]:
    """Return the constants as ``run.json`` keeps them: once if months are alike."""
    return {
        f"{field}, {level}": {
            "trained": True,
            "mean": short(mean),
            "std": short(std),
        }
        for (field, level), (mean, std) in constants.items()
    }


def short(values: np.ndarray) -> list[float]:
    """One number, if all months have the same."""
    numbers = [float(f"{v:.7g}") for v in values]
    return numbers[:1] if len(set(numbers)) == 1 else numbers


def _measured(
    quantity: str, stores: Sequence[FieldStore], monthly: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (12,)."""
    sums = np.zeros((_MONTHS, 3))  # count, sum, sum of squares
    shift = None
    for store in stores:
        with xr.open_zarr(store.path, chunks=None, consolidated=False) as ds:
            at = store.quantities.index(quantity)
            for number, month in enumerate(store.months):
                x = ds["fields"][number, at].values.astype(float)
                x = x[np.isfinite(x)]
                shift = float(x.mean()) if shift is None and x.size else shift
                x = x - (shift or 0.0)  # no difference of two large numbers
                sums[int(month) - 1] += [x.size, x.sum(), np.square(x).sum()]
    total = np.broadcast_to(sums.sum(0), sums.shape)
    if monthly:
        total = np.where(sums[:, :1] > 0, sums, total)
    count, first, second = total.T
    mean = first / count
    std = np.sqrt(second / count - np.square(mean))
    # As a card will have them: training and inference read the same numbers.
    return _rounded(mean + (shift or 0.0)), _rounded(std)


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.array([float(f"{v:.7g}") for v in values])
