"""embed(): shapes, coordinates, orientation, options, and every bad input."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.fields import area_weights


def _layer(name="block3"):
    """Stride and features of a layer of the default model."""
    layers = xatmo.load_model().card.layers
    return layers.stride[name], layers.features[name]


def test_gives_a_map_of_vectors(winds):
    z = winds.atmo.embed()
    stride, features = _layer()
    assert z.dims == ("time", "latitude", "longitude", "feature")
    assert z.shape == (5, 40 // stride, 48 // stride, features)
    assert z.dtype == np.float32
    assert np.isfinite(z).all()


def test_coordinates_are_the_centres_of_cells(winds):
    z = winds.atmo.embed()
    stride, _ = _layer()
    blocks = winds.coarsen(latitude=stride, longitude=stride).mean()
    np.testing.assert_allclose(z.latitude, blocks.latitude)
    np.testing.assert_allclose(z.longitude, blocks.longitude)
    assert z.latitude.attrs["units"] == "degrees_north"
    xr.testing.assert_equal(z.time, winds.time)


def test_cells_of_odd_sizes_lie_where_padding_puts_them(globe):
    z = globe.atmo.embed("atmodist-vortdiv")  # 91 rows from pole to pole: 46, 23, 12
    np.testing.assert_allclose(z.latitude, np.arange(88, -89, -16))


@pytest.mark.parametrize("size", [96, 121, 181])
def test_coordinates_are_where_the_network_looks(size):
    """By the gradient, in wind-like fields, though no kernel is symmetric."""
    import torch

    from xatmo.fields import read
    from xatmo.fields.grid import _centres
    from xatmo.zoo import normalizer

    latitude = np.linspace(80.0, 80.0 - 0.85 * size, size)
    ds = xatmo.testing.synthetic_winds(4, latitude, np.arange(0.0, 64.0))
    model = xatmo.load_model()
    network, stride = model.network(), _layer()[0]
    quantities = [i.quantity for i in model.card.inputs]
    fields = read(ds, quantities).data
    x = torch.from_numpy(np.stack([fields[q].values for q in quantities], axis=1))
    x = normalizer(model.card, model.card.levels[0])(x).requires_grad_()
    y, rows = network.encode(x), torch.arange(size, dtype=torch.float32)
    said = _centres(np.arange(size, dtype=float), stride)
    offsets = []
    for cell in range(40 // stride, y.shape[2] - 40 // stride):
        target = y[:, :, cell, y.shape[3] // 2].square().sum()
        (grad,) = torch.autograd.grad(target, x, retain_graph=True)
        energy = grad.square().sum((0, 1, 3))
        offsets.append(float((energy * rows).sum() / energy.sum()) - said[cell])
    assert abs(np.mean(offsets)) < 1.6


@pytest.mark.parametrize("layer", ["block3", "block2"])
def test_layers(winds, layer):
    stride, features = _layer(layer)
    z = winds.isel(time=0).atmo.embed(layer=layer)
    assert z.shape == (40 // stride, 48 // stride, features)


def test_is_the_network_on_normalised_fields(winds):
    """The verb adds nothing of its own: the same numbers by hand."""
    import torch

    from xatmo.fields import read
    from xatmo.zoo import normalizer

    model = xatmo.load_model()
    fields = read(winds, [i.quantity for i in model.card.inputs]).data
    x = np.stack([fields[i.quantity].values for i in model.card.inputs], axis=1)
    with torch.inference_mode():
        scaled = normalizer(model.card, model.card.levels[0])(torch.from_numpy(x))
        expected = model.network().encode(scaled).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(winds.atmo.embed().values, expected, atol=2e-5)


def test_mean_is_weighted_by_area(winds):
    z = winds.atmo.embed()
    rows = area_weights(z.latitude.values)
    expected = z.weighted(xr.DataArray(rows, dims="latitude")).mean(
        ["latitude", "longitude"]
    )
    got = winds.atmo.embed(reduce="mean")
    assert got.dims == ("time", "feature")
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "order", [("longitude", "time", "latitude"), ("latitude", "longitude", "time")]
)
def test_comes_back_in_the_users_order(winds, order):
    z = winds.transpose(*order).atmo.embed()
    assert z.dims == (*order, "feature")
    expected = winds.atmo.embed()
    np.testing.assert_allclose(z.transpose(*expected.dims), expected, atol=1e-5)


def test_comes_back_in_the_users_orientation(winds):
    flipped = winds.isel(latitude=slice(None, None, -1))
    z = flipped.atmo.embed()
    assert z.latitude[0] < z.latitude[-1]
    np.testing.assert_allclose(
        z.sortby("latitude", ascending=False), winds.atmo.embed(), atol=1e-5
    )


def test_date_line_leaves_no_trace(globe):
    """Both longitude conventions see the same closed circle."""
    z = globe.atmo.embed()
    west = globe.assign_coords(longitude=(globe.longitude + 180) % 360 - 180)
    w = west.sortby("longitude").atmo.embed()
    assert float(w.longitude.min()) < 0
    w = w.assign_coords(longitude=w.longitude % 360).sortby("longitude")
    expected = z.assign_coords(longitude=z.longitude % 360).sortby("longitude")
    np.testing.assert_allclose(w, expected, atol=1e-5)


def test_turning_the_globe_turns_the_embedding():
    """Circular padding: a shift by whole cells is only a shift."""
    globe = xatmo.testing.synthetic_winds(1, longitude=np.arange(0, 360, 360 / 184))
    turned = globe.roll(longitude=40, roll_coords=False)
    a, b = globe.atmo.embed(), turned.atmo.embed()
    np.testing.assert_allclose(np.roll(a, 40 // _layer()[0], axis=2), b, atol=1e-4)


def test_data_array_forms(winds):
    stacked = winds.to_dataarray("variable")
    channel = winds.to_dataarray("channel")
    expected = winds.atmo.embed()
    np.testing.assert_allclose(stacked.atmo.embed(), expected, atol=1e-5)
    np.testing.assert_allclose(channel.atmo.embed(), expected, atol=1e-5)
    tree = xr.DataTree.from_dict({"/surface": winds})
    np.testing.assert_allclose(tree["surface"].atmo.embed(), expected, atol=1e-5)


def test_double_precision_comes_back_double(winds):
    assert winds.astype("float64").atmo.embed().dtype == np.float64


def test_chunks_come_back(winds):
    z = winds.chunk(time=(2, 2, 1)).atmo.embed()
    assert z.chunksizes["time"] == (2, 2, 1)


def test_attributes_are_written_not_inherited(winds):
    ds = winds.assign_attrs(history="made for a test")
    z = ds.atmo.embed()
    assert z.name == "embedding"
    assert z.attrs["units"] == "1"
    assert z.attrs["xatmo_model"].startswith("atmodist-small")
    first, last = z.attrs["history"].split("\n")
    assert first == "made for a test"
    assert "embed(" in last
    assert xatmo.load_model().card.weights.sha256 in last


def test_levels_are_kept(winds):
    levels = xr.DataArray([850, 500], dims="level", attrs={"units": "hPa"})
    ds = winds.rename(u10="u", v10="v").expand_dims(level=levels, axis=1)
    with pytest.warns(errors.ExtrapolationWarning, match="500 hPa"):
        z = ds.atmo.embed()
    assert z.dims == ("time", "level", "latitude", "longitude", "feature")
    one = ds.atmo.embed(level=850)
    np.testing.assert_allclose(z.sel(level=850), one.squeeze(drop=True), atol=1e-5)


def test_without_time(winds):
    assert winds.isel(time=0).atmo.embed().dims == ("latitude", "longitude", "feature")


# --- Bad input ----------------------------------------------------------------------


def test_no_winds(winds):
    ds = winds.rename(u10="t2m", v10="d2m")
    ds.t2m.attrs = ds.d2m.attrs = {"units": "K"}
    with pytest.raises(KeyError, match=r"(?s)wind.*found:.*t2m.*try:"):
        ds.atmo.embed()


def test_wrong_units(winds):
    ds = winds.copy()
    ds["u10"] = ds.u10.assign_attrs(units="K")
    with pytest.raises(errors.UnitsError, match=r"(?s)u10.*K.*m s-1"):
        ds.atmo.embed()


def test_too_coarse():
    ds = xatmo.testing.synthetic_winds(
        1, np.arange(90, -91, -5.0), np.arange(0, 360, 5.0)
    )
    with pytest.raises(
        errors.GridError,
        match=r"(?s)too coarse.*5 x 5°.*0\.7 and 2°.*ds\.regrid\.linear\(",
    ):
        ds.atmo.embed()


def test_too_fine_names_a_call_that_works(winds):
    lat, lon = np.arange(60, 20, -0.25), np.arange(0, 40, 0.25)
    ds = xatmo.testing.synthetic_winds(1, lat, lon)
    with pytest.raises(
        ValueError, match=r"(?s)too fine.*0\.25.*ds\.coarsen\("
    ) as caught:
        ds.atmo.embed()
    call = str(caught.value).split("try:")[1].strip()
    coarse = eval(call, {"ds": ds})  # noqa: S307 - the message promises that it runs
    assert coarse.atmo.embed().sizes["feature"] == _layer()[1]


def test_too_small(winds):
    with pytest.raises(errors.GridError, match=r"(?s)too small.*20 x 48.*32 x 32"):
        winds.isel(latitude=slice(20)).atmo.embed()


def test_missing_values_raise_with_the_names(winds):
    ds = winds.copy(deep=True)
    ds["u10"][1, 5, 5] = np.nan
    with pytest.raises(
        errors.MissingValuesError, match=r"(?s)NaN.*in u10:.*set_options"
    ):
        ds.atmo.embed()
    lazy = ds.chunk(time=1).atmo.embed()
    with pytest.raises(errors.MissingValuesError, match="in u10:"):
        lazy.compute()


def test_missing_values_propagate_on_request(winds):
    ds = winds.copy(deep=True)
    ds["u10"][1, 5, 5] = np.nan
    with xatmo.set_options(missing="propagate"):
        z = ds.atmo.embed()
        lazy = ds.chunk(time=2).atmo.embed()
    gone = np.isnan(z).all(["latitude", "longitude", "feature"])
    assert gone.values.tolist() == [False, True, False, False, False]
    np.testing.assert_allclose(
        z.dropna("time"), winds.atmo.embed().isel(time=[0, 2, 3, 4]), atol=1e-5
    )
    np.testing.assert_allclose(lazy, z, atol=1e-5)  # the option was caught at the call


def test_unknown_model(winds):
    with pytest.raises(
        KeyError, match=r"(?s)atmodist-smal\b.*atmodist-small.*list_models"
    ):
        winds.atmo.embed("atmodist-smal")


def test_unknown_layer(winds):
    with pytest.raises(
        errors.OptionError, match=r"(?s)no layer 'block9'.*'block3', 'block2'"
    ):
        winds.atmo.embed(layer="block9")


def test_arguments_are_checked_before_anything_is_said(sample, recwarn):
    with pytest.raises(errors.OptionError, match="no layer 'bad'"):
        sample.atmo.embed(layer="bad")
    with pytest.raises(errors.OptionError, match="no layer 'bad'"):
        sample.atmo.distance(pairwise=True, layer="bad")
    assert not [w for w in recwarn if w.category is errors.ExtrapolationWarning]


def test_unknown_reduction(winds):
    with pytest.raises(errors.OptionError, match=r"(?s)'median'.*'mean'"):
        winds.atmo.embed(reduce="median")


def test_chunks_where_a_network_sees_everything(winds):
    """A card that says so refuses chunked maps, and names the call that helps."""
    from dataclasses import replace

    model = xatmo.load_model("atmodist-vortdiv")
    grid = replace(model.card.grid, halo="global")
    model = replace(model, card=replace(model.card, grid=grid))
    ds = winds.copy()
    ds["vo"] = ("time", "latitude", "longitude"), winds.u10.values * 1e-5
    ds["d"] = ds.vo * 0.5
    for name, said in (
        ("vo", "atmosphere_relative_vorticity"),
        ("d", "divergence_of_wind"),
    ):
        ds[name].attrs = {"standard_name": said, "units": "s-1", "level": "10 m"}
    ds = ds.drop_vars(["u10", "v10"])
    with pytest.raises(
        errors.ChunkError, match=r"(?s)longitude is chunked.*3 chunks.*ds\.chunk"
    ):
        ds.chunk(longitude=16).atmo.embed(model, level="10 m")


def test_gpu_that_is_not_there(winds):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with (
        xatmo.set_options(device="cuda"),
        pytest.raises(
            errors.OptionError,
            match=r"(?s)'cuda' cannot be used.*CUDA available: False",
        ),
    ):
        winds.atmo.embed()


@pytest.mark.gpu
def test_gpu_gives_the_same_numbers(winds):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    with xatmo.set_options(device="cuda"):
        there = winds.atmo.embed()
    np.testing.assert_allclose(there, winds.atmo.embed(), rtol=1e-3, atol=1e-3)


def test_too_coarse_names_a_call_that_works():
    pytest.importorskip("xarray_regrid")
    lat, lon = np.arange(70, -71, -5.0), np.arange(-100, 100, 5.0)
    ds = xatmo.testing.synthetic_winds(1, lat, lon)
    with pytest.raises(errors.GridError, match="too coarse") as caught:
        ds.atmo.embed()
    call = str(caught.value).split("interpolate (no detail is added):")[1].strip()
    names = {"ds": ds, "np": np, "xr": xr}
    exec(call, names)  # noqa: S102 - the message promises that it runs
    assert np.isfinite(names["ds"].atmo.embed()).all()


def test_too_fine_and_too_small_at_once():
    """Coarsening alone would not help: the message says so at once."""
    lat, lon = np.arange(50, 40, -0.25), np.arange(0, 10, 0.25)
    ds = xatmo.testing.synthetic_winds(1, lat, lon)
    with pytest.raises(
        errors.GridError, match=r"(?s)too small.*32 x 32 points, at a spacing"
    ):
        ds.atmo.embed()


def test_a_model_by_number(winds):
    with pytest.raises(errors.ModelNotFoundError, match=r"(?s)by its name.*3, int"):
        winds.atmo.embed(3)


def test_the_level_is_in_the_attributes(winds):
    assert winds.atmo.embed().attrs["level"] == "10 m"


def test_which_kind_of_level_was_read_is_said(winds):
    both = winds.assign(u850=2 * winds.u10, v850=2 * winds.v10)
    z = both.atmo.embed()
    np.testing.assert_array_equal(z, winds.atmo.embed())
    assert z.attrs["level"] == "10 m"
    assert "10 m read, not 850 hPa; level= chooses others" in z.attrs["comment"]


def test_vorticity_and_divergence_alone_are_read_by_the_model_that_knows_them(winds):
    """The default model reads winds; its sibling takes over where there are none."""
    v, d = xatmo.fields.vorticity_divergence(
        winds.u10, winds.v10, periodic=False, dims=("latitude", "longitude")
    )
    for field, name in (
        (v, "atmosphere_relative_vorticity"),
        (d, "divergence_of_wind"),
    ):
        field.attrs = {"standard_name": name, "units": "s-1", "level": "10 m"}
    alone = xr.Dataset({"vo": v, "d": d})
    z = alone.atmo.embed(level="10 m")
    assert z.attrs["xatmo_model"].startswith("atmodist-vortdiv")
    assert alone.atmo.distance(alone.isel(time=0), level="10 m").min() == 0
    with pytest.raises(errors.FieldNotFoundError, match="eastward_wind"):
        alone.atmo.embed("atmodist-small", level="10 m")
