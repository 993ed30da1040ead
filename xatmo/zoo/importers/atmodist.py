"""Weights of the original AtmoDist (Keras variable names) as a state dict of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from xatmo.errors import WeightsError
from xatmo.zoo.importers.common import to_torch_layout

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["from_keras"]

_BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_BLOCK = re.compile(r"block(\d+)_(\d+)_(conv1|conv2|bn1|bn2|projection)$")
_HEAD = {
    "combined1_conv": "conv1",
    "combined1_bn": "bn1",
    "combined2_conv": "conv2",
    "combined2_bn": "bn2",
    "pred": "pred",
}


def from_keras(variables: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Translate ``layer/variable:0`` arrays into a state dict of :class:`AtmoDist`.

    Parameters
    ----------
    variables : mapping of str to ndarray
        Keras variables, e.g. ``"block1_1_conv1/kernel:0"``, kernels as (height,
        width, in, out).

    Returns
    -------
    dict of str to Tensor
        For ``AtmoDist(n_classes=...).load_state_dict(state, strict=True)``.

    Raises
    ------
    xatmo.errors.WeightsError
        If a variable is not one of AtmoDist's.
    """
    import torch

    state: dict[str, Tensor] = {}
    for name, array in variables.items():
        layer, variable = name.split(":")[0].split("/")[-2:]
        module = _module(layer, name)
        state[f"{module}.{_BATCH_NORM.get(variable, _plain(variable))}"] = (
            torch.from_numpy(to_torch_layout(array))
        )
        if variable == "moving_mean":
            state[f"{module}.num_batches_tracked"] = torch.tensor(0)
    return state


def _plain(variable: str) -> str:
    return {"kernel": "weight"}.get(variable, variable)


def _module(layer: str, name: str) -> str:
    if layer in {"in_conv", "in_bn"}:
        return f"encoder.{layer}"
    if layer in _HEAD:
        return f"head.{_HEAD[layer]}"
    if match := _BLOCK.match(layer):
        stage, block, part = match.groups()
        return f"encoder.stages.{int(stage) - 1}.{int(block) - 1}.{part}"
    msg = f"The variable {name!r} is not one of AtmoDist's."
    raise WeightsError(
        msg,
        found=name,
        needed="in_conv, in_bn, block<stage>_<i>_..., combined1_..., pred",
        hint="pass the variables of the encoder and the comparison head only",
    )
