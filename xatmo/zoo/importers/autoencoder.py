"""Weights of the original autoencoder (Keras names) as a state dict of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from xatmo.zoo.importers.common import (
    check_names,
    check_shape,
    original_shape,
    to_torch_layout,
)

if TYPE_CHECKING:
    from torch import Tensor

    from xatmo.nets.autoencoder import AutoencoderSmall

__all__ = ["autoencoder_from_keras"]

_BATCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_PLAIN = {"weight": "kernel", "bias": "bias"}
_COUNTER = "num_batches_tracked"  # torch's own
_SCOPES = ("encoder", "decoder")
_DECODER = {
    "spatial_dense": "spatial_mixing_dense",
    "spatial_bn": "spatial_mixing_bn",
    "channel_conv": "channel_mixing_conv",
    "channel_bn": "channel_mixing_bn",
    "out_conv": "out_conv",
}


def autoencoder_from_keras(
    variables: Mapping[str, np.ndarray], network: AutoencoderSmall | None = None
) -> dict[str, Tensor]:
    """Translate the original autoencoder's variables into a state dict.

    Parameters
    ----------
    variables : mapping of str to ndarray
        Such as ``"decoder/block3_1_conv1/kernel:0"``, kernels as (height, width, in,
        out): as read from safetensors, or datasets of an HDF5 checkpoint by their
        paths. Names of layers repeat in encoder and decoder, so that one of the two has
        to be named as such; what is not is of the other one. ``|`` may stand for ``/``;
        ``:0`` may be absent.
    network : AutoencoderSmall, optional
        The network that they are for; the published one, ``AutoencoderSmall()``, if not
        given.

    Returns
    -------
    dict of str to Tensor
        For ``network.load_state_dict(state, strict=True)``.

    Raises
    ------
    xatmo.errors.WeightsError
        If a variable is missing, has another shape or is not one of this network's.

    Examples
    --------
    Of a checkpoint, with h5py:

    >>> from xatmo.zoo.importers.autoencoder import autoencoder_from_keras
    >>> found = {}
    >>> def keep(path, item):
    ...     if hasattr(item, "shape"):
    ...         found[path] = item[()]
    >>> h5py.File("model_weights.hdf5").visititems(keep)  # doctest: +SKIP
    >>> state = autoencoder_from_keras(found)  # doctest: +SKIP
    """
    import torch

    if network is None:
        from xatmo.nets.autoencoder import AutoencoderSmall

        network = AutoencoderSmall()
    found, known = _scoped(variables), network.state_dict()
    stages = len(network.decoder.stages)
    weights = [key for key in known if not key.endswith(_COUNTER)]
    names = {key: _variable(key, known, stages) for key in weights}
    check_names(found, set(names.values()), type(network).__name__)
    state = {key: torch.tensor(0) for key in known if key not in names}
    for key, name in names.items():
        check_shape(name, found[name], original_shape(tuple(known[key].shape)))
        state[key] = torch.from_numpy(to_torch_layout(found[name]))
    return state


def _scoped(variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Name all variables ``encoder/layer/variable`` or ``decoder/layer/variable``."""
    paths = {n: n.replace("|", "/").removesuffix(":0").split("/") for n in variables}
    told = {name: _scope(path) for name, path in paths.items()}
    rest = "decoder" if "encoder" in told.values() else "encoder"
    return {
        "/".join([told[name] or rest, *path[-2:]]): variables[name]
        for name, path in paths.items()
    }


def _scope(path: list[str]) -> str | None:
    return next((scope for scope in _SCOPES if scope in path), None)


def _variable(key: str, known: Mapping[str, Tensor], stages: int) -> str:
    """The original's name of one of our tensors."""
    module, kind = key.rsplit(".", 1)
    kinds = _BATCH_NORM if f"{module}.running_mean" in known else _PLAIN
    scope, _, layer = module.partition(".")
    if scope == "encoder":
        return f"encoder/{_encoder_layer(layer)}/{kinds[kind]}"
    return f"decoder/{_decoder_layer(layer, stages)}/{kinds[kind]}"


def _encoder_layer(layer: str) -> str:
    if not layer.startswith("stages"):
        return layer
    _, stage, block, part = layer.split(".")
    return f"block{int(stage) + 1}_{int(block) + 1}_{part}"


def _decoder_layer(layer: str, stages: int) -> str:
    """``stages`` of the decoder, one fewer than the encoder has; the last one first."""
    first, *rest = layer.split(".")
    if first == "stages":
        stage, block, part = rest
        return f"block{stages - int(stage)}_{int(block) + 1}_{part}"
    if first == "first_up":
        return f"block{stages + 1}_upconv_{rest[0]}"
    return f"inp_up_{rest[0]}" if first == "last_up" else _DECODER[first]
