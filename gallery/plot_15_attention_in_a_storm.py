"""
What a network looks at in a storm
==================================

To describe a place, the Multiformer takes what it needs from other places, times and
fields: each token of its box, a small block of space and time, attends to all others.
How much to which of them is a table of probabilities, and
:func:`xatmo.attention` gives it as a labelled array. Does the network look where the
storm comes from?

The place is where Hurricane Michael was on 10 October 2018, in GFS analyses. The file
is no part of xatmo: where these pages are built without it, a storm of the simulated
sample takes its place.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.dates import DateFormatter, DayLocator

import xatmo
from xatmo.fields import land_share_of_cells

file = "data/test/gfs_uv10_global_1deg_6h_2018_michael.nc"
path = Path(os.environ.get("XATMO_DATA", "."), file)
if path.exists():
    ds = xr.open_dataset(path).rename(u10="u", v10="v").sortby("latitude")
    ds = ds.sel(latitude=slice(0, 60), longitude=slice(240, 310)).load()
    storm, time = (29, 274), "2018-10-10T12"
    every, arrows = 2, {"scale": 150}
else:
    ds = xatmo.open_sample().rename(lat="latitude", lon="longitude")
    ds = ds.sel(latitude=slice(10, 80), longitude=slice(255, 359))
    storm, time = (46, 308), "1999-12-02T06"
    every, arrows = 1, {"scale": 300}
print(dict(ds.sizes))

# %%
# From above
# ----------
# The eastward wind of the token with the storm asks, at the last time of its box. Here
# is the mean over all layers and heads of the encoder: in columns the times, in rows
# the fields that are attended to. All cells of a row of maps, at all times, add up to
# 100 %; were nothing preferred, each would have the share that is printed.
query = {"latitude": storm[0], "longitude": storm[1], "field": "u"}
a = ds.atmo.attention(query=query, time=time)
print(a.dims, dict(a.sizes))
even = 1 / (a.sizes["time_offset"] * a.sizes["latitude"] * a.sizes["longitude"])
print(f"a token's share if all were alike: {even:.1%}")

fig = plt.figure(figsize=(8, 5.4), layout="constrained")
xatmo.plot.attention(a, fig=fig)
plt.show()

# %%
# What is not there cannot be attended to. The network knows more fields and heights
# than these data hold, and without them its attention may go elsewhere.
print("used:", a.attrs["fields_used"])

# %%
# Head by head
# ------------
# The mean hides that heads differ: each has learnt to look for something else. In the
# first layer a token still is what it was made of; later ones mix what earlier ones
# have mixed, and then it is hard to say what is looked at. So here is the first layer,
# its own field alone, with the winds at the end of each token's time.
#
# A head may look at the place itself, at its neighbours, at where the wind comes from,
# or at one corner of the box wherever the storm is, which has nothing to do with
# weather. Compare the shares with the winds before you believe in a pattern.
heads = ds.atmo.attention(query=query, time=time, layer=1, head="all")
own = 100 * heads.sel(field_to="u")
lat, lon = own.latitude, own.longitude
half = abs(float(lat[1] - lat[0])) / 2, float(lon[1] - lon[0]) / 2
y = np.arange(float(lat.min()) - half[0], float(lat.max()) + half[0], 0.25)
x = np.arange(float(lon.min()) - half[1], float(lon.max()) + half[1], 0.25)
land = land_share_of_cells(y, x, (0.25, 0.25))
box = ds.sel(latitude=slice(y[0], y[-1]), longitude=slice(x[0], x[-1]))
box = box.isel(latitude=slice(1, None, every), longitude=slice(1, None, every))
arrows |= {"color": "white", "width": 0.005}

fig, axes = plt.subplots(
    4, 3, figsize=(7.6, 9.4), layout="constrained", sharex=True, sharey=True
)
for row, head in zip(axes, own["head"].values, strict=True):
    for ax, offset in zip(row, own.time_offset.values, strict=True):
        share = own.sel(head=head, time_offset=offset)
        mesh = ax.pcolormesh(lon, lat, share, vmin=0, vmax=float(own.max()))
        wind = box.sel(time=np.datetime64(time) + offset)
        ax.quiver(wind.longitude, wind.latitude, wind.u, wind.v, **arrows)
        ax.contour(x, y, land, [0.5], colors="0.6", linewidths=0.8)
        ax.plot(storm[1], storm[0], "P", color="white", mec="black", ms=8)
        if head == 1:
            ax.set_title(f"{offset / np.timedelta64(1, 'h'):g} h", fontsize=10)
    row[0].set_ylabel(f"head {head}\nlatitude (°N)")
for ax in axes[-1]:
    ax.set_xlabel("longitude (°E)")
axes[0, 0].set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
label = "attention of u to a token of u, first layer (%)"
fig.colorbar(mesh, ax=axes, label=label, aspect=40)
plt.show()

# %%
# How far back
# ------------
# Summed over space there is left which times are looked at. On the left by layer and
# head; with three times a third is what each had if none were preferred. Tokens have
# two times each, so that the label is the later of them.
#
# On the right the same for all days of the data at this place, the mean over heads of
# the first layer, above the wind. If the curves do not move when the storm comes by,
# the network looks at the clock and not at the weather. Boxes that lack a time are
# left out: they have less to look at, and curves would move for that reason.
space = ["latitude", "longitude"]
each = ds.atmo.attention(query=query, time=time, layer="all", head="all").sel(
    field_to="u"
)
days = ds.atmo.attention(query=query, layer=1).sel(field_to="u")
history = days.time.values[:, None] - np.arange(6) * np.timedelta64(6, "h")
whole = xr.DataArray(np.isin(history, ds.time).all(1), dims="time")
colours = ("#c9d7e8", "#6f9fc8", "#174a7c")
names = [f"{o / np.timedelta64(1, 'h'):g} h" for o in a.time_offset.values]

fig = plt.figure(figsize=(10, 4.6), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=(1, 1.25))
bars = left.subplots()
several = each.sum(space).stack(which=["layer", "head"], create_index=False)
labels = [f"{i}.{j}" for i in each.layer.values for j in each["head"].values]
bottom = np.zeros(len(labels))
for share, colour, name in zip(
    100 * several.transpose("time_offset", "which").values, colours, names, strict=True
):
    bars.bar(labels, share, bottom=bottom, color=colour, label=name)
    bottom += share
bars.set(xlabel="layer.head", ylim=(0, 100))
bars.set_ylabel("attention of u to u (%)")
bars.tick_params(axis="x", labelsize=8)
left.legend(loc="outside upper center", frameon=False, fontsize=8, ncols=3)

top, below = right.subplots(2, 1, sharex=True, height_ratios=(3, 2))
by_time = 100 * days.sum(space).where(whole).transpose("time_offset", "time")
for share, colour, name in zip(by_time, colours, names, strict=True):
    top.plot(days.time, share, color=colour, label=name, lw=2)
top.axhline(100 / len(names), color="black", lw=0.8, ls=":")
top.set_ylabel("attention of u to u (%)")
here = ds.sel(latitude=storm[0], longitude=storm[1], method="nearest")
below.plot(ds.time, np.hypot(here.u, here.v), color="black")
below.set_ylabel("wind (m s$^{-1}$)")
for ax in (top, below):
    ax.axvline(np.datetime64(time), color="0.6", lw=0.8)
below.xaxis.set_major_locator(DayLocator(interval=2))
below.xaxis.set_major_formatter(DateFormatter("%d %b"))
plt.show()

# %%
# In numbers: to itself and to the other field, how much goes to the token's own place
# at all times, and how far away the rest is on average.
rad = np.deg2rad
y0, x0 = rad(float(a.query_latitude)), rad(float(a.query_longitude))
cosine = np.sin(y0) * np.sin(rad(a.latitude))
cosine = cosine + np.cos(y0) * np.cos(rad(a.latitude)) * np.cos(rad(a.longitude) - x0)
distance = 6371 * np.arccos(cosine.clip(-1, 1))
nearest = distance == distance.min()
for name in a.field_to.values:
    by_place = a.sel(field_to=name).sum("time_offset")
    at_home = float(by_place.where(nearest).sum())
    away = by_place.where(~nearest)
    km = float((away * distance).sum() / away.sum())
    print(f"u to {name}: {at_home:.0%} to its own place, the rest {km:.0f} km away")
alike = float(distance.where(~nearest).mean())
print(f"if all were alike: {1 / nearest.size:.0%}, {alike:.0f} km")

# %%
# Attention says where a layer takes numbers from, not what a result is due to. What a
# field is worth is found by leaving it out: :doc:`plot_16_add_a_field`.
