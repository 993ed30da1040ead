"""The scripts of the guide run: here, on a make-believe queue, and without a GPU."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xatmo

REPO = Path(__file__).parents[2]
SCRIPTS = REPO / "docs" / "howto" / "scripts"

# sbatch starts the job's script here; scancel ends it with all that it has started.
SBATCH = """\
#!{python}
import os, pathlib, subprocess, sys
folder = pathlib.Path({folder!r})
script = pathlib.Path(sys.argv[-1]).read_text()
number = len(list(folder.glob("*.job"))) + 1
(folder / f"{{number}}.job").write_text(script)
log = open(folder / f"{{number}}.log", "w")
job = subprocess.Popen(["bash", folder / f"{{number}}.job"], stdout=log, stderr=log,
                       start_new_session=True, env=dict(os.environ, **{env!r}))
(folder / f"{{number}}.pid").write_text(str(job.pid))
print(f"Submitted batch job {{number}}")
"""
SCANCEL = """\
#!{python}
import os, pathlib, signal, sys
folder = pathlib.Path({folder!r})
for number in sys.argv[1:]:
    (folder / f"{{number}}.cancelled").touch()
    pid = int((folder / f"{{number}}.pid").read_text())
    try:
        os.killpg(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
"""


def run_script(name, *arguments, cwd, path=(), **env):
    paths = [str(REPO), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, *paths]), **env}
    return subprocess.run(
        [sys.executable, SCRIPTS / name, *map(str, arguments)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,  # a machine may be busy
    )


@pytest.fixture(scope="module")
def expected():
    return xatmo.open_sample().atmo.embed()


def check(store, expected):
    got = xr.open_zarr(store)[expected.name]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_local_cluster(tmp_path, expected):
    done = run_script("local_cluster.py", cwd=tmp_path, DASK_NUM_WORKERS="2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("local-cluster, ")
    check(tmp_path / "embedding.zarr", expected)


@pytest.fixture
def queue(tmp_path):
    """A folder with ``sbatch`` and ``scancel``, whose jobs see no models of ours."""
    folder = tmp_path / "queue"
    folder.mkdir()
    env = {"XATMO_MODELS_URL": "/nonexistent", "XATMO_CACHE": "/nonexistent"}
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        told = text.format(python=sys.executable, folder=str(folder), env=env)
        (folder / name).write_text(told)
        (folder / name).chmod(0o755)
    yield folder
    for job in folder.glob("*.pid"):  # none is left, unless the test has failed
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(job.read_text()), signal.SIGKILL)


@pytest.mark.slow
def test_slurm_from_the_first_job_to_the_last_file(
    tmp_path, queue, own_model, expected
):
    done = run_script(
        "slurm.py",
        *("--queue", "compute", "--account", "climate", "--jobs", 2, "--cores", 2),
        *("--processes", 1, "--memory", "2GB", "--scratch", tmp_path / "node"),
        *("--model", "mine"),
        cwd=tmp_path,
        PATH=f"{queue}{os.pathsep}{os.environ['PATH']}",
    )
    assert done.returncode == 0, done.stderr
    check(tmp_path / "embedding.zarr", expected)
    jobs = sorted(p.stem for p in queue.glob("*.job"))
    assert 1 <= len(jobs) <= 4
    assert sorted(p.stem for p in queue.glob("*.cancelled")) == jobs
    # The model came to the node's own disk.
    (weights,) = (tmp_path / "node").rglob("weights.safetensors")
    assert weights.stat().st_size == own_model.card.weights.size


def test_the_job_script_asks_for_what_workers_use(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = ["slurm.py", "--queue", "compute", "--account", "climate"]
    monkeypatch.setattr(sys, "argv", arguments)
    slurm = _module("slurm.py")

    with slurm.open_cluster(slurm.options()) as cluster:
        script = cluster.job_script()
        timeout = cluster.scheduler.no_workers_timeout
    for line in (
        "#SBATCH -p compute",
        "#SBATCH -A climate",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=30G",
        "#SBATCH -t 04:00:00",
        "export OMP_NUM_THREADS=4",
    ):
        assert line in script.splitlines()
    (command,) = [line for line in script.splitlines() if "dask_worker" in line]
    for part in (
        "--nthreads 1 --memory-limit 14.90GiB --nworkers 2",
        "--nanny --death-timeout 300",
        "--local-directory $TMPDIR",
        "--lifetime 225m --lifetime-stagger 5m",
    ):
        assert part in command
    assert timeout == 600


@pytest.mark.slow
def test_cuda_with_a_cluster_of_other_workers(tmp_path, expected):
    """No GPU: a stand-in for dask-cuda, and a device that there is."""
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "dask_cuda.py").write_text(
        textwrap.dedent(
            """\
            from distributed import LocalCluster


            class LocalCUDACluster(LocalCluster):
                def __init__(self, threads_per_worker):
                    super().__init__(
                        n_workers=1,
                        threads_per_worker=threads_per_worker,
                        dashboard_address=None,
                    )
            """
        )
    )
    done = run_script("cuda.py", cwd=tmp_path, path=[str(stub)])
    import torch

    if not torch.cuda.is_available():
        assert "The device 'cuda' cannot be used here" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        check(tmp_path / "embedding.zarr", expected)


@pytest.mark.gpu
@pytest.mark.slow
def test_cuda(tmp_path, expected):
    import torch

    if not torch.cuda.is_available() or not importlib.util.find_spec("dask_cuda"):
        pytest.skip("needs a CUDA device and dask-cuda")
    done = run_script("cuda.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    got = xr.open_zarr(tmp_path / "embedding.zarr")[expected.name]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3)


def _module(name):
    spec = importlib.util.spec_from_file_location(
        name.removesuffix(".py"), SCRIPTS / name
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
