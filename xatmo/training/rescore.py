"""The scores of a released model, and the page, card and figures that tell them."""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xatmo.errors import OptionError
from xatmo.training.evaluate import evaluate, write_json
from xatmo.training.figures import save_figures, save_learning
from xatmo.training.modelpage import model_page
from xatmo.training.recipe import AnyRecipe, Recipe, Source, read_recipe
from xatmo.zoo import Card, Model, read_card, write_card
from xatmo.zoo.files import draft

__all__ = [
    "Telling",
    "keyed",
    "publish",
    "rescore",
    "rescored",
    "scores_of",
    "write_scores",
]

_SHORT = ("accuracy", "accuracy_chance", "top3", "within_one_class", "cross_entropy")


def rescore(
    folder: str | Path,
    recipe_path: str | Path,
    *,
    out: str | Path = "runs",
    pairs: int = 24_000,
    triplets: int = 12_000,
    progress: bool = False,
) -> Path:
    """Measure a released model again: its weights stay, its scores are written anew.

    Parameters
    ----------
    folder : path
        The model's, with ``card.toml`` and weights.
    recipe_path : path
        Whose ``evaluation`` data the model is scored on.
    out : path
        Prepared data are kept in ``<out>/<name>/data``; the learning curve is taken
        from a run there, if there is one.
    pairs, triplets : int
        How many are drawn from each data set.
    progress : bool
        Show progress bars.

    Returns
    -------
    Path
        The same folder: ``scores.json``, ``README.md``, ``figures`` and the table
        ``[scores]`` of ``card.toml`` are new.
    """
    recipe = read_recipe(recipe_path)

    def measure(card: Card) -> dict[str, Any]:
        return scores_of(card, recipe, out, pairs, triplets, progress)

    return rescored(Path(folder), recipe, recipe_path, out, measure, Telling())


def rescored(
    folder: Path,
    recipe: AnyRecipe,
    recipe_path: str | Path,
    out: str | Path,
    measure: Callable[[Card], dict[str, Any]],
    telling: Telling,
) -> Path:
    """Measure a released model again, whatever it is for, and tell it."""
    if not (folder / "card.toml").exists():
        msg = f"There is no released model in {str(folder)!r}."
        raise OptionError(
            msg,
            found=f"no {folder / 'card.toml'}",
            needed="a folder with card.toml and weights",
            hint=f"xatmo release {recipe_path}, without --scores-only",
        )
    card = read_card(folder / "card.toml")
    scores = measure(card)
    with tempfile.TemporaryDirectory() as aside:
        draft_folder = Path(aside) / card.name
        draft_folder.mkdir()
        (draft_folder / "card.toml").write_bytes((folder / "card.toml").read_bytes())
        curve = _curve(folder, recipe, out)
        write_scores(draft_folder, scores, recipe, recipe_path, curve, telling)
        return publish(draft_folder, folder)


def scores_of(
    card: Card,
    recipe: Recipe,
    out: str | Path,
    pairs: int,
    triplets: int,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a model on each of its recipe's evaluation data."""
    model = Model(card, card.key())
    # Constants may be of a level that is scored and not trained at.
    seen = (*recipe.train, *recipe.constants)
    native = [s for s in seen if s.coarsen == 1 and s.spacing is None and _is_there(s)]
    scores = {}
    for key, source in keyed(recipe.evaluation):
        scores[key] = evaluate(
            model,
            [source],
            # EOFs of the grid that is scored: those of a finer one fit it badly.
            reference=[replace(s, coarsen=source.coarsen) for s in native],
            folder=Path(out) / recipe.name / "data",
            pairs=pairs,
            triplets=triplets,
            progress=progress,
        )
    return scores


def keyed(sources: Iterable[Source]) -> Iterator[tuple[str, Source]]:
    """Name the scores on each source, and the folder of their figures.

    Several periods or levels of one file are numbered.
    """
    seen: Counter[str] = Counter()
    for source in sources:
        key = Path(source.path).stem.replace(".", "_")
        if source.coarsen > 1:
            key = f"{key}_coarse{source.coarsen}"
        seen[key] += 1
        yield (f"{key}_{seen[key]}" if seen[key] > 1 else key), source


def _is_there(source: Source) -> bool:
    """Whether training data are still at hand; a score says what it was made with."""
    try:
        source.resolve()
    except OptionError:
        return False
    return True


def write_scores(
    folder: Path,
    scores: dict[str, Any],
    recipe: AnyRecipe,
    recipe_path: str | Path,
    curve: Sequence[dict[str, Any]],
    telling: Telling,
) -> None:
    """Write scores, figures and page into a folder, and short scores into its card."""
    figures = {}
    for key, value in scores.items():
        paths = telling.figures(value, folder / "figures" / key)
        figures[key] = [_beside(folder, path) for path in paths]
        value.pop("example", None)  # maps, for a figure alone
    write_json(scores, folder / "scores.json")
    values = tomllib.loads((folder / "card.toml").read_text("utf-8"))
    values["scores"] = {key: telling.short(value) for key, value in scores.items()}
    card = write_card(folder / "card.toml", values)
    if curve:
        (folder / "curve.json").write_text(json.dumps(list(curve), indent=1) + "\n")
        path = telling.learning(curve, folder / "figures")
        figures["learning"] = [_beside(folder, path)]
    page = telling.page(
        card,
        scores,
        str(recipe_path),
        figures=figures,
        curve=curve,
        comparisons=_comparisons(recipe, Path(recipe_path)),
    )
    (folder / "README.md").write_text(page, "utf-8")


def publish(folder: Path, target: Path) -> Path:
    """Copy all files of a folder, the card last: a reader never sees half a model.

    Figures of data that it is no longer scored on are removed.
    """
    files = [f for f in folder.rglob("*") if f.is_file()]
    new = {f.relative_to(folder) for f in files}
    for old in (target / "figures").rglob("*.png"):
        if old.relative_to(target) not in new:
            old.unlink()
    for file in sorted(files, key=lambda f: f.name == "card.toml"):
        with draft(target / file.relative_to(folder)) as part:
            part.write_bytes(file.read_bytes())
    return target


def _beside(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _curve(folder: Path, recipe: AnyRecipe, out: str | Path) -> list[dict[str, Any]]:
    """The learning curve of the run, or what an earlier release kept of it."""
    for path in (Path(out) / recipe.name / "curve.json", folder / "curve.json"):
        if path.exists():
            curve: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
            return curve
    return []


def _comparisons(recipe: AnyRecipe, recipe_path: Path) -> list[dict[str, Any]]:
    """Tables that a recipe adds to the page: a JSON file, one or a list of them."""
    name = recipe.card.get("comparison")
    if not name:
        return []
    for path in (Path(name), recipe_path.parent / name):
        if path.exists():
            told = json.loads(path.read_text("utf-8"))
            tables: list[dict[str, Any]] = told if isinstance(told, list) else [told]
            _check_tables(tables, path)
            return tables
    msg = f"The comparison {name!r} of {recipe_path} is not there."
    raise OptionError(
        msg,
        found=f"no {name} here and none beside the recipe",
        needed="a JSON file with title, columns and rows",
        hint="write it, or take comparison out of [card]",
    )


def _check_tables(tables: list[dict[str, Any]], path: Path) -> None:
    for table in tables:
        width, rows = len(table.get("columns", ())), table.get("rows", [])
        if "title" in table and all(len(row) == width for row in rows):
            continue
        msg = f"{path} holds no table that can be shown."
        raise OptionError(
            msg,
            found=", ".join(sorted(table)) or "nothing",
            needed="title, columns, and rows of as many cells; a note if there is one",
            hint='{"title": "...", "columns": ["model", "CE"], "rows": [["a", 1.5]]}',
        )


def _short(scores: dict[str, Any]) -> dict[str, Any]:
    """The numbers that go into the card itself."""
    c, o = scores["classification"], scores["ordering"]
    return {
        "data": scores["data"],
        **{k: round(float(c[k]), 4) for k in _SHORT},
        "ordering": {
            group: {
                name: round(v["accuracy"], 4)
                for name, v in table.items()
                if isinstance(v, dict)
            }
            for group, table in o.items()
        },
    }


@dataclass(frozen=True)
class Telling:
    """How scores are told: by figures, on a page, and in short in the card.

    Those of networks that compare pairs, if nothing else is said.
    """

    page: Callable[..., str] = model_page
    figures: Callable[[dict[str, Any], Path], list[Path]] = save_figures
    learning: Callable[[Sequence[dict[str, Any]], Path], Path] = save_learning
    short: Callable[[dict[str, Any]], dict[str, Any]] = _short
