"""What is hidden of a box, so that a network learns to know it all the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xatmo.testing.gaps import gap_mask
from xatmo.training.multiformer.recipe import KINDS, Masking

__all__ = ["Hidden", "draw_kind", "hide"]

_NOISE = 0.1  # as published: of the spread that a value has
_GAPS = ("random_50", "blocks", "clouds", "clouds", "swaths", "centre_hole")


class Hidden(NamedTuple):
    """A box as the network reads it.

    Attributes
    ----------
    x : ndarray of float32, shape (C, T, Y, X)
        NaN where hidden or not there; noised or coarsened in some tokens.
    wanted : ndarray of bool, same shape
        What the network is to predict.
    """

    x: np.ndarray
    wanted: np.ndarray


def draw_kind(rng: np.random.Generator, masking: Masking) -> str:
    """Draw what kind of masking a box gets, of ``KINDS``."""
    shares = masking.shares
    return str(rng.choice(KINDS, p=[shares[kind] for kind in KINDS]))


def hide(
    rng: np.random.Generator,
    box: np.ndarray,
    kind: str,
    masking: Masking,
    rates: Sequence[float],
    token_sizes: Sequence[tuple[int, int, int]],
) -> Hidden:
    """Hide a part of a box.

    Parameters
    ----------
    rng : Generator
    box : ndarray, shape (C, T, Y, X)
        Normalised; NaN where there is nothing.
    kind : str
        Of ``KINDS``.
    masking : Masking
    rates : sequence of float
        Of each channel: the largest share of its tokens that is hidden.
    token_sizes : sequence of tuple of int
        Of each channel.
    """
    if kind == "tokens":
        return _tokens(rng, box, masking, rates, token_sizes)
    draw = {"forecast": _last_times, "between": _times_between, "gaps": _gaps}[kind]
    together = rng.random() < masking.together
    gone = draw(rng, box.shape[1:], masking)
    hidden = np.zeros(box.shape, bool)
    for channel, rate in enumerate(rates):
        if rate:
            hidden[channel] = gone
    if not together and len(rates) > 1:
        hidden[_some(rng, len(rates))] = False
    x = np.where(hidden, np.nan, box)
    return Hidden(x, hidden & np.isfinite(box))


def _some(rng: np.random.Generator, count: int) -> np.ndarray:
    """Some of a few, not all of them."""
    left = int(rng.integers(1, count))
    return rng.choice(count, left, replace=False)


# --- Tokens -----------------------------------------------------------------------


def _tokens(
    rng: np.random.Generator,
    box: np.ndarray,
    masking: Masking,
    rates: Sequence[float],
    token_sizes: Sequence[tuple[int, int, int]],
) -> Hidden:
    """Each channel has its own share of its tokens hidden, or all have the same."""
    x, wanted = box.copy(), np.zeros(box.shape, bool)
    together = rng.random() < masking.together
    seed, share = int(rng.integers(2**31)), float(rng.random())
    for channel, (rate, size) in enumerate(zip(rates, token_sizes, strict=True)):
        if not rate:
            continue
        own = np.random.default_rng(seed) if together else rng
        ratio = rate * (share if together else float(rng.random()))
        _hide_tokens(own, x[channel], wanted[channel], ratio, size, masking)
    return Hidden(x, wanted & np.isfinite(box))


def _hide_tokens(
    rng: np.random.Generator,
    x: np.ndarray,
    wanted: np.ndarray,
    ratio: float,
    size: tuple[int, int, int],
    masking: Masking,
) -> None:
    """Change some tokens of a channel (T, Y, X) in place."""
    x, wanted = _cut(x, size), _cut(wanted, size)
    counts = x.shape[:3]
    chosen = rng.permutation(int(np.prod(counts)))
    for number in chosen[: int(np.ceil(ratio * len(chosen)))]:
        at = np.unravel_index(number, counts)
        draws = rng.random(3)
        if draws[0] < masking.masked:
            x[at] = np.nan
        else:
            if draws[1] < masking.noised:
                share = rng.random()
                noise = _NOISE * rng.standard_normal(size)
                x[at] = (1 - share) * x[at] + noise
            if draws[2] < masking.coarsened:
                x[at] = x[at].mean((1, 2), keepdims=True)
        wanted[at] = True


def _cut(x: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """View (T, Y, X) as tokens (T / t, Y / y, X / x, t, y, x)."""
    t, y, x_ = (n // s for n, s in zip(x.shape, size, strict=True))
    cut = x.reshape(t, size[0], y, size[1], x_, size[2])
    return cut.transpose(0, 2, 4, 1, 3, 5)


# --- Times and gaps -----------------------------------------------------------------


def _last_times(
    rng: np.random.Generator, shape: tuple[int, ...], masking: Masking
) -> np.ndarray:
    hidden = np.zeros(shape, bool)
    most = min(masking.ahead, shape[0] - 1)
    hidden[shape[0] - int(rng.integers(1, most + 1)) :] = True
    return hidden


def _times_between(
    rng: np.random.Generator, shape: tuple[int, ...], masking: Masking
) -> np.ndarray:
    """Some times, of which the first and the last are known; or every other one."""
    hidden = np.zeros(shape, bool)
    if rng.random() < 0.5:
        every = int(rng.choice([2, 3, 4]))
        hidden[:] = True
        hidden[int(rng.integers(every)) :: every] = False
    else:
        length = int(rng.integers(1, max(2, shape[0] - 2)))
        start = int(rng.integers(1, max(2, shape[0] - length)))
        hidden[start : start + length] = True
    return hidden


def _gaps(
    rng: np.random.Generator, shape: tuple[int, ...], masking: Masking
) -> np.ndarray:
    kind = str(rng.choice(_GAPS))
    options: dict[str, float] = {"share": float(rng.uniform(0.2, 0.8))}
    if kind == "centre_hole":
        hidden = np.zeros(shape, bool)
        rows, columns = (int(rng.integers(n // 4, n + 1)) for n in shape[1:])
        top = int(rng.integers(shape[1] - rows + 1))
        left = int(rng.integers(shape[2] - columns + 1))
        times = slice(None)
        if rng.random() < 0.4:  # for some times only
            times = slice(int(rng.integers(shape[0])), None)
        hidden[times, top : top + rows, left : left + columns] = True
        return hidden
    if kind == "blocks":
        size, duration = int(rng.integers(2, 12)), int(rng.integers(1, 7))
        options |= {"size": size, "duration": duration}
    elif kind == "clouds":
        options["scale"] = float(rng.uniform(1.5, 8))
        options["duration"] = float(rng.uniform(0.5, 5))
    return gap_mask(kind, shape, rng=rng, **options)  # type: ignore[arg-type]
