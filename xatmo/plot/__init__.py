"""Maps and curves, for a first look; they need the extra ``xatmo[plot]``."""

from xatmo.plot.basic import confusion_matrix, figure, lag_curves, world_map
from xatmo.plot.places import attention
from xatmo.plot.variables import variable_attention

__all__ = [
    "attention",
    "confusion_matrix",
    "figure",
    "lag_curves",
    "variable_attention",
    "world_map",
]
