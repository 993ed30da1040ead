"""The command ``xatmo``.

Each sub-command is a function that adds its parser and names its handler; the heavy
imports are inside the handlers, so that ``xatmo --help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from xatmo.errors import AtmoError
from xatmo.jobs.commands import (
    add_distance,
    add_downscale,
    add_embed,
    add_forecast,
    add_infill,
)
from xatmo.training.commands import (
    add_compare,
    add_evaluate,
    add_release,
    add_train,
)

if TYPE_CHECKING:
    from pathlib import Path

    from xatmo.zoo import Card, Model

__all__ = ["main"]

Handler = Callable[[argparse.Namespace], int]
Commands = Any  # argparse does not name the type of its sub-parsers in public


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process if not given.

    Returns
    -------
    int
        0 if all is well, 1 if a check found something bad, 2 for an error.
    """
    arguments = _parser().parse_args(argv)
    handler: Handler = arguments.handler
    try:
        return handler(arguments)
    except AtmoError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xatmo", description="Pretrained networks of the atmosphere for xarray."
    )
    parser.add_argument("--version", action=_ShowVersion)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(commands)
    return parser


class _ShowVersion(argparse.Action):
    """Print the version; it is looked up only when somebody asks."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        text = "show the version and exit"
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=text)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from xatmo import __version__

        print(f"xatmo {__version__}")
        parser.exit()


def add_models(commands: Commands) -> None:
    """Add ``xatmo models list | show | fetch | verify | import``."""
    text = "list, show, fetch, verify and import models"
    parser = commands.add_parser("models", help=text)
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="which models there are")
    listing.add_argument("--json", action="store_true", help="for other programs")
    listing.set_defaults(handler=_list_models)

    show = actions.add_parser("show", help="everything a model's card says")
    show.add_argument("name", metavar="NAME", help="name, or name@version")
    show.set_defaults(handler=_show_model)

    fetch = actions.add_parser("fetch", help="download the weights of a model")
    fetch.add_argument("name", metavar="NAME", help="name, or name@version")
    fetch.add_argument("--force", action="store_true", help="download them again")
    fetch.set_defaults(handler=_fetch_model)

    verify = actions.add_parser("verify", help="compare weight files with their cards")
    verify.add_argument("names", metavar="NAME", nargs="*", help="all models if none")
    verify.set_defaults(handler=_verify_models)

    add = actions.add_parser(
        "import", help="make a published AtmoRep or ClimaX model one of these"
    )
    add.add_argument(
        "path", metavar="DIR", help="folder id<ID>, the archive, or *.ckpt"
    )
    text = "folder of the original statistics; without it the user has to fit some"
    add.add_argument("--normalization", metavar="DIR", help=text)
    add.add_argument("--name", help="of the new model; atmorep-<ID> if none")
    add.add_argument("--epoch", type=int, help="which of several; the last one if none")
    add.set_defaults(handler=_import_model)


def _list_models(arguments: argparse.Namespace) -> int:
    from xatmo.zoo import list_models

    models = list_models()
    if not arguments.json:
        print(models)
        return 0
    entries = [_entry(card) for card in models]
    entries += [
        {"name": bad.name, "folder": str(bad.folder), "error": str(bad.error)}
        for bad in models.broken
    ]
    print(json.dumps(entries, indent=2))
    return 0


def _entry(card: Card) -> dict[str, object]:
    from xatmo.zoo.fetch import where

    return {
        "name": card.name,
        "version": card.version,
        "title": card.title,
        "capabilities": list(card.capabilities),
        "default": card.default,
        "licence": card.licence,
        "size": card.weights.size,
        "sha256": card.weights.sha256,
        "weights": where(card),
        "folder": str(card.folder),
    }


def _show_model(arguments: argparse.Namespace) -> int:
    from xatmo.zoo import get_card
    from xatmo.zoo.describe import describe

    print(describe(get_card(arguments.name)))
    return 0


def _fetch_model(arguments: argparse.Namespace) -> int:
    from xatmo.zoo import get_card, weights_path

    print(weights_path(get_card(arguments.name), force=arguments.force))
    return 0


def _verify_models(arguments: argparse.Namespace) -> int:
    from xatmo.zoo import get_card, list_models

    models = list_models()
    cards = [get_card(name) for name in arguments.names] or list(models)
    rows = [row for card in cards for row in _verified(card)]
    if not arguments.names:
        rows += [(bad.name, "BAD CARD", bad.error.problem) for bad in models.broken]
    for name, verdict, detail in rows:
        print(f"{verdict:<11}  {name}  {detail}")
    return 1 if any(verdict in ("DAMAGED", "BAD CARD") for _, verdict, _ in rows) else 0


def _import_model(arguments: argparse.Namespace) -> int:
    from xatmo.zoo.importing import import_model

    model = import_model(
        arguments.path,
        normalization=arguments.normalization,
        name=arguments.name,
        epoch=arguments.epoch,
    )
    print("\n".join(_told_of_import(model)))
    return 0


def _told_of_import(model: Model) -> list[str]:
    """What was imported, and the call to make next."""
    card = model.card
    without = [
        f"{field.name} at {level.level}"
        for field in card.fields
        for level in field.levels
        if not model.has_constants(field.name, level.level)
    ]
    lines = [f"imported {card.name}, {card.weights.size / 1e6:.1f} MB: {card.title}"]
    for field in card.fields:
        levels = ", ".join(level.level for level in field.levels)
        lines.append(f"  {field.name}: {field.quantity} [{field.units}] at {levels}")
    lines += [f"  in {card.folder}", "next:", "  import xatmo"]
    lines.append(f'  model = xatmo.load_model("{card.name}")')
    if without:
        fit = 'xatmo.fit_normalization(ds, model, by="month")'
        lines.append(f"  model = model.with_normalization({fit})")
        lines.append(f"  # no constants yet of {'; '.join(without)}")
    return lines


def _verified(card: Card) -> list[tuple[str, str, str]]:
    from xatmo.zoo.fetch import local_copies

    rows = [(card.name, *_verdict(path, card)) for path in local_copies(card)]
    nothing = (card.name, "not fetched", f"{card.weights.size:,} bytes to download")
    return rows or [nothing]


def _verdict(path: Path, card: Card) -> tuple[str, str]:
    from xatmo.zoo.files import file_sha256

    try:
        found = file_sha256(path, afresh=True)
    except OSError as error:
        return "DAMAGED", f"{path}: {error}"
    if found == card.weights.sha256:
        return "ok", str(path)
    return "DAMAGED", f"{path}: sha256 {found}, the card says {card.weights.sha256}"


def add_demo(commands: Commands) -> None:
    """Add ``xatmo demo [FILE]``."""
    text = "embed a series and measure the distances between its states"
    parser = commands.add_parser("demo", help=text, description=text.capitalize())
    parser.add_argument(
        "file", nargs="?", help="netCDF, GRIB or Zarr; a sample if none"
    )
    parser.add_argument("--model", help="name of a model; the default one if none")
    parser.add_argument("--level", help='such as "10 m" or "850 hPa"')
    parser.add_argument("--out", default=".", help="folder for the results")
    parser.set_defaults(handler=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from xatmo.demo import compute, draw, open_file, run_demo, save, table
    from xatmo.sample import open_sample
    from xatmo.summary import summarize

    ds = open_file(arguments.file) if arguments.file else open_sample(chunks={})
    print(summarize(ds).text(), end="\n\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        demo = run_demo(ds, model=arguments.model, level=arguments.level)
    for note in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"note: {note}\n")
    demo = compute(demo, progress=True)
    print(table(demo))
    for path in save(demo, draw(demo), Path(arguments.out)):
        print(f"wrote {path}")
    return 0


# One line here and one function above are all that a new command needs.
_COMMANDS: tuple[Callable[[Commands], None], ...] = (
    add_demo,
    add_embed,
    add_distance,
    add_downscale,
    add_infill,
    add_forecast,
    add_models,
    add_train,
    add_release,
    add_evaluate,
    add_compare,
)
