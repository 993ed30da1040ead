"""Fields that the tests of metrics share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr


@pytest.fixture(scope="session")
def published() -> dict[str, np.ndarray]:
    """Numbers of the original implementation on synthetic fields."""
    with np.load(Path(__file__).parent / "data" / "reference.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def globe_field(globe) -> xr.DataArray:
    return globe.u10.astype(float)


@pytest.fixture(scope="session")
def other_field(globe) -> xr.DataArray:
    return globe.v10.astype(float)
