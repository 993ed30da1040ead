"""attention(): whose probabilities these are, their labels, and every bad input."""

from __future__ import annotations

import datetime as dt

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.testing import count_forwards, raise_if_computes, synthetic_winds

_REGION = (np.arange(50.0, 30.0, -1.0), np.arange(0.0, 22.0))
_TOKENS = ("time_offset", "latitude", "longitude")
_PLACE = (40.0, 12.0)


@pytest.fixture(scope="module")
def model(make_box_model):
    return make_box_model(network={"encoder_heads": 4, "coupling_heads": 2})


@pytest.fixture(scope="module")
def winds():
    return synthetic_winds(6, *_REGION)


@pytest.fixture(scope="module")
def levels(winds):
    """The same winds at two pressure levels."""
    along = xr.DataArray([850, 500], dims="level", attrs={"units": "hPa"})
    several = winds.rename(u10="u", v10="v").expand_dims(level=along, axis=1)
    return several * xr.DataArray([1.0, 1.4], dims="level").astype("float32")


@pytest.fixture(scope="module")
def known(winds, model):
    return winds.atmo.attention(model, query=_PLACE)


@pytest.fixture(scope="module")
def each(levels, model):
    return levels.atmo.attention(model, layer="all", head="all", query=_PLACE)


# --- What the numbers are -------------------------------------------------------------


def test_probabilities_of_each_source_add_up(known, each):
    dims = ("time", "field_from", "field_to", "time_offset", "latitude", "longitude")
    assert known.dims == dims
    assert known.shape == (3, 2, 2, 4, 2, 2)
    np.testing.assert_allclose(known.sum(_TOKENS), 1.0, rtol=1e-5)
    total = each.sum([*_TOKENS, "level_to"], skipna=False)
    coupled = each.field_from != each.field_to
    missing = coupled & (each["head"] > 2)
    np.testing.assert_array_equal(
        total.isnull(), missing.broadcast_like(total).transpose(*total.dims)
    )
    np.testing.assert_allclose(total.where(~missing).fillna(1.0), 1.0, rtol=1e-5)
    assert float(each.std()) > 1e-3


def test_dimensions_with_levels_layers_and_heads(each):
    assert each.dims == (
        "time", "field_from", "level_from", "field_to", "level_to", *_TOKENS,
        "layer", "head",
    )  # fmt: skip
    assert list(each.level_from.values) == ["850 hPa", "500 hPa"]
    assert list(each.layer.values) == [1, 2]
    assert list(each["head"].values) == [1, 2, 3, 4]


def _by_hand(model, levels, part, layer, when_index=3):
    """What the network itself says of the box around _PLACE, ending at a time."""
    import torch

    rows, columns = slice(4, 12), slice(6, 14)  # 46..39 N, 6..13 E
    box = levels.isel(latitude=rows, longitude=columns)
    box = box.isel(time=slice(when_index - 3, when_index + 1))
    x = np.concatenate([box.u.values, box.v.values], 1) / 8.0  # (T, C, Y, X)
    network = model.network()
    times = box.indexes["time"]
    when = np.stack([times.year, times.day_of_year - 1, times.hour], -1)
    present = {"u": (1, 2), "v": (1, 2)}
    with torch.inference_mode():
        read = network.read(
            torch.from_numpy(x.swapaxes(0, 1)[None].astype(np.float32)),
            torch.from_numpy(when)[None].float(),
            torch.tensor(box.latitude.values)[None].float(),
            torch.tensor(box.longitude.values)[None].float(),
            1.0,
            tuple(present.items()),
        )
        said = {"layer": layer, "part": part, "present": present}
        found = network.attention(read.tokens, read.info, "u", **said)
    return {name: p[0].numpy() for name, p in found.items()}


def test_is_what_the_network_says(model, levels, each):
    """The token of the second row and column: 42..39 N, 10..13 E."""
    for layer in (0, 1):
        found = _by_hand(model, levels, "encoder", layer)
        for source, heads in (("u", 4), ("v", 2)):
            probability = found[source].reshape(heads, 2, 4, 2, 2, 2, 4, 2, 2)
            expected = probability[:, :, -1, 1, 1]  # (H, V, W, T, Y, X)
            got = each.isel(time=0, layer=layer, head=slice(heads))
            got = got.sel(field_from="u", field_to=source).transpose("head", ...)
            np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_decoders_attend_to_themselves_and_to_the_encoder(model, levels):
    got = levels.atmo.attention(
        model, part="decoder", layer=2, query=_PLACE, head="all"
    )
    assert list(got.source.values) == ["decoder", "encoder"]
    assert "field_to" not in got.dims
    found = _by_hand(model, levels, "decoder", 1)
    for source, probability in found.items():
        expected = probability.reshape(1, 2, 4, 2, 2, 2, 4, 2, 2)[:, :, -1, 1, 1]
        mine = got.isel(time=0).sel(field_from="u", source=source)
        np.testing.assert_allclose(mine.transpose("head", ...), expected, rtol=1e-4)
    total = got.sum([*_TOKENS, "level_to"])
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


def test_averages_are_means_of_single_ones(levels, model, each):
    both = levels.atmo.attention(model, query=_PLACE)
    assert both.attrs["averaged_over"] == "layers, heads"
    np.testing.assert_allclose(both, each.mean(["head", "layer"]), rtol=1e-5)
    head = levels.atmo.attention(model, query=_PLACE, head=2)
    np.testing.assert_allclose(
        head, each.sel(head=2).mean("layer", skipna=False), rtol=1e-5
    )
    assert int(head["head"]) == 2
    for layer in (1, "encoder1", np.int64(1)):
        single = levels.atmo.attention(model, query=_PLACE, layer=layer)
        assert single.attrs["averaged_over"] == "heads"
        assert int(single.layer) == 1
        np.testing.assert_allclose(single, each.sel(layer=1).mean("head"), rtol=1e-5)


def test_fields_that_are_not_coupled_are_nan(make_box_model, winds):
    network = {
        "fields": [
            {"name": "u", "width": 16, "levels": 3, "tokens": [4, 2, 2],
             "token_size": [1, 4, 4], "sources": ["v"]},
            {"name": "v", "width": 16, "levels": 3, "tokens": [4, 2, 2],
             "token_size": [1, 4, 4]},
        ]
    }  # fmt: skip
    model = make_box_model("tiny-uncoupled", network=network)
    got = winds.atmo.attention(model)
    missing = got.isnull().all(_TOKENS)
    assert not missing.sel(field_from="u").any()
    assert missing.sel(field_from="v", field_to="u").all()
    assert not missing.sel(field_from="v", field_to="v").any()


def test_larger_tokens_are_shared_out(make_box_model, winds):
    """v has tokens of two times and of a whole row: sums stay what they are."""
    network = {
        "fields": [
            {"name": "u", "width": 16, "levels": 3, "tokens": [4, 2, 2],
             "token_size": [1, 4, 4], "sources": ["v"]},
            {"name": "v", "width": 16, "levels": 3, "tokens": [2, 2, 1],
             "token_size": [2, 4, 8], "sources": ["u"]},
        ]
    }  # fmt: skip
    model = make_box_model("tiny-tokens", network=network)
    got = winds.atmo.attention(model)
    np.testing.assert_allclose(got.sum(_TOKENS), 1.0, rtol=1e-5)
    shared = got.sel(field_to="v")
    np.testing.assert_array_equal(shared.isel(longitude=0), shared.isel(longitude=1))
    earlier, later = (shared.isel(time_offset=slice(i, None, 2)) for i in (0, 1))
    np.testing.assert_array_equal(earlier, later)
    assert float(shared.isel(time_offset=0).std()) > 1e-4


# --- Where, when and of what ----------------------------------------------------------


def test_the_query_is_in_its_token(known, winds):
    assert float(known.query_latitude) == 40.0
    assert float(known.query_longitude) == 12.0
    np.testing.assert_array_equal(known.latitude, [44.5, 40.5])
    np.testing.assert_array_equal(known.longitude, [7.5, 11.5])
    hours = known.time_offset.values / np.timedelta64(1, "h")
    np.testing.assert_array_equal(hours, [-18, -12, -6, 0])
    np.testing.assert_array_equal(known.time, winds.time[3:])


@pytest.mark.parametrize(
    ("query", "row", "column"),
    [
        ((50.0, 0.0), [48.5, 44.5], [1.5, 5.5]),
        ((31.0, 21.0), [36.5, 32.5], [15.5, 19.5]),
        (None, [44.5, 40.5], [6.5, 10.5]),
        ({"latitude": 43}, [47.5, 43.5], [6.5, 10.5]),
    ],
)
def test_boxes_lie_around_the_query_and_in_the_domain(winds, model, query, row, column):
    got = winds.atmo.attention(model, query=query, time=winds.time[-1].values)
    np.testing.assert_array_equal(got.latitude, row)
    np.testing.assert_array_equal(got.longitude, column)


def test_which_token_asks_matters(winds, model, known):
    """In the same box: at another of its tokens, and at an earlier time."""
    corner = winds.atmo.attention(model, query=(50.0, 0.0))
    assert not np.allclose(corner, known)
    earlier = winds.atmo.attention(
        model,
        query={"latitude": 40, "longitude": 12, "time_offset": "-6h"},
    )
    np.testing.assert_array_equal(earlier.latitude, known.latitude)
    assert earlier.query_time_offset.values == np.timedelta64(-6, "h")
    assert not np.allclose(earlier, known)


def test_a_field_and_a_level_of_the_query(levels, model):
    every = levels.atmo.attention(model, query=_PLACE)
    place = {"latitude": 40.0, "longitude": 12.0}
    for name in ("v", "northward_wind"):
        one = levels.atmo.attention(model, query={**place, "field": name})
        assert "field_from" not in one.dims
        assert str(one.field_from.values) == "v"
        xr.testing.assert_allclose(one, every.sel(field_from="v"))
    for level in (500, "500 hPa", np.int64(500)):
        one = levels.atmo.attention(model, query={**place, "level": level})
        assert "level_from" not in one.dims
        xr.testing.assert_allclose(one, every.sel(level_from="500 hPa"))


def test_levels_of_their_own_in_each_field(make_box_model, winds):
    """10 m and sigma 0.95 are the same slot; each keeps its name, others are NaN."""
    model = make_box_model("tiny-slots")
    sigma = winds.v10.assign_coords(sigma=0.95)
    sigma.sigma.attrs = {"standard_name": "atmosphere_sigma_coordinate"}
    ds = winds[["u10"]].assign(v=sigma)
    got = ds.atmo.attention(model)
    assert list(got.level_to.values) == ["10 m", "sigma 0.95"]
    there = got.notnull().any(["time", *_TOKENS, "field_from", "level_from"])
    assert there.sel(field_to="u").values.tolist() == [True, False]
    assert there.sel(field_to="v").values.tolist() == [False, True]


def test_times(winds, model, known):
    last = winds.atmo.attention(model, query=_PLACE, time="2020-01-02T06:00")
    assert "time" not in last.dims
    xr.testing.assert_allclose(last, known.isel(time=-1))
    day = winds.atmo.attention(model, query=_PLACE, time="2020-01-02")
    xr.testing.assert_allclose(day, known.sel(time="2020-01-02"))
    some = winds.atmo.attention(
        model, query=_PLACE, time=slice(dt.datetime(2020, 1, 2), None)
    )
    xr.testing.assert_allclose(some, known.isel(time=slice(1, None)))
    listed = winds.atmo.attention(model, query=_PLACE, time=winds.time[[5, 3]].values)
    xr.testing.assert_allclose(listed, known.isel(time=[2, 0]))


def test_a_single_level_is_no_dimension(levels, model):
    one = levels.atmo.attention(model, level=850)
    assert str(one.level_to.values) == "850 hPa"
    assert not {"level_from", "level_to"} & set(one.dims)


# --- In whose form --------------------------------------------------------------------


def test_nothing_is_computed_and_chunks_do_not_matter(winds, model, known):
    for chunks in ({"time": 1}, {"time": 4, "latitude": 7, "longitude": 5}):
        lazy = winds.chunk(chunks)
        with raise_if_computes(), count_forwards() as counted:
            got = lazy.atmo.attention(model, query=_PLACE)
        assert counted.calls == 0
        assert got.chunks is not None
        np.testing.assert_allclose(got, known, atol=1e-6)


def test_only_the_neighbourhood_is_read(winds, model, known):
    """Blocks that the box does not touch are never asked for."""
    seen = []

    def block(block_info=None):
        place = block_info[None]["chunk-location"]
        seen.append(place[1:])
        t, y, x = (slice(*ends) for ends in block_info[None]["array-location"])
        return winds.u10.values[t, y, x]

    lazy = winds.chunk({"time": 6, "latitude": 4, "longitude": 2})
    blocks = da.map_blocks(
        block,
        chunks=lazy.u10.data.chunks,
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    seen.clear()
    ds = winds[["v10"]].assign(u10=(winds.u10.dims, blocks, winds.u10.attrs))
    got = ds.atmo.attention(model, query=_PLACE)
    np.testing.assert_allclose(got.compute(), known, atol=1e-6)
    assert set(seen) == {(y, x) for y in (1, 2) for x in (3, 4, 5, 6)}


def test_the_seam_of_a_globe_is_nothing(model):
    """Turned columns and turned longitudes: the same box, the same numbers."""
    latitude, longitude = np.arange(60.0, 0.0, -2.0), np.arange(0.0, 360.0, 2.0)
    ds = synthetic_winds(4, latitude, longitude)
    middle = ds.atmo.attention(model, query=(30.0, 0.0))
    np.testing.assert_array_equal(middle.longitude, [-9, -1])
    turned = ds.assign_coords(longitude=(longitude + 180) % 360 - 180)
    other = turned.sortby("longitude").atmo.attention(model, query=(30.0, 0.0))
    np.testing.assert_allclose(other, middle, atol=1e-6)
    np.testing.assert_array_equal(other.longitude, [-9, -1])
    moved = ds.roll(longitude=45, roll_coords=True)
    again = moved.atmo.attention(model, query=(30.0, 360.0))
    np.testing.assert_allclose(again, middle, atol=1e-6)


def test_turning_the_globe_turns_the_answer(model, monkeypatch):
    """Of a network that is not told the longitude: the same weather elsewhere."""
    from xatmo.nets import multiformer_box

    real = multiformer_box.BoxMultiformer.read

    def unaware(self, x, when, latitude, longitude, *said):
        return real(self, x, when, latitude, 0 * longitude, *said)

    monkeypatch.setattr(multiformer_box.BoxMultiformer, "read", unaware)
    latitude, longitude = np.arange(60.0, 0.0, -2.0), np.arange(0.0, 360.0, 2.0)
    ds = synthetic_winds(4, latitude, longitude)
    east = ds.roll(longitude=45, roll_coords=False)
    before = ds.atmo.attention(model, query=(30.0, 300.0))
    after = east.atmo.attention(model, query=(30.0, 30.0))
    np.testing.assert_allclose(after, before, atol=1e-6)
    moved = after.longitude.values - before.longitude.values
    np.testing.assert_array_equal(moved % 360, 90)
    assert not np.allclose(ds.atmo.attention(model, query=(30.0, 30.0)), before)


def test_at_the_pole_the_box_is_moved_inward(model):
    ds = synthetic_winds(4)
    got = ds.atmo.attention(model, query=(90.0, 100.0))
    np.testing.assert_array_equal(got.latitude, [87, 79])
    assert float(got.query_latitude) == 90.0


def test_in_the_users_orientation(winds, model, known):
    turned = winds.rename(latitude="lat", longitude="lon").sortby("lat")
    got = turned.transpose("lat", "lon", "time").atmo.attention(model, query=_PLACE)
    assert got.dims[-2:] == ("lat", "lon")
    assert (got.lat.diff("lat") > 0).all()
    assert got.lat.attrs["units"] == "degrees_north"
    same = got.sortby("lat", ascending=False).values
    np.testing.assert_allclose(same, known.values, atol=1e-6)


def test_other_dimensions_stay(winds, model, known):
    both = xr.concat([winds, 0.5 * winds], xr.DataArray([7, 8], dims="number"))
    got = both.transpose("time", "number", ...).atmo.attention(model, query=_PLACE)
    assert got.dims[:3] == ("time", "number", "field_from")
    np.testing.assert_allclose(got.sel(number=7), known, atol=1e-6)
    assert not np.allclose(got.sel(number=8), known)


def test_missing_values_and_times_are_unknown(winds, model, known):
    gaps = winds.copy(deep=True)
    gaps.u10[4, 10, 12] = np.nan
    got = gaps.atmo.attention(model, query=_PLACE)
    assert got.notnull().all()
    xr.testing.assert_allclose(got.isel(time=0), known.isel(time=0))
    assert not np.allclose(got.isel(time=1), known.isel(time=1))
    without = winds.isel(time=[0, 1, 2, 4, 5]).atmo.attention(model, query=_PLACE)
    np.testing.assert_array_equal(without.time, winds.time[[4, 5]])
    nothing = (winds * np.nan).assign_attrs(winds.attrs)
    for name in nothing:
        nothing[name].attrs = winds[name].attrs
    assert nothing.atmo.attention(model, query=_PLACE).isnull().all()


def test_a_domain_that_is_smaller_than_a_box(winds, model):
    small = winds.isel(latitude=slice(6), longitude=slice(5))
    got = small.atmo.attention(model)
    np.testing.assert_array_equal(got.latitude, [48.5, 44.5])
    np.testing.assert_array_equal(got.longitude, [1.5, 5.5])
    np.testing.assert_allclose(got.sum(_TOKENS), 1.0, rtol=1e-5)


def test_says_what_it_is(known, model):
    assert known.name == "attention"
    assert known.attrs["units"] == "1"
    assert "encoder" in known.attrs["long_name"]
    assert known.attrs["fields_used"] == "u at 10 m, v at 10 m"
    assert model.card.weights.sha256 in known.attrs["history"]
    assert "query=(40.0, 12.0)" in known.attrs["history"]
    for name in ("field_from", "time_offset", "query_latitude"):
        assert known[name].attrs["long_name"]
    assert known.dtype == np.float32


def test_can_be_written(known, tmp_path):
    known.to_netcdf(tmp_path / "attention.nc")
    with xr.open_dataset(tmp_path / "attention.nc") as ds:
        again = ds.attention.load()
    np.testing.assert_allclose(again, known)
    assert list(again.field_to.values) == ["u", "v"]


# --- Bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ({"layer": 3}, ["has no layer 3", "1 to 2", "'encoder1' to 'encoder2'"]),
        ({"layer": 0}, ["has no layer 0", "layer=2"]),
        ({"layer": True}, ["has no layer True"]),
        ({"layer": "encoder0"}, ["has no layer 'encoder0'"]),
        ({"layer": "decoder1"}, ["no layer 'decoder1'", 'part="decoder"']),
        ({"head": 5}, ["has no head 5", "1 to 4", "head=4"]),
        ({"head": "u"}, ["has no head 'u'"]),
        ({"part": "tail"}, ["no part 'tail'", "'encoder' or 'decoder'"]),
        ({"query": (70, 12)}, ["outside the domain", "latitude from 31 to 50"]),
        ({"query": (40, 100)}, ["outside the domain", "longitude from 0 to 21"]),
        ({"query": (40,)}, ["cannot be read", "query=(50.0, 10.0)"]),
        ({"query": "Paris"}, ["cannot be read", "latitude and longitude in degrees"]),
        ({"query": (40, "east")}, ["cannot be read", "longitude is 'east'"]),
        ({"query": {"lat": 40}}, ["'lat' is no part of a query", "latitude"]),
        ({"query": {"field": "t"}}, ["no field 't'", "one of u, v"]),
        ({"query": {"level": 500}}, ["no 500 hPa that could ask", "10 m"]),
        ({"query": {"time_offset": "-3h"}}, ["offset '-3h'", "multiple of 6h"]),
        ({"query": {"time_offset": "6h"}}, ["offset '6h'", "from -18h to 0h"]),
        ({"query": {"time_offset": -24}}, ["offset -24", "from -18h to 0h"]),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for(winds, model, arguments, texts):
    with pytest.raises(errors.OptionError) as caught:
        winds.atmo.attention(model, **arguments)
    for text in texts:
        assert text in str(caught.value)


def test_too_few_times(winds, model):
    with pytest.raises(errors.TimeAxisError, match="too few times") as caught:
        winds.isel(time=slice(3)).atmo.attention(model)
    assert "4 of them, every 6h" in str(caught.value)


def test_a_time_that_no_box_ends_with(winds, model):
    with pytest.raises(errors.TimeAxisError, match="No box ends at") as caught:
        winds.atmo.attention(model, time="2020-01-01T06:00")
    assert "from 2020-01-01 18:00:00" in str(caught.value)
    assert 'time="2020-01-02T06:00"' in str(caught.value)


def test_dimensions_of_a_name_that_is_needed(winds, model):
    both = xr.concat([winds, winds], "head")
    with pytest.raises(errors.FieldError, match="a name that is needed: 'head'"):
        both.atmo.attention(model)


def test_another_time_step(model):
    hourly = synthetic_winds(6, *_REGION, step_hours=1)
    with pytest.raises(errors.TimeAxisError, match="time step is not that"):
        hourly.atmo.attention(model)


def test_models_without_attention(winds, make_box_model):
    with pytest.raises(errors.ModelNotFoundError, match="cannot attention"):
        winds.atmo.attention("infill-small")
    plain = xatmo.load_model()
    import dataclasses

    card = dataclasses.replace(plain.card, capabilities=("embed", "attention"))
    model = dataclasses.replace(plain, card=card)
    with pytest.raises(errors.ModelNotFoundError, match="cannot show the attention"):
        winds.atmo.attention(model)


def test_no_decoder_of_these_fields(winds, make_box_model):
    model = make_box_model("tiny-reader", network={"predicted": ["u"]})
    got = winds.atmo.attention(model, part="decoder")
    assert list(got.field_from.values) == ["u"]
    with pytest.raises(errors.OptionError, match="has no decoder of these fields"):
        winds[["v10"]].atmo.attention(model, part="decoder")
