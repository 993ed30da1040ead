"""CPU time of the Multiformer beside that of the original's two ways to compute it.

One field at the size that was published: 1,024 features, six layers of encoder and six
of decoder, 1,080 tokens of 3 x 18 x 18 points, 16 heads, 16 members. Its last time is
forecast with random weights, in ``inference_mode``; all forms give the same numbers.
CPU time counts all threads: on a busy machine trust the row of one thread.

The literal form keeps the heads of a layer in one matrix and attends by
``scaled_dot_product_attention``, as the code of 2024 does, but passes all tokens
through all layers, keeps each member of the ensemble as a network of its own, and makes
position code and token info for every call. The loop over heads does the same with
products and a softmax for each head, as the code of 2023 does. What they cost is
divided by what the network costs.

Memory is what attention adds at its peak: with four times as many tokens sixteen times
as much, if it kept the weights of all pairs.
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

    from xatmo.nets.multiformer import Multiformer
    from xatmo.nets.multiformer_attention import Attention, Layer

OWN, LITERAL, LOOP = "Multiformer", "literal", "loop over heads"
GOALS = {LITERAL: 1.25, LOOP: 2.3}
PUBLISHED: dict[str, Any] = {"width": 1024, "layers": 6, "heads": 16, "levels": 5}
SMALL: dict[str, Any] = {"width": 128, "layers": 2, "heads": 4, "levels": 2}
RESOLUTION = 0.25  # degrees


def measure(quick: bool) -> list[Row]:
    """Compare with the threads that torch uses, and with one; and see what is kept."""
    import torch

    size, repeats = (SMALL, 3) if quick else (PUBLISHED, 4)
    before = torch.get_num_threads()
    rows = []
    try:
        for threads in sorted({before, 1}):
            torch.set_num_threads(threads)
            rows += compare(size, repeats, threads)
    finally:
        torch.set_num_threads(before)
    return [*rows, memory(2160 if quick else 4320)]


# --- Time -----------------------------------------------------------------------------


def compare(size: Mapping[str, int], repeats: int, threads: int) -> list[Row]:
    """Return what other forms cost, over what the network costs."""
    import torch

    with torch.inference_mode():
        functions = forms(size)
        expected = functions[OWN]()
        for name, function in functions.items():
            error = (function() - expected).abs().max() / expected.abs().max()
            assert error <= 1e-5, f"{name}, {error:.1e}: a fast wrong answer is none"
        spent = best_times(functions, repeats)
    own, wall = spent.pop(OWN)
    where = f"{size['width']} features, {threads} thread{'s' * (threads > 1)}"
    return [
        Row(
            f"{name}, {where}",
            cpu / own,
            goal=GOALS[name] if size is PUBLISHED else None,
            higher=True,
            detail=f"CPU {cpu:.2f} over {own:.2f} s, "
            f"wall {its_wall:.2f} over {wall:.2f} s",
        )
        for name, (cpu, its_wall) in spent.items()
    ]


def forms(size: Mapping[str, int]) -> dict[str, Callable[[], Tensor]]:
    """Return one forecast by the network, and by what the original does."""
    import numpy as np
    import torch

    from xatmo.nets.multiformer_tokens import token_info

    network = build(size)
    (spec,) = network.fields.values()
    tokens = torch.randn(1, *spec.shape)
    tokens[:, :, -1] = 0.0
    target = torch.zeros(spec.plane, dtype=torch.bool)
    target[:, -1] = True
    t, rows, columns = (
        n * s for n, s in zip(spec.tokens, spec.token_size, strict=True)
    )
    times = np.datetime64("2021-02-10T00") + np.arange(t)[None]
    box = (
        times,
        80 + RESOLUTION * np.arange(rows)[None],
        10 + RESOLUTION * np.arange(columns)[None],
        list(range(spec.levels)),
    )
    name = spec.name

    def own() -> Tensor:
        info = token_info(*box, spec.token_size, RESOLUTION)
        return network({name: tokens}, {name: info}, {name: target})[name]

    literal, loop = Literal(network, fused), Literal(network, looped)
    return {
        OWN: own,
        LITERAL: lambda: literal(tokens, box, target),
        LOOP: lambda: loop(tokens, box, target),
    }


def build(size: Mapping[str, int]) -> Multiformer:
    """Return a network of one field with random weights, none of which are zero."""
    import torch

    from xatmo.nets.multiformer import FieldSpec, Multiformer

    torch.manual_seed(0)
    spec = FieldSpec("u", size["width"], size["levels"], (12, 3, 6), (3, 18, 18))
    depth, heads = size["layers"], size["heads"]
    network = Multiformer(
        [spec],
        encoder_layers=depth,
        decoder_layers=depth,
        encoder_heads=heads,
        decoder_heads=heads,
        qk_norm="none",
        cross_query_norm=False,
        published_positions=True,
    )
    torch.nn.init.normal_(network.network("u").embedding.info.weight, std=1e-3)
    return network.eval()


# --- What the original does -----------------------------------------------------------

Heads = Callable[["Attention"], Callable[[Mapping[str, "Tensor"]], "list[Tensor]"]]


class Literal:
    """The same network, computed as the original does."""

    def __init__(self, network: Multiformer, heads: Heads) -> None:
        (self.spec,) = network.fields.values()
        self.parts = parts = network.network(self.spec.name)
        self.encoder = [(a, heads(a.attention)) for a in _layers(parts.encoder)]
        self.decoder = [(a, heads(a.attention)) for a in _layers(parts.decoder)]
        (last,) = parts.tail.layers
        self.tails = list(zip(last.weight, last.bias, strict=True))

    def __call__(self, tokens: Tensor, box: tuple, target: Tensor) -> Tensor:
        """Predict: (1, V, T, Y, X, t, y, x) -> (n, E, t, y, x)."""
        import torch
        import torch.nn.functional as F

        states = [self.embed(tokens, box)]
        for layer, heads in self.encoder:
            x, z = states[-1], norm(states[-1])
            found = torch.cat(heads({self.spec.name: z}), -1)
            states.append(layer.mlp(x + layer.attention.out(found)))
        x = states[-1]
        for number, (layer, heads) in enumerate(self.decoder):
            sources = {"decoder": norm(x), "encoder": norm(states[-1 - number])}
            found = torch.cat(heads(sources), -1)
            x = layer.mlp(x + layer.attention.out(found))
        x = x.flatten(0, 1)[target.flatten()]
        scale, offset = torch.ones(x.shape[-1]), torch.zeros(x.shape[-1])
        members = [
            F.linear(F.layer_norm(x, x.shape[-1:], scale, offset), weight, bias)
            for weight, bias in self.tails
        ]
        return torch.stack(members, 1).unflatten(-1, self.spec.token_size)

    def embed(self, tokens: Tensor, box: tuple) -> Tensor:
        """Embed, with the position code and the list of where and when made anew."""
        import torch

        times, colatitude, longitude, levels = box
        t, rows, columns = self.spec.token_size
        info = []
        for level in levels:
            for time in times[0, t - 1 :: t]:
                year = time.astype("datetime64[Y]")
                hours = (time - year).astype(int)
                for y in colatitude[0, rows // 2 :: rows]:
                    for x in longitude[0, columns // 2 :: columns]:
                        when = year.astype(int) + 1970, hours // 24, hours % 24
                        info.append([*when, level, y, x, level, RESOLUTION])
        embedding = self.parts.embedding
        values = embedding.values(tokens.flatten(5).flatten(1, 4))
        about = embedding.info(torch.tensor(info, dtype=torch.float32)[None])
        return torch.cat([values, about], -1) + self.position()

    def position(self) -> Tensor:
        """Make the position code, with four angles for every token and feature."""
        import torch

        (_, times, rows, columns), width = self.spec.plane, self.spec.width
        n = torch.arange(self.spec.count)
        place = n % (rows * columns)
        level, time = n // (times * rows * columns), n // (rows * columns) % times
        frequency = 2 * torch.pi * torch.arange(0, width, 2) / width
        code = torch.empty(self.spec.count, width)
        code[:, 0::2] = torch.outer(time, frequency).sin()
        code[:, 0::2] += 0.5 * torch.outer(8 * (place // rows), frequency).sin()
        code[:, 1::2] = torch.outer(level, frequency).cos()
        code[:, 1::2] += 0.5 * torch.outer(8 * (place % columns), frequency).cos()
        return code


def fused(attention: Attention) -> Callable[[Mapping[str, Tensor]], list[Tensor]]:
    """Attend with the three of each head on the own field in one matrix."""
    import torch
    import torch.nn.functional as F

    own, d = attention.own, attention.head
    queries, key_values = _rows(attention)
    of_heads = (
        queries[own].unflatten(0, (-1, 1, d)),
        key_values[own].unflatten(0, (-1, 2, d)),
    )
    matrix = torch.cat(of_heads, 1).flatten(0, 2)

    def heads(sources: Mapping[str, Tensor]) -> list[Tensor]:
        z, out = sources[own], []
        for name, rows in queries.items():
            if name == own:
                three = F.linear(z, matrix).unflatten(-1, (-1, 3, d)).transpose(1, 2)
                q, k, v = three.unbind(-2)
            else:
                q = F.linear(z, rows).unflatten(-1, (-1, d)).transpose(1, 2)
                two = F.linear(sources[name], key_values[name]).unflatten(
                    -1, (-1, 2, d)
                )
                k, v = two.transpose(1, 2).unbind(-2)
            q, k = attention.query_norm(q), attention.key_norm(k)
            found = F.scaled_dot_product_attention(q, k, v)
            out.append(found.transpose(1, 2).flatten(2))
        return out

    return heads


def looped(attention: Attention) -> Callable[[Mapping[str, Tensor]], list[Tensor]]:
    """Attend head by head, each with matrices of its own, and its weights in memory."""
    import torch.nn.functional as F

    own, d = attention.own, attention.head
    queries, key_values = _rows(attention)
    matrices = [
        (name, rows.clone(), both[:d].clone(), both[d:].clone())
        for name in queries
        for rows, both in zip(
            queries[name].split(d), key_values[name].split(2 * d), strict=True
        )
    ]

    def heads(sources: Mapping[str, Tensor]) -> list[Tensor]:
        out = []
        for name, for_q, for_k, for_v in matrices:
            q = attention.query_norm(F.linear(sources[own], for_q))
            k = attention.key_norm(F.linear(sources[name], for_k))
            weights = (q @ k.transpose(1, 2) / d**0.5).softmax(-1)
            out.append(weights @ F.linear(sources[name], for_v))
        return out

    return heads


def norm(x: Tensor) -> Tensor:
    """Normalise each token."""
    import torch.nn.functional as F

    return F.layer_norm(x, x.shape[-1:])


def _rows(attention: Attention) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Rows of queries, and of keys and values, for each source."""
    counts = [heads * attention.head for heads in attention.heads]
    queries = attention.query.weight.split(counts)
    key_values = [attention.key_value[name].weight for name in attention.sources]
    names = list(attention.sources)
    return (
        dict(zip(names, queries, strict=True)),
        dict(zip(names, key_values, strict=True)),
    )


def _layers(layers: Any) -> list[Layer]:
    return list(cast("Iterable[Layer]", layers))


# --- Memory ---------------------------------------------------------------------------


def memory(tokens: int) -> Row:
    """Return the peak of attention to four times as many tokens, over that to some."""
    few, many = (_in_new_process(n) for n in (tokens, 4 * tokens))
    return Row(
        f"memory of attention, {4 * tokens:,} over {tokens:,} tokens",
        many / few,
        goal=4.4,
        detail=f"{many:.0f} over {few:.0f} MB; weights of all pairs: "
        f"{4 * (4 * tokens) ** 2 * 4 / 1e6:,.0f} MB",
    )


def _in_new_process(tokens: int) -> float:
    command = [sys.executable, "-m", "benchmarks.multiformer", "--peak", str(tokens)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def peak(tokens: int) -> float:
    """Megabytes that four heads of attention need beside their input."""
    import torch

    from xatmo.nets.multiformer_attention import Attention

    attention = Attention(256, 64, {"u": (256, 4)}).eval()
    x, z = torch.randn(2, 1, tokens, 256)
    with torch.inference_mode():
        attention(x[:, :64], {"u": z[:, :64]})
        before = own_peak()
        attention(x, {"u": z})
    return own_peak() - before


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--peak", type=int)
    found, _ = parser.parse_known_args()
    if found.peak:
        print(peak(found.peak))
    else:
        report(measure)
