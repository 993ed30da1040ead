"""The commands that train, release and score: ``xatmo train`` and those after it.

The heavy imports are inside the handlers, so that ``xatmo --help`` answers at once.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xatmo.errors import AtmoError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["add_compare", "add_evaluate", "add_release", "add_train"]

Commands = Any  # argparse does not name the type of its sub-parsers in public


def add_train(commands: Commands) -> None:
    """Add ``xatmo train RECIPE``."""
    text = "train the model that a recipe describes; again to go on"
    parser = commands.add_parser("train", help=text, description=text.capitalize())
    parser.add_argument("recipe", help="such as train/atmodist/recipe.toml")
    parser.add_argument("--data", help="train on this file or store instead")
    parser.add_argument("--level", help='of these data, such as "850 hPa"')
    text = "means of so many rows and columns of these data"
    parser.add_argument("--coarsen", type=int, default=1, metavar="N", help=text)
    parser.add_argument("--out", default="runs", help="folder of runs")
    parser.add_argument("--devices", type=int, default=1, help="GPUs or processes")
    kinds = ["auto", "cpu", "gpu"]
    parser.add_argument("--accelerator", choices=kinds, default="auto")
    parser.add_argument("--max-epochs", type=int, help="in place of the recipe's")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(handler=_train)


def _train(arguments: argparse.Namespace) -> int:
    _need_training_packages()
    from xatmo.training.logs import summary, without_chatter
    from xatmo.training.recipe import task
    from xatmo.training.run import train

    with without_chatter():
        try:
            folder = train(
                arguments.recipe,
                data=arguments.data,
                level=arguments.level,
                coarsen=arguments.coarsen,
                out=arguments.out,
                devices=arguments.devices,
                accelerator=arguments.accelerator,
                max_epochs=arguments.max_epochs,
                progress=not arguments.quiet,
            )
        except AtmoError as error:
            raise _as_arguments(error) from error
    print(summary(folder))
    out = "" if arguments.out == "runs" else f" --out {arguments.out}"
    release = f"next: xatmo release {arguments.recipe}{out}"
    if task(arguments.recipe) == "hole":
        release = f"next: xatmo compare {arguments.recipe} OTHER_RECIPE{out}"
    elif task(arguments.recipe) == "projection":
        print(_beginning(folder))
        data = f" --data {arguments.data}" if arguments.data else ""
        release = f"next: xatmo evaluate {arguments.recipe}{data}{out}"
    elif arguments.data:
        release = "to release a model of these data, name them in a recipe of their own"
    print(release)
    return 0


def _beginning(folder: Path) -> str:
    """Say what a network for projections began with."""
    from xatmo.training.projection.initial import began

    return str(began(folder) or "began from scratch")


def add_release(commands: Commands) -> None:
    """Add ``xatmo release RECIPE``."""
    text = "make a released model of a finished run, and score it"
    parser = commands.add_parser("release", help=text, description=text.capitalize())
    parser.add_argument("recipe", help="the recipe that was trained")
    parser.add_argument("--out", default="runs", help="folder of runs")
    parser.add_argument("--models", default="models", help="folder of models")
    parser.add_argument(
        "--scores-only", action="store_true", help="measure the released model again"
    )
    parser.add_argument("--pairs", type=int, default=24_000, help="per data set")
    parser.add_argument("--triplets", type=int, default=12_000, help="per data set")
    _add_of_fields(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(handler=_release)


def _release(arguments: argparse.Namespace) -> int:
    _need_training_packages()
    from importlib import import_module
    from pathlib import Path

    from xatmo.training.recipe import read_toml, task

    recipe, models = Path(arguments.recipe), Path(arguments.models)
    if task(recipe) in ("hole", "projection"):
        raise _not_released(recipe, task(recipe))
    kind = task(recipe)
    said: dict[str, Any] = {"out": arguments.out, "progress": not arguments.quiet}
    said |= {key: getattr(arguments, key) for key in _ASKED[kind]}
    below = "" if kind == "pairs" else f".{kind}"
    of_task = import_module(f"xatmo.training{below}.release")
    if arguments.scores_only:
        of_scores = import_module("xatmo.training.rescore") if not below else of_task
        name = read_toml(recipe)["name"]
        print(f"scored {of_scores.rescore(models / name, recipe, **said)}")
        return 0
    print(f"released {of_task.release(recipe, models=models, **said)}")
    return 0


# Arguments of the commands that a task's scores are made with.
_ASKED = {
    "pairs": ("pairs", "triplets"),
    "downscale": ("realizations",),
    "infill": ("times",),
    "multiformer": ("times",),
    "climax": ("times",),
}


def _not_released(recipe: Path, kind: str) -> AtmoError:
    from xatmo.errors import OptionError

    does = "fills one hole alone"
    if kind == "projection":
        does = "projects one variable of one climate model, for which there is no verb"
    return OptionError(
        f"{recipe} trains a network that {does}: it is no model.",
        found=f'task = "{kind}"',
        needed="a recipe of another task",
        hint=f"xatmo compare {recipe} ..., to score it beside others",
    )


def add_evaluate(commands: Commands) -> None:
    """Add ``xatmo evaluate MODEL --data FILE``, or of a recipe of projections."""
    text = "score a model on data, beside plain methods"
    parser = commands.add_parser("evaluate", help=text, description=text.capitalize())
    text = "name of a model; or a recipe of projections, to score its run"
    parser.add_argument("model", help=text)
    text = "files or stores; of a recipe, a folder in place of its own"
    parser.add_argument("--data", nargs="+", default=(), help=text)
    parser.add_argument("--start", help="first time, such as 2020-01-01")
    parser.add_argument("--end", help="last time, included")
    parser.add_argument("--level", help='such as "10 m" or "850 hPa"')
    parser.add_argument(
        "--coarsen", type=int, default=1, help="block means of so many rows and columns"
    )
    parser.add_argument(
        "--reference", nargs="+", default=(), help="EOFs or climatology are of these"
    )
    parser.add_argument("--pairs", type=int, default=24_000, help="default: 24000")
    parser.add_argument("--triplets", type=int, default=12_000, help="default: 12000")
    _add_of_fields(parser)
    _add_quantity(parser)
    parser.add_argument(
        "--against",
        nargs="+",
        default=(),
        metavar="NAME",
        help="score other models that downscale or infill as well",
    )
    parser.add_argument("--seed", type=int, default=7, help="of the draws; default: 7")
    parser.add_argument("--json", help="write all numbers to this file")
    parser.add_argument("--figures", metavar="DIR", help="write figures to this folder")
    text = "keep prepared data in this folder, default: runs/evaluate; of a recipe, "
    parser.add_argument("--out", help=text + "the folder of runs, default: runs")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(handler=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    _need_training_packages("scipy")
    from xatmo.zoo import get_card

    if arguments.model.endswith(".toml"):
        return _evaluate_recipe(arguments)
    arguments.out = arguments.out or "runs/evaluate"
    card = get_card(arguments.model)
    if not arguments.data:
        raise _no_data(arguments.model)
    if card.box is not None and "downscale" not in card.capabilities:
        return _evaluate_fields(arguments, "multiformer")
    if card.leads is not None:
        return _evaluate_fields(arguments, "climax")
    for kind in ("downscale", "infill"):
        if kind in card.capabilities:
            return _evaluate_fields(arguments, kind)
    from xatmo.training.evaluate import evaluate
    from xatmo.training.modelpage import score_page
    from xatmo.training.recipe import Source

    said: dict[str, Any] = {"level": arguments.level, "coarsen": arguments.coarsen}
    with _with_notes():
        scores = evaluate(
            arguments.model,
            _sources(arguments),
            reference=[Source(path, **said) for path in arguments.reference],
            pairs=arguments.pairs,
            triplets=arguments.triplets,
            folder=arguments.out,
            seed=arguments.seed,
            progress=not arguments.quiet,
        )
    print(score_page(scores))
    if arguments.figures:
        from xatmo.training.figures import save_figures

        _print_written(save_figures(scores, arguments.figures))
    _write_json(arguments.json, scores)
    return 0


def _evaluate_recipe(arguments: argparse.Namespace) -> int:
    from xatmo.errors import OptionError
    from xatmo.training.projection.evaluate import evaluate, score_page
    from xatmo.training.recipe import task

    kind, folders = task(arguments.model), list(arguments.data)
    if kind != "projection" or len(folders) > 1:
        msg = "Of recipes only those of projections are scored, on one folder."
        raise OptionError(
            msg,
            found=f'task = "{kind}", {len(folders)} folders',
            needed='task = "projection", and a folder at most',
            hint=f"xatmo release {arguments.model}, then the model's name",
        )
    data, out = next(iter(folders), None), arguments.out or "runs"
    scores = evaluate(arguments.model, data=data, out=out)
    print(score_page(scores))
    _write_json(arguments.json, scores)
    return 0


def _no_data(model: str) -> AtmoError:
    from xatmo.errors import OptionError

    msg = f"There are no data to score {model!r} on."
    needed = "files or stores that the model was not trained on"
    hint = f"xatmo evaluate {model} --data FILE"
    return OptionError(msg, found="no --data", needed=needed, hint=hint)


def _evaluate_fields(arguments: argparse.Namespace, kind: str) -> int:
    from importlib import import_module
    from pathlib import Path

    from xatmo.training.recipe import Source
    from xatmo.training.rescore import keyed

    of_task, page = (
        import_module(f"xatmo.training.{kind}.{part}") for part in ("evaluate", "page")
    )
    said = {key: getattr(arguments, key) for key in _ASKED[kind]}
    if kind == "climax":
        about = {"level": arguments.level, "coarsen": arguments.coarsen}
        about["quantities"] = tuple(arguments.quantity)
        said["reference"] = [[Source(p, **about)] for p in arguments.reference]
    results: dict[str, Any] = {}
    for key, source in keyed(_sources(arguments)):
        with _with_notes():
            scores = of_task.evaluate(
                [arguments.model, *arguments.against],
                source,
                **said,
                folder=arguments.out,
                seed=arguments.seed,
                progress=not arguments.quiet,
            )
        print(page.score_page(scores))
        results[key] = scores
    several = len(results) > 1
    if arguments.figures:
        save_figures = import_module(f"xatmo.training.{kind}.figures").save_figures
        for key, scores in results.items():
            folder = Path(arguments.figures, key if several else "")
            _print_written(save_figures(scores, folder))
    for scores in results.values():
        scores.pop(of_task.EXAMPLE, None)  # maps, for a figure alone
    _write_json(arguments.json, results if several else scores)
    return 0


def _sources(arguments: argparse.Namespace) -> list[Any]:
    from xatmo.training.recipe import Source

    keys = ("start", "end", "level", "coarsen")
    said = {key: getattr(arguments, key) for key in keys}
    said["quantities"] = tuple(arguments.quantity)
    return [Source(path, **said) for path in arguments.data]


@contextmanager
def _with_notes() -> Iterator[None]:
    """Print warnings as notes, each once; name arguments of the command in errors."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except AtmoError as error:
            raise _as_arguments(error) from error
    notes = (str(w.message) for w in caught if issubclass(w.category, UserWarning))
    for note in dict.fromkeys(notes):
        print(f"note: {note}", file=sys.stderr)


def _print_written(paths: Iterable[Path | str]) -> None:
    for path in paths:
        print(f"wrote {path}")


def _write_json(path: str | None, values: Any) -> None:
    if path:
        from xatmo.training.evaluate import write_json

        write_json(values, path)
        _print_written([path])


def _add_of_fields(parser: argparse.ArgumentParser) -> None:
    text = "of networks that draw them; default: 8"
    parser.add_argument("--realizations", type=int, default=8, help=text)
    text = "so many are scored, of networks that fill gaps or forecast"
    parser.add_argument("--times", type=int, help=text)


def _add_quantity(parser: argparse.ArgumentParser) -> None:
    text = "standard names of what to fill gaps in; all that is recognised if none"
    parser.add_argument("--quantity", nargs="+", default=(), metavar="NAME", help=text)


def add_compare(commands: Commands) -> None:
    """Add ``xatmo compare RECIPE...``."""
    text = "train networks of one task, and score them on the same data"
    parser = commands.add_parser("compare", help=text, description=text.capitalize())
    parser.add_argument("recipes", metavar="RECIPE", nargs="+", help="in this order")
    text = "score on these; the recipes' evaluation data if none"
    parser.add_argument("--data", nargs="+", default=(), help=text)
    parser.add_argument("--start", help="first time of these, such as 2020-01-01")
    parser.add_argument("--end", help="last time, included")
    parser.add_argument("--level", help='such as "10 m" or "850 hPa"')
    parser.add_argument(
        "--coarsen", type=int, default=1, help="block means of so many rows and columns"
    )
    _add_of_fields(parser)
    _add_quantity(parser)
    parser.add_argument("--seed", type=int, default=7, help="of draws; default: 7")
    parser.add_argument("--json", help="write all numbers to this file")
    parser.add_argument("--markdown", help="write the tables to this file")
    text = "write the tables for a recipe's `comparison` to this file"
    parser.add_argument("--table", help=text)
    parser.add_argument("--out", default="runs", help="folder of runs")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(handler=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    _need_training_packages()
    from importlib import import_module

    from xatmo.training.logs import without_chatter
    from xatmo.training.recipe import task
    from xatmo.zoo.files import draft

    said: dict[str, Any] = {"data": _sources(arguments), "out": arguments.out}
    said["progress"] = not arguments.quiet
    first = task(arguments.recipes[0])
    known = ("hole", "infill", "climax", "projection")
    kind = first if first in known else "downscale"
    if kind in _ASKED:
        said |= {key: getattr(arguments, key) for key in (*_ASKED[kind], "seed")}
    of_task = import_module(f"xatmo.training.{kind}.compare")
    try:
        with without_chatter():
            result = of_task.compare(arguments.recipes, **said)
    except AtmoError as error:
        raise _as_arguments(error) from error
    page = of_task.comparison_page(result)
    print(page)
    if arguments.markdown:
        with draft(arguments.markdown) as file:
            file.write_text(page, "utf-8")
        _print_written([arguments.markdown])
    _write_json(arguments.json, of_task.without_maps(result))
    _write_json(arguments.table, of_task.comparison_tables(result))
    return 0


def _as_arguments(error: AtmoError) -> AtmoError:
    """The same error, whose way out is an argument of the command."""
    names = "level|coarsen|pairs|triplets|realizations|times"
    wanted = rf"""(?<![\w.])({names})=\[?("[^"]*"|\d+)[^,)\s]*"""
    hint = re.sub(wanted, r"--\1 \2", error.hint)
    return type(error)(error.problem, found=error.found, needed=error.needed, hint=hint)


def _need_training_packages(*needed: str) -> None:
    from importlib.util import find_spec

    from xatmo.errors import MissingDependencyError

    packages = needed or ("lightning", "scipy")
    if missing := [p for p in packages if find_spec(p) is None]:
        msg = "Training and evaluation need packages that are not installed."
        raise MissingDependencyError(
            msg,
            found=f"no {', no '.join(missing)}",
            needed="the packages of the extra [train]",
            hint='pip install "xatmo[train]"',
        )
