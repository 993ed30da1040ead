"""From a finished run to a released model: weights, card, scores and their page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from xatmo.nets.atmodist import AtmoDist
from xatmo.nets.normalization import SignLog
from xatmo.training.evaluate import Scorer, evaluate, fit_alpha
from xatmo.training.modelpage import model_page
from xatmo.training.recipe import Recipe, read_recipe
from xatmo.training.run import build_network, network_state, prepare_all
from xatmo.training.sampling import PairSampler
from xatmo.zoo import Model, read_card, save_state, write_card
from xatmo.zoo.files import draft

__all__ = ["release"]


def release(
    recipe_path: str | Path,
    *,
    out: str | Path = "runs",
    models: str | Path = "models",
    pairs: int = 24_000,
    triplets: int = 12_000,
) -> Path:
    """Write ``models/<name>/`` from the last checkpoint of a run.

    Parameters
    ----------
    recipe_path : path
        The recipe that was trained.
    out, models : path
        Where the run is, and where the model goes.
    pairs, triplets : int
        How many the scores are measured on.

    Returns
    -------
    Path
        The model's folder: ``weights.safetensors``, ``card.toml``, and the
        ``README.md`` with the scores on the recipe's ``evaluation`` data.
    """
    recipe = read_recipe(recipe_path)
    run = Path(out) / recipe.name
    network = _trained(recipe, run)
    levels, sampler, _ = prepare_all(recipe, run)
    # Made and scored aside, so that a released model is never half of two.
    folder = run / "release" / recipe.name
    weights = folder / "weights.safetensors"
    sha256 = save_state(network, weights)
    card = {
        "name": recipe.name,
        "version": recipe.version,
        "title": recipe.title,
        "architecture": recipe.architecture,
        **_top(recipe.card),
        "network": dict(recipe.network),
        **_tables(recipe, network, levels),
        **{k: v for k, v in recipe.card.items() if isinstance(v, dict)},
        "distance": _distance(recipe, network, levels, sampler),
        "weights": {
            "file": weights.name,
            "sha256": sha256,
            "size": weights.stat().st_size,
            "urls": [],
        },
    }
    write_card(folder / "card.toml", card)
    scores = _scores(recipe, folder, run, pairs, triplets)
    (folder / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    card["scores"] = {k: _short(v) for k, v in scores.items()}
    write_card(folder / "card.toml", card)
    page = model_page(read_card(folder / "card.toml"), scores, str(recipe_path))
    (folder / "README.md").write_text(page)
    return _publish(folder, Path(models) / recipe.name)


def _publish(folder: Path, target: Path) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.iterdir(), key=lambda f: f.name == "card.toml"):
        with draft(target / file.name) as part:
            shutil.copyfile(file, part)
    return target


def _trained(recipe: Recipe, run: Path) -> AtmoDist:
    network = build_network(recipe)
    network.load_state_dict(network_state(run / "checkpoints" / "last.ckpt"))
    return network.eval()  # type: ignore[return-value]


def _top(card: Any) -> dict[str, Any]:
    return {k: v for k, v in card.items() if not isinstance(v, dict)}


def _tables(
    recipe: Recipe, network: AtmoDist, levels: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """What the card says about inputs, levels, time and layers."""
    s = recipe.sampling
    names = network.encoder.layers[::-1][:2]
    return {
        "inputs": [{"quantity": q, "units": "s-1"} for q in recipe.quantities],
        "levels": [{"level": name, **values} for name, values in levels.items()],
        "normalization": dict(recipe.normalization),
        "time": {
            "step": f"{s.step_hours}h",
            "lags": [s.step_hours * (i + 1) for i in range(s.n_lags)],
        },
        "layers": {
            "names": list(names),
            "stride": {n: network.encoder.stride(n) for n in names},
            "features": {n: network.encoder.features(n) for n in names},
        },
    }


def _distance(
    recipe: Recipe,
    network: AtmoDist,
    levels: dict[str, dict[str, Any]],
    sampler: PairSampler,
) -> dict[str, Any]:
    """Fit alpha on the training data at the first level, for each layer."""
    first = next(iter(levels))
    constants = {k: v for k, v in levels[first].items() if k != "trained"}
    scorer = Scorer(network, SignLog(**constants, alpha=recipe.normalization["alpha"]))
    own = sampler.only(first)
    s = recipe.sampling
    return {
        "space": "log-normalised fields, patches of "
        f"{s.patch[0]} x {s.patch[1]} at {first}",
        "lags": [s.step_hours * (i + 1) for i in range(s.n_lags // 2, s.n_lags)],
        "alpha": {
            n: fit_alpha(scorer, own, n) for n in network.encoder.layers[::-1][:2]
        },
    }


def _scores(
    recipe: Recipe, folder: Path, run: Path, pairs: int, triplets: int
) -> dict[str, Any]:
    card = read_card(folder / "card.toml")
    model = Model(card, card.key())
    native = [s for s in recipe.train if s.coarsen == 1]
    scores = {}
    for source in recipe.evaluation:
        reference = [s for s in native if s.level == source.level]
        key = Path(source.path).stem.replace(".", "_")
        if source.coarsen > 1:
            key += f"_coarse{source.coarsen}"
        scores[key] = evaluate(
            model,
            [source],
            reference=reference,
            folder=run / "data",
            pairs=pairs,
            triplets=triplets,
        )
    return scores


def _short(scores: dict[str, Any]) -> dict[str, Any]:
    """The numbers that go into the card itself."""
    c, o = scores["classification"], scores["ordering"]
    said = ("accuracy", "accuracy_chance", "top3", "within_one_class", "cross_entropy")
    return {
        "data": scores["data"],
        **{k: round(float(c[k]), 4) for k in said},
        "ordering": {
            group: {
                name: round(v["accuracy"], 4)
                for name, v in table.items()
                if isinstance(v, dict)
            }
            for group, table in o.items()
        },
    }
