"""The commands: what they ask, answer and refuse."""

from __future__ import annotations

import subprocess
import sys

import pytest
import xarray as xr

import xatmo
from xatmo.cli import main

VERBS = ["embed", "distance", "downscale", "infill", "forecast"]


def _refused(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("found:", "needed:", "try:"))
    return said


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    words = "--model --scheduler --chunks --shards --progress --on-error --overwrite"
    assert all(word in said for word in words.split())


def test_help_is_light():
    code = (
        "import sys; from xatmo.cli import main\n"
        "try: main(['embed', '--help'])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'distributed', 'zarr', 'dask.array'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


def test_a_job(series, tmp_path, capsys):
    out = str(tmp_path / "z.zarr")
    command = ["embed", str(series), out, "--chunks", "time=8", "--reduce", "mean"]
    assert main([*command, "--batch-size", "4", "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert "3 of 3 blocks, 24 fields in " in said.out
    assert "fields/s" in said.out
    assert said.err == ""
    assert main(command) == 0
    assert "nothing was left to do" in capsys.readouterr().out
    assert xatmo.get_options().batch_size is None


def test_precision_is_part_of_the_job(series, tmp_path, capsys):
    out = str(tmp_path / "z.zarr")
    command = ["embed", str(series), out, "--chunks", "time=8", "--reduce", "mean"]
    assert main([*command, "--precision", "bfloat16"]) == 0
    with xr.open_zarr(out) as got:
        assert got.embedding.attrs["xatmo_precision"] == "bfloat16"
    assert main(command) != 0
    assert "precision" in capsys.readouterr().err


def test_progress(series, tmp_path, capsys):
    out = str(tmp_path / "z.zarr")
    command = ["embed", str(series), out, "--chunks", "time=8", "--reduce", "mean"]
    assert main([*command, "--progress"]) == 0
    said = capsys.readouterr()
    assert "block 3/3" in said.err
    assert "fields/s" in said.err
    assert "left" in said.err
    assert "block" in said.out


def test_options_of_verbs(series, small, tmp_path):
    small.isel(time=[0]).to_netcdf(tmp_path / "one.nc")
    out = str(tmp_path / "d.zarr")
    said = ["--reference", str(tmp_path / "one.nc"), "--layer", "block2"]
    assert main(["distance", str(series), out, *said, "--reduce", "mean"]) == 0
    with xr.open_zarr(out) as got:
        assert got.distance.dims == ("time",)
        assert got.distance.attrs["layer"] == "block2"
        assert float(got.distance[0]) == 0
    out = str(tmp_path / "f.zarr")
    said = ["--lead", "6h", "--lead", "12h", "--no-members", "--end", "1999-12-01T12"]
    assert main(["forecast", str(series), out, *said]) == 0
    with xr.open_zarr(out) as got:
        assert got.u.sizes["lead_time"] == 2
        assert "u_spread" in got


def test_blocks_that_failed(own, tmp_path, capsys):
    (own / "u" / "c" / "1" / "0" / "0").write_bytes(b"gone")
    out = str(tmp_path / "z.zarr")
    command = ["embed", str(own), out, "--chunks", "time=4", "--reduce", "mean"]
    said = _refused(capsys, *command)
    assert "The block time 1999-12-01T06:00 to 1999-12-02T00:00 could not" in said
    assert main([*command, "--on-error", "skip"]) == 3
    said = capsys.readouterr()
    assert "1 failed" in said.out
    assert "1 blocks failed:\n  time 1999-12-01T06:00 to" in said.err
    assert "run the same command again" in said.err


def test_bad_inputs(series, tmp_path, capsys):
    out, inn = str(tmp_path / "z.zarr"), str(series)
    assert "no file 'nothing.nc'" in _refused(capsys, "embed", "nothing.nc", out)
    assert "called like 'x*.nc'" in _refused(capsys, "embed", "x*.nc", out)
    (tmp_path / "in.csv").write_text("a,b\n")
    assert "cannot open" in _refused(capsys, "embed", str(tmp_path / "in.csv"), out)
    said = _refused(capsys, "embed", inn, str(tmp_path / "z.csv"))
    assert "'.csv'" in said
    assert ".zarr (Zarr) or .nc (netCDF)" in said
    assert "no suffix" in _refused(capsys, "embed", inn, str(tmp_path / "z"))
    assert "no folder" in _refused(capsys, "embed", inn, str(tmp_path / "no/z.zarr"))
    assert "can reach" in _refused(capsys, "embed", inn, "s3://bucket/z.zarr")
    assert "where the input is" in _refused(capsys, "embed", inn, inn)
    assert "where the input is" in _refused(capsys, "embed", inn, f"{inn}/z.zarr")
    assert "cannot be read" in _refused(capsys, "embed", inn, out, "--chunks", "64")
    said = _refused(capsys, "embed", inn, out, "--chunks", "tiem=4")
    assert "no dimension 'tiem'" in said
    said = _refused(capsys, "embed", inn, out, "--start", "2031-01-01")
    assert "no times between" in said
    assert "1999-11-30T06:00" in said
    said = _refused(capsys, "embed", inn, out, "--model", "nobody")
    assert "nobody" in said
    assert "two things" in _refused(capsys, "distance", inn, out)
    said = _refused(capsys, "embed", inn, out, "--scheduler", "slurm")
    assert "no scheduler 'slurm'" in said
    # Nothing is left of jobs that did not begin.
    assert [p.name for p in tmp_path.iterdir()] == ["in.csv"]


def test_options_in_python(series, tmp_path):
    with pytest.raises(xatmo.errors.OptionError, match="embed has no option 'lead'"):
        xatmo.run_job("embed", series, tmp_path / "z.zarr", lead="24h")
    with pytest.raises(xatmo.errors.OptionError, match="no job 'attention'"):
        xatmo.run_job("attention", series, tmp_path / "z.zarr")
    with pytest.raises(xatmo.errors.OptionError, match="'ignore' on an error"):
        xatmo.run_job("embed", series, tmp_path / "z.zarr", on_error="ignore")
