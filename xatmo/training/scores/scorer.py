"""A network with its normalisation, on whole batches of patches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xatmo.nets.normalization import SignLog, ZScore

__all__ = ["Scorer"]

_BATCH = 64


class Scorer:
    """A siamese network with the normalisation of one level.

    Parameters
    ----------
    network : Module
        With ``encode`` and ``head``. What its method ``for_inference`` returns, if it
        has one, is used in its place.
    normalize : SignLog or ZScore
        Physical to normalised fields.
    """

    def __init__(self, network: nn.Module, normalize: SignLog | ZScore) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        network = network.eval().to(self.device)
        prepare = getattr(network, "for_inference", None)
        self.network: Any = prepare() if prepare else network
        self.normalize = normalize

    @torch.inference_mode()
    def encode(self, patches: np.ndarray, layer: str | None = None) -> Tensor:
        """Physical (n, C, h, w) to features (n, F, h', w')."""
        parts = (p.to(self.device) for p in torch.from_numpy(patches).split(_BATCH))
        found = [self.network.encode(self.normalize(p), layer) for p in parts]
        return torch.cat(found).cpu()

    @torch.inference_mode()
    def fields(self, patches: np.ndarray) -> np.ndarray:
        """Physical to normalised, same shape."""
        return self.normalize(torch.from_numpy(patches)).numpy()

    @torch.inference_mode()
    def probabilities(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Features of the earlier and the later state to lag classes (n, classes)."""
        a, b = (torch.from_numpy(x).to(self.device) for x in (first, second))
        return self.network.head(a, b).softmax(1).cpu().numpy()
