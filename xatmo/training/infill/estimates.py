"""What every method makes of the same gaps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from xatmo.climatology import climatology
from xatmo.errors import ExtrapolationWarning
from xatmo.methods.gaps import fill
from xatmo.methods.series import Filled
from xatmo.training.infill.truth import Truth
from xatmo.zoo import Model

__all__ = ["LABELS", "Method", "joined", "network", "plain"]

_ANOMALY = "_anomaly"
LABELS = {
    "climatology": "climatology of the cell",
    "nearest": "nearest",
    "interpolate": "`interpolate_na`",
    "biharmonic": "biharmonic",
    f"biharmonic{_ANOMALY}": "biharmonic, of the anomaly",
    "kriging": "kriging",
    f"kriging{_ANOMALY}": "kriging, of the anomaly",
    "dineof": "DINEOF",
}
_MAP_BY_MAP = ("biharmonic", "kriging")
_OF_SERIES = ("climatology", "dineof", *(f"{name}{_ANOMALY}" for name in _MAP_BY_MAP))
_TOGETHER = 7  # maps that share a variogram; of more, a climatology would be taken off


@dataclass(frozen=True)
class Method:
    """A way to fill gaps.

    Attributes
    ----------
    name, label : str
    fill : callable
        Takes the truth, its values with gaps (T, h, w) and the times that are wanted;
        returns those times filled.
    dear : bool
        Whether every time that is wanted costs much.
    alone : bool
        Whether it can fill a time without any other.
    """

    name: str
    label: str
    fill: Callable[[Truth, np.ndarray, np.ndarray], Filled]
    dear: bool = False
    alone: bool = True


def plain(name: str) -> Method:
    """Return a plain method, of ``LABELS``."""
    dear = name.removesuffix(_ANOMALY) in _MAP_BY_MAP
    filled = _maps if dear else _series

    def run(truth: Truth, values: np.ndarray, times: np.ndarray) -> Filled:
        return filled(name, truth, values, times)

    return Method(name, LABELS[name], run, dear, alone=name not in _OF_SERIES)


def _series(name: str, truth: Truth, values: np.ndarray, times: np.ndarray) -> Filled:
    axes = truth.latitude, truth.longitude, truth.hours
    found = fill(name, values, *axes, periodic=truth.periodic)
    spread = None if found.spread is None else found.spread[times]
    return Filled(found.values[times], spread)


def _maps(name: str, truth: Truth, values: np.ndarray, times: np.ndarray) -> Filled:
    """Fill some maps, as they are or as anomalies from the climatology of the series.

    With few times, what is not known of the climatology is more than it is worth.
    """
    maps, axes = values[times], (truth.latitude, truth.longitude)
    anomaly = name.endswith(_ANOMALY)
    below = _climatology(truth, values, times) if anomaly else np.zeros_like(maps)
    parts = [
        fill(name.removesuffix(_ANOMALY), left, *axes, periodic=truth.periodic)
        for left in np.array_split(maps - below, -(-len(times) // _TOGETHER))
    ]
    found = joined(parts)
    return Filled(found.values + below, found.spread)


def _climatology(truth: Truth, values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """What the verb takes series relative to, at some times."""
    found, phase = climatology(values, truth.hours, periodic=truth.periodic)
    return found.at(phase[times])


def joined(parts: Sequence[Filled]) -> Filled:
    """Put times behind each other."""
    values = np.concatenate([p.values for p in parts])
    told = [p.spread for p in parts if p.spread is not None]
    return Filled(values, np.concatenate(told) if len(told) == len(parts) else None)


def network(model: Model) -> Method:
    """Return a model, through the verb that people call."""

    def run(truth: Truth, values: np.ndarray, times: np.ndarray) -> Filled:
        from xatmo.infilling import infill

        gappy = truth.labelled(values).to_dataset()
        with warnings.catch_warnings():
            # Which data these are is what the scores are for.
            warnings.simplefilter("ignore", ExtrapolationWarning)
            found = infill(gappy, method="network", model=model)
        name = truth.quantity
        mean, spread = (found[n].isel(time=times) for n in (name, f"{name}_spread"))
        return Filled(mean.values, spread.values)

    name = model.card.name
    return Method(name, name, run)
