"""From a finished run to a released model: weights, card, scores and their page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from xatmo.errors import OptionError
from xatmo.fields.names import canonical_units
from xatmo.nets.atmodist import AtmoDist
from xatmo.training.calibrate import calibrate
from xatmo.training.checkpoints import check_unchanged
from xatmo.training.evaluate import Scorer, fit_alpha
from xatmo.training.logs import write_curve
from xatmo.training.recipe import AnyRecipe, Recipe, read_recipe
from xatmo.training.rescore import Telling, publish, scores_of, write_scores
from xatmo.training.run import build_network, network_state, prepare_all, signlog
from xatmo.training.sampling import PairSampler
from xatmo.zoo import Model, parse_card, save_state, write_card
from xatmo.zoo.registry import also_in

__all__ = ["drafts", "head_of", "last_checkpoint", "release", "saved", "top_keys"]

# Keys of [card] that the page alone reads.
_OF_PAGE = ("comparison", "against")


def release(
    recipe_path: str | Path,
    *,
    out: str | Path = "runs",
    models: str | Path = "models",
    pairs: int = 24_000,
    triplets: int = 12_000,
    progress: bool = False,
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
    progress : bool
        Show progress bars.

    Returns
    -------
    Path
        The model's folder: ``weights.safetensors``, ``card.toml``, and the scores on
        the recipe's ``evaluation`` data: ``README.md``, ``scores.json``, ``figures``.
    """
    recipe = read_recipe(recipe_path)
    run = Path(out) / recipe.name
    network = _trained(recipe, recipe_path, run)
    levels, sampler, _ = prepare_all(recipe, run)
    check_unchanged(recipe, levels, run, "release the recipe as it was trained")
    # Made and scored aside, so that a released model is never half of two.
    folder = run / "release" / recipe.name
    weights = folder / "weights.safetensors"
    card = {
        **head_of(recipe),
        **_tables(recipe, network, levels),
        **{k: v for k, v in recipe.card.items() if isinstance(v, dict)},
        "distance": _distance(recipe, network, levels, sampler),
    }
    card["weights"] = saved(network, weights, card)
    released = write_card(folder / "card.toml", card)
    scores = scores_of(released, recipe, out, pairs, triplets, progress)
    write_scores(folder, scores, recipe, recipe_path, write_curve(run), Telling())
    return publish(folder, Path(models) / recipe.name)


def saved(network: nn.Module, path: Path, card: dict[str, Any]) -> dict[str, Any]:
    """Write the weights, the card's constants beside them; return what names them."""
    named: dict[str, Any] = {"file": path.name, "sha256": "0" * 64, "size": 1}
    stated = parse_card(
        {**card, "weights": named}, source=str(path), folder=path.parent
    )
    named["sha256"] = save_state(network, path, card=stated)
    return {**named, "size": path.stat().st_size, "urls": []}


def _trained(recipe: Recipe, recipe_path: str | Path, run: Path) -> AtmoDist:
    network = build_network(recipe)
    network.load_state_dict(network_state(last_checkpoint(recipe_path, run)))
    return network.eval()  # type: ignore[return-value]


def last_checkpoint(recipe_path: str | Path, run: Path) -> Path:
    """Return the last checkpoint of a run.

    Raises
    ------
    xatmo.errors.OptionError
        If there is none.
    """
    checkpoint = run / "checkpoints" / "last.ckpt"
    if checkpoint.exists():
        return checkpoint
    msg = f"The recipe {str(recipe_path)!r} has not been trained."
    raise OptionError(
        msg,
        found=f"no {checkpoint}",
        needed="a run with a checkpoint",
        hint=f"xatmo train {recipe_path}, or --out with the folder of its run",
    )


@contextmanager
def drafts(models: Sequence[Model]) -> Iterator[None]:
    """Let verbs find models that are not released, inside the block."""
    folders = {m.card.folder.parent for m in models if m.card.folder is not None}
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(also_in(folder))
        yield


def head_of(recipe: AnyRecipe) -> dict[str, Any]:
    """Return the first keys of a card, and the network's arguments."""
    return {
        "name": recipe.name,
        "version": recipe.version,
        "title": recipe.title,
        "architecture": recipe.architecture,
        **top_keys(recipe.card),
        "network": dict(recipe.network),
    }


def top_keys(card: Any) -> dict[str, Any]:
    """What a recipe says for the head of the card: tables come later."""
    # The comparison goes into the page, not into the card.
    return {
        k: v for k, v in card.items() if not isinstance(v, dict) and k not in _OF_PAGE
    }


def _tables(
    recipe: Recipe, network: AtmoDist, levels: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """What the card says about inputs, levels, time and layers."""
    s = recipe.sampling
    names = network.encoder.layers[::-1][:2]
    return {
        "inputs": [
            {"quantity": q, "units": canonical_units(q)} for q in recipe.quantities
        ],
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
    """Fit alpha on the training data at the first level, for each layer.

    Where the recipe asks for it, the last layer's channels are scaled before.
    """
    first = next(iter(levels))
    normalize = signlog(recipe, levels[first])
    own = sampler.only(first)
    s = recipe.sampling
    space = f"log-normalised fields, patches of {s.patch[0]} x {s.patch[1]} at {first}"
    if recipe.calibrate:
        calibrate(network, Scorer(network, normalize), own)
        last = network.encoder.layers[-1]
        space += f"; channels of {last} scaled to order time lags in training data"
    scorer = Scorer(network, normalize)
    return {
        "space": space,
        "lags": [s.step_hours * (i + 1) for i in range(s.n_lags // 2, s.n_lags)],
        "alpha": {
            n: fit_alpha(scorer, own, n) for n in network.encoder.layers[::-1][:2]
        },
    }
