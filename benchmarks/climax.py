"""CPU time and memory of ClimaX with its variables folded, beside those of plain ways.

The size that was published for 5.625°: 32 x 64 cells in patches of 2, 48 variables,
1,024 features, eight blocks, 16 heads. One forecast of all variables with random
weights, in ``inference_mode``; all forms give the same numbers. CPU time counts all
threads: on a busy machine trust the row of one thread.

The plain network makes the tokens of all variables at all places, and their keys and
values; all else it shares with the folded one. The literal form does what the original
does: a convolution for each variable, attention by ``nn.MultiheadAttention``'s function
with a query for each place, and blocks that keep the weights of all pairs. A training
step is the forecast with gradients of all weights, without an optimizer. What they cost
is divided by what the folded network costs.

Memory is that of a process of its own that builds the network and forecasts once: by
how much the forecast raises its peak, and the peak as a whole, most of which are torch
and the weights (432 MB).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from benchmarks.memory import own_peak
from benchmarks.rows import Row, best_times, report

if TYPE_CHECKING:
    from torch import Tensor

    from xatmo.nets.climax import ClimaX
    from xatmo.nets.climax_blocks import Block
    from xatmo.nets.climax_variables import VariableTokens

OWN, PLAIN, LITERAL = "folded", "plain", "literal"
FASTER, SMALLER = 1.9, 0.6
PUBLISHED: dict[str, Any] = {}  # what the network is built with if nothing is said
SMALL: dict[str, Any] = {"width": 128, "depth": 2, "heads": 4}
LEAD = 72.0  # hours


def measure(quick: bool) -> list[Row]:
    """Compare with the threads that torch uses, and with one; and see what is kept."""
    import torch

    size, repeats = (SMALL, 5) if quick else (PUBLISHED, 4)
    before = torch.get_num_threads()
    rows = []
    try:
        for threads in sorted({before, 1}):
            torch.set_num_threads(threads)
            rows += forecasts(size, repeats, threads)
    finally:
        torch.set_num_threads(before)
    return [*rows, training(size, 2), *memory(size)]


# --- Time -----------------------------------------------------------------------------


def forecasts(size: Mapping[str, Any], repeats: int, threads: int) -> list[Row]:
    """Return what other forms cost, over what the folded network costs."""
    import torch

    network, fields = build(size)
    with torch.inference_mode():
        functions = forms(network, fields)
        expected = functions[OWN]()
        for name, function in functions.items():
            error = (function() - expected).abs().max() / expected.abs().max()
            assert error <= 1e-5, f"{name}, {error:.1e}: a fast wrong answer is none"
        spent = best_times(functions, repeats)
    where = f"{network.width} features, {threads} thread{'s' * (threads > 1)}"
    return compared(spent, f"forecast, {where}", size)


def forms(network: ClimaX, fields: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Return one forecast by the network, in both ways, and one by the original's."""

    def way(folded: bool) -> Callable[[], Tensor]:
        def forecast() -> Tensor:
            network.pool.folded = folded
            return network(fields, LEAD)

        return forecast

    return {
        OWN: way(True),
        PLAIN: way(False),
        LITERAL: lambda: literal(network, fields),
    }


def training(size: Mapping[str, Any], repeats: int) -> Row:
    """Compare forecasts with gradients, with the threads that torch uses."""
    network, fields = build(size)
    functions = forms(network, fields)

    def step(name: str) -> Callable[[], None]:
        def run() -> None:
            network.zero_grad(set_to_none=True)
            functions[name]().square().mean().backward()

        return run

    spent = best_times({name: step(name) for name in (OWN, PLAIN)}, repeats)
    (row,) = compared(spent, f"training step, {network.width} features", SMALL)
    return row


def compared(
    spent: dict[str, tuple[float, float]], what: str, size: Mapping[str, Any]
) -> list[Row]:
    """Divide what forms cost by what the folded one costs."""
    own, wall = spent.pop(OWN)
    return [
        Row(
            f"{name} over folded, {what}",
            cpu / own,
            goal=FASTER if size is PUBLISHED else None,
            higher=True,
            detail=f"CPU {cpu:.2f} over {own:.2f} s, "
            f"wall {its_wall:.2f} over {wall:.2f} s",
        )
        for name, (cpu, its_wall) in spent.items()
    ]


def build(size: Mapping[str, Any]) -> tuple[ClimaX, Tensor]:
    """Return a network with random weights, none of which are zero, and fields."""
    import torch

    from xatmo.nets.climax import ClimaX

    torch.manual_seed(0)
    network = ClimaX(**size).eval()
    torch.nn.init.normal_(network.pool.attention.query)
    return network, torch.randn(1, len(network.variables), *network.grid)


# --- What the original does -----------------------------------------------------------


def literal(network: ClimaX, fields: Tensor) -> Tensor:
    """Forecast step by step: (B, V, H, W) -> the same."""
    import torch
    import torch.nn.functional as F

    from xatmo.nets.climax_variables import join_patches

    x = pooled(network, fields) + network.position.flatten(0, 1)
    x = x + network.lead(torch.full((len(fields), 1), LEAD / 100))[:, None]
    for block in cast("Iterable[Block]", network.blocks):
        x = x + attended(block, block.norm1(x))
        x = x + block.second(F.gelu(block.first(block.norm2(x))))
    x = network.norm(x)
    for layer in network.decoder:
        x = F.gelu(layer(x))
    pixels = [network.pixels[name](x) for name in network.variables]
    shape = (network.grid[0] // network.patch, network.grid[1] // network.patch)
    return join_patches(torch.stack(pixels, 2), shape, network.patch)


def pooled(network: ClimaX, fields: Tensor) -> Tensor:
    """Make all tokens, a variable at a time, and attend to them: -> (B, N, D)."""
    import torch
    import torch.nn.functional as F

    variables = cast("Iterable[VariableTokens]", network.tokens.values())
    tokens = [
        F.conv2d(field[:, None], one.weight[:, None], one.bias, stride=network.patch)
        for field, one in zip(fields.unbind(1), variables, strict=True)
    ]  # (B, D, h, w) each
    x = torch.stack([token.flatten(2).transpose(1, 2) for token in tokens], 1)
    codes = [one.code for one in cast("Iterable[VariableTokens]", variables)]
    x = x + torch.stack(codes)[:, None]  # (B, V, N, D)
    x = x.transpose(1, 2).flatten(0, 1).transpose(0, 1)  # (V, B N, D)
    pool = network.pool.attention
    query = pool.query.repeat(1, x.shape[1], 1)
    weights = (pool.project.weight, pool.project.bias, None, None, False, 0.0)
    out = (pool.out.weight, pool.out.bias)
    found, _ = F.multi_head_attention_forward(
        query, x, x, network.width, pool.heads, *weights, *out, need_weights=False
    )
    return found[0].unflatten(0, (len(fields), -1))


def attended(block: Block, x: Tensor) -> Tensor:
    """Attend with the weights of all pairs in memory: (B, N, D) -> the same."""
    three = block.qkv(x).unflatten(-1, (3, block.heads, -1))
    q, k, v = three.permute(2, 0, 3, 1, 4).unbind()
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    return block.out((weights @ v).transpose(1, 2).flatten(2))


# --- Memory ---------------------------------------------------------------------------


def memory(size: Mapping[str, Any]) -> list[Row]:
    """Return what the folded network needs at its peak over what others need."""
    small = size is SMALL
    before, own = _in_new_process(OWN, small)
    rows = []
    for name in (PLAIN, LITERAL):
        start, peak = _in_new_process(name, small)
        needs = {
            "what a forecast adds": (own - before, peak - start),
            "the whole process": (own, peak),
        }
        rows += [
            Row(
                f"memory of folded over {name}, {what}",
                ours / theirs,
                goal=None if small or what == "the whole process" else SMALLER,
                detail=f"{ours:.0f} over {theirs:.0f} MB",
            )
            for what, (ours, theirs) in needs.items()
        ]
    return rows


def _in_new_process(way: str, small: bool) -> tuple[float, float]:
    """Peaks before and with a forecast, in MB."""
    command = [sys.executable, "-m", "benchmarks.climax", "--peak", way]
    command += ["--small"] if small else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, peak = map(float, done.stdout.split())
    return before, peak


def peaks(way: str, small: bool) -> tuple[float, float]:
    """Megabytes that this process has needed, before a forecast and with it."""
    import torch

    network, fields = build(SMALL if small else PUBLISHED)
    before = own_peak()
    with torch.inference_mode():
        forms(network, fields)[way]()
    return before, own_peak()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--peak", choices=(OWN, PLAIN, LITERAL))
    parser.add_argument("--small", action="store_true")
    found, _ = parser.parse_known_args()
    if found.peak:
        print(*peaks(found.peak, found.small))
    else:
        report(measure)
