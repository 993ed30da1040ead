import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xatmo.errors import FieldNotFoundError, GridError
from xatmo.fields.names import (
    Axes,
    assumed_units,
    canonical_name,
    find_axes,
    find_quantities,
    known_name,
)

U, V, T, Z = "eastward_wind", "northward_wind", "air_temperature", "geopotential"


@pytest.mark.parametrize(
    ("name", "quantity", "level"),
    [
        ("u10", U, "10 m"),
        ("10u", U, "10 m"),
        ("uas", U, "10 m"),
        ("10m_u_component_of_wind", U, "10 m"),
        ("U_10_MOD", U, "10 m"),
        ("U10M", U, "10 m"),
        ("UGRD_10maboveground", U, "10 m"),
        ("u100", U, "100 m"),
        ("v100", V, "100 m"),
        ("t2m", T, "2 m"),
        ("2t", T, "2 m"),
        ("tas", T, "2 m"),
        ("u850", U, "850 hPa"),
        ("u_850", U, "850 hPa"),
        ("U850", U, "850 hPa"),
        ("ua850", U, "850 hPa"),
        ("u500hPa", U, "500 hPa"),
        ("u10hPa", U, "10 hPa"),
        ("UGRD_850mb", U, "850 hPa"),
        ("u_component_of_wind_10", U, "10 hPa"),
        ("t1000", T, "1000 hPa"),
        ("zg500", Z, "500 hPa"),
        ("Z500", Z, "500 hPa"),
        ("HGT_500mb", Z, "500 hPa"),
        ("HGT_2_SFC", Z, "surface"),
        ("U_GRD_2_ISBL", U, "None"),
        ("UGRD_P0_L100_GLL0", U, "None"),
        ("u-component_of_wind_isobaric", U, "None"),
        ("V_VEL_2_ISBL", "lagrangian_tendency_of_air_pressure", "None"),
        ("u", U, "None"),
        ("U", U, "None"),
        ("hus", "specific_humidity", "None"),
        ("Q", "specific_humidity", "None"),
        ("vo", "atmosphere_relative_vorticity", "None"),
        ("d", "divergence_of_wind", "None"),
        ("msl", "air_pressure_at_mean_sea_level", "surface"),
    ],
)
def test_names(name, quantity, level):
    assert known_name(name) is not None
    assert (known_name(name)[0], str(known_name(name)[1])) == (quantity, level)


@pytest.mark.parametrize("name", ["u5", "sp500", "time", "x", "u9999", "z0", "u10fg"])
def test_not_names(name):
    assert known_name(name) is None


def test_standard_names_have_synonyms():
    other = "atmosphere_upward_relative_vorticity"
    assert canonical_name(other) == "atmosphere_relative_vorticity"
    assert canonical_name("geopotential_height") == "geopotential"
    assert canonical_name("something_else") == "something_else"


@pytest.mark.parametrize(
    ("name", "attrs", "units"),
    [
        ("z", {}, "m2 s-2"),
        ("zg", {}, "m"),
        ("zg500", {}, "m"),
        ("x", {"standard_name": "geopotential_height"}, "m"),
        ("x", {"long_name": "Geopotential height"}, "m"),
    ],
)
def test_heights_without_units_are_metres(name, attrs, units):
    assert assumed_units(name, attrs, "geopotential") == units


def _grib(short, standard="unknown", units="m s**-1"):
    return {"GRIB_shortName": short, "standard_name": standard, "units": units}


def _named(ds, quantity):
    return [
        (f.name, [str(lv) for lv in f.levels]) for f in find_quantities(ds)[quantity]
    ]


def test_new_climate_data_store(make):
    ds = make(
        ["u10", "v10", "t2m"],
        time="valid_time",
        attrs={"u10": _grib("10u"), "v10": _grib("10v"), "t2m": _grib("2t", units="K")},
    )
    ds["valid_time"].attrs["standard_name"] = "time"
    ds = ds.assign_coords(number=0, expver=("valid_time", ["0001"] * 3))
    assert find_axes(ds) == Axes("latitude", "longitude", "valid_time", None)
    assert _named(ds, U) == [("u10", ["10 m"])]
    assert _named(ds, T) == [("t2m", ["2 m"])]


def test_old_climate_data_store(make):
    ds = make(["u", "v"], levels=[500, 850], level_attrs={"units": "millibars"})
    assert find_axes(ds) == Axes("latitude", "longitude", "time", "level")
    assert _named(ds, U) == [("u", ["500 hPa", "850 hPa"])]


def test_arco(make):
    names = ["u_component_of_wind", "10m_u_component_of_wind", "temperature"]
    ds = make(names, levels=[50, 500, 850], cf=False)
    ds["10m_u_component_of_wind"] = ds["10m_u_component_of_wind"].isel(
        level=0, drop=True
    )
    assert _named(ds, U) == [
        ("u_component_of_wind", ["50 hPa", "500 hPa", "850 hPa"]),
        ("10m_u_component_of_wind", ["10 m"]),
    ]


def test_weatherbench(make):
    ds = make(["geopotential", "2m_temperature"], cf=False).transpose(
        "time", "longitude", "latitude"
    )
    assert find_axes(ds) == Axes("latitude", "longitude", "time", None)
    assert _named(ds, T) == [("2m_temperature", ["2 m"])]


def test_cfgrib_forecast(make):
    ds = make(["u"], time="step", levels=[850.0], level="isobaricInhPa")
    steps = pd.to_timedelta([6, 12, 18], "h")
    start = np.datetime64("2020-01-01", "ns")
    ds = ds.assign_coords(
        step=("step", steps, {"standard_name": "forecast_period"}),
        time=((), start, {"standard_name": "forecast_reference_time"}),
        valid_time=("step", start + steps, {"standard_name": "time"}),
    )
    assert find_axes(ds) == Axes("latitude", "longitude", "step", "isobaricInhPa")
    several = ds.drop_vars("valid_time").expand_dims(
        time=pd.date_range("2020-01-01", periods=2)
    )
    assert find_axes(several).time == "time"


def test_cfgrib_scalar_height(make):
    ds = make(["u"], attrs={"u": _grib("u", "eastward_wind")})
    ds = ds.assign_coords(heightAboveGround=10.0)
    assert _named(ds, U) == [("u", ["10 m"])]


def test_cmip(make):
    ds = make(
        ["ua"],
        lat="lat",
        lon="lon",
        level="plev",
        levels=[85000.0, 50000.0],
        level_attrs={"units": "Pa", "axis": "Z"},
        attrs={"ua": {"standard_name": "eastward_wind", "units": "m s-1"}},
    )
    ds["lat_bnds"] = ("lat", "nb2"), np.zeros((6, 2))
    assert find_axes(ds) == Axes("lat", "lon", "time", "plev")
    assert _named(ds, U) == [("ua", ["850 hPa", "500 hPa"])]


def test_cam(make):
    ds = make(["U", "V", "T"], lat="lat", lon="lon", level="lev", levels=[3.6, 992.5])
    ds["lev"].attrs = {"units": "level", "long_name": "hybrid level at midpoints"}
    assert _named(ds, U) == [("U", ["model level 3.6", "model level 992.5"])]


def test_upper_case_without_attributes(make):
    ds = make(["U_10_MOD"], lat="LAT", lon="LON", time="TIME", cf=False)
    assert find_axes(ds) == Axes("LAT", "LON", "TIME", None)


def test_time_without_coordinate(make):
    ds = make(["u10"]).drop_vars("time")
    assert find_axes(ds).time == "time"


def test_months_are_no_time(make):
    ds = make(["u10"], time="month").assign_coords(month=[1, 4, 7])
    assert find_axes(ds).time is None


def test_standard_name_alone_does_not_tell_the_level(make):
    said = {"standard_name": "eastward_wind", "units": "m s-1"}
    ds = make(
        ["u10", "u850", "wind"], attrs=dict.fromkeys(["u10", "u850", "wind"], said)
    )
    assert _named(ds, U) == [
        ("u10", ["10 m"]),
        ("u850", ["850 hPa"]),
        ("wind", ["unknown level"]),
    ]


def test_a_scalar_level_does_not_move_surface_winds(make):
    # After ds.sel(level=850) every variable carries the scalar coordinate.
    ds = make(["u", "u10"]).assign_coords(level=((), 850, {"units": "hPa"}))
    assert _named(ds, U) == [("u", ["850 hPa"]), ("u10", ["10 m"])]


def test_attributes_outdo_a_number_in_the_name(make):
    ds = make(["u950"], attrs={"u950": {"comment": "sigma level 0.95"}})
    assert _named(ds, U) == [("u950", ["sigma 0.95"])]


def test_attributes_outdo_the_custom_of_a_name(make):
    ds = make(["u100"], attrs={"u100": {"long_name": "100 hPa U wind component"}})
    assert _named(ds, U) == [("u100", ["100 hPa"])]


def test_a_known_standard_name_outdoes_the_name(make):
    ds = make(["t"], attrs={"t": {"standard_name": "sea_surface_temperature"}})
    assert list(find_quantities(ds)) == ["sea_surface_temperature"]


def test_long_names_come_last(make):
    ds = make(
        ["field_7"], attrs={"field_7": {"long_name": "10 metre U wind component"}}
    )
    (found,) = find_quantities(ds)[U]
    assert (found.how, str(found.levels[0])) == ("long_name", "10 m")


def test_time_series_are_no_maps(make):
    ds = make(["u10"])
    ds["t"] = ds["u10"].mean(["latitude", "longitude"])
    assert list(find_quantities(ds)) == [U]


def test_nothing_is_computed(no_compute):
    lazy = dask.array.ones((2, 4, 4), chunks=1)
    ds = xr.Dataset(
        {"u10": (("time", "lat", "lon"), lazy)},
        {"lat": [3, 2, 1, 0], "lon": [0, 1, 2, 3], "mask": (("lat", "lon"), lazy[0])},
    )
    with no_compute:
        assert find_axes(ds) == Axes("lat", "lon", "time", None)
        assert list(find_quantities(ds)) == [U]


def test_no_latitude():
    ds = xr.Dataset({"u10": (("time", "a", "b"), np.zeros((1, 2, 2)))})
    with pytest.raises(FieldNotFoundError, match="No latitude was found") as error:
        find_axes(ds)
    assert "a (2)" in str(error.value)
    assert "ds.rename({'old name': 'latitude'})" in str(error.value)


def test_latitude_without_values():
    ds = xr.Dataset({"u10": (("lat", "lon"), np.zeros((2, 2)))})
    with pytest.raises(FieldNotFoundError, match="'lat' has no coordinate values"):
        find_axes(ds)


def test_one_latitude(make):
    with pytest.raises(GridError, match="There is a single latitude") as error:
        find_axes(make(["u10"]).isel(latitude=0))
    assert "ds.sel(latitude=slice(...))" in error.value.hint


def test_two_latitudes(make):
    ds = xr.merge([make(["u10"]), make(["v10"], lat="lat_2")])
    with pytest.raises(FieldNotFoundError, match="Several dimensions") as error:
        find_axes(ds)
    assert "latitude, lat_2" in str(error.value)


def _plane(**coords):
    return xr.Dataset({"u10": (("y", "x"), np.zeros((2, 3)))}, coords)


def test_projected():
    ds = _plane(
        x=("x", [0.0, 1e4, 2e4], {"standard_name": "projection_x_coordinate"}),
        y=("y", [0.0, 1e4], {"standard_name": "projection_y_coordinate"}),
    )
    with pytest.raises(GridError, match="The grid is projected") as error:
        find_axes(ds)
    assert "regrid to a regular latitude-longitude grid" in str(error.value)


def test_curvilinear():
    flat = np.zeros((2, 3))
    ds = _plane(nav_lat=(("y", "x"), flat), nav_lon=(("y", "x"), flat))
    with pytest.raises(GridError, match="curvilinear"):
        find_axes(ds)


def test_wrf():
    ds = xr.Dataset(
        {"U10": (("Time", "south_north", "west_east"), np.zeros((1, 2, 3)))},
        {
            "XLAT": (
                ("Time", "south_north", "west_east"),
                np.zeros((1, 2, 3)),
                {"units": "degree_north"},
            )
        },
    )
    with pytest.raises(GridError, match="curvilinear"):
        find_axes(ds)


def test_rotated():
    ds = xr.Dataset(
        {"u10": (("rlat", "rlon"), np.zeros((2, 2)))},
        {
            "rlat": ("rlat", [0.0, 1.0], {"standard_name": "grid_latitude"}),
            "rlon": ("rlon", [0.0, 1.0], {"standard_name": "grid_longitude"}),
        },
    )
    with pytest.raises(GridError, match="rotated"):
        find_axes(ds)


def test_unstructured():
    ds = xr.Dataset(
        {"u10": ("cell", np.zeros(4))},
        {"lat": ("cell", np.arange(4.0)), "lon": ("cell", np.arange(4.0))},
    )
    with pytest.raises(GridError, match="unstructured"):
        find_axes(ds)


def test_latitude_beside_its_dimension():
    ds = _plane(lat=("y", [1.0, 0.0]), lon=("x", [0.0, 1.0, 2.0]))
    with pytest.raises(GridError, match="'lat' is not a dimension") as error:
        find_axes(ds)
    assert "ds.swap_dims({'y': 'lat'})" in str(error.value)


REAL_AXES = {
    "edge/cdsnew_era5_instant_201805.nc": ("latitude", "longitude", "valid_time", None),
    "edge/cmip5_uas_T63_monthly.nc": ("lat", "lon", "time", None),
    "edge/core2_u10_T62_gaussian_noleap_6h_1948.nc": ("LAT", "LON", "TIME", None),
    "edge/era5_ensemble_z_t_850_500_global3deg.grib": (
        "latitude",
        "longitude",
        "time",
        "isobaricInhPa",
    ),
    "edge/ecmwf_uv_on_different_levels.grib": (
        "latitude",
        "longitude",
        "step",
        "isobaricInhPa",
    ),
    "edge/eraint_u_37lev_1p5deg_scalar_time.nc": (
        "latitude",
        "longitude",
        None,
        "level",
    ),
    "edge/eraint_u_qgpv_240hPa_latasc_notimecoord.nc": (
        "latitude",
        "longitude",
        "time",
        "levelist",
    ),
    "edge/eraint_uvz_month_dim_lon-180.nc": ("latitude", "longitude", None, "level"),
    "edge/gfs_cf_longnames_lonfirst_dims.nc": (
        "latitude",
        "longitude",
        "time",
        "level",
    ),
    "edge/ncep_r2_oddnames_catarina_17lev_6h_2004.nc": (
        "lat_2",
        "lon_2",
        "initial_time0_hours",
        "lv_ISBL3",
    ),
    "edge/ncl_Ustorm.cdf": ("lat", "lon", "timestep", None),
}


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("name", REAL_AXES)
def test_real_axes(real, name, no_compute):
    ds = real(name)
    with no_compute:
        assert find_axes(ds) == Axes(*REAL_AXES[name])


def test_real_projected(real):
    with pytest.raises(GridError, match="projected"):
        find_axes(real("edge/era5_utm32_projected_xy_37lev_nan.nc"))


REAL_NAMES = {
    "edge/cdsnew_era5_instant_201805.nc": {U: "10 m", T: "2 m"},
    "edge/core2_u10_T62_gaussian_noleap_6h_1948.nc": {U: "10 m"},
    "edge/cmip5_vas_T63_monthly.nc": {V: "10 m"},
    "edge/era5_2t_uk_201903.grib": {T: "2 m"},
    "edge/ncep_r2_oddnames_5lev_6h_20050808.nc": {U: "600 hPa", Z: "600 hPa"},
    "edge/gfs_cf_longnames_lonfirst_dims.nc": {U: "200 hPa", Z: "200 hPa"},
    "edge/eraint_u_qgpv_240hPa_latasc_notimecoord.nc": {U: "240 hPa"},
    "multi/era5_uv850_z500_wpacific_0p25_1h_20170801.nc": {U: "850 hPa", Z: "500 hPa"},
    "multi/ncl_storm1996_uv_uv500_p_t_6h.nc": {U: "unknown level"},
    "speedy-t63/coarse-32x64_6h.nc": {U: "sigma 0.95", Z: "sigma 0.835"},
}


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("name", REAL_NAMES)
def test_real_names(real, name, no_compute):
    ds = real(name)
    with no_compute:
        found = find_quantities(ds)
    for quantity, level in REAL_NAMES[name].items():
        assert str(found[quantity][0].levels[0]) == level
