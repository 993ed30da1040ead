"""What a card says of its layers: which there are, and how a distance is scaled."""

from __future__ import annotations

from xatmo.errors import OptionError
from xatmo.zoo.card import Card

__all__ = ["check_layer", "distance_scale"]


def check_layer(card: Card, layer: str | None) -> str:
    """Return the layer, or the model's default one.

    Raises
    ------
    xatmo.errors.OptionError
        If the model has no such layer.
    """
    names = card.layers.names if card.layers is not None else ()
    if layer is None and names:
        return names[0]
    if layer in names:
        return str(layer)
    msg = f"{card.name} has no layer {layer!r}."
    raise OptionError(
        msg,
        found=f"layer={layer!r}",
        needed=f"one of {', '.join(map(repr, names))}" if names else "a model with any",
        hint=f"layer={names[0]!r}" if names else "xatmo.list_models('embed')",
    )


def distance_scale(card: Card, layer: str) -> tuple[float, str]:
    """Return the scale alpha of a layer's distance, and the space it was fitted in."""
    table = card.distance
    if table is None or layer not in table.alpha:
        return 1.0, "not fitted"
    return table.alpha[layer], table.space
