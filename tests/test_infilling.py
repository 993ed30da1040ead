"""infill(): observed cells untouched, gaps filled and flagged; bad input."""

from __future__ import annotations

import json

import cftime
import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.climatology import climatology
from xatmo.testing import raise_if_computes, synthetic_winds
from xatmo.testing.gaps import gap_mask, with_gaps

pytestmark = pytest.mark.usefixtures("infiller")

LATITUDE = np.arange(60.0, 36.0, -1.0)
LONGITUDE = np.arange(2.0, 32.0)


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    """Ten times of 10 m winds on 24 x 30 points at 1°."""
    return synthetic_winds(10, LATITUDE, LONGITUDE)


@pytest.fixture(scope="module")
def cloudy(truth) -> xr.Dataset:
    return with_gaps(truth, "clouds", seed=1, scale=3, duration=1)


@pytest.fixture(scope="module")
def filled(cloudy, infiller) -> xr.Dataset:
    return cloudy.atmo.infill("tiny-infill")


def _same(a, b, **tolerance):
    """Equal values on equal coordinates, in whatever order."""
    a, b = xr.align(a, b, join="exact")
    assert list(a) == list(b)
    for name in a:
        b_values = b[name].transpose(*a[name].dims)
        np.testing.assert_allclose(a[name], b_values, **(tolerance or {"atol": 1e-5}))


# --- The result ----------------------------------------------------------------------


def test_values_spread_and_origin(cloudy, filled):
    names = [f"{u}{part}" for u in ("u10", "v10") for part in ("", *_PARTS)]
    assert list(filled) == names
    for name in ("u10", "v10"):
        gaps = cloudy[name].isnull()
        np.testing.assert_array_equal(filled[name].where(~gaps), cloudy[name])
        assert filled[name].dtype == np.float32
        assert filled[name].notnull().all()
        spread, flag = (filled[name + part] for part in _PARTS)
        assert (spread.where(~gaps, 0) == 0).all()
        assert (spread.where(gaps, 1) > 0).all()
        np.testing.assert_array_equal(flag, gaps.astype(int))
        assert flag.dtype == np.int8


_PARTS = ("_spread", "_provenance")


def test_is_the_network_on_frames(cloudy, filled):
    """The verb adds nothing of its own: the same numbers by hand."""
    import torch

    from xatmo import climatology as c
    from xatmo import frames as f
    from xatmo.fields import land_share_of_cells

    network = xatmo.load_model("tiny-infill").network()
    y, hours = cloudy.u10.values, 6.0 * np.arange(10)
    phase = c.phases(hours, 10)
    found = c.background(c.moments(y, phase, phase.max() + 1), 10)
    base = found.base[phase if len(found.base) > 1 else 0 * phase]
    seen = ((y - base) / found.scale).astype(np.float32)
    land = land_share_of_cells(LATITUDE, LONGITUDE, (1.0, 1.0))
    still = [found.known, found.shape], f.statics(LATITUDE, land)
    read = np.concatenate([f.frames(seen, 4, f.neighbours(hours)), *still])
    about = f.about("eastward_wind", found)
    with torch.inference_mode():
        mean, spread = network(*(torch.from_numpy(x[None]) for x in (read, about)))[0]
    gaps = np.isnan(y[4:8])
    expected = (mean.numpy() * found.scale + base[4:8])[gaps]
    np.testing.assert_allclose(filled.u10.values[4:8][gaps], expected, atol=1e-4)
    expected = 1.5 * found.scale * spread.numpy()[gaps]  # 1.5 stands in the card
    got = filled.u10_spread.values[4:8][gaps]
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_attributes(cloudy, filled):
    u = filled.u10
    assert u.attrs["units"] == "m s-1"
    assert u.attrs["ancillary_variables"] == "u10_spread u10_provenance"
    assert filled.u10_spread.attrs["units"] == "m s-1"
    assert filled.u10_spread.attrs["standard_name"] == "eastward_wind standard_error"
    flag = filled.u10_provenance.attrs
    assert flag["standard_name"] == "status_flag"
    assert flag["flag_meanings"] == "observed network plain_method unfilled"
    assert flag["flag_values"].dtype == np.int8
    sha256 = xatmo.load_model("tiny-infill").card.weights.sha256
    for attrs in (u.attrs, filled.attrs):
        assert attrs["xatmo_model"] == "tiny-infill 1.0.0"
        assert attrs["xatmo_model_sha256"] == sha256
        assert "infill(model='tiny-infill', method='network'" in attrs["history"]
    assert "xatmo_model" not in cloudy.u10.attrs


def test_a_spread_of_temperature_is_a_difference(cloudy):
    t = (cloudy.u10 + 10).assign_attrs(units="degC", standard_name="air_temperature")
    attrs = t.rename("t2m").atmo.infill("tiny-infill").t2m_spread.attrs
    assert attrs["units"] == "degC"
    assert attrs["units_metadata"] == "temperature: difference"
    assert attrs["standard_name"] == "air_temperature standard_error"


def test_goes_to_netcdf_and_back(filled, tmp_path):
    filled.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        xr.testing.assert_equal(back, filled)


def test_without_spread(cloudy):
    assert list(cloudy.atmo.infill("tiny-infill", spread=False)) == [
        "u10",
        "u10_provenance",
        "v10",
        "v10_provenance",
    ]


def test_what_has_no_gaps_stays_as_it_is(truth):
    got = truth.atmo.infill("tiny-infill")
    np.testing.assert_array_equal(got.u10, truth.u10)
    assert not got.u10_spread.any()
    assert not got.u10_provenance.any()


def test_factor_of_float64(cloudy):
    got = cloudy.astype(np.float64).atmo.infill("tiny-infill")
    assert got.u10.dtype == got.u10_spread.dtype == np.float64
    want = cloudy.atmo.infill("tiny-infill").u10
    np.testing.assert_allclose(got.u10, want, atol=1e-4)


# --- The user's form -----------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.transpose("longitude", "time", "latitude"),
        lambda ds: ds.isel(latitude=slice(None, None, -1)),
        lambda ds: ds.assign_coords(longitude=ds.longitude - 360),
        lambda ds: ds.isel(longitude=slice(None, None, -1)),
        lambda ds: ds.rename(latitude="lat", longitude="lon", time="t"),
        lambda ds: ds.chunk(time=3, latitude=7, longitude=11),
        lambda ds: ds.astype(">f4"),
    ],
)
def test_comes_back_as_it_was(cloudy, filled, change):
    ds = change(cloudy)
    got = ds.atmo.infill("tiny-infill")
    back = change(filled) if ds.u10.dtype != ">f4" else filled
    for name in filled:
        assert got[name].dims == ds.u10.dims
        assert got[name].chunks == ds.u10.chunks
        np.testing.assert_allclose(got[name], back[name], atol=1e-5)
    xr.testing.assert_equal(got.coords.to_dataset(), ds.coords.to_dataset())


def test_a_longitude_that_is_there_twice():
    globe = synthetic_winds(1, np.arange(80.0, -81.0, -5.0), np.arange(0.0, 360.0, 5.0))
    twice = xr.concat([globe, globe.isel(longitude=[0])], "longitude")
    twice = twice.assign_coords(longitude=np.arange(0.0, 361.0, 5.0))
    ds = twice.where(~((twice.longitude < 20) | (twice.longitude > 340)))
    got = ds.atmo.infill("tiny-infill")
    assert got.sizes == ds.sizes
    np.testing.assert_array_equal(got.u10.isel(longitude=0), got.u10[..., -1])


def test_the_circle_closes():
    """Where the data begin leaves no trace: only how many columns there are does."""
    globe = synthetic_winds(3, np.arange(78.0, -79.0, -4.0), np.arange(0.0, 360.0, 4.0))
    gaps = gap_mask("blocks", (3, 40, 90), seed=2)
    ds = globe.where(~xr.DataArray(gaps, dims=globe.u10.dims))
    other = ds.roll(longitude=45, roll_coords=True)  # the date line in the middle
    other["longitude"] = (other.longitude + 180) % 360 - 180
    a, b = ds.atmo.infill("tiny-infill"), other.atmo.infill("tiny-infill")
    b["longitude"] = b.longitude % 360
    np.testing.assert_allclose(b.u10.sortby("longitude"), a.u10, atol=1e-5)


def test_levels_and_members_are_series_of_their_own(cloudy):
    ds = xr.concat([cloudy, cloudy * 3 + 5], "level").assign_coords(level=[850, 500])
    got = ds.transpose("time", "level", ...).atmo.infill("tiny-infill")
    assert got.u10.dims == ("time", "level", "latitude", "longitude")
    one = cloudy.u10.to_dataset().atmo.infill("tiny-infill")
    for k, name in enumerate(["u10", "u10_spread", "u10_provenance"]):
        own = got[name].sel(level=850)
        np.testing.assert_allclose(own, one[name], atol=1e-5, err_msg=str(k))
    lazy = ds.chunk(level=1, time=4).atmo.infill("tiny-infill")
    np.testing.assert_allclose(lazy.u10.transpose(*got.u10.dims), got.u10, atol=1e-5)


def test_a_field_without_time(cloudy):
    got = cloudy.isel(time=3, drop=True).atmo.infill("tiny-infill")
    assert got.u10.dims == ("latitude", "longitude")
    assert got.u10.notnull().all()
    single = cloudy.isel(time=[3]).atmo.infill("tiny-infill")
    np.testing.assert_array_equal(single.u10[0], got.u10)


def test_any_variable_whatever_it_holds(cloudy):
    ds = xr.Dataset({"dust_of_mars": cloudy.u10.drop_attrs(), "n": ("time", range(10))})
    got = ds.atmo.infill("tiny-infill")
    assert list(got) == [
        "dust_of_mars",
        "dust_of_mars_spread",
        "dust_of_mars_provenance",
        "n",
    ]
    assert got.dust_of_mars.notnull().all()
    xr.testing.assert_identical(got.n, ds.n)


def test_packed_values_are_unpacked(truth):
    attrs = {"scale_factor": 0.01, "add_offset": 5.0, "_FillValue": np.int16(-9999)}
    packed = ((truth.u10 - 5.0) / 0.01).round().astype(np.int16)
    gaps = with_gaps(truth.u10, "random_50").isnull()
    packed = packed.where(~gaps, np.int16(-9999)).astype(np.int16).assign_attrs(attrs)
    got = packed.to_dataset(name="u").atmo.infill("tiny-infill")
    np.testing.assert_allclose(got.u.where(~gaps), truth.u10.where(~gaps), atol=0.01)
    assert got.u.notnull().all()


# --- Times ---------------------------------------------------------------------------


def test_lost_times_are_filled_from_those_around(truth):
    ds = truth.where(~truth.time.isin(truth.time[[2, 3]]))
    got = ds.atmo.infill("tiny-infill")
    assert (got.u10_provenance[2:4] == 1).all()
    assert got.u10.notnull().all()


def test_a_time_too_far_from_any_other_stays_a_gap():
    long = synthetic_winds(60, LATITUDE, LONGITUDE)
    ds = long.where((long.time < long.time[6]) | (long.time > long.time[50]))
    got = ds.atmo.infill("tiny-infill")
    lost = got.u10_provenance.isel(time=slice(24, 32))
    assert (lost == 3).all()
    assert got.u10.isel(time=slice(24, 32)).isnull().all()
    assert got.u10_spread.isel(time=slice(24, 32)).isnull().all()


def test_a_hole_too_large_stays_one():
    """The card of the model says 16 points."""
    wide = synthetic_winds(2, np.arange(60.0, 0.0, -1.0), np.arange(0.0, 70.0))
    ds = wide.where((wide.longitude < 5) | (wide.latitude > 57))
    got = ds.isel(time=0).atmo.infill("tiny-infill")
    far = got.sel(latitude=slice(41, 0), longitude=slice(21, 70))
    near = got.sel(latitude=slice(56, 43), longitude=slice(5, 19))
    assert (far.u10_provenance == 3).all()
    assert far.u10.isnull().all()
    assert (near.u10_provenance == 1).all()


def test_steps_that_are_left_out_are_gaps(truth):
    """Leaving a time out and losing its values is the same to the network."""
    lost = truth.where(truth.time != truth.time[3])
    lost = with_gaps(lost, "blocks", seed=4)
    left = lost.isel(time=[0, 1, 2, *range(4, 10)])
    a, b = (ds.atmo.infill("tiny-infill").isel(time=-1) for ds in (lost, left))
    np.testing.assert_allclose(a.u10, b.u10, atol=0.05)


@pytest.mark.parametrize(
    "times",
    [
        np.array("2020-01-01", "M8[ns]")
        + np.cumsum([0, 1, 5, 2, 8, 1, 1, 30, 2, 3]) * np.timedelta64(1, "h"),
        cftime.num2date(np.arange(10) * 30, "days since 2000-01-01", "360_day"),
        np.arange(10),
    ],
)
def test_times_of_any_kind(cloudy, times):
    got = cloudy.assign_coords(time=times).atmo.infill("tiny-infill")
    assert got.u10.notnull().all()


# --- Lazy data -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["tiny-infill", "auto", "dineof", "interpolate"])
def test_lazy_stays_lazy(cloudy, method):
    ds = cloudy.chunk(time=3, latitude=10)
    with raise_if_computes():
        lazy = ds.atmo.infill(method)
    assert lazy.u10.chunks == ds.u10.chunks
    if method == "auto":
        assert lazy.u10_scores.chunks is not None


@pytest.mark.parametrize("method", ["auto", "dineof", "kriging", "nearest"])
def test_lazy_and_eager_agree(cloudy, method):
    ds = cloudy[["u10"]]
    eager = ds.atmo.infill(method)
    lazy = ds.chunk(time=4, longitude=7).atmo.infill(method).compute()
    _same(lazy, eager, atol=0)


# --- Methods -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["dineof", "kriging", "biharmonic", "interpolate", "climatology"]
)
def test_plain_methods(cloudy, truth, method):
    got = cloudy[["u10"]].atmo.infill(method)
    gaps = cloudy.u10.isnull()
    np.testing.assert_array_equal(got.u10.where(~gaps), cloudy.u10)
    assert set(np.unique(got.u10_provenance)) <= {0, 2, 3}
    done = (got.u10_provenance == 2) & gaps
    assert done.sum() > 0.8 * gaps.sum()
    assert (got.u10_spread.where(done, 1.0) > 0).all()
    assert (got.u10.isnull() == (got.u10_provenance == 3)).all()
    assert "xatmo_model" not in got.attrs
    assert got.attrs["xatmo_method"].startswith(method)


def test_auto_takes_what_does_best(cloudy):
    """Smooth waves are no match for patterns; the network's weights are random."""
    got = cloudy[["u10"]].atmo.infill(model="tiny-infill")
    table = got.u10_scores.to_series()
    best = table.idxmin()
    assert best != "network"
    assert got.u10.attrs["infill_method"] == best
    assert (got.u10_provenance == 2).sum() > 0
    assert table["network"] > 1.2 * table[best]
    scores = json.loads(got.attrs["infill_scores"])
    assert scores["u10"][best] == pytest.approx(table[best])
    assert got.u10_scores.attrs["units"] == "m s-1"


@pytest.mark.parametrize("model", [None, "tiny-infill"])
def test_auto_on_a_series_too_long_to_be_seen_at_once(monkeypatch, model):
    """What does not suit the whole is not tried on the sample either."""
    from xatmo.infilling import methods

    long = synthetic_winds(40, LATITUDE, LONGITUDE)[["u10"]]
    ds = with_gaps(long, "clouds", scale=3, duration=1)
    monkeypatch.setattr(methods, "_TRIED_WHOLE", 24 * 720)
    monkeypatch.setattr(methods, "WHOLE_POINTS", 30 * 720)
    lazy = ds.chunk(time=9).atmo.infill(model=model).compute()
    tried = lazy.u10_scores.dropna("method").method.values.tolist()
    assert set(tried) <= {"network", "kriging", "biharmonic"}
    assert lazy.u10.notnull().all()


def test_auto_without_any_gap(truth):
    got = truth[["u10"]].atmo.infill()
    np.testing.assert_array_equal(got.u10, truth.u10)
    assert got.u10_scores.isnull().all()


def test_auto_is_told_by_each_level(cloudy):
    ds = xr.concat([cloudy, cloudy * 3 + 5], "level").assign_coords(level=[850, 500])
    got = ds[["u10"]].atmo.infill(spread=False)
    assert got.u10_scores.dims == ("level", "method")
    assert got.u10_scores.level.values.tolist() == [850, 500]


def test_a_model_by_its_name(cloudy, filled):
    _same(cloudy.atmo.infill("tiny-infill"), filled)
    _same(cloudy.atmo.infill("network", model="tiny-infill@1.0.0"), filled)


def test_warns_of_series_unlike_those_of_the_training(cloudy, monkeypatch):
    from dataclasses import replace

    from xatmo.infilling import asked, methods

    load = asked.load_model

    def narrow(*args, **kwargs):
        model = load(*args, **kwargs)
        told = methods.character(cloudy.u10.values, 6.0 * np.arange(10))
        seen = {name: (value + 5.0, value + 6.0) for name, value in told.items()}
        infill = replace(model.card.infill, seen=seen)
        return replace(model, card=replace(model.card, infill=infill))

    monkeypatch.setattr(asked, "load_model", narrow)
    match = "u10 is unlike what tiny-infill was trained on"
    with pytest.warns(errors.ExtrapolationWarning, match=match):
        cloudy[["u10"]].atmo.infill("tiny-infill")
    lazy = cloudy[["u10"]].chunk(time=3).atmo.infill("tiny-infill")
    with pytest.warns(errors.ExtrapolationWarning, match=match):
        lazy.compute(scheduler="sync")


# --- Masks ---------------------------------------------------------------------------


def test_only_what_is_marked_is_filled(cloudy, truth):
    """Land stays missing, and values under the mask do not count."""
    land = truth.longitude > 25
    sea = truth.where(~land)
    mask = xr.DataArray(gap_mask("blocks", (10, 24, 30)), dims=truth.u10.dims)
    got = sea.atmo.infill("tiny-infill", mask=mask & ~land)
    assert got.u10.where(land).isnull().all()
    assert (got.u10_provenance.where(land, 3) == 3).all()
    filled = mask & ~land
    assert (got.u10_provenance.where(filled, 1) == 1).all()
    other = sea.where(~filled, 1e4).atmo.infill("tiny-infill", mask=filled)
    _same(other, got)


def test_masks_broadcast_by_name(truth):
    hole = xr.DataArray(np.zeros((30, 24), bool), dims=("longitude", "latitude"))
    hole[3:9, 4:8] = True
    got = truth.atmo.infill("tiny-infill", mask=hole)
    assert (got.u10_provenance.sum(("latitude", "longitude")) == 24).all()
    lazy = truth.chunk(time=2).atmo.infill(
        "tiny-infill", mask=hole.to_dataset(name="u10")
    )
    assert not lazy.v10_provenance.any()
    np.testing.assert_array_equal(lazy.u10_provenance, got.u10_provenance)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda m: m.values, errors.OptionError, r"(?s)no named dimensions.*ndarray"),
        (lambda m: m * 1.0, errors.OptionError, r"(?s)truth values.*float64.*astype"),
        (
            lambda m: m.isel(latitude=slice(9)),
            errors.AlignmentError,
            r"(?s)differs along 'latitude'.*'latitude': 9.*'latitude': 24.*reindex\(",
        ),
        (
            lambda m: m.assign_coords(longitude=LONGITUDE + 0.5),
            errors.AlignmentError,
            r"(?s)differs along 'longitude'.*reindex\(longitude=",
        ),
        (
            lambda m: m.expand_dims(member=2),
            errors.AlignmentError,
            r"(?s)dimensions of its own: member.*mask\.isel\(member=0\)",
        ),
        (
            lambda m: m.to_dataset(name="w"),
            errors.OptionError,
            r"(?s)none of the variables.*masks of w.*u10",
        ),
    ],
)
def test_masks_that_do_not_fit(truth, change, error, match):
    mask = truth.u10.isel(time=0) > 3
    with pytest.raises(error, match=match):
        truth.atmo.infill("tiny-infill", mask=change(mask))


# --- Bad input -----------------------------------------------------------------------


def test_nothing_observed_at_all(cloudy):
    ds = cloudy.assign(u10=cloudy.u10 * np.nan)
    with pytest.raises(errors.MissingValuesError, match=r"(?s)'u10' has no observed"):
        ds.atmo.infill()
    with pytest.raises(errors.MissingValuesError, match="u10"):
        ds.chunk(time=2).atmo.infill("dineof").compute()


def test_a_level_without_values_is_flagged(cloudy):
    ds = xr.concat([cloudy, cloudy * np.nan], "level")
    got = ds.atmo.infill("tiny-infill")
    assert (got.u10_provenance.isel(level=1) == 3).all()
    assert got.u10.isel(level=1).isnull().all()


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.inf, r"(?s)'u10' has infinite values.*2 of.*np\.isfinite"),
        (9e36, r"(?s)'u10' holds fill values.*9e\+36.*< 1e\+30\).*_FillValue"),
        (-1e33, r"(?s)'u10' holds fill values.*-1e\+33"),
        (1e20, r"(?s)'u10' holds fill values.*1e\+20.*< 1e\+19\)"),
        (-9999, r"(?s)'u10' holds fill values.*2 of.*-9999.*\"u10\"\] != -9999\)"),
    ],
)
def test_values_that_are_none(cloudy, value, match):
    ds = cloudy.copy(deep=True)
    ds.u10[4, 5, 6:8] = value
    with pytest.raises(errors.MissingValuesError, match=match):
        ds.atmo.infill()
    lazy = ds.chunk(time=2).atmo.infill("tiny-infill")
    with pytest.raises(errors.MissingValuesError, match=match):
        lazy.compute()


def test_categories_are_not_filled(cloudy):
    kind = (cloudy.u10 > 0).where(cloudy.u10.notnull())
    kind.attrs = {"flag_values": [0, 1], "flag_meanings": "east west"}
    with pytest.raises(errors.FieldError, match=r"(?s)'kind' holds categories.*\[0, 1"):
        kind.rename("kind").atmo.infill()
    with pytest.raises(errors.FieldError, match=r"(?s)nothing whose gaps.*int64"):
        cloudy.u10.fillna(0).astype(int).atmo.infill()
    ds = cloudy.assign(kind=kind)
    with pytest.warns(errors.ExtrapolationWarning, match="kind: categories"):
        got = ds.atmo.infill("tiny-infill")
    xr.testing.assert_identical(got.kind, ds.kind)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"method": "krigging"}, r"(?s)no method 'krigging'.*tiny-infill.*'kriging'"),
        ({"method": 3}, "no method 3"),
        ({"method": "dineof", "model": "tiny-infill"}, "(?s)'dineof' is a plain"),
        ({"spread": "yes"}, "(?s)spread is yes or no"),
        ({"seed": -1}, r"(?s)seed cannot be -1.*seed=0"),
    ],
)
def test_arguments_that_cannot_be(cloudy, arguments, match):
    with pytest.raises(errors.OptionError, match=match):
        cloudy.atmo.infill(**arguments)


def test_a_model_that_does_other_things(cloudy):
    with pytest.raises(
        errors.ModelNotFoundError, match=r"(?s)cannot infill.*tiny-infill"
    ):
        cloudy.atmo.infill(model="atmodist-small")


def test_names_that_are_taken(filled, cloudy):
    with pytest.raises(errors.FieldError, match=r"(?s)'u10_spread'.*drop_vars"):
        filled.atmo.infill("tiny-infill")
    ds = cloudy.expand_dims(method=2)
    with pytest.raises(errors.FieldError, match=r"(?s)'method'.*rename"):
        ds.atmo.infill()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t[::-1], r"(?s)not in order.*sortby\('time'\)"),
        (lambda t: [*range(5, 10), *range(5)], r"(?s)not in order.*sortby\('time'\)"),
        (lambda t: [*range(9), 8], r"(?s)1 of them again.*drop_duplicates"),
        (lambda t: np.r_[t[:9], t[8:9]], r"(?s)again at once.*drop_duplicates"),
    ],
)
def test_times_that_do_not_ascend(cloudy, change, match):
    ds = cloudy.assign_coords(time=change(cloudy.time.values))
    with pytest.raises(errors.TimeAxisError, match=match):
        ds.atmo.infill("tiny-infill")


def test_too_long_to_be_seen_at_once(cloudy, monkeypatch):
    from xatmo.infilling import asked

    monkeypatch.setattr(asked, "WHOLE_POINTS", 3000)
    with pytest.raises(
        errors.OptionError, match=r"(?s)too long for 'dineof'.*slice\(4"
    ):
        cloudy.atmo.infill("dineof")


def test_projected_grids_are_refused():
    ds = xr.Dataset({"t": (("y", "x"), np.ones((3, 4)))})
    ds.x.attrs["standard_name"] = "projection_x_coordinate"
    with pytest.raises((errors.GridError, errors.FieldNotFoundError)):
        ds.atmo.infill()


def test_constant_fields(cloudy):
    ds = cloudy[["u10"]] * 0 + np.float32(273.15)
    for method in ("tiny-infill", "auto", "climatology"):
        got = ds.atmo.infill(method)
        np.testing.assert_allclose(got.u10, np.float32(273.15), rtol=1e-6)
        np.testing.assert_allclose(got.u10_spread, 0, atol=1e-4)


@pytest.mark.parametrize("method", ["tiny-infill", "auto", "nearest", "biharmonic"])
def test_tiny_grids(truth, method):
    ds = (
        truth[["u10"]].isel(latitude=slice(2), longitude=slice(2), time=slice(1)).copy()
    )
    ds = ds.where((ds.latitude < 60) | (ds.longitude > 2))
    got = ds.atmo.infill(method)
    assert got.u10.notnull().all()


def test_nothing_at_all():
    ds = synthetic_winds(2, LATITUDE, LONGITUDE).isel(time=slice(0))
    with pytest.raises(errors.FieldError, match="nothing whose gaps"):
        ds.atmo.infill()


def test_the_summary_says_that_it_fits(cloudy):
    fit = repr(cloudy.atmo).split("Models that fit:")[1]
    said = [line.split(maxsplit=1) for line in fit.splitlines()]
    assert ["tiny-infill", ".infill(), whatever the fields are"] in said
    assert "any quantity" in repr(xatmo.load_model("tiny-infill"))


def test_the_network_fills_what_the_best_method_leaves(infiller):
    """A plain method that knows nothing of cells that were never observed."""
    rng = np.random.default_rng(0)
    time = np.arange(40) * np.timedelta64(6, "h") + np.datetime64("2020-01-01", "ns")
    pattern, course = rng.standard_normal((16, 20)), rng.standard_normal(40)
    x = (course[:, None, None] * pattern).astype(np.float32)
    da = xr.DataArray(
        x,
        {"time": time, "latitude": LATITUDE[:16], "longitude": LONGITUDE[:20]},
        name="x",
    )
    gappy = with_gaps(da, "random_50", seed=1)
    gappy[:, 6, 7:9] = np.nan
    got = gappy.atmo.infill(model="tiny-infill")
    flag = got.x_provenance
    assert (flag[:, 6, 7:9] == 1).all()
    assert got.x.notnull().all()
    others = flag.where(gappy.isnull()).copy()
    others[:, 6, 7:9] = np.nan
    assert set(np.unique(others.values[others.notnull()])) == {2}
    lazy = gappy.chunk(time=8).atmo.infill(model="tiny-infill").compute()
    _same(lazy, got, atol=1e-5)


# --- Little to go by -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["tiny-infill", "auto", "nearest"])
def test_a_single_value_says_nothing_of_the_others(truth, method):
    one = xr.zeros_like(truth.u10, bool)
    one[3, 4, 5] = True
    got = truth[["u10"]].where(one).atmo.infill(method)
    assert got.u10[3, 4, 5] == truth.u10[3, 4, 5]
    assert (got.u10_provenance == 3).sum() == one.size - 1
    assert got.u10.isnull().sum() == got.u10_spread.isnull().sum() == one.size - 1


def test_levels_that_are_all_without_values(cloudy):
    ds = xr.concat([cloudy, cloudy], "level") * np.nan
    with pytest.raises(errors.MissingValuesError, match="'u10' has no observed value"):
        ds.atmo.infill("tiny-infill")


def test_the_spread_of_maps_beside_one_without_gaps(truth):
    ds = truth[["u10"]].isel(time=slice(3)).copy(deep=True)
    ds.u10[1, 3:9, 4:12] = np.nan
    got = ds.atmo.infill("kriging")
    assert (got.u10_spread.where(ds.u10.isnull(), 1) > 0).all()


def test_what_cannot_be_tested_has_the_spread_of_the_field(truth):
    ds = truth[["u10"]].where(truth.time == truth.time[4])
    got = ds.atmo.infill("nearest")
    spread = got.u10_spread.where(ds.u10.isnull())
    # That of the means of rows, and that around them.
    found, _ = climatology(ds.u10.values, None)
    usual = np.hypot(found.scale, found.contrast)
    np.testing.assert_allclose(spread.max(), usual, rtol=1e-4)
    np.testing.assert_allclose(usual, ds.u10.std(), rtol=0.02)
    assert (spread.isnull() == ds.u10.notnull()).all()


@pytest.mark.parametrize("levels", [False, True])
def test_two_values_are_too_few_to_choose_by(truth, levels):
    ds = truth[["u10"]].isel(time=[0]).copy(deep=True)
    seen = np.zeros(ds.u10.shape, bool)
    seen[0, 3, 5] = seen[0, 15, 20] = True
    ds = ds.where(xr.DataArray(seen, dims=ds.u10.dims))
    ds = xr.concat([truth[["u10"]].isel(time=[0]), ds], "level") if levels else ds
    got = ds.atmo.infill()
    np.testing.assert_array_equal(got.u10.where(ds.u10.notnull()), ds.u10)
    assert got.u10.notnull().all()


def test_a_small_field_costs_no_large_batch(truth):
    from xatmo.testing import count_forwards

    ds = truth[["u10"]].isel(latitude=slice(2), longitude=slice(2)).copy(deep=True)
    ds.u10[:, 0, 0] = np.nan
    with count_forwards() as forwards:
        ds.atmo.infill("tiny-infill")
    assert forwards.fields == 3  # blocks of the series


@pytest.mark.parametrize("chunks", [None, {"time": 3}])
def test_land_is_no_gap_to_choose_for(truth, monkeypatch, chunks):
    """Only what the mask marks has the shapes that methods are tested on."""
    from xatmo.infilling import methods

    hide, asked = methods.hide_like, []

    def spied(*args, gaps=None, **kwargs):
        asked.append(gaps)
        return hide(*args, gaps=gaps, **kwargs)

    monkeypatch.setattr(methods, "hide_like", spied)
    sea = (
        truth[["u10"]].where(truth.longitude < 12).isel(latitude=slice(None, None, -1))
    )
    mask = xr.DataArray(gap_mask("blocks", (10, 24, 30)), dims=truth.u10.dims)
    mask = mask & (truth.longitude < 12)
    ds = sea if chunks is None else sea.chunk(chunks)
    ds.atmo.infill("auto", mask=mask.drop_vars("longitude")).compute()
    np.testing.assert_array_equal(asked[0], mask.values[:, ::-1])


def test_times_that_were_read_in_chunks(cloudy):
    """Steps of a forecast: their dates are no index, and Dask has them in chunks."""
    ds = cloudy[["u10"]].rename(time="step").reset_coords(drop=True)
    ds = ds.assign_coords(
        step=np.arange(10) * np.timedelta64(6, "h"),
        valid_time=("step", cloudy.time.values),
    )
    with raise_if_computes():
        lazy = ds.chunk(step=3).atmo.infill("tiny-infill")
    np.testing.assert_allclose(lazy.u10, ds.atmo.infill("tiny-infill").u10, atol=1e-5)


def test_filled_values_do_not_overflow_the_packing_of_the_file(tmp_path):
    """A hole may hold more than what was observed: in packed integers it would wrap."""
    latitude, longitude = LATITUDE - 48, LONGITUDE - 17
    hill = 20 - np.add.outer(latitude**2, longitude**2) / 20
    u = xr.DataArray(
        hill.astype(np.float32)[None],
        {"time": [0], "latitude": LATITUDE, "longitude": LONGITUDE},
        name="u",
    )
    u = u.where(~gap_mask("centre_hole", u.shape))
    low, high = float(u.min()), float(u.max())
    u.encoding = {
        "dtype": "int16",
        "scale_factor": (high - low) / 65532,
        "add_offset": (high + low) / 2,
        "_FillValue": np.int16(-32767),
        "zlib": True,
    }
    u.to_netcdf(tmp_path / "packed.nc")
    with xr.open_dataset(tmp_path / "packed.nc") as ds:
        filled = ds.atmo.infill("kriging")
    assert filled.u.max() > high
    assert filled.u.encoding["zlib"]
    filled.to_netcdf(tmp_path / "filled.nc")
    with xr.open_dataset(tmp_path / "filled.nc") as back:
        xr.testing.assert_equal(back.u, filled.u)
