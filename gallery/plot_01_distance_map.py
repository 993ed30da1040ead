"""
Where has the flow changed?
===========================

Two states of the atmosphere differ everywhere, if only by a little, and a pointwise
difference shows most where a sharp feature has moved by a grid point or two. The
AtmoDist distance asks another question: how different do the *surroundings* of a place
look to a network that has learnt to tell how far apart in time two states are?

:func:`xatmo.distance` gives one number for each cell of the map: the mean squared
difference of two embeddings, scaled to be comparable with a mean squared error of the
normalised fields. It is zero where the network sees no difference, and large where the
structure of the flow has changed.

The states are simulated.
"""

import matplotlib.pyplot as plt

import xatmo
from xatmo.fields import vorticity_divergence
from xatmo.plot import world_map

# %%
# The sample holds winds every six hours. Two states, a day apart:
ds = xatmo.open_sample()
first, later = ds.isel(time=0), ds.isel(time=4)

# %%
# The model reads winds near the ground, which is what the file holds. The result says
# in its attributes which model made it, and of what.
distance = first.atmo.distance(later)
print(distance.attrs["xatmo_model"], "at", distance.attrs["level"])

# %%
# To see what the distance responds to, we draw the vorticity of both states above it.
# A cell of the distance covers four by four grid points.
vorticity, _ = vorticity_divergence(
    ds["u"], ds["v"], periodic=True, dims=("lat", "lon")
)

fig, axes = plt.subplots(3, 1, figsize=(7.5, 10.5), layout="constrained")
for ax, index in zip(axes, (0, 4), strict=False):
    state = vorticity.isel(time=index) * 1e5
    world_map(
        state,
        ax,
        title=f"simulated, {state['time'].dt.strftime('%d %B, %H UTC').item()}",
        label="vorticity ($10^{-5}$ s$^{-1}$)",
        cmap="RdBu_r",
        vmin=-5,
        vmax=5,
    )
world_map(
    distance,
    axes[2],
    title="distance of the two states",
    label="AtmoDist distance (1)",
    cmap="magma",
    vmin=0,
)
plt.show()
