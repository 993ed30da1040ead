"""
What the spread is worth
========================

Every value that :func:`xatmo.infill` fills in comes with a spread: the standard
deviation of the error to expect. Where the truth is known, both can be laid side by
side. On a map they need not look alike, since an error is one draw and a spread says
how wide draws are scattered; but of all points with a spread of 2 m/s the errors should
have a root mean square of 2 m/s.

The winds are GFS analyses of October 2018, or, where these pages are built without
them, the simulated sample.
"""

import math
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xatmo
from xatmo import metrics
from xatmo.plot import world_map
from xatmo.testing.gaps import FAMILIES, with_gaps

file = "data/test/gfs_uv10_global_1deg_6h_2018_michael.nc"
path = Path(os.environ.get("XATMO_DATA", "."), file)
if path.exists():
    ds = xr.open_dataset(path)[["u10"]].isel(time=slice(24)).load()
    ds = ds.coarsen(latitude=3, longitude=3, boundary="trim").mean()
else:
    ds = xatmo.open_sample()[["u"]].isel(time=slice(24)).rename(u="u10")
    ds = ds.rename(lat="latitude", lon="longitude").drop_vars("sigma")
truth = ds["u10"]
print(dict(truth.sizes))

# %%
# On the map
# ----------
# Clouds hide half of the field. The spread is small beside what was observed, in space
# and in time, and grows into the gap; and at the same distance it is larger where the
# wind changes more, over the storm tracks.
cloudy = with_gaps(truth, "clouds", seed=3)
filled = cloudy.atmo.infill("network")
share = cloudy.isnull().mean(("latitude", "longitude"))
now = {"time": int(abs(share - 0.5).argmin("time"))}
gone = cloudy.isnull().isel(now)
error = abs(filled.u10 - truth).isel(now).where(gone)
spread = filled.u10_spread.isel(now).where(gone)

fig, axes = plt.subplots(2, 2, figsize=(11, 5.8), layout="constrained")
wind = {"vmin": -15, "vmax": 15, "cmap": "RdBu_r"}
sure = {"vmin": 0, "vmax": float(error.quantile(0.99)), "cmap": "magma_r"}
label = "eastward wind (m s$^{-1}$)"
world_map(cloudy.isel(now), axes[0, 0], title="observed", label=label, **wind)
world_map(filled.u10.isel(now), axes[0, 1], title="filled", label=label, **wind)
label = "m s$^{-1}$"
world_map(spread, axes[1, 0], title="spread: said beforehand", label=label, **sure)
world_map(error, axes[1, 1], title="|error|: found afterwards", label=label, **sure)
plt.show()

# %%
# Sorted by the spread
# --------------------
# All filled points of a family of gaps are sorted by their spread into ten bins of
# equal area; of each the root mean square of the spread and of the error. On the dotted
# line the spread is honest, above it the network is too sure of itself. The slope
# through these points is 1 if errors grow as fast as spreads. Families are never
# pooled: what is right for single cells says nothing about a hole.
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
z = {}
print(f"{'':15}RMSE (m/s)   spread   CRPS (m/s)   slope")
colours = dict(zip(FAMILIES, plt.get_cmap("Dark2").colors, strict=False))
for family, colour in colours.items():
    gaps = with_gaps(truth, family, seed=3)
    done = filled if family == "clouds" else gaps.atmo.infill("network")
    inside = truth.where(gaps.isnull())
    said = done.u10, done.u10_spread, inside
    curve = metrics.spread_error_curve(*said)
    left.plot(*curve, "o-", ms=3, color=colour, label=family)
    z[family] = (done.u10 - inside) / done.u10_spread
    scores = metrics.rmse(done.u10, inside), metrics.rmse(done.u10_spread, inside * 0)
    scores += metrics.crps_normal(*said), metrics.spread_error_slope(*said)
    print(f"{family:15}" + "".join(f"{float(s):10.2f}" for s in scores))
end = max(left.get_xlim()[1], left.get_ylim()[1])
left.plot([0, end], [0, end], color="black", lw=0.8, ls=":")
left.set(xlim=(0, end), ylim=(0, end), aspect="equal")
left.set(xlabel="spread (m s$^{-1}$)", ylabel="error (m s$^{-1}$)")
left.legend(frameon=False, fontsize=8)

# %%
# On the right, what one does with a spread: intervals. If errors are normal with that
# spread, 68 % of the truths are within one spread of what was filled in, and 95 %
# within two.
levels = np.linspace(0.1, 3, 30)
for family, colour in colours.items():
    sizes = abs(z[family]).values
    sizes = np.sort(sizes[np.isfinite(sizes)])
    right.plot(levels, np.searchsorted(sizes, levels) / sizes.size, color=colour)
normal = [math.erf(level / 2**0.5) for level in levels]
right.plot(levels, normal, color="black", lw=0.8, ls=":")
right.set(xlabel="half width of an interval (spreads)", ylim=(0, 1))
right.set_ylabel("truths within (1)")
plt.show()

# %%
# A spread is of one value. The error of a sum or a mean also depends on how far the
# errors of neighbours go together: :doc:`plot_12_global_mean_with_half_gone`.
