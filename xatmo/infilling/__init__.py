"""infill(): gaps of any shape filled, observed cells untouched, with the spread."""

from xatmo.infilling.verb import infill

__all__ = ["infill"]
