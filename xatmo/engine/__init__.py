"""How a network runs over arrays and chunks. Knows nothing of meteorology."""

from xatmo.engine.batch import Call
from xatmo.engine.finer import Finer, apply_finer
from xatmo.engine.gaps import Network, Plan, run_network
from xatmo.engine.plan import apply
from xatmo.engine.series import Recipe, climate, fill_series

__all__ = [
    "Call",
    "Finer",
    "Network",
    "Plan",
    "Recipe",
    "apply",
    "apply_finer",
    "climate",
    "fill_series",
    "run_network",
]
