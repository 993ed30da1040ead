"""
A forecast as a fan
===================

What will the wind be here tomorrow? :func:`xatmo.forecast` does not answer with a
number but with sixteen: the members of an ensemble, which lie close together where the
network is sure. No network was trained for this task alone. It fills in what is hidden
of a box in space and time, and here that is what has not happened yet.

The winds are GFS analyses of October 2018, when Hurricane Michael crossed the Gulf of
Mexico. The network has seen other months of such analyses, of another year. The file is
no part of xatmo: where these pages are built without it, the simulated sample takes its
place, with a storm off North America. That is an easier test, since the network was
trained on other days of the same simulation.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xatmo
from xatmo import metrics
from xatmo.fields import land_share_of_cells
from xatmo.plot import world_map

file = "data/test/gfs_uv10_global_1deg_6h_2018_michael.nc"
path = Path(os.environ.get("XATMO_DATA", "."), file)
if path.exists():
    ds = xr.open_dataset(path).rename(u10="u", v10="v").sortby("latitude")
    ds = ds.sel(latitude=slice(10, 50), longitude=slice(250, 300)).load()
    start = "2018-10-09T12"
    places = {"where the storm comes by": (29, 274), "far from it": (44, 282)}
else:
    ds = xatmo.open_sample().rename(lat="latitude", lon="longitude")
    ds = ds.sel(latitude=slice(20, 66), longitude=slice(270, 340))
    start = "1999-12-02T06"
    places = {"where the storm comes by": (50, 315), "far from it": (28, 285)}
print(dict(ds.sizes))

# %%
# Two days from two times
# -----------------------
# The network reads two times and forecasts four, six hours apart. The next day is
# rolled out: each member goes on from its own fields. It was never trained for that,
# and it takes longer than the first day by the number of members.
#
# It knows two winds at three heights. These data hold them at one; the result says so,
# and what is left out costs skill.
now = np.datetime64(start)
before = ds.sel(time=slice(now - np.timedelta64(6, "h"), now))
fan = before.atmo.forecast("48h").isel(time=0)
print(dict(fan.sizes))
print("used:", fan.attrs["fields_used"])
print("left out:", fan.attrs["fields_left_out"].count(" at "), "others")


# %%
# Members are the thin lines; the bands hold half of them and nine in ten of them. What
# came true is black. It was not shown to the network right of the grey line. A member
# is not a possible weather: lines join quantiles of one time to those of the next, and
# that they cross means nothing. The sixteen divide what may be into equal parts and
# stand in the middle of each; ``method="hazen"`` reads quantiles in that way.
#
# A fan is a statement about the truth: on the whole, half of all black points should
# lie in the darker band. One fan neither proves nor refutes that.
def hours(time):
    return (time - now) / np.timedelta64(1, "h")


def draw(ax, name, place):
    here = dict(zip(("latitude", "longitude"), place, strict=True))
    ahead = fan[name].sel(here, method="nearest")
    lead = ahead.lead_time / np.timedelta64(1, "h")
    for low, high, alpha in ((0.05, 0.95, 0.2), (0.25, 0.75, 0.35)):
        band = ahead.quantile([low, high], "member", method="hazen")
        ax.fill_between(lead, *band, color="#1b6ca8", alpha=alpha, lw=0)
    ax.plot(lead, ahead.T, color="#1b6ca8", lw=0.4)
    ax.plot(lead, ahead.mean("member"), color="#1b6ca8", lw=2, label="mean of members")
    shown = slice(now - np.timedelta64(24, "h"), now + np.timedelta64(48, "h"))
    truth = ds[name].sel(here, method="nearest").sel(time=shown)
    still = float(truth.sel(time=now))
    ax.plot([0, 48], [still] * 2, ":", color="#c8553d", label="persistence")
    ax.plot(hours(truth.time), truth, "o-", color="black", ms=3, lw=1, label="truth")
    ax.axvline(0, color="0.6", lw=0.8)
    ax.axvline(24, color="0.6", lw=0.8, ls="--")
    ax.set(xlim=(-24, 48), xticks=range(-24, 49, 12))


fig, axes = plt.subplots(
    2, 2, figsize=(9.5, 5.6), layout="constrained", sharex=True, sharey="row"
)
for row, name, what in zip(axes, "uv", ("eastward", "northward"), strict=True):
    for ax, (title, place) in zip(row, places.items(), strict=True):
        draw(ax, name, place)
        if name == "u":
            ax.set_title(f"{title}: {place[0]}°N {place[1]}°E", loc="left", fontsize=10)
    row[0].set_ylabel(f"{what} wind (m s$^{{-1}}$)")
for ax in axes[1]:
    ax.set_xlabel(f"hours since {start}; rolled out from 24 h on")
axes[0, 0].legend(frameon=False, fontsize=8)
plt.show()

# %%
# A day ahead on the map
# ----------------------
# The mean of the members is the best estimate of what is at a point, and a smooth
# field: a storm whose place is uncertain is in it as a broad and weak one. The spread
# should be large where the error may be, not where it is: an error is one draw.
# Near the edges of the region nothing is known of what comes in from outside.
day = fan["u"].sel(lead_time=np.timedelta64(24, "h"))
truth = ds["u"].sel(time=day.valid_time.values)
mean, spread = day.mean("member"), day.std("member", ddof=1)
error = abs(mean - truth)

fig, axes = plt.subplots(2, 2, figsize=(9.5, 6), layout="constrained")
most = float(abs(truth).max())
wind = {"vmin": -most, "vmax": most, "cmap": "RdBu_r"}
wind["label"] = "eastward wind (m s$^{-1}$)"
sure = {"vmin": 0, "vmax": float(error.quantile(0.99)), "cmap": "magma_r"}
sure["label"] = "m s$^{-1}$"
world_map(truth, axes[0, 0], title="truth", **wind)
world_map(mean, axes[0, 1], title="mean of members", **wind)
world_map(spread, axes[1, 0], title="spread: said beforehand", **sure)
world_map(error, axes[1, 1], title="|error|: found afterwards", **sure)
y = np.arange(float(ds.latitude.min()), float(ds.latitude.max()), 0.2)
x = np.arange(float(ds.longitude.min()), float(ds.longitude.max()), 0.2)
land = land_share_of_cells(y, x, (0.2, 0.2))
for ax in axes.flat:
    ax.contour(x, y, land, [0.5], colors="black", linewidths=0.6)
    for north, east in places.values():
        ax.plot(east, north, "P", color="white", mec="black", ms=8)
plt.show()

# %%
# Is it any good?
# ---------------
# One forecast says little. Here are those from every second time of these ten days,
# over the whole region, beside persistence: that nothing changes. Of lazy data, cut
# into single times, only what is asked for is computed.
#
# The CRPS is the error of an ensemble; of a single forecast it is the mean absolute
# error. Members are quantiles that were learnt, not draws, hence ``fair=False``.
# The last line is 1 if the network is as sure as it may be, and less if it is too sure.
fc = ds.chunk(time=1).atmo.forecast("24h")
known = fc.valid_time.isin(ds.time).all("lead_time")  # analyses may be missing
fc = fc.isel(time=np.flatnonzero(known)[::2]).load()
coming = ds.rename(time="valid_time").sel(valid_time=fc.valid_time)
still = ds.sel(time=fc.time).broadcast_like(coming)
over = ["time", "latitude", "longitude"]
lines = {
    "RMSE: persistence": metrics.rmse(still, coming, over),
    "RMSE: mean of members": metrics.rmse(fc.mean("member"), coming, over),
    "CRPS: persistence": metrics.mae(still, coming, over),
    "CRPS: members": metrics.crps(fc, coming, "member", over, fair=False),
    "spread / error": metrics.spread_error_ratio(fc, coming, "member", over),
}
ahead = (fc.lead_time / np.timedelta64(1, "h")).values
print(f"{fc.sizes['time']} forecasts, m/s       " + "".join(f"{h:5g} h" for h in ahead))
for line, score in lines.items():
    mean = score.to_dataarray().mean("variable").values
    print(f"{line:26}" + "".join(f"{s:7.2f}" for s in mean))

# %%
# How often was the truth where the members said? Of all points, starts and leads, as a
# share: it should be what the band promises.
sides = fc.quantile([0.05, 0.25, 0.75, 0.95], "member", method="hazen", skipna=False)
for share, low, high in ((0.5, 0.25, 0.75), (0.9, 0.05, 0.95)):
    above = coming >= sides.sel(quantile=low)
    below = coming <= sides.sel(quantile=high)
    rate = float((above & below).to_dataarray().mean())
    print(f"truths in the band of {share:.0%}: {rate:.0%}")

# %%
# That is for each point by itself. Members say nothing of how errors of neighbours go
# together, so that the spread of an area mean, or of the path of a storm, is not to be
# had from them.
#
# :doc:`plot_15_attention_in_a_storm` asks the same network where it looks.
