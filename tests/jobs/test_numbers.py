"""What a job writes is what the verb gives on the whole input."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo.testing import count_forwards, synthetic_winds
from xatmo.testing.gaps import with_gaps


def _same(path, want, **opened):
    got = xr.open_zarr(path) if path.suffix == ".zarr" else xr.open_dataset(path)
    if isinstance(want, xr.DataArray):
        want = want.to_dataset(name=want.name)
    with got:
        xr.testing.assert_equal(got.load(), want.compute())
        for name, var in want.data_vars.items():
            assert got[name].dtype == var.dtype
            assert got[name].dims == var.dims
            same = {"units", "long_name", "standard_name"}
            for key in same & set(var.attrs):
                assert got[name].attrs[key] == var.attrs[key]
    return got


def test_embed(series, tmp_path):
    out = tmp_path / "z.zarr"
    report = xatmo.run_job("embed", series, out, chunks={"time": 8})
    assert (report.computed, report.regions, report.fields) == (3, 3, 24)
    assert report.complete
    want = xr.open_zarr(series, chunks={"time": 8}).atmo.embed()
    got = _same(out, want)
    assert got.embedding.dtype == np.float32
    assert got.embedding.encoding["chunks"] == (8, 8, 10, 96)
    assert "xatmo" in got.attrs["history"]
    assert got.attrs["xatmo_model_sha256"] == want.attrs["xatmo_model_sha256"]
    assert got.embedding.attrs["history"].count("embed(") == 1


def test_other_chunks_than_those_of_a_call(series, tmp_path):
    out = tmp_path / "z.zarr"
    xatmo.run_job("embed", series, out, chunks={"time": 7}, reduce="mean")
    want = xr.open_zarr(series).load().atmo.embed(reduce="mean")
    got = xr.open_zarr(out).embedding
    assert got.encoding["chunks"] == (7, 96)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_distance_to_one_state(small, series, tmp_path):
    one = tmp_path / "one.nc"
    small.isel(time=[3]).to_netcdf(one)
    out = tmp_path / "d.zarr"
    xatmo.run_job("distance", series, out, chunks={"time": 8}, other=str(one))
    state = small.isel(time=3, drop=True)
    _same(out, xr.open_zarr(series, chunks={"time": 8}).atmo.distance(state))


def test_pairs_embed_each_state_once(series, tmp_path):
    out = tmp_path / "d.zarr"
    with count_forwards() as forwards:
        xatmo.run_job("distance", series, out, chunks={"time": 4}, pairwise=True)
    want = xr.open_zarr(series, chunks={"time": 4}).atmo.distance(pairwise=True)
    # One batch of four times for each of the six blocks, not for each of 36 pairs.
    assert forwards.calls == 6
    got = xr.open_zarr(out).distance
    assert got.encoding["chunks"] == (4, 24)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_downscale_draws_the_same(refiners, tmp_path):
    ds = synthetic_winds(6, np.arange(60.0, 44.0, -1.0), np.arange(10.0, 34.0))
    ds.drop_encoding().to_zarr(tmp_path / "in.zarr", zarr_format=2)
    said = {"model": "tiny", "realizations": 3, "seed": 5}
    out = tmp_path / "fine.zarr"
    xatmo.run_job("downscale", tmp_path / "in.zarr", out, chunks={"time": 2}, **said)
    got = _same(out, ds.chunk(time=2).atmo.downscale(**said))
    assert got.u10.sizes["realization"] == 3


@pytest.mark.parametrize("method", ["network", "interpolate"])
def test_infill_sees_times_around(small, tmp_path, method):
    gaps = with_gaps(small[["u"]], "clouds", seed=1).drop_encoding()
    gaps.to_zarr(tmp_path / "in.zarr", zarr_format=2)
    out = tmp_path / "filled.zarr"
    xatmo.run_job(
        "infill", tmp_path / "in.zarr", out, chunks={"time": 5}, method=method
    )
    got = _same(out, gaps.chunk(time=5).atmo.infill(method=method))
    assert got.u_provenance.dtype == np.int8


def test_forecast_begins_where_its_history_is_there(series, tmp_path):
    out = tmp_path / "fc.zarr"
    said = {"lead": "6h", "members": False}
    part = {"start": "1999-12-01", "end": "1999-12-03"}
    report = xatmo.run_job("forecast", series, out, chunks={"time": 4}, **part, **said)
    ds = xr.open_zarr(series, chunks={"time": 4}).sel(time=slice(*part.values()))
    got = _same(out, ds.atmo.forecast(**said))
    assert report.fields == got.sizes["time"] < ds.sizes["time"]
    assert got.u.encoding["chunks"][0] == 4


def test_shards(series, tmp_path, checksums):
    out = tmp_path / "z.zarr"
    cut = {"chunks": {"time": 2}, "shards": {"time": 8}}
    report = xatmo.run_job("embed", series, out, **cut)
    assert report.regions == 3
    got = _same(out, xr.open_zarr(series, chunks={"time": 8}).atmo.embed())
    assert got.embedding.encoding["chunks"] == (2, 8, 10, 96)
    assert got.embedding.encoding["shards"] == (8, 8, 10, 96)
    assert len([f for f in checksums(out) if f.startswith("embedding/")]) == 3


def test_netcdf(series, tmp_path):
    out = tmp_path / "z.nc"
    xatmo.run_job("embed", series, out, chunks={"time": 8})
    got = _same(out, xr.open_zarr(series, chunks={"time": 8}).atmo.embed())
    assert got.embedding.encoding["chunksizes"] == (8, 8, 10, 96)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["z.nc"]
    again = xatmo.run_job("embed", series, out, chunks={"time": 8})
    assert again.computed == 0
    assert "complete already" in str(again)


def test_netcdf_files_by_a_pattern(small, tmp_path):
    for part in (0, 1):
        half = small.isel(time=slice(12 * part, 12 * part + 12))
        half.to_netcdf(tmp_path / f"part-{part}.nc")
    out = tmp_path / "z.zarr"
    xatmo.run_job("embed", tmp_path / "part-*.nc", out, chunks={"time": 8})
    _same(out, small.chunk(time=8).atmo.embed())


def test_a_single_state_is_one_block(small, tmp_path):
    small.isel(time=0, drop=True).to_netcdf(tmp_path / "in.nc")
    report = xatmo.run_job("embed", tmp_path / "in.nc", tmp_path / "z.zarr")
    assert report.regions == 1
    _same(tmp_path / "z.zarr", small.isel(time=0, drop=True).chunk().atmo.embed())


def test_processes(series, tmp_path):
    out = tmp_path / "z.zarr"
    said = {"scheduler": "processes", "workers": 2, "chunks": {"time": 8}}
    xatmo.run_job("embed", series, out, **said)
    _same(out, xr.open_zarr(series, chunks={"time": 8}).atmo.embed())


def test_each_field_runs_through_the_network_once(series, tmp_path):
    with count_forwards() as forwards:
        xatmo.run_job("embed", series, tmp_path / "z.zarr", chunks={"time": 8})
    assert forwards.calls == 3
