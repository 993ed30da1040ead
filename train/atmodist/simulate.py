"""Simulate the atmosphere that ``pretrain.toml`` learns from.

    python -m venv simulate && simulate/bin/pip install jcm==3.0.0 netCDF4
    simulate/bin/python train/atmodist/simulate.py --days 170
    simulate/bin/python train/atmodist/simulate.py --days 110 --state

A general circulation model (SPEEDY physics on the dinosaur spectral core) at T63 with
realistic orography and seasonal forcing starts from rest; its first 60 days are thrown
away. About 1.5 to 4 minutes of one core per 10 days. What comes out is real dynamics,
not real weather: ``simulated/speedy_t63_uv_6h.nc``, 6-hourly winds at three levels, or
with ``--state`` ``simulated/speedy_t63_state_6h.nc``, with temperature, humidity and
geopotential beside them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import jcm
import numpy as np
import xarray as xr

SPIN_UP_DAYS = 60
CHUNK_DAYS = 10
SIGMA = [0.95, 0.835, 0.51]
# Name in the model's output: name, standard name, units, step and middle of packing.
WINDS = {
    "u_wind": ("u", "eastward_wind", "m s-1", 0.005, 0.0),
    "v_wind": ("v", "northward_wind", "m s-1", 0.005, 0.0),
}
STATE = {
    **WINDS,
    "temperature": ("t", "air_temperature", "K", 0.005, 250.0),
    "specific_humidity": ("q", "specific_humidity", "kg kg-1", 1e-6, 0.0),
    "geopotential": ("z", "geopotential", "m2 s-2", 2.0, 40_000.0),
}
START = "1999-04-01"


def main() -> None:
    """Run the model, reducing its output as it comes (660 MB per ten days)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=170, help="spin-up included")
    parser.add_argument("--state", action="store_true", help="more than the winds")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", default="simulated/work", type=Path)
    arguments = parser.parse_args()
    kept = STATE if arguments.state else WINDS
    kind = "state" if arguments.state else "uv"
    out = arguments.out or Path(f"simulated/speedy_t63_{kind}_6h.nc")
    arguments.work.mkdir(parents=True, exist_ok=True)
    run = subprocess.Popen(command(arguments.days, arguments.work))
    while run.poll() is None:
        time.sleep(10)
        for chunk in chunks(arguments.work)[:-1]:  # the last one is still written
            reduce(chunk, kept)
    if run.returncode:
        sys.exit(f"the simulation stopped with code {run.returncode}")
    for chunk in chunks(arguments.work):
        reduce(chunk, kept)
    join(arguments.work, out, kept)


def command(days: int, work: Path) -> list[str]:
    """Return the command that runs the model for some days."""
    boundary = Path(jcm.__file__).parent / "data/bc/t63"
    return [
        *(sys.executable, "-m", "jcm.main"),
        *("grid.spectral_truncation=63", "run.time_step=15"),
        *("terrain=from_file", f"terrain.file={boundary / 'terrain.nc'}"),
        *("terrain.interpolate=true", "forcing.align=wrap_year"),
        *("forcing=from_file", f"forcing.file={boundary / 'forcing.nc'}"),
        *(f"run.start_time={START}", f"run.total_time={days}"),
        *("run.save_interval=0.25", f"run.chunk_days={CHUNK_DAYS}"),
        *(f"run.output_prefix={work / 'raw'}", f"hydra.run.dir={work / 'hydra'}"),
    ]


def chunks(work: Path) -> list[Path]:
    """Return the files that the model has written, in the order of time."""
    return sorted(work.glob("raw_day*.nc"), key=_day)


def _day(path: Path) -> int:
    return int(re.findall(r"day(\d+)", path.name)[0])


def reduce(chunk: Path, kept: dict[str, tuple]) -> None:
    """Keep some quantities at three levels, and delete the rest."""
    with xr.open_dataset(chunk) as ds:
        few = ds[list(kept)].sel(level=SIGMA, method="nearest")
        few = few.transpose("time", "level", "lat", "lon").astype("f4").load()
    few = few.reset_coords(drop=True).drop_attrs()
    few.to_netcdf(chunk.with_name(f"kept_day{_day(chunk)}.nc"))
    chunk.unlink()


def join(work: Path, out: Path, kept: dict[str, tuple]) -> None:
    """Write one file with what CF asks for, without the spin-up, packed."""
    parts = sorted(work.glob("kept_day*.nc"), key=_day)
    ds = xr.concat([xr.open_dataset(p) for p in parts], "time")
    ds = ds.isel(time=slice(SPIN_UP_DAYS * 4, None)).rename(level="sigma")
    about = {"standard_name": "atmosphere_sigma_coordinate", "units": "1"}
    ds["sigma"] = ("sigma", SIGMA, {**about, "positive": "down"})
    ds["lat"].attrs = {"standard_name": "latitude", "units": "degrees_north"}
    ds["lon"].attrs = {"standard_name": "longitude", "units": "degrees_east"}
    packing = {}
    for old, (name, standard_name, units, step, middle) in kept.items():
        ds = ds.rename({old: name})
        ds[name].attrs = {"standard_name": standard_name, "units": units}
        if float(abs(ds[name] - middle).max()) > 32767 * step:
            sys.exit(f"{name} does not fit its packing: values would be lost")
        packing[name] = {
            **{"dtype": "int16", "_FillValue": np.int16(-32768)},
            **{"scale_factor": step, "add_offset": middle},
            **{"zlib": True, "complevel": 1},
            "chunksizes": (1, len(SIGMA), ds.sizes["lat"], ds.sizes["lon"]),
        }
    ds.attrs = {
        "Conventions": "CF-1.10",
        "title": "Simulated atmosphere, 6-hourly, T63",
        "source": "SPEEDY physics on the dinosaur spectral core (jcm 3.0.0)",
        "comment": "Simulated, not real weather.",
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    ds.to_netcdf(out, encoding=packing)


if __name__ == "__main__":
    main()
