"""How well lags are named: all pairs, and by lag, season and latitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xatmo.metrics.ordering import block_bootstrap

__all__ = ["BAND_EDGES", "SEASONS", "Answers", "classification"]

SEASONS = ("DJF", "MAM", "JJA", "SON")
BAND_EDGES = (-90, -60, -40, -20, 20, 40, 60, 90)
"""Degrees north; a patch belongs to the band that its centre lies in."""


@dataclass(frozen=True)
class Answers:
    """What the network said of each pair.

    Parameters
    ----------
    probability : ndarray, shape (n, classes)
    label, block, month : ndarray of int, shape (n,)
        True class; three days of weather; month of the first state.
    latitude : ndarray, shape (n,)
        Of the patch's centre.
    """

    probability: np.ndarray
    label: np.ndarray
    block: np.ndarray
    month: np.ndarray
    latitude: np.ndarray

    def only(self, members: np.ndarray) -> Answers:
        """Return some of the pairs."""
        values = (getattr(self, f) for f in self.__dataclass_fields__)
        return Answers(*(v[members] for v in values))


def classification(answers: Answers, lags_hours: list[int]) -> dict[str, Any]:
    """Score the naming of lags.

    Parameters
    ----------
    answers : Answers
    lags_hours : list of int
        The lags of the network's classes.

    Returns
    -------
    dict
        Scores of all pairs with the confusion matrix (rows are the true lags), and the
        same ``by_lag`` (a list), ``by_season`` (of the first state's month, wherever on
        the globe) and ``by_band``; groups without pairs are left out.
    """
    n = len(lags_hours)
    season = answers.month % 12 // 3
    band = np.searchsorted(BAND_EDGES, answers.latitude, side="right") - 1
    return {
        "lags_hours": lags_hours,
        **_scores(answers),
        "accuracy_chance": 1 / n,
        "top3_chance": min(3, n) / n,
        "within_one_class_chance": (3 * n - 2) / n**2,
        "cross_entropy_chance": float(np.log(n)),
        "confusion": _confusion(answers),
        "by_lag": [
            {"lag_hours": lag, **_scores(answers.only(answers.label == i))}
            for i, lag in enumerate(lags_hours)
            if (answers.label == i).any()
        ],
        "by_season": {
            name: _group(answers.only(season == i))
            for i, name in enumerate(SEASONS)
            if (season == i).any()
        },
        "by_band": {
            _band_name(i): {
                "latitude": list(BAND_EDGES[i : i + 2]),
                **_group(answers.only(band == i)),
            }
            for i in reversed(range(len(BAND_EDGES) - 1))
            if (band == i).any()
        },
    }


def _group(answers: Answers) -> dict[str, Any]:
    return {**_scores(answers), "confusion": _confusion(answers)}


def _scores(answers: Answers) -> dict[str, Any]:
    p, label = answers.probability, answers.label
    guess = p.argmax(1)
    own = p[np.arange(len(p)), label]
    # As many classes are likelier than the true one, so many guesses come before it.
    place = (p > own[:, None]).sum(1)
    low, high = block_bootstrap(guess == label, answers.block)
    return {
        "pairs": len(p),
        "blocks": int(np.unique(answers.block).size),
        "accuracy": float((guess == label).mean()),
        "accuracy_95": [low, high],
        "within_one_class": float((np.abs(guess - label) <= 1).mean()),
        "top3": float((place < 3).mean()),
        "cross_entropy": float(-np.log(np.maximum(own, 1e-12)).mean()),
    }


def _confusion(answers: Answers) -> list[list[int]]:
    n = answers.probability.shape[1]
    table = np.zeros((n, n), int)
    np.add.at(table, (answers.label, answers.probability.argmax(1)), 1)
    return table.tolist()


def _band_name(i: int) -> str:
    low, high = BAND_EDGES[i : i + 2]
    if low < 0 < high:
        return f"{-low}S-{high}N"
    south = high <= 0
    near, far = sorted((abs(low), abs(high)))
    return f"{near}-{far}{'S' if south else 'N'}"
