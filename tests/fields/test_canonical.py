import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xatmo.errors import (
    AlignmentError,
    FieldError,
    FieldNotFoundError,
    LevelError,
    UnitsError,
    UnitsWarning,
)
from xatmo.fields import Level, cell_coordinates, read, restore

U, V = "eastward_wind", "northward_wind"
VO, D = "atmosphere_relative_vorticity", "divergence_of_wind"
T, Z = "air_temperature", "geopotential"
WIND = {"units": "m s**-1"}


def _levels(*texts):
    return [Level.parse(text) for text in texts]


@pytest.fixture
def winds(make):
    """winds(["u10", ...], ...): a dataset whose variables are in m s-1."""

    def build(names, **kwargs):
        return make(names, attrs=dict.fromkeys(names, WIND), **kwargs)

    return build


def test_present_is_taken_as_it_is(winds):
    ds = winds(["u10", "v10"])
    fields = read(ds, [U, V])
    assert list(fields.data) == [U, V]
    assert fields.sources == {U: ("u10",), V: ("v10",)}
    assert [str(level) for level in fields.levels] == ["10 m"]
    assert fields.level_dim is None
    assert fields.dims == ("time", "latitude", "longitude")
    assert fields.data[U].attrs == {"standard_name": U, "units": "m s-1"}
    np.testing.assert_array_equal(fields.data[U], ds.u10)


def test_vorticity_and_divergence_follow_from_winds(winds):
    ds = winds(["u10", "v10"])
    fields = read(ds, [VO, D])
    assert fields.sources[VO] == ("u10", "v10")
    assert fields.data[VO].dims == ("time", "latitude", "longitude")
    assert fields.data[D].attrs["units"] == "s-1"
    assert any("derived from u10, v10" in note for note in fields.notes)


def test_winds_are_converted_before_they_are_derived_from(winds):
    ds = winds(["u10", "v10"])
    knots = ds / (1852 / 3600)
    for name in ds:
        knots[name].attrs["units"] = "knots"
    expected = read(ds, [VO]).data[VO]
    np.testing.assert_allclose(
        read(knots, [VO]).data[VO], expected, rtol=1e-4, atol=1e-10
    )


def test_winds_are_derived_from_in_canonical_orientation(winds):
    ds = winds(["u10", "v10"])
    other = ds.isel(latitude=slice(None, None, -1), longitude=slice(None, None, -1))
    xr.testing.assert_allclose(read(other, [VO]).data[VO], read(ds, [VO]).data[VO])


def test_present_vorticity_is_preferred(winds):
    ds = winds(["u", "v"], levels=[850], level_attrs={"units": "hPa"})
    ds["vo"] = (ds.u * 1e-5).assign_attrs(units="s**-1")
    fields = read(ds, [VO, D])
    assert fields.sources == {VO: ("vo",), D: ("u", "v")}
    np.testing.assert_array_equal(fields.data[VO], ds.vo)


def test_vorticity_of_another_level_is_not_mixed_in(winds):
    ds = winds(["u10", "v10", "vo"])
    ds["vo"] = ds.vo.assign_attrs(units="s-1", level="850 hPa")
    fields = read(ds, [VO, D], levels=_levels("10 m", "850 hPa"))
    assert fields.sources == {VO: ("u10", "v10"), D: ("u10", "v10")}
    with pytest.raises(LevelError, match="The data have no 850 hPa"):
        read(ds, [VO, D], level=850)


# -- levels ----------------------------------------------------------------------------


@pytest.fixture
def column(winds):
    """Winds at 500 and 850 hPa along a dimension, and at 10 m."""
    ds = winds(["u", "v"], levels=[500, 850], level_attrs={"units": "hPa"})
    return ds.merge(winds(["u10", "v10"]))


def test_the_first_acceptable_kind_of_level_wins(column):
    fields = read(column, [U, V], levels=_levels("10 m", "850 hPa", "500 hPa"))
    assert fields.sources[U] == ("u10",)
    fields = read(column, [U, V], levels=_levels("850 hPa", "500 hPa", "10 m"))
    assert fields.sources[U] == ("u",)
    assert fields.level_dim == "level"
    assert [str(level) for level in fields.levels] == ["500 hPa", "850 hPa"]


def test_kinds_of_levels_have_to_be_chosen(column):
    with pytest.raises(LevelError, match="levels of several kinds") as error:
        read(column, [U, V])
    assert 'level="500 hPa"' in error.value.hint


def test_one_level_gives_no_dimension(column):
    fields = read(column, [U, V], level="850 hPa")
    assert fields.level_dim is None
    assert fields.data[U].dims == ("time", "latitude", "longitude")
    np.testing.assert_array_equal(fields.data[U], column.u.sel(level=850))
    assert fields.data[U].level == 850


def test_a_list_of_levels_gives_a_dimension(column):
    fields = read(column, [U, V], level=["850 hPa"])
    assert fields.data[U].dims == ("time", "level", "latitude", "longitude")
    assert fields.data[U].level.values.tolist() == [850]
    swapped = read(column, [U, V], level=[850, 500])
    assert swapped.data[U].level.values.tolist() == [850, 500]


def test_unknown_levels_along_a_dimension(column):
    with pytest.raises(LevelError, match="does not know all levels along 'level'") as e:
        read(column, [U, V], levels=_levels("850 hPa"))
    assert "also 500 hPa" in e.value.found
    assert e.value.hint == 'ds.sel(level=[850]), or level="850 hPa"'
    assert read(column, [U, V], levels=_levels("850 hPa"), level="850 hPa")
    assert read(column.sel(level=[850]), [U, V], levels=_levels("850 hPa"))
    assert read(column.sel(level=850), [U, V], levels=_levels("850 hPa"))


def test_levels_in_pascal(winds):
    ds = winds(
        ["u"], levels=[85000.0, 50000.0], level="plev", level_attrs={"units": "Pa"}
    )
    with pytest.raises(LevelError, match="'plev'") as error:
        read(ds, [U], levels=_levels("850 hPa"))
    assert "ds.sel(plev=[85000.0])" in error.value.hint


def test_a_level_that_is_not_there(column):
    with pytest.raises(LevelError, match="The data have no 300 hPa") as error:
        read(column, [U, V], level=300)
    assert "500 hPa, 850 hPa, 10 m" in error.value.found


def test_a_level_that_the_model_does_not_know(column):
    with pytest.raises(LevelError, match="The model does not know 500 hPa") as error:
        read(column, [U, V], levels=_levels("850 hPa"), level=500)
    assert error.value.hint == 'level="850 hPa"'


def test_no_level_that_the_model_knows(column):
    with pytest.raises(LevelError, match="knows none of the levels") as error:
        read(column, [U, V], levels=_levels("sigma 0.95"))
    assert "sigma 0.95" in error.value.needed


def test_a_level_twice(column):
    ds = column.isel(level=[0, 0, 1])
    with pytest.raises(LevelError, match="'u' holds 500 hPa more than once") as error:
        read(ds, [U, V], level=500)
    assert error.value.hint == "ds.drop_duplicates('level')"


def test_no_level_at_all(column):
    for nothing in ([], (), np.array([])):
        with pytest.raises(LevelError, match="list of levels is empty") as error:
            read(column, [U], level=nothing)
        assert "nothing" in error.value.found


@pytest.mark.parametrize(
    "level", [np.array(850), np.int64(850), np.float32(850), np.array("850 hPa")]
)
def test_a_level_from_numpy_is_a_single_one(column, level):
    fields = read(column, [U], level=level)
    assert fields.level_dim is None
    assert [str(lv) for lv in fields.levels] == ["850 hPa"]
    assert read(column, [U], level=np.array([850])).level_dim == "level"


@pytest.mark.parametrize(
    "level", [{"level": 850}, {850}, slice(850, 500), [[850]], object()]
)
def test_levels_that_are_none(column, level):
    with pytest.raises(LevelError, match="is not a level") as error:
        read(column, [U], level=level)
    assert 'text such as "850 hPa"' in error.value.needed
    assert "list" in error.value.needed


@pytest.mark.parametrize(
    ("dim", "size", "hint"),
    [
        ("level", 3, "ds.assign_coords(level=[850, 500, 250])"),
        ("level", 2, "ds.assign_coords(level=[850, 500])"),
        ("plev", 3, "ds.assign_coords(plev=[850, 500, 250])"),
        ("height", 2, "ds.assign_coords(height=[10, 50])"),
    ],
)
def test_levels_without_a_coordinate(winds, follow, dim, size, hint):
    ds = winds(["u"], levels=range(size), level=dim).drop_vars(dim)
    wanted = _levels("850 hPa", "500 hPa", "250 hPa", "10 m", "50 m")
    with pytest.raises(LevelError, match="do not say what level") as error:
        read(ds, [U], levels=wanted)
    assert error.value.hint.startswith(f"{hint}, the {size} levels in ")
    better = follow(hint, ds=ds)
    assert read(better, [U], levels=wanted).level_dim == dim


def test_many_levels_without_a_coordinate(winds):
    ds = winds(["u"], levels=range(5)).drop_vars("level")
    with pytest.raises(LevelError, match="do not say what level") as error:
        read(ds, [U], levels=_levels("850 hPa"))
    assert "level=[850, 500, 250, ...]), the 5 levels in hPa" in error.value.hint


def test_levels_of_two_kinds_at_once(column):
    with pytest.raises(LevelError, match="different kinds"):
        read(column, [U, V], level=["10 m", 850])


def test_names_at_several_levels_become_a_dimension(winds):
    ds = winds(["u850", "v850", "u500", "v500"])
    fields = read(ds, [U, V])
    assert fields.level_dim == "pressure_level"
    assert fields.dims == ("time", "pressure_level", "latitude", "longitude")
    assert fields.data[U].dims == ("time", "pressure_level", "latitude", "longitude")
    assert fields.data[U].pressure_level.values.tolist() == [850.0, 500.0]
    assert fields.data[U].pressure_level.attrs["units"] == "hPa"
    assert fields.sources[U] == ("u850", "u500")
    np.testing.assert_array_equal(fields.data[U].isel(pressure_level=1), ds.u500)


def test_derived_at_several_named_levels(winds):
    ds = winds(["u850", "v850", "u500", "v500"])
    both = read(ds, [VO, D]).data[VO]
    one = read(ds, [VO, D], level=500).data[VO]
    np.testing.assert_allclose(both.isel(pressure_level=1), one)


def test_half_present_half_derived(winds):
    ds = winds(["vo850", "u850", "v850", "u500", "v500"])
    ds["vo850"].attrs["units"] = "s-1"
    data = read(ds, [VO, D]).data
    assert data[VO].pressure_level.values.tolist() == [850.0, 500.0]
    np.testing.assert_array_equal(data[VO].sel(pressure_level=850), ds.vo850)


def test_the_user_knows_the_level_better(winds):
    ds = winds(["u", "v"])
    with pytest.raises(LevelError, match="do not say what level they are at") as error:
        read(ds, [U, V], levels=_levels("10 m", "850 hPa"))
    assert error.value.hint == 'level="10 m", if that is where they are'
    fields = read(ds, [U, V], levels=_levels("10 m", "850 hPa"), level="850 hPa")
    assert [str(level) for level in fields.levels] == ["850 hPa"]
    assert any("taken as 850 hPa" in note for note in fields.notes)


def test_model_levels_are_not_taken_for_pressures(winds):
    ds = winds(["u", "v"], level="hybrid", levels=[850, 851])
    with pytest.raises(LevelError, match="knows none of the levels") as error:
        read(ds, [U, V], levels=_levels("850 hPa"))
    assert "model level 850" in error.value.found


def test_a_level_coordinate_that_could_be_anything(winds):
    ds = winds(["u", "v"], level="lev", levels=[50, 100])
    with pytest.raises(LevelError, match="do not say") as error:
        read(ds, [U, V], levels=_levels("50 hPa"), level=50)
    assert 'ds["lev"].attrs["units"] = "hPa"' in error.value.hint


def test_winds_at_different_levels(winds):
    with pytest.raises(LevelError, match="share no level") as error:
        read(winds(["u10", "v850"]), [VO, D])
    assert "eastward_wind at 10 m; northward_wind at 850 hPa" in error.value.found
    with pytest.raises(LevelError, match="share no level"):
        read(winds(["u10", "v850"]), [U, V])


def test_surface_fields_go_with_any_level(winds):
    ds = winds(["u850", "v850"]).merge(winds(["sp"]))
    ds["sp"].attrs["units"] = "hPa"
    fields = read(ds, [U, "surface_air_pressure"])
    assert [str(level) for level in fields.levels] == ["850 hPa"]
    np.testing.assert_allclose(fields.data["surface_air_pressure"], 100 * ds.sp)


# -- what is missing, ambiguous or wrong -----------------------------------------------


def test_missing(winds):
    ds = winds(["u10", "t2m", "strange"])
    with pytest.raises(FieldNotFoundError, match=f"No variable holds {VO}") as error:
        read(ds, [VO])
    assert "u10 (eastward_wind, 10 m)" in error.value.found
    assert "not recognised: strange" in error.value.found
    assert error.value.hint.startswith(
        'ds["strange"].attrs["standard_name"] = "northward_wind"'
    )


def test_one_of_a_pair_alone(make):
    s = {"units": "s-1"}
    ds = make(["vo"], attrs={"vo": s})
    with pytest.raises(FieldNotFoundError, match=f"No variable holds {D}") as error:
        read(ds, [VO, D])
    assert error.value.hint.endswith(f"that holds {D}, or both winds")
    ds = make(["vo", "strange"], attrs={"vo": s, "strange": s})
    with pytest.raises(FieldNotFoundError, match=f"No variable holds {D}") as error:
        read(ds, [VO, D])
    assert error.value.hint.startswith(f'ds["strange"].attrs["standard_name"] = "{D}"')


@pytest.mark.parametrize(
    ("names", "lacking"),
    [
        (["u10"], V),
        (["v10"], U),
        (["t2m"], "eastward_wind and northward_wind"),
        (["vo", "v10"], U),
    ],
)
def test_winds_are_missing(make, names, lacking):
    with pytest.raises(FieldNotFoundError, match="No variable holds") as error:
        read(make(names), [VO, D])
    assert error.value.hint.endswith(f"that holds {lacking}")


def test_names_along_a_dimension_of_another_name(winds):
    da = winds(["u10", "v10"]).to_array("what")
    with pytest.raises(FieldNotFoundError, match="No variable holds") as error:
        read(da, [VO])
    assert error.value.hint == "da.to_dataset(\"what\"), where da is 'data'"
    better = da.to_dataset("what")
    for variable in better.data_vars.values():
        variable.attrs = WIND
    assert read(better, [VO]).sources == {VO: ("u10", "v10")}
    in_dataset = da.rename("fields").to_dataset()
    with pytest.raises(FieldNotFoundError, match="No variable holds") as error:
        read(in_dataset, [VO])
    assert "where da is 'fields'" in error.value.hint


@pytest.mark.parametrize("name", ["feature", "latitude", "longitude"])
def test_names_that_results_need(winds, follow, name):
    ds = winds(["u10", "v10"], lat="lat", lon="lon").expand_dims({name: 2})
    with pytest.raises(FieldError, match=f"name that is needed: '{name}'") as error:
        read(ds, [VO])
    hint = f'ds.rename({name}="{name}_")'
    assert error.value.hint == hint
    fields = read(follow(hint, ds=ds), [VO])
    result = restore(_cells(fields, 2), fields)
    assert result.dims == (f"{name}_", "time", "lat", "lon", "feature")


def test_a_coordinate_of_a_name_that_results_need(winds):
    ds = winds(["u10"]).assign_coords(feature="front")
    with pytest.raises(FieldError, match="coordinate of a name that is needed") as e:
        read(ds, [U])
    assert e.value.hint == 'ds.rename(feature="feature_")'
    assert read(ds.rename(feature="feature_"), [U])
    # Other variables may be called and laid out as they like.
    other = winds(["u10"]).assign(other=("feature", [1, 2]))
    assert read(other, [U])


def test_ambiguous(winds):
    ds = winds(["u10", "uas", "v10"])
    with pytest.raises(FieldNotFoundError, match="Several variables claim") as error:
        read(ds, [U, V])
    assert "u10 (m s**-1, by its name), uas" in error.value.found
    assert error.value.hint == "ds.drop_vars('uas')"
    assert read(ds, [V])


def test_winds_on_staggered_points(winds):
    ds = winds(["u10", "t2m"]).merge(winds(["v10"], lat="lat_2", latitude=[49.0, 42.0]))
    with pytest.raises(AlignmentError, match="'v10' lies on other points") as error:
        read(ds, [VO])
    assert "latitude" in error.value.needed


def test_winds_with_different_dimensions(winds):
    ds = winds(["u10", "v10"])
    ds["u10"] = ds.u10.expand_dims(number=[0, 1])
    with pytest.raises(AlignmentError, match="same dimensions") as error:
        read(ds, [VO])
    assert "number" in error.value.found


def test_wrong_units(winds):
    ds = winds(["u10", "v10"])
    ds["u10"].attrs["units"] = "K"
    with pytest.raises(UnitsError, match="'u10' is in 'K'"):
        read(ds, [U, V])


def test_missing_units_are_assumed(make):
    ds = make(["u10", "zg500"])
    with pytest.warns(UnitsWarning, match="'u10' has no units; 'm s-1' assumed"):
        read(ds, [U])
    with pytest.warns(UnitsWarning, match="'zg500' has no units; 'm' assumed"):
        fields = read(ds, [Z])
    np.testing.assert_allclose(fields.data[Z], 9.80665 * ds.zg500, rtol=1e-6)


def test_not_numbers(winds):
    ds = winds(["u10"])
    ds["u10"] = ds.u10.astype(str).assign_attrs(WIND)
    with pytest.raises(FieldError, match="'u10' does not hold numbers"):
        read(ds, [U])


# -- forms of input --------------------------------------------------------------------


def test_array_by_name_or_standard_name(winds):
    ds = winds(["u10"])
    np.testing.assert_array_equal(read(ds.u10, [U]).data[U], ds.u10)
    nameless = ds.u10.rename(None).assign_attrs(standard_name="eastward_wind")
    np.testing.assert_array_equal(read(nameless, [U]).data[U], ds.u10)


@pytest.mark.filterwarnings("ignore:'v10' has no units")
@pytest.mark.parametrize("dim", ["variable", "channel"])
def test_array_of_several_variables(winds, dim):
    ds = winds(["u10", "v10"])
    da = ds.to_dataarray(dim)
    with pytest.warns(UnitsWarning, match="'u10' has no units"):
        fields = read(da, [VO])
    np.testing.assert_allclose(fields.data[VO], read(ds, [VO]).data[VO])
    assert fields.dims == ("time", "latitude", "longitude")


def test_array_with_a_name_twice(winds):
    da = (
        winds(["u10", "v10"]).to_dataarray("channel").assign_coords(channel=["u10"] * 2)
    )
    with pytest.raises(FieldNotFoundError, match="'channel' holds the same name"):
        read(da, [U])


def test_tree(winds):
    ds = winds(["u10"])
    tree = xr.DataTree.from_dict({"/era5/hourly": ds})
    np.testing.assert_array_equal(read(tree["era5/hourly"], [U]).data[U], ds.u10)
    with pytest.raises(FieldNotFoundError, match="no variables of its own") as error:
        read(tree, [U])
    assert "/era5/hourly" in str(error.value)
    assert error.value.hint == "tree['/era5/hourly'].atmo"


def test_something_else():
    with pytest.raises(FieldError, match="ndarray is not an xarray object"):
        read(np.zeros(3), [U])


@pytest.mark.parametrize("order", [0, 1, 2])
def test_any_order_of_dimensions(winds, order):
    ds = winds(["u10", "v10"])
    dims = np.roll(["time", "latitude", "longitude"], order).tolist()
    fields = read(ds.transpose(*dims), [VO])
    assert fields.data[VO].dims == ("time", "latitude", "longitude")
    assert fields.dims == tuple(dims)
    np.testing.assert_allclose(fields.data[VO], read(ds, [VO]).data[VO])


def test_a_single_time(winds):
    fields = read(winds(["u10"]).isel(time=0), [U])
    assert fields.axes.time is None
    assert fields.data[U].dims == ("latitude", "longitude")


def test_ensemble_members_are_a_batch(winds):
    ds = winds(["u10", "v10"]).expand_dims(number=[0, 1, 2])
    fields = read(ds, [VO])
    assert fields.data[VO].dims == ("number", "time", "latitude", "longitude")


def test_expver_is_merged(winds):
    ds = winds(["u10"])
    final = ds.u10.where(ds.time < ds.time[2])
    early = ds.u10.where(ds.time >= ds.time[2])
    old = xr.concat([final, early], pd.Index([1, 5], name="expver")).to_dataset()
    fields = read(old, [U])
    np.testing.assert_array_equal(fields.data[U], ds.u10)
    assert fields.dims == ("time", "latitude", "longitude")
    assert any("expver" in note for note in fields.notes)


def test_packed_integers_are_decoded(winds):
    ds = winds(["u10"])
    packed = (ds.u10 * 1000).round().astype("int16")
    packed[0, 0, 0] = -32768
    packed.attrs = {**WIND, "scale_factor": 0.001, "_FillValue": np.int16(-32768)}
    result = read(packed.to_dataset(name="u10"), [U]).data[U]
    assert result.dtype == "float32"
    assert np.isnan(result[0, 0, 0])
    np.testing.assert_allclose(result[1:], ds.u10[1:], atol=6e-4)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", "float32"),
        ("float64", "float64"),
        (">f4", "<f4"),
        ("float16", "float32"),
        (">f2", "float32"),
        ("int16", "float32"),
    ],
)
def test_dtype(winds, dtype, expected):
    fields = read(winds(["u10", "v10"], dtype=dtype), [U, VO])
    assert fields.data[U].dtype == expected
    assert fields.data[VO].dtype == expected


def test_conversions_are_noted(winds):
    ds = winds(["t2m"])
    ds["t2m"].attrs["units"] = "degC"
    assert "t2m converted from degC to K" in read(ds, [T]).notes
    assert read(winds(["u10"]), [U]).notes == ()


def test_everything_stays_lazy(winds, no_compute):
    ds = winds(
        ["u850", "v850", "u500", "v500"],
        latitude=np.arange(-40.0, 40.0, 10),
        longitude=np.arange(-180.0, 180.0, 30),
        chunks={"time": 1},
    )
    packed = (ds * 100).astype("int16")
    for name in packed:
        packed[name].attrs = {"units": "km/h", "scale_factor": 0.01}
    with no_compute:
        for source in (ds, packed):
            fields = read(source, [VO, D, U])
            for da in fields.data.values():
                assert da.chunksizes["time"] == (1, 1, 1)
                assert da.chunksizes["latitude"] == (8,)
                assert da.chunksizes["longitude"] == (12,)
            assert restore(fields.data[D], fields).chunks is not None


# -- back ------------------------------------------------------------------------------


def _cells(fields, stride, extra=3):
    """A result like an embedding: (..., latitude, longitude, feature)."""
    lat, lon = cell_coordinates(fields.grid, stride)
    first = next(iter(fields.data.values()))
    batch = {d: first.sizes[d] for d in first.dims[:-2]}
    shape = (*batch.values(), lat.size, lon.size, extra)
    return xr.DataArray(
        np.zeros(shape),
        dims=(*batch, "latitude", "longitude", "feature"),
        coords={"latitude": lat, "longitude": lon},
    )


def test_back_to_the_users_form(winds):
    ds = winds(
        ["u10", "v10"],
        lat="lat",
        lon="lon",
        time="valid_time",
        latitude=np.arange(-80.0, 81, 20),
        longitude=np.arange(-180.0, 180, 30),
    ).transpose("lon", "lat", "valid_time")
    ds = ds.assign_coords(expver=("valid_time", ["0001"] * 3), number=0)
    fields = read(ds, [VO, D])
    result = restore(_cells(fields, 2), fields)
    assert result.dims == ("lon", "lat", "valid_time", "feature")
    assert result.lat.values.tolist() == [-80, -40, 0, 40, 80]
    assert result.lon.values.tolist() == [-165, -105, -45, 15, 75, 135]
    assert result.lon.attrs["standard_name"] == "longitude"
    xr.testing.assert_identical(result.valid_time.variable, ds.valid_time.variable)
    assert result.expver.values.tolist() == ["0001"] * 3
    assert result.number == 0


def test_back_and_forth_is_the_same(winds):
    ds = winds(["u10"], longitude=np.arange(170.0, 178.0) % 360 - 180)
    ds = ds.isel(latitude=slice(None, None, -1)).transpose(
        "latitude", "time", "longitude"
    )
    fields = read(ds, [U])
    result = restore(fields.data[U], fields)
    xr.testing.assert_equal(result.drop_attrs(), ds.u10.rename(U).drop_attrs())


def test_a_result_without_a_map(winds):
    fields = read(winds(["u10"]), [U])
    mean = fields.data[U].mean(["latitude", "longitude"])
    assert restore(mean, fields).dims == ("time",)


def test_levels_come_back_where_they_were(column):
    fields = read(column.transpose("level", ...), [U], level=[850, 500])
    result = restore(_cells(fields, 4), fields)
    assert result.dims == ("level", "time", "latitude", "longitude", "feature")
    assert result.level.values.tolist() == [850, 500]


# -- real files ------------------------------------------------------------------------

DERIVED = {
    "train/gfs_uv10_global_1deg_6h_20260324-20260506.nc": ("10 m", 174),
    "train/gfs_uv850_global_1deg_6h_20260419-20260505.nc": ("850 hPa", 65),
    "train/gfs_uv10_japan_0p25_3h_20260707-20260808.nc": ("10 m", 260),
    "test/gfs_uv10_global_1deg_6h_2018_michael.nc": ("10 m", 40),
    "multi/era5_uv850_z500_wpacific_0p25_1h_20170801.nc": ("850 hPa", 24),
    "multi/gfs_sfc7_global_1deg_8dates_2020-2021.nc": ("10 m", 8),
    "multi/era5_pl_uvq_20lev_rhine_1h_20200101.nc": ("10 m", 24),
    "edge/cdsnew_era5_instant_201805.nc": ("10 m", 744),
    "edge/cdsnew_era5_uv10_bengal_irregular_time_202505.nc": ("10 m", 30),
    "speedy-t63/coarse-32x64_6h.nc": ("sigma 0.95", 440),
    "speedy-t63/t63_6h_10days.nc": ("sigma 0.95", 40),
}


@pytest.mark.parametrize("name", DERIVED)
def test_real_files_are_read_lazily(real, name, no_compute):
    ds = real(name)
    level, times = DERIVED[name]
    with no_compute:
        fields = read(ds, [VO, D], levels=_levels("10 m", "850 hPa", "sigma 0.95"))
    assert [str(lv) for lv in fields.levels] == [level]
    assert fields.data[VO].shape[0] == times
    first = fields.data[VO].isel({fields.axes.time: 0}).compute()
    assert 1e-6 < float(first.std()) < 1e-3


ALONG_LEVELS = {
    "edge/cam_uvt_T42_14lev_lon-180_1time.nc": ("lev", 14),
    "edge/cdsnew_era5_pl37_1time_20200223.nc": ("pressure_level", 37),
    "edge/eraint_uvz_month_dim_lon-180.nc": ("level", 3),
    "edge/gfs_cf_longnames_lonfirst_dims.nc": ("level", 3),
    "edge/ncep_r2_oddnames_5lev_6h_20050808.nc": ("lv_ISBL3", 5),
    "multi/era5_uvz_850-500-250_global_1deg_1h_20170801.nc": ("pressure_level", 3),
}


@pytest.mark.parametrize("name", ALONG_LEVELS)
def test_real_files_with_levels(real, name, no_compute):
    ds = real(name, decode_times="cam" not in name)
    dim, size = ALONG_LEVELS[name]
    with no_compute:
        fields = read(ds, [VO, D])
    assert fields.level_dim == dim
    assert fields.data[VO].sizes[dim] == size
    assert restore(fields.data[VO], fields).dims == fields.dims


@pytest.mark.filterwarnings("ignore::xatmo.errors.UnitsWarning")
@pytest.mark.parametrize(
    "pair",
    [
        ("edge/ncl_Ustorm.cdf", "edge/ncl_Vstorm.cdf"),
        (
            "edge/core2_u10_T62_gaussian_noleap_6h_1948.nc",
            "edge/core2_v10_T62_gaussian_noleap_6h_1948.nc",
        ),
        ("edge/cmip5_uas_T63_monthly.nc", "edge/cmip5_vas_T63_monthly.nc"),
    ],
)
def test_real_winds_in_two_files(real, pair):
    both = xr.merge([real(name) for name in pair], compat="override")
    fields = read(both, [VO, D])
    back = restore(fields.data[VO], fields)
    first = both[fields.sources[VO][0]]
    assert back.dims == first.dims
    xr.testing.assert_equal(back[fields.axes.latitude], first[fields.axes.latitude])
    xr.testing.assert_equal(back[fields.axes.longitude], first[fields.axes.longitude])
