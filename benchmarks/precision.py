"""What ``precision="bfloat16"`` changes: each verb of each released model.

The root mean square of the difference from single precision, divided by the standard
deviation of the result in single precision; of several variables, the largest. On the
sample. Of ``infill`` only what was filled counts, of time interpolation only what was
between. Rounding a number to bfloat16 alone changes it by 0.0017 of itself (root mean
square).

    python -m benchmarks.precision [--device cuda] [--quick]
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict

import numpy as np
import xarray as xr

from benchmarks.rows import Row, markdown
from xatmo.errors import ExtrapolationWarning

GOAL = 0.05

Verb = Callable[[xr.Dataset], xr.Dataset | xr.DataArray]


def measure(quick: bool, device: str = "auto") -> list[Row]:
    """Compare both precisions on one device."""
    import xatmo

    times = 9 if quick else 17
    ds = xatmo.open_sample().isel(time=slice(times)).load()
    rows = []
    for model in xatmo.list_models():
        for verb, run, read in cases(model, ds):
            with (
                warnings.catch_warnings(),
                xatmo.set_options(device=device, missing="propagate"),
            ):
                warnings.simplefilter("ignore", ExtrapolationWarning)
                exact = run(read)
                with xatmo.set_options(precision="bfloat16"):
                    rounded = run(read)
            change, where = difference(exact, rounded, read)
            detail = f"of {where}" if where else ""
            rows.append(Row(f"{model.name}, {verb}", change, GOAL, detail=detail))
    return rows


def cases(card: object, ds: xr.Dataset) -> Iterator[tuple[str, Verb, xr.Dataset]]:
    """Go through the verbs of a model, each with data that it reads."""
    name, able = card.name, card.capabilities  # type: ignore[attr-defined]
    region = ds.sel(lat=slice(20, 70), lon=slice(0, 90))
    if card.leads is not None:  # type: ignore[attr-defined]
        whole = _of_the_globe(card, ds.isel(time=slice(4)))
        yield "embed", lambda x: x.atmo.embed(name), whole
        yield "forecast 24 h", lambda x: x.atmo.forecast("24h", name), whole
        yield "attention", lambda x: x.atmo.attention(model=name), whole
        return
    if "embed" in able and "forecast" not in able:
        yield "embed", lambda x: x.atmo.embed(name), _for(card, ds)
    if "distance" in able:
        yield (
            "distance",
            lambda x: x.atmo.distance(x.isel(time=0, drop=True), name).isel(
                time=slice(1, None)
            ),
            _for(card, ds),
        )
    if "downscale" in able:
        few = _for(card, ds.isel(time=slice(2)))
        yield "downscale", lambda x: x.atmo.downscale(model=name), few
    if "infill" in able and "forecast" not in able:
        yield "infill", _filled(name), with_holes(region[["u"]])
    if "forecast" in able:
        yield "embed", lambda x: x.atmo.embed(name), region
        yield "infill", _filled(name), with_holes(region)
        few = region.isel(time=slice(7))
        yield "forecast 24 h", lambda x: x.atmo.forecast("24h", name), few
        daily = region.isel(time=slice(None, None, 4))
        yield "interpolate_time", lambda x: x.atmo.interpolate_time("6h", name), daily
        yield "attention", lambda x: x.atmo.attention(name), few


def _filled(name: str) -> Verb:
    return lambda x: x.atmo.infill("network", model=name)


def with_holes(ds: xr.Dataset) -> xr.Dataset:
    """Hide a part of each field."""
    from xatmo.testing.gaps import with_gaps

    return with_gaps(ds, "clouds", seed=1)


def _for(card: object, ds: xr.Dataset) -> xr.Dataset:
    """Put the sample on a grid and a level that a model reads."""
    low, high = card.grid.spacing  # type: ignore[attr-defined]
    known = [level.level for level in card.levels]  # type: ignore[attr-defined]
    if not low <= 1.875 <= high:
        step = 1.0 if low < 1 else 4.0
        ds = ds.interp(
            lat=np.arange(20, 70.1, step), lon=np.arange(0, 90.1, step), method="cubic"
        )
    if "sigma 0.95" in known:
        return ds
    # The lowest level of the sample stands for winds near the ground.
    return ds.drop_vars("sigma").rename(u="u10", v="v10")


def _of_the_globe(card: object, ds: xr.Dataset) -> xr.Dataset:
    """Put the sample on the one grid that a model of the whole globe reads."""
    rows, columns = card.grid.patch  # type: ignore[attr-defined]
    step = 360 / columns
    latitude = step * (np.arange(rows) + 0.5) - 90
    around = ds.pad(lon=(0, 1), mode="wrap").assign_coords(
        lon=np.append(ds.lon, 360.0)  # its first column closes the circle
    )
    longitude = step * np.arange(columns)
    # Its last rows lie a little beyond those of the sample.
    options = {"fill_value": "extrapolate"}
    return around.interp(lat=latitude, lon=longitude, kwargs=options)


def difference(
    exact: xr.Dataset | xr.DataArray,
    rounded: xr.Dataset | xr.DataArray,
    read: xr.Dataset,
) -> tuple[float, str]:
    """Return the largest relative difference of the variables, and of which it is."""
    if isinstance(exact, xr.DataArray):
        exact, rounded = exact.to_dataset(name="x"), rounded.to_dataset(name="x")
    found = {}
    for name, a in exact.data_vars.items():
        if not np.issubdtype(a.dtype, np.floating) or str(name).endswith("_scores"):
            continue
        b = rounded[name]
        if str(name) in read and "time" in a.dims:
            given = read[name].reindex(time=a.time)
            if given.sizes == a.sizes:  # what was given is as it was
                a, b = a.where(given.isnull()), b.where(given.isnull())
        change, spread = np.sqrt(np.square(b - a).mean()), a.std()
        if float(spread) > 0:
            found[str(name)] = float(change / spread)
    where = max(found, key=lambda name: found[name])
    return found[where], where if len(found) > 1 else ""


def main() -> None:
    """Print the table, or rows for ``benchmarks.run``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer times")
    parser.add_argument("--json", action="store_true", help="rows for benchmarks.run")
    parser.add_argument("--device", default="auto", help="'cpu' or 'cuda'")
    given = parser.parse_args()
    rows = measure(given.quick, given.device)
    print(json.dumps([asdict(row) for row in rows]) if given.json else markdown(rows))


if __name__ == "__main__":
    main()
