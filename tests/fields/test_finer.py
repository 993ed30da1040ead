import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xatmo.errors import OptionError, UnitsWarning
from xatmo.fields import (
    Axes,
    find_axes,
    fine_bounds,
    fine_coordinates,
    fine_dataset,
    kept_attrs,
    read,
    read_grid,
    restore_fine,
    to_canonical,
    to_user,
    to_user_units,
)

AXES = Axes("lat", "lon")
WINDS = ["eastward_wind", "northward_wind"]


def _map(lat, lon, chunks=None):
    """Values that tell where they belong: 1000 lat + longitude on the circle."""
    lat, lon = np.asarray(lat), np.asarray(lon)
    data = 1000.0 * lat[:, None] + np.mod(lon.astype("float64"), 360)[None, :]
    if chunks is not None:
        data = dask.array.from_array(data, chunks=chunks)
    return xr.DataArray(data, dims=("lat", "lon"), coords={"lat": lat, "lon": lon})


def _on_fine(fine, fill=None):
    """A result on the fine grid, that tells where it belongs."""
    values = 1000.0 * fine.latitude[:, None] + fine.longitude % 360
    return xr.DataArray(
        values if fill is None else fill,
        dims=("latitude", "longitude"),
        coords={"latitude": fine.latitude, "longitude": fine.longitude},
    )


def _circle(x):
    return (np.asarray(x, dtype=float) + 180) % 360 - 180


LAT = np.arange(40.0, 29.0, -1.0)


# --- The fine grid ------------------------------------------------------------------


def test_rows_at_the_poles():
    grid = read_grid(_map(np.arange(90.0, -91, -1), np.arange(360.0)), AXES)
    fine = fine_coordinates(grid, 4)
    np.testing.assert_array_equal(fine.latitude, np.arange(89.875, -90, -0.25))
    np.testing.assert_array_equal(fine.longitude, np.arange(-0.375, 359.5, 0.25))
    assert fine.rows == slice(2, 722)
    assert fine.row_weight.shape == (724,)
    assert fine.row_weight[fine.rows].all()
    assert fine.row_weight.sum() == 720
    assert fine.spacing == (0.25, 0.25)
    assert fine.latitude_edges[[0, -1]].tolist() == [90, -90]
    assert fine.longitude_edges[[0, -1]].tolist() == [-0.5, 359.5]


def test_rows_off_the_poles_all_remain():
    grid = read_grid(_map(np.arange(89.5, -90, -1), np.arange(0.5, 360)), AXES)
    fine = fine_coordinates(grid, 4)
    assert fine.rows == slice(0, 720)
    assert fine.row_weight.all()
    np.testing.assert_array_equal(fine.longitude[:4], [0.125, 0.375, 0.625, 0.875])


def test_an_odd_factor_keeps_the_pole_itself():
    grid = read_grid(_map(np.arange(90.0, -91, -3), np.arange(0.0, 360, 3)), AXES)
    fine = fine_coordinates(grid, 3)
    assert fine.latitude[[0, -1]].tolist() == [90, -90]
    assert fine.rows == slice(1, 182)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_blocks_average_to_the_coarse_points(factor):
    grid = read_grid(_map(LAT, np.arange(170.0, 191.0)), AXES)
    fine = fine_coordinates(grid, factor)
    means = fine.latitude.reshape(-1, factor).mean(axis=1)
    np.testing.assert_allclose(means, grid.latitude, atol=1e-8)
    means = fine.longitude.reshape(-1, factor).mean(axis=1)
    np.testing.assert_allclose(means, grid.longitude, atol=1e-8)
    assert fine.row_weight.all()


@pytest.mark.parametrize(
    ("start", "step", "size"),
    [
        (48.0, 0.25, 105),
        (55.05, 0.25, 32),
        (89.0625, 1.875, 96),
        (60.0, 0.1, 200),
        (70.35, 0.7, 150),
        (50.0, 1 / 3, 100),
        (50.0, 1 / 12, 400),
    ],
)
@pytest.mark.parametrize("rounded", ["float64", "float32", "sums", 4, 5])
def test_noise_of_the_coordinates_does_not_get_in(start, step, size, rounded):
    exact = start - step * np.arange(size)
    y = exact
    if rounded == "float32":
        y = exact.astype("float32")
    if rounded == "sums":  # 0.24999, as single precision adds up
        y = np.cumsum(np.r_[start, np.full(size - 1, -step)], dtype="float32")
    if isinstance(rounded, int):
        y = np.round(exact, rounded)
    fine = fine_coordinates(read_grid(_map(y, np.arange(20.0)), AXES), 4)
    middle = fine.latitude.reshape(-1, 4)
    off = np.abs(middle.mean(axis=1) - y).max()
    assert off <= 2 * np.abs(y - exact).max() + 2e-5
    if step in (0.25, 1.875, 0.1, 0.7):  # the true ones are to be found again
        places = exact[:, None] + step * (0.375 - 0.25 * np.arange(4))
        tolerance = {"sums": 5e-4}.get(rounded, 1e-8)
        np.testing.assert_allclose(middle, places, atol=tolerance)
    # No digits but those that the spacing has; steps are equal.
    assert np.ptp(np.diff(fine.latitude)) < 3e-9


def test_a_global_grid_closes():
    x = np.round(np.arange(256) * 360 / 256, 2)
    y = np.arange(60.0, 30.0, -360 / 256)
    grid = read_grid(_map(y, x), AXES)
    assert grid.is_global
    fine = fine_coordinates(grid, 4)
    assert np.ptp(fine.longitude_edges) == pytest.approx(360, abs=1e-9)
    np.testing.assert_allclose(np.diff(fine.longitude), 360 / 1024, atol=3e-9)


def test_uneven_points_keep_their_cells():
    nodes = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(32)[0]))[::-1]
    grid = read_grid(_map(nodes, np.arange(0, 360, 5.625)), AXES)
    fine = fine_coordinates(grid, 4)
    edges = fine.latitude_edges[4:-1:4]
    middle = 0.5 * (nodes[1:] + nodes[:-1])
    np.testing.assert_allclose(edges[: len(middle)], middle, atol=1e-8)
    assert (np.diff(fine.latitude) < 0).all()


@pytest.mark.parametrize("factor", [0, -4, 2.5, "4", True, None])
def test_factors_that_are_none(factor):
    grid = read_grid(_map(LAT, np.arange(20.0)), AXES)
    with pytest.raises(OptionError, match=f"cannot be {factor!r} times finer"):
        fine_coordinates(grid, factor)


# --- Back to the user ---------------------------------------------------------------


def _check_blocks(da, fine_da, factor=4):
    """Block i lies around the user's point i, in the user's order."""
    lat, lon = (fine_da[n].values.astype(float) for n in ("lat", "lon"))
    grid = read_grid(da, AXES)
    own = da["lon"].values.astype(float)[np.sort(grid.lon_order)]
    blocks = lon.reshape(-1, factor)
    step = grid.spacing[1]
    np.testing.assert_allclose(blocks.mean(axis=1), own, atol=3e-2 * step)
    assert (np.abs(blocks - own[:, None]) < 0.5 * step).all()
    # Monotonic where the user's are.
    steps = np.diff(own)
    for sign in (1, -1):
        if (sign * steps > 0).all():
            assert (sign * np.diff(lon) > 0).all()
    assert np.sign(lat[1] - lat[0]) == np.sign(float(da.lat[1] - da.lat[0]))
    off = fine_da.values - (1000 * lat[:, None] + np.mod(lon, 360))
    assert np.abs(_circle(off)).max() < 3e-2 * factor


@pytest.mark.parametrize(
    ("lon", "first", "last"),
    [
        (np.arange(0.0, 360.0), -0.375, 359.375),
        (np.arange(-180.0, 180.0), -180.375, 179.375),
        (np.arange(-179.0, 181.0), -179.375, 180.375),
        (np.arange(1.0, 361.0), 0.625, 360.375),
        (np.arange(0.5, 360.0), 0.125, 359.875),
        (np.arange(359.0, -1.0, -1), 359.375, -0.375),
        (np.arange(0.0, 361.0), -0.375, 359.375),
        (np.arange(-180.0, 181.0), -180.375, 179.375),
        (np.roll(np.arange(0.0, 360.0), 100), 259.625, 259.375),
        (np.arange(170.0, 191.0), 169.625, 190.375),
        (np.arange(-190.0, -169.0), -190.375, -169.625),
        (np.r_[170.0:180, -180.0:-169], 169.625, -169.625),
        (np.r_[0.0:11, 350.0:360], -0.375, 359.375),
        (np.arange(10.0, -11.0, -1), 10.375, -10.375),
    ],
)
@pytest.mark.parametrize("ascending", [False, True])
def test_longitudes_of_any_kind(lon, first, last, ascending):
    da = _map(LAT[::-1] if ascending else LAT, lon)
    grid = read_grid(da, AXES)
    result = to_user(_on_fine(fine_coordinates(grid, 4)), grid, 4)
    assert result.dims == ("lat", "lon")
    assert (result.lon[0], result.lon[-1]) == (first, last)
    assert result.lat[0] == (29.625 if ascending else 40.375)
    _check_blocks(da, result)


def test_coarsen_leads_back():
    da = _map(np.arange(-90.0, 91.0), np.arange(-180.0, 180.0))
    grid = read_grid(da, AXES)
    result = to_user(_on_fine(fine_coordinates(grid, 4)), grid, 4)
    assert result.sizes == {"lat": 720, "lon": 1440}
    back = result.isel(lat=slice(2, -2)).coarsen(lat=4, lon=4).mean()
    np.testing.assert_allclose(back.lat, da.lat[1:-1])
    np.testing.assert_allclose(back.lon, da.lon)


@st.composite
def grids(draw):
    """Any way in which people write a regular grid."""
    lat = np.linspace(draw(st.integers(-80, 40)), 80, draw(st.integers(2, 9)))
    n = draw(st.sampled_from([8, 12, 36]))
    step = 360 / n
    size = n if draw(st.booleans()) else draw(st.integers(2, n // 2))
    start = 0 if size == n else draw(st.integers(0, n - 1))
    offset = draw(st.sampled_from([0.0, step / 2, 0.1]))
    lon = offset + step * (start + np.arange(size))
    style = draw(st.sampled_from(["0..360", "-180..180", "unwrapped", "sorted"]))
    if style in ("0..360", "sorted"):
        lon = np.mod(lon, 360)
    if style == "-180..180":
        lon = np.mod(lon + 180, 360) - 180
    if style == "sorted":
        lon = np.sort(lon)
    lon = lon[::-1] if draw(st.booleans()) else lon
    lat = lat[::-1] if draw(st.booleans()) else lat
    dtype = draw(st.sampled_from(["float32", "float64"]))
    return lat.astype(dtype), lon.astype(dtype)


@settings(deadline=None, max_examples=150)
@given(grids(), st.sampled_from([2, 3, 4]), st.sampled_from([None, (4, 8), (-1, -1)]))
def test_there_and_back(latlon, factor, chunks):
    da = _map(*latlon)
    grid = read_grid(da, AXES)
    there = to_canonical(da, grid)
    fine = fine_coordinates(grid, factor)
    # Each coarse value for its whole block.
    values = np.repeat(np.repeat(there.values, factor, 0), factor, 1)[fine.rows]
    if chunks is not None:
        values = dask.array.from_array(values, chunks=chunks)
    result = to_user(_on_fine(fine, values), grid, factor)
    assert result.chunks is None or chunks is not None
    assert (result.lat.dtype, result.lon.dtype) == (da.lat.dtype, da.lon.dtype)
    expected = np.repeat(np.repeat(da.values, factor, 0), factor, 1)
    kept = fine.row_weight.astype(bool)[:: -1 if grid.lat_flipped else 1]
    np.testing.assert_array_equal(result.values, expected[kept])


def test_lazy_and_in_chunks(no_compute):
    lon = np.arange(-180.0, 180.0)
    with no_compute:
        da = _map(LAT[::-1], lon)
        grid = read_grid(da, AXES)
        fine = fine_coordinates(grid, 4)
        shape = (fine.latitude.size, fine.longitude.size)
        zeros = dask.array.zeros(shape, chunks=(20, 360))
        result = to_user(_on_fine(fine, zeros), grid, 4)
    assert result.chunksizes["lon"] == (360,) * 4
    assert sum(result.chunksizes["lat"]) == 44


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.arange(20, dtype="float32"), "float32"),
        (np.arange(20, dtype=">f4"), "float32"),
        (np.arange(20), "float64"),
        (np.arange(20, dtype="float64"), "float64"),
        ((350 + 0.01 * np.arange(20)).astype("float32"), "float64"),
    ],
)
def test_dtype_of_the_coordinates(values, dtype):
    da = _map(LAT, values)
    grid = read_grid(da, AXES)
    result = to_user(_on_fine(fine_coordinates(grid, 4)), grid, 4)
    assert result.lon.dtype == dtype


def test_dimensions_and_coordinates_return(make):
    attrs = {name: {"units": "m s-1"} for name in ("u10", "v10")}
    ds = make(
        ["u10", "v10"], attrs=attrs, levels=[1, 2], level="number", chunks={"time": 1}
    )
    ds = ds.transpose("longitude", "time", "number", "latitude")
    ds = ds.assign_coords(step=("time", [0, 6, 12]), height=10.0)
    ds.latitude.attrs |= {"valid_min": 0.0, "axis": "Y", "long_name": "north"}
    fields = read(ds, WINDS)
    fine = fine_coordinates(fields.grid, 4)
    canonical = fields.data["eastward_wind"]
    result = xr.DataArray(
        np.zeros((2, 3, 2, fine.latitude.size, fine.longitude.size)),
        dims=("realization", "time", "number", "latitude", "longitude"),
        coords={
            "time": canonical.time,
            "latitude": fine.latitude,
            "longitude": fine.longitude,
        },
    )
    back = restore_fine(result, fields, 4)
    assert back.dims == ("realization", "longitude", "time", "number", "latitude")
    assert {"time", "number", "step", "height"} <= set(back.coords)
    assert back.latitude.attrs == {
        "axis": "Y",
        "long_name": "north",
        "standard_name": "latitude",
        "units": "degrees_north",
    }


# --- Bounds -------------------------------------------------------------------------


def _with_bounds(lat, lon, dim="nv", dtype="float64"):
    da = _map(np.asarray(lat, dtype), np.asarray(lon, dtype))
    ds = xr.Dataset({"u": da, "v": da})
    for name in ("u", "v"):
        ds[name].attrs = {"units": "m s-1"}
    for name in ("lat", "lon"):
        x, half = ds[name].values, 0.5 * (ds[name].values[1] - ds[name].values[0])
        edges = np.stack([x - half, x + half], -1)
        edges = np.clip(edges, -90, 90) if name == "lat" else edges
        ds[f"{name}_bnds"] = ((name, dim), edges)
        ds[name].attrs["bounds"] = f"{name}_bnds"
    return ds


GLOBE = (np.arange(-90.0, 91, 10), np.arange(0.0, 360, 10))


@pytest.mark.parametrize(
    ("lat", "lon"),
    [
        GLOBE,
        (GLOBE[0][::-1], GLOBE[1][::-1]),
        (LAT, np.arange(-180.0, 180)),
        (LAT, np.r_[170.0:180, -180.0:-170]),
    ],
)
@pytest.mark.parametrize("as_coords", [False, True])
def test_fine_cells_fill_the_coarse_ones(lat, lon, as_coords):
    ds = _with_bounds(lat, lon, dim="bnds")
    ds = ds.set_coords(["lat_bnds", "lon_bnds"]) if as_coords else ds
    fields = read(ds, WINDS)
    fine = fine_coordinates(fields.grid, 4)
    restored = restore_fine(_on_fine(fine), fields, 4)
    hi = fine_dataset({"u": restored, "v": restored}, fields, 4)
    assert ("lat_bnds" in hi.coords) is as_coords
    for name in ("lat", "lon"):
        bounds, coarse = hi[f"{name}_bnds"], ds[f"{name}_bnds"]
        assert bounds.dims == (name, "bnds")
        assert hi[name].attrs["bounds"] == f"{name}_bnds"
        inside = np.sort(bounds, axis=1)
        assert (inside[:, 0] < hi[name]).all()
        assert (hi[name] < inside[:, 1]).all()
        # The second edge of a cell is the first of the next, on the circle.
        np.testing.assert_allclose(
            _circle(bounds.values[1:, 0] - bounds.values[:-1, 1]), 0
        )
        corners = np.unique(np.round(_circle(bounds), 6))
        assert np.isin(np.round(_circle(coarse), 6), corners).all()
    assert fine_bounds(fields, 4).keys() == {"lat_bnds", "lon_bnds"}
    width = np.abs(np.diff(hi.lat_bnds, axis=1)).sum()
    assert width == np.abs(np.diff(ds.lat_bnds, axis=1)).sum()


def test_bounds_survive_a_file(tmp_path):
    ds = _with_bounds(*GLOBE)
    ds.to_netcdf(tmp_path / "in.nc")
    for decode in (True, "all"):
        with xr.open_dataset(tmp_path / "in.nc", decode_coords=decode) as user:
            fields = read(user, WINDS)
            restored = restore_fine(
                _on_fine(fine_coordinates(fields.grid, 4)), fields, 4
            )
            hi = fine_dataset({"u": restored}, fields, 4, user)
        assert ("lat_bnds" in hi.coords) is (decode == "all")
        hi.to_netcdf(tmp_path / f"{decode}.nc")
        with xr.open_dataset(tmp_path / f"{decode}.nc", decode_coords="all") as back:
            assert {"lat_bnds", "lon_bnds"} <= set(back.coords)
            xr.testing.assert_equal(back["u"].reset_coords(drop=True), hi["u"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda ds: ds.drop_vars(["lat_bnds", "lon_bnds"]),
        lambda ds: ds.isel(nv=0),
        lambda ds: ds.isel(nv=[0, 1, 1]),
        lambda ds: ds.drop_vars(["lat_bnds", "lon_bnds"]).assign_coords(
            lat=ds.lat.assign_attrs(bounds=np.array([1, 2])),
            lon=ds.lon.assign_attrs(bounds=3),
        ),
    ],
)
def test_bounds_that_are_none(spoil):
    ds = spoil(_with_bounds(*GLOBE))
    fields = read(ds, WINDS)
    assert fields.grid.bounds == (None, None)
    restored = restore_fine(_on_fine(fine_coordinates(fields.grid, 4)), fields, 4)
    hi = fine_dataset({"u": restored}, fields, 4, ds)
    assert "bounds" not in hi.lat.attrs
    assert set(hi.data_vars) == {"u"}


def test_bounds_of_time(make):
    ds = make(["u10", "v10"], attrs={n: {"units": "m/s"} for n in ("u10", "v10")})
    ds.time.attrs["bounds"] = "time_bnds"
    ds["time_bnds"] = (("time", "nv"), np.stack([ds.time, ds.time], -1))
    fields = read(ds, WINDS)
    fine = fine_coordinates(fields.grid, 2)
    result = _on_fine(fine).expand_dims(time=3).assign_coords(time=ds.time)
    restored = restore_fine(result, fields, 2)
    hi = fine_dataset({"u10": restored}, fields, 2, ds)
    xr.testing.assert_equal(hi["time_bnds"].variable, ds["time_bnds"].variable)
    without = fine_dataset({"u10": restored}, fields, 2)
    assert "bounds" not in without.time.attrs
    assert ds.time.attrs["bounds"] == "time_bnds"
    other = ds.isel(time=slice(1))
    assert "time_bnds" not in fine_dataset({"u10": restored}, fields, 2, other)


# --- Attributes and units -----------------------------------------------------------


def test_attributes_that_stay_true():
    attrs = {
        "standard_name": "eastward_wind",
        "long_name": b"10 m wind",
        "units": np.array(["m s-1"]),
        "cell_methods": "time: mean",
        "cell_measures": "area: areacella",
        "ancillary_variables": "u_qc",
        "grid_mapping": "crs",
        "valid_range": np.array([-90.0, 90.0]),
        "actual_range": [0, 1],
        "scale_factor": 0.1,
        "_FillValue": -999,
        "GRIB_Nx": 360,
    }
    da = xr.DataArray(0.0, attrs=attrs)
    assert kept_attrs(da) == {
        "standard_name": "eastward_wind",
        "long_name": "10 m wind",
        "units": "m s-1",
        "cell_methods": "time: mean",
    }
    da.attrs["cell_methods"] = "area: mean (interval: 1 degree)"
    assert "cell_methods" not in kept_attrs(da)
    assert kept_attrs(xr.DataArray(0.0)) == {}
    named = kept_attrs(xr.DataArray(0.0), "northward_wind")
    assert named == {"standard_name": "northward_wind"}


@pytest.mark.parametrize(
    ("units", "quantity"),
    [
        ("knots", "eastward_wind"),
        ("km/h", "eastward_wind"),
        ("m s**-1", "eastward_wind"),
        ("m/s", "northward_wind"),
        ("degC", "air_temperature"),
        ("gpm", "geopotential"),
        ("1/hour", "atmosphere_relative_vorticity"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_units_return(units, quantity, dtype):
    names = {
        "eastward_wind": "u10",
        "northward_wind": "v10",
        "air_temperature": "t",
        "geopotential": "z",
        "atmosphere_relative_vorticity": "vo",
    }
    da = xr.DataArray(
        np.linspace(1, 60, 12).reshape(3, 4).astype(dtype),
        dims=("lat", "lon"),
        coords={"lat": [3.0, 2.0, 1.0], "lon": np.arange(4.0)},
        attrs={"units": units, "standard_name": quantity},
        name=names[quantity],
    )
    canonical = read(da.to_dataset(), [quantity]).data[quantity]
    back = to_user_units(canonical, da, quantity)
    assert back.attrs["units"] == units
    assert back.dtype == da.dtype
    rtol = 1e-12 if dtype == "float64" else 2e-6
    np.testing.assert_allclose(back.values, da.values, rtol=rtol, atol=40 * rtol)


def test_units_that_were_assumed(make):
    ds = make(["u10", "v10"])
    with pytest.warns(UnitsWarning, match="has no units"):
        canonical = read(ds, WINDS).data["eastward_wind"]
    back = to_user_units(canonical, ds["u10"], "eastward_wind")
    assert back.attrs["units"] == "m s-1"
    np.testing.assert_array_equal(back, ds["u10"])
    same = xr.DataArray(1.0, attrs={"units": "m"})
    assert to_user_units(same, same, "sea_ice_thickness") is same


# --- Real files ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("test/gfs_uv10_global_1deg_6h_2018_michael.nc", (720, 1440)),
        ("train/gfs_uv10_japan_0p25_3h_20260707-20260808.nc", (420, 484)),
        ("edge/cdsnew_era5_uv10_germany_1h_20251104.nc", (128, 148)),
        ("edge/gfs_cf_longnames_lonfirst_dims.nc", None),
        ("edge/eraint_uvz_month_dim_lon-180.nc", None),
        ("edge/eraint_u_qgpv_240hPa_latasc_notimecoord.nc", None),
        ("edge/eraint_u_37lev_1p5deg_scalar_time.nc", None),
        ("edge/ncep_r2_oddnames_5lev_6h_20050808.nc", None),
        ("multi/era5_uvz_850-500-250_global_1deg_1h_20170801.nc", None),
        ("multi/era5_uv850_z500_wpacific_0p25_1h_20170801.nc", None),
        ("multi/ncl_storm1996_uv_uv500_p_t_6h.nc", None),
        ("edge/cmip5_uas_T63_monthly.nc", None),
        ("edge/core2_u10_T62_gaussian_noleap_6h_1948.nc", None),
        ("edge/era5_ensemble_z_t_850_500_global3deg.grib", None),
    ],
)
def test_real_grids(real, name, shape):
    ds = real(name, decode_times=False) if name.endswith(".nc") else real(name)
    grid = read_grid(ds, find_axes(ds))
    fine = fine_coordinates(grid, 4)
    lat, lon = grid.names
    result = to_user(_on_fine(fine), grid, 4)
    if shape is not None:
        assert (result.sizes[lat], result.sizes[lon]) == shape
    own = ds[lon].values[np.sort(grid.lon_order)].astype(float)
    blocks = result[lon].values.reshape(-1, 4)
    np.testing.assert_allclose(blocks.mean(axis=1), own, atol=2e-3 * grid.spacing[1])
    beyond = len(fine.row_weight) - fine.latitude.size
    inner = result[lat].values[beyond // 2 : fine.latitude.size - beyond // 2]
    rows = ds[lat].values.astype(float)
    if beyond == 4:
        inner, rows = inner, rows[1:-1]
    means = inner.reshape(-1, 4).mean(axis=1)
    tolerance = 0.05 if grid.gaussian else 2e-3
    np.testing.assert_allclose(means, rows, atol=tolerance * grid.spacing[0])
    if grid.regular:  # numbers as people write them
        assert np.ptp(np.diff(fine.latitude)) < 1e-8


def test_bounds_of_a_real_file(real):
    ds = real("edge/cmip5_uas_T63_monthly.nc")
    fields = read(ds, ["eastward_wind"])
    fine = fine_coordinates(fields.grid, 4)
    restored = restore_fine(_on_fine(fine), fields, 4)
    hi = fine_dataset({"uas": restored}, fields, 4, ds)
    assert hi["lon_bnds"].dims == ("lon", "nb2")
    assert hi.sizes == {"lat": 384, "lon": 768, "nb2": 2}
    edges = hi["lon_bnds"].values.reshape(-1, 4, 2)
    np.testing.assert_allclose(edges[:, 0, 0], ds["lon_bnds"][:, 0], atol=1e-9)
    np.testing.assert_allclose(edges[:, -1, 1], ds["lon_bnds"][:, 1], atol=1e-9)
