import numpy as np
import pytest
import xarray as xr

from xatmo.errors import LevelError
from xatmo.fields.levels import Level, coordinate_levels, is_vertical, text_level


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("850 hPa", Level("pressure", 850)),
        ("85000 Pa", Level("pressure", 850)),
        ("500mb", Level("pressure", 500)),
        ("1000 millibars", Level("pressure", 1000)),
        (850, Level("pressure", 850)),
        (np.int64(500), Level("pressure", 500)),
        ("700", Level("pressure", 700)),
        ("10 m", Level("height", 10)),
        ("2 metres above ground", Level("height", 2)),
        ("sigma 0.95", Level("sigma", 0.95)),
        ("sigma level 0.95", Level("sigma", 0.95)),
        ("model level 120", Level("model_level", 120)),
        ("surface", Level("surface")),
        (Level("height", 10), Level("height", 10)),
    ],
)
def test_parse(text, level):
    assert Level.parse(text) == level


@pytest.mark.parametrize(
    "level",
    [
        Level("pressure", 850),
        Level("height", 10),
        Level("sigma", 0.95),
        Level("model_level", 120),
        Level("surface"),
    ],
)
def test_text_and_back(level):
    assert Level.parse(str(level)) == level


@pytest.mark.parametrize("text", ["", "high up", "850 K", None, True, "10 hPa or so"])
def test_not_a_level(text):
    with pytest.raises(LevelError, match="is not a level") as error:
        Level.parse(text)
    assert "a number of hPa; or a list of these" in error.value.needed
    assert 'level="850 hPa"' in str(error.value)


def test_single_precision_is_the_same_level():
    assert Level("sigma", float(np.float32(0.95))) == Level("sigma", 0.95)
    assert len({Level("sigma", float(np.float32(0.95))), Level("sigma", 0.95)}) == 1


def test_a_level_inside_a_text():
    assert text_level("850 hPa U wind component", within=True) == Level("pressure", 850)
    assert text_level("Geopotential at 500 hPa", within=True) == Level("pressure", 500)
    assert text_level("2 metre temperature", within=True) == Level("height", 2)
    assert text_level("wind shear of 850 hPa winds", within=True) is None
    assert text_level("850 hPa U wind component") is None


def _coord(name, values, **attrs):
    return xr.DataArray(np.asarray(values), dims=[name], name=name, attrs=attrs)


@pytest.mark.parametrize(
    ("coord", "texts"),
    [
        (_coord("level", [500, 850], units="millibars"), ["500 hPa", "850 hPa"]),
        (_coord("lev", [850], units="mb"), ["850 hPa"]),
        (_coord("plev", [85000.0, 50000.0], units="Pa"), ["850 hPa", "500 hPa"]),
        (_coord("isobaricInhPa", [850.0]), ["850 hPa"]),
        (_coord("isobaricInPa", [50.0]), ["0.5 hPa"]),
        (_coord("plev", [85000.0]), ["850 hPa"]),
        (_coord("lv_ISBL3", [600], units="hPa"), ["600 hPa"]),
        (_coord("level", [50, 500, 850]), ["50 hPa", "500 hPa", "850 hPa"]),
        (_coord("levelist", [136, 137]), ["model level 136", "model level 137"]),
        (_coord("hybrid", [1.0, 2.0]), ["model level 1", "model level 2"]),
        (_coord("bottom_top", [0, 1]), ["model level 0", "model level 1"]),
        (_coord("height", [10.0], units="m"), ["10 m"]),
        (_coord("heightAboveGround", [2.0]), ["2 m"]),
        (_coord("sigma", [0.95]), ["sigma 0.95"]),
    ],
)
def test_coordinates(coord, texts):
    assert [str(level) for level in coordinate_levels(coord)] == texts


@pytest.mark.parametrize(
    "attrs",
    [
        {"units": "hPa", "long_name": "hybrid level at midpoints (1000*(A+B))"},
        {"standard_name": "atmosphere_hybrid_sigma_pressure_coordinate"},
        {"standard_name": "model_level_number", "units": "1"},
    ],
)
def test_a_model_level_is_never_a_pressure(attrs):
    levels = coordinate_levels(_coord("lev", [850.0, 992.5], **attrs))
    assert {level.kind for level in levels} == {"model_level"}


def test_small_numbers_without_units_could_be_either():
    levels = coordinate_levels(_coord("level", [1, 2, 3]))
    assert {level.kind for level in levels} == {"unknown"}


def test_lazy_levels_are_not_computed(no_compute):
    lazy = xr.DataArray(np.array([850.0, 500.0]), dims="z", name="plev").chunk()
    with no_compute:
        assert {level.kind for level in coordinate_levels(lazy)} == {"unknown"}


def test_is_vertical():
    assert is_vertical("anything", {"axis": "Z"})
    assert is_vertical("anything", {"positive": "down"})
    assert is_vertical("lv_ISBL3", {})
    assert not is_vertical("number", {"units": "1"})
    assert not is_vertical("z", {})
