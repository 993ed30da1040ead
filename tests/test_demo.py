"""The main job: on the sample, on users' files, and from the command line."""

from __future__ import annotations

import shutil

import matplotlib.image
import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo import errors
from xatmo.cli import main
from xatmo.demo import compute, draw, open_file, run_demo, table
from xatmo.testing import count_forwards, raise_if_computes


@pytest.fixture(scope="module")
def sample_run(tmp_path_factory):
    """One run of the command on the sample: folder, exit code, what it printed."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("demo")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["demo", "--out", str(folder)])
    return folder, code, out.getvalue()


def test_writes_its_results(sample_run):
    folder, code, _ = sample_run
    assert code == 0
    assert sorted(p.name for p in folder.iterdir()) == [
        "xatmo-demo.nc",
        "xatmo-demo.png",
    ]
    with xr.open_dataset(folder / "xatmo-demo.nc") as ds:
        assert ds.embedding.dims == ("time", "lat", "lon", "feature")
        assert ds.distance.shape == ds.rmse.shape == (40, 40)
        assert ds.distance_map.dims == ("lat", "lon")
        assert ds.distance_by_lag.notnull().all()
        assert ds.vorticity.notnull().all()
        assert "xatmo" in ds.distance.attrs["history"]
    assert matplotlib.image.imread(folder / "xatmo-demo.png").shape[1] > 1000


def test_prints_a_table_and_progress(sample_run):
    _, _, printed = sample_run
    assert "lag (h)" in printed
    assert "100% Completed" in printed
    assert "was trained at" not in printed  # the sample's level is one it knows
    rows = printed[printed.index("lag (h)") :].splitlines()[1:]
    assert rows[0].split()[0] == "6"


def test_distance_grows_with_lag_in_the_table(sample_run):
    folder, _, _ = sample_run
    with xr.open_dataset(folder / "xatmo-demo.nc") as ds:
        curve = ds.distance_by_lag.sel(lag=[6, 12, 24, 48]).values
    assert (np.diff(curve) > 0).all()


def test_plans_lazily_and_embeds_each_state_once():
    ds = xatmo.open_sample(chunks={}).isel(time=slice(6))
    with raise_if_computes():
        demo = run_demo(ds)
    with count_forwards() as counted:
        compute(demo, progress=False)
    # Six states for all results together, and two once more for the map.
    assert counted.fields <= 8


def test_the_figure_has_labels_and_units():
    demo = compute(
        run_demo(xatmo.open_sample(chunks={}).isel(time=slice(6))), progress=False
    )
    axes = draw(demo).axes
    labels = {a.get_xlabel() for a in axes} | {a.get_ylabel() for a in axes}
    assert {
        "longitude (°E)",
        "latitude (°N)",
        "time lag (h)",
        "AtmoDist distance (1)",
    } <= labels
    assert any("s$^{-1}$" in label for label in labels)


def test_one_state_alone(globe):
    demo = compute(run_demo(globe.isel(time=[0])), progress=False)
    assert "need two states" in table(demo)
    assert len(draw(demo).axes) == 4  # two maps with their colour bars


def test_ensembles_take_their_first_member(globe):
    both = xr.concat([globe, 2 * globe], "number")
    demo = compute(run_demo(both), progress=False)
    one = compute(run_demo(globe), progress=False)
    np.testing.assert_allclose(demo.result.distance, one.result.distance, atol=1e-6)


def test_a_users_file(globe, tmp_path, capsys):
    era5 = globe.rename(time="valid_time").isel(latitude=slice(None, None, -1))
    era5.to_netcdf(tmp_path / "era5.nc")
    assert (
        main(["demo", str(tmp_path / "era5.nc"), "--out", str(tmp_path / "out")]) == 0
    )
    with xr.open_dataset(tmp_path / "out" / "xatmo-demo.nc") as ds:
        assert "valid_time" in ds.dims
    assert "u10 [m s-1] at 10 m" in capsys.readouterr().out


def test_zarr_stores(globe, tmp_path):
    globe.to_zarr(tmp_path / "era5.zarr", zarr_format=2)
    demo = run_demo(open_file(tmp_path / "era5.zarr"))
    assert demo.result.distance.chunks is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "train/gfs_uv850_global_1deg_6h_20260419-20260505.nc",
        "test/gfs_uv10_global_1deg_6h_2018_michael.nc",
        "multi/era5_uvz_850-500-250_global_1deg_1h_20170801.nc",
        "multi/gfs_sfc7_global_1deg_8dates_2020-2021.nc",
        "multi/gfs_sfc5_global_1deg_20251127T00.nc",
        "edge/eraint_uvz_month_dim_lon-180.nc",
    ],
)
def test_real_global_files(data, name, tmp_path):
    ds = open_file(data / name)
    times = {d: slice(4) for d in ("time", "valid_time") if d in ds.dims}
    demo = compute(run_demo(ds.isel(times)), progress=False)
    assert demo.result.embedding.notnull().all()
    draw(demo).savefig(tmp_path / "x.png")


# --- Bad input ----------------------------------------------------------------------


def test_no_such_file(capsys):
    assert main(["demo", "nowhere.nc"]) == 2
    said = capsys.readouterr().err
    assert "There is no file 'nowhere.nc'" in said
    assert "xatmo demo alone" in said
    assert "Traceback" not in said


def test_not_a_data_file(tmp_path, capsys):
    (tmp_path / "notes.nc").write_text("not a netCDF file")
    assert main(["demo", str(tmp_path / "notes.nc")]) == 2
    assert "xarray cannot open" in capsys.readouterr().err


def test_a_file_without_winds(winds, tmp_path, capsys):
    winds.rename(u10="t2m").drop_vars("v10").to_netcdf(tmp_path / "t.nc")
    assert main(["demo", str(tmp_path / "t.nc"), "--out", str(tmp_path / "out")]) == 2
    assert "FieldNotFoundError" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_matplotlib(monkeypatch):
    import builtins

    original = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(
        errors.MissingDependencyError,
        match=r'(?s)matplotlib.*pip install "xatmo\[plot\]"',
    ):
        xatmo.plot.figure()


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    from xatmo.demo import save

    demo = compute(
        run_demo(xatmo.open_sample(chunks={}).isel(time=slice(2))), progress=False
    )

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    fig = draw(demo)
    monkeypatch.setattr(fig, "savefig", full)
    with pytest.raises(OSError, match="No space left"):
        save(demo, fig, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["xatmo-demo.nc"]
    shutil.rmtree(tmp_path)


def test_longitude_first(globe):
    demo = compute(
        run_demo(globe.transpose("longitude", "latitude", "time")), progress=False
    )
    draw(demo)
    expected = compute(run_demo(globe), progress=False).result.distance_map
    np.testing.assert_allclose(demo.result.distance_map, expected, atol=1e-5)


def test_times_without_dates(globe):
    demo = compute(run_demo(globe.drop_vars("time")), progress=False)
    assert "need two states" in table(demo)
    draw(demo)


def test_an_empty_series(globe):
    with pytest.raises(errors.TimeAxisError, match="series is empty"):
        run_demo(globe.isel(time=slice(0)))


def test_what_is_left_out_is_said(globe):
    both = xr.concat([globe, globe, globe], "number")
    assert "left out   2 of 3 along number" in table(
        compute(run_demo(both), progress=False)
    )


def test_nowhere_to_write(tmp_path, globe, capsys):
    (tmp_path / "file").write_text("x")
    globe.isel(time=slice(2)).to_netcdf(tmp_path / "a.nc")
    code = main(["demo", str(tmp_path / "a.nc"), "--out", str(tmp_path / "file" / "x")])
    assert code == 2
    assert "cannot be written" in capsys.readouterr().err


def test_maps_across_the_date_line_are_in_one_piece():
    from xatmo.plot import figure, world_map

    lon = np.concatenate([np.arange(150.0, 180, 5), np.arange(-180.0, -140, 5)])
    field = xr.DataArray(
        np.arange(3 * lon.size).reshape(3, -1),
        {"lat": [10.0, 5.0, 0.0], "lon": lon},
        ("lat", "lon"),
    )
    ax = figure().subplots()
    world_map(field, ax, title="", label="")
    low, high = ax.get_xlim()
    assert high - low == pytest.approx(70)
    np.testing.assert_array_equal(
        ax.collections[0].get_array()[-1], np.arange(lon.size)
    )
