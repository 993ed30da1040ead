"""embed() with models of boxes: where vectors lie, and what they are."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.fields import area_weights
from xatmo.testing import count_forwards, raise_if_computes, synthetic_winds


@pytest.fixture(scope="module")
def model(make_box_model):
    return make_box_model()


@pytest.fixture(scope="module")
def winds():
    """18 rows and 22 columns are 4 and 5 tokens, and a rest of two."""
    return synthetic_winds(6, np.arange(50.0, 32.0, -1.0), np.arange(350.0, 372.0))


@pytest.fixture(scope="module")
def known(winds, model):
    return winds.atmo.embed(model)


def test_a_vector_for_each_token(known, winds):
    assert known.dims == ("time", "latitude", "longitude", "feature")
    assert known.shape == (6, 4, 5, 32)
    assert np.isfinite(known).all()
    blocks = winds.coarsen(latitude=4, longitude=4, boundary="trim").mean()
    np.testing.assert_allclose(known.latitude, blocks.latitude)
    np.testing.assert_allclose(known.longitude, blocks.longitude)
    assert known.field.values.tolist() == ["u"] * 16 + ["v"] * 16
    left = "latitude 34, 33; longitude 370, 371"
    assert known.attrs["points_left_out"] == left
    assert known.attrs["fields_used"] == "u at 10 m, v at 10 m"
    assert known.attrs["layer"] == "encoder2"
    xr.testing.assert_equal(known.time, winds.time)


def test_is_what_the_network_knows_of_one_box(make_box_model, model):
    import torch

    ds = synthetic_winds(4, np.arange(40.0, 32.0, -1.0), np.arange(10.0, 18.0))
    x = np.stack([ds.u10.values, ds.v10.values])[None] / 8.0
    when = [[2020, 0, 6.0 * hour] for hour in range(4)]
    with torch.inference_mode():
        said = model.network().states(
            torch.tensor(x).float(),
            torch.tensor([when]).float(),
            torch.tensor(ds.latitude.values[None]).float(),
            torch.tensor(ds.longitude.values[None]).float(),
            1.0,
            layer=1,
            present=(("u", (0,)), ("v", (0,))),
        )
    z = ds.atmo.embed(model, layer="encoder1").isel(time=-1)
    np.testing.assert_allclose(z, said[0].movedim(0, -1).numpy(), atol=1e-5)


def test_layers(winds, model, known):
    first = winds.atmo.embed(model, layer="encoder0")
    assert first.shape == known.shape
    assert float(abs(first - known).mean()) > 0.01
    with pytest.raises(
        errors.OptionError, match=r"(?s)no layer.*'encoder2', 'encoder1'"
    ):
        winds.atmo.embed(model, layer="block3")


def test_mean_is_weighted_by_area(winds, model, known):
    mean = winds.atmo.embed(model, reduce="mean")
    assert mean.dims == ("time", "feature")
    rows = xr.DataArray(area_weights(known.latitude.values), dims="latitude")
    expected = known.weighted(rows).mean(["latitude", "longitude"])
    np.testing.assert_allclose(mean, expected, atol=1e-5)


@pytest.mark.parametrize(
    "chunks",
    [{"time": 1}, {"time": (4, 2), "latitude": 5, "longitude": 7}, {"longitude": 1}],
    ids=str,
)
def test_any_chunks_give_the_same(winds, model, known, chunks):
    ds = winds.chunk(chunks)
    with raise_if_computes(), count_forwards() as counted:
        lazy = ds.atmo.embed(model)
    assert counted.calls == 0
    assert lazy.chunksizes["time"] == ds.chunksizes["time"]
    np.testing.assert_allclose(lazy.compute(), known, rtol=0, atol=1e-5)


def test_earlier_times_that_are_missing_are_unknown(winds, model, known):
    one = winds.isel(time=5).atmo.embed(model)
    assert one.dims == ("latitude", "longitude", "feature")
    last = winds.isel(time=[5]).atmo.embed(model).isel(time=0)
    np.testing.assert_allclose(one, last, atol=1e-6)
    assert float(abs(one - known.isel(time=5)).max()) > 1e-4
    four = winds.isel(time=slice(2, 6)).atmo.embed(model).isel(time=-1)
    np.testing.assert_allclose(four, known.isel(time=5), atol=1e-5)


def test_turning_the_globe_turns_the_embedding(model):
    globe = synthetic_winds(1)
    a = globe.atmo.embed(model)
    west = globe.assign_coords(longitude=(globe.longitude + 180) % 360 - 180)
    b = west.sortby("longitude").isel(latitude=slice(None, None, -1)).atmo.embed(model)
    assert float(b.longitude.min()) < 0
    assert float(b.latitude[0]) < float(b.latitude[-1])
    b = b.assign_coords(longitude=b.longitude % 360).sortby("longitude")
    b = b.sortby("latitude", ascending=False)
    np.testing.assert_allclose(a.longitude, b.longitude)
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_users_order_and_type(winds, model, known):
    ds = winds.transpose("longitude", "latitude", "time").astype("float64")
    z = ds.atmo.embed(model)
    assert z.dims == ("longitude", "latitude", "time", "feature")
    assert z.dtype == np.float64
    np.testing.assert_allclose(z.transpose(*known.dims), known, atol=1e-5)


def test_models_of_maps_are_not_affected(winds):
    ds = synthetic_winds(1, np.arange(60.0, 20.0, -1.0), np.arange(10.0, 58.0))
    assert "xatmo_model" in ds.atmo.embed().attrs
    assert ds.atmo.embed().attrs["xatmo_model"].startswith("atmodist")


def test_domains_smaller_than_a_token(make_box_model):
    grid = {
        "spacing": [0.9, 2.1],
        "patch": [2, 2],
        "stride": 4,
        "halo": "global",
    }
    model = make_box_model("tiny-any-size", card={"grid": grid})
    ds = synthetic_winds(2, np.arange(40.0, 37.0, -1.0), np.arange(10.0, 18.0))
    with pytest.raises(errors.GridError, match=r"(?s)too small.*3 x 8.*4 x 4"):
        ds.atmo.embed(model)


def test_other_time_steps(winds, model):
    with pytest.raises(errors.TimeAxisError, match=r"(?s)every 12 h.*every 6 h"):
        winds.isel(time=slice(None, None, 2)).atmo.embed(model)
