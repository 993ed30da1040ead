"""Figures of attention: what is drawn where, and what cannot be drawn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr

import xatmo.plot
from xatmo import errors
from xatmo.globe import Globe
from xatmo.testing import synthetic_winds

_OFFSETS = np.array([-12, -6, 0]) * np.timedelta64(3600, "s")


def _attention(latitude=50.0, longitude=10.0, **coords):
    """Four by three tokens of 6 degrees; the last one has most."""
    y = latitude + np.array([9.0, 3.0, -3.0, -9.0])
    x = longitude + np.array([-6.0, 0.0, 6.0])
    share = np.arange(2.0 * 3 * 4 * 3).reshape(2, 3, 4, 3)
    share = share / share.sum((1, 2, 3), keepdims=True)
    return xr.DataArray(
        share,
        {
            "field_to": ["u", "v"],
            "time_offset": _OFFSETS.astype("timedelta64[ns]"),
            "lat": ("lat", y, {"standard_name": "latitude"}),
            "lon": ("lon", x, {"standard_name": "longitude"}),
            "query_latitude": latitude,
            "query_longitude": longitude,
            "query_time_offset": np.timedelta64(0, "ns"),
            "field_from": "u",
            "level_from": "850 hPa",
            "time": np.datetime64("2020-01-01T06", "ns"),
            **coords,
        },
        ("field_to", "time_offset", "lat", "lon"),
        name="attention",
        attrs={"averaged_over": "layers, heads"},
    )


def _panels(fig):
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]


def _cells(ax):
    """The tokens: the only collection of as many outlines as there are values."""
    from matplotlib.collections import PolyCollection

    (cells,) = (c for c in ax.collections if type(c) is PolyCollection)
    return cells


@pytest.mark.parametrize("place", [(0.0, 0.0), (50.0, 10.0), (-75.0, 200.0), (90, 0)])
def test_projecting_there_and_back(place):
    globe = Globe(*place)
    rng = np.random.default_rng(0)
    latitude, longitude = rng.uniform(-89, 89, 200), rng.uniform(0, 360, 200)
    x, y, seen = globe.project(latitude, longitude)
    assert (np.hypot(x, y) <= 1 + 1e-12).all()
    assert 50 < seen.sum() < 150
    again = globe.places(x[seen], y[seen])
    np.testing.assert_allclose(again[0], latitude[seen], atol=1e-6)
    turned = (again[1] - longitude[seen] + 180) % 360 - 180
    np.testing.assert_allclose(turned, 0, atol=1e-5)
    x, y, _ = globe.project(*place)
    assert abs(x) < 1e-12
    assert abs(y) < 1e-12


def test_north_is_up_and_east_is_right():
    globe = Globe(40.0, 100.0)
    x, y, _ = globe.project([50.0, 40.0], [100.0, 110.0])
    assert y[0] > 0.1 > abs(x[0])
    assert x[1] > 0.1 > abs(y[1])
    assert np.isnan(globe.places(0.9, 0.9)).all()


def test_land_is_where_it_is():
    """The Sahara is land from above, the middle of the Pacific is not."""
    for place, colour in (((24.0, 10.0), "#e4e0d8"), ((0.0, 200.0), "#f7f9fb")):
        fig = xatmo.plot.figure(figsize=(2, 2), dpi=50)
        ax = fig.add_axes((0, 0, 1, 1))
        Globe(*place, radius=8).draw(ax)
        pixels = _pixels(fig)
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        # Beside the lines in the middle, if there are any.
        np.testing.assert_allclose(pixels[55, 55], wanted, atol=3)


def _pixels(fig):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def test_a_panel_for_each_field_and_offset():
    a = _attention()
    fig = xatmo.plot.attention(a)
    panels = _panels(fig)
    assert len(panels) == 6
    assert [ax.get_title() for ax in panels[:3]] == ["−12 h", "−6 h", "0 h"]
    assert [panels[i].get_ylabel() for i in (0, 3)] == ["to u", "to v"]
    for ax, values in zip(panels, a.values.reshape(6, 12), strict=True):
        np.testing.assert_allclose(_cells(ax).get_array(), 100 * values)
        assert _cells(ax).get_clim() == (0, pytest.approx(100 * a.values.max()))
    (colours,) = (ax for ax in fig.axes if ax not in panels)
    assert colours.get_ylabel() == "attention to a token (%)"
    title = fig.get_suptitle()
    for text in ("u at 850 hPa", "50°N 10°E", "2020-01-01T06:00", "layers and heads"):
        assert text in title
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _pixels(fig).std() > 10


def test_cells_lie_where_tokens_are():
    a = _attention()
    fig = xatmo.plot.attention(a)
    ax = _panels(fig)[0]
    globe = Globe(50.0, 10.0)
    outlines = _cells(ax).get_paths()
    places = [(y, x) for y in a.lat.values for x in a.lon.values]
    for (y, x), outline in zip(places, outlines, strict=True):
        latitude, longitude = globe.places(*outline.vertices.T)
        assert (latitude.min(), latitude.max()) == pytest.approx((y - 3, y + 3))
        assert (longitude.min(), longitude.max()) == pytest.approx((x - 3, x + 3))
    low, high = ax.get_xlim()
    edge = max(np.abs(outline.vertices).max() for outline in outlines)
    assert edge < high < 1.2 * edge
    assert low == -high


def test_across_the_date_line_and_at_the_pole():
    west = xatmo.plot.attention(_attention(10.0, 179.0))
    assert "10°N 179°E" in west.get_suptitle()
    moved = xatmo.plot.attention(_attention(10.0, -181.0))
    for one, other in zip(_panels(west), _panels(moved), strict=True):
        for a, b in zip(
            _cells(one).get_paths(), _cells(other).get_paths(), strict=True
        ):
            np.testing.assert_allclose(a.vertices, b.vertices, atol=1e-12)
    pole = xatmo.plot.attention(_attention(84.0, 0.0))
    assert len(_cells(_panels(pole)[0]).get_paths()) == 12
    assert np.isfinite(_panels(pole)[0].get_xlim()).all()


def test_the_query_is_marked_at_its_time():
    a = _attention(query_time_offset=np.timedelta64(-6 * 3600, "s"))
    filled = []
    for ax in _panels(xatmo.plot.attention(a))[:3]:
        (cross,) = (c for c in ax.collections if len(c.get_offsets()) == 1
                    and type(c).__name__ == "PathCollection")  # fmt: skip
        np.testing.assert_array_equal(cross.get_offsets(), [[0, 0]])
        filled.append(cross.get_facecolors().min() == 1)
    assert filled == [False, True, False]


def test_what_is_not_coupled_is_left_out():
    a = _attention()
    panels = _panels(xatmo.plot.attention(a.where(a.field_to == "v")))
    assert len(panels) == 3
    assert panels[0].get_ylabel() == "to v"


def test_levels_get_rows_of_their_own():
    a = _attention().expand_dims(level_to=["850 hPa", "500 hPa"])
    panels = _panels(xatmo.plot.attention(a))
    labels = [panels[i].get_ylabel() for i in (0, 3, 6, 9)]
    assert labels == ["to u, 850 hPa", "to u, 500 hPa", "to v, 850 hPa",
                      "to v, 500 hPa"]  # fmt: skip


def test_a_single_panel_half_a_globe_and_a_style():
    a = _attention().isel(field_to=1, time_offset=0)
    fig = xatmo.plot.attention(a, radius=90, cmap="cividis", title="mine", clim=(0, 9))
    (ax,) = _panels(fig)
    assert fig.get_suptitle() == "mine"
    assert ax.get_ylabel() == "to v"
    assert ax.get_xlim()[1] == pytest.approx(1.02)
    assert _cells(ax).get_cmap().name == "cividis"
    assert _cells(ax).get_clim() == (0, 9)


def test_attention_in_a_figure_of_the_caller():
    a = _attention()
    mine = xatmo.plot.figure(figsize=(6, 4), layout="constrained")
    assert xatmo.plot.attention(a, fig=mine) is mine
    assert len(_panels(mine)) == len(_panels(xatmo.plot.attention(a)))
    assert mine.get_size_inches().tolist() == [6, 4]


def test_the_title_rounds_the_place():
    a = _attention().assign_coords(query_latitude=45.698693877701785)
    assert " at 45.7°N" in xatmo.plot.attention(a).get_suptitle()


def test_of_the_verb_itself(make_box_model):
    model = make_box_model()
    ds = synthetic_winds(5).chunk(time=1)
    a = ds.atmo.attention(model, query=(30.0, 0.0), part="decoder", layer=1, head=1)
    with pytest.raises(errors.FieldError, match="more to show") as caught:
        xatmo.plot.attention(a)
    assert "time: 2, field_from: 2" in str(caught.value)
    assert "a.isel(time=0, field_from=0)" in str(caught.value)
    fig = xatmo.plot.attention(a.isel(time=0, field_from=0))
    labels = [ax.get_ylabel() for ax in _panels(fig)[::4]]
    assert labels == ["to decoder", "to encoder"]
    assert "layer 1, head 1" in fig.get_suptitle()
    # One time and one field that asks need not be selected.
    query = {"latitude": 30.0, "longitude": 0.0, "field": "v"}
    last = ds.atmo.attention(model, query=query, time=[ds.time.values[-1]])
    assert "v at 10 m at 30°N 0°E" in xatmo.plot.attention(last).get_suptitle()


def test_what_is_no_attention(winds):
    with pytest.raises(errors.FieldError, match="no attention"):
        xatmo.plot.attention(winds.u10)
    with pytest.raises(errors.FieldError, match="not all of it missing"):
        xatmo.plot.attention(_attention() * np.nan)


# --- Attention over variables ---------------------------------------------------------


def _shares(**dims):
    """Three variables on four rows: u counts in the north, v in the south."""
    lat = np.array([67.5, 22.5, -22.5, -67.5])
    u = np.array([0.6, 0.3, 0.1, 0.0])
    share = np.stack([u, 0.7 - u, 0.3 + 0 * u], -1)
    share = np.broadcast_to(share[None, :, None], (2, 4, 8, 3))
    coords = {
        "lat": ("lat", lat, {"standard_name": "latitude"}),
        "lon": ("lon", np.arange(0.0, 360, 45), {"standard_name": "longitude"}),
        "variable": ["u 850 hPa", "v 850 hPa", "t2m"],
    }
    da = xr.DataArray(share, coords, ("time", "lat", "lon", "variable"))
    return da.expand_dims(dims, -1) if dims else da


def _bars(ax):
    names = [text.get_text() for text in ax.get_yticklabels()]
    return dict(zip(names, [bar.get_width() for bar in ax.patches], strict=True))


def _marks(ax):
    labels = [c.get_label() for c in ax.collections]
    return {
        n: c.get_offsets()[:, 0] for n, c in zip(labels, ax.collections, strict=True)
    }


def test_a_bar_for_each_variable_by_area_the_longest_on_top():
    fig = xatmo.plot.variable_attention(_shares(), title="sample")
    (ax,) = fig.axes
    bars = _bars(ax)
    assert list(bars) == ["u 850 hPa", "t2m", "v 850 hPa"]  # from below
    weights = np.cos(np.deg2rad([67.5, 22.5, -22.5, -67.5]))
    u = 100 * np.average([0.6, 0.3, 0.1, 0.0], weights=weights)
    assert bars["u 850 hPa"] == pytest.approx(u)
    assert sum(bars.values()) == pytest.approx(100)
    marks = _marks(ax)
    assert list(marks) == ["30°N to 90°N", "tropics", "30°S to 90°S"]
    np.testing.assert_allclose(marks["30°N to 90°N"], [60, 30, 10])
    np.testing.assert_allclose(marks["30°S to 90°S"], [0, 30, 70], atol=1e-9)
    assert ax.get_title(loc="left") == "sample"
    (line,) = ax.lines
    assert line.get_xdata()[0] == pytest.approx(100 / 3)
    assert _pixels(fig).std() > 10


def test_marks_of_heads_and_of_nothing():
    heads = _shares(head=[1, 2]) * xr.DataArray([0.5, 1.5], dims="head")
    (ax,) = xatmo.plot.variable_attention(heads).axes
    marks = _marks(ax)
    assert list(marks) == ["each head", "_1"]
    np.testing.assert_allclose(marks["_1"], 3 * marks["each head"], atol=1e-9)
    own = xatmo.plot.figure()
    ax = own.subplots()
    place = _shares().isel(lat=0, lon=0)
    assert xatmo.plot.variable_attention(place, ax=ax, color="k") is own
    assert not ax.collections
    assert _bars(ax)["u 850 hPa"] == pytest.approx(60)
    gaps = _shares().where(xr.DataArray([True, False], dims="time"))
    assert sum(_bars(xatmo.plot.variable_attention(gaps).axes[0]).values()) > 99


@pytest.mark.parametrize("bad", [_attention(), _shares() * np.nan])
def test_what_is_no_attention_over_variables(bad):
    with pytest.raises(errors.FieldError, match="no attention over variables"):
        xatmo.plot.variable_attention(bad)
