"""
How a distance grows with time
==============================

The further apart in time two states are, the more they differ, until they have nothing
left in common but the climate: then a distance saturates. When it does, and how much it
scatters on the way, says how far it can tell earlier from later.

With ``pairwise=True``, :func:`xatmo.distance` compares every state of a series with
every other. Each state runs through the network once, however many pairs there are.
Grouped by time lag, the pairs give a curve; the root mean squared error (RMSE) of
vorticity over the same pairs gives another to compare it with.

Look at the shapes and not at the heights, since the two have different units. Ten
simulated days are few: the longest lags have a handful of pairs, all of one episode.
"""

import matplotlib.pyplot as plt

import xatmo
from xatmo.fields import area_weights, vorticity_divergence
from xatmo.metrics import by_lag, lag_hours, pairwise_rmse
from xatmo.plot import lag_curves

# %%
# Nothing is computed until ``compute``: forty states in five chunks of eight.
ds = xatmo.open_sample(chunks={"time": 8})
distance = ds.atmo.distance(pairwise=True).compute()
print(dict(distance.sizes))

# %%
# The same pairs, compared point by point. Rows near the poles count by their area.
vorticity, _ = vorticity_divergence(
    ds["u"], ds["v"], periodic=True, dims=("lat", "lon")
)
area = ds["lat"].copy(data=area_weights(ds["lat"].values))
rmse = pairwise_rmse(vorticity, area).compute()

# %%
# Mean and standard deviation over all pairs of the same lag, up to a week.
hours = lag_hours(ds["time"])
ours = by_lag(distance.values, hours, longest=168)
plain = by_lag(rmse.values * 1e5, hours, longest=168)

fig, ax = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
lag_curves(
    ax,
    ours["lag"].values,
    {
        "AtmoDist distance (1)": (ours["mean"].values, ours["std"].values),
        "RMSE of vorticity ($10^{-5}$ s$^{-1}$)": (
            plain["mean"].values,
            plain["std"].values,
        ),
    },
)
ax.set_title(
    "all pairs of ten simulated days: mean ± one standard deviation", loc="left"
)
plt.show()
