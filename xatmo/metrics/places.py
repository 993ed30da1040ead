"""Large cities: where people live is where local statistics matter."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xatmo.errors import GridError
from xatmo.fields import Grid
from xatmo.metrics.common import canonical, each_variable, edges, nearest

__all__ = ["at_cities", "cities"]


def cities() -> xr.Dataset:
    """Return 150 large cities of all continents.

    Returns
    -------
    Dataset
        On ``city`` (names): ``country``, ``latitude`` (degrees north), ``longitude``
        (degrees east, negative in the west), ``population`` (thousands, of the urban
        area, rounded). The largest urban areas, with fewer of them where they stand
        close together, so that no continent is left out.

    Notes
    -----
    Compiled by hand from general knowledge, to about 0.05 degrees: for choosing grid
    points, not for counting people.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> places = metrics.cities()
    >>> places.sizes["city"], float(places.longitude.sel(city="Lima"))
    (150, -77.04)
    """
    file = resources.files("xatmo") / "data" / "cities.csv"
    with resources.as_file(file) as path:
        table = pd.read_csv(path, comment="#", keep_default_na=False)
    ds = xr.Dataset.from_dataframe(table.set_index("name").rename_axis("city"))
    ds["latitude"].attrs = {"standard_name": "latitude", "units": "degrees_north"}
    ds["longitude"].attrs = {"standard_name": "longitude", "units": "degrees_east"}
    ds["population"].attrs = {"units": "1e3"}
    return ds.set_coords(["country", "latitude", "longitude"])


@each_variable
def at_cities(field: Any) -> xr.DataArray:
    """Take the values at the grid points nearest to the cities.

    Parameters
    ----------
    field : DataArray or Dataset
        Global or regional, in any orientation.

    Returns
    -------
    DataArray or Dataset
        ``(..., city)``, lazy if the data are: those of :func:`cities` that lie in the
        domain. Its latitude and longitude are the grid points', in the user's names.

    Raises
    ------
    xatmo.errors.GridError
        If no city lies in the domain.

    Examples
    --------
    >>> import xatmo
    >>> from xatmo import metrics
    >>> u = xatmo.open_sample().u
    >>> u = metrics.at_cities(u)
    >>> u.dims, u.sel(city=["Tokyo", "Quito"]).lon.values.tolist()
    (('time', 'city'), [140.625, 281.25])
    """
    rows, grid = canonical(field)
    places = cities()
    places = places.isel(city=_inside(grid, places))
    index = nearest(grid, places.latitude.values, places.longitude.values)
    j, i = (xr.DataArray(x, dims="city") for x in index)
    found = rows.isel(latitude=j, longitude=i).drop_vars(["latitude", "longitude"])
    lat, lon = grid.names
    user_columns = grid.lon_order[index[1]]
    found = found.assign_coords(
        city=places.city.variable,
        country=places.country.variable,
    ).assign_coords(
        {
            lat: ("city", grid.latitude[index[0]], grid.attrs[0]),
            lon: ("city", grid.user_longitude[user_columns], grid.attrs[1]),
        }
    )
    found.attrs = dict(field.attrs)
    return found.rename(field.name)


def _inside(grid: Grid, places: xr.Dataset) -> np.ndarray:
    """Positions of the places within the outer edges of the domain's cells."""
    north, south, west, east = edges(grid)
    y, x = places.latitude.values, places.longitude.values
    inside = (y <= north) & (y >= south) & (np.mod(x - west, 360.0) <= east - west)
    if inside.any():
        return np.flatnonzero(inside)
    msg = "None of the cities lies in the domain."
    raise GridError(
        msg,
        found=f"latitudes {south:g} to {north:g}, longitudes {west:g} to {east:g}",
        needed="a domain with at least one of xatmo.metrics.cities()",
        hint="field.sel(lat=..., lon=..., method='nearest') for places of your own",
    )
