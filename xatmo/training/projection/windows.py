"""Windows of years: forcings in, the map of the last year out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xatmo.errors import TimeAxisError
from xatmo.training.projection.files import Series, read_scenario
from xatmo.training.projection.recipe import ProjectionRecipe

__all__ = [
    "Batch",
    "WindowSampler",
    "Windowed",
    "constants_of",
    "read_test",
    "read_training",
]

Constants = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Windowed:
    """Some windows of some series.

    Parameters
    ----------
    series : tuple of Series
    ends : ndarray of int, shape (n, 2)
        Which series, and the index of the last year there.
    length : int
        Years of a window.
    """

    series: tuple[Series, ...]
    ends: np.ndarray
    length: int

    def __len__(self) -> int:
        return len(self.ends)

    def forcings(self, index: int) -> np.ndarray:
        """Return what is read: (T, V, H, W)."""
        which, end = self.ends[index]
        return self.series[which].forcings[end + 1 - self.length : end + 1]

    def targets(self) -> np.ndarray:
        """Return all maps that are to be projected: (n, H, W)."""
        return np.stack([self.series[which].target[end] for which, end in self.ends])

    def last(self, variable: int) -> np.ndarray:
        """Return the global mean of a forcing in the last years, as a plain mean: (n,).

        Of a forcing that is one number for each year, it is that number.
        """
        means = [one.forcings[:, variable].mean((1, 2)) for one in self.series]
        return np.array([means[which][end] for which, end in self.ends])

    def some(self, indices: np.ndarray) -> Windowed:
        """Return these windows alone."""
        return Windowed(self.series, self.ends[indices], self.length)


def read_training(
    recipe: ProjectionRecipe, folder: Path
) -> tuple[Windowed, Windowed | None]:
    """Read the scenarios that are trained on: windows, and those held out.

    Raises
    ------
    xatmo.errors.AtmoError
        As :func:`xatmo.training.projection.files.read_scenario`, and if there is no
        window.
    """
    s = recipe.sampling
    series = [_read(recipe, folder, scenario) for scenario in s.scenarios]
    whole = _windowed(series, s.years)
    generator = np.random.default_rng([recipe.optimizer.seed, 1])
    order = generator.permutation(len(whole))
    held = round(s.validation * len(whole))
    train = whole.some(np.sort(order[held:]))
    return train, whole.some(np.sort(order[:held])) if held else None


def read_test(recipe: ProjectionRecipe, folder: Path) -> Windowed:
    """Read the last years of the scenario that is scored on."""
    s = recipe.sampling
    windows = _windowed([_read(recipe, folder, s.test)], s.years)
    return windows.some(np.arange(len(windows))[-s.test_years :])


def constants_of(windows: Windowed, variables: Sequence[str]) -> Constants:
    """Measure mean and standard deviation of each forcing over all windows.

    As published: over all windows, years and cells, without weights by area.
    """
    counts = [np.zeros(len(one.years)) for one in windows.series]
    for which, end in windows.ends:
        counts[which][end + 1 - windows.length : end + 1] += 1
    table: Constants = {}
    for number, name in enumerate(variables):
        fields = [one.forcings[:, number].astype(np.float64) for one in windows.series]
        mean = _mean(fields, counts)
        variance = _mean([(field - mean) ** 2 for field in fields], counts)
        std = float(np.sqrt(variance)) or 1.0  # what never changes says nothing
        table[name] = {"trained": True, "mean": [float(mean)], "std": [std]}
    return table


@dataclass(frozen=True)
class Batch:
    """Normalised forcings (B, T, V, H, W), and maps (B, 1, H, W) in their units."""

    forcings: np.ndarray
    target: np.ndarray


class WindowSampler:
    """Draws numbered batches: all windows in turn, each pass in an order of its own.

    Parameters
    ----------
    windows : Windowed
    constants : dict
        Of each forcing, in the order of the network.
    seed : int
    plain : bool
        Always in the same order.
    """

    def __init__(
        self, windows: Windowed, constants: Constants, seed: int, plain: bool = False
    ) -> None:
        self.windows, self.seed, self.plain = windows, seed, plain
        mean, std = (
            np.array([each[key][0] for each in constants.values()], np.float32)
            for key in ("mean", "std")
        )
        self._mean, self._std = (x[:, None, None] for x in (mean, std))  # (V, 1, 1)
        self._targets = windows.targets()

    def batch(self, number: int, size: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """Return part ``(i, n)`` of a batch."""
        turns = range(number * size, (number + 1) * size)[part[0] :: part[1]]
        return self.of([self._index(turn) for turn in turns])

    def of(self, indices: Sequence[int]) -> Batch:
        """Return some windows."""
        forcings = np.stack([self.windows.forcings(index) for index in indices])
        target = self._targets[list(indices)][:, None]
        return Batch((forcings - self._mean) / self._std, target)

    def _index(self, turn: int) -> int:
        count = len(self.windows)
        turn, place = divmod(turn, count)
        if self.plain:
            return place
        generator = np.random.default_rng([self.seed, 2, turn])
        return int(generator.permutation(count)[place])


def _read(recipe: ProjectionRecipe, folder: Path, scenario: str) -> Series:
    names = recipe.variables, recipe.sampling.target
    return read_scenario(folder, scenario, *names, recipe.places)


def _windowed(series: Sequence[Series], length: int) -> Windowed:
    ends = [(i, end) for i, one in enumerate(series) for end in one.ends(length)]
    if not ends:
        msg = "No scenario is as long as a window."
        longest = max((len(one.years) for one in series), default=0)
        found, needed = f"{longest} years at most", f"{length} years"
        hint = "years = and [network] times = with fewer, or longer scenarios"
        raise TimeAxisError(msg, found=found, needed=needed, hint=hint)
    return Windowed(tuple(series), np.array(ends), length)


def _mean(fields: Sequence[np.ndarray], counts: Sequence[np.ndarray]) -> float:
    """Mean over cells and years, of which each counts as often as it is read."""
    total = sum(
        float(count @ field.mean((1, 2)))
        for field, count in zip(fields, counts, strict=True)
    )
    return total / sum(float(count.sum()) for count in counts)
