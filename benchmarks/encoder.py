"""CPU time of the AtmoDist encoder, relative to the plain module.

    python benchmarks/encoder.py --patches 16 --size 160 --threads 1

Runs are interleaved and the best of each is kept, so that other work on the machine
disturbs the ratios little. With several threads on a busy machine it still does:
threads that wait for a delayed one spend CPU time waiting. Then trust ``--threads 1``.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor

from xatmo.nets.atmodist import AtmoDist
from xatmo.nets.inference import fast_encoder

PLAIN = "plain"


def run(
    patches: int = 16, size: int = 160, repeats: int = 8, threads: int | None = None
) -> list[dict]:
    """Return one row per variant: best CPU and wall seconds, and ratios to plain."""
    x = torch.randn(patches, 2, size, size, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        best = measure(variants(), x, repeats)
        threads = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    cpu_plain, wall_plain = best[PLAIN]
    return [
        {
            "benchmark": f"encoder {patches} x {size}², {threads} threads",
            "variant": name,
            "cpu_s": cpu,
            "wall_s": wall,
            "cpu_ratio": cpu / cpu_plain,
            "wall_ratio": wall / wall_plain,
        }
        for name, (cpu, wall) in best.items()
    ]


def variants() -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the same weights in several forms."""
    network = AtmoDist().eval()
    plain = network.encoder
    reordered = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    return {
        PLAIN: plain,
        "channels last": lambda x: reordered(
            x.contiguous(memory_format=torch.channels_last)
        ),
        "FastEncoder": fast_encoder(network),
    }


@torch.inference_mode()
def measure(
    forms: dict[str, Callable[[Tensor], Tensor]], x: Tensor, repeats: int
) -> dict[str, tuple[float, float]]:
    """Return the least (CPU, wall) seconds of each form."""
    best = {name: (float("inf"), float("inf")) for name in forms}
    for turn in range(repeats + 1):
        for name, form in forms.items():
            cpu, wall = time.process_time(), time.perf_counter()
            form(x)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if turn:  # the first turn warms up
                best[name] = min(best[name][0], cpu), min(best[name][1], wall)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="CPU time of the AtmoDist encoder.")
    parser.add_argument("--patches", type=int, default=16)
    parser.add_argument("--size", type=int, default=160, help="rows and columns")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--threads", type=int, help="of torch (default: as it is)")
    rows = run(**vars(parser.parse_args()))
    print(rows[0]["benchmark"])
    print(f"{'':<14}{'CPU':>10}{'ratio':>7}{'wall':>12}{'ratio':>7}")
    for row in rows:
        print(
            f"{row['variant']:<14}{1e3 * row['cpu_s']:>7.1f} ms{row['cpu_ratio']:>7.2f}"
            f"{1e3 * row['wall_s']:>9.1f} ms{row['wall_ratio']:>7.2f}"
        )


if __name__ == "__main__":
    main()
