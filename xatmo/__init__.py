"""Pretrained networks of the atmosphere as lazy xarray verbs.

Importing this package gives every DataArray, Dataset and DataTree an ``.atmo``
accessor. It does not import torch: that happens with the first forward pass, or with
``xatmo.losses``, which needs torch and does without xarray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from xatmo import errors

if TYPE_CHECKING:
    from xatmo import cluster as cluster
    from xatmo import losses as losses
    from xatmo.accessor import AtmoAccessor
    from xatmo.attention_maps import attention
    from xatmo.distances import distance
    from xatmo.downscaling import downscale
    from xatmo.embedding import embed
    from xatmo.forecasting import forecast
    from xatmo.infilling import infill
    from xatmo.interpolation import interpolate_time
    from xatmo.jobs import run_job
    from xatmo.memory import MemoryEstimate, memory_estimate
    from xatmo.normalization import fit_normalization
    from xatmo.options import get_options, set_options
    from xatmo.predictability_maps import predictability
    from xatmo.sample import open_sample
    from xatmo.zoo import (
        BoxNormalization,
        Model,
        Normalization,
        import_model,
        list_models,
        load_model,
    )

try:
    import xarray as _xarray  # noqa: F401
except ImportError:
    # The loss is of use where only torch is installed; what needs xarray says so
    # when it is asked for.
    pass
else:
    from xatmo import accessor as accessor  # registers .atmo

__version__ = "0.1.0"

# Where the public names come from; each is looked up when it is first asked for.
_HOMES = {
    "AtmoAccessor": "xatmo.accessor",
    "BoxNormalization": "xatmo.zoo",
    "MemoryEstimate": "xatmo.memory",
    "Model": "xatmo.zoo",
    "Normalization": "xatmo.zoo",
    "attention": "xatmo.attention_maps",
    "distance": "xatmo.distances",
    "downscale": "xatmo.downscaling",
    "embed": "xatmo.embedding",
    "forecast": "xatmo.forecasting",
    "fit_normalization": "xatmo.normalization",
    "get_options": "xatmo.options",
    "import_model": "xatmo.zoo",
    "infill": "xatmo.infilling",
    "interpolate_time": "xatmo.interpolation",
    "list_models": "xatmo.zoo",
    "load_model": "xatmo.zoo",
    "memory_estimate": "xatmo.memory",
    "open_sample": "xatmo.sample",
    "predictability": "xatmo.predictability_maps",
    "run_job": "xatmo.jobs",
    "set_options": "xatmo.options",
}
_MODULES = (
    "cluster",
    "losses",
    "metrics",
    "plot",
)  # found as attributes; importing them costs something

__all__ = [
    "AtmoAccessor",
    "BoxNormalization",
    "MemoryEstimate",
    "Model",
    "Normalization",
    "__version__",
    "attention",
    "distance",
    "downscale",
    "embed",
    "errors",
    "fit_normalization",
    "forecast",
    "get_options",
    "import_model",
    "infill",
    "interpolate_time",
    "list_models",
    "load_model",
    "memory_estimate",
    "open_sample",
    "predictability",
    "run_job",
    "set_options",
]


def _lookup(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"xatmo.{name}")
    if name not in _HOMES:
        msg = f"module 'xatmo' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


# Hidden from type checkers, to whom it would mean that every name exists.
if not TYPE_CHECKING:
    __getattr__ = _lookup


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
