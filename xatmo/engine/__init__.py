"""How a network runs over arrays and chunks. Knows nothing of meteorology."""

from xatmo.engine.batch import Call
from xatmo.engine.plan import apply

__all__ = ["Call", "apply"]
