"""
Your own file
=============

Files name the same wind ``u``, ``u10`` or ``UGRD``, run from north to south or from
south to north, count longitudes from 0 or from -180, and hold metres per second or
knots. Models read none of that: before :func:`xatmo.embed` runs one, what the file
holds is recognised, converted and turned round, and the result is turned back into the
file's own names and order.

Where the file leaves something open that matters, xatmo does not guess. It raises an
error that says what was found, what was needed, and which call to make next.

This example writes a small file in the manner of ERA5, with the sample's simulated
winds in it, opens it lazily and runs into such an error on purpose.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xatmo
from xatmo.plot import world_map

# %%
# Latitude from north to south, longitude from -180, the time called ``valid_time``,
# winds in knots, and no word about the level.
winds = xatmo.open_sample().isel(time=slice(16)).drop_vars("sigma")
winds = winds.rename(time="valid_time", lat="latitude", lon="longitude")
winds = winds.assign_coords(longitude=(winds["longitude"] + 180) % 360 - 180)
winds = winds.sortby("longitude").sortby("latitude", ascending=False)
for name in ("u", "v"):
    winds[name] = (winds[name] / 0.514444).astype("float32")
    winds[name].attrs = {"units": "knots"}

folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "winds.nc"
winds.to_netcdf(path)

# %%
# Opened with ``chunks``, the data stay on disk. The accessor shows what it recognised
# and which models can read it, without computing anything.
ds = xr.open_dataset(path, chunks={"valid_time": 4})
ds.atmo

# %%
# A model knows the winds of certain levels, and the file does not say which one it
# holds. That is an error, and a short one to answer:
try:
    ds.atmo.embed()
except xatmo.errors.LevelError as error:
    print(error)

# %%
# We know where these winds come from. The embedding is lazy, in the file's names,
# order and orientation.
z = ds.atmo.embed(level="sigma 0.95")
z

# %%
# Each cell has a vector of features. Their leading pattern, found over all cells and
# times, is a first look at what the network tells apart. Its sign has no meaning.
z = z.compute()
vectors = z.stack(cell=("valid_time", "latitude", "longitude"))
vectors = vectors.transpose("cell", "feature") - vectors.mean("cell")
_, _, patterns = np.linalg.svd(vectors.values, full_matrices=False)
leading = z @ xr.DataArray(patterns[0], dims="feature")
leading -= leading.mean()

fig, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
largest = float(abs(leading).max())
world_map(
    leading.isel(valid_time=0),
    ax,
    title="leading pattern of the embedding, first state (simulated)",
    label="projection (1)",
    cmap="PuOr_r",
    vmin=-largest,
    vmax=largest,
)
plt.show()

# %%
# The file is only a draft of yours:
ds.close()
folder.cleanup()
