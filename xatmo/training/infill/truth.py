"""The series that the filling of gaps is scored on: one quantity, without gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr

from xatmo.errors import AtmoError, FieldNotFoundError
from xatmo.fields.levels import level_coordinate, text_level
from xatmo.fields.names import canonical_units, find_quantities
from xatmo.training.prepare import prepare_source
from xatmo.training.recipe import Source
from xatmo.training.sampling import FieldStore
from xatmo.training.source import open_source

__all__ = ["Truth", "read_truths"]

_MOST_POINTS = 2**26  # of a series that is scored: half a gigabyte in work
_DIMS = ("time", "latitude", "longitude")


@dataclass(frozen=True)
class Truth:
    """One quantity at one level; times with missing values are left out.

    Attributes
    ----------
    quantity, level : str
        The standard name, and where.
    values : ndarray of float32, shape (T, h, w)
        North to south, longitude ascending.
    seconds : ndarray of int, shape (T,)
    latitude, longitude : ndarray
        Degrees.
    spacing : tuple of float
    periodic : bool
        Whether the columns close on themselves.
    held : int
        Times in the data, of which a very long series is the first part.
    """

    quantity: str
    level: str
    values: np.ndarray
    seconds: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    spacing: tuple[float, ...]
    periodic: bool
    held: int

    @classmethod
    def of(cls, store: FieldStore) -> Truth:
        """Read a prepared store of one quantity."""
        whole = np.flatnonzero(store.whole)
        held, size = whole.size, store.latitude.size * store.longitude.size
        whole = whole[: max(1, _MOST_POINTS // size)]
        values = np.stack([np.asarray(store.fields[i])[0] for i in whole])
        places = store.latitude, store.longitude, store.spacing, store.periodic
        seconds = store.times[whole]
        return cls(store.quantities[0], store.level, values, seconds, *places, held)

    @property
    def hours(self) -> np.ndarray:
        """Times in hours since a midnight."""
        return self.seconds / 3600.0

    @cached_property
    def units(self) -> str:
        """As the quantity has them everywhere in xatmo."""
        return str(canonical_units(self.quantity))

    def at(self, times: Sequence[int] | np.ndarray) -> Truth:
        """Return some of the times."""
        index = np.asarray(times, int)
        return replace(self, values=self.values[index], seconds=self.seconds[index])

    def labelled(self, values: np.ndarray) -> xr.DataArray:
        """Name any values at these times and places, as somebody would have them."""
        coords = {
            "time": self.seconds.astype("datetime64[s]").astype("datetime64[ns]"),
            "latitude": ("latitude", self.latitude, {"units": "degrees_north"}),
            "longitude": ("longitude", self.longitude, {"units": "degrees_east"}),
        }
        attrs = {"standard_name": self.quantity, "units": self.units}
        da = xr.DataArray(values, coords, _DIMS, self.quantity, attrs)
        if (level := text_level(self.level)) is None or level.value is None:
            return da
        # Some networks have to know where the fields are.
        name, value = level_coordinate(level)
        return da.assign_coords({name: value})


def read_truths(source: Source, folder: Path) -> list[Truth]:
    """Read every quantity of a source, each with its own level.

    Parameters
    ----------
    source : Source
        If it does not name its quantities, all that are recognised are taken; those
        that are no series at one level are left out then.
    folder : Path
        Prepared data are kept there.

    Raises
    ------
    xatmo.errors.FieldError
        If nothing can be read, or not what is named.
    """
    named = source.quantities
    found, errors = [], []
    for quantity in named or tuple(find_quantities(open_source(source))):
        one = replace(source, quantities=(quantity,))
        try:
            path = prepare_source(one, [quantity], folder)
        except AtmoError as error:
            if named:
                raise
            errors.append(error)
            continue
        found.append(Truth.of(FieldStore(path)))
    if found:
        return found
    raise errors[0] if errors else _nothing(source)


def _nothing(source: Source) -> FieldNotFoundError:
    msg = f"Nothing in {Path(source.path).name} is recognised."
    return FieldNotFoundError(
        msg,
        found=", ".join(map(str, open_source(source).data_vars)) or "no variables",
        needed="a variable with a standard_name, or with a name that is known",
        hint='da.attrs["standard_name"] = "air_temperature", and units; then '
        ".to_netcdf(...)",
    )
