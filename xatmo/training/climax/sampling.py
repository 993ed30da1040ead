"""States and what became of them, drawn from scenes.

Batch ``i`` is a function of the seed and ``i`` alone: a run that is killed and resumed
sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xatmo.errors import GridError, TimeAxisError
from xatmo.training.climax.recipe import Leads
from xatmo.training.scenes import Scene

__all__ = ["Batch", "LeadSampler", "blurred"]


@dataclass(frozen=True)
class Batch:
    """States now and later, normalised.

    ``x`` and ``y`` (B, V, H, W); ``lead`` (B,) hours;
    ``channels`` (B, V) numbers of the recipe's variables, the same in a batch;
    ``latitude`` (B, H) of the rows.
    """

    x: np.ndarray
    y: np.ndarray
    lead: np.ndarray
    channels: np.ndarray
    latitude: np.ndarray


class View(NamedTuple):
    """Pairs of times at which a scene has the same variables."""

    scene: int
    channels: tuple[int, ...]
    """Places among those of the scene."""
    pairs: dict[int, np.ndarray]
    """Lead time in hours -> seconds of the first of two times."""
    weight: float


class LeadSampler:
    """Draw pairs of times: a view for each batch, a lead and a time for each sample.

    Parameters
    ----------
    scenes : sequence of Scene
        All of one grid.
    variables : mapping
        (field, slot) -> what the network calls it, in the network's order.
    sampling : Leads
    grid : tuple of int
        Rows and columns that are read, of the first ones.
    seed : int
        With the number of a batch it fixes every sample in it.
    plain : bool
        All variables always; views and lead times in turn: for validation.
    northward : bool
        Rows from south to north.

    Raises
    ------
    xatmo.errors.TimeAxisError
        If no two times are such a time apart.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        variables: Mapping[tuple[str, int], str],
        sampling: Leads,
        grid: tuple[int, int],
        *,
        seed: int,
        plain: bool = False,
        northward: bool = False,
    ) -> None:
        self.northward = northward
        self.scenes, self.variables = list(scenes), dict(variables)
        self.sampling = sampling
        self.numbers = {key: i for i, key in enumerate(self.variables)}
        self.grid, self.seed, self.plain = grid, seed, plain
        self.views = [
            view
            for number, scene in enumerate(self.scenes)
            for view in _views(number, scene, sampling.hours)
        ]
        if not self.views:
            raise _no_pairs(self.scenes, sampling)
        weights = np.array([view.weight for view in self.views])
        self.shares = weights / weights.sum()

    @property
    def latitude(self) -> np.ndarray:
        """Degrees north of the rows, (H,)."""
        rows = np.asarray(self.scenes[0].grid.latitude[: self.grid[0]])
        return rows[::-1] if self.northward else rows

    def usual(self) -> dict[str, np.ndarray]:
        """Mean of each variable over all whole times of all scenes: (H, W), normalised.

        Of variables that no scene holds there is none.
        """
        sums: dict[str, tuple[int, np.ndarray]] = {}
        for scene in self.scenes:
            for number, channel in enumerate(scene.channels):
                name = self.variables[channel.field, channel.slot]
                store = scene.stores[channel.store]
                count, total = sums.get(name, (0, np.zeros(self.grid)))
                for time in store.times[store.whole]:
                    (state,) = self.state(scene, np.array([time]), [number])
                    count, total = count + 1, total + state[0]
                sums[name] = count, total
        return {
            name: (total / max(1, count)).astype(np.float32)
            for name, (count, total) in sums.items()
        }

    def batch(self, number: int, size: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """Return part ``(i, n)`` of batch ``number``: the same for the same seed."""
        i, n = part
        rng = np.random.default_rng([self.seed, number])
        if self.plain:
            view = self.views[number % len(self.views)]
        else:
            view = self.views[int(rng.choice(len(self.views), p=self.shares))]
        scene, which = self.scenes[view.scene], list(view.channels)
        if not self.plain and rng.random() < self.sampling.fewer_variables:
            count = int(rng.integers(1, len(which) + 1))
            which = sorted(rng.choice(which, count, replace=False).tolist())
        samples = [
            self._sample([self.seed, number, j], view, scene, which)
            for j in range(i * size // n, (i + 1) * size // n)
        ]
        x, y, lead = zip(*samples, strict=True)
        chosen = [scene.channels[c] for c in which]
        channels = [self.numbers[c.field, c.slot] for c in chosen]
        return Batch(
            x=np.stack(x),
            y=np.stack(y),
            lead=np.array(lead, np.float32),
            channels=np.tile(channels, (len(x), 1)),
            latitude=np.tile(self.latitude.astype(np.float32), (len(x), 1)),
        )

    def _sample(
        self, key: list[int], view: View, scene: Scene, which: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, int]:
        rng = np.random.default_rng(key)
        leads = sorted(view.pairs)
        # In validation every lead comes as often as any other.
        lead = leads[key[-1] % len(leads)] if self.plain else self._lead(rng, leads)
        start = int(rng.choice(view.pairs[lead]))
        times = np.array([start, start + 3600 * lead])
        now, later = self.state(scene, times, which)
        if self.sampling.factor > 1:
            now = blurred(later, self.sampling.factor, scene.grid.periodic)
        return now, later, lead

    def _lead(self, rng: np.random.Generator, leads: Sequence[int]) -> int:
        shares = np.maximum(leads, 1.0) ** -self.sampling.leaning
        return int(rng.choice(leads, p=shares / shares.sum()))

    def state(
        self, scene: Scene, times: np.ndarray, which: Sequence[int]
    ) -> tuple[np.ndarray, ...]:
        """Return the states at some times: normalised, each (V, H, W)."""
        box = scene.box(times, 0, 0, self.grid, which)  # (V, T, H, W)
        if self.northward:
            box = box[:, :, ::-1]
        return tuple(np.ascontiguousarray(box[:, t]) for t in range(len(times)))


def blurred(fields: np.ndarray, factor: int, periodic: bool) -> np.ndarray:
    """Take means over blocks, and interpolate back between their middles.

    Parameters
    ----------
    fields : ndarray of float, shape (..., H, W)
    factor : int
        Rows and columns of a block; the grid is made of whole ones.
    periodic : bool
        Whether columns close on themselves.

    Returns
    -------
    ndarray of the same shape

    Raises
    ------
    xatmo.errors.GridError

    Examples
    --------
    >>> import numpy as np
    >>> from xatmo.training.climax.sampling import blurred
    >>> blurred(np.array([[0.0, 2, 4, 6], [0, 2, 4, 6]]), 2, False)[0].tolist()
    [1.0, 2.0, 4.0, 5.0]
    """
    *lead, rows, columns = fields.shape
    if rows % factor or columns % factor:
        msg = "The grid is not made of whole blocks."
        raise GridError(
            msg,
            found=f"{rows} x {columns} points, blocks of {factor} x {factor}",
            needed=f"rows and columns that {factor} divides",
            hint="another factor in [sampling], or another grid of the sources",
        )
    blocks = fields.reshape(*lead, rows // factor, factor, columns // factor, factor)
    coarse = blocks.mean((-3, -1))
    down = _between(rows, factor, periodic=False)
    across = _between(columns, factor, periodic=periodic)
    return np.asarray((down @ coarse @ across.T).astype(fields.dtype))


def _between(count: int, factor: int, *, periodic: bool) -> np.ndarray:
    """Weights of blocks for linear interpolation to points: (points, blocks)."""
    blocks = count // factor
    at = (np.arange(count) + 0.5) / factor - 0.5
    if not periodic:
        at = at.clip(0, blocks - 1)
    below = np.floor(at).astype(int)
    share = at - below
    out = np.zeros((count, blocks))
    np.add.at(out, (np.arange(count), below % blocks), 1 - share)
    np.add.at(out, (np.arange(count), (below + 1) % blocks), share)
    return out


def _views(number: int, scene: Scene, hours: Sequence[int]) -> list[View]:
    """Sort pairs of times by the variables that are whole at both."""
    known = np.stack(
        [_whole(scene, channel.store) for channel in scene.channels]
    )  # (channels, times)
    pairs: dict[tuple[int, ...], dict[int, list[int]]] = {}
    index = {int(t): i for i, t in enumerate(scene.times)}
    for lead in hours:
        for time, i in index.items():
            j = index.get(time + 3600 * lead)
            if j is None:
                continue
            here = tuple(np.flatnonzero(known[:, i] & known[:, j]).tolist())
            if here:
                pairs.setdefault(here, {}).setdefault(lead, []).append(time)
    weight = max(scene.weight, 0.0)
    total = sum(len(t) for leads in pairs.values() for t in leads.values())
    return [
        View(
            number,
            channels,
            {lead: np.array(times) for lead, times in leads.items()},
            weight * sum(map(len, leads.values())) / total,
        )
        for channels, leads in pairs.items()
    ]


def _whole(scene: Scene, store: int) -> np.ndarray:
    """At which times of a scene one of its stores has whole fields."""
    held = scene.stores[store]
    return np.isin(scene.times, held.times[held.whole])


def _no_pairs(scenes: Sequence[Scene], sampling: Leads) -> TimeAxisError:
    names = ", ".join(scene.name for scene in scenes)
    msg = "No two times are as far apart as the recipe looks ahead."
    return TimeAxisError(
        msg,
        found=f"{sum(scene.times.size for scene in scenes)} times in {names}",
        needed=f"pairs {sampling.hours[0]} to {sampling.hours[-1]} h apart, in steps "
        f"of {sampling.step_hours} h",
        hint="another step_hours or longest in [sampling], or a longer series",
    )
