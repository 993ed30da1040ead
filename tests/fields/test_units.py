import numpy as np
import pytest
import xarray as xr

from xatmo.errors import UnitsError, UnitsWarning
from xatmo.fields.units import STANDARD_GRAVITY, convert, same_dimension


def _da(values, units=None, name="x", dtype="float32"):
    attrs = {} if units is None else {"units": units}
    return xr.DataArray(np.asarray(values, dtype), dims="i", name=name, attrs=attrs)


@pytest.mark.parametrize(
    "units",
    [
        "m s**-1",
        "m s-1",
        "m/s",
        "m s^-1",
        "meters/second",
        "m.s-1",
        "metres per second",
        "M/S",
        "M S-1",
        "ms-1",
        "ms**-1",
    ],
)
def test_spellings_of_wind(units):
    result = convert(_da([3.0], units), "m s-1", "eastward_wind")
    assert result.item() == 3.0
    assert result.attrs["units"] == "m s-1"


@pytest.mark.parametrize(
    ("value", "units", "to", "expected"),
    [
        (0.0, "degC", "K", 273.15),
        (0.0, "C", "K", 273.15),
        (25.0, "degrees_C", "K", 298.15),
        (300.0, "Kelvin", "K", 300.0),
        (1013.25, "hPa", "Pa", 101325.0),
        (1013.25, "millibars", "Pa", 101325.0),
        (1013.25, "mb", "Pa", 101325.0),
        (36.0, "km/h", "m s-1", 10.0),
        (1.0, "knots", "m s-1", 1852 / 3600),
        (1.0, "kt", "m s-1", 1852 / 3600),
        (5.0, "g/kg", "kg kg-1", 0.005),
        (5.0, "g kg**-1", "kg kg-1", 0.005),
        (50.0, "%", "1", 0.5),
        (0.5, "(0 - 1)", "1", 0.5),
        (0.5, "Numeric", "1", 0.5),
        (1.0, "m of water equivalent", "m", 1.0),
        (2.0, "1/s", "s-1", 2.0),
    ],
)
def test_exact(value, units, to, expected):
    result = convert(_da([value], units, dtype="float64"), to, "anything")
    assert result.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("units", ["m", "gpm", "metres"])
def test_height_becomes_geopotential(units):
    result = convert(_da([100.0], units, dtype="float64"), "m2 s-2", "geopotential")
    assert result.item() == pytest.approx(100 * STANDARD_GRAVITY, rel=1e-14)


def test_geopotential_stays():
    result = convert(_da([100.0], "m**2 s**-2"), "m2 s-2", "geopotential")
    assert result.item() == 100.0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_stays(dtype):
    assert convert(_da([20.0], "degC", dtype=dtype), "K", "t").dtype == dtype


def test_lazy(no_compute):
    lazy = _da(np.zeros(4), "degC").chunk(i=2)
    with no_compute:
        result = convert(lazy, "K", "air_temperature")
    assert result.chunks == ((2, 2),)
    np.testing.assert_allclose(result, 273.15)


def test_the_input_is_left_alone():
    da = _da([1.0], "degC")
    convert(da, "K", "air_temperature")
    assert da.attrs == {"units": "degC"}
    assert da.item() == 1.0


def test_other_dimension():
    with pytest.raises(
        UnitsError, match="'t2m' is in 'Pa', which cannot become 'K'"
    ) as e:
        convert(_da([1.0], "Pa", "t2m"), "K", "air_temperature")
    assert 'ds["t2m"].attrs["units"] = "K"' in str(e.value)
    assert "units='Pa'" in str(e.value)


def test_unreadable():
    with pytest.raises(UnitsError, match="cannot be read: 'furlongs per blink'") as e:
        convert(_da([1.0], "furlongs per blink", "u10"), "m s-1", "eastward_wind")
    assert 'ds["u10"].attrs["units"] = "m s-1"' in str(e.value)


def test_none_at_all():
    with pytest.warns(
        UnitsWarning, match="'u10' has no units; 'm s-1' assumed"
    ) as seen:
        result = convert(_da([1.0], None, "u10"), "m s-1", "eastward_wind")
    assert result.attrs["units"] == "m s-1"
    assert 'ds["u10"].attrs["units"] = "m s-1"' in str(seen[0].message)
    assert seen[0].filename == __file__


def test_assumed_units_are_converted():
    with pytest.warns(UnitsWarning, match="'m' assumed"):
        result = convert(_da([1.0], None, "zg"), "m2 s-2", "geopotential", assume="m")
    assert result.item() == pytest.approx(STANDARD_GRAVITY)


def test_same_dimension():
    assert same_dimension("knots", "m s-1")
    assert not same_dimension("K", "m s-1")
    assert not same_dimension("no such thing", "m s-1")
