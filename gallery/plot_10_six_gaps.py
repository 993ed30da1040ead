"""
One field, six kinds of gaps
============================

Clouds hide it, a satellite passes beside it, stations fail, hours get lost:
:func:`xatmo.infill` fills gaps of any shape, in space and in time, and leaves what was
observed as it is. Here the same field loses its values in six ways, so that the truth
is known. :mod:`xatmo.testing.gaps` draws the gaps.

The field is the hourly temperature at 2 m over Great Britain and Ireland, four days of
March 2019 from ERA5. The file is no part of xatmo: where these pages are built without
it, winds of the simulated sample take its place.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xatmo
from xatmo import metrics
from xatmo.fields import land_share_of_cells
from xatmo.testing.gaps import gap_mask, with_gaps

file = "data/edge/era5_2t_uk_201903.grib"
path = Path(os.environ.get("XATMO_DATA", "."), file)
if path.exists() and find_spec("cfgrib"):
    options = {"engine": "cfgrib", "backend_kwargs": {"indexpath": ""}}
    truth = xr.open_dataset(path, **options)["t2m"].isel(time=slice(480, 576)).load()
    what, style = "temperature at 2 m (K)", {"cmap": "viridis"}
else:
    truth = xatmo.open_sample()["u"].sel(lat=slice(20, 70), lon=slice(280, 360))
    truth = truth.rename(lat="latitude", lon="longitude").drop_vars("sigma")
    what, style = "eastward wind (m s$^{-1}$)", {"cmap": "RdBu_r"}
print(dict(truth.sizes))

# %%
# Fill them
# ---------
# One call for each. ``method="network"`` is the default model alone, and beside it is
# what many do today: interpolation along time and longitude and latitude. The errors
# are those in the gaps, of all times together.
families = "random_90", "blocks", "clouds", "swaths", "centre_hole", "missing_times"
gaps = {family: with_gaps(truth, family, seed=2) for family in families}
filled = {family: field.atmo.infill("network") for family, field in gaps.items()}

print(f"{'':15}missing   RMSE of interpolation   of the network   its spread")
for family, field in gaps.items():
    gone = field.isnull()
    plain = field.atmo.infill("interpolate", spread=False)
    inside = truth.where(gone)
    errors = [metrics.rmse(f[truth.name], inside) for f in (plain, filled[family])]
    said = metrics.rmse(filled[family][f"{truth.name}_spread"], inside * 0)
    numbers = f"{float(errors[0]):16.2f}{float(errors[1]):21.2f}{float(said):14.2f}"
    print(f"{family:15}{float(gone.mean()):7.0%}{numbers}")

# %%
# Look at them
# ------------
# One hour, at which a field is missing altogether in the last family, and about half of
# it in the third. What a network can do about that differs: single cells are seldom far
# from an observed one; a hole that never opens has nothing within it at any time; and a
# lost hour has all of its neighbours in time. The line is the coast.
#
# Inside large gaps a filled field is smoother than the truth. It is the best estimate,
# not a possible field: what cannot be known is left out, and counted in the spread.
lost = gap_mask("missing_times", truth.shape, seed=2).all(axis=(1, 2))
clouded = gap_mask("clouds", truth.shape, seed=2).mean(axis=(1, 2))
hour = int(np.argmin(np.where(lost, abs(clouded - 0.5), 1.0)))

now = truth.isel(time=hour)
limits = {"vmin": float(now.min()), "vmax": float(now.max()), **style}
most = max(
    float(abs(filled[f][truth.name].isel(time=hour) - now).quantile(0.99))
    for f in families
)
y = np.arange(float(now.latitude.min()), float(now.latitude.max()), 0.1)
x = np.arange(float(now.longitude.min()), float(now.longitude.max()), 0.1)
land = land_share_of_cells(y, x, (0.1, 0.1))

fig, axes = plt.subplots(
    6, 4, figsize=(9.5, 10.5), layout="constrained", sharex=True, sharey=True
)
for row, family in zip(axes, families, strict=True):
    full = filled[family][truth.name].isel(time=hour)
    for ax, field in zip(row, (gaps[family].isel(time=hour), full, now), strict=False):
        mesh = ax.pcolormesh(now.longitude, now.latitude, field, **limits)
    apart = {"vmin": -most, "vmax": most, "cmap": "PuOr"}
    error = row[3].pcolormesh(now.longitude, now.latitude, full - now, **apart)
    row[0].set_ylabel(family)
for ax in axes.flat:
    ax.contour(x, y, land, [0.5], colors="black", linewidths=0.6)
    ax.set(xticks=[], yticks=[], facecolor="0.9")
for ax, title in zip(
    axes[0], ("observed", "filled", "truth", "filled - truth"), strict=True
):
    ax.set_title(title, loc="left", fontsize=10)
fig.colorbar(mesh, ax=axes[:, :3], location="bottom", label=what, aspect=60, pad=0.01)
fig.colorbar(
    error, ax=axes[:, 3], location="bottom", label="error", extend="both", pad=0.01
)
plt.show()

# %%
# Which method?
# -------------
# No method is best for all gaps. Without a name ``infill()`` finds out: it hides some
# of the observed cells, in gaps like those that there are, lets every method fill them,
# and takes the best. Its table is part of the result; the error is that at hidden
# cells, so that nobody has to know the truth. Here for one day; kriging takes its time.
chosen = gaps["clouds"].isel(time=slice(24)).atmo.infill()
for method, error in zip(
    chosen.method.values, chosen[f"{truth.name}_scores"].values, strict=True
):
    print(f"{method:12}{error:6.2f}")
print("taken:", chosen[truth.name].attrs["infill_method"])

# %%
# Each value says what it is from.
provenance = chosen[f"{truth.name}_provenance"]
names = provenance.attrs["flag_meanings"].split()
for flag, name in zip(provenance.attrs["flag_values"], names, strict=True):
    print(f"{name:13}{int((provenance == flag).sum()):8}")
