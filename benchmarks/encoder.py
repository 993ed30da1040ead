"""CPU time of the AtmoDist encoder, made for inference, over that of the plain module.

Same weights, same input, ``inference_mode``. CPU time counts all threads. On a busy
machine trust the row of one thread: several spend CPU time waiting for each other.
"""

from __future__ import annotations

import copy
import json
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmarks.rows import Row, markdown

if TYPE_CHECKING:
    from torch import Tensor

GOAL = 0.45
PLAIN, FAST = "plain module", "FastEncoder"


def measure(quick: bool) -> list[Row]:
    """Compare on 16 patches, with the threads that torch uses and with one."""
    import torch

    threads = {torch.get_num_threads(), 1}
    repeats = 6 if quick else 12
    return [row for n in sorted(threads) for row in compare(repeats=repeats, threads=n)]


def run(
    patches: int = 16, size: int = 160, repeats: int = 8, threads: int | None = None
) -> list[dict[str, Any]]:
    """Return the rows of one comparison as dictionaries."""
    return [asdict(row) for row in compare(patches, size, repeats, threads)]


def compare(
    patches: int = 16, size: int = 160, repeats: int = 8, threads: int | None = None
) -> list[Row]:
    """One row per form of the encoder: its CPU time over that of the plain module."""
    import torch

    x = torch.randn(patches, 2, size, size, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    threads = threads or before
    torch.set_num_threads(threads)
    try:
        best = best_times(forms(), x, repeats)
    finally:
        torch.set_num_threads(before)
    cpu, wall = best.pop(PLAIN)
    where = f"{patches} x {size} x {size}, {threads} thread{'s' * (threads > 1)}"
    return [
        Row(
            f"{name}, {where}",
            own_cpu / cpu,
            goal=GOAL if name == FAST else None,
            detail=f"CPU {1e3 * own_cpu:.1f} of {1e3 * cpu:.1f} ms, "
            f"wall {1e3 * own_wall:.1f} of {1e3 * wall:.1f} ms ({own_wall / wall:.2f})",
        )
        for name, (own_cpu, own_wall) in best.items()
    ]


def forms() -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the same weights as plain module and otherwise."""
    import torch

    from xatmo.nets.atmodist import AtmoDist
    from xatmo.nets.inference import fast_encoder

    network = AtmoDist().eval()
    plain = network.encoder
    last = torch.channels_last
    reordered = copy.deepcopy(plain).to(memory_format=last)
    return {
        PLAIN: plain,
        "channels last": lambda x: reordered(x.contiguous(memory_format=last)),
        FAST: fast_encoder(network),
    }


def best_times(
    functions: dict[str, Callable[[Tensor], Tensor]], x: Tensor, repeats: int
) -> dict[str, tuple[float, float]]:
    """Least CPU and wall seconds of each function; they take turns."""
    import torch

    best = dict.fromkeys(functions, (float("inf"), float("inf")))
    with torch.inference_mode():
        expected = functions[PLAIN](x)
        for function in functions.values():  # warms up, and checks
            error = (function(x) - expected).abs().max() / expected.abs().max()
            assert error <= 1e-5, f"{error:.1e}: a fast wrong answer is no result"
        for _ in range(repeats):
            for name, function in functions.items():
                cpu, wall = time.process_time(), time.perf_counter()
                function(x)
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                best[name] = min(best[name][0], cpu), min(best[name][1], wall)
    return best


def main() -> None:
    """Print the table for the given size, or the usual rows for ``benchmarks.run``."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", action="store_true", help="rows for benchmarks.run")
    parser.add_argument("--patches", type=int, help="patches per batch")
    parser.add_argument("--size", type=int, help="rows and columns of a patch")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--threads", type=int, help="of torch")
    arguments = vars(parser.parse_args())
    quick, as_json = arguments.pop("quick"), arguments.pop("json")
    given = {name: value for name, value in arguments.items() if value is not None}
    rows = compare(**given) if given else measure(quick)
    print(json.dumps([asdict(row) for row in rows]) if as_json else markdown(rows))


if __name__ == "__main__":
    main()
