"""What ``import xatmo`` costs on top of the ``import xarray`` of all its users."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

from benchmarks.rows import Row, best_of, report


def measure(quick: bool) -> list[Row]:
    """Time fresh interpreters that import one or the other, in turns."""
    with tempfile.TemporaryDirectory() as cache:
        functions = {name: _importer(name, cache) for name in ("xarray", "xatmo")}
        seconds = best_of(functions, 5 if quick else 15)
    detail = ", ".join(f"{name} {s:.3f} s" for name, s in seconds.items())
    ratio = seconds["xatmo"] / seconds["xarray"]
    return [Row("import xatmo / import xarray", ratio, goal=1.2, detail=detail)]


def _importer(name: str, cache: str) -> Callable[[], object]:
    command = [sys.executable, "-c", f"import {name}"]
    # An installed package is compiled, a checkout need not be: the first run does it.
    env = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return lambda: subprocess.run(command, check=True, env=env)


if __name__ == "__main__":
    report(measure)
