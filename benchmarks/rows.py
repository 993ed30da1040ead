"""What a benchmark returns, how it is timed, and the table it becomes."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

__all__ = ["Row", "best_of", "best_times", "markdown", "report"]


@dataclass(frozen=True)
class Row:
    """One line of the table: a number, its goal, and the numbers behind it.

    Parameters
    ----------
    case : str
        What was measured.
    value : float
    goal : float or None
        None where the number only informs.
    higher : bool
        Whether the goal is a lower bound (an efficiency) or an upper one (a cost).
    unit : str
    detail : str
        Where the number comes from.
    """

    case: str
    value: float
    goal: float | None = None
    higher: bool = False
    unit: str = ""
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if there is none."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.higher else self.value <= self.goal

    def cells(self) -> tuple[str, ...]:
        """Case, number, goal, verdict and detail, as they are printed."""
        sign = "≥" if self.higher else "≤"
        goal = "" if self.goal is None else f"{sign} {self.goal:g}{self._unit}"
        verdict = {None: "", True: "yes", False: "**no**"}[self.met]
        return self.case, f"{self.value:.3g}{self._unit}", goal, verdict, self.detail

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""


def best_of(
    functions: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, float]:
    """Seconds of the fastest run of each function; see :func:`best_times`."""
    return {name: wall for name, (_, wall) in best_times(functions, repeats).items()}


def best_times(
    functions: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, tuple[float, float]]:
    """Least seconds of each function: of the CPU (all threads), and by the clock.

    They take turns, so that a slow minute of the machine meets all of them; and the
    minimum counts, since noise only ever adds.
    """
    best = dict.fromkeys(functions, (float("inf"), float("inf")))
    for function in functions.values():
        function()  # weights, caches and code are warm for all
    for _ in range(repeats):
        for name, function in functions.items():
            cpu, wall = time.process_time(), time.perf_counter()
            function()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            best[name] = min(best[name][0], cpu), min(best[name][1], wall)
    return best


def markdown(rows: Iterable[Row]) -> str:
    """Lay out rows as a table."""
    lines = ["| case | measured | goal | met | from |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row.cells())} |" for row in rows]
    return "\n".join(lines)


def report(measure: Callable[[bool], list[Row]]) -> None:
    """Be the main function of a benchmark: a table, or JSON for ``benchmarks.run``."""
    parser = ArgumentParser(description=sys.modules[measure.__module__].__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, less data")
    parser.add_argument("--json", action="store_true", help="rows for benchmarks.run")
    arguments = parser.parse_args()
    rows = measure(arguments.quick)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(markdown(rows))
