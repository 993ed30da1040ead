"""Inputs of jobs: small, in single precision, in chunks of four times."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo.jobs.pieces import Pieces


@pytest.fixture(scope="session")
def small() -> xr.Dataset:
    """Six days of the sample on 32 x 40 points."""
    ds = xatmo.open_sample().isel(time=slice(24), lat=slice(32, 64), lon=slice(40))
    return ds.astype(np.float32).drop_encoding()


@pytest.fixture(scope="session")
def series(small, tmp_path_factory) -> Path:
    """That as a Zarr store; not to be changed."""
    path = tmp_path_factory.mktemp("inputs") / "in.zarr"
    write_zarr(small, path)
    return path


@pytest.fixture
def own(small, tmp_path) -> Path:
    """The same for one test alone, to do with it what it likes."""
    path = tmp_path / "in.zarr"
    write_zarr(small, path)
    return path


def write_zarr(ds: xr.Dataset, path: Path, times: int = 4) -> None:
    encoding = {
        name: {"chunks": [times if d == "time" else n for d, n in var.sizes.items()]}
        for name, var in ds.data_vars.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr has not standardised all of it
        ds.to_zarr(path, encoding=encoding, zarr_format=3)


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """Numbers of the blocks that are computed, as they begin."""
    regions: list[int] = []
    compute = Pieces.compute

    def noted(self: Pieces, region: int) -> None:
        regions.append(region)
        compute(self, region)

    monkeypatch.setattr(Pieces, "compute", noted)
    return regions


def data_files(store: Path) -> dict[str, str]:
    """Checksum of every file of a store that holds numbers."""
    return {
        str(file.relative_to(store)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(store.rglob("c/**/*"))
        if file.is_file()
    }


@pytest.fixture
def checksums():
    return data_files
