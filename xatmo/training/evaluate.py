"""``xatmo evaluate MODEL --data FILE``: how well a siamese model tells time lags apart.

Two questions. Does it name the lag of a pair (accuracy, cross-entropy, confusion)? And
is its distance larger for the longer of two lags (ordering accuracy), which plain
distances can be asked as well?
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xatmo.metrics.ordering import block_bootstrap, eof_basis, ssim_distance
from xatmo.nets.normalization import SignLog, ZScore
from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import Sampling, Source
from xatmo.training.sampling import FieldStore, PairSampler
from xatmo.zoo import Card, Model, load_model, normalizer

__all__ = [
    "Scorer",
    "classification",
    "evaluate",
    "fit_alpha",
    "ordering",
    "write_json",
]

_BATCH = 256


class Scorer:
    """A network with the normalisation of one level, on whole batches of patches."""

    def __init__(self, network: nn.Module, normalize: SignLog | ZScore) -> None:
        self.network: Any = network.eval()
        self.normalize = normalize

    @torch.inference_mode()
    def encode(self, patches: np.ndarray, layer: str | None = None) -> Tensor:
        """Physical (n, C, h, w) to features (n, F, h', w')."""
        parts = torch.from_numpy(patches).split(_BATCH)
        return torch.cat([self.network.encode(self.normalize(p), layer) for p in parts])

    @torch.inference_mode()
    def probabilities(self, first: np.ndarray, second: np.ndarray) -> Tensor:
        """Probabilities of the lag classes (n, classes)."""
        pairs = zip(
            torch.from_numpy(first).split(_BATCH),
            torch.from_numpy(second).split(_BATCH),
            strict=True,
        )
        logits = [self.network(self.normalize(a), self.normalize(b)) for a, b in pairs]
        return torch.cat(logits).softmax(1)


def evaluate(
    model: str | Model,
    data: Iterable[Source],
    *,
    pairs: int = 24_000,
    triplets: int = 12_000,
    reference: Iterable[Source] = (),
    folder: str | Path = "runs/evaluate",
    seed: int = 7,
) -> dict[str, Any]:
    """Score a released model on data.

    Parameters
    ----------
    model : str or Model
        A model that compares pairs.
    data : iterable of Source
        Files or stores that xarray opens and xatmo reads, at one level.
    pairs, triplets : int
        How many are drawn, at random places and times.
    reference : iterable of Source
        Data that the EOFs are computed from; ``data`` itself if there are none (which
        favours the EOFs).
    folder : path
        Prepared data are kept there.
    seed : int
        Of the draws.

    Returns
    -------
    dict
        ``classification`` and ``ordering``, ready for JSON.
    """
    found = load_model(model, capability="distance")
    card, sources = found.card, list(data)
    sampler = _sampler(sources, card, folder, seed)
    basis_sampler = _sampler(list(reference) or sources, card, folder, seed + 1)
    scorer = Scorer(found.network(), _normalizer_for(card, sampler))
    return {
        "model": f"{card.name} {card.version}",
        "data": [_said(source) for source in sources],
        "classification": classification(scorer, sampler, pairs),
        "ordering": ordering(scorer, sampler, basis_sampler, triplets),
    }


def _said(source: Source) -> str:
    parts = [Path(source.path).name]
    if source.start:
        parts.append(f"from {source.start}")
    if source.end:
        parts.append(f"until {source.end}")
    if source.coarsen > 1:
        parts.append(f"block means of {source.coarsen} x {source.coarsen}")
    return ", ".join(parts)


def sampling_of(card: Card) -> Sampling:
    """Return how a model was trained: lags, patch and latitudes, from its card."""
    if card.time is None:
        return Sampling()
    step = card.time.lags[0]
    return Sampling(
        step_hours=step,
        n_lags=len(card.time.lags),
        patch=card.grid.patch,
        latitude_limit=card.grid.latitude_limit or 90.0,
        mirror=False,
    )


def _sampler(
    sources: list[Source], card: Card, folder: str | Path, seed: int
) -> PairSampler:
    sampling = sampling_of(card)
    quantities = [i.quantity for i in card.inputs]
    paths = [prepare_source(s, quantities, Path(folder)) for s in sources]
    stores = [FieldStore(p) for p in paths]
    levels = list(dict.fromkeys(s.level for s in stores))
    return PairSampler(stores, [1.0] * len(stores), levels, sampling, seed)


def _normalizer_for(card: Card, sampler: PairSampler) -> SignLog | ZScore:
    level = sampler.stores[0].level
    return normalizer(card, next(lv for lv in card.levels if lv.level == level))


def classification(scorer: Scorer, sampler: PairSampler, count: int) -> dict[str, Any]:
    """Score the naming of lags on ``count`` pairs."""
    n_lags = sampler.sampling.n_lags
    confusion = np.zeros((n_lags, n_lags), int)
    loss, top3, near, blocks, hits = 0.0, 0, 0, [], []
    batches = -(-count // _BATCH)
    for number in range(batches):
        batch = sampler.batch(number, _BATCH)
        probability = scorer.probabilities(batch.first, batch.second)
        label = torch.from_numpy(batch.label)
        loss += float(F.nll_loss(probability.clamp_min(1e-12).log(), label))
        guess = probability.argmax(1).numpy()
        best = probability.topk(min(3, n_lags)).indices
        top3 += int((best == label[:, None]).any(1).sum())
        near += int((np.abs(guess - batch.label) <= 1).sum())
        np.add.at(confusion, (batch.label, guess), 1)
        hits.append(guess == batch.label)
        blocks.append(batch.block)
    total = confusion.sum()
    low, high = block_bootstrap(np.concatenate(hits), np.concatenate(blocks))
    step = sampler.sampling.step_hours
    return {
        "pairs": int(total),
        "lags_hours": [step * (i + 1) for i in range(n_lags)],
        "accuracy": float(np.trace(confusion) / total),
        "accuracy_95": [low, high],
        "accuracy_chance": 1 / n_lags,
        "within_one_class": near / total,
        "top3": top3 / total,
        "top3_chance": min(3, n_lags) / n_lags,
        "cross_entropy": loss / batches,
        "cross_entropy_chance": float(np.log(n_lags)),
        "confusion": confusion.tolist(),
    }


def ordering(
    scorer: Scorer,
    sampler: PairSampler,
    basis_sampler: PairSampler,
    count: int,
    components: int = 20,
) -> dict[str, Any]:
    """Compare distances on triplets: how often the longer lag is the farther state."""
    reference = torch.from_numpy(basis_sampler.batch(0, 4096).first)
    basis, centre = eof_basis(
        scorer.normalize(reference).flatten(1).numpy(), components
    )
    right: dict[str, list[np.ndarray]] = {}
    lags, blocks = [], []
    for number in range(-(-count // _BATCH)):
        triplet = sampler.triplets(number, _BATCH)
        fields = [scorer.normalize(torch.from_numpy(x)).numpy() for x in triplet.fields]
        features = [scorer.encode(x).flatten(1).numpy() for x in triplet.fields]
        eofs = [(x.reshape(len(x), -1) - centre) @ basis for x in fields]
        flat = [x.reshape(len(x), -1) for x in fields]
        spaces = {"atmodist": features, "rmse": flat, "eof20": eofs}
        for name, (zero, near, far) in spaces.items():
            closer = ((zero - near) ** 2).sum(1) < ((zero - far) ** 2).sum(1)
            right.setdefault(name, []).append(closer)
        zero, near, far = fields
        closer = ssim_distance(zero, near) < ssim_distance(zero, far)
        right.setdefault("ssim", []).append(closer)
        lags.append(triplet.lags)
        blocks.append(triplet.block)
    lag, block = np.concatenate(lags), np.concatenate(blocks)
    step = sampler.sampling.step_hours
    groups = {
        "all": np.ones(len(lag), bool),
        "both_at_least_24h": (lag * step).min(1) >= 24,
        "shorter_below_24h": (lag * step).min(1) < 24,
        "6h_apart": np.ptp(lag, axis=1) == 1,
    }
    table: dict[str, Any] = {}
    for group, members in groups.items():
        if not members.any():  # few classes: no lag is that long
            continue
        table[group] = {"triplets": int(members.sum())}
        for name, parts in right.items():
            hit = np.concatenate(parts)[members]
            low, high = block_bootstrap(hit, block[members])
            own = np.concatenate(right["atmodist"])[members]
            gain = block_bootstrap(own.astype(float) - hit, block[members])
            table[group][name] = {
                "accuracy": float(hit.mean()),
                "95": [low, high],
                "atmodist_gain_95": list(gain),
            }
    return table


def fit_alpha(
    scorer: Scorer, sampler: PairSampler, layer: str, count: int = 12_000
) -> float:
    """Fit the scale between distance and mean squared error, as the paper does.

    Least squares over the longer half of the lags, of the mean distance of each lag
    against the mean squared error of the same pairs in log-normalised fields.
    """
    n_lags = sampler.sampling.n_lags
    sums = np.zeros((n_lags, 3))
    for number in range(-(-count // _BATCH)):
        batch = sampler.batch(number, _BATCH)
        a, b = scorer.encode(batch.first, layer), scorer.encode(batch.second, layer)
        x, y = (
            scorer.normalize(torch.from_numpy(p)) for p in (batch.first, batch.second)
        )
        d = (a - b).square().flatten(1).mean(1).numpy()
        m = (x - y).square().flatten(1).mean(1).numpy()
        np.add.at(sums, batch.label, np.stack([np.ones_like(d), d, m], 1))
    half = slice(n_lags // 2, None)
    c, m = (sums[half, i] / sums[half, 0] for i in (1, 2))
    return float((c * m).sum() / (c * c).sum())


def write_json(result: dict[str, Any], path: str | Path) -> None:
    """Write scores, readable by people as well."""
    Path(path).write_text(json.dumps(result, indent=1) + "\n")
