"""Pages made of the package itself: model pages, command help, the tree of errors.

They are written into ``reference/generated`` when the documentation is built, so that
they cannot say anything else than the package does.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from pathlib import Path

import xatmo
from xatmo import errors
from xatmo.cli import main
from xatmo.training.modelpage import comparison
from xatmo.zoo import list_models
from xatmo.zoo.registry import packaged_folder

_COMMANDS = {
    "xatmo": [],
    "demo": ["demo"],
    **{verb: [verb] for verb in ("embed", "distance", "downscale", "infill")},
    "forecast": ["forecast"],
    "models": ["models"],
    "models-list": ["models", "list"],
    "models-show": ["models", "show"],
    "models-fetch": ["models", "fetch"],
    "models-verify": ["models", "verify"],
    "models-import": ["models", "import"],
    "train": ["train"],
    "release": ["release"],
    "evaluate": ["evaluate"],
    "compare": ["compare"],
}


_HOLE = """\
## The paper's experiment

The AtmoDist paper fills a hole in the middle of a patch of winds, with an autoencoder
that has no way around its bottleneck: once trained by the squared error, once by the
AtmoDist distance. It says that the second one is nearer to true fields in their
statistics. Two recipes that differ in nothing else do the same here:

```bash
xatmo compare train/infill/hole-mse.toml train/infill/hole-atmodist.toml
```"""


def write_pages(docs: Path) -> None:
    """Write all of them below ``docs/reference/generated``."""
    folder = docs / "reference" / "generated"
    (folder / "models").mkdir(parents=True, exist_ok=True)
    ours = [c for c in list_models() if c.folder.parent == packaged_folder()]
    for card in ours:
        page = (card.folder / "README.md").read_text("utf-8")
        figures = card.folder / "figures"
        if figures.is_dir():  # of every model in a folder of its own
            kept = folder / "models" / card.name / "figures"
            shutil.copytree(figures, kept, dirs_exist_ok=True)
            page = page.replace("](figures/", f"]({card.name}/figures/")
        _write(folder / "models" / f"{card.name}.md", page)
    for name, command in _COMMANDS.items():
        _write(folder / f"help-{name}.txt", _help(command))
    _write(folder / "errors.txt", "\n".join(_tree(errors.AtmoError)) + "\n")
    _write(folder / "hole.txt", _hole())


def _hole() -> str:
    """The AtmoDist paper's experiment on a hole, if it was run; else nothing."""
    tables = Path(xatmo.__file__).parents[1] / "train" / "infill" / "comparison.json"
    if not tables.exists():
        return ""
    told = json.loads(tables.read_text("utf-8"))
    return "\n\n".join([_HOLE, *(f"#{comparison(c)}" for c in told)]) + "\n"


def _write(path: Path, text: str) -> None:
    """Leave a file alone that has not changed, so that its page is not built again."""
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


def _help(command: list[str]) -> str:
    os.environ.update(COLUMNS="80", NO_COLOR="1")
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return text.getvalue()


def _tree(cls: type, depth: int = 0) -> list[str]:
    bases = [b.__name__ for b in cls.__bases__ if not issubclass(b, errors.AtmoError)]
    also = f"  (also {', '.join(bases)})" if depth and bases else ""
    lines = ["    " * depth + cls.__name__ + also]
    for child in cls.__subclasses__():
        lines += _tree(child, depth + 1)
    return lines
