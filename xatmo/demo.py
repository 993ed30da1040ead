"""``xatmo demo``: the main job in one command, on the sample or on one's own file."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xatmo.distances import distance
from xatmo.embedding import embed
from xatmo.errors import OptionError, TimeAxisError
from xatmo.fields import Fields, Level, area_weights, read, recognise, restore
from xatmo.matching import Prepared, model_for, prepare
from xatmo.metrics import by_lag, lag_hours, pairwise_rmse
from xatmo.opening import open_file
from xatmo.sample import open_sample
from xatmo.zoo import Card
from xatmo.zoo.files import draft

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Demo", "compute", "draw", "open_file", "run_demo", "save", "table"]

# Two months of six-hourly fields: the matrix of all pairs stays small.
_MOST_TIMES = 240
_FIELDS_PER_CHUNK = 8
_MAP_LAG = 24.0  # hours between the two states of the maps
_LONGEST_LAG = 240.0  # hours


@dataclass(frozen=True)
class Demo:
    """Lazy results of the demo, and what the figure and the table need to know."""

    result: xr.Dataset
    model: str
    time: str | None
    left_out: str = ""


_VORTICITY = "atmosphere_relative_vorticity"


def run_demo(
    ds: xr.Dataset | None = None, *, model: str | None = None, level: Any = None
) -> Demo:
    """Plan the embedding of a series and the distances between all its states.

    Parameters
    ----------
    ds : Dataset, optional
        The sample that ships with the package if not given.
    model : str, optional
        The default model if not given.
    level : str or number, optional
        The first that the model reads if there are several.

    Returns
    -------
    Demo
        ``result`` is lazy: ``embedding``, the two states of the maps as
        ``vorticity`` on the grid of the input, and for a series ``distance_map``,
        ``distance`` and ``rmse`` of all pairs.
    """
    ds = open_sample(chunks={}) if ds is None else ds
    found = model_for(ds, model, capability="distance")
    level = level or _preferred_level(ds, found.card)
    data = prepare(ds, found, capability="distance", level=level)
    left_out = _left_out(data.fields)
    ds = _one_series(ds, data)
    data = prepare(ds, found, capability="distance", level=level, warn=False)
    vorticity = _vorticity(ds, data)
    result = xr.Dataset({"embedding": embed(ds, found, level=level)})
    time = data.fields.axes.time
    if time not in vorticity.dims or vorticity.sizes[time] < 2:
        result["vorticity"] = _states(vorticity, data.fields, [0])
        return Demo(result, found.name, None, left_out)
    pair = _pair(ds[time]) if time in ds.coords else (0, 1)
    result["vorticity"] = _states(vorticity, data.fields, list(pair))
    first, later = (ds.isel({time: i}) for i in pair)
    apart = distance(first, later, found, level=level).reset_coords(drop=True)
    result["distance_map"] = apart.transpose(*_map_dims(data.fields))
    result["distance"] = distance(ds, model=found, pairwise=True, level=level)
    result["rmse"] = pairwise_rmse(vorticity, _row_weights(data.fields), str(time))
    result["rmse"].attrs = {"long_name": "RMSE of vorticity", "units": "s-1"}
    return Demo(result, found.name, time, left_out)


def _preferred_level(ds: xr.Dataset, card: Card) -> str | None:
    """The first of the model's levels that the data hold, where they hold several."""
    found = recognise(ds).quantities.values()
    held = {level for variables in found for v in variables for level in v.levels}
    known = [lv.level for lv in card.levels if Level.parse(lv.level) in held]
    return known[0] if known and len(held) > 1 else None


def _left_out(fields: Fields) -> str:
    """What of the data the demo does not look at, in words."""
    time, field = fields.axes.time, next(iter(fields.data.values()))
    said = [
        f"{n - 1} of {n} along {dim}"
        for dim, n in field.sizes.items()
        if dim not in {"latitude", "longitude", time} and n > 1
    ]
    if field.sizes.get(time, 0) > _MOST_TIMES:
        said.append(f"all but the first {_MOST_TIMES} times")
    return ", ".join(said)


def _one_series(ds: xr.Dataset, data: Prepared) -> xr.Dataset:
    """One member of an ensemble, not too many times, in chunks of a few fields."""
    axes = data.fields.axes
    keep = {"latitude", "longitude", axes.time, axes.level}
    more = [d for d in next(iter(data.fields.data.values())).dims if d not in keep]
    ds = ds.isel(dict.fromkeys(more, 0))
    if axes.time not in ds.dims:
        return ds.chunk()
    if not ds.sizes[axes.time]:
        msg = "The series is empty."
        raise TimeAxisError(
            msg,
            found=f"no times along {axes.time!r}",
            needed="one state at least, two for a distance",
            hint="ds.sel(time=...) with a period that the data hold",
        )
    ds = ds.isel({axes.time: slice(_MOST_TIMES)})
    return ds.chunk({axes.time: _FIELDS_PER_CHUNK})


def _vorticity(ds: xr.Dataset, data: Prepared) -> xr.DataArray:
    """Vorticity at the level that the model reads first: what is drawn."""
    levels = data.fields.levels
    fields = read(ds, [_VORTICITY], levels=levels, level=str(levels[0]))
    return fields.at_level(_VORTICITY, 0)


def _states(vorticity: xr.DataArray, fields: Fields, times: list[int]) -> xr.DataArray:
    """The states that are drawn, on dimensions of their own: cells are coarser."""
    axes = fields.axes
    picked = restore(vorticity, fields)
    names = {d: f"{d}_input" for d in (axes.latitude, axes.longitude)}
    if axes.time in picked.dims:
        picked = picked.isel({axes.time: times})
        names[str(axes.time)] = "state"
    lead = [names[str(axes.time)]] if axes.time in names else []
    maps = [names[d] for d in (axes.latitude, axes.longitude)]
    return picked.rename(names).transpose(*lead, *maps)


def _map_dims(fields: Fields) -> tuple[str, str]:
    return fields.axes.latitude, fields.axes.longitude


def _row_weights(fields: Fields) -> xr.DataArray:
    latitude = fields.grid.latitude
    return xr.DataArray(area_weights(latitude), {"latitude": latitude}, "latitude")


def _pair(time: xr.DataArray) -> tuple[int, int]:
    """The first state, and the one nearest to a day later."""
    hours = lag_hours(time)[0]
    hours[0] = np.inf
    return 0, int(np.argmin(np.abs(hours - _MAP_LAG)))


def compute(demo: Demo, *, progress: bool) -> Demo:
    """Compute everything in one go, so that each state is embedded once."""
    from dask.diagnostics import ProgressBar

    bar: AbstractContextManager[Any] = ProgressBar() if progress else nullcontext()
    with bar:
        result = demo.result.compute()
    if demo.time is not None and demo.time in result.coords:
        hours = lag_hours(result[demo.time])
        for name in ("distance", "rmse"):
            curve = by_lag(result[name].values, hours, _LONGEST_LAG)
            result[f"{name}_by_lag"] = curve["mean"].assign_attrs(result[name].attrs)
            result[f"{name}_by_lag_std"] = curve["std"].assign_attrs(result[name].attrs)
            result["pairs"] = curve["count"]
    return Demo(result, demo.model, demo.time, demo.left_out)


def table(demo: Demo) -> str:
    """Distance and RMSE by lag in words: at most a dozen lines."""
    result = demo.result
    shape = " x ".join(f"{n} {d}" for d, n in result["embedding"].sizes.items())
    lines = [f"model      {demo.model}", f"level      {_level(result)}"]
    lines.append(f"embedding  {shape}")
    if demo.left_out:
        lines.append(f"left out   {demo.left_out}")
    if "distance_by_lag" not in result or not result.sizes["lag"]:
        lines.append("distances  need two states: this series has one, or no dates")
        return "\n".join(lines)
    lines += ["", "  lag (h)   pairs   distance   RMSE of vorticity (1e-5 s-1)"]
    lags = result["lag"].values
    for i in np.unique(np.linspace(0, lags.size - 1, min(12, lags.size)).astype(int)):
        row = result.isel(lag=i)
        lines.append(
            f"{lags[i]:9g} {int(row['pairs']):7d} {float(row['distance_by_lag']):10.4f}"
            f" {float(row['rmse_by_lag']) * 1e5:12.3f}"
        )
    return "\n".join(lines)


def save(demo: Demo, fig: Figure, folder: Path) -> list[Path]:
    """Write ``xatmo-demo.nc`` and ``xatmo-demo.png``, each whole or not at all."""
    paths = [folder / "xatmo-demo.nc", folder / "xatmo-demo.png"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"The results cannot be written to {str(folder)!r}."
        raise OptionError(
            msg,
            found=str(error),
            needed="a folder, or a place where one can be made",
            hint="xatmo demo --out some/folder",
        ) from error
    with draft(paths[0]) as part:
        demo.result.drop_encoding().to_netcdf(part, engine="netcdf4")
    with draft(paths[1]) as part:
        fig.savefig(part, format="png", dpi=120)
    return paths


def _level(result: xr.Dataset) -> str:
    return str(result["embedding"].attrs["level"])


def draw(demo: Demo) -> Figure:
    """Draw the two states, their distance, and distance against time lag."""
    from xatmo.plot import figure, lag_curves, world_map

    result = demo.result
    rows = 1 if demo.time is None else 2
    fig = figure(figsize=(13, 3.7 * rows), layout="constrained")
    fig.suptitle(f"AtmoDist distance, {demo.model}", x=0.01, ha="left")
    axes = fig.subplots(rows, 2, squeeze=False)
    vorticity = result["vorticity"] * 1e5
    spread = float(np.nanpercentile(np.abs(vorticity), 98))
    style = {"cmap": "RdBu_r", "vmin": -spread, "vmax": spread}
    label = "relative vorticity ($10^{-5}$ s$^{-1}$)"
    if demo.time is None:
        world_map(_one(vorticity, 2), axes[0, 0], title="state", label=label, **style)
        size = (_one(result["embedding"], 3) ** 2).mean("feature") ** 0.5
        title, label = "size of its embedding", "root mean square feature (1)"
        world_map(size, axes[0, 1], title=title, label=label, cmap="viridis")
        return fig
    for ax, state in zip(axes[0], vorticity, strict=True):
        world_map(state, ax, title=_when(state), label=label, **style)
    world_map(
        result["distance_map"],
        axes[1, 0],
        title="distance of the two states above",
        label="AtmoDist distance (1)",
        cmap="magma",
    )
    if "distance_by_lag" in result:
        curves = {
            "AtmoDist distance (1)": _curve(result, "distance", 1.0),
            "RMSE of vorticity ($10^{-5}$ s$^{-1}$)": _curve(result, "rmse", 1e5),
        }
        lag_curves(axes[1, 1], result["lag"].values, curves)
        axes[1, 1].set_title("all pairs: mean ± std", fontsize=10, loc="left")
    return fig


def _curve(result: xr.Dataset, name: str, scale: float) -> tuple[Any, Any]:
    mean, std = (result[f"{name}_by_lag{end}"].values for end in ("", "_std"))
    return mean * scale, std * scale


def _one(field: xr.DataArray, ndim: int) -> xr.DataArray:
    return field.isel(dict.fromkeys(field.dims[:-ndim], 0))


def _when(state: xr.DataArray) -> str:
    if "state" not in state.coords:
        return "state"
    return str(state["state"].values)[:16].replace("T", " ")
