"""Errors by area, on whatever grid both have."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xatmo import errors
from xatmo.metrics import anomaly_correlation, bias, mae, rmse, standard_deviation_ratio


def _field(values, lat=(0.0, 60.0), lon=(0.0, 1.0)):
    return xr.DataArray(
        np.asarray(values, float),
        coords={"lat": list(lat), "lon": list(lon)},
        dims=("lat", "lon"),
        attrs={"units": "m s-1", "standard_name": "eastward_wind"},
        name="u",
    )


def test_weights_are_exact_areas():
    lat = np.arange(-89.5, 90)
    truth = _field(np.zeros((180, 2)), lat)
    estimate = truth + np.sin(np.deg2rad(truth.lat)) ** 2
    # The mean of sin² over the sphere is 1/3, that of sin⁴ 1/5.
    assert mae(estimate, truth).item() == pytest.approx(1 / 3, rel=1e-4)
    assert rmse(estimate, truth).item() == pytest.approx(0.2**0.5, rel=1e-4)
    assert bias(truth, estimate).item() == pytest.approx(-1 / 3, rel=1e-4)
    assert mae(estimate, truth, weighted=False).item() == pytest.approx(0.5)


def test_only_complete_pairs_count():
    truth = _field([[0, np.nan], [0, 0]])
    estimate = _field([[1, 100], [np.nan, 3]])
    assert mae(estimate, truth, weighted=False).item() == 2
    assert mae(estimate, truth, "lat", weighted=False).values.tolist() == [1, 3]
    assert np.isnan(mae(truth * np.nan, truth).item())


def test_attributes_are_those_of_the_score():
    truth = _field(np.zeros((2, 2)))
    score = rmse(truth, truth)
    assert score.attrs == {"long_name": "root mean squared error", "units": "m s-1"}
    assert score.name == "u"


def test_order_convention_and_names_do_not_matter():
    rng = np.random.default_rng(0)
    lon = np.arange(0.0, 360, 30)
    truth = _field(rng.normal(size=(5, 12)), np.arange(60, -61, -30), lon)
    other = truth + rng.normal(size=truth.shape)
    moved = other.isel(lat=slice(None, None, -1)).assign_coords(
        lon=np.float32((lon + 180) % 360 - 180)
    )
    moved = moved.sortby("lon").rename(lat="latitude", lon="longitude")
    assert rmse(moved, truth).item() == pytest.approx(rmse(other, truth).item())


def test_members_of_one_are_broadcast():
    truth = _field(np.zeros((2, 2)))
    members = xr.concat([truth + 1, truth + 3], "realization")
    assert mae(members, truth).item() == 2
    assert mae(members, truth, ["lat", "lon"]).values.tolist() == [1, 3]


def test_datasets_by_variable():
    u = _field(np.zeros((2, 2)))
    truth = xr.Dataset({"u": u, "v": u, "flag": ("lat", ["a", "b"])})
    score = mae(truth[["v", "u"]] + 2, truth)
    assert {k: float(v) for k, v in score.items()} == {"u": 2, "v": 2}


def test_what_describes_the_grid_is_not_scored():
    ds = xr.Dataset({"u": _field(np.zeros((2, 2))), "crs": 0})
    ds["lat_bnds"] = (("lat", "nv"), np.zeros((2, 2)))
    ds.u.encoding["grid_mapping"] = "crs"
    ds.lat.attrs["bounds"] = "lat_bnds"
    assert list(mae(ds, ds)) == ["u"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"lat": [0.0, 61.0]}, r"(?s)differ along 'lat'.*0 to 61.*interp\(lat="),
        ({"lon": [0.0, 2.0]}, r"differ along 'lon'"),
    ],
)
def test_other_points_are_refused_by_name(change, match):
    truth = _field(np.zeros((2, 2)))
    with pytest.raises(errors.AlignmentError, match=match):
        rmse(truth.assign_coords(change), truth)


def test_other_times_are_refused():
    days = np.array(["2020-01-01", "2020-01-02", "2020-01-03"], "datetime64[ns]")
    truth = _field(np.zeros((2, 2))).expand_dims(time=days[:2])
    with pytest.raises(
        errors.AlignmentError, match=r'(?s)along .time.*2020-01-03.*join="inner"'
    ):
        rmse(truth.assign_coords(time=days[1:]), truth)
    assert rmse(truth[::-1], truth).item() == 0
    with pytest.raises(errors.AlignmentError, match="1 points from 2020-01-01"):
        rmse(truth[:1], truth)


def test_no_latitude():
    x = xr.DataArray(np.zeros((2, 3)), dims=("y", "x"))
    with pytest.raises(errors.FieldNotFoundError, match=r"(?s)y \(2\).*weighted=False"):
        rmse(x, x)
    assert rmse(x, x, weighted=False).item() == 0
    assert rmse(x, x, dim="x").sizes == {"y": 2}


def test_no_such_dimension():
    x = _field(np.zeros((2, 2)))
    with pytest.raises(errors.OptionError, match=r"no dimension 'time'(?s:.*)lat, lon"):
        mae(x, x, "time")


def test_a_dataset_against_an_array():
    x = _field(np.zeros((2, 2)))
    with pytest.raises(errors.FieldError, match="truth is a DataArray"):
        mae(x.to_dataset(), x)
    with pytest.raises(errors.AlignmentError, match=r"(?s)no variable in comm.*u and"):
        mae(x.to_dataset(), x.to_dataset(name="w"))


# --- The standard deviation ---


def test_the_ratio_of_standard_deviations():
    rng = np.random.default_rng(0)
    truth = _field(rng.normal(size=(2, 2)))
    for factor in (0.0, 0.5, 3.0):
        ratio = standard_deviation_ratio(5 - factor * truth, truth)
        assert ratio.item() == pytest.approx(factor)
    assert ratio.attrs["units"] == "1"
    assert np.isnan(standard_deviation_ratio(truth, truth * 0).item())


def test_deviations_are_weighted_by_area():
    lat = np.arange(-89.5, 90)
    truth = _field(np.zeros((180, 2)), lat) + np.sin(
        np.deg2rad(xr.DataArray(lat, dims="lat"))
    )
    estimate = truth**2
    # The variance of sin² over the sphere is 1/5 - 1/9, that of sin 1/3.
    ratio = standard_deviation_ratio(estimate, truth).item()
    assert ratio == pytest.approx(((1 / 5 - 1 / 9) * 3) ** 0.5, rel=1e-3)
    even = standard_deviation_ratio(estimate, truth, weighted=False).item()
    assert even == pytest.approx(0.5, rel=1e-3)


def test_deviations_are_those_of_complete_pairs():
    truth = _field([[0, np.nan], [2, 4]])
    estimate = _field([[0, 100], [1, np.nan]])
    ratio = standard_deviation_ratio(estimate, truth, weighted=False)
    assert ratio.item() == pytest.approx(0.5)
    along = standard_deviation_ratio(estimate, truth, "lat", weighted=False)
    np.testing.assert_array_equal(along, [0.5, np.nan])


@pytest.mark.parametrize("score", [rmse, mae, bias, standard_deviation_ratio])
def test_scores_inside_gaps_alone(score):
    rng = np.random.default_rng(0)
    truth = _field(rng.normal(size=(20, 30)), np.arange(20.0), np.arange(30.0))
    gaps = _field(rng.random(truth.shape) < 0.3, truth.lat, truth.lon).astype(bool)
    filled = truth.where(~gaps, 2 * truth + 1)
    inside = score(filled, truth.where(gaps), weighted=False).item()
    cells = [xr.DataArray(x.values[gaps.values], dims="x") for x in (filled, truth)]
    assert inside == pytest.approx(score(*cells, "x").item())
    assert inside != pytest.approx(score(filled, truth, weighted=False).item())


# --- Anomaly correlation --------------------------------------------------------------


def test_anomaly_correlation_by_hand():
    usual = _field([[1, 1], [2, 2]])
    truth = usual + np.array([[1.0, -1], [2, 0]])
    estimate = usual + np.array([[1.0, 0], [2, 1]])
    score = anomaly_correlation(estimate, truth, usual, weighted=False)
    assert score.item() == pytest.approx(5 / np.sqrt(6 * 6))
    assert score.attrs["units"] == "1"
    area = [1.0, 0.5]  # of the bands from 30°S to 30°N, and from there to the pole
    shared = area[0] * 1 + area[1] * 4
    sizes = (area[0] * 1 + area[1] * 5) * (area[0] * 2 + area[1] * 4)
    weighted = anomaly_correlation(estimate, truth, usual).item()
    assert weighted == pytest.approx(shared / np.sqrt(sizes))


def test_anomaly_correlation_of_a_forecast_with_itself_and_its_opposite():
    rng = np.random.default_rng(1)
    usual = _field(rng.normal(size=(2, 2)))
    truth = xr.concat([usual + rng.normal(size=(2, 2)) for _ in range(5)], "time")
    assert anomaly_correlation(truth, truth, usual).item() == pytest.approx(1)
    mirrored = 2 * usual - truth
    assert anomaly_correlation(mirrored, truth, usual).item() == pytest.approx(-1)
    each = anomaly_correlation(truth, truth, usual, ("lat", "lon"))
    assert each.dims == ("time",)
    some = truth.where(truth > usual)  # of what is missing in one, nothing counts
    assert anomaly_correlation(some, truth, usual).item() == pytest.approx(1)
    nothing = usual.broadcast_like(truth)
    assert np.isnan(anomaly_correlation(nothing, truth, usual).item())
