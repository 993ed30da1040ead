"""A released network with its normalisation: physical fields in, results out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    """

    def __init__(self, card: Card, network: nn.Module, device: str) -> None:
        network = network.to(device)
        prepare = getattr(network, "for_inference", None)
        self.network = prepare() if prepare else network
        self.normalizers = {lv.level: normalizer(card, lv) for lv in card.levels}

    def __call__(
        self,
        method: str,
        x: Tensor,
        *,
        level: str | None,
        physical: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """Normalise (B, C, H, W) in physical units, then call the network's method.

        With ``level`` None ``x`` is what the network made itself, such as features.
        With ``physical`` the result is of the same quantities, in physical units.
        """
        if level is None:
            return getattr(self.network, method)(x, **kwargs)
        normalise = self.normalizers[level]
        result = getattr(self.network, method)(normalise(x), **kwargs)
        return normalise.inverse(result) if physical else result


def normalizer(card: Card, level: Level) -> SignLog | ZScore:
    """Return the normalisation that a card states for one of its levels."""
    from xatmo.nets.normalization import SignLog, ZScore

    if card.normalization.kind == "zscore":
        return ZScore(level.mean, level.std)
    log = level.log_mean or (), level.log_std or ()
    return SignLog(level.mean, level.std, *log, alpha=card.normalization.alpha or 0.0)


def load_runtime(key: ModelKey, device: str) -> Runtime:
    """Build the network of a key, ready on a device; raises as ``load_network``."""
    card = card_of(key)
    return Runtime(card, build(card, key), device)
