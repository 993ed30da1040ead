"""Plain methods that networks are measured against, usable on their own."""

from xatmo.methods.downscaling import Ridge, another_day, interpolate

__all__ = ["Ridge", "another_day", "interpolate"]
