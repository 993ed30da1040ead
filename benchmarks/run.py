"""Run the benchmarks and write ``benchmarks/results.md``.

    python -m benchmarks.run [--only NAME ...] [--quick]

Each runs in a process of its own, so that none inherits what another has loaded. Times
only mean something on a quiet machine; what is compared with a goal is a ratio or a
count. With ``--only`` the others' parts of the page stay, each with its day.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that `python benchmarks/run.py` works as well

from benchmarks.rows import Row, markdown  # noqa: E402

NAMES = (
    "overhead",
    "downscaling",
    "infilling",
    "encoder",
    "multiformer",
    "climax",
    "loss",
    "graph",
    "memory",
    "parallel",
    "scheduler",
    "imports",
    "precision",
    "gpu",
)
LONG = ("big",)  # of tens of minutes: by --only alone
RESULTS = ROOT / "benchmarks" / "results.md"


def main() -> None:
    """Run what was asked for, print it, and put it into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    text, every = "these benchmarks", (*NAMES, *LONG)
    parser.add_argument("--only", choices=every, nargs="+", default=NAMES, help=text)
    text = "fewer repeats, less data; writes nothing"
    parser.add_argument("--quick", action="store_true", help=text)
    arguments = parser.parse_args()
    known = {} if arguments.quick else sections(RESULTS)
    for name in arguments.only:
        known[name] = section(name, rows(name, arguments.quick))
        print(known[name], flush=True)
        if not arguments.quick:  # each at once: the next one may fail
            RESULTS.write_text(page(known), encoding="utf-8")


def sections(path: Path) -> dict[str, str]:
    """Read the parts of a page by their names; those of no benchmark are left out."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = [part.strip() for part in text.split("\n## ")[1:]]
    found = {part.splitlines()[0]: f"## {part}" for part in parts}
    return {name: found[name] for name in (*NAMES, *LONG) if name in found}


def page(known: Mapping[str, str]) -> str:
    """Lay out the whole page, in the order of ``NAMES`` and ``LONG``."""
    parts = [known[name] for name in (*NAMES, *LONG) if name in known]
    return "\n\n".join([heading(), *parts]) + "\n"


def rows(name: str, quick: bool) -> list[Row]:
    """Run one benchmark in a new process."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
    command += ["--quick"] if quick else []
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    print(f"benchmarks.{name} ...", file=sys.stderr)
    done = subprocess.run(
        command, check=True, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    )
    # Other libraries print what they like; the rows are the last line.
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def section(name: str, found: list[Row]) -> str:
    """Lay out one benchmark: what it is about, from its docstring, and its table."""
    about = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").strip()
    table = markdown(found) if found else "Nothing was measured: no GPU is here."
    day = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    return f"## {name}\n\n{about}\n\nMeasured on {day}.\n\n{table}"


def heading() -> str:
    """Say how this page came about, and on what."""
    facts = "\n".join(f"- {key}: {value}" for key, value in machine().items())
    said = "Written by `python -m benchmarks.run`, some parts by `--only`."
    return f"# Benchmarks\n\n{said}\n\n{facts}"


def machine() -> dict[str, str]:
    """Return what the numbers depend on; nothing that tells where the machine is."""
    import xatmo

    threads = os.environ.get("OMP_NUM_THREADS")
    names = ("torch", "xarray", "dask", "numpy")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    verbs = ("embed", "downscale", "infill")
    used = [xatmo.load_model(capability=verb).card for verb in verbs]
    return {
        "processor": f"{processor()}, {usable()} of {os.cpu_count()} cores",
        "threads of torch": threads or "default",
        "software": f"Python {platform.python_version()}, {', '.join(versions)}, "
        f"xatmo {xatmo.__version__}",
        "models": ", ".join(f"{card.name} {card.version}" for card in used),
    }


def processor() -> str:
    """Return the model of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [x.split(":")[1].strip() for x in lines if x.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def usable() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    main()
