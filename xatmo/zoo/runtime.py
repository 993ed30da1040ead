"""A released network with its normalisation: physical fields in, results out."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from xatmo.errors import DownloadError, ModelNotFoundError, WeightsError
from xatmo.zoo.card import Card, Level, ModelKey
from xatmo.zoo.model import build, card_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xatmo.nets.normalization import SignLog, ZScore

__all__ = ["Runtime", "load_runtime", "normalizer"]


class Runtime:
    """What a worker process runs.

    Parameters
    ----------
    card : Card
    network : torch.nn.Module
        Built and loaded; if it has a method ``for_inference`` what that returns (the
        same numbers, faster) is called in its place.
    device : str
        On a GPU convolutions are given their weights in channels-last order.
    """

    def __init__(self, card: Card, network: nn.Module, device: str) -> None:
        network = network.to(device)
        prepare = getattr(network, "for_inference", None)
        self.network = prepare() if prepare else network
        self.normalizers = {lv.level: normalizer(card, lv) for lv in card.levels}
        self._compiled: dict[str, Any] = {}
        if device != "cpu":
            _channels_last(self.network)
            self.normalizers = {
                level: _moved(one, self.network)
                for level, one in self.normalizers.items()
            }

    def __call__(
        self,
        method: str,
        x: Tensor,
        *,
        level: str | None,
        physical: bool = False,
        compiled: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """Normalise (B, C, H, W) in physical units, then call the network's method.

        With ``level`` None ``x`` is what the network made itself, such as features.
        With ``physical`` the result is of the same quantities, in physical units. With
        ``compiled`` the method is one that ``torch.compile`` has made.
        """
        run = self._made(method) if compiled else getattr(self.network, method)
        if level is None:
            return run(x, **kwargs)
        normalise = self.normalizers[level]
        result = run(normalise(x), **kwargs)
        # A pressure in bfloat16 would be good to 400 Pa.
        return normalise.inverse(_single(result)) if physical else result

    def _made(self, method: str) -> Any:
        """Return a compiled method; nothing is compiled before it is called."""
        import torch

        if method not in self._compiled:
            # Batches have one size: each shape deserves code of its own.
            plain = getattr(self.network, method)
            self._compiled[method] = torch.compile(plain, dynamic=False)
        return self._compiled[method]


def _single(x: Tensor) -> Tensor:
    """Return halves as single precision, all else as it is."""
    return x.float() if x.itemsize < 4 else x


def _channels_last(network: nn.Module) -> None:
    """Order kernels as the tensor cores of a GPU read them."""
    import torch
    from torch import nn

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _moved(one: SignLog | ZScore, network: nn.Module) -> SignLog | ZScore:
    """Put constants where the network is: else each batch waits for a copy of them."""
    import torch

    like = next(network.parameters())
    made: dict[str, Any] = {
        field.name: torch.tensor(value, dtype=like.dtype, device=like.device)
        for field in fields(one)
        if isinstance(value := getattr(one, field.name), (tuple, list)) and value
    }
    return replace(one, **made)


def normalizer(card: Card, level: Level) -> SignLog | ZScore:
    """Return the normalisation that a card states for one of its levels."""
    from xatmo.nets.normalization import SignLog, ZScore

    if card.normalization.kind == "zscore":
        return ZScore(level.mean, level.std)
    log = level.log_mean or (), level.log_std or ()
    return SignLog(level.mean, level.std, *log, alpha=card.normalization.alpha or 0.0)


def load_runtime(key: ModelKey, device: str) -> Runtime:
    """Build the network of a key, ready on a device; raises as ``load_network``."""
    try:
        card = card_of(key)
        return Runtime(card, build(card, key), device)
    except (DownloadError, ModelNotFoundError, WeightsError) as error:
        if not _is_cluster_worker():
            raise
        hint = f"xatmo.cluster.send_models(client, {key.name!r}), then compute again; "
        hint += f"or on this worker's machine: {error.hint}"
        found, needed = error.found, error.needed
        raise type(error)(
            error.problem, found=found, needed=needed, hint=hint
        ) from error


def _is_cluster_worker() -> bool:
    # What has not been imported cannot run this process.
    distributed = sys.modules.get("distributed.worker")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True
