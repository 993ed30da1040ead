"""
One field more, one field less
==============================

In a Multiformer each field is a network of its own, and hears of the others through a
few heads of attention. So a field can be taken out of a finished network, and another
one put in, in one call: :meth:`xatmo.Model.with_fields`. What is new says nothing to
the others at first, so that nothing that worked is broken; what it is worth shows when
the new model has been trained on. This page adds a field, and then measures what each
field is worth to the others.

The winds are GFS analyses of October 2018, and those of a simulated atmosphere of which
the network was trained on other days. The analyses are no part of xatmo: where these
pages are built without them, there is only the simulated sample.
"""

import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xatmo
from xatmo import metrics
from xatmo.plot import world_map

home = Path(os.environ.get("XATMO_DATA", "."), "data")
analyses = home / "test/gfs_uv10_global_1deg_6h_2018_michael.nc"

data = {}
if analyses.exists():
    ds = xr.open_dataset(analyses).rename(u10="u", v10="v").sortby("latitude")
    ds = ds.sel(latitude=slice(20, 55), longitude=slice(260, 307))
    data["analyses, 10 m"] = ds.load()
ds = xatmo.open_sample()[["u", "v"]]
ds = ds.rename(lat="latitude", lon="longitude")
ds = ds.sel(latitude=slice(20, 65), longitude=slice(270, 340))
data["simulated"] = ds.load()
for name, ds in data.items():
    print(f"{name}: {', '.join(ds.data_vars)}", dict(ds.sizes))

# %%
# Take apart
# ----------
# The released model has two fields. Here it is cut down to the eastward wind alone,
# and to the northward wind alone. This stands for what one has in practice: a model
# that works, and a network of one more field, trained by itself.
#
# New models are written to the cache folder, where every process finds them; for this
# page to a folder of its own.
cache = os.environ.get("XATMO_CACHE")
folder = tempfile.TemporaryDirectory()
os.environ["XATMO_CACHE"] = folder.name


def size(model):
    return sum(p.numel() for p in model.network().parameters()) / 1e6


model = xatmo.load_model(capability="forecast")
fields = {field.name for field in model.card.fields}
u = model.with_fields(remove=sorted(fields - {"u"}), name="u-alone")
v = model.with_fields(remove=sorted(fields - {"v"}), name="v-alone")
for one in (model, u, v):
    names = ", ".join(field.name for field in one.card.fields)
    print(f"{one.name:20}{size(one):5.1f} million parameters: {names}")

# %%
# Add a field
# -----------
# One call. Both fields bring their weights. The new heads, through which they could
# hear of each other, are there and count for nothing yet.
both = u.with_fields(add=v, name="u-and-v")
print(f"{both.name:20}{size(both):5.1f} million parameters")
print(both.card.training["derived"])

# %%
# So what the old field forecasts is what it forecast before, though the new one is
# there, in the model and in the data.
name, ds = next(iter(data.items()))
few = ds[["u", "v"]].isel(time=slice(6, 14))
before = few[["u"]].atmo.forecast("24h", u).u
after = few.atmo.forecast("24h", both).u
trained = few.atmo.forecast("24h", model).u
for label, other in (("added", after), ("trained together", trained)):
    print(f"v {label}: u changes by up to {float(abs(other - before).max()):.1e} m/s")

# %%
# In the released model the same heads were trained, with all fields together. There
# the northward wind does have a say in the forecast of the eastward one. Whether for
# the better is another question.
day = {"time": -1, "lead_time": -1}
changes = {
    "v added, not trained since": (after - before).mean("member").isel(day),
    "v trained with u: the released model": (trained - before).mean("member").isel(day),
}
most = float(abs(changes["v trained with u: the released model"]).max())
fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for ax, (title, change) in zip(axes, changes.items(), strict=True):
    style = {"vmin": -most, "vmax": most, "cmap": "RdBu_r"}
    label = "change of u, 24 h ahead (m s$^{-1}$)"
    world_map(change, ax, title=title, label=label, **style)
plt.show()

# %%
# A field that is removed is as if it had not been in the data. The other way round it
# is the same: what the data lack is left out, and no other model is needed for that.
missing = few[["u"]].atmo.forecast("24h", model).u
print(f"largest difference: {float(abs(missing - before).max()):.1e} m/s")

# %%
# What is a field worth?
# ----------------------
# Leave it out, and score again. Here are forecasts of the eastward wind by the released
# model, from the same times of the same region, with all that the data hold and with
# less. The table has the error of the ensemble mean over that of persistence: 1 is as
# good as to say that nothing changes.
combinations = "uv", "u"
colours = dict(zip(combinations, ("0.5", "#1b6ca8"), strict=True))
markers = dict(zip(combinations, "os", strict=True))
space = ["latitude", "longitude"]


def squared_errors(ds, names):
    """Of the mean of members and of persistence, of u: (time, lead_time)."""
    fc = ds[names].chunk(time=1).atmo.forecast("24h", model, members=False).u
    known = fc.valid_time.isin(ds.time).all("lead_time")  # analyses may be missing
    fc = fc.isel(time=np.flatnonzero(known)[::2]).load()
    truth = ds.u.rename(time="valid_time").sel(valid_time=fc.valid_time)
    still = ds.u.sel(time=fc.time).broadcast_like(truth)
    return [metrics.rmse(guess, truth, space) ** 2 for guess in (fc, still)]


errors = {name: {} for name in data}
print(f"{'RMSE / that of persistence':32}   6 h  12 h  18 h  24 h")
for name, ds in data.items():
    for letters in combinations:
        if not set(letters) <= set(ds.data_vars):
            continue
        error, still = squared_errors(ds, list(letters))
        errors[name][letters] = error
        ratio = (error.mean("time") / still.mean("time")) ** 0.5
        line = "".join(f"{float(r):6.3f}" for r in ratio)
        print(f"{name + ': ' + ', '.join(letters):32}{line}")

# %%
# The differences are what matters, and with few days of one place they are not well
# known. The curves show by how much the error grows when fields are left out. The bars
# are for a doubt: of starts drawn anew with repetition, again and again, nine in ten
# results lie within. Starts that follow each other are alike, so that the bars are
# rather too short.
#
# A curve on the line of zero says that the field has nothing to tell the eastward wind
# of the next day here, or that the network has not learnt to listen; one below it, that
# it would do better without.
rng = np.random.default_rng(0)


def growth(less, full):
    """By how much the RMSE is larger (%): (sample, lead_time), the first as it is."""
    n = less.sizes["time"]
    drawn = np.concatenate([[np.arange(n)], rng.integers(0, n, (2000, n))])
    ratio = less.values[drawn].mean(1) / full.values[drawn].mean(1)
    return 100 * (ratio**0.5 - 1)


fig, axes = plt.subplots(
    1,
    len(data),
    figsize=(1 + 4.3 * len(data), 3.8),
    layout="constrained",
    sharey=True,
    squeeze=False,
)
for ax, (name, found) in zip(axes[0], errors.items(), strict=True):
    full, *fewer = found
    for shift, letters in enumerate(fewer):
        percent = growth(found[letters], found[full])
        low, high = np.quantile(percent[1:], [0.05, 0.95], axis=0)
        hours = found[letters].lead_time / np.timedelta64(1, "h") + 0.3 * shift
        style = {"color": colours[letters], "marker": markers[letters]}
        gone = ", ".join(f for f in full if f not in letters)
        ax.plot(hours, percent[0], label=f"without {gone}", **style)
        ax.vlines(hours, low, high, color=colours[letters], lw=1)
    ax.axhline(0, color="black", lw=0.8, ls=":")
    ax.set_title(f"{name}: of {', '.join(full)}", loc="left", fontsize=10)
    ax.set(xlabel="lead time (h)", xticks=(6, 12, 18, 24))
    ax.legend(frameon=False, fontsize=8)
axes[0, 0].set_ylabel("RMSE of u: more than with all (%)")
plt.show()

# %%
# A field of your own
# -------------------
# is trained alone, with one of the recipes, on boxes of the same size: some minutes.
# Then it is added as above, by the name of its model, and couplings are learnt by
# training all fields on together. :doc:`/howto/train` has the recipes for both, and
# :doc:`/howto/import` what may be added to what.

# %%
# This page leaves no models behind.
folder.cleanup()
os.environ.pop("XATMO_CACHE")
if cache is not None:
    os.environ["XATMO_CACHE"] = cache
