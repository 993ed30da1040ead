"""The commands that run verbs on files: ``xatmo embed IN OUT`` and its like.

The heavy imports are inside the handler, so that ``xatmo --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xatmo.jobs.run import Report
    from xatmo.jobs.signals import Stopped

__all__ = ["add_distance", "add_downscale", "add_embed", "add_forecast", "add_infill"]

Commands = Any  # argparse does not name the type of its sub-parsers in public

_SKIPPED = 3  # exit code of an output in which blocks are missing


def add_embed(commands: Commands) -> None:
    """Add ``xatmo embed IN OUT``."""
    parser = _parser(commands, "embed", "turn fields into maps of vectors")
    _add_layer(parser)
    _add_job(parser)


def add_distance(commands: Commands) -> None:
    """Add ``xatmo distance IN OUT``."""
    text = "measure how far apart states are, as a network sees it"
    parser = _parser(commands, "distance", text)
    text = "compare with this: one state, or a series; may be left out with --pairwise"
    parser.add_argument("--reference", dest="other", metavar="FILE", help=text)
    text = "every time with every other one"
    parser.add_argument("--pairwise", action="store_true", default=None, help=text)
    text = "how two series meet (default: exact)"
    parser.add_argument("--join", choices=["exact", "inner", "override"], help=text)
    _add_layer(parser)
    _add_job(parser)


def add_downscale(commands: Commands) -> None:
    """Add ``xatmo downscale IN OUT``."""
    text = "refine fields to a grid several times finer"
    parser = _parser(commands, "downscale", text)
    parser.add_argument("--factor", type=int, help="how many times finer (default: 4)")
    text = "how many fine states to draw for each coarse one (default: 1)"
    parser.add_argument("--realizations", type=int, metavar="N", help=text)
    text = "do not make the mean of the fine values the coarse one"
    parser.add_argument(
        "--no-conserve", dest="conserve", action="store_false", default=None, help=text
    )
    parser.add_argument("--seed", type=int, help="of the draws (default: 0)")
    _add_level(parser)
    _add_job(parser)


def add_infill(commands: Commands) -> None:
    """Add ``xatmo infill IN OUT``."""
    text = "fill gaps of any shape, with a spread"
    parser = _parser(commands, "infill", text)
    text = 'such as "network" or "kriging", or the name of a model (default: auto)'
    parser.add_argument("--method", help=text)
    parser.add_argument(
        "--no-spread", dest="spread", action="store_false", default=None, help="none"
    )
    text = "file with a mask that is true where to fill (default: all NaN)"
    parser.add_argument("--mask", metavar="FILE", help=text)
    parser.add_argument("--seed", type=int, help="of hidden cells (default: 0)")
    _add_job(parser)


def add_forecast(commands: Commands) -> None:
    """Add ``xatmo forecast IN OUT``."""
    parser = _parser(commands, "forecast", "forecast fields from the times before")
    text = "how far ahead (default: 24h); several times for several leads"
    parser.add_argument("--lead", action="append", metavar="TIME", help=text)
    text = "mean and spread in place of all members"
    parser.add_argument(
        "--no-members", dest="members", action="store_false", default=None, help=text
    )
    text = "what to forecast, of models with leads; several times for several"
    parser.add_argument("--variables", action="append", metavar="NAME", help=text)
    text = "go on from the forecast so many times, of models with leads"
    parser.add_argument("--steps", type=int, metavar="N", help=text)
    _add_level(parser)
    _add_job(parser)


def _parser(commands: Commands, verb: str, text: str) -> argparse.ArgumentParser:
    about = (
        f"{text.capitalize()}. Blocks that are done stay done: the same command again "
        "goes on where it ended. Answers 3 if blocks were left out (--on-error skip), "
        "130 or 143 if it was stopped."
    )
    parser: argparse.ArgumentParser = commands.add_parser(
        verb, help=f"{text}, from file to store", description=about
    )
    text = 'netCDF, GRIB or Zarr; or a pattern in quotes: "era5-*.nc"'
    parser.add_argument("source", metavar="IN", help=text)
    text = "what to write: .zarr (Zarr version 3) or .nc (netCDF)"
    parser.add_argument("target", metavar="OUT", help=text)
    parser.add_argument("--model", help="name of a model; the default one if none")
    parser.set_defaults(handler=_run, verb=verb)
    return parser


def _add_layer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layer", help="that is read out; the last one if none")
    text = "area-weighted mean over the map"
    parser.add_argument("--reduce", choices=["mean"], help=text)
    _add_level(parser)


def _add_level(parser: argparse.ArgumentParser) -> None:
    text = 'such as "10 m" or "850 hPa"; several times for several levels'
    parser.add_argument("--level", action="append", help=text)


def _add_job(parser: argparse.ArgumentParser) -> None:
    """Add what all jobs have."""
    group = parser.add_argument_group("input and output")
    group.add_argument("--start", metavar="TIME", help="first time, such as 2020-01-01")
    group.add_argument("--end", metavar="TIME", help="last time, included")
    text = "chunks of OUT, such as time=64: what is computed and written at a time"
    group.add_argument("--chunks", metavar="DIM=N,...", help=text)
    text = "shards of a Zarr store, such as time=512: so much in one file"
    group.add_argument("--shards", metavar="DIM=N,...", help=text)
    text = "begin anew if there is something else, or something finished"
    group.add_argument("--overwrite", action="store_true", help=text)
    text = "files of IN have changed, but are to be taken for the same: mended, moved"
    group.add_argument("--same-input", action="store_true", help=text)
    text = "a block that fails ends the job, or is left out (default: raise)"
    group.add_argument(
        "--on-error", choices=["raise", "skip"], default="raise", help=text
    )
    text = "NaN in the input end the job, or give NaN (default: raise)"
    group.add_argument("--missing", choices=["raise", "propagate"], help=text)

    group = parser.add_argument_group("where to compute")
    text = "threads, processes, local-cluster or tcp://HOST:PORT (default: threads)"
    group.add_argument("--scheduler", default="threads", metavar="NAME", help=text)
    text = "threads or processes; as many as cores if not given"
    group.add_argument("--workers", type=int, metavar="N", help=text)
    text = 'of each worker of a local cluster, such as "4GB"'
    group.add_argument("--memory", metavar="SIZE", help=text)
    group.add_argument("--device", help="auto, cpu or cuda (default: auto)")
    text = "float32, or bfloat16 where the network bears it (default: float32)"
    group.add_argument("--precision", choices=["float32", "bfloat16"], help=text)
    text = "fields per forward pass; by size and device if not given"
    group.add_argument("--batch-size", type=int, metavar="N", help=text)
    text = "show a bar, or none (default: on terminals only)"
    group.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, default=None, help=text
    )


# Arguments of the commands that are no options of a verb.
_OF_THE_JOB = (
    *("source", "target", "start", "end", "overwrite", "on_error"),
    "same_input",
    *("scheduler", "workers", "memory", "progress"),
)
_SETTINGS = ("missing", "device", "precision", "batch_size")
_OTHERS = {"handler", "verb", "chunks", "shards", *_OF_THE_JOB, *_SETTINGS}


def _run(arguments: argparse.Namespace) -> int:
    from xatmo.jobs.plan import parse_sizes
    from xatmo.jobs.run import run_job
    from xatmo.jobs.signals import Stopped
    from xatmo.options import set_options

    table = vars(arguments)
    said = {name: table[name] for name in _OF_THE_JOB}
    said["chunks"] = parse_sizes(arguments.chunks, "--chunks")
    said["shards"] = parse_sizes(arguments.shards, "--shards")
    options = {
        name: _one(value) for name, value in table.items() if name not in _OTHERS
    }
    settings = {name: table[name] for name in _SETTINGS if table[name] is not None}
    try:
        with _notes(), set_options(**settings):
            report = run_job(arguments.verb, **said, **options)
    except Stopped as stopped:
        return _stopped(stopped, arguments.target)
    return _told(report)


def _one(value: Any) -> Any:
    """One of a list of one; levels without units as numbers."""
    if not isinstance(value, list):
        return value
    values = [_number(v) for v in value]
    return values[0] if len(values) == 1 else values


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


@contextmanager
def _notes() -> Iterator[None]:
    """Warnings as notes, each of them once."""
    told: set[str] = set()

    def note(message: Any, *_: Any, **__: Any) -> None:
        if str(message) not in told:
            told.add(str(message))
            print(f"note: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = note
        yield


def _told(report: Report) -> int:
    print(report)
    if report.complete:
        return 0
    print(f"{len(report.failures)} blocks failed:", file=sys.stderr)
    for failure in report.failures:
        print(f"  {failure}", file=sys.stderr)
    print("run the same command again to try these once more", file=sys.stderr)
    return _SKIPPED


def _stopped(stopped: Stopped, target: str) -> int:
    code = 128 + stopped.number
    name = signal.Signals(stopped.number).name
    if not stopped.at_once:
        print(f"{name}: {stopped}", file=sys.stderr)
        return code
    text = f"{name} twice: stopped at once; run the same command again to go on"
    print(f"{text} with {target}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    # Blocks are still at work in threads, and an ordinary end would wait for them.
    os._exit(code)
