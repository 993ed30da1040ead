"""Make xatmo/data/land.npz from the land mask of the package global-land-mask.

    pip install --target build/land global-land-mask==1.0.0
    python train/land/make_mask.py build/land/global_land_mask xatmo/data/land.npz

The mask (MIT licence, Todd Karin) marks land where the GLOBE elevation model (NOAA,
public domain) has a height, in cells of 30 seconds. Shares of cells of five minutes, in
tenths, are as much as a network of 0.25 degrees can tell apart.
"""

import sys
from pathlib import Path

import numpy as np

SIDE = 10  # cells of 30 seconds to one of five minutes
TENTHS = 10


def tenths_of_land(source: Path) -> np.ndarray:
    """Return the share of land (rows from the north, columns from 0 eastward)."""
    with np.load(source / "globe_combined_mask_compressed.npz") as stored:
        land = ~stored["mask"]  # True is sea; 90 N and 180 W come first
    rows, columns = land.shape[0] // SIDE, land.shape[1] // SIDE
    blocks = land.reshape(rows, SIDE, columns, SIDE)
    count = blocks.sum(axis=(1, 3), dtype=np.int32)
    tenths = np.rint(count * (TENTHS / SIDE**2)).astype(np.uint8)
    return np.roll(tenths, -columns // 2, axis=1)


if __name__ == "__main__":
    np.savez_compressed(sys.argv[2], tenths=tenths_of_land(Path(sys.argv[1])))
