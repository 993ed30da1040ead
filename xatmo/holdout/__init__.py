"""How well would a method fill these gaps? Observed cells are hidden to find out.

Arrays only. A series is ``(time, latitude, longitude)`` with NaN where nothing was
observed.
"""

from xatmo.holdout.choosing import Candidate, Choice, choose
from xatmo.holdout.distance import (
    ByDistance,
    distance_to_observed,
    spread_by_distance,
)
from xatmo.holdout.hiding import Hidden, hide_like
from xatmo.holdout.likeness import character, unlike

__all__ = [
    "ByDistance",
    "Candidate",
    "Choice",
    "Hidden",
    "character",
    "choose",
    "distance_to_observed",
    "hide_like",
    "spread_by_distance",
    "unlike",
]
