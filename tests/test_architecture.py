"""Imports run in one direction only: from the verbs down to the networks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "xatmo"

# What each part may import of the package, besides itself. Leaves may be used by all.
LEAVES = {"errors", "options"}
VERBS = {"embedding", "distances", "downscaling", "infilling", "predictability_maps"}
VERBS |= {"attention_maps", "forecasting", "interpolation"}
LOWER = {"fields", "engine", "zoo", "provenance"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "options": set(),
    "nets": set(),
    "blocks": set(),
    "climatology": set(),
    "holdout": {"climatology"},
    "fields": set(),
    "frames": {"climatology"},
    "metrics": {"fields"},
    "methods": {"blocks", "fields", "nets"},
    "sample": set(),
    "globe": {"fields"},
    "plot": {"globe"},
    "zoo": {"nets"},
    "cluster": {"zoo"},
    "engine": {"blocks", "climatology", "frames", "zoo"},
    "provenance": {"zoo"},
    "moments": set(),
    "gridfit": {"fields", "zoo"},
    "matching": {"engine", "fields", "gridfit", "zoo"},
    "normalization": {"fields", "gridfit", "matching", "moments", "zoo"},
    "alignment": {"fields"},
    "boxes": LOWER | {"gridfit", "lags", "matching"},
    "box_embedding": LOWER | {"boxes"},
    "box_downscaling": LOWER | {"boxes"},
    "fieldsets": LOWER | {"boxes", "gridfit", "lags", "matching"},
    "embedding": LOWER | {"box_embedding", "fieldsets", "matching"},
    "forecasting": LOWER | {"boxes", "embedding", "fieldsets", "lags"},
    "interpolation": LOWER | {"boxes", "embedding", "lags"},
    "attention_maps": LOWER | {"boxes", "embedding", "fieldsets"},
    "distances": LOWER | {"matching", "alignment", "embedding"},
    "memory": {"engine", "fields"},
    "noise": set(),
    "downscaling": LOWER
    | {"box_downscaling", "boxes", "embedding", "matching", "noise"},
    "infilling": LOWER
    | {"boxes", "climatology", "embedding", "holdout", "lags", "matching", "methods"},
    "windows": {"fields", "zoo"},
    "lags": {"zoo"},
    "predictability_maps": LOWER | {"matching", "embedding", "lags", "windows"},
    "losses": {"nets", "zoo"},
    "summary": {"boxes", "fields", "fieldsets", "matching", "zoo"},
    "accessor": VERBS | {"summary", "zoo"},
    "testing": {"engine", "fields"},
    "training": LOWER
    | {"matching", "metrics", "moments", "nets", "normalization", "plot", "sample"}
    | {"blocks", "downscaling", "gridfit", "losses", "methods"}
    | {"climatology", "frames", "holdout", "infilling", "testing"},
    "demo": VERBS
    | {"fields", "matching", "metrics", "opening", "plot", "sample", "zoo"},
    "opening": set(),
    "jobs": VERBS | {"cluster", "engine", "opening", "zoo"},
    "cli": {"demo", "jobs", "sample", "summary", "training", "zoo"},
    "__main__": {"cli"},
    "__init__": VERBS
    | {
        "accessor",
        "cluster",
        "jobs",
        "losses",
        "memory",
        "normalization",
        "sample",
        "zoo",
    },
}
# The version stands in the package itself; asking for it when called binds nothing.
VERSION_ONLY = {"provenance", "cli", "jobs"}


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """Parts of the package that a module imports, wherever the statement stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
            if node.module == "xatmo":
                names = [f"xatmo.{alias.name}" for alias in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("xatmo.")}
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path):
    part = _part(path)
    assert part in ALLOWED, f"say in this test what xatmo.{part} may import"
    allowed = ALLOWED[part] | LEAVES | {part}
    if part in VERSION_ONLY:
        allowed |= {"__version__"}
    wrong = _imports(path) - allowed
    assert not wrong, f"{path.name} may not import xatmo.{', xatmo.'.join(wrong)}"


def test_the_rules_have_no_circle():
    order: list[str] = []
    left = dict(ALLOWED)
    while left:
        free = [p for p, needs in left.items() if not (needs - set(order))]
        assert free, f"a circle among {sorted(left)}"
        order += free
        left = {p: needs for p, needs in left.items() if p not in free}


def test_a_breach_is_found(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from xatmo.training.run import train\n")
    assert _imports(bad) == {"training"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_stay_small(path):
    assert len(path.read_text().splitlines()) <= 450


def test_nothing_unpickles():
    for path in MODULES:
        text = path.read_text()
        assert "weights_only=False" not in text, path
        assert "import pickle" not in text, path
