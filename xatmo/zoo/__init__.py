"""Released models: cards, weights and where they come from."""

from __future__ import annotations

from xatmo.zoo.boxnormalization import BoxNormalization
from xatmo.zoo.card import CAPABILITIES, Card, ModelKey
from xatmo.zoo.cardfile import parse_card, read_card, write_card
from xatmo.zoo.constants import Constants, constants_of
from xatmo.zoo.fetch import weights_path
from xatmo.zoo.fitted import Normalization
from xatmo.zoo.importing import import_model
from xatmo.zoo.layers import check_layer, distance_scale
from xatmo.zoo.model import Model, load_model, load_network
from xatmo.zoo.registry import ModelTable, default_model, get_card, list_models
from xatmo.zoo.runtime import Runtime, load_runtime, normalizer
from xatmo.zoo.weights import load_into, load_state, save_state

__all__ = [
    "CAPABILITIES",
    "BoxNormalization",
    "Card",
    "Constants",
    "Model",
    "ModelKey",
    "ModelTable",
    "Normalization",
    "Runtime",
    "check_layer",
    "constants_of",
    "default_model",
    "distance_scale",
    "get_card",
    "import_model",
    "list_models",
    "load_into",
    "load_model",
    "load_network",
    "load_runtime",
    "load_state",
    "normalizer",
    "parse_card",
    "read_card",
    "save_state",
    "weights_path",
    "write_card",
]
