"""The encoder of a ClimaX of any variables as the beginning of one for projections."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from xatmo.errors import OptionError
from xatmo.nets.climax_position import resize_positions
from xatmo.training.climax.beginning import check_order
from xatmo.training.projection.recipe import ProjectionRecipe
from xatmo.training.run import initial_state
from xatmo.zoo.files import draft

__all__ = ["Began", "began", "begin_with", "take_encoder"]

FILE = "initial.json"
_ENCODER = ("pool", "position", "lead", "blocks", "norm")


@dataclass(frozen=True)
class Began:
    """What a network began with.

    Parameters
    ----------
    origin : str
        Whose weights these are.
    taken, fresh, left : tuple of str
        Parts that are the origin's, that were drawn anew, and that were not needed.
    resized : bool
        Whether codes of places were interpolated to the network's grid.
    """

    origin: str
    taken: tuple[str, ...]
    fresh: tuple[str, ...]
    left: tuple[str, ...]
    resized: bool

    def __str__(self) -> str:
        """Say so in a line."""
        codes = " (codes of places interpolated)" if self.resized else ""
        return (
            f"began with {_listed(self.taken)} of {self.origin}{codes}; "
            f"new: {_listed(self.fresh)}; not used: {_listed(self.left)}"
        )


def begin_with(
    network: nn.Module, recipe: ProjectionRecipe, out: Path, folder: Path
) -> None:
    """Give a network the encoder of a run or model; write what was taken.

    Parameters
    ----------
    network : ClimaXSeries
    recipe : ProjectionRecipe
        Names a run below ``out``, or a model, in ``init_from``.
    out : Path
    folder : Path
        Of the run that begins; ``initial.json`` is written there.

    Raises
    ------
    xatmo.errors.OptionError
        If there are no such weights, or they are of another size, or of rows in the
        other order.
    """
    name = str(recipe.init_from)
    check_order(name, recipe.northward, out)
    told = take_encoder(network, initial_state(name, out), name)
    with draft(folder / FILE) as file:
        file.write_text(json.dumps(asdict(told), indent=1) + "\n", "utf-8")


def began(folder: Path) -> Began | None:
    """Read what a run began with; None if all was drawn anew."""
    file = folder / FILE
    if not file.exists():
        return None
    told = json.loads(file.read_text("utf-8"))
    parts = {key: tuple(told[key]) for key in ("taken", "fresh", "left")}
    return Began(origin=told["origin"], resized=told["resized"], **parts)


def take_encoder(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> Began:
    """Give a network all that it has in common with other weights.

    That is the encoder: how variables become one token, codes of places (interpolated
    if the grid is another), lead times, blocks and norms; and the tokens of variables
    that both know. What is left, such as the layers to a forecast, is not used.

    Parameters
    ----------
    network : ClimaXSeries
    state : mapping of str to Tensor
        Of a :class:`~xatmo.nets.climax.ClimaX` or of another network for series.
    origin : str
        Its name, for messages.

    Returns
    -------
    Began

    Raises
    ------
    xatmo.errors.OptionError
        If its encoder is of another size.
    """
    own = network.state_dict()
    given = {key: tensor.float() for key, tensor in state.items()}
    resized = False
    if "position" in given and given["position"].ndim == 3:
        shape = own["position"].shape[:2]
        resized = given["position"].shape[:2] != shape
        given["position"] = resize_positions(given["position"], shape)
    _check_encoder(own, given, origin)
    common = {
        key: tensor
        for key, tensor in given.items()
        if key in own and own[key].shape == tensor.shape
    }
    with torch.no_grad():
        network.load_state_dict(common, strict=False)
    return Began(
        origin,
        _parts(common),
        _parts(own.keys() - common.keys()),
        _parts(given.keys() - common.keys()),
        resized,
    )


def _check_encoder(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], origin: str
) -> None:
    """Refuse an encoder of another size: it would be taken in part, or not at all."""
    here, there = (
        {k: tuple(t.shape) for k, t in state.items() if _part(k) in _ENCODER}
        for state in (own, given)
    )
    if here == there:
        return
    found, needed = _sizes(given), _sizes(own)
    if not found:
        msg = f"{origin!r} has no encoder of a ClimaX."
        said = ", ".join(_parts(given)[:6])
        hint = (
            'init_from = "climax-5.625deg", or take the line out to train from scratch'
        )
        raise OptionError(msg, found=said, needed=", ".join(_ENCODER), hint=hint)
    msg = f"The encoder of {origin!r} is not of the size of the recipe's network."
    keys = [key for key in found if found[key] != needed.get(key)]
    hint = ", ".join(f"{key} = {found[key]}" for key in keys) or "another init_from"
    raise OptionError(
        msg,
        found=_said(found),
        needed=_said(needed),
        hint=f"{hint} in [network]; `heads` too is that of {origin!r}",
    )


def _sizes(state: Mapping[str, Tensor]) -> dict[str, float]:
    """Width, number of blocks and hidden features, as ``[network]`` calls them."""
    if "norm.weight" not in state or "blocks.0.first.weight" not in state:
        return {}
    width = len(state["norm.weight"])
    blocks = {key.split(".")[1] for key in state if key.startswith("blocks.")}
    ratio = len(state["blocks.0.first.weight"]) / width
    return {"width": width, "depth": len(blocks), "mlp_ratio": ratio}


def _said(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in sizes.items())


def _part(key: str) -> str:
    """Which part of a network a parameter is in; of each variable, its tokens."""
    names = key.split(".")
    return ".".join(names[:2]) if names[0] in ("tokens", "pixels") else names[0]


def _listed(parts: Sequence[str]) -> str:
    """Parts in a line, those of many variables by their number."""
    kinds = Counter(part.split(".")[0] for part in parts)
    listed = [
        kind if kind in parts else f"{kind} of {count} variables"
        for kind, count in kinds.items()
    ]
    return ", ".join(listed) or "nothing"


def _parts(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({_part(key) for key in keys}))
