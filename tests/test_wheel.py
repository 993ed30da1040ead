"""The wheel: what is in it, and that it works from an empty directory."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODELS = (
    "atmodist-small",
    "atmodist-vortdiv",
    "downscale-winds",
    "downscale-winds-4deg",
    "infill-small",
    "multiformer-small",
    "downscale-vortdiv",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        str(folder),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel unpacked, and an empty directory beside it to work in."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    (folder / "empty").mkdir()
    return folder


def test_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"xatmo"}
    for model in MODELS:
        for file in ("card.toml", "README.md", "weights.safetensors"):
            assert f"xatmo/zoo/models/{model}/{file}" in names
    for file in ("speedy-t63.nc", "land.npz", "cities.csv", "era5-constants.csv"):
        assert f"xatmo/data/{file}" in names
    assert "xatmo/fields/aliases.toml" in names
    assert not [n for n in names if n.endswith((".ckpt", ".pt", ".pkl"))]


def test_is_light(wheel):
    assert wheel.stat().st_size < 40e6  # eight models, none above 6 MB
    with zipfile.ZipFile(wheel) as archive:
        for model in MODELS:
            weights = archive.getinfo(f"xatmo/zoo/models/{model}/weights.safetensors")
            assert weights.file_size <= 6e6


def _run(installed, code):
    """Run code against the unpacked wheel, without network and without the checkout."""
    env = {
        **os.environ,
        "PYTHONPATH": str(installed / "site"),
        "XATMO_CACHE": str(installed / "cache"),
        "XATMO_MODELS_URL": "",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=installed / "empty",
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_finds_its_models_there(installed):
    out = _run(
        installed,
        "import xatmo; print(xatmo.__file__); print(xatmo.load_model().card.folder)",
    )
    package, folder = out.split()
    assert package.startswith(str(installed / "site"))
    assert folder.startswith(str(installed / "site"))


def test_downscales_there(installed):
    code = (
        "import numpy as np, xatmo\n"
        "from xatmo.testing import synthetic_winds\n"
        "ds = synthetic_winds(1, np.arange(50.0, 30.0, -1.0), np.arange(0.0, 20.0))\n"
        "print(*ds.atmo.downscale().u10.shape)"
    )
    assert _run(installed, code).split() == ["1", "80", "80"]


def test_does_the_main_job_there(installed):
    code = "import sys; from xatmo.cli import main; sys.exit(main(['demo']))"
    out = _run(installed, code)
    assert "wrote xatmo-demo.nc" in out
    assert {p.name for p in (installed / "empty").iterdir()} == {
        "xatmo-demo.nc",
        "xatmo-demo.png",
    }
    assert not (installed / "cache").exists()
