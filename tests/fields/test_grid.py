import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xatmo.errors import GridError, OptionError
from xatmo.fields import (
    Axes,
    area_weights,
    cell_coordinates,
    from_canonical,
    read_grid,
    to_canonical,
)

AXES = Axes("lat", "lon")


def _map(lat, lon, chunks=None):
    """Values that tell where they belong: 1000 lat + longitude on the circle."""
    lat, lon = np.asarray(lat), np.asarray(lon)
    circle = np.mod(lon.astype("float64"), 360)
    data = 1000.0 * lat[:, None] + circle[None, :]
    if chunks is not None:
        data = dask.array.from_array(data, chunks=chunks)
    return xr.DataArray(data, dims=("lat", "lon"), coords={"lat": lat, "lon": lon})


def _grid(lat, lon):
    return read_grid(_map(lat, lon), AXES)


LAT = np.arange(40.0, 29.0, -1.0)


@pytest.mark.parametrize(
    ("lon", "first", "last"),
    [
        (np.arange(170.0, 191.0), 170, 190),
        (np.concatenate([np.arange(170.0, 180), np.arange(-180.0, -169)]), 170, 190),
        (np.concatenate([np.arange(-180.0, -169), np.arange(170.0, 180)]), 170, 190),
        (np.arange(-190.0, -169.0), 170, 190),
        (np.arange(190.0, 169.0, -1.0), 170, 190),
        (np.arange(-10.0, 11.0), 350, 370),
        (np.arange(350.0, 371.0), 350, 370),
        (np.concatenate([np.arange(0.0, 11), np.arange(350.0, 360)]), 350, 370),
        (np.arange(0.0, 11.0), 0, 10),
    ],
)
def test_regions(lon, first, last):
    grid = _grid(LAT, lon)
    assert (grid.longitude[0], grid.longitude[-1]) == (first, last)
    assert not grid.is_global
    np.testing.assert_allclose(np.diff(grid.longitude), 1)


@pytest.mark.parametrize(
    "lon",
    [
        np.arange(0.0, 360.0, 2),
        np.arange(-180.0, 180.0, 2),
        np.arange(-178.0, 181.0, 2),
        np.arange(2.0, 361.0, 2),
        np.arange(358.0, -1.0, -2),
        np.arange(0.0, 361.0, 2),
        np.arange(-180.0, 181.0, 2),
        np.roll(np.arange(0.0, 360.0, 2), 50),
        np.arange(0, 360, 2, dtype="int32"),
        np.arange(0, 360, 2, dtype="float32") - np.float32(180),
    ],
)
def test_global(lon):
    grid = _grid(LAT, lon)
    assert grid.is_global
    np.testing.assert_allclose(grid.longitude, np.arange(0, 360, 2))


def test_global_half_degree_offset():
    grid = _grid(LAT, np.arange(-179.5, 180))
    assert grid.is_global
    assert grid.longitude[0] == 0.5


def test_values_follow_their_longitudes():
    da = _map(LAT[::-1], np.arange(-180.0, 180.0))
    result = to_canonical(da, read_grid(da, AXES))
    assert result.dims == ("latitude", "longitude")
    expected = 1000 * result.latitude + result.longitude
    np.testing.assert_allclose(result, expected.values)


def test_spacing():
    grid = _grid(LAT.astype("float32"), np.arange(0, 10, 0.25, dtype="float32"))
    assert grid.spacing == (1.0, 0.25)
    assert grid.regular
    assert not grid.gaussian


def test_gaussian():
    nodes = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(94)[0]))
    grid = _grid(nodes, np.arange(0, 360, 1.875))
    assert grid.gaussian
    assert not grid.regular
    assert grid.lat_flipped


@pytest.mark.parametrize(
    ("lat", "lon", "match", "hint"),
    [
        ([3, 2, 2, 1], [0, 1, 2], "'lat' are repeated", "drop_duplicates('lat')"),
        ([3, 1, 2, 0], [0, 1, 2], "'lat' are not in order", "sortby('lat')"),
        ([95, 94, 93], [0, 1, 2], "beyond the poles", "units"),
        ([3, 2, 1], [0, 1, 1, 2], "'lon' are repeated", "drop_duplicates('lon')"),
        ([3, 2, 1], [0, 1, 3, 7], "stretched or has gaps along 'lon'", "ds.interp(lon"),
        ([9, 8, 6, 1], [0, 1, 2], "stretched or has gaps along 'lat'", "ds.interp(lat"),
        ([3, 2, 1], [5], "fewer than two points along 'lon'", "slice"),
        ([3, np.nan, 1], [0, 1], "'lat' has missing values", "dropna"),
        ([3, 2, 1], ["a", "b"], "'lon' does not hold numbers", "astype(float)"),
    ],
)
def test_refused(lat, lon, match, hint):
    da = xr.DataArray(
        np.zeros((len(lat), len(lon))),
        dims=("lat", "lon"),
        coords={"lat": lat, "lon": lon},
    )
    with pytest.raises(GridError, match=match) as error:
        read_grid(da, AXES)
    assert hint in error.value.hint


def test_radians_are_refused():
    da = _map(LAT / 60, np.arange(0.0, 6.0) / 60)
    da.lat.attrs["units"] = "radians"
    with pytest.raises(GridError, match="'lat' is in radians") as error:
        read_grid(da, AXES)
    assert "np.rad2deg(ds['lat'])" in error.value.hint


def _radians(lat, lon):
    da = _map(np.deg2rad(lat), np.deg2rad(lon))
    return da.to_dataset(name="u")


@pytest.mark.parametrize(
    ("lat", "lon"),
    [
        (np.arange(-90.0, 91, 10), np.arange(0.0, 360, 10)),
        (np.arange(90.0, -91, -1), np.arange(-180.0, 180)),
        (np.arange(0.0, 80), np.arange(0.0, 80)),
    ],
)
def test_radians_are_suspected(follow, lat, lon):
    ds = _radians(lat, lon)
    with pytest.raises(GridError, match="'lat' and 'lon' look like radians") as error:
        read_grid(ds, AXES)
    call, remark = error.value.hint.split("; if they are degrees, say so: ")
    grid = read_grid(follow(call, ds=ds), AXES)
    assert grid.latitude.max() == pytest.approx(lat.max())
    assert remark == 'ds["lat"].attrs["units"] = "degrees_north"'
    ds["lat"].attrs["units"] = "degrees_north"
    assert read_grid(ds, AXES).latitude.max() < 2


def test_small_regions_are_in_degrees():
    assert read_grid(_map(np.arange(0.0, 0.9, 0.1), np.arange(0.0, 6, 0.1)), AXES)
    assert read_grid(_map(np.arange(0.0, 5), np.arange(0.0, 5)), AXES)
    marked = _radians(np.arange(-90.0, 91, 10), np.arange(0.0, 360, 10))
    marked.lat.attrs["units"] = "degrees_north"
    assert read_grid(marked, AXES)


@pytest.mark.parametrize("axis", ["lat", "lon"])
@pytest.mark.parametrize("noise", [1e-6, 3e-5])
def test_nearly_equal_axes(follow, axis, noise):
    lat, lon = np.arange(-90.0, 91, 5), np.arange(0.0, 360, 5)
    u = _map(lat, lon).to_dataset(name="u")
    v = _map(lat, lon).to_dataset(name="v")
    v = v.assign_coords({axis: v[axis] * (1 - noise / 90)})
    both = xr.merge([u, v], join="outer")
    with pytest.raises(GridError, match=f"nearly equal axes .* '{axis}'") as error:
        read_grid(both, AXES)
    better = follow(error.value.hint, u=u, v=v)
    assert read_grid(better, AXES).spacing == (5, 5)


@pytest.mark.parametrize(
    ("lat", "lon"),
    [
        (np.array([60.0, 50, 30, 20, 15]), np.arange(0.0, 30, 5)),
        (np.arange(0.0, 30, 5), np.array([-180.0, -170, -150, -140, -100])),
        (np.arange(0.0, 30, 5), np.array([0.1, 5, 7, 30], dtype="float32")),
    ],
)
def test_what_is_tried_for_a_stretched_grid_works(follow, lat, lon):
    ds = _map(lat, lon).to_dataset(name="u")
    with pytest.raises(GridError, match="stretched or has gaps") as error:
        read_grid(ds, AXES)
    better = follow(error.value.hint, ds=ds)
    assert read_grid(better, AXES).regular
    assert better.sizes == ds.sizes
    assert better.u.notnull().all()


@pytest.mark.parametrize("axis", ["lat", "lon"])
@pytest.mark.parametrize("start", [0, 340])
def test_across_a_hole_nothing_is_made_up(follow, axis, start):
    lat, lon = np.arange(60.0, 0, -1), (start + np.arange(60.0)) % 360
    ds = _map(lat, lon).to_dataset(name="u")
    ds = ds.isel({axis: [*range(40), *range(52, 60)]})
    if axis == "lon":  # and another one, since the longest is taken for the outside
        ds = ds.isel(lon=[*range(5), *range(12, ds.sizes["lon"])])
    with pytest.raises(GridError, match="stretched or has gaps") as error:
        read_grid(ds, AXES)
    better = follow(error.value.hint, ds=ds)
    assert read_grid(better, AXES).regular
    assert better[axis].isin(ds[axis]).all()


def test_cells():
    grid = _grid(np.arange(10.0, 5.0, -1), np.arange(0.0, 6.0))
    lat, lon = cell_coordinates(grid, 2)
    assert lat.tolist() == [10, 8, 6]
    assert lon.tolist() == [0.5, 2.5, 4.5]


@pytest.mark.parametrize(
    ("n", "stride", "expected"),
    [
        (145, 8, np.arange(90, -91, -10)),
        (181, 8, np.arange(88, -89, -8)),
        (180, 4, np.arange(88, -89, -4)),
        (96, 8, None),
    ],
)
def test_cells_lie_where_padding_puts_them(n, stride, expected):
    pole = 90 if n % 2 else 90 * (1 - 1 / n)
    latitude = np.linspace(pole, -pole, n)
    grid = _grid(latitude, np.arange(0.0, 24))
    lat, lon = cell_coordinates(grid, stride)
    if expected is None:  # a multiple of the stride: the mean of each block
        expected = latitude.reshape(-1, stride).mean(1)
    np.testing.assert_allclose(lat, expected, atol=1e-9)
    np.testing.assert_allclose(lon, np.arange(24.0).reshape(-1, stride).mean(1))


def _halved(x):
    """A stride of 2 with kernel 3 and SAME padding, and a shortcut beside it."""
    after = x.size % 2 == 0  # (0, 1) or (1, 1) points of padding
    middle = x[1::2] if after else x[::2]
    return 0.5 * (middle + x[::2])


@pytest.mark.parametrize("n", range(16, 34))
def test_cells_lie_where_a_network_looks(n):
    lon = np.arange(float(n))
    _, cells = cell_coordinates(_grid(LAT, lon), 8)
    np.testing.assert_allclose(cells, _halved(_halved(_halved(lon))))


def test_cells_of_an_uneven_grid():
    nodes = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(32)[0]))[::-1]
    lat, _ = cell_coordinates(_grid(nodes, np.arange(0, 360, 5.625)), 2)
    np.testing.assert_allclose(lat, nodes.reshape(-1, 2).mean(1))


@pytest.mark.parametrize("stride", [0, -2, 3, 6, 12])
def test_cells_come_from_halving(stride):
    grid = _grid(LAT, np.arange(0.0, 6.0))
    with pytest.raises(OptionError, match=f"Cells {stride} grid points apart") as error:
        cell_coordinates(grid, stride)
    assert "power of two" in error.value.needed
    assert isinstance(error.value, ValueError)


def test_cells_of_one_point():
    grid = _grid(LAT, np.arange(0.0, 6.0))
    lat, lon = cell_coordinates(grid, 1)
    np.testing.assert_array_equal(lat, grid.latitude)
    np.testing.assert_array_equal(lon, grid.longitude)


@pytest.mark.parametrize("n", [3, 181, 180])
def test_area_weights(n):
    lat = np.linspace(90, -90, n) if n != 180 else np.arange(89.5, -90, -1)
    weights = area_weights(lat)
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_allclose(area_weights(lat[::-1]), weights[::-1])
    # The mean of sin^2 over a sphere is 1/3.
    mean = (weights * np.sin(np.deg2rad(lat)) ** 2).mean()
    assert mean == pytest.approx(1 / 3, abs=0.4 / n)


def test_cells_return_to_the_user_of_a_global_grid():
    da = _map(np.arange(-90.0, 91.0, 10), np.arange(-180.0, 180.0, 10))
    grid = read_grid(da, AXES)
    lat, lon = cell_coordinates(grid, 4)
    result = xr.DataArray(
        np.zeros((lat.size, lon.size)) + lon,
        dims=("latitude", "longitude"),
        coords={"latitude": lat, "longitude": lon},
    )
    back = from_canonical(result, grid)
    assert back.dims == ("lat", "lon")
    assert back.lat[0] < back.lat[-1]
    np.testing.assert_allclose(back.lon, np.arange(-145, 180, 40))
    np.testing.assert_allclose(back[0], back.lon % 360)


def test_cells_return_along_the_path_of_a_region():
    path = np.concatenate([np.arange(170.0, 180), np.arange(-180.0, -170)])
    grid = _grid(LAT, path)
    lat, lon = cell_coordinates(grid, 4)
    result = xr.DataArray(
        np.zeros((lat.size, lon.size)),
        dims=("latitude", "longitude"),
        coords={"latitude": lat, "longitude": lon},
    )
    back = from_canonical(result, grid)
    assert back.lon.values.tolist() == [171.5, 175.5, 179.5, -176.5, -172.5]


def test_cells_of_an_odd_region_reach_its_ends():
    grid = _grid(LAT, np.concatenate([np.arange(170.0, 180), np.arange(-180.0, -173)]))
    _, lon = cell_coordinates(grid, 8)
    assert lon.tolist() == [170, 178, 186]


def test_attributes_of_the_axes_return():
    da = _map(LAT, np.arange(0.0, 6.0))
    da.lon.attrs = {"axis": "X", "bounds": "lon_bnds"}
    back = from_canonical(to_canonical(da, read_grid(da, AXES)), read_grid(da, AXES))
    assert back.lon.attrs == {
        "axis": "X",
        "standard_name": "longitude",
        "units": "degrees_east",
    }
    assert back.lat.attrs["units"] == "degrees_north"


def test_lazy_and_in_few_chunks(no_compute):
    lon = np.arange(-180.0, 180.0)
    with no_compute:
        whole = _map(LAT[::-1], lon, chunks=(5, 360))
        result = to_canonical(whole, read_grid(whole, AXES))
        assert len(result.chunksizes["longitude"]) == 1
        tiled = _map(LAT, lon, chunks=(5, 90))
        grid = read_grid(tiled, AXES)
        result = to_canonical(tiled, grid)
        assert result.chunksizes["longitude"] == (90, 90, 90, 90)
        back = from_canonical(result, grid)
        assert back.chunksizes["lon"] == (90, 90, 90, 90)
        uneven = _map(LAT, lon, chunks=(5, 100))
        result = to_canonical(uneven, read_grid(uneven, AXES))
        assert len(result.chunksizes["longitude"]) <= 5
    xr.testing.assert_identical(back.compute().variable, tiled.compute().variable)


@st.composite
def grids(draw):
    """Any way in which people write a regular grid."""
    lat = np.linspace(draw(st.integers(-80, 40)), 80, draw(st.integers(2, 9)))
    n = draw(st.sampled_from([8, 12, 36]))
    step = 360 / n
    offset = draw(st.sampled_from([0.0, step / 2, 0.1]))
    size = n if draw(st.booleans()) else draw(st.integers(2, n // 2))
    start = 0 if size == n else draw(st.integers(0, n - 1))
    lon = offset + step * (start + np.arange(size))
    style = draw(st.sampled_from(["0..360", "-180..180", "unwrapped", "sorted"]))
    if style in ("0..360", "sorted"):
        lon = np.mod(lon, 360)
    if style == "-180..180":
        lon = np.mod(lon + 180, 360) - 180
    if style == "sorted":
        lon = np.sort(lon)
    if draw(st.booleans()):
        lon = lon[::-1]
    if draw(st.booleans()):
        lat = lat[::-1]
    dtype = draw(st.sampled_from(["float32", "float64"]))
    return lat.astype(dtype), lon.astype(dtype)


@settings(deadline=None, max_examples=150)
@given(grids(), st.sampled_from([None, (2, 5), (-1, -1)]))
def test_there_and_back(latlon, chunks):
    da = _map(*latlon, chunks=chunks)
    grid = read_grid(da, AXES)
    there = to_canonical(da, grid)
    assert (np.diff(there.latitude) < 0).all()
    assert (np.diff(there.longitude) > 0).all()
    assert 0 <= there.longitude[0] < 360
    expected = 1000 * there.latitude + there.longitude % 360
    # 360 - 1e-14 and 0 are the same place
    off = (there - expected + 180) % 360 - 180
    np.testing.assert_allclose(off, 0, atol=2e-2)
    back = from_canonical(there, grid)
    xr.testing.assert_equal(back, da)
    assert back.lon.dtype == da.lon.dtype


@settings(deadline=None, max_examples=150)
@given(grids(), st.sampled_from([1, 2, 4]))
def test_cells_stay_where_they_are(latlon, stride):
    da = _map(*latlon)
    grid = read_grid(da, AXES)
    lat, lon = cell_coordinates(grid, stride)
    cells = xr.DataArray(
        1000 * lat[:, None] + np.mod(lon, 360)[None, :],
        dims=("latitude", "longitude"),
        coords={"latitude": lat, "longitude": lon},
    )
    back = from_canonical(cells, grid)
    off = back - (1000 * back.lat + back.lon % 360)
    np.testing.assert_allclose((off + 180) % 360 - 180, 0, atol=1e-2)
    if (np.diff(da.lon) > 0).all():
        assert (np.diff(back.lon) > 0).all()
    if (np.diff(da.lon) < 0).all():
        assert (np.diff(back.lon) < 0).all()
    assert back.lon.min() >= da.lon.min() - grid.spacing[1]
    assert back.lon.max() <= da.lon.max() + grid.spacing[1]
