"""Pairs in the order that suits the disk: many from each pair of fields, then shuffled.

Drawn at random, every pair costs two fields. Where these do not fit into memory, a
stream reads two fields once, cuts many pairs of patches from them, and shuffles those
in a buffer, as the paper did. What is drawn has the same distribution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from xatmo.training.sampling import Batch, Pair, PairSampler

__all__ = ["stream"]

# Parts of a batch that are streamed each by itself, so that processes can share them.
_LANES = 8

Patches = tuple[np.ndarray, np.ndarray]


def stream(
    sampler: PairSampler,
    key: Sequence[int],
    count: int,
    size: int,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Stream batches, always the same for the same sampler and key.

    Parameters
    ----------
    sampler : PairSampler
    key : sequence of int
        Numbers the stream, such as by its epoch.
    count, size : int
        Number of batches, and of pairs in each.
    part : tuple of int
        ``(i, n)`` streams the i-th of n equal parts of every batch.

    Yields
    ------
    Batch
    """
    i, n = part
    lanes = math.gcd(size, _LANES)
    if lanes % n:
        lanes = n
    each = size // lanes
    buffer = max(1, sampler.sampling.shuffle_buffer // lanes)
    seeds = ([sampler.seed, 3, *key, lane] for lane in range(lanes))
    rngs = [np.random.default_rng(seed) for seed in seeds]
    own = [
        _shuffled(sampler, rng, count * each, buffer)
        for rng in rngs[i * lanes // n : (i + 1) * lanes // n]
    ]
    for _ in range(count):
        drawn = [item for lane in own for item in islice(lane, each)]
        yield sampler.gather([pair for pair, _ in drawn], (p for _, p in drawn))


def _shuffled(
    sampler: PairSampler, rng: np.random.Generator, total: int, buffer: int
) -> Iterator[tuple[Pair, Patches]]:
    """Keep some pairs back and give out one of them at random, ``total`` in all."""
    arriving = islice(_as_read(sampler, rng), total)
    kept = list(islice(arriving, buffer))
    while kept:
        chosen = int(rng.integers(len(kept)))
        yield kept[chosen]
        # At the end nothing arrives: the last one takes the empty place.
        arrived = next(arriving, None)
        kept[chosen] = kept[-1] if arrived is None else arrived
        if arrived is None:
            kept.pop()


def _as_read(
    sampler: PairSampler, rng: np.random.Generator
) -> Iterator[tuple[Pair, Patches]]:
    """Cut many patches from one pair of fields after the other, without end.

    Every lag comes once in each round; the fields that are that far apart come in
    random order, all of them before any comes again.
    """
    decks: dict[tuple[int, int], Iterator[np.ndarray]] = {}
    while True:
        for lag in rng.permutation(sampler.sampling.n_lags):
            which = sampler.draw_store(rng, lag)
            if (which, lag) not in decks:
                decks[which, lag] = _endless(sampler.pairs[which][lag], rng)
            times = next(decks[which, lag])
            # All at once: other lanes read other fields before this one goes on.
            yield from [
                (pair, sampler.cut(pair))
                for pair in _places(sampler, rng, which, int(lag), times)
            ]


def _places(
    sampler: PairSampler,
    rng: np.random.Generator,
    which: int,
    lag: int,
    times: np.ndarray,
) -> Iterator[Pair]:
    """Choose the places of patches in two fields of a store."""
    for _ in range(sampler.sampling.patches_per_field):
        place = sampler.draw_place(rng, which)
        mirrored = sampler.sampling.mirror and bool(rng.random() < 0.5)
        yield Pair(which, lag, int(times[0]), int(times[1]), *place, mirrored)


def _endless(pairs: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Go through pairs of times in random order, again and again."""
    while True:
        yield from rng.permutation(pairs)
