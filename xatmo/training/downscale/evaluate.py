"""``xatmo evaluate MODEL --data FILE`` for networks that downscale.

The file's fields are the truth, their block means what is downscaled; plain methods are
scored on the same, since a network that does not beat them is of no use. No one number
tells all: a good error may come with a blurred field, a good spectrum with the details
of another day.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xatmo.errors import GridError, OptionError
from xatmo.gridfit import in_range
from xatmo.metrics.common import KM_PER_DEGREE
from xatmo.training.downscale.estimates import (
    LABELS,
    RIDGE,
    Network,
    Plain,
    magnitude,
    survey,
)
from xatmo.training.downscale.statistics import LAGS, Ensemble, Sums
from xatmo.training.downscale.table import Row, spectra, table, variograms, verdicts
from xatmo.training.downscale.truth import Truth
from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import Source
from xatmo.training.source import said
from xatmo.zoo import Card, Model, list_models, load_model

__all__ = ["EXAMPLE", "evaluate"]

_BLOCK_BYTES = 2**26  # of fields that are in memory at a time
_CROP = 64  # fine points on a side of the example
EXAMPLE = "example"  # maps, for the figures alone


def evaluate(
    model: str | Model | Sequence[str | Model],
    data: Source,
    *,
    realizations: int = 8,
    factor: int | None = None,
    folder: str | Path = "runs/evaluate",
    seed: int = 7,
    progress: bool = False,
) -> dict[str, Any]:
    """Score networks that downscale on data, beside plain methods.

    Parameters
    ----------
    model : str or Model, or several of them
        With the capability ``downscale``, of the same inputs. Verdicts are on the
        first.
    data : Source
        A file or store that xarray opens and xatmo reads, at one level: the truth. What
        is downscaled are its block means.
    realizations : int
        Of networks that read noise; of Multiformers so many members, if there are.
    factor : int, optional
        The first model's if not given.
    folder : path
        Prepared data are kept there.
    seed : int
        Of the noise and of the variogram's places.
    progress : bool
        Show a progress bar on the standard error stream.

    Returns
    -------
    dict
        ``methods`` (one table each), ``spectra``, ``semivariograms`` and ``verdicts``,
        ready for JSON, and ``example``: maps around the largest magnitude.

    Raises
    ------
    xatmo.errors.FieldError
        If a model cannot read the data or their block means.
    """
    models = [model] if isinstance(model, str | Model) else list(model)
    found = [load_model(m, capability="downscale") for m in models]
    if realizations < 1:
        raise _no_realizations(realizations)
    cards = [m.card for m in found]
    by = factor or _factor_of(cards[0])
    _check_alike(cards, by)
    able = [quantity for quantity, _ in _read_by(cards[0])]
    quantities = [q for q in able if q in (data.quantities or able)]
    truth = Truth(prepare_source(data, quantities, Path(folder)), by)
    _check_spacing(cards[0], truth)
    networks = [
        Network(truth, m, min(realizations, _most(m.card, realizations)), seed)
        for m in found
    ]
    with tqdm(total=2 * len(truth), unit="time", disable=not progress) as bar:
        scored = _Scored(truth, networks, realizations, seed, bar)
    return {
        **_facts(cards, data, truth, realizations, seed),
        **scored.tables(),
        EXAMPLE: scored.example,
    }


def _factor_of(card: Card) -> int:
    """How many times finer a model makes a grid."""
    assert card.downscale is not None  # noqa: S101 - cards that downscale say it
    return card.downscale.factor


def _read_by(card: Card) -> list[tuple[str, str]]:
    """Quantities that a model reads, and their units."""
    return [(x.quantity, x.units) for x in card.inputs or card.fields]


def _most(card: Card, realizations: int) -> int:
    """How many realizations a model gives: as many as asked for, if it draws them."""
    if card.box is not None:
        return int(card.network.get("members", 16))
    return realizations if card.noise else 1


class _Scored:
    """All methods on one series, in one pass after a survey."""

    def __init__(
        self,
        truth: Truth,
        networks: Sequence[Network],
        realizations: int,
        seed: int,
        bar: Any,
    ) -> None:
        self.truth, self.networks = truth, networks
        count = max(1, _BLOCK_BYTES // (truth.field_bytes * (realizations + 4)))
        seen = survey(truth, count, bar.update)
        self.plain = Plain(truth, seen.ridges)
        km = truth.store.spacing[0] * KM_PER_DEGREE
        lags = tuple(km * lag for lag in LAGS)
        # Twice the largest: what a method makes up beyond that is counted there.
        self._new = lambda: Sums(truth, 2.0 * seen.top or 1.0, lags, seed)
        self.own = self._new()
        self.sums: dict[str, Sums] = defaultdict(self._new)
        self.ensembles: dict[str, Ensemble] = {}
        self._crop = _Crop.around(truth, seen.at)
        self.example: dict[str, Any] = {}
        for times in truth.blocks(count):
            self._block(times)
            bar.update(len(times))

    def _block(self, times: np.ndarray) -> None:
        fine = self.truth.fine(times)
        coarse = self.truth.coarse(fine)
        self.own.add(times, fine, fine)
        shown = {"truth": fine, "coarse": coarse}
        for name, fields in self.plain.estimates(times, coarse):
            self.sums[name].add(times, fields, fine)
            shown[name] = fields
        for network in self.networks:
            for name, fields in self._network(network, times, coarse, fine):
                self.sums[name].add(times, fields, fine)
                shown[name] = fields
        if self._crop.time in times:
            self.example = self._crop.of(shown, times)

    def _network(
        self, network: Network, times: np.ndarray, coarse: np.ndarray, fine: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray]]:
        members = network.estimates(times, coarse)
        yield network.name, members[0]
        if len(members) > 1:
            whole = self.ensembles.setdefault(
                network.name, Ensemble(self.truth, len(members))
            )
            whole.add(times, members, fine)
            yield _mean(network.name), members.mean(axis=0, dtype=np.float32)

    def tables(self) -> dict[str, Any]:
        """Everything that is told, from the sums."""
        rows = self._rows()
        entries = table(rows, self.own, self.sums.get(RIDGE))
        first = self.networks[0].name
        return {
            "methods": entries,
            "verdicts": verdicts(entries, first),
            "spectra": spectra(self.own, self.sums),
            "semivariograms": variograms(self.own, self.sums),
        }

    def _rows(self) -> list[Row]:
        rows = [Row(name, LABELS[name], self.sums[name]) for name in self.plain.names()]
        for network in self.networks:
            name = network.name
            whole = self.ensembles.get(name)
            if whole is None:
                rows.append(Row(name, name, self.sums[name]))
                continue
            mean, n = _mean(name), whole.members
            rows += [
                Row(name, f"{name}, one realization", self.sums[name]),
                Row(mean, f"{name}, mean of {n}", self.sums[mean]),
                Row(f"{name} ensemble", f"{name}, {n} realizations", None, whole,
                    mean=self.sums[mean]),
            ]  # fmt: skip
        return rows


@dataclass(frozen=True)
class _Crop:
    """A window on whole blocks around a point."""

    truth: Truth
    time: int
    rows: slice
    columns: slice

    @classmethod
    def around(cls, truth: Truth, at: tuple[int, int, int]) -> _Crop:
        sizes = truth.latitude.size, truth.longitude.size
        cut = []
        for place, size in zip(at[1:], sizes, strict=True):
            width = min(_CROP, size) // truth.factor * truth.factor
            start = min(max(place - width // 2, 0), size - width)
            start = start // truth.factor * truth.factor
            cut.append(slice(start, start + width))
        return cls(truth, at[0], *cut)

    def of(self, fields: dict[str, np.ndarray], times: np.ndarray) -> dict[str, Any]:
        """The magnitude of each, and where it is."""
        i, f = int(np.flatnonzero(times == self.time)[0]), self.truth.factor
        maps = {}
        for name, values in fields.items():
            step = f if name == "coarse" else 1
            window = [slice(s.start // step, s.stop // step)
                      for s in (self.rows, self.columns)]  # fmt: skip
            size = magnitude(values[i])[tuple(window)]
            maps[name] = [[float(f"{v:.4g}") for v in row] for row in size]
        return {
            "latitude": self.truth.latitude[self.rows].tolist(),
            "longitude": self.truth.longitude[self.columns].tolist(),
            "maps": maps,
        }


def _mean(name: str) -> str:
    return f"{name} mean"


def _facts(
    cards: Sequence[Card], data: Source, truth: Truth, realizations: int, seed: int
) -> dict[str, Any]:
    first, store = cards[0], truth.store
    known = {lv.level for lv in first.levels if lv.trained}
    known |= {lv.level for f in first.fields for lv in f.levels if lv.trained}
    winds = set(truth.quantities) == {"eastward_wind", "northward_wind"}
    return {
        "model": f"{first.name} {first.version}",
        "sha256": first.weights.sha256,
        "against": [f"{c.name} {c.version}" for c in cards[1:]],
        "data": [said(data)],
        "level": store.level,
        "level_trained": store.level in known,
        "factor": truth.factor,
        "spacing": [float(s) for s in store.spacing],
        "points": [truth.latitude.size, truth.longitude.size],
        "global": truth.periodic,
        "times": len(truth),
        "days": int(np.unique(truth.days // 1).size),
        "quantities": list(truth.quantities),
        "units": _read_by(first)[0][1],
        "magnitude": "wind speed" if winds else "length of the vector of all inputs",
        "realizations": max(min(realizations, _most(c, realizations)) for c in cards),
        "seed": seed,
    }


def _check_alike(cards: Sequence[Card], factor: int) -> None:
    """Refuse models of which not all read, or make, the same."""
    first = cards[0]
    for card in cards:
        if _read_by(card) == _read_by(first) and _factor_of(card) == factor:
            continue
        inputs, wanted = (", ".join(q for q, _ in _read_by(c)) for c in (card, first))
        msg = f"{card.name} cannot be scored here."
        raise OptionError(
            msg,
            found=f"{card.name}: {inputs}, {_factor_of(card)} times finer",
            needed=f"{wanted}, {factor} times finer",
            hint=f"xatmo evaluate {card.name} on its own",
        )


def _check_spacing(card: Card, truth: Truth) -> None:
    """Refuse data whose block means are on no grid that the model reads."""
    fine, coarse = card.grid.spacing
    own, by = truth.store.spacing, truth.factor
    if _reads(card, truth):
        return
    blocks = [n for n in range(2, 17) if _reads(card, truth, n)]
    others = [
        other.name
        for other in list_models("downscale")
        if _read_by(other) == _read_by(card) and _reads(other, truth)
    ]
    hint = f"xatmo evaluate {others[0]}" if others else "xatmo models list"
    if blocks:
        hint = f"coarsen={blocks[0]}"
    msg = f"{card.name} does not read the block means of {truth.store.name}."
    raise GridError(
        msg,
        found=f"a grid of {own[0]:g} x {own[1]:g}°, whose means of {by} x {by} points "
        f"are {own[0] * by:g}° apart",
        needed=f"block means {fine:g} to {coarse:g}° apart: data on a grid of "
        f"{fine / by:.2g} to {coarse / by:.2g}°",
        hint=hint,
    )


def _reads(card: Card, truth: Truth, coarsen: int = 1) -> bool:
    """Whether a model reads the block means, of data that are coarsened before."""
    by = truth.factor * coarsen
    return in_range([step * by for step in truth.store.spacing], card)


def _no_realizations(count: int) -> OptionError:
    msg = f"There cannot be {count} realizations."
    return OptionError(
        msg, found=f"realizations={count}", needed="at least one", hint="realizations=8"
    )
