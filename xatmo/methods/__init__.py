"""Plain methods that networks are measured against, usable on their own."""

from xatmo.methods.downscaling import Ridge, another_day, interpolate
from xatmo.methods.gaps import fill_gaps

__all__ = ["Ridge", "another_day", "fill_gaps", "interpolate"]
