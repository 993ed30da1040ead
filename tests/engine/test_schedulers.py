"""The real model on every scheduler: processes load it once and agree."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.slow
def test_processes(winds):
    z = winds.chunk(time=2).atmo.embed()
    got = z.compute(scheduler="processes", num_workers=2)
    np.testing.assert_allclose(got, winds.atmo.embed(), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_distributed(winds):
    from distributed import Client, LocalCluster

    def loads() -> int:
        from xatmo.engine import worker

        return worker.load_count()

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        big = winds.isel(time=np.arange(200) % 5).drop_vars("time").chunk(time=10)
        z = big.atmo.embed().compute()
        counts = client.run(loads)
    expected = winds.atmo.embed().isel(time=np.arange(200) % 5)
    np.testing.assert_allclose(z, expected, rtol=0, atol=1e-5)
    assert max(counts.values()) <= 1
    assert sum(counts.values()) >= 1
