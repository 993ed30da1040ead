"""The cities stand where they do, and values are taken there."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.fields import land_share
from xatmo.metrics import at_cities, cities

KNOWN = {
    "New York": (40.7, -74.0),
    "Los Angeles": (34.1, -118.2),
    "Sao Paulo": (-23.6, -46.6),
    "Santiago": (-33.5, -70.7),
    "Dakar": (14.7, -17.5),
    "London": (51.5, -0.1),
    "Cape Town": (-33.9, 18.4),
    "Delhi": (28.6, 77.2),
    "Tokyo": (35.7, 139.7),
    "Auckland": (-36.8, 174.8),
}
WEST = {
    *("United States", "Canada", "Mexico", "Brazil", "Argentina", "Chile", "Peru"),
    *("Colombia", "Venezuela", "Ecuador", "Cuba", "Haiti", "Portugal", "Ireland"),
    *("Senegal", "Mali", "Ivory Coast", "Ghana", "Burkina Faso", "Morocco"),
    *("United Kingdom", "Bolivia", "Paraguay", "Panama", "Guatemala"),
    "Dominican Republic",
}
SOUTH = {
    *("Australia", "New Zealand", "South Africa", "Argentina", "Chile", "Peru"),
    *("Bolivia", "Paraguay", "Madagascar", "Angola", "Zambia", "Zimbabwe"),
    *("Mozambique", "Tanzania", "Kenya", "Brazil", "DR Congo", "Ecuador"),
}


def test_they_stand_on_land_or_at_a_coast():
    for name, y, x in zip(
        *(cities()[key].values for key in ("city", "latitude", "longitude")),
        strict=True,
    ):
        assert land_share([y + 0.25, y - 0.25], [x - 0.25, x + 0.25]) > 0, name


def test_there_are_150_different_ones():
    places = cities()
    assert places.sizes == {"city": 150}
    assert places.indexes["city"].is_unique
    table = places.to_dataframe()
    assert not table.duplicated(["latitude", "longitude"]).any()
    assert table.population.between(1000, 40000).all()
    assert (table.country != "").all()


def test_known_ones_stand_where_they_do():
    places = cities()
    for name, where in KNOWN.items():
        one = places.sel(city=name)
        assert (one.latitude.item(), one.longitude.item()) == pytest.approx(
            where, 0, 0.1
        )


def test_hemispheres_are_those_of_the_countries():
    table = cities().to_dataframe()
    spain = table.country == "Spain"
    west = table.country.isin(WEST) | spain
    assert ((table.longitude < 0) == west).all()
    south = table.index[table.latitude < 0]
    assert set(table.country[south]) - SOUTH == {"Indonesia"}


def test_no_two_are_neighbours_and_no_continent_is_left_out():
    places = cities()
    y, x = np.deg2rad(places.latitude.values), np.deg2rad(places.longitude.values)
    cosine = np.sin(y[:, None]) * np.sin(y) + np.cos(y[:, None]) * np.cos(y) * np.cos(
        x[:, None] - x
    )
    np.fill_diagonal(cosine, -1)
    assert np.arccos(cosine.max()) * 6371 > 60
    boxes = {
        "North America": ((10, 70), (-170, -50), 18),
        "South America": ((-60, 13), (-82, -34), 15),
        "Africa": ((-36, 35), (-18, 51), 25),
        "Europe": ((36, 70), (-10, 40), 15),
        "Oceania": ((-50, -10), (110, 180), 5),
    }
    for (south, north), (west, east), least in boxes.values():
        box = (places.latitude > south) & (places.latitude < north)
        box &= (places.longitude > west) & (places.longitude < east)
        assert box.sum() >= least


@pytest.mark.parametrize("west", [0.0, -180.0])
def test_values_are_those_of_the_nearest_points(west):
    lat, lon = np.arange(-90.0, 91, 1), np.arange(west, west + 360, 1)
    field = xr.DataArray(
        lat[:, None] * 1000 + (lon + 180) % 360 - 180,
        coords={"y": ("y", lat, {"units": "degrees_north"}), "lon": lon},
        dims=("y", "lon"),
        name="x",
    )
    got = at_cities(field)
    places = cities()
    assert got.dims == ("city",)
    assert np.abs(got.y - places.latitude).max() <= 0.5
    away = (got.lon - places.longitude + 180) % 360 - 180
    assert np.abs(away).max() <= 0.5
    assert got.lon.min() >= west
    wanted = got.y * 1000 + (got.lon + 180) % 360 - 180
    np.testing.assert_allclose(got, wanted)


def test_a_region_has_its_own():
    lat, lon = np.arange(22.0, 48.1, 0.5), np.arange(120.0, 150.1, 0.5)
    field = xr.DataArray(
        np.zeros((lat.size, lon.size)),
        coords={"lat": lat, "lon": lon},
        dims=("lat", "lon"),
    )
    names = set(at_cities(field).city.values)
    assert {"Tokyo", "Sapporo", "Seoul"} <= names
    assert not names & {"Beijing", "Manila", "New York"}


def test_nobody_lives_there():
    lat, lon = np.arange(-60.0, -49), np.arange(-140.0, -120)
    field = xr.DataArray(
        np.zeros((lat.size, lon.size)),
        coords={"lat": lat, "lon": lon},
        dims=("lat", "lon"),
    )
    with pytest.raises(
        errors.GridError, match=r"(?s)None of the cities.*-60.5 to -49.5.*nearest"
    ):
        at_cities(field)
