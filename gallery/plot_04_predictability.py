"""
Where does the network know what time it is?
============================================

AtmoDist was trained to say how many hours lie between two states of the same patch of
the atmosphere. Where it is right and sure of it, the flow changes in a way that can be
known; where it hesitates, the two states could as well be nearer or farther apart.

:func:`xatmo.predictability` slides a window over the globe and asks the network about
all pairs of states that are a given lag apart. It returns maps of the mean probability
of the true lag and of the entropy of the answers, among others, at the centres of the
windows.

Windows are large: one reaches over 60° here, so neighbouring values share most of what
they see. And forty simulated states are a single episode: this shows how to draw such
maps, not what those of the real atmosphere look like.
"""

import matplotlib.pyplot as plt

import xatmo
from xatmo.fields import area_weights
from xatmo.plot import world_map

# %%
# Two lags at once: each state runs through the network only once.
ds = xatmo.open_sample(chunks={"time": 8})
maps = ds.atmo.predictability(["6h", "24h"], by=None, stride=8).compute()
print(maps.pairs.isel(lat=0, lon=0).values, "pairs")

# %%
# The network tells a dozen lags apart. Guessing would be right by ``chance``; every map
# has it in its attributes.
chance = maps.probability.attrs["chance"]
area = maps.lat.copy(data=area_weights(maps.lat.values))
mean = maps.probability.weighted(area).mean(["lat", "lon"])
print(f"by chance {chance:.3f}, here {mean.values.round(3)}")

# %%
# Above, the mean probability of the true lag; below, the entropy. They need not agree:
# a network may be sure and wrong.
fig, axes = plt.subplots(2, 2, figsize=(11, 4.6), layout="constrained")
for column, lag in zip(axes.T, maps.lag.values, strict=True):
    at = maps.sel(lag=lag)
    world_map(
        at.probability,
        column[0],
        title=f"probability of the true lag, {lag:g} h",
        label="mean probability (1)",
        cmap="viridis",
        vmin=0,
    )
    world_map(
        at.entropy,
        column[1],
        title=f"entropy of the answers, {lag:g} h",
        label="entropy (nat)",
        cmap="magma_r",
        vmin=0,
        vmax=maps.entropy.attrs["chance"],
    )
plt.show()
