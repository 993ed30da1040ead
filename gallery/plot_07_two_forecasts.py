"""
Where do two forecasts differ most?
===================================

Two forecasts for the same hour differ nearly everywhere. A map of wind differences is
dominated by places where the wind is strong; the AtmoDist distance shows where the two
tell a different story of the flow.

The two forecasts here are as simple as can be, made from one simulated state: the first
says that nothing changes in a day, the second that everything drifts along its latitude
with the mean wind there.
"""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xatmo
from xatmo.plot import world_map

# %%
# Yesterday's state, and today's, which is 24 hours later:
ds = xatmo.open_sample()
yesterday, today = ds.isel(time=12), ds.isel(time=16)
persistence = yesterday.assign_coords(time=today.time)

# %%
# The other forecast moves each circle of latitude by what the zonal-mean wind makes of
# it in a day, in degrees of longitude.
metres_per_degree = 111_195 * np.cos(np.deg2rad(ds.lat))
drift = yesterday.u.mean("lon") * 86_400 / metres_per_degree
closed = xr.concat(
    [yesterday.isel(lon=[-1]).assign_coords(lon=[ds.lon[-1].item() - 360]), yesterday],
    "lon",
)
closed = xr.concat([closed, yesterday.isel(lon=[0]).assign_coords(lon=[360.0])], "lon")
drifted = closed.interp(lon=(ds.lon - drift) % 360, lat=ds.lat)
drifted = drifted.assign_coords(lon=ds.lon, time=today.time).transpose("lat", "lon")

# %%
# Where do they disagree? Both maps are scaled by their largest value within 60° of the
# equator, where the network was trained.
distance = xatmo.distance(persistence, drifted)
speed = np.hypot(persistence.u - drifted.u, persistence.v - drifted.v)

fig, axes = plt.subplots(2, 1, figsize=(7.5, 7.2), layout="constrained")
pairs = (
    (distance, "where the flow differs", "AtmoDist distance (1)"),
    (speed, "where the wind differs", "difference of the wind (m s$^{-1}$)"),
)
for ax, (field, title, label) in zip(axes, pairs, strict=True):
    shown = field.sel(lat=slice(-60, 60))
    world_map(shown, ax, title=title, label=label, cmap="magma", vmin=0)
place = distance.sel(lat=slice(-60, 60))
place = place.isel(place.argmax(...))
for ax in axes:
    ax.plot(place.lon, place.lat, "o", ms=16, mfc="none", mec="#39d0d8", mew=2)
plt.show()

# %%
# And which of the two came nearer to what happened?
for name, forecast in {"persistence": persistence, "drift": drifted}.items():
    error = xatmo.distance(forecast, today, reduce="mean")
    print(f"{name:<12} AtmoDist distance to the truth {float(error):.3f}")
