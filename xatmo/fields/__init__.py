"""What the user's data say: names, units, levels, grid; to canonical form and back."""

from xatmo.fields.attributes import kept_attrs
from xatmo.fields.axes import Axes, find_axes
from xatmo.fields.canonical import Fields, read, restore
from xatmo.fields.finer import (
    Fine,
    fine_bounds,
    fine_chunks,
    fine_coordinates,
    fine_dataset,
    restore_fine,
    to_user,
    to_user_units,
)
from xatmo.fields.grid import Grid, area_weights, cell_coordinates, read_grid
from xatmo.fields.inputs import as_dataset, unpack
from xatmo.fields.land import land_share, land_share_of_cells
from xatmo.fields.levels import Level, level_coordinate
from xatmo.fields.names import Found, find_quantities
from xatmo.fields.orientation import from_canonical, reorder, to_canonical
from xatmo.fields.recognise import Recognised, recognise
from xatmo.fields.units import convert
from xatmo.fields.winds import vorticity_divergence

__all__ = [
    "Axes",
    "Fields",
    "Fine",
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
    "fine_bounds",
    "fine_chunks",
    "fine_coordinates",
    "fine_dataset",
    "from_canonical",
    "kept_attrs",
    "land_share",
    "land_share_of_cells",
    "level_coordinate",
    "read",
    "read_grid",
    "recognise",
    "reorder",
    "restore",
    "restore_fine",
    "to_canonical",
    "to_user",
    "to_user_units",
    "unpack",
    "vorticity_divergence",
]
