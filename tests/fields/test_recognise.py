import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xatmo.fields import recognise

WIND = {"u10": {"units": "m s-1"}, "v10": {"units": "m s-1"}}


def test_a_plain_dataset(make):
    seen = recognise(make(["u10", "v10", "strange"], attrs=WIND))
    assert seen.spacing == "2° x 2°, 6 x 8, regional"
    assert seen.time.step == pd.Timedelta("6h")
    assert seen.time.regular
    assert list(seen.quantities) == ["eastward_wind", "northward_wind"]
    assert seen.derivable == ("atmosphere_relative_vorticity", "divergence_of_wind")
    assert seen.unrecognised == ("strange",)
    assert seen.problems == ()


def test_missing_and_repeated_times(make):
    ds = make(["u10"], n_time=6, attrs=WIND)
    gap = recognise(ds.isel(time=[0, 1, 4, 5])).time
    assert (gap.missing, gap.regular, gap.duplicates) == (2, False, 0)
    twice = recognise(ds.isel(time=[0, 1, 1, 2]))
    assert twice.time.duplicates == 1
    assert "ds.drop_duplicates('time')" in twice.problems[0]
    back = recognise(ds.isel(time=[2, 1, 0, 5]))
    assert not back.time.ordered
    assert "ds.sortby('time')" in back.problems[0]


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian"])
def test_calendars(make, calendar):
    times = xr.date_range("2000-01-01", periods=3, freq="6h", calendar=calendar)
    seen = recognise(make(["u10"], attrs=WIND).assign_coords(time=times))
    assert seen.time.step == pd.Timedelta("6h")
    assert seen.time.regular


def test_months_have_no_equal_steps(make):
    times = pd.date_range("2000-01-31", periods=4, freq="ME")
    time = recognise(make(["u10"], n_time=4).assign_coords(time=times)).time
    assert not time.regular
    assert time.missing == 0


@pytest.mark.parametrize("n", [0, 1])
def test_few_times(make, n):
    time = recognise(make(["u10"]).isel(time=slice(n))).time
    assert time.size == n
    assert time.step is None


def test_times_without_dates(make):
    assert recognise(make(["u10"]).drop_vars("time")).time.step is None


def test_problems_are_told_not_raised(make):
    ds = make(["u10", "v10", "t2m"], attrs={"v10": {"units": "K"}})
    problems = recognise(ds.isel(longitude=[0, 1, 2, 5])).problems
    assert "stretched or has gaps" in problems[0]
    assert "'u10' has no units" in problems[1]
    assert "'v10' is in 'K'" in problems[2]


@pytest.mark.parametrize(
    "obj",
    [
        None,
        xr.Dataset(),
        xr.DataArray(1.0),
        xr.DataArray(np.zeros((2, 2)), name="u10"),
        xr.DataTree(),
        xr.Dataset({"u10": ("cell", np.zeros(2)), 3: ("cell", np.zeros(2))}),
        xr.Dataset({"u": (("lat", "lon"), np.zeros((2, 2)), {"units": 3})}),
        xr.Dataset(
            coords={"lat": [1, 2], "lon": [1, 2], "time": pd.to_datetime(["NaT"])}
        ),
    ],
)
def test_never_raises(obj):
    assert recognise(obj).grid is None or recognise(obj).quantities == {}


def test_nothing_is_computed(make, no_compute):
    ds = make(["u10", "v10"], attrs=WIND, chunks={"time": 1})
    with no_compute:
        assert recognise(ds).derivable


def test_lazy_times_are_read_if_few(make):
    ds = make(["u10"], time="step", attrs=WIND, chunks={})
    dates = ds.step.values
    ds = ds.assign_coords(step=pd.to_timedelta([6, 12, 18], "h"))
    valid = xr.Variable("step", dates, {"standard_name": "time"}).chunk()
    time = recognise(ds.assign_coords(valid_time=valid)).time
    assert time.name == "step"
    assert (time.step, time.start) == (pd.Timedelta("6h"), "2020-01-01 00:00")


def test_many_lazy_times_are_not_read(no_compute):
    size = 10_001
    valid = xr.Variable("step", pd.date_range("2020", periods=size, freq="1h"))
    valid.attrs["standard_name"] = "time"
    ds = xr.Dataset(
        coords={
            "lat": [1.0, 2],
            "lon": [1.0, 2],
            "step": pd.to_timedelta(np.arange(size), "h"),
            "valid_time": valid.chunk(),
        }
    )
    with no_compute:
        assert recognise(ds).time.start is None


def test_tree_tells_where_the_data_are(make):
    tree = xr.DataTree.from_dict({"/a/b": make(["u10"])})
    assert "/a/b" in recognise(tree).problems[0]
    assert recognise(tree["a/b"]).grid is not None


def test_real_calendar(real, no_compute):
    with no_compute:
        seen = recognise(real("edge/core2_u10_T62_gaussian_noleap_6h_1948.nc"))
    assert seen.spacing == "1.905° x 1.875°, 94 x 192, global, Gaussian latitudes"
    assert seen.time.step == pd.Timedelta("6h")


def test_real_gaps(real):
    seen = recognise(real("train/gfs_uv10_global_1deg_6h_20260706-20260822.nc"))
    assert seen.time.missing == 3
