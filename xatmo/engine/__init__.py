"""How a network runs over arrays and chunks. Knows nothing of meteorology."""

from xatmo.engine.batch import Call
from xatmo.engine.finer import Finer, apply_finer
from xatmo.engine.plan import apply

__all__ = ["Call", "Finer", "apply", "apply_finer"]
