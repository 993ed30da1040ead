"""What every method makes of the same coarse fields, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xatmo.blocks import with_means
from xatmo.methods.arrays import gram, predict, solve, upsample
from xatmo.methods.downscaling import METHODS
from xatmo.training.downscale.truth import Truth
from xatmo.zoo import Model

__all__ = [
    "CONTROL",
    "LABELS",
    "RIDGE",
    "Network",
    "Plain",
    "Survey",
    "magnitude",
    "survey",
]

RIDGE, CONTROL = "ridge", "another_day"
_CONSERVED = "bicubic_conserve"
LABELS = {
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    _CONSERVED: "bicubic, block means kept",
    RIDGE: "ridge 5 x 5",
    CONTROL: "control: another day's residual",
}
_WINDOW, _PENALTY = 5, 1e-6
_SECOND = 1 / 86400  # in days


@dataclass(frozen=True)
class Survey:
    """What has to be known of a series before it is scored.

    Parameters
    ----------
    ridges : list of ndarray or None
        A regression fitted to each half of the series. Every time is estimated by that
        of the other half: a strong rival, since it knows the region and other weeks of
        the very same data. None if there are no two halves.
    top : float
        The largest magnitude.
    at : tuple of int
        Time, row and column of it.
    """

    ridges: list[np.ndarray] | None
    top: float
    at: tuple[int, int, int]


def survey(truth: Truth, count: int, done: Callable[[int], Any]) -> Survey:
    """Read a series once, ``count`` times at a time."""
    half = len(truth) // 2
    sums: list[Any] = [0.0, 0.0]
    top, at = -1.0, (0, 0, 0)
    for times in truth.blocks(count):
        fine = truth.fine(times)
        coarse = truth.coarse(fine)
        for which in (0, 1):
            own = (times >= half) == which
            if own.any():
                sums[which] = sums[which] + _gram(truth, coarse[own], fine[own])
        size = magnitude(fine)
        t, row, column = map(int, np.unravel_index(size.argmax(), size.shape))
        if size[t, row, column] > top:
            top, at = float(size[t, row, column]), (int(times[t]), row, column)
        done(len(times))
    ridges = [solve(total, _PENALTY) for total in sums] if half else None
    return Survey(ridges, top, at)


def _gram(truth: Truth, coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    return gram(coarse, fine, truth.factor, _WINDOW, periodic=truth.periodic)


def magnitude(fields: np.ndarray) -> np.ndarray:
    """Length of the vector of all channels: (..., C, H, W) -> (..., H, W)."""
    return np.asarray(np.sqrt(np.square(fields).sum(axis=-3)))


@dataclass(frozen=True)
class Plain:
    """The plain methods on one series."""

    truth: Truth
    ridges: Sequence[np.ndarray] | None

    def names(self) -> list[str]:
        """The methods that this series allows."""
        names = [*METHODS, _CONSERVED]
        names += [RIDGE] if self.ridges else []
        return names + ([CONTROL] if len(self.truth) > 1 else [])

    def estimates(
        self, times: np.ndarray, coarse: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Fine fields (T, C, H, W) by every method."""
        t = self.truth
        for method in METHODS:
            fine = upsample(coarse, t.factor, method, periodic=t.periodic)
            yield method, fine
        # The last of them was bicubic.
        kept = with_means(fine, coarse, t.factor)
        yield _CONSERVED, kept
        if self.ridges:
            yield RIDGE, self._ridge(times, coarse)
        if len(t) > 1:
            yield CONTROL, kept + self._residual(t.another_day[times])

    def _ridge(self, times: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        assert self.ridges is not None  # noqa: S101 - asked for only if there are any
        t = self.truth
        # Each half is estimated by what was learned from the other.
        first = times < len(t) // 2
        parts = [
            predict(x[None], self.ridges[int(own)], t.factor, periodic=t.periodic)
            for x, own in zip(coarse, first, strict=True)
        ]
        return np.concatenate(parts)

    def _residual(self, times: np.ndarray) -> np.ndarray:
        t = self.truth
        fine = t.fine(times)
        coarse = t.coarse(fine)
        below = upsample(coarse, t.factor, "bicubic", periodic=t.periodic)
        return fine - with_means(below, coarse, t.factor)


@dataclass(frozen=True)
class Network:
    """A model on one series, through the verb that people call."""

    truth: Truth
    model: Model
    realizations: int
    seed: int

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.card.name

    def estimates(self, times: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """Fine fields (realization, T, C, H, W)."""
        from xatmo.downscaling import downscale

        before = self._before(times)
        if before.size:
            earlier = self.truth.coarse(self.truth.fine(before))
            coarse = np.concatenate([earlier, coarse])
        found = downscale(
            self.truth.coarse_dataset(coarse, np.concatenate([before, times])),
            model=self.model,
            factor=self.truth.factor,
            realizations=self.realizations,
            conserve=True,
            seed=self.seed,
            level=self.truth.store.level,
        )
        parts = [_ordered(found[name]) for name in self.truth.quantities]
        return np.stack(parts, axis=2)[:, before.size :]

    def _before(self, times: np.ndarray) -> np.ndarray:
        """Positions of the times before a block that the model looks back to."""
        card, days = self.model.card, self.truth.days
        if card.box is None:
            return times[:0]
        field = card.network["fields"][0]
        steps = field["tokens"][0] * field["token_size"][0] - 1
        back = steps * (pd.Timedelta(card.box.step) / pd.Timedelta("1D"))
        first = int(times[0])
        start = int(np.searchsorted(days, days[first] - back - _SECOND))
        return np.arange(start, first)


def _ordered(da: xr.DataArray) -> np.ndarray:
    if "realization" not in da.dims:
        da = da.expand_dims("realization")
    values: np.ndarray = da.transpose(
        "realization", "time", "latitude", "longitude"
    ).values
    return values
