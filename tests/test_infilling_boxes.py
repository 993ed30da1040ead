"""infill() by networks of boxes: all fields together, observed cells untouched."""

from __future__ import annotations

import cftime
import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.testing import count_forwards, raise_if_computes, synthetic_winds
from xatmo.testing.gaps import with_gaps

_LATITUDE, _LONGITUDE = np.arange(50.0, 40.0, -1.0), np.arange(350.0, 364.0)
_PARTS = ("_spread", "_provenance")


@pytest.fixture(scope="module")
def model(make_box_model):
    return make_box_model("tiny-fill", monthly=True)


@pytest.fixture(scope="module")
def truth():
    return synthetic_winds(7, _LATITUDE, _LONGITUDE)


@pytest.fixture(scope="module")
def cloudy(truth):
    return with_gaps(truth, "clouds", seed=1, scale=2, duration=1)


@pytest.fixture(scope="module")
def filled(cloudy, model):
    return cloudy.atmo.infill(model=model)


def _levels(ds, *levels):
    """The same winds at pressure levels."""
    along = xr.DataArray(list(levels), dims="level", attrs={"units": "hPa"})
    several = ds.rename(u10="u", v10="v").expand_dims(level=along, axis=1)
    return several * (1 + 0.1 * np.arange(len(levels)))[None, :, None, None]


# --- The result -----------------------------------------------------------------------


def test_values_spread_and_origin(cloudy, filled):
    assert list(filled) == [
        f"{u}{part}" for u in ("u10", "v10") for part in ("", *_PARTS)
    ]
    for name in ("u10", "v10"):
        gaps = cloudy[name].isnull()
        np.testing.assert_array_equal(filled[name].where(~gaps), cloudy[name])
        assert filled[name].notnull().all()
        assert filled[name].dtype == np.float32
        spread, flag = (filled[name + part] for part in _PARTS)
        assert (spread.where(~gaps, 0) == 0).all()
        assert (spread.where(gaps, 1) > 0).all()
        np.testing.assert_array_equal(flag, gaps.astype(int))
        assert flag.dtype == np.int8


def test_is_the_network_on_normalised_fields(make_box_model):
    """One box: the same numbers by hand, with the constants of each month."""
    import torch

    model = make_box_model("tiny-hand-fill", monthly=True)
    ds = synthetic_winds(4, _LATITUDE[:8], _LONGITUDE[:8])
    ds = ds.assign_coords(time=ds.time + np.timedelta64(30 * 24 + 12, "h"))
    ds = ds.copy(deep=True)
    ds.u10[1:3, 2:5, 1:7] = np.nan
    ds.v10[3] = np.nan
    got = ds.atmo.infill(model=model)
    later = np.array([0, 0, 1, 1])[:, None, None]  # January, and from then on February
    mean, std = 0.16 * later, 8 + 0.16 * later
    x = np.stack([(v.values - mean) / std for v in (ds.u10, ds.v10)])
    when = [[2020, 30, 12], [2020, 30, 18], [2020, 31, 0], [2020, 31, 6]]
    with torch.inference_mode():
        members = (
            model.network()
            .predict(
                torch.from_numpy(x.astype(np.float32))[None],
                torch.tensor([when]).float(),
                torch.tensor(ds.latitude.values[None]).float(),
                torch.tensor(ds.longitude.values[None] % 360).float(),
                1.0,
                present=(("u", (0,)), ("v", (0,))),
            )[0]
            .numpy()
        )
    for number, name in enumerate(("u10", "v10")):
        own, gaps = members[:, number] * std + mean, np.isnan(ds[name].values)
        found, spread = got[name].values[gaps], got[f"{name}_spread"].values[gaps]
        np.testing.assert_allclose(found, own.mean(0)[gaps], atol=1e-4)
        np.testing.assert_allclose(spread, own.std(0, ddof=1)[gaps], atol=1e-4)


def test_fields_help_each_other(cloudy, filled, model):
    """The northward wind has a part in what the eastward wind is filled with."""
    alone = cloudy[["u10"]].atmo.infill(model=model)
    gaps = cloudy.u10.isnull()
    assert float(np.abs(alone.u10 - filled.u10).where(gaps).max()) > 1e-3
    other = cloudy.assign(v10=cloudy.v10 * 0.5).atmo.infill(model=model)
    assert float(np.abs(other.u10 - filled.u10).where(gaps).max()) > 1e-4


def test_attributes(filled, model):
    assert filled.u10.attrs["ancillary_variables"] == "u10_spread u10_provenance"
    assert filled.u10_spread.attrs["standard_name"] == "eastward_wind standard_error"
    flag = filled.u10_provenance.attrs
    assert flag["flag_meanings"] == "observed network plain_method unfilled"
    for attrs in (filled.attrs, filled.u10.attrs):
        assert attrs["fields_used"] == "u at 10 m, v at 10 m"
        assert attrs["xatmo_model"] == "tiny-fill 1.0.0"
        assert attrs["xatmo_model_sha256"] == model.card.weights.sha256
        assert "infill(model='tiny-fill', method='network'" in attrs["history"]
    assert "less certain without them" in filled.attrs["comment"]


_NAMED = [
    {"method": "tiny-fill"},
    {"model": "tiny-fill"},
    {"method": "network", "model": "tiny-fill@1.0.0"},
]


@pytest.mark.parametrize("said", _NAMED)
def test_by_its_name(cloudy, filled, said):
    np.testing.assert_array_equal(cloudy.atmo.infill(**said).u10, filled.u10)


def test_auto_does_not_try_it(make_box_model, monkeypatch):
    """Not even as the default: it is taken if it is named."""
    from xatmo.infilling import asked

    default = make_box_model("tiny-default", card={"default_for": ["infill"]})
    assert default.card.is_default("infill")
    monkeypatch.setattr(asked, "default_model", lambda capability: default.card)
    found = asked.read_arguments("auto", True, None, None, 0)
    assert found.method == "auto"
    assert found.joint is found.card is found.recipe.network is None
    named = asked.read_arguments("auto", True, None, "tiny-default", 0)
    assert (named.method, named.joint.card) == ("network", default.card)


def test_without_spread(cloudy, filled, model):
    got = cloudy.atmo.infill(model=model, spread=False)
    assert list(got) == ["u10", "u10_provenance", "v10", "v10_provenance"]
    np.testing.assert_array_equal(got.u10, filled.u10)


def test_what_has_no_gaps_costs_nothing(truth, model):
    with count_forwards() as forwards:
        got = truth.atmo.infill(model=model)
    assert forwards.calls == 0
    np.testing.assert_array_equal(got.u10, truth.u10)
    assert not got.u10_spread.any()
    assert not got.u10_provenance.any()


# --- The user's form ------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.transpose("longitude", "time", "latitude"),
        lambda ds: ds.isel(latitude=slice(None, None, -1)),
        lambda ds: ds.assign_coords(longitude=(ds.longitude + 180) % 360 - 180),
        lambda ds: ds.isel(longitude=slice(None, None, -1)),
        lambda ds: ds.rename(latitude="lat", longitude="lon", time="t"),
        lambda ds: ds.chunk(time=3, latitude=7, longitude=5),
        lambda ds: ds.astype(np.float64),
        lambda ds: ds.astype(">f4"),
    ],
)
def test_comes_back_as_it_was(cloudy, filled, model, change):
    ds = change(cloudy)
    got = ds.atmo.infill(model=model)
    # What it has of its own dtype is compared as numbers.
    back = change(filled.drop_vars([f"{u}_provenance" for u in ("u10", "v10")]))
    for name in back:
        assert got[name].dims == ds.u10.dims
        assert got[name].chunks == ds.u10.chunks
        assert got[name].dtype == ds.u10.dtype
        np.testing.assert_allclose(got[name], back[name], atol=1e-5)
    observed = ds.u10.notnull()
    np.testing.assert_array_equal(got.u10.where(observed), ds.u10)
    xr.testing.assert_equal(got.coords.to_dataset(), ds.coords.to_dataset())


def test_units(cloudy, filled, model):
    ds = cloudy * 3.6
    for v in ds.values():
        v.attrs = {"units": "km/h"}
    got = ds.atmo.infill(model=model)
    for name in ("u10", "u10_spread"):
        np.testing.assert_allclose(got[name], 3.6 * filled[name], atol=1e-3)


def test_a_longitude_that_is_there_twice(model):
    globe = synthetic_winds(1, np.arange(87.0, -88.0, -2.0), np.arange(0.0, 360.0, 2.0))
    twice = xr.concat([globe, globe.isel(longitude=[0])], "longitude")
    twice = twice.assign_coords(longitude=np.arange(0.0, 361.0, 2.0))
    ds = twice.where(~((twice.longitude < 10) | (twice.longitude > 350)))
    got = ds[["u10"]].atmo.infill(model=model)
    assert got.sizes["longitude"] == 181
    assert got.u10.notnull().all()
    np.testing.assert_array_equal(got.u10[..., 0], got.u10[..., -1])


def test_without_time(cloudy, model):
    one = cloudy.isel(time=3)
    got = one.atmo.infill(model=model)
    assert got.u10.dims == ("latitude", "longitude")
    assert got.u10.notnull().all()
    single = cloudy.isel(time=[3]).atmo.infill(model=model)
    np.testing.assert_array_equal(single.u10[0], got.u10)
    lazy = one.chunk(latitude=4).atmo.infill(model=model)
    np.testing.assert_allclose(lazy.u10, got.u10, atol=1e-5)


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_calendars(cloudy, model, calendar):
    times = xr.date_range(
        "2000-02-28", periods=7, freq="6h", calendar=calendar, use_cftime=True
    )
    got = cloudy.assign_coords(time=times).atmo.infill(model=model)
    assert isinstance(got.time.values[0], cftime.datetime)
    assert got.u10.notnull().all()


def test_lost_times(truth, model):
    """Lost, or left out: the same to the network."""
    lost = truth.where(truth.time != truth.time[3])
    got = lost.atmo.infill(model=model)
    assert (got.u10_provenance[3] == 1).all()
    assert got.u10.notnull().all()
    gappy = with_gaps(lost, "blocks", seed=4)
    left = gappy.isel(time=[0, 1, 2, 4, 5, 6])
    a, b = (ds.atmo.infill(model=model).isel(time=-1) for ds in (gappy, left))
    np.testing.assert_allclose(a.u10, b.u10, atol=1e-5)


# --- Levels and other variables -------------------------------------------------------


def test_levels_together(cloudy, model):
    ds = _levels(cloudy, 1000, 850, 500)
    with pytest.warns(errors.ExtrapolationWarning, match="u at 1 other level, v at 1"):
        got = ds.atmo.infill(model=model)
    assert got.u.dims == ds.u.dims
    gaps = ds.u.isnull()
    np.testing.assert_array_equal(got.u.where(~gaps), ds.u)
    read, other = got.sel(level=[850, 500]), got.sel(level=1000)
    assert read.u.notnull().all()
    gone = gaps.sel(level=1000)
    np.testing.assert_array_equal(other.u, ds.u.sel(level=1000))
    np.testing.assert_array_equal(other.u_provenance, 3 * gone)
    np.testing.assert_array_equal(other.u_spread.isnull(), gone)
    with pytest.warns(errors.ExtrapolationWarning):
        lazy = ds.chunk(level=1, time=2).atmo.infill(model=model)
    assert lazy.u.chunks == ds.chunk(level=1, time=2).u.chunks
    np.testing.assert_allclose(lazy.u, got.u, atol=1e-5)
    last = ds.sel(level=[500, 850]).transpose(..., "level").atmo.infill(model=model)
    again = last.u.transpose(*read.u.dims).sel(level=[850, 500])
    np.testing.assert_allclose(again, read.u, atol=1e-5)


def test_levels_tell_of_each_other(cloudy, model):
    ds = _levels(cloudy, 850, 500)
    other = ds.copy(deep=True)
    other["u"] = other.u.where(other.level == 850, other.u * 0.5)
    a, b = (x.atmo.infill(model=model).u.sel(level=850) for x in (ds, other))
    gaps = ds.u.sel(level=850).isnull()
    assert float(np.abs(a - b).where(gaps).max()) > 1e-4


def test_other_variables_stay(cloudy, filled, model):
    dust = cloudy.u10.drop_attrs()
    ds = cloudy.assign(dust_of_mars=dust, n=("time", range(7)))
    match = "dust_of_mars: tiny-fill does not fill these"
    with pytest.warns(errors.ExtrapolationWarning, match=match):
        got = ds.atmo.infill(model=model)
    assert list(got) == [*filled, "dust_of_mars", "n"]
    xr.testing.assert_identical(got.dust_of_mars, ds.dust_of_mars)
    xr.testing.assert_identical(got.n, ds.n)
    np.testing.assert_array_equal(got.u10, filled.u10)


def test_members_of_the_user(cloudy, filled, model):
    ds = xr.concat([cloudy, cloudy * 0.5], "number")
    got = ds.transpose("time", "number", ...).atmo.infill(model=model)
    assert got.u10.dims == ("time", "number", "latitude", "longitude")
    np.testing.assert_allclose(got.u10.isel(number=0), filled.u10, atol=1e-5)


# --- Too little is known --------------------------------------------------------------


def test_where_nothing_is_known_it_stays_a_gap(model):
    """Nothing in any box around: in no other field and at no other time."""
    wide = synthetic_winds(4, _LATITUDE[:8], np.arange(0.0, 32.0))
    ds = wide.where(wide.longitude < 6)
    got = ds.atmo.infill(model=model)
    far, near = got.sel(longitude=slice(12, 32)), got.sel(longitude=slice(6, 11))
    for name in ("u10", "v10"):
        assert (far[f"{name}_provenance"] == 3).all()
        assert far[name].isnull().all()
        assert far[f"{name}_spread"].isnull().all()
        assert (near[f"{name}_provenance"] == 1).all()
        assert near[name].notnull().all()
    # Where one of them is known the other is told from it.
    some = ds.assign(v10=wide.v10).atmo.infill(model=model)
    assert some.u10.notnull().all()


def test_times_too_far_from_any_other(model):
    long = synthetic_winds(16, _LATITUDE[:8], _LONGITUDE[:8])
    ds = long.where((long.time < long.time[2]) | (long.time > long.time[13]))
    got = ds.atmo.infill(model=model)
    kind = got.u10_provenance.isel(latitude=0, longitude=0).values
    # Boxes of four times begin at every second one.
    np.testing.assert_array_equal(kind, [0, 0, 1, 1, *[3] * 8, 1, 1, 0, 0])


def test_nothing_known_at_all(truth, model):
    got = (truth * np.nan).atmo.infill(model=model)
    assert (got.u10_provenance == 3).all()
    assert got.u10.isnull().all()


# --- Masks ----------------------------------------------------------------------------


def test_only_what_is_marked_is_filled(truth, model):
    land = truth.longitude > 360
    sea = truth.where(~land)
    mask = xr.zeros_like(truth.u10, bool)
    mask[2:4, 2:7, 3:8] = True
    got = sea.atmo.infill(model=model, mask=mask)
    assert got.u10.where(land).isnull().all()
    assert (got.u10_provenance.where(land, 3) == 3).all()
    assert (got.u10_provenance.where(mask, 1) == 1).all()
    kept = ~mask & ~land
    np.testing.assert_array_equal(got.u10.where(kept), truth.u10.where(kept))
    assert float(np.abs(got.u10 - truth.u10).where(mask).max()) > 0.1
    # Values under the mask do not count.
    other = sea.where(~mask, 1e4).atmo.infill(model=model, mask=mask)
    np.testing.assert_array_equal(other.u10, got.u10)
    lazy = sea.chunk(time=2).atmo.infill(model=model, mask=mask.chunk(time=3))
    np.testing.assert_allclose(lazy.u10, got.u10, atol=1e-5)


def test_a_mask_for_each_variable(truth, model):
    mask = xr.Dataset({"u10": truth.u10 > 3})
    got = truth.atmo.infill(model=model, mask=mask)
    np.testing.assert_array_equal(got.u10_provenance, mask.u10)
    assert not got.v10_provenance.any()


# --- Lazy -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunks", [{"time": 1}, {"time": 3, "latitude": 4}, {"time": -1, "longitude": 5}]
)
def test_lazy_in_any_chunks(cloudy, filled, model, chunks):
    ds = cloudy.chunk(chunks)
    with raise_if_computes():
        lazy = ds.atmo.infill(model=model)
    for name in filled:
        assert lazy[name].chunks == ds.u10.chunks
        np.testing.assert_allclose(lazy[name], filled[name], atol=1e-5)


def test_real_winds(data, make_box_model):
    model = make_box_model("tiny-real-fill", box=(4, 12, 12), token=(1, 6, 6))
    file = data / "train" / "gfs_uv850_global_1deg_6h_20260419-20260505.nc"
    region = {"latitude": slice(40, 55), "longitude": slice(200, 216)}
    with xr.open_dataset(file, chunks={"time": 2}) as ds:
        whole = ds.isel(time=slice(5), **region)
        gappy = with_gaps(whole.compute(), "blocks", seed=2).chunk(time=2)
        got = gappy.atmo.infill(model=model).compute()
    names = [n for n in gappy if f"{n}_provenance" in got]
    assert len(names) == 2
    for name in names:
        gaps = gappy[name].isnull()
        np.testing.assert_array_equal(got[name].where(~gaps), gappy[name])
        assert got[name].notnull().all()


# --- Bad input ------------------------------------------------------------------------


def test_no_field_that_it_reads(cloudy, model):
    dust = cloudy[["u10"]].drop_attrs().rename(u10="dust")
    match = "(?s)none of the fields that tiny-fill reads.*eastward_wind"
    with pytest.raises(errors.FieldNotFoundError, match=match):
        dust.atmo.infill(model=model)


def test_fields_that_are_only_read(cloudy, make_box_model):
    only = {"predicted": ["v"]}
    model = make_box_model("tiny-read", network=only)
    with pytest.warns(
        errors.ExtrapolationWarning, match="u10: tiny-read does not fill"
    ):
        got = cloudy.atmo.infill(model=model)
    assert list(got) == ["u10", "v10", "v10_spread", "v10_provenance"]
    xr.testing.assert_identical(got.u10, cloudy.u10)
    assert got.v10.notnull().all()
    match = "(?s)no field that tiny-read fills.*u10.*northward_wind.*auto"
    with pytest.raises(errors.FieldNotFoundError, match=match):
        cloudy[["u10"]].atmo.infill(model=model)


def test_levels_that_are_not_said(cloudy, model):
    ds = cloudy.rename(u10="u", v10="v")
    match = r"(?s)do not say what level.*assign_coords\(height=10\)"
    with pytest.raises(errors.LevelError, match=match):
        ds.atmo.infill(model=model)
    assert ds.assign_coords(height=10).atmo.infill(model=model).u.notnull().all()


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (
            lambda ds: ds.isel(time=slice(None, None, 2)),
            errors.TimeAxisError,
            r"(?s)time step.*every 12 h.*every 6 h.*interpolate_time\(\"6h\"\)",
        ),
        (
            lambda ds: ds.isel(time=0, drop=True),
            errors.TimeAxisError,
            "(?s)when the fields are from.*expand_dims",
        ),
        (
            lambda ds: ds.isel(time=slice(None, None, -1)),
            errors.TimeAxisError,
            "(?s)not in order.*sortby",
        ),
        (
            lambda ds: ds.assign_coords(longitude=0.1 * ds.longitude),
            errors.GridError,
            "(?s)tiny-fill",
        ),
        (
            lambda ds: ds.assign(u10_spread=ds.u10 * 0),
            errors.FieldError,
            "(?s)'u10_spread'.*drop_vars",
        ),
    ],
)
def test_bad_input(cloudy, model, change, error, match):
    with pytest.raises(error, match=match):
        change(cloudy).atmo.infill(model=model)


def test_values_that_are_no_data(cloudy, model):
    ds = cloudy.copy(deep=True)
    ds.u10[6, 5, 6] = 9e36
    with pytest.raises(errors.MissingValuesError, match=r"(?s)'u10'.*no data"):
        ds.atmo.infill(model=model)
    lazy = ds.chunk(time=2).atmo.infill(model=model)
    with pytest.raises(errors.MissingValuesError, match=r"(?s)'u10'.*no data"):
        lazy.compute()
