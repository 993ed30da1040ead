"""How a network runs over arrays and chunks. Knows nothing of meteorology."""

from xatmo.engine.apart import unjoined
from xatmo.engine.batch import Call
from xatmo.engine.boxes import Domain
from xatmo.engine.chunks import rechunked
from xatmo.engine.finer import Finer, apply_finer
from xatmo.engine.finer_boxes import FinerBoxes
from xatmo.engine.gaps import Network, Plan, run_network
from xatmo.engine.plan import apply, over_chunks
from xatmo.engine.rollout import Rollout
from xatmo.engine.series import Recipe, climate, fill_series
from xatmo.engine.sidebyside import picked, side_by_side
from xatmo.engine.windows import Windows, over_windows

__all__ = [
    "Call",
    "Domain",
    "Finer",
    "FinerBoxes",
    "Network",
    "Plan",
    "Recipe",
    "Rollout",
    "Windows",
    "apply",
    "apply_finer",
    "climate",
    "fill_series",
    "over_chunks",
    "over_windows",
    "picked",
    "rechunked",
    "run_network",
    "side_by_side",
    "unjoined",
]
