"""Fields that were trained alone, coupled: each knows what it knew, and can learn more.

As the authors of AtmoRep did. Heads on other fields are new; what they find counts for
nothing at first, so that a coupled network begins as good as its fields alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from xatmo.errors import OptionError
from xatmo.nets.multiformer import Multiformer
from xatmo.nets.multiformer_attention import Layer
from xatmo.training.run import initial_state

__all__ = ["couple", "load_fields"]


def load_fields(network: nn.Module, names: Iterable[str], out: Path) -> None:
    """Give each field of a network the weights of the run or model that has it.

    Parameters
    ----------
    network : Multiformer
    names : iterable of str
        Runs below ``out``, or released models.
    out : Path

    Raises
    ------
    xatmo.errors.OptionError
        If one of them is not there, or its fields are others than the network's.
    """
    for name in names:
        couple(cast("Multiformer", network), initial_state(name, out), name)


@torch.no_grad()
def couple(network: Multiformer, state: Mapping[str, Tensor], name: str = "") -> None:
    """Give the fields of a network the weights of another network of some of them.

    ``name`` is what the other one is called in messages.
    """
    fields = sorted({key.split(".")[1] for key in state})
    if unknown := [field for field in fields if field not in network.fields]:
        msg = f"{name or 'The network'} has fields that are not coupled here."
        needed = f"some of {', '.join(network.fields)}"
        hint = "take it out of init_fields, or add the field"
        raise OptionError(msg, found=", ".join(unknown), needed=needed, hint=hint)
    own = network.state_dict()
    for key, tensor in state.items():
        if key not in own or own[key].ndim != tensor.ndim:
            raise _other_network(name, key)
        # Queries of own heads come first, and so does what they find.
        part = tuple(slice(0, n) for n in tensor.shape)
        if own[key][part].shape != tensor.shape:
            raise _other_network(name, key)
        own[key][part] = tensor
    for field in fields:
        for layer in network.network(field).encoder:
            attention = cast("Layer", layer).attention
            known = attention.heads[0] * attention.head
            attention.out.weight[:, known:] = 0.0


def _other_network(name: str, key: str) -> OptionError:
    msg = f"The weights {name!r} do not fit this recipe's network."
    return OptionError(
        msg,
        found=f"{key} of another size",
        needed="the same widths, heads and tokens in both recipes",
        hint=f"compare [[network.fields]] with the recipe of {name!r}",
    )
