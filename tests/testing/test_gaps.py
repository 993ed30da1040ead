"""Gaps are of their kind, as large as asked for, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.testing import raise_if_computes, synthetic_winds
from xatmo.testing.gaps import FAMILIES, gap_mask, with_gaps

SHARES = {
    "random_50": 0.5,
    "random_90": 0.9,
    "blocks": 0.35,
    "clouds": 0.5,
    "swaths": 0.4,
    "centre_hole": 0.25,
    "missing_times": 0.3,
}
OPTIONS = [
    ("blocks", {"size": 9, "duration": 2}),
    ("clouds", {"scale": 3, "duration": 12}),
    ("swaths", {"width": 5}),
    ("missing_times", {"duration": 1}),
]


def _correlation(mask: np.ndarray, axis: int, lag: int) -> float:
    away = mask - mask.mean()
    return float((away * np.roll(away, lag, axis)).mean() / away.var())


def _runs(line: np.ndarray) -> list[int]:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.r_[False, line, False].astype(int)))
    return (edges[1::2] - edges[::2]).tolist()


def test_every_family_is_tested():
    assert set(SHARES) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(20, 24, 40), (40, 33, 49), (5, 1, 30)])
def test_shares(family, shape):
    # A share can be missed by the rounding of a rectangle, and by a stripe's edges.
    near = {"centre_hole": 0.02, "swaths": 0.05}.get(family, 0.51 / shape[0])
    for seed in range(3):
        mask = gap_mask(family, shape, seed)
        assert mask.shape == shape
        assert mask.dtype == bool
        assert mask.mean() == pytest.approx(SHARES[family], abs=near)


@pytest.mark.parametrize("family", ["random_50", "random_90", "blocks", "clouds"])
@pytest.mark.parametrize("share", [0.01, 0.37, 0.95])
def test_shares_are_met_by_the_cell(family, share):
    mask = gap_mask(family, (10, 20, 30), share=share)
    assert abs(np.count_nonzero(mask) - share * mask.size) <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_seeds(family):
    shape = (6, 20, 30)
    first = gap_mask(family, shape, 1)
    np.testing.assert_array_equal(first, gap_mask(family, shape, 1))
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(first, gap_mask(family, shape, rng=rng))
    others = [gap_mask(family, shape, rng=rng) for _ in range(5)]
    assert any((other != first).any() for other in others) == (family != "centre_hole")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 3, 2), (3, 1, 5)])
def test_small_fields_serve(family, shape):
    assert gap_mask(family, shape).shape == shape


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "missing_times"])
def test_a_single_time_serves(family):
    mask = gap_mask(family, (1, 30, 40))
    assert mask.mean() == pytest.approx(SHARES[family], abs=0.02)


@pytest.mark.parametrize(("family", "options"), OPTIONS)
def test_options_make_a_difference(family, options):
    shape = (20, 30, 40)
    own, usual = gap_mask(family, shape, 0, **options), gap_mask(family, shape, 0)
    assert (own != usual).any()


# --- Each family ---


def test_clouds_are_noise_smoothed_by_a_gaussian():
    ndimage = pytest.importorskip("scipy.ndimage")
    shape, scales, share = (60, 48, 64), (2, 4, 4), 0.3
    found, wanted = [], []
    for seed in range(12):
        noise = np.random.default_rng(seed).normal(size=shape)
        smooth = ndimage.gaussian_filter(noise, scales, mode="wrap")
        mask = gap_mask("clouds", shape, seed, share=share, scale=4, duration=2)
        for m, into in ((mask, found), (smooth < np.quantile(smooth, share), wanted)):
            pairs = [(axis, lag) for axis in range(3) for lag in (1, 2, 4, 8)]
            at_times = m.mean((1, 2)).std()
            into.append([_correlation(m, *pair) for pair in pairs] + [at_times])
    np.testing.assert_allclose(np.mean(found, 0), np.mean(wanted, 0), atol=0.03)


def test_clouds_are_as_long_as_said():
    shape = (120, 60, 60)
    long = gap_mask("clouds", shape, scale=3, duration=9)
    # Half of the cells of two points with correlation r: 2/pi arcsin(r) of the masks',
    # and noise smoothed by a Gaussian is correlated as exp(-(lag / 2 sigma)**2).
    for axis, width in ((0, 9), (1, 3), (2, 3)):
        expected = 2 / np.pi * np.arcsin(np.exp(-0.25))
        assert _correlation(long, axis, width) == pytest.approx(expected, abs=0.08)


def test_clouds_may_take_nearly_all_of_a_time():
    of_times = gap_mask("clouds", (744, 33, 49)).mean((1, 2))
    assert of_times.min() < 0.1
    assert of_times.max() > 0.9


def test_clouds_without_extent_are_noise():
    mask = gap_mask("clouds", (30, 20, 20), scale=0, duration=0)
    assert all(abs(_correlation(mask, axis, 1)) < 0.05 for axis in range(3))
    assert mask.mean() == pytest.approx(0.5, abs=1e-4)


def test_blocks_are_boxes():
    mask = gap_mask("blocks", (40, 60, 60), 2, share=0.01, size=4, duration=5)
    longest = [
        max(
            max(_runs(line), default=0)
            for line in mask.swapaxes(axis, -1).reshape(-1, n)
        )
        for axis, n in enumerate(mask.shape)
    ]
    # 1 to twice the mean less one, unless two happen to touch.
    assert 2 <= longest[0] <= 18
    assert 2 <= longest[1] <= 14
    assert _correlation(mask, 0, 1) > 0.5


def test_blocks_hit_no_place_less():
    masks = [gap_mask("blocks", (6, 12, 12), seed, share=0.3) for seed in range(300)]
    often = np.mean(masks, axis=(0, 1))
    assert often.min() > 0.22
    assert often.max() < 0.38


def test_swaths_are_stripes_that_drift():
    mask = gap_mask("swaths", (8, 30, 120), 4, width=8)
    row = mask[0, 0]
    stripes = len(_runs(np.roll(row, -int(np.argmin(row)))))
    assert stripes == round(120 * 0.4 / 8)
    # The next row, and the next time, are the same stripes further along.
    for other in (mask[0, 1], mask[1, 0]):
        shifted = [np.mean(np.roll(row, k) == other) for k in range(120 // stripes)]
        assert max(shifted) > 0.9
        assert np.argmax(shifted) != 0
    assert mask.mean(2) == pytest.approx(0.4, abs=0.06)  # in each row of each time


def test_swaths_differ_by_seed():
    def width_and_tilt(seed):
        mask = gap_mask("swaths", (1, 60, 360), seed)[0]
        first = mask[0]
        shifts = [np.mean(np.roll(first, k) == mask[10]) for k in range(-10, 11)]
        return np.median(_runs(first)), int(np.argmax(shifts))

    assert len({width_and_tilt(seed) for seed in range(8)}) > 4


def test_centre_hole_stays():
    mask = gap_mask("centre_hole", (5, 20, 40), share=0.16)
    inside = np.zeros((20, 40), bool)
    inside[6:14, 12:28] = True
    np.testing.assert_array_equal(mask, np.broadcast_to(inside, mask.shape))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
def test_missing_times_are_whole_and_some_remain(share):
    for times in (2, 4, 30):
        mask = gap_mask("missing_times", (times, 3, 4), share=share)
        gone = mask.all((1, 2))
        np.testing.assert_array_equal(gone, mask.any((1, 2)))
        assert gone.sum() == min(max(1, round(share * times)), times - 1)


def test_missing_times_come_in_runs():
    gone = gap_mask("missing_times", (2000, 1, 1), duration=5)[:, 0, 0]
    assert np.mean(_runs(gone)) > 3


# --- What is refused ---


@pytest.mark.parametrize(
    ("family", "shape", "options", "says"),
    [
        ("cloud", (2, 4, 4), {}, "no family of gaps 'cloud'(.|\n)*one of random_50"),
        ("clouds", (2, 4, 4), {"size": 3}, "no option 'size'(.|\n)*share, scale, dur"),
        ("random_50", (2, 4, 4), {"scale": 3}, "(.|\n)*one of share\n"),
        ("clouds", (2, 4, 4), {"scale": -1}, "'scale'(.|\n)*scale=-1(.|\n)*from 0 on"),
        ("blocks", (2, 4, 4), {"size": 0}, "'size'(.|\n)*size=0(.|\n)*from 1 on"),
        ("blocks", (2, 4, 4), {"size": np.nan}, "'size'(.|\n)*size=nan"),
        ("clouds", (2, 4, 4), {"share": 1}, "share=1(.|\n)*below 1"),
        ("clouds", (2, 4, 4), {"share": 0.0}, "share=0.0(.|\n)*above 0"),
        ("clouds", (4, 4), {}, r"shape=\(4, 4\)(.|\n)*three"),
        ("clouds", (2, 0, 4), {}, r"shape=\(2, 0, 4\)(.|\n)*at least 1"),
        ("missing_times", (1, 4, 4), {}, "one has to stay(.|\n)*two times"),
    ],
)
def test_what_cannot_be_is_refused(family, shape, options, says):
    with pytest.raises(errors.OptionError, match=says):
        gap_mask(family, shape, **options)


# --- Labelled ---


@pytest.fixture
def region():
    return synthetic_winds(6, np.arange(60.0, 40, -1), np.arange(0.0, 30))


@pytest.mark.parametrize("family", FAMILIES)
def test_labelled_gaps_are_those_of_arrays(region, family):
    gapped = with_gaps(region, family, seed=7)
    mask = gap_mask(family, (6, 20, 30), 7)
    for name, da in region.items():
        np.testing.assert_array_equal(gapped[name].isnull(), mask)
        xr.testing.assert_identical(gapped[name].fillna(da), da)
        assert gapped[name].dtype == da.dtype


def test_names_and_order_of_dimensions_do_not_matter(region):
    mask = with_gaps(region, "clouds").u10.isnull()
    other = region.rename(time="valid_time", latitude="lat", longitude="x")
    other = other.transpose("x", "lat", "valid_time")
    found = with_gaps(other, "clouds").u10
    assert found.dims == ("x", "lat", "valid_time")
    np.testing.assert_array_equal(found.isnull().T, mask)


def test_arrays_keep_their_name(region):
    found = with_gaps(region.u10, "swaths", 3, share=0.2)
    xr.testing.assert_identical(found, with_gaps(region, "swaths", 3, share=0.2).u10)


def test_other_dimensions_share_gaps(region):
    levels = region.expand_dims(level=[500.0, 850.0], axis=1)
    gone = with_gaps(levels, "blocks").u10.isnull()
    np.testing.assert_array_equal(gone.sel(level=500), gone.sel(level=850))
    np.testing.assert_array_equal(
        gone.sel(level=500), with_gaps(region, "blocks").u10.isnull()
    )


def test_each_variable_may_have_its_own(region):
    own = with_gaps(region, "clouds", each=True).isnull()
    assert (own.u10 != own.v10).any()
    alone = with_gaps(region[["v10"]], "clouds", each=True).isnull()
    xr.testing.assert_equal(own.v10, alone.v10)


def test_what_has_no_gaps_stays(region):
    ds = region.assign(
        height=region.u10.isel(time=0, drop=True),
        bounds=("latitude", np.zeros(20)),
        flag=region.u10 > 0,
        count=region.u10.astype(int),
    )
    found = with_gaps(ds, "random_90")
    xr.testing.assert_identical(
        found[["height", "bounds", "flag"]], ds[["height", "bounds", "flag"]]
    )
    assert found["count"].isnull().mean().item() == pytest.approx(0.9, abs=1e-3)
    assert found.attrs == ds.attrs


def test_fields_without_time(region):
    still = region.u10.isel(time=0, drop=True)
    mask = gap_mask("swaths", (1, 20, 30), 2)[0]
    np.testing.assert_array_equal(with_gaps(still, "swaths", 2).isnull(), mask)
    np.testing.assert_array_equal(with_gaps(still.chunk(), "swaths", 2).isnull(), mask)
    with pytest.raises(errors.OptionError, match="one has to stay"):
        with_gaps(still, "missing_times")


@pytest.mark.parametrize("family", FAMILIES)
def test_lazy_stays_lazy_and_is_the_same(region, family):
    with raise_if_computes():
        lazy = with_gaps(region.chunk(time=2, latitude=7), family, seed=5)
    assert lazy.u10.data.chunksize[:2] == (2, 7)
    xr.testing.assert_identical(lazy.compute(), with_gaps(region, family, seed=5))


def test_lazy_fields_are_refused_at_once(region):
    with raise_if_computes(), pytest.raises(errors.OptionError, match="no family"):
        with_gaps(region.chunk(time=1), "fog")


def test_without_latitude():
    with pytest.raises(errors.FieldNotFoundError, match="No latitude"):
        with_gaps(xr.DataArray(np.zeros((2, 3)), dims=("a", "b")), "clouds")
