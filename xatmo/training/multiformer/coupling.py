"""Fields that were trained alone, coupled: each knows what it knew, and can learn more.

As the authors of AtmoRep did. Heads on other fields are new; what they find counts for
nothing at first, so that a coupled network begins as good as its fields alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from xatmo.errors import OptionError
from xatmo.nets.multiformer import Multiformer
from xatmo.nets.multiformer_fields import FieldSpec
from xatmo.nets.multiformer_surgery import couple
from xatmo.training.multiformer.recipe import MultiformerRecipe
from xatmo.training.run import initial_state

__all__ = ["load_fields"]


def load_fields(network: nn.Module, recipe: MultiformerRecipe, out: Path) -> None:
    """Give fields of a network the weights of the runs or models that have them.

    Fields that none of them has are left as they are.

    Parameters
    ----------
    network : Multiformer
        That of the recipe.
    recipe : MultiformerRecipe
        Names runs below ``out``, or released models, in ``init_fields``.
    out : Path

    Raises
    ------
    xatmo.errors.OptionError
        If one of them is not there, or its fields are others than the network's.
    """
    own = cast("Multiformer", network)
    if not recipe.init_fields:
        return
    state: dict[str, Tensor] = {}
    for name in recipe.init_fields:
        found = initial_state(name, out)
        _check_known(own, found, name)
        state |= found
    held = _of(state)
    rest = own.state_dict().items()
    state |= {key: tensor for key, tensor in rest if _field(key) not in held}
    after = list(own.fields.values())
    before = [replace(spec, sources=_sources(state, spec)) for spec in after]
    try:
        own.load_state_dict(couple(state, before, after, **recipe.heads))
    except (RuntimeError, OptionError) as error:
        msg = "The weights to begin with do not fit this recipe's network."
        raise OptionError(
            msg,
            found=str(error).splitlines()[-1].strip(),
            needed="the same widths, heads, layers and tokens in all recipes",
            hint=f"compare [network] with that of {', '.join(recipe.init_fields)}",
        ) from error


def _check_known(network: Multiformer, state: Mapping[str, Tensor], name: str) -> None:
    unknown = sorted(_of(state) - set(network.fields))
    if unknown:
        msg = f"{name} has fields that are not coupled here."
        needed = f"some of {', '.join(network.fields)}"
        hint = "take it out of init_fields, or add the field"
        raise OptionError(msg, found=", ".join(unknown), needed=needed, hint=hint)


def _sources(state: Mapping[str, Tensor], spec: FieldSpec) -> tuple[str, ...]:
    """What a field hears of already, in the order of the network."""
    key = f"networks.{spec.name}.encoder.0.attention.key_value"
    return tuple(s for s in spec.sources if f"{key}.{s}.weight" in state)


def _of(state: Mapping[str, Tensor]) -> set[str]:
    return {_field(key) for key in state}


def _field(key: str) -> str:
    return key.split(".")[1]
