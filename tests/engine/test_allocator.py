"""Activations are kept from layer to layer in Dask's workers, as everywhere else."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource
import numpy as np
import torch
import xatmo
from xatmo.testing import synthetic_winds

torch.set_num_threads(1)
ds = synthetic_winds(8, np.arange(90.0, -91, -1), np.arange(0.0, 360))
ds.atmo.embed(reduce="mean")
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
ds.atmo.embed(reduce="mean")
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(threshold: str) -> int:
    """Pages that the system had to hand out for a second pass."""
    env = {**os.environ, "MALLOC_TRIM_THRESHOLD_": threshold, "OMP_NUM_THREADS": "1"}
    env.pop("MALLOC_MMAP_THRESHOLD_", None)
    run = [sys.executable, "-c", _FAULTS]
    told = subprocess.run(run, env=env, capture_output=True, text=True, check=True)
    return int(told.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc")
def test_dasks_default_is_undone_and_a_choice_is_kept():
    by_dask, chosen = page_faults("65536"), page_faults("65537")
    assert by_dask < chosen / 4
