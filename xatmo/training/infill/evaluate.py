"""``xatmo evaluate MODEL --data FILE`` for networks that fill gaps.

Gaps of every family are cut into fields that have none, and every method fills the same
ones. Families are never pooled: what is easy between single cells that are missing is
hard in a hole. Every field is filled twice: as part of its series, and alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xatmo.errors import OptionError, TimeAxisError
from xatmo.methods.series import Filled
from xatmo.testing.gaps import FAMILIES, gap_mask
from xatmo.training.infill.estimates import LABELS, Method, joined, network, plain
from xatmo.training.infill.scores import curve, hole_spectra, rmse_of, score
from xatmo.training.infill.truth import Truth, read_truths
from xatmo.training.recipe import Source
from xatmo.training.source import said
from xatmo.zoo import Model, load_model

__all__ = ["EXAMPLE", "SERIES", "SINGLE", "evaluate"]

EXAMPLE = "example"  # maps, for the figures alone
SERIES, SINGLE = "series", "single"
# Scored by default: points of all times of a family together, and times at most.
_POINTS = 3 * 2**16
_TIMES = {SERIES: 96, SINGLE: 16}
_WHOLE_TIMES = "missing_times"
_HOLE = "centre_hole"


def evaluate(
    model: str | Model | Sequence[str | Model],
    data: Source,
    *,
    methods: Sequence[str] | None = None,
    families: Sequence[str] = FAMILIES,
    times: int | None = None,
    folder: str | Path = "runs/evaluate",
    seed: int = 7,
    progress: bool = False,
) -> dict[str, Any]:
    """Score networks that fill gaps on data, beside plain methods.

    Parameters
    ----------
    model : str or Model, or several of them
        With the capability ``infill``. Verdicts are on the first.
    data : Source
        A file or store that xarray opens and xatmo reads: the truth.
    methods : sequence of str, optional
        Plain ones; all of them if not given.
    families : sequence of str
        Of gaps.
    times : int, optional
        How many are scored; by default as many as hold 196608 points, 96 at most, or
        16 where each is filled alone.
    folder : path
        Prepared data are kept there.
    seed : int
        Of the gaps and of the choice of times.
    progress : bool
        Show a progress bar on the standard error stream.

    Returns
    -------
    dict
        ``tables``, one for each quantity in its series and alone, ready for JSON, and
        ``example``: maps.

    Raises
    ------
    xatmo.errors.FieldError
        If the data cannot be read.
    xatmo.errors.MissingDependencyError
        If a plain method needs a package that is not installed.
    """
    if times is not None and times < 1:
        raise _no_times(times)
    models = [model] if isinstance(model, str | Model) else list(model)
    found = [load_model(m, capability="infill") for m in models]
    names = LABELS if methods is None else methods
    every = [*map(plain, names), *map(network, found)]
    truths = read_truths(data, Path(folder))
    parts = [(t, kind) for t in truths for kind in _kinds(t)]
    tables, examples = [], []
    total = len(parts) * len(families) * len(every)
    with tqdm(total=total, unit="fill", disable=not progress) as bar:
        for truth, kind in parts:
            scored = _Scored(truth, kind, every, times, seed, bar)
            tables.append(scored.table(families))
            examples.append(scored.example)
    cards = [m.card for m in found]
    first = cards[0]
    return {
        "model": f"{first.name} {first.version}",
        "sha256": first.weights.sha256,
        "against": [f"{card.name} {card.version}" for card in cards[1:]],
        "data": [said(data)],
        "labels": {m.name: m.label for m in every},
        "seed": seed,
        "tables": tables,
        EXAMPLE: examples[0],
    }


class _Scored:
    """All methods on one quantity, in its series or time by time."""

    def __init__(
        self,
        truth: Truth,
        kind: str,
        methods: Sequence[Method],
        times: int | None,
        seed: int,
        bar: Any,
    ) -> None:
        self.truth, self.kind, self.seed, self.bar = truth, kind, seed, bar
        self.methods = [m for m in methods if m.alone or kind == SERIES]
        self.left_out = len(methods) - len(self.methods)
        most = max(1, min(_POINTS // truth.values[0].size, _TIMES[kind]))
        self.count = min(times or most, len(truth.values))
        self.spectra: dict[str, Any] = {}
        self.example: dict[str, Any] = {}

    def table(self, families: Sequence[str]) -> dict[str, Any]:
        """Scores of every family of gaps."""
        truth = self.truth
        told = {}
        for family in families:
            if self.kind == SERIES:
                told[family] = self._series(family)
            elif family != _WHOLE_TIMES:
                told[family] = self._alone(family)
            self.bar.update(self.left_out)
        return {
            "kind": self.kind,
            "quantity": truth.quantity,
            "level": truth.level,
            "units": truth.units,
            "points": [truth.latitude.size, truth.longitude.size],
            "spacing": [float(s) for s in truth.spacing],
            "global": truth.periodic,
            "times": len(truth.values),
            "held": truth.held,
            "scored": self.count,
            "families": told,
            "spectra": self.spectra,
        }

    def _series(self, family: str) -> dict[str, dict[str, Any]]:
        """Fill gaps in the whole series, score some of its times."""
        truth = self.truth
        gaps = gap_mask(family, truth.values.shape, self.seed)
        values = np.where(gaps, np.nan, truth.values)
        times = self._some(np.flatnonzero(gaps.any(axis=(1, 2))))
        every = np.arange(len(values))
        found, whole = {}, {}
        for method in self.methods:
            try:
                filled = method.fill(truth, values, times if method.dear else every)
            except TimeAxisError:  # too few of them for the method
                self.bar.update()
                continue
            if not method.dear:
                whole[method.name] = rmse_of(truth, filled, gaps)
                filled = _at(filled, times)
            found[method.name] = filled
            self.bar.update()
        table = self._told(family, truth.at(times), found, gaps[times])
        for name, error in whole.items():
            if "rmse" in table[name] and times.size < every.size:
                table[name]["rmse_all_times"] = error
        return table

    def _alone(self, family: str) -> dict[str, dict[str, Any]]:
        """Fill some times, each without knowing of the others."""
        times = self._some(np.arange(len(self.truth.values)))
        truth = self.truth.at(times)
        shape = (1, *truth.values.shape[1:])
        rngs = (np.random.default_rng([self.seed, t]) for t in times)
        gaps = np.concatenate([gap_mask(family, shape, rng=rng) for rng in rngs])
        values = np.where(gaps, np.nan, truth.values)
        only = np.zeros(1, int)
        found = {}
        for method in self.methods:
            parts = [
                method.fill(truth.at([i]), values[i : i + 1], only)
                for i in range(len(times))
            ]
            found[method.name] = joined(parts)
            self.bar.update()
        return self._told(family, truth, found, gaps)

    def _told(
        self,
        family: str,
        truth: Truth,
        found: dict[str, Filled],
        gaps: np.ndarray,
    ) -> dict[str, dict[str, Any]]:
        table = score(truth, found, gaps)
        for name, filled in found.items():
            if "slope" in table[name]:
                table[name]["curve"] = curve(truth, filled, gaps)
        if family == _HOLE:
            self.spectra = hole_spectra(truth, found, gaps[0])
        self.example[family] = _example(truth, found, gaps)
        return table

    def _some(self, able: np.ndarray) -> np.ndarray:
        """Choose times: one of each of so many equal stretches, at any hour."""
        if able.size <= self.count:
            return able
        rng = np.random.default_rng(self.seed)
        place = (np.arange(self.count) + rng.random(self.count)) / self.count
        return able[(place * able.size).astype(int)]


def _kinds(truth: Truth) -> tuple[str, ...]:
    return (SERIES, SINGLE) if len(truth.values) > 1 else (SINGLE,)


def _at(filled: Filled, times: np.ndarray) -> Filled:
    spread = None if filled.spread is None else filled.spread[times]
    return Filled(filled.values[times], spread)


def _example(
    truth: Truth, found: dict[str, Filled], gaps: np.ndarray
) -> dict[str, Any]:
    """Maps at the time of which as much is missing as of most."""
    share = gaps.mean(axis=(1, 2))
    time = int(np.argmin(np.abs(share - np.median(share))))
    return {
        "latitude": truth.latitude,
        "longitude": truth.longitude,
        "truth": truth.values[time],
        "gaps": gaps[time],
        "filled": {name: f.values[time] for name, f in found.items()},
        "spread": {n: f.spread[time] for n, f in found.items() if f.spread is not None},
    }


def _no_times(times: int) -> OptionError:
    msg = f"There cannot be {times} times to score."
    return OptionError(msg, found=f"times={times}", needed="at least 1", hint="times=8")
