"""Sizes and weights of published ClimaX networks as those of ours.

Files of both vintages are read, those that were published (``channel_embed``) and those
that the code of today writes (``var_embed``), with tokenizers apart or grouped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from xatmo.errors import WeightsError
from xatmo.zoo.importers.common import refused, some, unpickled

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xatmo.nets.climax import ClimaX

__all__ = ["climax_from_original", "climax_options", "read_checkpoint"]

_Sizes: TypeAlias = "Mapping[str, Tensor | Sequence[int]]"

_HINT = "build the network with climax_options() of the same weights"
_BLOCK = {
    "norm1": "norm1",
    "qkv": "attn.qkv",
    "out": "attn.proj",
    "norm2": "norm2",
    "first": "mlp.fc1",
    "second": "mlp.fc2",
}
_GROUPED = "token_embeds.proj_weights"


def climax_options(
    state: _Sizes,
    variables: Sequence[str] | None = None,
    grid: Sequence[int] | None = None,
    heads: int = 16,
) -> dict[str, Any]:
    """Read the sizes of a network off its weights, as keyword arguments of ours.

    Parameters
    ----------
    state : mapping of str to Tensor or to sequence of int
        Weights, or their shapes: of a file, or what it holds as ``"state_dict"``.
    variables : sequence of str, optional
        Names of the network's variables in their order; those of the published networks
        if not given.
    grid : sequence of int, optional
        Rows and columns of cells; twice as many columns as rows if not given.
    heads : int
        The weights do not tell; 16 in published networks.

    Returns
    -------
    dict
        For ``ClimaX(**options)``: plain numbers, strings and lists.

    Raises
    ------
    xatmo.errors.WeightsError
        If these are not the weights of such a network, or do not fit what else is said.

    Examples
    --------
    >>> import torch
    >>> from xatmo.nets.climax import ClimaX
    >>> from xatmo.zoo.importers.climax import climax_from_original, climax_options
    >>> state = torch.load("5.625deg.ckpt", weights_only=True)  # doctest: +SKIP
    >>> network = ClimaX(**climax_options(state))  # doctest: +SKIP
    >>> ours = climax_from_original(state, network)  # doctest: +SKIP
    >>> network.load_state_dict(ours, strict=True)  # doctest: +SKIP
    """
    found = {key: _shape(value) for key, value in _renamed(state).items()}
    _, count, width = _sizes(found, "var_embed", 3)
    names = _named(count, variables)
    grouped = _GROUPED in found
    *_, patch = _sizes(found, _GROUPED if grouped else "token_embeds.0.proj.weight")
    _, length, _ = _sizes(found, "pos_embed", 3)
    hidden, _ = _sizes(found, "blocks.0.mlp.fc1.weight", 2)
    if width % heads:
        msg = f"{heads} heads cannot share {width} features."
        needed = f"a number that divides {width}"
        raise WeightsError(msg, found=f"{heads}", needed=needed, hint="heads=16")
    return {
        "variables": list(names),
        "grid": [patch * n for n in _patches(length, patch, grid)],
        "patch": patch,
        "width": width,
        "depth": _count(found, r"blocks\.(\d+)\.norm1\.weight"),
        "heads": heads,
        "decoder_depth": _count(found, r"head\.(\d+)\.weight") - 1,
        "mlp_ratio": hidden / width,
    }


def climax_from_original(
    state: Mapping[str, Tensor],
    network: ClimaX,
    variables: Sequence[str] | None = None,
    grid: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Translate an original's weights into a state dict of ours.

    Parameters
    ----------
    state : mapping of str to Tensor
        As ``torch.load(file, map_location="cpu", weights_only=True)`` reads it.
    network : ClimaX
        Built with :func:`climax_options`. It may know fewer variables, in any order,
        and be on another grid, for which the codes of places are interpolated.
    variables, grid
        Of the original, as of :func:`climax_options`.

    Returns
    -------
    dict of str to Tensor
        For ``network.load_state_dict(state, strict=True)``, in single precision.

    Raises
    ------
    xatmo.errors.WeightsError
        If a tensor is missing, has another shape or is not one of this network's, or
        the original does not know one of its variables.

    Notes
    -----
    Rows of published networks go from south to north: fields that go the other way have
    to be turned round, for which no weights can make up. The three variables that do
    not change with time and relative humidity were not in their training data.
    """
    found = _Original(state)
    count = found.sizes("var_embed")[1]
    names = _named(count, variables)
    unknown = [name for name in network.variables if name not in names]
    if unknown:
        msg = "The original does not know all variables of the network."
        hint = "ClimaX(variables=...) of these, or pass the original's own variables="
        needed = f"some of: {', '.join(names)}"
        raise WeightsError(msg, found=some(unknown), needed=needed, hint=hint)
    own = _tokens(found, network, names) | _pool(found, network.width)
    own |= _position(found, network, grid)
    own |= _below("lead", found.linear("lead_time_embed", 1, network.width))
    for number, block in enumerate(network.blocks):
        for ours, theirs in _BLOCK.items():
            module = block.get_submodule(ours)
            tensors = found.like(f"blocks.{number}.{theirs}", module)
            own |= _below(f"blocks.{number}.{ours}", tensors)
    own |= _below("norm", found.like("norm", network.norm))
    own |= _head(found, network, names)
    found.refuse_the_rest()
    return own


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """Read the weights in a checkpoint; nothing that it holds is run.

    Raises
    ------
    xatmo.errors.WeightsError
        If the file is absent, is damaged, would run code, or has no weights.
    """
    import torch

    content = unpickled(file)
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(tensor, torch.Tensor)
        for key, tensor in state.items()
    ):
        raise refused(file, type(state).__name__)
    return dict(state)


class _Original:
    """Tensors of an original under their present names, each of which is taken once."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.left = dict(_renamed(state))

    def sizes(self, key: str) -> tuple[int, ...]:
        """Return the sizes of a tensor with three axes that has to be there."""
        return _sizes({k: tuple(t.shape) for k, t in self.left.items()}, key, 3)

    def take(self, key: str, *shape: int) -> Tensor:
        """Return a tensor that has to be there, in this shape."""
        if key not in self.left:
            raise _missing(key, self.left)
        tensor = self.left.pop(key)
        if tuple(tensor.shape) != shape:
            msg = f"The tensor {key!r} has another shape than the network's."
            found = f"{tuple(tensor.shape)}"
            raise WeightsError(msg, found=found, needed=f"{shape}", hint=_HINT)
        return tensor.float()

    def linear(self, key: str, c_in: int, c_out: int) -> dict[str, Tensor]:
        """Return weight and bias of a layer."""
        weight = self.take(f"{key}.weight", c_out, c_in)
        return {"weight": weight, "bias": self.take(f"{key}.bias", c_out)}

    def like(self, key: str, module: nn.Module) -> dict[str, Tensor]:
        """Return all parameters of a module that has the same in the original."""
        return {
            kind: self.take(f"{key}.{kind}", *parameter.shape)
            for kind, parameter in module.named_parameters()
        }

    def refuse_the_rest(self) -> None:
        """Refuse tensors that no part of the network has asked for."""
        if self.left:
            msg = "The weights are of another network, which has more parts."
            found = f"unknown: {some(sorted(self.left))}"
            needed = "tensors of this network only"
            raise WeightsError(msg, found=found, needed=needed, hint=_HINT)


def _tokens(
    found: _Original, network: ClimaX, names: Sequence[str]
) -> dict[str, Tensor]:
    """Translate the embeddings of variables, of which the network may have fewer."""
    count, width, p = len(names), network.width, network.patch
    codes = found.take("var_embed", 1, count, width)[0]
    if _GROUPED in found.left:
        weights = found.take(_GROUPED, count, width, 1, p, p).unbind()
        biases = found.take("token_embeds.proj_biases", count, width).unbind()
    else:
        keys = [f"token_embeds.{number}.proj" for number in range(count)]
        weights = tuple(found.take(f"{k}.weight", width, 1, p, p) for k in keys)
        biases = tuple(found.take(f"{key}.bias", width) for key in keys)
    state: dict[str, Tensor] = {}
    for name in network.variables:
        at = names.index(name)
        tensors = {"weight": weights[at][:, 0], "bias": biases[at], "code": codes[at]}
        state |= _below(f"tokens.{name}", tensors)
    return {key: tensor.contiguous() for key, tensor in state.items()}


def _pool(found: _Original, width: int) -> dict[str, Tensor]:
    state = {
        "query": found.take("var_query", 1, 1, width)[0, 0],
        "project.weight": found.take("var_agg.in_proj_weight", 3 * width, width),
        "project.bias": found.take("var_agg.in_proj_bias", 3 * width),
    }
    out = found.linear("var_agg.out_proj", width, width)
    return _below("pool.attention", state | _below("out", out))


def _position(
    found: _Original, network: ClimaX, grid: Sequence[int] | None
) -> dict[str, Tensor]:
    """Translate the codes of places, and bring them to the network's grid."""
    from xatmo.nets.climax_position import resize_positions

    length = found.sizes("pos_embed")[1]
    if grid is None and length == network.position[..., 0].numel():
        grid = network.grid  # which climax_options() may have been told
    shape = _patches(length, network.patch, grid)
    codes = found.take("pos_embed", 1, length, network.width)[0].unflatten(0, shape)
    return {"position": resize_positions(codes, network.position.shape[:2])}


def _head(found: _Original, network: ClimaX, names: Sequence[str]) -> dict[str, Tensor]:
    """Translate the layers to the pixels, of which those of variables come last."""
    state: dict[str, Tensor] = {}
    for number, layer in enumerate(network.decoder):
        state |= _below(f"decoder.{number}", found.like(f"head.{2 * number}", layer))
    points, count = network.patch**2, len(names)
    key = f"head.{2 * len(network.decoder)}"
    last = found.linear(key, network.width, points * count)
    for name in network.variables:
        at = names.index(name)
        for kind, tensor in last.items():
            # Rows go through all variables before they come to the next pixel.
            rows = tensor.unflatten(0, (points, count))[:, at]
            state[f"pixels.{name}.{kind}"] = rows.contiguous()
    return state


def _renamed(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors of a file by their present names."""
    tensors = state.get("state_dict", state)
    names = {key: key.removeprefix("net.") for key in tensors}
    return {
        re.sub("^channel_(embed|query|agg)", r"var_\1", name): tensors[key]
        for key, name in names.items()
    }


def _shape(value: Tensor | Sequence[int]) -> tuple[int, ...]:
    return tuple(int(n) for n in getattr(value, "shape", value))


def _sizes(
    found: Mapping[str, tuple[int, ...]], key: str, axes: int | None = None
) -> tuple[int, ...]:
    """Return the sizes of a tensor that has to be there."""
    if key not in found:
        raise _missing(key, found)
    if axes is not None and len(found[key]) != axes:
        msg = f"The tensor {key!r} is not what it is in a ClimaX network."
        hint = "pass the weights of one"
        needed = f"{axes} axes"
        raise WeightsError(msg, found=f"{found[key]}", needed=needed, hint=hint)
    return found[key]


def _missing(key: str, found: Mapping[str, object]) -> WeightsError:
    msg = f"The tensor {key!r} is missing."
    rest = some(sorted(found)) or "none"
    return WeightsError(msg, found=f"not yet used: {rest}", needed=key, hint=_HINT)


def _count(found: Mapping[str, object], pattern: str) -> int:
    """Count the tensors whose names fit."""
    return sum(re.fullmatch(pattern, key) is not None for key in found)


def _named(count: int, variables: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of an original's variables, if they are as many as it has."""
    from xatmo.nets.climax import VARIABLES

    names = tuple(VARIABLES if variables is None else variables)
    if len(names) != count:
        msg = "The weights are not of as many variables as are named."
        needed = f"{count} names"
        hint = "variables=[...], in the order that the original was trained with"
        raise WeightsError(msg, found=f"{len(names)}", needed=needed, hint=hint)
    return names


def _patches(length: int, patch: int, grid: Sequence[int] | None) -> tuple[int, int]:
    """Rows and columns of patches that an original has codes for."""
    rows = math.isqrt(length // 2)
    shape = (rows, 2 * rows) if grid is None else (grid[0] // patch, grid[1] // patch)
    if shape[0] * shape[1] != length:
        msg = "The codes of places are not of this grid."
        found = f"{length} places, for {shape[0]} x {shape[1]} patches"
        hint = f"grid=(rows, columns) of cells, in patches of {patch}"
        raise WeightsError(msg, found=found, needed=f"{length} patches", hint=hint)
    return shape


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{key}": tensor for key, tensor in state.items()}
