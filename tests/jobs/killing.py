"""Kill jobs at random times, and run them again: as a script, one line of JSON a run.

    python tests/jobs/killing.py IN FOLDER --runs 50 --seed 1

A process that has imported everything, and computed nothing, forks one child for each
attempt: an attempt takes as long as its work, not as long as importing torch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import torch
import xarray as xr
from conftest import data_files

from xatmo.cli import main
from xatmo.jobs.pieces import Pieces
from xatmo.jobs.run import run_job

assert run_job  # imported here, so that children need not
IN_FLIGHT = 2  # blocks at work at a time, with threads


def _warm_up(source: str, verb: str) -> None:
    """Do once what every child would: nothing here may start a thread."""
    torch.set_num_threads(1)
    ds = xr.open_zarr(source)
    getattr(ds.atmo, verb)()


def _attempt(arguments: list[str], trace: Path, limit: float | None) -> int | None:
    """Exit code of a job in a process of its own; None if it was killed in time."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            _trace(trace)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            code = main(arguments)
        finally:
            os._exit(code)
    if limit is not None:
        time.sleep(limit)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _trace(path: Path) -> None:
    """Write down every block that begins."""
    compute = Pieces.compute

    def traced(self: Pieces, region: int) -> None:
        with path.open("ab", buffering=0) as stream:
            stream.write(f"{region}\n".encode())
        compute(self, region)

    Pieces.compute = traced


def _opens(out: Path) -> bool:
    return (out / "zarr.json").exists() if out.suffix == ".zarr" else out.exists()


def _done(out: Path) -> set[int]:
    work = out if out.suffix == ".zarr" else out.with_name(out.name + ".partial")
    with contextlib.suppress(FileNotFoundError):
        lines = (work / ".xatmo" / "journal.jsonl").read_text().splitlines(True)
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        return {line["done"] for line in whole if "done" in line}
    return set()


def run(arguments: argparse.Namespace) -> int:
    draw = random.Random(arguments.seed)
    folder = Path(arguments.folder)
    said = [*arguments.options.split(), "--workers", "2"]

    def job(name: str) -> tuple[Path, Path, list[str]]:
        out = folder / f"{name}.{arguments.suffix}"
        call = [arguments.verb, arguments.source, str(out), *said]
        return out, folder / f"{name}.trace", call

    _warm_up(arguments.source, arguments.verb)
    clean, trace, call = job("clean")
    start = time.monotonic()
    assert _attempt(call, trace, None) == 0
    took = time.monotonic() - start
    blocks = len(trace.read_text().split())
    want = data_files(clean) if clean.suffix == ".zarr" else None
    bad = 0
    for number in range(arguments.runs):
        out, trace, call = job(f"run-{number}")
        kills, lied, again = 0, False, 0
        code: int | None = None
        while code is None:
            limit = draw.uniform(0, took) if kills < arguments.kills else None
            before = _done(out)
            seen = trace.read_text().split() if trace.exists() else []
            code = _attempt(call, trace, limit)
            new = trace.read_text().split()[len(seen) :] if trace.exists() else []
            again += len(before & set(map(int, new)))
            kills += code is None
            lied |= code is None and _opens(out) and len(_done(out)) < blocks
        started = len(trace.read_text().split())
        entry = {
            "run": number,
            "kills": kills,
            "code": code,
            "opened_early": lied,
            "done_twice": again,
            "lost": started - blocks,
            "bound": kills * IN_FLIGHT,
            "same": _same(out, clean, want),
        }
        right = code == 0 and not lied and not again and entry["same"]
        bad += not (right and entry["lost"] <= entry["bound"])
        print(json.dumps(entry), flush=True)
    print(json.dumps({"runs": arguments.runs, "bad": bad, "seconds": round(took, 2)}))
    return int(bad > 0)


def _same(out: Path, clean: Path, want: dict[str, str] | None) -> bool:
    if want is not None:
        return bool(want) and data_files(out) == want
    with xr.open_dataset(out) as a, xr.open_dataset(clean) as b:
        return bool(a.equals(b))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("folder")
    parser.add_argument("--verb", default="embed")
    parser.add_argument("--options", default="--chunks time=2")
    parser.add_argument("--suffix", default="zarr")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(run(parser.parse_args()))
