"""What ``import xatmo`` costs on top of ``import xarray``, which its users have anyway."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.rows import Row, best_of, report


def measure(quick: bool) -> list[Row]:
    """Time fresh interpreters that import one or the other, in turns."""
    functions = {name: _importer(name) for name in ("xarray", "xatmo")}
    seconds = best_of(functions, 5 if quick else 12)
    detail = ", ".join(f"{name} {s:.3f} s" for name, s in seconds.items())
    ratio = seconds["xatmo"] / seconds["xarray"]
    return [Row("import xatmo / import xarray", ratio, goal=1.2, detail=detail)]


def _importer(name: str):
    command = [sys.executable, "-c", f"import {name}"]
    return lambda: subprocess.run(command, check=True)


if __name__ == "__main__":
    report(measure)
