"""
Fine-tune on your own region
============================

A network that has learnt from the whole globe how fields move is a better beginning for
a region than nothing. Here is all it takes: a recipe of some lines with
``init_from = "climax-small"``, a call that trains, and one that makes a model of it,
which ``ds.atmo.forecast`` then uses like any other.

The region is the North Atlantic at 1.9°, three times as fine as what the network knows,
in the sample: ten days of a simulated atmosphere. To keep this page short it trains for
some seconds. **What ten days can show is little, and these ten were among those that
climax-small was pretrained on, at 5.6°**: the days held out below were not seen by the
fine-tuning, but its first weights have seen them, coarsely. With data of your own there
is no such doubt.
"""

import os
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import xatmo
from xatmo import metrics
from xatmo.training.climax.release import release
from xatmo.training.logs import without_chatter
from xatmo.training.run import train

home = tempfile.TemporaryDirectory()
folder = Path(home.name)
ds = xatmo.open_sample()
ds.to_netcdf(folder / "sample.nc")  # your file would be there already

# %%
# The recipe
# ----------
# Which variables, what the network calls them, and a ``box`` of south, north, west and
# east. Rows and columns in the south and east that are no whole patches of 4 x 4 points
# are left out. The sizes of the network have to be those of the model that it begins
# with; what it knows of places on the globe is interpolated to those of the region.
#
# Training ends two days before what is held out.
RECIPE = """
task = "climax"
name = "{name}"
version = "1.0.0"
title = "Winds over the North Atlantic, every six hours up to a day"
architecture = "climax"
{begin}
[[fields]]
name = "u_component_of_wind"
quantity = "eastward_wind"
[fields.levels]
"sigma 0.95" = "u_component_of_wind_s95"

[[fields]]
name = "v_component_of_wind"
quantity = "northward_wind"
[fields.levels]
"sigma 0.95" = "v_component_of_wind_s95"

[network]
patch = 4
width = 192
depth = 4
heads = 4
decoder_depth = 1
growth = 24.0
damped = true

[sampling]
step_hours = 6
longest = 4             # four steps: up to a day
fewer_variables = 0.0   # both winds are always there

[optimizer]
epochs = 1
steps_per_epoch = 60    # ten minutes would be thousands: see below
batch_size = 8
learning_rate = 5e-4
rise_steps = 10

[[data.train]]
path = "{file}"
box = [22, 68, 280, 358]
end = "1999-12-05T18"
quantities = ["eastward_wind", "northward_wind"]

[[data.evaluation]]
path = "{file}"
box = [22, 68, 280, 358]
start = "1999-12-07T18"
quantities = ["eastward_wind", "northward_wind"]

[card]
capabilities = ["embed", "forecast", "attention"]
licence = "CC0-1.0"
citation = "nobody"
[card.training]
data = "some days of the sample"
"""


def write(name, begin):
    path = folder / f"{name}.toml"
    file = (folder / "sample.nc").as_posix()
    path.write_text(RECIPE.format(name=name, begin=begin, file=file))
    return path


recipes = {
    "fine-tuned": write("atlantic", 'init_from = "climax-small"'),
    "from scratch": write("atlantic-scratch", ""),
}

# %%
# Train
# -----
# In a shell ``xatmo train atlantic.toml`` and ``xatmo release atlantic.toml --models
# models`` do the same. A release also scores the model, and writes a page about it.
for label, recipe in recipes.items():
    with without_chatter():
        begun = time.monotonic()
        train(recipe, out=folder / "runs", progress=False)
        seconds = time.monotonic() - begun
        release(recipe, out=folder / "runs", models=folder / "models", times=2)
    print(f"{label}: {seconds:.0f} s; in ten minutes {600 / seconds * 60:,.0f} steps")

# %%
# Forecast
# --------
# A folder of models is named once, for the session or in the shell's profile. The
# network reads its region alone, and the card says which points these are.
before = os.environ.get("XATMO_MODELS_URL")
os.environ["XATMO_MODELS_URL"] = str(folder / "models")
model = xatmo.load_model("atlantic")
grid = model.card.grid
north, south = grid.latitude
west, east = grid.longitude
region = ds.sel(lat=slice(south - 0.1, north + 0.1), lon=slice(west - 0.1, east + 0.1))
held_out = region.sel(time=slice("1999-12-07T18", None))
leads = ["6h", "12h", "18h", "24h"]
starts = held_out.isel(time=slice(None, -4))
print(starts.atmo.forecast(leads, model))

# %%
# Better than nothing?
# --------------------
# The error of all starts against that of persistence, which says that nothing changes.
space = ["lat", "lon"]
hours = [6, 12, 18, 24]


def errors(fc):
    """RMSE of the vector wind, by lead time."""
    found = []
    for number, ahead in enumerate(hours):
        when = starts.time + np.timedelta64(ahead, "h")
        truth = held_out.sel(time=when).assign_coords(time=starts.time)
        guess = fc if fc is starts else fc.isel(lead_time=number)
        square = sum(metrics.rmse(guess[n], truth[n], space) ** 2 for n in ("u", "v"))
        found.append(float(np.sqrt(square.mean())))
    return np.array(found)


curves = {"persistence": errors(starts)}
curves["from scratch"] = errors(starts.atmo.forecast(leads, "atlantic-scratch"))
curves["fine-tuned"] = errors(starts.atmo.forecast(leads, model))

fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
colours = ("0.5", "#c8553d", "#1b6ca8")
for (label, curve), colour in zip(curves.items(), colours, strict=True):
    ax.plot(hours, curve, "o-", color=colour, label=label)
ax.set(xlabel="lead time (h)", xticks=hours)
ax.set_ylabel("RMSE of the wind (m s$^{-1}$)")
ax.set_ylim(bottom=0)
ax.legend(frameon=False)
plt.show()
for label, curve in curves.items():
    line = "".join(f"{x:7.2f}" for x in curve / curves["persistence"])
    print(f"{label:14}{line}   of persistence")

# %%
# Both networks begin with a guess, an anomaly that fades, and learn changes from it:
# this is why even the one from scratch is no worse than persistence after a few steps.
# What the other one has brought along is how winds move.
#
# What is shown here is the way, and not a result: one region, one week, starts that
# follow each other within two days, and weights that have seen these days. A fair
# comparison has a year of training data at least, and scores on a year that no stage of
# training has seen. Then ten minutes on a laptop go through some thousand steps, which
# is enough for a region of this size to come near to what these weights can do; longer
# training needs more data. The recipe ``train/climax/regional.toml`` does it with
# analyses around Japan, and names its rival, the same from scratch.

# %%
# This page leaves nothing behind.
home.cleanup()
os.environ.pop("XATMO_MODELS_URL")
if before is not None:
    os.environ["XATMO_MODELS_URL"] = before
