"""Grids outside a model's range: refused with a call after which they are read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.testing import synthetic_winds

pytestmark = pytest.mark.filterwarnings("ignore::xatmo.errors.ExtrapolationWarning")


def _model(fine=0.7, coarse=2.0, gaussian=True):
    model = xatmo.load_model()
    grid = replace(
        model.card.grid,
        spacing=(fine, coarse),
        patch=(32, 32),
        gaussian=gaussian,
    )
    return replace(model, card=replace(model.card, grid=grid))


def _follow(ds, model, problem, **names):
    """Make the call that the error names, and embed what it gives."""
    with pytest.raises(errors.GridError, match=problem) as caught:
        ds.atmo.embed(model, **names)
    hint = caught.value.hint.split("(no detail is added): ")[-1]
    known = {"ds": ds, "np": np, "xr": xr}
    if hint.startswith("import xarray_regrid"):
        pytest.importorskip("xarray_regrid")
        assert 'pip install "xatmo[regrid]"' in str(caught.value)
        exec(hint, known)  # noqa: S102 - the message promises that it runs
    else:
        known["ds"] = eval(hint, known)  # noqa: S307 - the same
    fitting = known["ds"]
    z = fitting.atmo.embed(model, **names)
    assert np.isfinite(z).all()
    return fitting, hint


def _globe(rows, columns, start=0.0):
    lat = np.linspace(90, -90, rows)
    return synthetic_winds(1, lat, start + np.arange(columns) * 360 / columns)


def _region(lat, lon):
    return synthetic_winds(1, np.asarray(lat), np.asarray(lon))


def _nodes(count):
    return np.degrees(np.arcsin(np.polynomial.legendre.leggauss(count)[0]))[::-1]


def _turned(ds):
    return ds.roll(longitude=33, roll_coords=True)


FINE = {
    "globe": _globe(361, 720),
    "from -180": _globe(361, 720, start=-180),
    "turned": _turned(_globe(361, 720)),
    "south to north": _globe(361, 720).isel(latitude=slice(None, None, -1)),
    "a point twice": _region(np.linspace(90, -90, 361), np.arange(721) * 0.5),
    "region": _region(np.arange(60, 20, -0.25), np.arange(0, 40, 0.25)),
    "as large as it must be": _region(
        np.arange(105) * 0.25 + 20, np.arange(121) * 0.25 + 120
    ),
    "over the date line": _region(
        np.arange(20, 60, 0.25), (np.arange(160, 200, 0.25) + 180) % 360 - 180
    ),
    "over Greenwich": _region(np.arange(20, 60, 0.25), np.arange(-20, 20, 0.25) % 360),
    "Greenwich, sorted": _region(
        np.arange(20, 60, 0.25), np.arange(-20, 20, 0.25) % 360
    ).sortby("longitude"),
    "MERRA-2": _globe(361, 576),
    "one axis": _region(np.arange(60, 10, -0.5), np.arange(0, 50, 0.9)),
    "Gaussian": _region(_nodes(400), np.arange(800) * 0.45),
}


@pytest.mark.parametrize("ds", FINE.values(), ids=FINE)
def test_too_fine_is_averaged_in_blocks(ds):
    fitting, hint = _follow(ds, _model(), "too fine")
    assert ".coarsen(" in hint
    before, after = (x.atmo.summary().found.spacing for x in (ds, fitting))
    assert ("global" in after) == ("global" in before)


def test_blocks_are_in_the_users_names():
    ds = FINE["region"].rename(latitude="lat_2", longitude="XLON")
    _, hint = _follow(ds, _model(), "too fine")
    assert hint == "ds.coarsen(lat_2=5, XLON=5, boundary='trim').mean()"


def test_a_circle_stays_closed():
    """1024 columns are 341 blocks of three and one left over: four fit."""
    fitting, hint = _follow(_globe(257, 1024), _model(0.9, 1.6), "too fine")
    assert "longitude=4" in hint
    assert fitting.sizes["longitude"] == 256


@pytest.mark.parametrize(
    "ds",
    [
        _globe(301, 600),
        _region(np.arange(60, 0, -0.6), np.arange(0, 60, 0.6)),
        _region(np.arange(0, 60, 0.6), np.arange(0, 60, 0.6)).rename(
            latitude="lat_2", longitude="lon_2"
        ),
        _region(np.arange(0, 60, 0.6), (np.arange(150, 210, 0.6) + 180) % 360 - 180),
    ],
    ids=["globe", "region", "names", "date line"],
)
def test_where_no_blocks_fit_it_is_regridded(ds):
    fitting, hint = _follow(ds, _model(0.9, 1.1), "too fine")
    assert ".regrid.conservative(" in hint
    steps = np.diff(fitting[next(d for d in fitting.dims if "lon" in d)])
    assert 0.9 <= np.abs(np.median(steps)) <= 1.1


COARSE = {
    "globe": _globe(37, 72),
    "names": _globe(37, 72).rename(latitude="LAT_2", longitude="XLON"),
    "Gaussian": _region(_nodes(32), np.arange(64) * 5.625),
    "region": _region(np.arange(70, -71, -5.0), np.arange(-100, 100, 5.0)),
    "one axis": _region(np.arange(60, -60, -0.5), np.arange(0, 150, 3.0)),
    "turned": _turned(_globe(37, 72)),
}


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("ds", COARSE.values(), ids=COARSE)
def test_too_coarse_is_interpolated(ds, lazy):
    ds = ds.chunk(time=1) if lazy else ds
    fitting, hint = _follow(ds, _model(), "too coarse")
    assert ".regrid.linear(" in hint
    before, after = (x.atmo.summary().found.spacing for x in (ds, fitting))
    assert ("global" in after) == ("global" in before)


def test_interpolated_values_stay_where_they_were():
    ds = _globe(73, 144)
    fitting, _ = _follow(ds, _model(0.7, 1.4), "too coarse")
    lat, lon = fitting.latitude[5:20], fitting.longitude[3:40]
    expected = ds.interp(latitude=lat, longitude=lon)
    got = fitting.sel(latitude=lat, longitude=lon)
    np.testing.assert_allclose(got.u10, expected.u10, atol=1e-4)


def test_a_model_for_such_grids_is_named_first(monkeypatch):
    other = replace(_model(2.0, 6.0).card, name="for-coarse-grids")
    monkeypatch.setattr("xatmo.gridfit.list_models", lambda: [_model().card, other])
    with pytest.raises(errors.GridError, match="model='for-coarse-grids', which reads"):
        COARSE["globe"].atmo.embed(_model())


def test_gaussian_where_only_equal_steps_are_read():
    ds = _region(_nodes(96), np.arange(192) * 1.875)
    _follow(ds, _model(gaussian=False), "does not read Gaussian grids")


def test_blocks_of_gaussian_latitudes_are_of_no_use_there(monkeypatch):
    model = _model(3.0, 5.2, gaussian=False)
    monkeypatch.setattr("xatmo.gridfit.list_models", lambda: [model.card])
    ds = _region(_nodes(96), np.arange(192) * 1.875)
    _, hint = _follow(ds, model, "too fine")
    assert ".regrid.conservative(" in hint


@pytest.mark.parametrize(
    ("ds", "found"),
    [
        (_region(np.arange(50, 40, -0.25), np.arange(0, 10, 0.25)), "40 x 40"),
        (_region(np.arange(50, 30, -5.0), np.arange(0, 15, 5.0)), "4 x 3"),
        (_region(np.arange(50, 30, -1.0), np.arange(0, 60, 1.0)), "20 x 60"),
    ],
    ids=["fine", "coarse", "right"],
)
def test_too_small_whatever_is_done(ds, found):
    with pytest.raises(errors.GridError, match=f"(?s)too small.*{found}.*larger"):
        ds.atmo.embed(_model())


def test_projected_grids_are_not_sent_to_a_rectilinear_regridder(data):
    ds = xr.open_dataset(data / "edge/era5_utm32_projected_xy_37lev_nan.nc")
    with pytest.raises(errors.GridError, match=r"(?s)projected.*xesmf"):
        ds.atmo.embed()


@pytest.mark.parametrize(
    ("name", "problem", "options"),
    [
        ("train/gfs_uv10_japan_0p25_3h_20260707-20260808.nc", "too fine", {}),
        ("speedy-t63/coarse-32x64_6h.nc", "too coarse", {"level": "sigma 0.95"}),
        ("edge/cam_uvt_T42_14lev_lon-180_1time.nc", "too coarse", {}),
        ("edge/ncep_r2_oddnames_5lev_6h_20050808.nc", "too coarse", {"level": 850}),
        ("multi/era5_uv850_z500_wpacific_0p25_1h_20170801.nc", "too fine", {}),
    ],
)
def test_real_files(data, name, problem, options):
    ds = xr.open_dataset(data / name, chunks={})
    if "cam" in name:
        ds = ds[["U", "V"]].isel(lev=[0])
        options = {"level": "850 hPa"}
        ds = ds.squeeze("lev", drop=True)
    times = [d for d in ds.dims if "time" in str(d)]
    _follow(ds.isel(dict.fromkeys(times, slice(1))), _model(), problem, **options)
