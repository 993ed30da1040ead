"""Whatever the chunks, order and orientation: the same numbers (<= 1e-5)."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xatmo
from xatmo.engine import finer, gaps
from xatmo.testing import synthetic_winds
from xatmo.testing.gaps import with_gaps

_WINDS = synthetic_winds(4, np.arange(55.0, 22.0, -1.0), np.arange(340.0, 374.0))
_DIMS = ("time", "latitude", "longitude")

examples = settings(
    max_examples=200, deadline=None, suppress_health_check=list(HealthCheck)
)


@st.composite
def presentations(draw: st.DrawFn, winds: xr.Dataset = _WINDS) -> xr.Dataset:
    """The same winds in some order, orientation, longitude convention and chunking."""
    ds = winds.transpose(*draw(st.permutations(_DIMS)))
    if draw(st.booleans()):
        ds = ds.isel(latitude=slice(None, None, -1))
    if draw(st.booleans()):
        west = (ds.longitude + 180) % 360 - 180
        ds = ds.assign_coords(longitude=west)
    return ds.chunk({d: draw(_chunks(ds.sizes[d])) for d in _DIMS})


@st.composite
def _chunks(draw: st.DrawFn, size: int) -> tuple[int, ...]:
    cuts = sorted(draw(st.sets(st.integers(1, size - 1), max_size=3)))
    return tuple(np.diff([0, *cuts, size]).tolist())


def _canonical(da: xr.DataArray, *extra: str) -> xr.DataArray:
    da = da.assign_coords(longitude=(da.longitude + 180) % 360)
    da = da.sortby("latitude", ascending=False).sortby("longitude")
    return da.transpose("time", "latitude", "longitude", *extra)


@pytest.fixture(scope="module")
def embedding() -> xr.DataArray:
    return _canonical(_WINDS.atmo.embed(), "feature")


@pytest.fixture(scope="module")
def distances() -> xr.DataArray:
    return _canonical(_WINDS.atmo.distance(_WINDS.isel(time=0)))


@pytest.fixture(scope="module")
def probabilities() -> xr.DataArray:
    return _maps(_WINDS)


def _maps(ds: xr.Dataset) -> xr.DataArray:
    """Probabilities, entropies and so on, along a dimension."""
    lag = f"{xatmo.load_model().card.time.lags[0]}h"
    maps = ds.atmo.predictability(lag, by=None, stride=1)
    return maps.compute(scheduler="sync").to_dataarray("time")


@settings(examples, max_examples=50)
@given(ds=presentations())
def test_predictability(ds, probabilities):
    got = _canonical(_maps(ds))
    np.testing.assert_allclose(got, _canonical(probabilities), rtol=0, atol=1e-5)


@examples
@given(ds=presentations())
def test_embed(ds, embedding):
    lazy = ds.atmo.embed()
    assert lazy.dims == (*ds.u10.dims, "feature")
    assert lazy.chunksizes["time"] == ds.chunksizes["time"]
    got = _canonical(lazy.compute(scheduler="sync"), "feature")
    np.testing.assert_allclose(got, embedding, rtol=0, atol=1e-5)
    np.testing.assert_allclose(got.latitude, embedding.latitude)
    np.testing.assert_allclose(got.longitude, embedding.longitude)


@examples
@given(ds=presentations())
def test_distance(ds, distances):
    lazy = ds.atmo.distance(_WINDS.isel(time=0))
    assert lazy.dims == tuple(ds.u10.dims)
    got = _canonical(lazy.compute(scheduler="sync"))
    np.testing.assert_allclose(got, distances, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def refined(refiners) -> xr.Dataset:
    return _WINDS.atmo.downscale(model="tiny", realizations=2)


@settings(examples, max_examples=60)
@given(ds=presentations(), tile=st.sampled_from([1, 400, 2**17]))
def test_downscale(ds, tile, refined):
    """Also in tiles smaller than the halo is wide, and whatever the orientation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finer, "TILE_POINTS", tile)
        lazy = ds.atmo.downscale(model="tiny", realizations=2)
        assert lazy.u10.dims == ("realization", *ds.u10.dims)
        assert lazy.chunksizes["time"] == ds.chunksizes["time"]
        for dim in ("latitude", "longitude"):
            cut = tuple(4 * n for n in ds.chunksizes[dim])
            assert lazy.chunksizes[dim] == cut
        got = lazy.compute(scheduler="sync")
    for name in ("u10", "v10"):
        a, b = (_canonical(d[name], "realization") for d in (got, refined))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
        np.testing.assert_allclose(a.latitude, b.latitude)
        np.testing.assert_allclose(a.longitude, b.longitude)


_HOLED = with_gaps(_WINDS, "clouds", scale=4, duration=1)


@pytest.fixture(scope="module")
def whole(infiller) -> xr.Dataset:
    return _HOLED.atmo.infill("tiny-infill")


@settings(examples, max_examples=60)
@given(data=st.data(), tile=st.sampled_from([1, 2**20]))
def test_infill(data, tile, whole):
    """In any chunks, order and orientation, and in tiles; observed cells to the bit."""
    ds = data.draw(presentations(_HOLED))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gaps, "TILE_POINTS", tile)
        lazy = ds.atmo.infill("tiny-infill")
        assert lazy.u10.dims == ds.u10.dims
        assert lazy.u10.chunks == ds.u10.chunks
        got = lazy.compute(scheduler="sync")
    for name in whole:
        a, b = (_canonical(d[name]) for d in (got, whole))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    seen = ds.u10.notnull().compute()
    np.testing.assert_array_equal(got.u10.where(seen), ds.u10)


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_schedulers(scheduler, embedding):
    z = _WINDS.chunk(time=1).atmo.embed().compute(scheduler=scheduler)
    np.testing.assert_allclose(_canonical(z, "feature"), embedding, rtol=0, atol=1e-5)


def test_a_field_gets_the_same_bits_in_any_company():
    whole = _WINDS.atmo.embed()
    with xatmo.set_options(batch_size=None):
        alone = _WINDS.isel(time=[2]).atmo.embed()
    np.testing.assert_array_equal(alone.isel(time=0), whole.isel(time=2))
