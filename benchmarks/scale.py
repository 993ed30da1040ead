"""All of ERA5 with each method: tasks, bytes, hours, memory and money.

    python -m benchmarks.scale [--write]

Prints the tables of ``docs/explanation/scale.md``, computed from the rates in
``benchmarks/rates.json`` and from what is assumed here; with ``--write`` they are put
into the page, and the figure is drawn again.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.scheduler import RATES, expected, simulate, spread_around

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "scale.md"
FIGURE = ROOT / "docs" / "_static" / "scheduler.svg"

# --- The job --------------------------------------------------------------------------
HOURS = 350_640  # forty years
ROWS, COLUMNS, LEVELS = 721, 1440, 37
POINTS = ROWS * COLUMNS

# --- Your prices, and your machines, here ---------------------------------------------
DOLLARS_PER_CORE_HOUR = 0.04
DOLLARS_PER_GPU_HOUR = 3.0
DOLLARS_PER_TB_MONTH = 20.0
DOLLARS_PER_MILLION_READS = 0.4
# Published peaks of float32 without tensor cores, in FLOP/s; and the share of it that a
# network of convolutions may reach: an assumption, not a measurement of ours.
GPU_PEAK = {"A100": 19.5e12, "H200": 67e12}
GPU_SHARE = 0.3

WORKERS = (4, 16, 64, 256, 1024, 4096)
CHUNKS = (1, 4, 16, 64, 256)
MOST = 1_000_000  # tasks of a simulation


def main() -> None:
    """Print the tables, and write them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into the page; and draw")
    write = parser.parse_args().write
    rates = json.loads(RATES.read_text())
    made = {name: make(rates) for name, make in TABLES.items()}
    for name, text in made.items():
        print(f"## {name}\n\n{text}\n")
    if write:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), made), "utf-8")
        draw(rates)


def filled(page: str, made: dict[str, str]) -> str:
    """Put tables between their marks."""
    for name, text in made.items():
        pattern = rf"(<!-- table: {name} -->).*?(<!-- end -->)"
        page = re.sub(pattern, rf"\1\n\n{text}\n\n\2", page, flags=re.DOTALL)
    return page


# --- Tables ---------------------------------------------------------------------------


def job(rates: dict[str, Any]) -> str:
    """What each method reads, gives and costs: all levels, all hours."""
    rows = []
    for verb, rate in rates["verbs"].items():
        fields = HOURS * LEVELS
        read = fields * POINTS * 4 * rate["channels"]
        given = fields * POINTS * rate["bytes_out_per_point"]
        core_hours = fields * POINTS * rate["cpu_seconds_per_point"] / 3600
        flops = fields * POINTS * rate["flops_per_point"]
        gpu = {k: flops / (GPU_SHARE * v) / 3600 for k, v in GPU_PEAK.items()}
        rows.append(
            [
                verb,
                _bytes(read),
                _bytes(given),
                f"{core_hours:,.0f}",
                f"{gpu['A100']:,.0f}",
                f"{gpu['H200']:,.0f}",
                f"{rate['memory_gb']:.1f} GB",
            ]
        )
    head = ["method", "read", "written", "core hours", "A100 hours (assumed)"]
    head += ["H200 hours (assumed)", "memory of a worker"]
    return _table(head, rows)


def money(rates: dict[str, Any]) -> str:
    """Dollars: cores or GPUs, a month of the result, and reading."""
    rows = []
    for verb, rate in rates["verbs"].items():
        points = HOURS * LEVELS * POINTS
        cores = points * rate["cpu_seconds_per_point"] / 3600 * DOLLARS_PER_CORE_HOUR
        hours = points * rate["flops_per_point"] / (GPU_SHARE * GPU_PEAK["H200"]) / 3600
        stored = points * rate["bytes_out_per_point"] / 1e12 * DOLLARS_PER_TB_MONTH
        reads = HOURS * LEVELS * rate["channels"] / 1e6 * DOLLARS_PER_MILLION_READS
        numbers = (cores, hours * DOLLARS_PER_GPU_HOUR, stored, reads)
        rows.append([verb, *(f"{x:,.0f}" for x in numbers)])
    head = ["method", "on cores", "on H200s (assumed)", "a month of the result"]
    return _table([*head, "reads, one field each"], rows)


def tasks(rates: dict[str, Any]) -> str:
    """Tasks of one level, by fields in a chunk, and what the scheduler needs."""
    rows = []
    cost = rates["scheduler"]
    for verb, rate in rates["verbs"].items():
        for chunk in (1, 24, 120):
            count = HOURS / chunk * rate["tasks_per_chunk"]
            seconds = chunk * POINTS * rate["cpu_seconds_per_point"]
            busy = seconds / (cost["seconds_per_task"] * rate["tasks_per_chunk"])
            rows.append(
                [
                    verb,
                    str(chunk),
                    f"{count:,.0f}",
                    f"{count * cost['seconds_per_task'] / 60:,.1f} min",
                    _bytes(count * cost["bytes_per_task"]),
                    f"{seconds:,.1f} s",
                    f"{busy:,.0f}",
                ]
            )
    head = ["method", "fields in a chunk", "tasks", "scheduler's time"]
    head += ["scheduler's memory", "a chunk takes a core", "cores it can feed"]
    return _table(head, rows)


def utilisation(rates: dict[str, Any]) -> str:
    """Share of the workers' time in tasks: simulated, embed at 1 degree, one level."""
    head = ["fields in a chunk", "tasks", *(f"{n:,} cores" for n in WORKERS)]
    rows = []
    for chunk, count, shares in shares_of(rates):
        rows.append([str(chunk), f"{count:,}", *(f"{100 * s:.0f} %" for s in shares)])
    return _table(head, rows)


def shares_of(rates: dict[str, Any]) -> list[tuple[int, int, list[float]]]:
    """For each length of chunks: tasks, and the utilisation for numbers of cores."""
    rate = rates["verbs"]["embed"]
    service = rates["scheduler"]["seconds_per_task"] * rate["tasks_per_chunk"]
    second = rate["cpu_seconds_per_point"] * 181 * 360
    found = []
    for chunk in CHUNKS:
        count = min(MOST, HOURS * 3 // chunk)  # three levels: a million fields
        durations = spread_around(chunk * second, count)
        shares = [simulate(durations, n, service) for n in WORKERS]
        found.append((chunk, count, shares))
    return found


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "job": job,
    "money": money,
    "tasks": tasks,
    "utilisation": utilisation,
}


def _bytes(number: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:,.2f} {unit}"
    return f"{number / 1e3:,.1f} kB"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- The figure -----------------------------------------------------------------------


def draw(rates: dict[str, Any]) -> None:
    """Utilisation by the number of cores, one line for each length of chunks."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "xatmo"
    rate = rates["verbs"]["embed"]
    service = rates["scheduler"]["seconds_per_task"] * rate["tasks_per_chunk"]
    fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    colors = plt.get_cmap("viridis")([0.0, 0.22, 0.45, 0.67, 0.88])
    for color, (chunk, _, shares) in zip(colors, shares_of(rates), strict=True):
        ax.plot(WORKERS, shares, "o-", color=color, label=f"{chunk}")
        mean = chunk * rate["cpu_seconds_per_point"] * 181 * 360
        endless = [expected(mean, n, service) for n in WORKERS]
        ax.plot(WORKERS, endless, ":", color=color, lw=1)
    ax.set_xscale("log", base=2)
    ax.set_xticks(WORKERS, [f"{n:,}" for n in WORKERS])
    ax.set(xlabel="cores", ylabel="share of their time in tasks", ylim=(0, 1.03))
    fig.legend(title="fields in a chunk", frameon=False, loc="outside right center")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    fig.savefig(FIGURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
