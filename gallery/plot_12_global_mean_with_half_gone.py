"""
A global mean of half of the data
=================================

Half of the data are gone, and a global mean is wanted, with its uncertainty. The mean
of what is left changes with the places that happen to be seen. Of a filled field the
mean is simple; its error is not, since errors of neighbouring cells go together: where
the network has missed a storm it has missed all of it.

The field is the wind speed at 10 m, from GFS analyses of October 2018, or, where these
pages are built without them, from the simulated sample.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xatmo
from xatmo.testing.gaps import with_gaps

file = "data/test/gfs_uv10_global_1deg_6h_2018_michael.nc"
path = Path(os.environ.get("XATMO_DATA", "."), file)
if path.exists():
    ds = xr.open_dataset(path).load()
    ds = ds.coarsen(latitude=3, longitude=3, boundary="trim").mean()
else:
    ds = xatmo.open_sample().rename(u="u10", v="v10", lat="latitude", lon="longitude")
    ds = ds.drop_vars("sigma")
truth = np.hypot(ds.u10, ds.v10).rename("speed").astype("float32")
truth.attrs = {"units": "m s-1", "standard_name": "wind_speed"}
area = np.cos(np.deg2rad(truth.latitude))
space = ("latitude", "longitude")
print(dict(truth.sizes))

# %%
# Fill, and average
# -----------------
# Clouds take half of the values. The network fills them in, and the mean of the filled
# field is the estimate.
cloudy = with_gaps(truth, "clouds", seed=5)
filled = cloudy.atmo.infill("network")
mean = filled.speed.weighted(area).mean(space)
seen = cloudy.weighted(area).mean(space)
real = truth.weighted(area).mean(space)


# %%
# How uncertain is it?
# --------------------
# The share that each cell has in the mean is known, and so is the spread of each. If
# errors had nothing to do with each other, the squares of both would add up; if all
# were one and the same error, they themselves would. The truth lies between, and the
# two are far apart.
def share(error):
    """What a field of errors contributes to the global mean: cell by cell."""
    return error.fillna(0) * area / (area.sum() * truth.longitude.size)


spread = share(filled.speed_spread)
apart = (spread**2).sum(space) ** 0.5
together = spread.sum(space)
print(f"independent errors: {float(apart.mean()):.3f} m/s")
print(f"one common error:   {float(together.mean()):.3f} m/s")

# %%
# How much goes together can be measured without the truth. More clouds hide a part of
# what was observed; the network fills these as well, and there its errors are known.
# The error of *their* share of the mean, squared, over what independent errors would
# give, is the number of cells that err as one. It is what the variance of independent
# errors has to be multiplied by.
#
# This takes for granted that the hidden gaps are like the real ones, in shape and in
# size. Gaps that are smaller share less: here they have the same family and scale.
# Forty states that follow each other are not forty experiments either, so that the
# number is no better known than to some tenths of it.
fewer = with_gaps(cloudy, "clouds", seed=6)
hidden = cloudy.notnull() & fewer.isnull()
again = fewer.atmo.infill("network")
error = share((again.speed - cloudy).where(hidden)).sum(space)
alone = (share(again.speed_spread.where(hidden)) ** 2).sum(space)
as_one = float((error**2).mean() / alone.mean())
uncertainty = apart * as_one**0.5
cells = int(cloudy.isnull().sum() / cloudy.sizes["time"])
print(f"cells that err as one: {as_one:.0f}, so that {cells} missing ones count as")
print(f"{cells / as_one:.0f} independent ones: {float(uncertainty.mean()):.3f} m/s")

# %%
# Against the truth
# -----------------
# The band is twice the uncertainty on both sides.
fig, (top, below) = plt.subplots(
    2, 1, figsize=(9.5, 6), layout="constrained", sharex=True, height_ratios=(3, 2)
)
time = truth.time
band = {"color": "#1b6ca8", "alpha": 0.25, "lw": 0}
top.fill_between(time, mean - 2 * uncertainty, mean + 2 * uncertainty, **band)
top.plot(time, seen, color="#c8553d", label="mean of what is left")
top.plot(time, mean, color="#1b6ca8", label="mean of the filled fields")
top.plot(time, real, color="black", label="truth")
top.set_ylabel("global mean wind speed (m s$^{-1}$)")
top.legend(frameon=False, fontsize=8, ncols=3)
for factor, label, style in (
    (apart, "independent", ":"),
    (uncertainty, "as measured", "-"),
    (together, "one common error", "--"),
):
    below.plot(time, factor, style, color="#1b6ca8", label=label)
below.plot(time, abs(seen - real), ".", color="#c8553d", label="|error|, what is left")
below.plot(time, abs(mean - real), "k.", label="|error|, filled")
below.set(yscale="log", ylim=(1e-3, 9))
below.set_ylabel("m s$^{-1}$")
below.legend(frameon=False, fontsize=8, ncols=5, loc="upper center")
fig.autofmt_xdate()
plt.show()

off = abs(mean - real)
for name, said in {
    "independent": apart,
    "as measured": uncertainty,
    "common": together,
}.items():
    inside = float((off <= 2 * said).mean())
    print(f"{name:12} truth within two of it: {inside:4.0%} of the times")
for name, estimate in {"what is left": seen, "filled": mean}.items():
    print(f"{name:12} RMSE {float(((estimate - real) ** 2).mean() ** 0.5):.3f} m/s")
