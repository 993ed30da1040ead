"""distance(): what it equals, how two objects meet, and every bad input."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo import errors


def test_is_the_scaled_mean_square_of_embeddings(winds):
    a, b = winds.isel(time=0), winds.isel(time=3)
    d = a.atmo.distance(b)
    alpha = xatmo.load_model().card.distance.alpha["block3"]
    expected = alpha * ((a.atmo.embed() - b.atmo.embed()) ** 2).mean("feature")
    assert d.dims == ("latitude", "longitude")
    np.testing.assert_allclose(d, expected, rtol=1e-5, atol=1e-6)
    assert d.attrs["alpha"] == alpha
    assert "log-normalised" in d.attrs["alpha_space"]


def test_symmetric_zero_for_itself_and_never_negative(winds):
    a, b = winds.isel(time=0), winds.isel(time=3)
    np.testing.assert_array_equal(a.atmo.distance(a), 0)
    np.testing.assert_array_equal(a.atmo.distance(b), b.atmo.distance(a))
    assert (a.atmo.distance(b) >= 0).all()


def test_grows_with_time_lag(sample):
    """Of real dynamics: a state a day later is farther away than one 6 h later."""
    first = sample.isel(time=slice(0, 30))
    near = first.atmo.distance(
        sample.isel(time=slice(1, 31)), reduce="mean", join="override"
    )
    far = first.atmo.distance(
        sample.isel(time=slice(4, 34)), reduce="mean", join="override"
    )
    assert (far > near).all()


def test_one_state_against_a_series(winds):
    d = winds.atmo.distance(winds.isel(time=2))
    assert d.dims == ("time", "latitude", "longitude")
    np.testing.assert_array_equal(d.isel(time=2), 0)
    single = winds.isel(time=0).atmo.distance(winds.isel(time=2))
    np.testing.assert_allclose(d.isel(time=0), single, rtol=1e-6)


def test_pairwise_equals_single_distances(winds):
    matrix = winds.atmo.distance(pairwise=True)
    assert matrix.dims == ("time", "time_other")
    np.testing.assert_allclose(np.diag(matrix), 0, atol=1e-9)
    one = winds.isel(time=1).atmo.distance(winds.isel(time=4), reduce="mean")
    np.testing.assert_allclose(matrix[1, 4], one, rtol=1e-5)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-6)


def test_pairwise_of_two_series(winds):
    matrix = winds.atmo.distance(winds.isel(time=slice(2)), pairwise=True)
    assert matrix.shape == (5, 2)
    np.testing.assert_allclose(
        matrix, winds.atmo.distance(pairwise=True)[:, :2], atol=1e-9
    )


def test_pairwise_runs_each_state_once(winds):
    with xatmo.testing.count_forwards() as once:
        winds.atmo.embed()
    with xatmo.testing.count_forwards() as counted:
        winds.chunk(time=5).atmo.distance(pairwise=True).compute()
    assert counted.calls == once.calls


def test_other_orientation_and_names_are_the_same_states(winds):
    other = winds.isel(latitude=slice(None, None, -1)).rename(
        time="valid_time", latitude="lat"
    )
    d = winds.atmo.distance(other)
    assert d.dims == ("time", "latitude", "longitude")
    np.testing.assert_allclose(d, 0, atol=1e-9)


def test_layers_have_their_own_scale(winds):
    d = winds.isel(time=0).atmo.distance(winds.isel(time=1), layer="block2")
    assert d.attrs["alpha"] == xatmo.load_model().card.distance.alpha["block2"]
    assert d.shape == (10, 12)


def test_join_inner_and_override(winds):
    later = winds.isel(time=slice(2, None))
    inner = winds.atmo.distance(later, join="inner")
    xr.testing.assert_equal(inner.time, later.time)
    np.testing.assert_allclose(inner, 0, atol=1e-9)
    lagged = winds.isel(time=slice(3)).atmo.distance(later, join="override")
    xr.testing.assert_equal(lagged.time, winds.time[:3])
    assert (lagged.mean(["latitude", "longitude"]) > 0).all()


# --- Bad input ----------------------------------------------------------------------


def test_times_that_differ(winds):
    with pytest.raises(
        errors.AlignmentError,
        match=r"(?s)times \(time\).*5 times.*3 times.*join='inner'",
    ):
        winds.atmo.distance(winds.isel(time=slice(2, None)))


def test_one_time_in_a_series_is_named_as_the_way_out(winds):
    with pytest.raises(ValueError, match=r"(?s)1 times.*isel\(time=0\)"):
        winds.atmo.distance(winds.isel(time=[0]))


def test_other_grid(winds):
    with pytest.raises(
        errors.AlignmentError,
        match=r"(?s)different grids: longitude.*48 points.*40 points.*interp",
    ):
        winds.atmo.distance(winds.isel(longitude=slice(40)))


def test_other_level(winds):
    a = winds.rename(u10="u", v10="v").assign_coords(level=((), 850, {"units": "hPa"}))
    with pytest.raises(
        errors.AlignmentError, match=r"(?s)different levels.*10 m.*850 hPa"
    ):
        winds.atmo.distance(a)


def test_nothing_to_compare_with(winds):
    with pytest.raises(errors.OptionError, match=r"(?s)two things.*pairwise=True"):
        winds.atmo.distance()


def test_pairwise_without_time(winds):
    with pytest.raises(errors.TimeAxisError, match=r"(?s)need a time axis.*xr\.concat"):
        winds.isel(time=0).atmo.distance(pairwise=True)


def test_unknown_join(winds):
    with pytest.raises(
        errors.OptionError, match=r"(?s)'outer'.*'exact', 'inner' or 'override'"
    ):
        winds.atmo.distance(winds, join="outer")


def _members(winds, numbers):
    return xr.concat([winds * (1 + 0.1 * n) for n in numbers], "number").assign_coords(
        number=list(numbers)
    )


@pytest.mark.parametrize("pairwise", [False, True])
@pytest.mark.parametrize("numbers", [(0, 1), (7, 8, 9)])
def test_members_that_differ(winds, pairwise, numbers):
    n = _members(winds, (0, 1, 2))
    with pytest.raises(
        errors.AlignmentError, match=r"(?s)differ along 'number'.*3 number.*isel"
    ):
        n.atmo.distance(_members(winds, numbers), pairwise=pairwise)


def test_a_state_against_a_series(winds):
    """The other way round gives the same, new dimensions first."""
    d = winds.isel(time=2).atmo.distance(winds)
    assert d.dims == ("time", "latitude", "longitude")
    np.testing.assert_allclose(d, winds.atmo.distance(winds.isel(time=2)), rtol=1e-6)


def test_a_state_against_members(winds):
    d = winds.isel(time=0).atmo.distance(_members(winds.isel(time=0), (0, 1)))
    assert d.dims == ("number", "latitude", "longitude")


def test_coordinates_of_one_alone_are_left_out(winds):
    d = winds.isel(time=0).atmo.distance(winds.isel(time=1))
    assert "time" not in d.coords


def test_levels_written_differently(winds):
    def at(values, units, name):
        level = xr.DataArray(values, dims=name, attrs={"units": units})
        return winds.rename(u10="u", v10="v").expand_dims({name: level}, axis=1)

    a = at([850.0, 500.0], "hPa", "level")
    a["u"] = a.u * xr.DataArray([1.0, 2.0], dims="level")
    same = a.assign_coords(level=("level", [85000.0, 50000.0], {"units": "Pa"}))
    for other in (same.rename(level="plev"), a.isel(level=[1, 0])):
        with pytest.warns(errors.ExtrapolationWarning):
            d = a.atmo.distance(other)
        assert d.dims == ("time", "level", "latitude", "longitude")
        np.testing.assert_allclose(d, 0, atol=1e-9)


def test_inner_join_of_repeated_times(winds):
    twice = winds.isel(time=[0, 0, 1])
    with pytest.raises(
        errors.AlignmentError, match=r"(?s)more than once.*drop_duplicates\('time'\)"
    ):
        winds.atmo.distance(twice, join="inner")


def test_times_without_an_index_are_compared_by_value(winds):
    bare = winds.drop_indexes("time")
    with pytest.raises(errors.AlignmentError, match="do not share their times"):
        bare.atmo.distance(winds.isel(time=[1, 0, 2, 3, 4]))


def test_nothing_runs_before_the_checks(winds):
    with (
        xatmo.testing.count_forwards() as counted,
        pytest.raises(errors.AlignmentError),
    ):
        winds.atmo.distance(winds.isel(time=slice(2)))
    assert counted.calls == 0


def test_pairs_of_small_chunks_stay_few(winds):
    ds = winds.isel(time=np.arange(60) % 5).drop_vars("time").chunk(time=1)
    graph = ds.atmo.distance(pairwise=True).__dask_graph__()
    assert len(dict(graph)) < 40 * 60


def test_pairwise_is_yes_or_no(winds):
    with pytest.raises(errors.OptionError, match="pairwise cannot be 'month'"):
        winds.atmo.distance(pairwise="month")
