"""Building a graph computes nothing, runs no network and carries no weights."""

from __future__ import annotations

import subprocess
import sys

import cloudpickle
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import xatmo
from xatmo.testing import count_forwards, raise_if_computes

_HOUR = np.timedelta64(1, "h")


@pytest.fixture(scope="module")
def finer(make_box_model) -> xatmo.Model:
    """A small model of boxes that refines."""
    return make_box_model("tiny-finer-lazy", finer=2)


@pytest.mark.parametrize(
    "verb",
    [
        lambda ds: ds.atmo.embed(),
        lambda ds: ds.atmo.embed(layer="block2", reduce="mean"),
        lambda ds: ds.atmo.distance(ds.isel(time=0)),
        lambda ds: ds.atmo.distance(pairwise=True),
        lambda ds: ds.chunk(latitude=16, longitude=16).atmo.embed(),
        lambda ds: ds.atmo.predictability(xatmo.load_model().card.time.lags[0] * _HOUR),
        lambda ds: ds.atmo.downscale(model="tiny", realizations=3),
        lambda ds: ds.chunk(latitude=9).atmo.downscale(model="tiny", conserve=False),
        lambda ds: ds.atmo.infill("tiny-infill"),
        lambda ds: ds.chunk(latitude=9).atmo.infill(),
        lambda ds: ds.chunk(latitude=9).atmo.downscale(2, model="tiny-finer-lazy"),
        lambda ds: repr(ds.atmo),
    ],
)
@pytest.mark.usefixtures("refiners", "infiller", "finer")
def test_nothing_runs_before_compute(winds, verb):
    with count_forwards() as counted, raise_if_computes():
        verb(winds.chunk(time=2))
    assert counted.calls == 0


def test_weights_do_not_travel(winds):
    ds = winds.isel(time=np.zeros(1000, int)).drop_vars("time").chunk(time=1)
    z = ds.atmo.embed()
    with_data = len(cloudpickle.dumps(dict(z.__dask_graph__())))
    data = len(cloudpickle.dumps(dict(ds.__dask_graph__())))
    assert with_data - data < 1_000_000


def test_the_graph_of_many_chunks_is_small(winds, refiners):
    """A few hundred bytes for each task, whatever the size of fields and weights."""
    ds = winds.isel(time=np.zeros(2000, int)).drop_vars("time").chunk(time=50)
    fine = ds.atmo.downscale(model="tiny", realizations=2)
    with_data = len(cloudpickle.dumps(dict(fine.__dask_graph__())))
    data = len(cloudpickle.dumps(dict(ds.__dask_graph__())))
    assert with_data - data < 400_000
    assert len(fine.__dask_graph__()) < 40 * 2 * 8


def test_same_downscaling_same_name(winds, refiners):
    ds = winds.chunk(time=2, latitude=10)
    names = [
        ds.atmo.downscale(model="tiny", seed=seed).u10.data.name for seed in (0, 0, 1)
    ]
    assert names[0] == names[1] != names[2]


def test_each_field_is_computed_once_for_both_winds(winds, refiners):
    fine = winds.chunk(time=1, longitude=9).atmo.downscale(model="tiny", realizations=2)
    with count_forwards() as counted:
        fine.compute(scheduler="sync")
    assert counted.fields == 2 * winds.sizes["time"]


def test_same_call_same_name(winds):
    ds = winds.chunk(time=2)
    assert ds.atmo.embed().data.name == ds.atmo.embed().data.name


def test_token_is_the_same_in_another_process(winds):
    code = (
        "from dask.base import tokenize; import xatmo;"
        "print(tokenize(xatmo.load_model().key))"
    )
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    )
    assert first == second


def test_weights_are_loaded_once(winds):
    from xatmo.engine import worker

    winds.atmo.embed()
    before = worker.load_count()
    winds.chunk(time=1).atmo.embed().compute(scheduler="threads", num_workers=4)
    assert worker.load_count() == before


def test_import_leaves_torch_alone():
    code = (
        "import sys, xatmo, xarray as xr, numpy as np;"
        "ds = xatmo.testing.synthetic_winds(2).chunk(time=1);"
        "repr(ds.atmo); xatmo.list_models();"
        "heavy = {'torch', 'matplotlib', 'lightning', 'pint', 'distributed'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    # Units are read with pint, which brings matplotlib along where it is installed.
    code = "import xatmo.testing;" + code
    import_only = (
        "import sys, xatmo;"
        "heavy = {'torch', 'matplotlib', 'lightning', 'pint', 'pooch'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    for script, allowed in ((import_only, set()), (code, {"pint", "matplotlib"})):
        out = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        assert set(eval(out.stdout)) <= allowed  # noqa: S307


def test_accessor_and_results_travel(winds):
    z = winds.chunk(time=2).atmo.embed()
    again = cloudpickle.loads(cloudpickle.dumps(z))
    np.testing.assert_array_equal(again, z)
    assert repr(cloudpickle.loads(cloudpickle.dumps(winds)).atmo) == repr(winds.atmo)


@pytest.mark.parametrize(
    "verb",
    [
        lambda ds: ds.atmo.embed(reduce="mean"),
        lambda ds: ds.atmo.distance(ds.isel(time=0)),
        lambda ds: ds.atmo.downscale(model="tiny"),
        lambda ds: ds.atmo.infill("tiny-infill"),
        lambda ds: ds.atmo.forecast("12h", members=False),
        lambda ds: ds.atmo.embed(model="multiformer-small"),
        lambda ds: ds.atmo.infill(model="multiformer-small"),
        lambda ds: ds.atmo.downscale(2, 2, model="tiny-finer-lazy"),
    ],
    ids=["mean", "distance", "finer", "infill", "forecast", "boxes", "gaps", "fine"],
)
@pytest.mark.usefixtures("refiners", "infiller", "finer")
def test_a_graph_does_not_grow_with_the_chunks(winds, verb):
    """Rules, and two dozen numbers for each time: 50 MB are enough for 100,000."""
    ds = verb(_long(winds, 2000))
    assert len(cloudpickle.dumps(ds.__dask_graph__())) < 400_000 + 300 * 2000


def _long(winds: xr.Dataset, count: int) -> xr.Dataset:
    """So many chunks of one time of a small region."""
    few = winds.isel(latitude=slice(36), longitude=slice(36)).drop_vars("time")
    times = np.datetime64("2000-01-01", "ns") + 6 * np.arange(count) * _HOUR
    zeros = da.zeros((count, 36, 36), chunks=(1, 36, 36), dtype="f4")
    same = {name: (few[name].dims, zeros, few[name].attrs) for name in few}
    return few.isel(time=0).assign(same).assign_coords(time=times)


def test_options_are_those_of_the_call(winds):
    with xatmo.set_options(batch_size=3):
        z = winds.chunk(time=5).atmo.embed()
    with count_forwards() as counted:
        z.compute()
    assert counted.calls == 2  # five fields in batches of three


def test_the_graph_of_a_long_series_is_small(winds, infiller, monkeypatch):
    """Plan and recipe stand in it once; a task for each piece knows its neighbours."""
    from xatmo.engine import gaps

    monkeypatch.setattr(gaps, "TASK_POINTS", 1)
    ds = winds[["u10"]].isel(time=np.zeros(2000, int)).drop_vars("time").chunk(time=50)
    filled = ds.atmo.infill("tiny-infill").u10
    with_data = len(cloudpickle.dumps(dict(filled.__dask_graph__())))
    data = len(cloudpickle.dumps(dict(ds.__dask_graph__())))
    assert with_data - data < 1_500_000
    assert len(filled.__dask_graph__()) < 500 * 12
