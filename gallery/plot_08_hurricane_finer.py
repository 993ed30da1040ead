"""
A Gulf hurricane four times finer
=================================

On a grid of 4° a hurricane is a few points. :func:`xatmo.downscale` draws what it may
look like at 1°: a field that has the coarse one as its block means, and small scales
like those of real fields. Here the truth is known, and interpolation stands beside.

The storm is Michael on 10 October 2018, some hours before it came ashore, in a GFS
analysis. The file is no part of xatmo: where these pages are built without it, a storm
of the simulated sample takes its place, which has nothing below 1.9°, so that whatever
is drawn there is too much.
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
    storm, (south, north, west, east) = "Michael", (16, 40, 260, 290)
    ds = xr.open_dataset(path).sel(time="2018-10-10T12").sortby("latitude").load()
else:
    storm, (south, north, west, east) = "simulated", (34, 58, 290, 320)
    ds = interpolate(xatmo.open_sample().isel(time=8).drop_vars("sigma"), factor=2)
    ds = ds.interp(lat=np.arange(-88.125, 88.2, 0.9375))
    ds = ds.rename(u="u10", v="v10", lat="latitude", lon="longitude")

# %%
# From 4° to 1°
# -------------
# Means of 4 x 4 points are the coarse field. All that follows is made of it: by
# interpolation, by interpolation that is then shifted to keep the means, and drawn.
truth = ds.isel(latitude=slice(ds.sizes["latitude"] // 4 * 4))
coarse = truth.coarsen(latitude=4, longitude=4).mean()
drawn = coarse.atmo.downscale(model="downscale-winds-4deg", realizations=3)
fields = {
    "truth": truth,
    "bicubic": interpolate(coarse),
    "bicubic, means kept": interpolate(coarse, conserve=True),
    "one realization": drawn.isel(realization=0),
}


# %%
# The wind speed around the storm, all on one scale. The line is the coast: there half
# of a cell is land.
#
# A mean of 4 x 4 points has little left of a storm, and interpolation does not bring it
# back. The network knows how winds vary inside such a cell, and not how they did on
# that day: each realization is another guess. That a cell hides a hurricane is rarely
# the best one, so look at the largest values in all maps.
def around(winds, margin=0):
    return winds.sel(
        latitude=slice(south - margin, north + margin),
        longitude=slice(west - margin, east + margin),
    )


highest = float(np.hypot(around(truth).u10, around(truth).v10).max())


def speed_map(ax, winds, title, margin):
    speed = np.hypot(winds.u10, winds.v10)
    shown = around(speed, margin + 4)
    mesh = ax.pcolormesh(shown.longitude, shown.latitude, shown, vmin=0, vmax=highest)
    y = np.arange(south - margin, north + margin, 0.1)
    x = np.arange(west - margin, east + margin, 0.1)
    land = land_share_of_cells(y, x, (0.2, 0.2))
    ax.contour(x, y, land, [0.5], colors="white", linewidths=0.8)
    most = float(around(speed, margin).max())
    ax.set_title(f"{title}, at most {most:.0f} m/s", loc="left", fontsize=9)
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), aspect="equal")
    return mesh


def speed_maps(maps, margin=0, **layout):
    fig, axes = plt.subplots(
        **layout, layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    for ax, (title, winds) in zip(axes.flat, maps.items(), strict=True):
        mesh = speed_map(ax, winds, title, margin)
    for ax in axes[-1]:
        ax.set_xlabel("longitude (°E)")
    for ax in axes[:, 0]:
        ax.set_ylabel("latitude (°N)")
    label = f"wind speed, {storm} (m s$^{{-1}}$)"
    fig.colorbar(mesh, ax=axes, label=label, extend="max", aspect=30)


maps = {"coarse": coarse, "bicubic": fields["bicubic"], "truth": truth}
maps |= {f"realization {i}": drawn.isel(realization=i) for i in range(3)}
speed_maps(maps, nrows=2, ncols=3, figsize=(9.5, 5.4))
plt.show()

# %%
# One storm proves nothing. In all of this field within 60° of the equator: the error,
# and two shares of the truth. One is that of the power at scales which the coarse grid
# cannot hold, one that of the variance between points 100 km apart.
band = {"latitude": slice(-60, 60)}
near = truth.sel(band)
lags = (100, 150, 200, 300, 500, 1000)
curves, spectra = {}, {}
print(f"{'':22}RMSE (m/s)    power    at 100 km")
for name, winds in fields.items():
    here = winds.sel(band)
    error, power = metrics.rmse(here, near), metrics.power_ratio(here, near)
    variogram = metrics.semivariogram(here, lags) / metrics.semivariogram(near, lags)
    curves[name] = variogram.to_dataarray().mean("variable")
    spectra[name] = metrics.zonal_spectrum(here).to_dataarray().sum("variable") / 2
    error, power = (float(x.to_dataarray().mean()) for x in (error, power))
    print(f"{name:22}{error:9.2f}{power:11.2f}{float(curves[name][0]):11.2f}")

# %%
# A realization is a guess: with a gust in the wrong place it is wrong twice, there and
# where the gust was. In return it is meant to have as much of every scale as the truth.
# The grey band marks the shortest wave of the coarse grid.
fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.9), layout="constrained")
colours = ("black", "#8a8f98", "#c9a227", "#1b6ca8")
for name, colour in zip(fields, colours, strict=True):
    spectrum, curve = spectra[name], curves[name]
    left.loglog(spectrum.wavelength, spectrum, color=colour, label=name)
    right.semilogx(curve.lag, curve, marker=".", color=colour, label=name)
left.axvline(8, color="#dddddd", lw=6, zorder=0)
left.set(xlim=(60, 1.9), ylim=(1e-4, 5))
ticks = (50, 20, 10, 5, 2)
left.set_xticks(ticks, map(str, ticks))
left.minorticks_off()
left.set_xlabel("wavelength (degrees of longitude)")
left.set_ylabel("variance of the wind (m$^2$ s$^{-2}$)")
left.set_title("zonal spectrum, 60°S to 60°N", loc="left", fontsize=10)
left.legend(frameon=False, fontsize=8)
right.set_xlabel("distance (km)")
right.set_ylabel("share of the truth's (1)")
right.set_title("semivariogram, 60°S to 60°N", loc="left", fontsize=10)
plt.show()

# %%
# From 1° to 0.25°
# ----------------
# With the default model the same call refines the analysis itself. There is no truth
# to compare with any more. A region gets what it has on the globe, if as many points
# around it are handed over as the network sees.
halo = xatmo.load_model(capability="downscale").card.grid.halo
region = around(ds, margin=halo)
finer = region.atmo.downscale().sortby("latitude")
maps = {"analysis": ds, "bicubic": interpolate(region), "one realization": finer}
speed_maps(maps, margin=-6, nrows=1, ncols=3, figsize=(9.5, 2.8))
plt.show()

# %%
# In two dimensions: the variance at each wavelength in the region on the map. It goes
# on where the analysis ends.
fig, ax = plt.subplots(figsize=(5.6, 3.9), layout="constrained")
for (name, winds), colour in zip(maps.items(), (*colours[:2], colours[3]), strict=True):
    power = metrics.patch_spectrum(around(winds)[["u10", "v10"]])
    power = power.to_dataarray().sum("variable") / 2
    ax.loglog(power.wavelength, power, color=colour, label=name)
ax.set(xlim=(3000, 45), ylim=(1e-4, 20))
ticks = (2000, 1000, 500, 200, 100, 50)
ax.set_xticks(ticks, map(str, ticks))
ax.minorticks_off()
ax.set_xlabel("wavelength (km)")
ax.set_ylabel("variance of the wind (m$^2$ s$^{-2}$)")
ax.legend(frameon=False, fontsize=8)
plt.show()
