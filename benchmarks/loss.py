"""A step of training with ``AtmoDistLoss`` over one with the plain network.

Forward and backward pass of the loss alone, for 16 pairs of patches of the model's
size, in turns. The plain network is frozen already and runs in float32; left to collect
gradients of its weights, as a module does by itself, it costs what the last row says.
Times are of the CPU, one thread; bfloat16 is measured where the processor has AMX.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.rows import Row, report

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xatmo.losses import AtmoDistLoss

BATCH = 16
PLAIN = "plain network"
GOALS = {"float32": 0.8, "bfloat16": 0.5}


def measure(quick: bool) -> list[Row]:
    """Compare on one thread; bfloat16 only where that is the default."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = best_times(forms(), 4 if quick else 12)
    finally:
        torch.set_num_threads(before)
    plain = best.pop(PLAIN)
    return [
        Row(name, own / plain, goal=GOALS.get(name), detail=_detail(own, plain))
        for name, own in best.items()
    ]


def _detail(own: float, plain: float) -> str:
    return f"CPU {1e3 * own:.1f} of {1e3 * plain:.1f} ms"


def forms() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return the same loss in several ways, for normalised fields."""
    from xatmo.losses import _CPU_HAS_MATRIX_UNITS, AtmoDistLoss

    exact = AtmoDistLoss(normalized=True, autocast=False)
    network = exact.model.network()
    trainable = copy.deepcopy(network).requires_grad_(True)
    found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        PLAIN: naive(network, exact),
        "float32": exact,
    }
    if _CPU_HAS_MATRIX_UNITS:
        found["bfloat16"] = AtmoDistLoss(normalized=True, autocast=True)
    found["plain network, weights with gradients"] = naive(trainable, exact)
    return found


def naive(network: nn.Module, like: AtmoDistLoss) -> Callable[[Tensor, Tensor], Tensor]:
    """Write the loss as one would without this class."""
    encode, layer, alpha = network.encode, like.layer, like.alpha

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        difference = encode(prediction, layer) - encode(target, layer)
        return alpha * difference.square().mean()

    return loss


def best_times(
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]], repeats: int
) -> dict[str, float]:
    """Least CPU seconds of a forward and a backward pass of each; they take turns."""
    import torch

    import xatmo

    card = xatmo.load_model(capability="distance").card
    random = torch.Generator().manual_seed(0)
    shape = (BATCH, len(card.inputs), *card.grid.patch)
    first, target = (torch.randn(shape, generator=random) for _ in range(2))
    best = dict.fromkeys(losses, float("inf"))
    values = {}
    for repeat in range(repeats + 1):  # the first warms up
        for name, loss in losses.items():
            prediction = first.clone().requires_grad_()
            start = time.process_time()
            value = loss(prediction, target)
            value.backward()
            spent = time.process_time() - start
            values[name] = value.item()
            if repeat:
                best[name] = min(best[name], spent)
    for name, value in values.items():
        error = abs(value / values[PLAIN] - 1)
        assert error < (0.02 if name == "bfloat16" else 1e-5), (name, error)
    return best


if __name__ == "__main__":
    report(measure)
