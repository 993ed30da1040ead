"""``xatmo compare`` for networks that fill a hole: how much of a field they make up.

A network that makes the error small fills a hole with what is likely on average, which
is smooth. Beside the error stands therefore what tells a field from an average: its
variance, its spectrum, its variation from point to point, and the AtmoDist distance.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from xatmo.errors import OptionError
from xatmo.losses import AtmoDistLoss
from xatmo.nets.normalization import ZScore
from xatmo.training.comparing import (
    evaluation_data,
    facts,
    opening,
    read_all,
    train_all,
)
from xatmo.training.content import check_reads
from xatmo.training.downscale.run import zscore
from xatmo.training.hole.module import fill
from xatmo.training.hole.recipe import HoleRecipe, read_recipe
from xatmo.training.hole.scores import Pieces, Scores, linear
from xatmo.training.modelpage import comparison
from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import Source
from xatmo.training.rescore import keyed
from xatmo.training.run import build_network, network_state
from xatmo.training.sampling import FieldStore, check_size, level_index
from xatmo.training.source import said
from xatmo.zoo import get_card

__all__ = ["compare", "comparison_page", "comparison_tables", "without_maps"]

_ROWS, _COLUMNS = 3, 6  # patches of a field
_TRUTH, _MEAN, _LINEAR = "truth", "mean", "linear"
_LABELS = {_MEAN: "mean of the training data", _LINEAR: "straight across the hole"}


def compare(
    recipes: Sequence[str | Path],
    *,
    data: Sequence[Source] = (),
    out: str | Path = "runs",
    progress: bool = False,
) -> dict[str, Any]:
    """Train what is not trained yet, and score all of it on the same holes.

    Parameters
    ----------
    recipes : sequence of path
        With ``task = "hole"``; runs that were interrupted go on. Ratios are to the
        first one.
    data : sequence of Source, optional
        What to score on; the ``evaluation`` data of all recipes if not given.
    out : path
        Runs go into ``<out>/<name>``.
    progress : bool
        Show progress bars.

    Returns
    -------
    dict
        ``recipes``: what was trained; ``data``: the scores on each data set, ready for
        JSON.

    Raises
    ------
    xatmo.errors.OptionError
        If a recipe trains no network that fills a hole, not all fill the same one, or
        there are no data to score on.
    """
    told = read_all(
        recipes,
        "hole",
        read_recipe,
        does="fills a hole",
        example="train/infill/hole-mse.toml",
    )
    _check_alike(list(told.values()))
    sources, folder = list(data) or evaluation_data(list(told.values())), Path(out)
    train_all(told, folder, progress)
    fillers = [Filler.of(recipe, folder) for recipe in told.values()]
    results = {
        key: _evaluate(fillers, source, folder / "compare", progress)
        for key, source in keyed(sources)
    }
    return {
        "recipes": {path: facts(recipe, folder) for path, recipe in told.items()},
        "data": results,
    }


def comparison_page(result: dict[str, Any]) -> str:
    """Return the whole comparison as Markdown."""
    tables = comparison_tables(result)
    return "\n\n".join([*opening(result), *map(comparison, tables)]) + "\n"


def comparison_tables(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one table for each data set, as a recipe's ``comparison`` has them."""
    return [_table(told) for told in result["data"].values()]


def without_maps(result: dict[str, Any]) -> dict[str, Any]:
    """Return what is worth keeping as JSON: all of it, since no map is made."""
    return result


@dataclass(frozen=True)
class Filler:
    """A trained network, and the constants of its normalisation."""

    recipe: HoleRecipe
    network: nn.Module
    levels: dict[str, ZScore]

    @classmethod
    def of(cls, recipe: HoleRecipe, out: Path) -> Filler:
        """Read a finished run."""
        folder = out / recipe.name
        network = build_network(recipe)
        network.load_state_dict(network_state(folder / "checkpoints" / "last.ckpt"))
        known = json.loads((folder / "run.json").read_text("utf-8"))["levels"]
        levels = {name: zscore(constants) for name, constants in known.items()}
        return cls(recipe, network.eval(), levels)

    def fill(self, fields: np.ndarray, level: str) -> np.ndarray:
        """Fill the hole in whole fields (B, C, H, W): (B, C, h, w), physical units."""
        normalize = self.levels[level]
        with torch.inference_mode():
            x = normalize(torch.from_numpy(fields))
            filled = fill(self.network, x, self.recipe.objective.window)
            values: np.ndarray = normalize.inverse(filled).numpy()
        return values


def _check_alike(recipes: Sequence[HoleRecipe]) -> None:
    """Refuse recipes that fill different holes, or holes in different fields."""
    told = [
        f"{r.name}: {' and '.join(r.quantities)}, "
        f"patch = {list(r.sampling.patch)}, hole = {list(r.objective.hole)}"
        for r in recipes
    ]
    first = told[0].partition(": ")[2]
    for one in told:
        if one.partition(": ")[2] != first:
            msg = "The recipes do not fill the same hole."
            raise OptionError(
                msg,
                found=f"{told[0]}; {one}",
                needed="the same quantities, patch and hole in all of them",
                hint=f"{first} in every recipe",
            )


def _evaluate(
    fillers: Sequence[Filler], source: Source, folder: Path, progress: bool
) -> dict[str, Any]:
    first = fillers[0].recipe
    store = FieldStore(prepare_source(source, first.quantities, folder))
    check_size(store, first.sampling.patch)
    for filler in fillers:
        level_index(store, list(filler.levels))
    losses = _distances(first, store.level)
    days = store.times[store.whole] / 86400.0
    names = [f.recipe.name for f in fillers]
    labels = {_TRUTH: _TRUTH, **_LABELS, **dict(zip(names, names, strict=True))}
    scores = {name: Scores(label, days) for name, label in labels.items()}
    patches = _patches(store, first.sampling.patch)
    with tqdm(total=days.size, unit="time", disable=not progress) as bar:
        for number, time in enumerate(np.flatnonzero(store.whole)):
            for row, fields in patches(int(time)):
                pieces = _pieces(first, store, row, fields, losses)
                for name, values in _estimates(fillers, fields, store.level):
                    scores[name].add(number, pieces, values)
                scores[_TRUTH].add(number, pieces, pieces.truth)
            bar.update()
    truth, baseline = scores[_TRUTH], scores[first.name]
    return {
        "data": [said(source)],
        "level": store.level,
        "quantities": list(first.quantities),
        "times": int(days.size),
        "patch": list(first.sampling.patch),
        "hole": list(first.objective.hole),
        "spacing": [float(s) for s in store.spacing],
        "distance": f"{losses[0].model.name}@{losses[0].model.version}",
        "layers": [loss.layer for loss in losses],
        "methods": {n: scores[n].told(truth, baseline) for n in [*_LABELS, *names]},
        "spectra": {n: s.spectrum() for n, s in scores.items()},
    }


def _distances(recipe: HoleRecipe, level: str) -> list[AtmoDistLoss]:
    """The distance at every layer of the content model."""
    o = recipe.objective
    card = get_card(o.content_model)
    check_reads(card, recipe.quantities)
    assert card.layers is not None  # noqa: S101 - it has a distance
    told: Any = {"level": o.content_level or level, "reduction": "none"}
    # Numbers to be compared, not gradients: in single precision.
    return [
        AtmoDistLoss(o.content_model, layer, autocast=False, **told)
        for layer in card.layers.names
    ]


def _patches(store: FieldStore, patch: tuple[int, int]) -> Any:
    """Return what cuts the patches of a time: those of equal rows together."""
    h, w = patch
    height, width = store.latitude.size, store.longitude.size
    rows = sorted({*np.linspace(0, height - h, _ROWS).round().astype(int).tolist()})
    if store.periodic:
        columns = (np.arange(_COLUMNS) * width // _COLUMNS).tolist()
    else:
        starts = np.linspace(0, width - w, min(_COLUMNS, 3)).round().astype(int)
        columns = sorted({*starts.tolist()})

    def cut(time: int) -> Iterator[tuple[int, np.ndarray]]:
        for row in rows:
            windows = [store.window(time, row, column, h, w) for column in columns]
            yield row, np.stack(windows)

    return cut


def _pieces(
    recipe: HoleRecipe,
    store: FieldStore,
    row: int,
    fields: np.ndarray,
    losses: Sequence[AtmoDistLoss],
) -> Pieces:
    rows, columns = recipe.objective.window
    latitude = store.latitude[row : row + fields.shape[-2]][rows]
    longitude = store.spacing[1] * np.arange(columns.stop - columns.start)
    return Pieces(fields[..., rows, columns], latitude, longitude, losses)


def _estimates(
    fillers: Sequence[Filler], fields: np.ndarray, level: str
) -> Iterator[tuple[str, np.ndarray]]:
    """What every method puts into the hole of whole fields (B, C, H, W)."""
    first = fillers[0]
    window = first.recipe.objective.window
    hole = fields[..., window[0], window[1]]
    mean = np.asarray(first.levels[level].mean, np.float32)
    yield _MEAN, np.broadcast_to(mean[:, None, None], hole.shape)
    yield _LINEAR, linear(fields, window)
    for filler in fillers:
        yield filler.recipe.name, filler.fill(fields, level)


def _table(told: dict[str, Any]) -> dict[str, Any]:
    layers = told["layers"]
    keys = {
        "RMSE": "rmse",
        "RMSE / first": "rmse_ratio",
        "standard deviation": "std",
        "power, long waves": "power_long",
        "power, short waves": "power_short",
        "total variation": "total_variation",
        **{f"distance, {layer}": f"distance_{layer}" for layer in layers},
    }
    h, w = told["patch"]
    first, after = told["hole"]
    size = after - first
    return {
        "title": f"{'; '.join(told['data'])}, {told['level']}",
        "columns": ["", *keys],
        "rows": [
            [m["label"], *(_cell(m, key) for key in keys.values())]
            for m in told["methods"].values()
        ],
        "note": f"A hole of {size} x {size} points in patches of {h} x {w}; "
        f"{told['times']} times. Errors by area, in the fields' units, all inputs "
        "together. Standard deviation, power of zonal spectra (waves longer and "
        f"shorter than a quarter of the hole) and total variation are over those of "
        f"the truth: 1 is right. Distances are those of {told['distance']} between "
        "filled and true pieces: 0 is right.",
    }


def _cell(method: dict[str, Any], key: str) -> str:
    value = method[key]
    if value is None:
        return ""
    interval = method.get(f"{key}_95")
    if interval is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
