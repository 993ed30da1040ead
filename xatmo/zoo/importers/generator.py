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
    _check_names(found, set(wanted), type(network).__name__)
    state = {}
    for name, (key, shape) in wanted.items():
        _check_shape(name, found[name], _original_shape(shape))
        array = _to_torch_layout(found[name], shuffled=name.startswith("subpixel"))
        state[key] = torch.from_numpy(array)
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


def _original_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(out, in, h, w) -> (h, w, in, out); dense (out, in) -> (in, out)."""
    return (*shape[2:], *shape[:2][::-1])


def _to_torch_layout(array: np.ndarray, *, shuffled: bool) -> np.ndarray:
    """Undo :func:`_original_shape`, and order channels as the pixel shuffle takes them.

    ``shuffled``: the last axis is what TensorFlow makes four pixels of.
    """
    array = np.asarray(array, dtype=np.float32)
    if shuffled:
        pixels = array.reshape(*array.shape[:-1], 4, -1)
        array = pixels.swapaxes(-1, -2).reshape(array.shape)
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    # A copy, so that nothing of the caller's is shared with a network.
    return np.array(array.T if array.ndim == 2 else array, order="C")


def _check_names(found: Mapping[str, object], wanted: set[str], network: str) -> None:
    missing, foreign = sorted(wanted - set(found)), sorted(set(found) - wanted)
    if not missing and not foreign:
        return
    said = [f"missing: {_some(missing)}"] if missing else []
    said += [f"unknown: {_some(foreign)}"] if foreign else []
    msg = f"The variables are not those of this {network}."
    raise WeightsError(
        msg,
        found="; ".join(said),
        needed=f"{len(wanted)} variables: {_some(sorted(wanted))}",
        hint=f"pass network={network}(...) with the options these were trained with, "
        "and all of its variables",
    )


def _check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if np.shape(array) == shape:
        return
    msg = f"The variable {name!r} has another shape than the network's."
    raise WeightsError(
        msg,
        found=f"{name} {np.shape(array)}",
        needed=f"{shape}, as (height, width, in, out) or (in, out)",
        hint="pass network= with the options that these weights were trained with",
    )


def _refuse_phire(found: Mapping[str, object]) -> None:
    foreign = sorted(name for name in found if name.startswith("deconv"))
    if not foreign:
        return
    msg = "These are weights of PhIRE's generator, which is another network."
    raise WeightsError(
        msg,
        found=f"{_some(foreign)}: transposed convolutions, reflected edges, ReLU",
        needed="AtmoDist's: in_conv, block_1a ..., mid_conv, subpixel_conv1 ..., "
        "out_conv",
        hint="generator_from_tensorflow() with variables of an AtmoDist checkpoint",
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if names[4:] else "")
