"""A small data set and a recipe for a tiny network on it."""

from __future__ import annotations

import numpy as np
import pytest

from xatmo.testing import synthetic_winds

RECIPE = """
name = "tiny"
version = "0.1.0"
title = "A tiny network for tests"
architecture = "atmodist"

[network]
n_classes = 3
patch = [16, 16]
stem = [3, 1]
pool = false
stem_width = 4
widths = [4, 8]
depths = [1, 1]
strides = [2, 2]
head_width = 8

[sampling]
step_hours = 6
n_lags = 3
patch = [16, 16]
latitude_limit = 50.0

[optimizer]
batch_size = 8
steps_per_epoch = 3
epochs = {epochs}
warm_pairs = 16
warm_epochs = 1
schedule = "{schedule}"
validate_every = 1
validation_pairs = 16

[[data.train]]
path = "{data}"
end = "2020-01-05"
[[data.train]]
path = "{data}"
end = "2020-01-05"
coarsen = 2
[[data.validation]]
path = "{data}"
start = "2020-01-06"
[[data.evaluation]]
path = "{data}"
start = "2020-01-06"

[card]
capabilities = ["embed", "distance"]
licence = "Apache-2.0"
citation = "nobody"
[card.grid]
spacing = [1.0, 6.0]
patch = [16, 16]
stride = 4
halo = "global"
latitude_limit = 50.0
[card.training]
data = "synthetic"
"""


@pytest.fixture(scope="session")
def winds_file(tmp_path_factory):
    """Eight days on a global 3° grid, latitudes ascending."""
    lat, lon = np.arange(-90, 91, 3.0), np.arange(0, 360, 3.0)
    path = tmp_path_factory.mktemp("winds") / "winds.nc"
    synthetic_winds(32, lat, lon).to_netcdf(path)
    return path


@pytest.fixture
def recipe(tmp_path, winds_file):
    """Write the recipe; returns a function of its settings."""

    def write(epochs=2, schedule="cosine"):
        path = tmp_path / "recipe.toml"
        path.write_text(
            RECIPE.format(data=winds_file, epochs=epochs, schedule=schedule)
        )
        return path

    return write
