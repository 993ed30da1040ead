"""Every setting is one that this version of Dask reads, and the user's come first."""

from __future__ import annotations

import re
from pathlib import Path

import dask
import distributed.config  # noqa: F401 - tells Dask its defaults
import pytest
import yaml
from dask.utils import parse_timedelta

from xatmo.cluster import settings
from xatmo.cluster.config import unless_chosen

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "cluster.md"


@pytest.mark.parametrize("key", settings())
def test_dask_knows_the_setting(key):
    known = [d for d in dask.config.defaults if dask.config.get(key, None, config=d)]
    distributed_absent = key == "distributed.scheduler.no-workers-timeout"  # null
    assert known or distributed_absent
    section, _, name = key.rpartition(".")
    assert name in dask.config.get(section)


@pytest.mark.parametrize("key", [k for k in settings() if k.endswith("timeout")])
def test_dask_reads_the_times(key):
    assert parse_timedelta(settings()[key]) >= 300


def test_shares_of_memory_are_in_order():
    prefix = "distributed.worker.memory."
    steps = [settings()[prefix + k] for k in ("target", "spill", "pause", "terminate")]
    assert steps == sorted(steps)
    assert steps[-1] < 1


def test_threads_of_torch_reach_the_workers():
    with dask.config.set(settings(torch_threads=3)):
        told = dict(dask.config.get("distributed.nanny.pre-spawn-environ"))
    assert told["OMP_NUM_THREADS"] == 3
    assert "MALLOC_TRIM_THRESHOLD_" in told  # Dask's own stay


def test_what_the_user_has_chosen_stays():
    key = "distributed.deploy.lost-worker-timeout"
    assert key in unless_chosen(settings())
    with dask.config.set({key: "1 hour"}):
        left = unless_chosen(settings())
    assert key not in left
    assert len(left) == len(settings()) - 1


def test_the_guide_shows_these_settings():
    block = re.search(r"```yaml\n(.*?)```", HOWTO.read_text("utf-8"), re.DOTALL)
    assert block is not None
    told = yaml.safe_load(block[1])
    for key, value in settings().items():
        if "pre-spawn" not in key:
            assert dask.config.get(key, None, config=told) == value, key
