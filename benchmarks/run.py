"""Run the benchmarks and write ``benchmarks/results.md``.

    python -m benchmarks.run [--only NAME] [--quick]

Each runs in a process of its own, so that none inherits what another has loaded. Times
only mean something on a quiet machine; what is compared with a goal is a ratio or a
count.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
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
RESULTS = ROOT / "benchmarks" / "results.md"


def main() -> None:
    """Run what was asked for; print the page, and write it if it is whole."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=NAMES, help="one benchmark; writes nothing")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, less data")
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else NAMES
    sections = [section(name, rows(name, arguments.quick)) for name in names]
    text = "\n\n".join([heading(arguments.quick), *sections]) + "\n"
    print(text)
    if not arguments.only:
        RESULTS.write_text(text, encoding="utf-8")


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
    return f"## {name}\n\n{about}\n\n{table}"


def heading(quick: bool) -> str:
    """Say how this page came about, and on what."""
    command = "python -m benchmarks.run" + (" --quick" if quick else "")
    facts = "\n".join(f"- {key}: {value}" for key, value in machine().items())
    return f"# Benchmarks\n\nWritten by `{command}`.\n\n{facts}"


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
