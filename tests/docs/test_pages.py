"""The code in the documentation runs, and prints what the pages show."""

from __future__ import annotations

from pathlib import Path

import pytest

import xatmo
from xatmo.training.recipe import read_recipe

ROOT = Path(__file__).parents[2]
PAGES = [
    "docs/index.md",
    "docs/howto/your_data.md",
    "docs/howto/chunks.md",
    "docs/howto/gpu.md",
    "docs/howto/batch.md",
    "docs/howto/cluster.md",
    "docs/howto/normalization.md",
    "docs/howto/models.md",
    "docs/howto/import.md",
    "docs/howto/climax.md",
    "docs/howto/climatebench.md",
    "docs/howto/evaluate.md",
    "docs/howto/metrics.md",
    *(["docs/howto/downscale.md"] if xatmo.list_models("downscale") else []),
    *(["docs/howto/infill.md"] if xatmo.list_models("infill") else []),
    *(["docs/howto/forecast.md"] if xatmo.list_models("forecast") else []),
    "docs/howto/predictability.md",
    "docs/howto/loss.md",
    "docs/explanation/downscaling.md",
    "docs/explanation/infilling.md",
    "docs/explanation/multiformer.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(run_page, page):
    assert run_page(page) > 0


def test_the_recipe_in_the_guide_is_a_recipe(page_blocks, tmp_path):
    blocks = (b.body for b in page_blocks("docs/howto/train.md") if b.kind == "toml")
    names = ("mine", "finer", "gaps", "multiformer-mine")
    names += ("mine-u", "mine-finer", "climax-mine")
    files = [tmp_path / f"{n}.toml" for n in names]
    path, finer, gaps, boxes, alone, tails, leads = files
    for file, text in zip(files, blocks, strict=True):
        file.write_text(text, "utf-8")
    recipe = read_recipe(path)
    assert recipe.name == "atmodist-mine"
    assert recipe.network["n_classes"] == recipe.sampling.n_lags
    from xatmo.training.run import build_network

    network = build_network(recipe)
    assert network.encoder.stride("block3") == recipe.card["grid"]["stride"]
    from xatmo.training.downscale.recipe import read_recipe as read_downscale

    assert read_downscale(finer).init_from == "downscale-winds"
    from xatmo.training.infill.recipe import read_recipe as read_infill

    filler = read_infill(gaps)
    assert filler.init_from == "infill-small"
    released = read_infill(ROOT / "train" / "infill" / "recipe.toml")
    assert filler.network == released.network
    from xatmo.training.multiformer.recipe import read_recipe as read_multiformer

    both, first = read_multiformer(boxes), read_multiformer(alone)
    assert first.name in both.init_fields
    assert build_network(both).box == build_network(first).box == (6, 24, 24)
    tuned = read_multiformer(tails)
    assert tuned.init_from == both.name
    assert build_network(tuned).finer == tuned.factor == 4
    from xatmo.training.climax.recipe import read_recipe as read_climax

    region = read_climax(leads)
    assert region.init_from == "climax-small"
    small = read_climax(ROOT / "train" / "climax" / "small.toml")
    for name in set(region.network) - {"variables"}:
        assert region.network[name] == small.network[name], name
    assert set(region.init_variables.values()) <= set(small.variables)
    assert set(region.variables) - set(small.variables) == set(region.init_variables)
