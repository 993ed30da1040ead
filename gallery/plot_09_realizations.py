"""
An ensemble of realizations
===========================

A coarse field leaves open what is inside its cells. :func:`xatmo.downscale` draws it,
as often as you like: ``realizations=8`` gives eight fine fields that share their block
means and differ in the rest. This example looks at what they have in common, at what
their mean and spread are good for, and whether the spread is as large as it should be.

The winds are those of the example before: GFS analyses of October 2018, or, where these
pages are built without them, the simulated sample, which has nothing below 1.9°.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xatmo
from xatmo import metrics
from xatmo.fields import land_share_of_cells
from xatmo.methods import interpolate

file = "data/test/gfs_uv10_global_1deg_6h_2018_michael.nc"
path = Path(os.environ.get("XATMO_DATA", "."), file)
if path.exists():
    ds = xr.open_dataset(path).isel(time=slice(3, None, 9)).sortby("latitude").load()
else:
    ds = interpolate(xatmo.open_sample().isel(time=slice(3, None, 9)), factor=2)
    ds = ds.interp(lat=np.arange(-88.125, 88.2, 0.9375)).drop_vars("sigma")
    ds = ds.rename(u="u10", v="v10", lat="latitude", lon="longitude")
print(ds.sizes["time"], "states")

# %%
# Members, mean and spread
# ------------------------
# Eight realizations of one state on a grid of 0.25°, in a region of the Pacific and the
# west coast of North America. As many points around it are handed over as the network
# sees, so that they are what they would be on the globe.
south, north, west, east = 30, 46, 225, 249
halo = xatmo.load_model(capability="downscale").card.grid.halo
around = ds.isel(time=1).sel(
    latitude=slice(south - halo, north + halo),
    longitude=slice(west - halo, east + halo),
)
members = around.atmo.downscale(realizations=8)
inside = {"latitude": slice(south, north), "longitude": slice(west, east)}
u = members.u10.sel(inside)
print(dict(u.sizes))

# %%
# The mean of the members is smoother than each of them: what is drawn anew each time
# cancels, and what the coarse field determines remains. It is an estimate with a small
# error, and a field that never occurs. The spread says where much is left open: where
# the wind changes from cell to cell, over mountains, along coasts.
mean, spread = u.mean("realization"), u.std("realization", ddof=1)
rows = {
    "eastward wind (m s$^{-1}$)": {
        "coarse": around.u10.sel(inside),
        "realization 0": u.isel(realization=0),
        "mean of eight": mean,
    },
    "from the mean (m s$^{-1}$)": {
        "realization 0 - mean": u.isel(realization=0) - mean,
        "realization 1 - mean": u.isel(realization=1) - mean,
        "spread": spread,
    },
}
x, y = u.longitude.values, u.latitude.values
land = land_share_of_cells(y, x, (0.25, 0.25))
fig, axes = plt.subplots(
    2, 3, figsize=(9.5, 4.6), layout="constrained", sharex=True, sharey=True
)
for ax_row, (label, maps) in zip(axes, rows.items(), strict=True):
    most = max(float(abs(field).quantile(0.995)) for field in maps.values())
    for ax, (title, field) in zip(ax_row, maps.items(), strict=True):
        style = {"vmin": -most, "vmax": most, "cmap": "RdBu_r"}
        mesh = ax.pcolormesh(field.longitude, field.latitude, field, **style)
        ax.contour(x, y, land, [0.5], colors="0.3", linewidths=0.8)
        ax.set_title(title, loc="left", fontsize=9)
        ax.set(xlim=(west, east), ylim=(south, north), aspect="equal")
    ax_row[0].set_ylabel("latitude (°N)")
    fig.colorbar(mesh, ax=ax_row, label=label, extend="both")
for ax in axes[1]:
    ax.set_xlabel("longitude (°E)")
plt.show()

# %%
# Draws belong to dates and places
# --------------------------------
# The same call gives the same realizations, in any chunks; more of them do not change
# the first ones; another ``seed`` gives others. A part of the region gets what it has
# in the whole, but for its edges, where the network sees less.
few = around.chunk(latitude=20).atmo.downscale(realizations=2).u10.sel(inside)
other = around.atmo.downscale(seed=1).u10.sel(inside)
print(f"chunks, fewer:  {float(abs(few - u[:2]).max()):.0e} m/s apart")
print(f"another seed:   {float(abs(other - u[0]).max()):.1f} m/s apart")

# %%
# Are they good ones?
# -------------------
# That can be measured where the truth is known: means of 4 x 4 points of the 1° winds
# are refined back to 1°, within 60° of the equator.
truth = ds.isel(latitude=slice(ds.sizes["latitude"] // 4 * 4))
coarse = truth.coarsen(latitude=4, longitude=4).mean()
drawn = coarse.atmo.downscale(model="downscale-winds-4deg", realizations=8)
band = {"latitude": slice(-60, 60)}
drawn, near = drawn.sel(band), truth.sel(band)
plain = interpolate(coarse, conserve=True).sel(band)


def both(scores):
    """Average the scores of the two components."""
    return scores.to_dataarray().mean("variable")


estimates = {
    "bicubic, means kept": plain,
    "realization 0": drawn.isel(realization=0),
    "mean of eight": drawn.mean("realization"),
}
print(f"{'':22}RMSE (m/s)   MAE (m/s)    power")
for name, winds in estimates.items():
    scores = metrics.rmse, metrics.mae, metrics.power_ratio
    error, size, power = (float(both(score(winds, near))) for score in scores)
    print(f"{name:22}{error:9.2f}{size:12.2f}{power:10.2f}")
print(f"CRPS of the eight: {float(both(metrics.crps(drawn, near))):.2f} m/s")

# %%
# The CRPS is the MAE of an estimate that knows how sure it is; with a single member the
# two are the same, so it is compared with the MAE of interpolation.
#
# If the truth could be one more member, it has each rank among them equally often.
# Ranks at the ends say that the spread is too small, ranks in the middle that it is too
# large. On the right, what averaging does: the error falls, and so does the power at
# scales below the coarse grid's.
ranks = metrics.rank_histogram(drawn.u10, near.u10)
ratio = float(both(metrics.spread_error_ratio(drawn, near)))
counts = range(1, 9)
means = [drawn.isel(realization=slice(n)).mean("realization") for n in counts]
errors = [float(both(metrics.rmse(mean, near))) for mean in means]
powers = [float(both(metrics.power_ratio(mean, near))) for mean in means]

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4), layout="constrained")
left.bar(range(9), ranks, color="#1b6ca8", width=0.9)
left.axhline(1 / 9, color="black", lw=0.8, ls=":")
left.set(xlabel="rank of the truth among eight", ylabel="share of the points (1)")
left.set_title(f"eastward wind; spread / error {ratio:.2f}", loc="left", fontsize=10)
right.plot(counts, errors, "o-", color="#c8553d", ms=4)
right.set(xlabel="members averaged", ylim=(0, None))
right.set_ylabel("RMSE (m s$^{-1}$)", color="#c8553d")
twin = right.twinx()
twin.plot(counts, powers, "s-", color="#1b6ca8", ms=4)
twin.set(ylim=(0, 1.1))
twin.set_ylabel("power of the small scales (1)", color="#1b6ca8")
plt.show()

# %%
# Keep the means?
# ---------------
# ``conserve=True``, the default, shifts the fine values of each coarse cell so that
# their mean is the cell's value. If the coarse value *is* a mean, of a model with boxes
# for instance, nothing speaks against it. Where it is the value at a point, what the
# network says without that may be nearer.
free = coarse.atmo.downscale(model="downscale-winds-4deg", conserve=False)
kept = coarse.atmo.downscale(model="downscale-winds-4deg")
for name, winds in {"conserve=True": kept, "conserve=False": free}.items():
    means = winds.coarsen(latitude=4, longitude=4).mean()
    off = float(both(metrics.rmse(means, coarse.assign_coords(means.coords))))
    error = float(both(metrics.rmse(winds.sel(band), near)))
    print(f"{name:15} block means off by {off:.1e} m/s, RMSE {error:.2f} m/s")
