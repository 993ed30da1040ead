"""
Which variables mattered
========================

ClimaX reads whatever variables there are. At each place it makes one token of those of
all variables, by attention: a learnt query looks at each, and their shares add up to
one. :func:`xatmo.attention` gives these shares for your data, place by place and time
by time. They say what the network has listened to. Do they also say what its forecast
would miss? The second half of this page leaves each variable out, and looks.

The atmosphere is a simulated one. The days with all of its variables are no part of
xatmo: where these pages are built without them, there are the two winds of the sample.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xatmo
from xatmo import metrics
from xatmo.plot import variable_attention, world_map

model = xatmo.load_model("climax-small")
file = "data/speedy-t63/coarse-32x64_6h.nc"
path = Path(os.environ.get("XATMO_DATA", "."), file)
if path.exists():
    # Days behind those that the network was trained with.
    ds = xr.open_dataset(path).sel(time=slice("2000-03-04", None)).load()
else:
    # The network has one grid, 32 x 64 points: means of three by three of the sample's.
    # These days were among those of training.
    fine = xatmo.open_sample()
    ds = fine.coarsen(lat=3, lon=3).mean(keep_attrs=True)
    for name in ("lat", "lon"):
        ds[name].attrs = fine[name].attrs
print(dict(ds.sizes), ", ".join(ds.data_vars))

# %%
# The shares
# ----------
# A share for each variable, at each of 8 x 16 patches and each time. Bars are their
# means by area. Thin marks show that the network listens differently in the tropics and
# in either hemisphere.
a = ds.isel(time=slice(None, None, 4)).atmo.attention(model)
print(a.dims, dict(a.sizes))
print("not in the data:", a.attrs["fields_left_out"])

fig = plt.figure(figsize=(6.4, 1.3 + 0.24 * a.sizes["variable"]), layout="constrained")
variable_attention(a, ax=fig.subplots())
plt.show()

# %%
# Where
# -----
# The variable whose share differs most from place to place. What a variable's share is
# at a place depends on its values there, and on those of all the others. The places
# themselves do not count: the network is told where it is afterwards.
by_place = a.mean("time")
most = by_place.std(["lat", "lon"]).argmax("variable").item()
share = 100 * by_place.isel(variable=most)
fig, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
title = f"{share['variable'].item()}: mean of {a.sizes['time']} times"
world_map(share, ax, title=title, label="attention (%)")
plt.show()

# %%
# Leave one out
# -------------
# Attention says where numbers are taken from. What they are worth is another question:
# forecast without a variable, and look at the forecasts of the others. A network of
# this kind can do so without training, since any variable may be absent.
#
# Two numbers for each variable, as means over all others, in per cent of their error
# with all variables: how far the two forecasts are apart, and by how much the error is
# larger. Twenty-four hours ahead, from some starts.
space = ["lat", "lon"]
starts = ds.isel(time=slice(0, -4, max(4, ds.sizes["time"] // 8)))
truth = ds.sel(time=starts.time + np.timedelta64(24, "h")).assign_coords(
    time=starts.time
)


def forecast(names):
    return starts[names].atmo.forecast("24h", model).isel(lead_time=0)


def error(one, other, name):
    return float(np.sqrt((metrics.rmse(one[name], other[name], space) ** 2).mean()))


names = list(ds.data_vars)
full = forecast(names)
scale = {name: error(full, truth, name) for name in names}
change, growth = {}, {}
for left_out in names:
    others = [name for name in names if name != left_out]
    less = forecast(others)
    change[left_out] = 100 * np.mean([error(less, full, n) / scale[n] for n in others])
    worse = [error(less, truth, n) / scale[n] - 1 for n in others]
    growth[left_out] = 100 * np.mean(worse)

# %%
# On the left the shares again, on the right what happens without the variable, in the
# same order. If attention were importance, both would fall from top to bottom, and what
# has a quarter of the attention would be worth a quarter of something.
weights = np.cos(np.deg2rad(by_place.lat))
mean = 100 * by_place.weighted(weights).mean(space)
order = [str(name) for name in mean["variable"].values[np.argsort(mean.values)]]
at = np.arange(len(order))
fig, (left, right) = plt.subplots(
    1, 2, figsize=(9.6, 1.4 + 0.24 * len(order)), layout="constrained"
)
variable_attention(a, ax=left, title="what is listened to")
right.barh(at, [change[n] for n in order], color="#e3c3ac", label="forecast changes")
dots = [growth[n] for n in order]
right.plot(dots, at, "o", color="#8c2d04", ms=5, label="error grows")
right.axvline(0, color="black", lw=0.8)
right.set_yticks(at, order, fontsize=8)
right.set_ylim(left.get_ylim())
right.set_xlabel("others, 24 h ahead (% of their error)")
right.set_title("without it", fontsize=10, loc="left")
right.legend(fontsize=8, frameon=False, loc="lower right")
plt.show()

# %%
# In numbers: variables in order of attention, and how well the orders agree. A rank
# correlation of 1 would be the same order, 0 none.
for name in reversed(order):
    share = float(mean.sel(variable=name))
    print(
        f"{name:6} attention {share:5.1f} %   "
        f"changes {change[name]:5.1f} %   error {growth[name]:+6.2f} %"
    )


def ranks(values):
    return np.argsort(np.argsort(values))


if len(order) > 2:
    shares = [float(mean.sel(variable=name)) for name in order]
    for label, found in (("changes", change), ("errors", growth)):
        r = np.corrcoef(ranks(shares), ranks([found[name] for name in order]))[0, 1]
        print(f"rank correlation of attention and {label}: {r:+.2f}")

# %%
# Read both with care. **Attention is not importance**, even where the orders agree.
#
# - What has no share cannot matter for the others, so that some agreement is to be
#   expected. But the amounts differ: a variable may have a large part of the attention,
#   and the error hardly grows without it. Its neighbours, other levels of the same
#   wind, tell nearly the same, and take over its share.
# - For the same reason **leaving one out is not importance either**. Each level can be
#   missed; all of them together could not.
# - A variable with next to no share may be forecast well. This network predicts changes
#   from a fading anomaly, and the variable's own present goes into that without passing
#   through attention. What is counted here is what it tells the *others*.
# - An error that falls without a variable says that the network makes poor use of it,
#   or that a few starts of one season are too few to tell.
