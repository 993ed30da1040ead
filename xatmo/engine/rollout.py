"""Forecasts by a network that predicts the last times of boxes, step after step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xatmo.engine import worker
from xatmo.engine.boxes import Domain, predict, running
from xatmo.engine.windows import Windows

__all__ = ["Rollout", "tails_at"]


@dataclass(frozen=True)
class Rollout:
    """Predict the times after windows, as many at once as the network does.

    What lies further ahead is predicted from what was predicted: each member goes on
    from its own fields, and what one tail says next is taken of the ensemble that the
    network gives for them. It is another tail at each step, by a fixed draw: the one
    that is highest at a step is so at the next, and members would part as if errors
    never changed their sign. A further step costs as much as the first one times the
    number of members.

    Parameters
    ----------
    domain : Domain
    ahead : int
        Times predicted at once; the windows have room for them at their end.
    steps : tuple of int
        Which times ahead are wanted, ascending, the first is 1.
    members : bool
        Give the members; or their mean and their standard deviation.
    """

    domain: Domain
    ahead: int
    steps: tuple[int, ...]
    members: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result for one window: (members or 2, C, steps, ny, nx)."""
        first = self.domain.members if self.members else 2
        return (first, self.domain.channels, len(self.steps), *self.domain.shape)

    def __call__(self, windows: Windows, when: np.ndarray, out: np.ndarray) -> None:
        """Fill (N, *shape); ``when`` (N, history + steps, 3) reaches to the last."""
        domain, length = self.domain, self.domain.box[0]
        history = length - self.ahead
        with running(domain) as model:

            def done(number: int, members: np.ndarray) -> None:
                self._take(members, 0, out[number])
                if self.steps[-1] > self.ahead:
                    known = windows[number][:, :history]
                    self._go_on(known, members, when[number], out[number], model)

            predict(domain, windows, when[:, :length], self.ahead, done, model)

    def _go_on(
        self,
        known: np.ndarray,
        members: np.ndarray,
        when: np.ndarray,
        out: np.ndarray,
        model: worker.Loaded,
    ) -> None:
        """Predict the times beyond the first ones, (E, C, ahead, ny, nx)."""
        length, history = self.domain.box[0], self.domain.box[0] - self.ahead
        # What each member knows: the last times before what it predicts next.
        past = [np.concatenate([known, m], 1)[:, -history:] for m in members]
        for begin in range(self.ahead, self.steps[-1], self.ahead):
            again = np.repeat(when[None, begin : begin + length], len(past), 0)
            windows = _Ahead(past, self.ahead)
            members = np.empty_like(members)
            tails = tails_at(begin, len(past))

            def done(
                number: int,
                found: np.ndarray,
                to: Any = members,
                tails: np.ndarray = tails,
            ) -> None:
                to[number] = found[tails[number]]

            predict(self.domain, windows, again, self.ahead, done, model)
            self._take(members, begin, out)
            past = [
                np.concatenate([old, m], 1)[:, -history:]
                for old, m in zip(past, members, strict=True)
            ]

    def _take(self, members: np.ndarray, begin: int, out: np.ndarray) -> None:
        """Put those of the times begin + 1, begin + 2, ... that are wanted into out."""
        for i, step in enumerate(self.steps):
            frame = step - begin - 1
            if not 0 <= frame < self.ahead:
                continue
            part = members[:, :, frame]  # (E, C, ny, nx)
            if self.members:
                out[:, :, i] = part
            else:
                out[0, :, i] = part.mean(0)
                # Of the population that the members are drawn from.
                out[1, :, i] = part.std(0, ddof=1) if len(part) > 1 else np.nan


def tails_at(begin: int, count: int) -> np.ndarray:
    """Which tail speaks for each member in the step after ``begin`` times."""
    return np.random.default_rng(begin).permutation(count)


class _Ahead(Sequence[np.ndarray]):
    """Windows (C, T, ny, nx) that end with times of which nothing is known."""

    def __init__(self, past: Sequence[np.ndarray], ahead: int) -> None:
        self._past, self._ahead = past, ahead

    def __len__(self) -> int:
        return len(self._past)

    def __getitem__(self, number: Any) -> Any:
        past = self._past[number]
        shape = (past.shape[0], self._ahead, *past.shape[2:])
        return np.concatenate([past, np.full(shape, np.nan, np.float32)], 1)
