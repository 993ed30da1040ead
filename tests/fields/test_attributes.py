"""Attributes that are no text must not break, and bytes must be understood."""

import numpy as np
import pytest
import xarray as xr

from xatmo.fields import Axes, find_axes, find_quantities, read, recognise
from xatmo.fields.attributes import text, units_of

U = "eastward_wind"
ARRAYS = [np.array(["u10", "v10"]), ["u10", "v10"], np.arange(3), {"a": 1}, None]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("m s-1", "m s-1"),
        (b"m s-1 ", "m s-1"),
        (np.bytes_(b"m s-1"), "m s-1"),
        (np.array(["m s-1"]), "m s-1"),
        ([b"m s-1"], "m s-1"),
        ("°C".encode("latin-1"), "°C"),
        (3, ""),
        *((array, "") for array in ARRAYS),
    ],
)
def test_text(value, expected):
    assert text({"key": value}, "key") == expected
    assert text({}, "key") == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"K", "K"), ("", ""), (1, "1"), (np.float32(1), "1"), (np.arange(2), None)],
)
def test_units(value, expected):
    assert units_of({"units": value}) == expected
    assert units_of({}) is None


@pytest.mark.parametrize("value", ARRAYS)
@pytest.mark.parametrize(
    "key",
    ["short_name", "standard_name", "long_name", "GRIB_shortName", "comment", "axis"],
)
def test_attributes_that_are_no_text_are_passed_over(make, key, value):
    ds = make(["u10", "v10"], attrs={"u10": {"units": "m s-1", key: value}})
    for name in ("time", "latitude", "longitude"):
        ds[name].attrs[key] = value
    assert find_axes(ds) == Axes("latitude", "longitude", "time")
    assert [f.name for f in find_quantities(ds)[U]] == ["u10"]
    assert read(ds, [U]).sources == {U: ("u10",)}
    assert recognise(ds).time.regular


def test_units_that_are_no_text_are_none(make):
    ds = make(["u10"], attrs={"u10": {"units": np.arange(2)}})
    assert recognise(ds).quantities[U][0].units is None


def test_bytes_are_text(make):
    attrs = {"units": b"km h-1", "standard_name": b"eastward_wind"}
    ds = make(["speed"], lat="a", lon="b", attrs={"speed": attrs}, cf=False)
    ds.a.attrs = {"standard_name": b"latitude", "units": b"degrees_north"}
    ds.b.attrs = {"standard_name": b"longitude", "units": b"degrees_east"}
    fields = read(ds, [U])
    assert (fields.axes.latitude, fields.axes.longitude) == ("a", "b")
    assert "speed converted from km h-1 to m s-1" in fields.notes
    np.testing.assert_allclose(fields.data[U], ds.speed / 3.6, rtol=1e-6)
    assert ds.speed.attrs == attrs  # the user's own stay as they are
    assert ds.a.attrs["units"] == b"degrees_north"


def test_levels_whose_units_are_bytes(make):
    ds = make(["u"], levels=[50000, 85000], level="z", level_attrs={"units": b"Pa"})
    (found,) = find_quantities(ds)[U]
    assert [str(level) for level in found.levels] == ["500 hPa", "850 hPa"]


def test_an_array_is_named_by_its_standard_name_even_in_bytes():
    da = xr.DataArray(
        np.zeros((2, 2)),
        {"lat": [1.0, 2.0], "lon": [1.0, 2.0]},
        attrs={"standard_name": b"eastward_wind", "units": "m s-1"},
    )
    assert read(da, [U]).sources == {U: (U,)}
