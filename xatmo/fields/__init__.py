"""What the user's data say: names, units, levels, grid; to canonical form and back."""

from xatmo.fields.axes import Axes, find_axes
from xatmo.fields.canonical import Fields, read, restore
from xatmo.fields.grid import Grid, area_weights, cell_coordinates, read_grid
from xatmo.fields.inputs import as_dataset
from xatmo.fields.levels import Level
from xatmo.fields.names import Found, find_quantities
from xatmo.fields.orientation import from_canonical, to_canonical
from xatmo.fields.recognise import Recognised, recognise
from xatmo.fields.units import convert
from xatmo.fields.winds import vorticity_divergence

__all__ = [
    "Axes",
    "Fields",
    "Found",
    "Grid",
    "Level",
    "Recognised",
    "area_weights",
    "as_dataset",
    "cell_coordinates",
    "convert",
    "find_axes",
    "find_quantities",
    "from_canonical",
    "read",
    "read_grid",
    "recognise",
    "restore",
    "to_canonical",
    "vorticity_divergence",
]
