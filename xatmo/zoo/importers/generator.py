"""Weights of the original downscaling networks (TensorFlow) as state dicts of ours.

The originals are checkpoints of TensorFlow 1 (``gan-18.index``, ``gan-18.data-...``).
Where TensorFlow is installed, three lines write what is read here::

    saved = tensorflow.train.load_checkpoint("gan-18")
    names = saved.get_variable_to_shape_map()
    numpy.savez("gan-18.npz", **{name: saved.get_tensor(name) for name in names})
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from xatmo.errors import WeightsError
from xatmo.zoo.importers.common import (
    check_names,
    check_shape,
    original_shape,
    some,
    to_torch_layout,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xatmo.nets.discriminator import Discriminator
    from xatmo.nets.generator import Generator

__all__ = ["discriminator_from_tensorflow", "generator_from_tensorflow"]

Variables: TypeAlias = "Mapping[str, np.ndarray] | str | os.PathLike[str]"

# What a training checkpoint holds besides weights: the optimizers' own variables.
_OPTIMIZER = re.compile(r"(^|/)(Adam(_\d+)?|beta\d_power(_\d+)?|global_step)$")
_SCOPES = ("generator", "discriminator")
_GENERATOR = {"first": "in_conv", "middle": "mid_conv", "last": "out_conv"}
_DISCRIMINATOR = {"dense": "fully_connected1", "logit": "fully_connected2"}


def generator_from_tensorflow(
    variables: Variables, network: Generator | None = None
) -> dict[str, Tensor]:
    """Translate the original generator's variables into a state dict.

    Parameters
    ----------
    variables : mapping of str to ndarray, or path of an ``.npz`` file
        Such as ``"generator/block_1a/weight:0"``, kernels as (height, width, in, out).
        ``|`` may stand for ``/``; the scope and ``:0`` may be absent. Variables of
        other networks and of optimizers are passed over.
    network : Generator, optional
        The network that they are for; the published one, ``Generator()``, if not given.

    Returns
    -------
    dict of str to Tensor
        For ``network.load_state_dict(state, strict=True)``.

    Raises
    ------
    xatmo.errors.WeightsError
        If a variable is missing, has another shape or is not one of this network's; if
        the file is no archive of arrays; and for the networks of PhIRE, which are built
        in another way.

    Notes
    -----
    TensorFlow's depth-to-space takes channel ``(2 dy + dx) C + c`` to pixel
    ``(dy, dx)``, torch's pixel shuffle ``4 c + 2 dy + dx``: the channels in front of
    each doubling are reordered.

    Examples
    --------
    >>> from xatmo.nets.generator import Generator
    >>> from xatmo.zoo.importers.generator import generator_from_tensorflow
    >>> network = Generator()
    >>> state = generator_from_tensorflow("gan-18.npz")  # doctest: +SKIP
    >>> network.load_state_dict(state, strict=True)  # doctest: +SKIP
    """
    if network is None:
        from xatmo.nets.generator import Generator

        network = Generator()
    found = _own(_read(variables), "generator")
    _refuse_phire(found)
    return _translate(found, network, _generator_layer)


def discriminator_from_tensorflow(
    variables: Variables, network: Discriminator | None = None
) -> dict[str, Tensor]:
    """Translate the original discriminator's variables into a state dict.

    Parameters
    ----------
    variables : mapping of str to ndarray, or path of an ``.npz`` file
        Such as ``"discriminator/fully_connected1/weight:0"``; see
        :func:`generator_from_tensorflow`.
    network : Discriminator, optional
        The network that they are for; the published one for 96 x 96 points,
        ``Discriminator()``, if not given.

    Returns
    -------
    dict of str to Tensor
        For ``network.load_state_dict(state, strict=True)``.

    Raises
    ------
    xatmo.errors.WeightsError
        As for :func:`generator_from_tensorflow`.
    """
    if network is None:
        from xatmo.nets.discriminator import Discriminator

        network = Discriminator()
    found = _own(_read(variables), "discriminator")
    return _translate(found, network, _discriminator_layer)


def _read(variables: Variables) -> Mapping[str, np.ndarray]:
    """Return the arrays of a file, or what was given."""
    if isinstance(variables, Mapping):
        return variables
    try:
        file = np.load(variables, allow_pickle=False)
        if isinstance(file, np.ndarray):
            msg = f"one array without a name, of shape {file.shape}"
            raise ValueError(msg)
        with file:
            return {name: file[name] for name in file.files}
    except (EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        msg = f"{os.fspath(variables)!r} is not an archive of arrays."
        raise WeightsError(
            msg,
            found=str(error),
            needed="an .npz file with one array for each variable",
            hint="where TensorFlow is installed, saved = "
            "tensorflow.train.load_checkpoint('gan-18'), then numpy.savez('gan-18.npz',"
            " **{n: saved.get_tensor(n) for n in saved.get_variable_to_shape_map()})",
        ) from error


def _own(variables: Mapping[str, np.ndarray], scope: str) -> dict[str, np.ndarray]:
    """Keep the weights of one of the two networks, as ``layer/variable``."""
    paths = {name: name.replace("|", "/").removesuffix(":0") for name in variables}
    weights = {n: p.split("/") for n, p in paths.items() if not _OPTIMIZER.search(p)}
    # A checkpoint may hold other networks: where there are scopes, they say whose.
    if any(s in path for path in weights.values() for s in _SCOPES):
        weights = {name: path for name, path in weights.items() if scope in path}
    return {"/".join(path[-2:]): variables[name] for name, path in weights.items()}


def _translate(
    found: Mapping[str, np.ndarray], network: nn.Module, layer: Callable[[str], str]
) -> dict[str, Tensor]:
    """Take each of a network's tensors from the variable that it is called there."""
    import torch

    wanted = {}
    for key, tensor in network.state_dict().items():
        module, kind = key.rsplit(".", 1)
        wanted[f"{layer(module)}/{kind}"] = key, tuple(tensor.shape)
    check_names(found, set(wanted), type(network).__name__)
    state = {}
    for name, (key, shape) in wanted.items():
        check_shape(name, found[name], original_shape(shape))
        shuffled = name.startswith("subpixel")
        array = _in_order(found[name]) if shuffled else found[name]
        state[key] = torch.from_numpy(to_torch_layout(array))
    return state


def _generator_layer(module: str) -> str:
    parts = module.split(".")
    if parts[0] == "blocks":
        return f"block_{int(parts[1]) + 1}{'a' if parts[2] == 'conv1' else 'b'}"
    if parts[0] == "doublings":
        return f"subpixel_conv{int(parts[1]) + 1}"
    return _GENERATOR[module]


def _discriminator_layer(module: str) -> str:
    parts = module.split(".")
    return f"conv{int(parts[1]) + 1}" if len(parts) > 1 else _DISCRIMINATOR[module]


def _in_order(array: np.ndarray) -> np.ndarray:
    """Order the last axis, of which four pixels are made, as torch takes them."""
    pixels = array.reshape(*array.shape[:-1], 4, -1)
    return pixels.swapaxes(-1, -2).reshape(array.shape)


def _refuse_phire(found: Mapping[str, object]) -> None:
    foreign = sorted(name for name in found if name.startswith("deconv"))
    if not foreign:
        return
    msg = "These are weights of PhIRE's generator, which is another network."
    raise WeightsError(
        msg,
        found=f"{some(foreign)}: transposed convolutions, reflected edges, ReLU",
        needed="AtmoDist's: in_conv, block_1a ..., mid_conv, subpixel_conv1 ..., "
        "out_conv",
        hint="generator_from_tensorflow() with variables of an AtmoDist checkpoint",
    )
