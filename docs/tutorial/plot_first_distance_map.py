"""
Tutorial: a first distance map
==============================

In this tutorial we open ten days of an atmosphere, see which model can read them, and
draw a map of where the flow has changed within a day. It takes a quarter of an hour, no
data of your own, and no network. You need xatmo with its ``plot`` extra; see
:doc:`../install`. At the foot of the page it can be downloaded as a notebook.
"""

# %%
# Open the sample
# ---------------
#
# The sample holds winds, every six hours. They are *simulated* by a general circulation
# model (SPEEDY): real dynamics, but not real weather. With ``chunks``, nothing is read
# yet.

import matplotlib.pyplot as plt

import xatmo
from xatmo.plot import world_map

ds = xatmo.open_sample(chunks={"time": 8})
print(dict(ds.sizes))

# %%
# See what was recognised
# -----------------------
#
# Importing xatmo has given every xarray object an attribute ``.atmo``. Look at it, in a
# notebook like this or with ``print(ds.atmo)``:

ds.atmo

# %%
# The file holds winds near the ground. Two models fit: one reads winds, the other their
# vorticity and divergence, which follow from them. Unless you name one, the first is
# taken. We try two of the things it can do.
#
# Embed the fields
# ----------------

z = ds.atmo.embed()
print(dict(z.sizes))

# %%
# The embedding is a map of vectors. Each cell covers four by four grid points, and
# its vector describes the flow in and around it. It is lazy like the winds: no network
# has run yet.
#
# Measure a distance
# ------------------
#
# How far is the state a day later from the first one, and where?

first, later = ds.isel(time=0), ds.isel(time=4)
distance = first.atmo.distance(later)
distance = distance.compute()
print(dict(distance.sizes))

# %%
# With ``compute`` a network has run, on two fields. Draw the result:

fig, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
world_map(
    distance,
    ax,
    title="from the first state to a day later (simulated)",
    label="AtmoDist distance (1)",
    cmap="magma",
    vmin=0,
)
plt.show()

# %%
# Bright cells are where the structure of the flow has changed most, mostly along the
# storm tracks; dark ones are where little has happened that the network takes for the
# passing of time.
#
# One number for each time
# ------------------------
#
# With ``reduce="mean"`` the map becomes its area-weighted mean. And one state may be
# compared with a whole series:

curve = ds.atmo.distance(first, reduce="mean").compute()
days = (curve["time"] - curve["time"][0]).dt.total_seconds() / 86400

fig, ax = plt.subplots(figsize=(7.5, 3.5), layout="constrained")
ax.plot(days, curve, marker="o", markersize=3)
ax.set_xlabel("time since the first state (days)")
ax.set_ylabel("AtmoDist distance (1)")
ax.set_ylim(bottom=0)
ax.grid(alpha=0.3)
plt.show()

# %%
# The distance of the state from itself is zero. It grows at first and then levels off:
# sooner or later two states have no more in common than any two of the season.
#
# See where the numbers come from
# -------------------------------
#
# A result says what was done to the data, and what made it:

print(curve.attrs["comment"])
print(curve.attrs["history"])

# %%
# Where to go next
# ----------------
#
# - :doc:`../howto/your_data` does the same with a file of yours.
# - :doc:`../explanation/atmodist` tells what the network has learnt, and what the
#   distance means; :doc:`../explanation/limits`, when not to trust it.
# - :doc:`../auto_gallery/index` has more pictures, with their code.
