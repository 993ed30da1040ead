"""The documentation builds without a warning, and has the pages it should have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built pages. Built from a copy, since a build writes beside its sources."""
    folder = tmp_path_factory.mktemp("site")
    ours = shutil.ignore_patterns("_build", "auto_gallery", "gen_modules", "generated")
    for name in ("docs", "gallery"):
        shutil.copytree(ROOT / name, folder / name, ignore=ours)
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, folder)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "docs", "html"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "html"


def _page(site: Path, name: str) -> str:
    path = site / f"{name}.html"
    assert path.exists(), f"no page {name}"
    return path.read_text("utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "01_distance_map",
        "02_distance_against_lag",
        "03_your_own_file",
        "04_predictability",
        "05_atmodist_loss",
        "08_hurricane_finer",
        "09_realizations",
        "10_six_gaps",
        "11_spread_and_error",
        "12_global_mean_with_half_gone",
        "14_ensemble_fan",
        "15_attention_in_a_storm",
        "16_add_a_field",
        "13_a_fluid_in_a_minute",
        "17_which_variables_mattered",
        "18_fine_tune_on_your_region",
    ],
)
def test_gallery_pages_have_a_figure(site, name):
    assert f"sphx_glr_plot_{name}_001" in _page(site, f"auto_gallery/plot_{name}")


def test_the_gallery_shows_the_error_and_the_repr(site):
    page = _page(site, "auto_gallery/plot_03_your_own_file")
    assert "The data do not say what level they are at." in page
    assert "Models that do not" in page


def test_the_gallery_tells_nothing_about_this_machine(site):
    for page in (site / "auto_gallery").glob("plot_*.html"):
        assert str(site.parent) not in page.read_text("utf-8")


@pytest.mark.parametrize("kind", ["Dataset", "DataArray", "DataTree"])
@pytest.mark.parametrize(
    "verb",
    [
        "embed",
        "distance",
        "downscale",
        "infill",
        "forecast",
        "interpolate_time",
        "attention",
        "predictability",
        "summary",
    ],
)
def test_accessor_pages(site, kind, verb):
    page = _page(site, f"reference/generated/xarray.{kind}.atmo.{verb}")
    assert f"{kind}.atmo." in page


def test_function_pages_lead_to_the_gallery(site):
    page = _page(site, "reference/generated/xatmo.distance")
    assert "plot_01_distance_map" in page


def test_every_model_has_its_page(site):
    import xatmo

    for card in xatmo.list_models():
        page = _page(site, f"reference/generated/models/{card.name}")
        assert card.weights.sha256 in page


def test_the_tree_of_errors_is_complete(site):
    from xatmo import errors

    page = _page(site, "reference/errors")
    assert [name for name in errors.__all__ if f"xatmo.errors.{name}" not in page] == []


def test_the_command_is_documented(site):
    page = _page(site, "reference/command")
    for command in ("demo", "models verify", "train", "release", "evaluate", "compare"):
        assert f"usage: xatmo {command}" in page
