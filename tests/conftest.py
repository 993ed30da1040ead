"""What several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo.testing import synthetic_winds


@pytest.fixture(scope="session")
def winds() -> xr.Dataset:
    """Five times of synthetic winds on a region of 40 x 48 points at 1°."""
    latitude = np.arange(60.0, 20.0, -1.0)
    return synthetic_winds(5, latitude, np.arange(10.0, 58.0))


@pytest.fixture(scope="session")
def globe() -> xr.Dataset:
    """Three times of synthetic winds on the whole globe at 2°."""
    return synthetic_winds(3)


@pytest.fixture(scope="session")
def sample() -> xr.Dataset:
    """The sample in the wheel."""
    return xatmo.open_sample()


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real data."""
    root = os.environ.get("XATMO_DATA")
    if root is None:
        pytest.skip("XATMO_DATA is not set: it names the folder above data/")
    return Path(root) / "data"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of numbers from the original implementations."""
    root = os.environ.get("XATMO_DATA")
    if root is None:
        pytest.skip("XATMO_DATA is not set: it names the folder above reference/")
    return Path(root) / "reference"
