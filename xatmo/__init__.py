"""Pretrained networks of the atmosphere as lazy xarray verbs.

Importing this package gives every DataArray, Dataset and DataTree an ``.atmo``
accessor. It does not import torch: that happens with the first forward pass.
"""

from __future__ import annotations

from xatmo import errors
from xatmo.accessor import AtmoAccessor
from xatmo.distances import distance
from xatmo.embedding import embed
from xatmo.options import get_options, set_options
from xatmo.sample import open_sample
from xatmo.zoo import Model, list_models, load_model

__version__ = "0.1.0"

__all__ = [
    "AtmoAccessor",
    "Model",
    "__version__",
    "distance",
    "embed",
    "errors",
    "get_options",
    "list_models",
    "load_model",
    "open_sample",
    "set_options",
]
