"""Models that only this process has, and workers that have none of them."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import pytest

import xatmo
from xatmo.zoo import read_card
from xatmo.zoo.registry import packaged_folder

REPO = Path(__file__).parents[2]
NOWHERE = "/nonexistent/xatmo"


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[None]:
    """What a script sets for its session ends with the test."""
    before = copy.deepcopy(dask.config.config)
    yield
    dask.config.config.clear()
    dask.config.config.update(before)


@pytest.fixture
def own_model(tmp_path, monkeypatch) -> xatmo.Model:
    """``mine``: the small model under a name that no package has."""
    packaged = packaged_folder() / "atmodist-small"
    folder = tmp_path / "models" / "mine"
    shutil.copytree(packaged, folder)
    card = folder / "card.toml"
    text = card.read_text("utf-8").replace(
        'name = "atmodist-small"', 'name = "mine"', 1
    )
    card.write_text(text, "utf-8")
    read_card(folder)
    monkeypatch.setenv("XATMO_MODELS_URL", str(folder.parent))
    return xatmo.load_model("mine")


@pytest.fixture
def far(tmp_path) -> Path:
    """Local folder of workers that share no other one with this process."""
    folder = tmp_path / "node"
    folder.mkdir()
    return folder


@pytest.fixture
def far_env() -> dict[str, str]:
    """Environment of workers without a cache, a folder of models or a network."""
    return {
        "XATMO_CACHE": NOWHERE,
        "XATMO_MODELS_URL": NOWHERE,
        # Whoever tries to download fails at once, and visibly.
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }


@pytest.fixture
def run_python() -> Callable[[str], None]:
    """Run code in a fresh Python."""

    def run(code: str) -> None:
        command = [sys.executable, "-c", textwrap.dedent(code)]
        env = {**os.environ, "PYTHONPATH": str(REPO)}
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return run
