"""Pages as scripts: their Python blocks run in order, and what they print is compared.

Three comments steer this, each directly above a fenced block::

    <!-- output -->     the text that the block before has printed
    <!-- error -->      the error that the block before has raised
    <!-- not run: why -->

An ellipsis in an expected text stands for anything.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from xatmo.errors import AtmoError

_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^>]*?) -->\n)?^```(?P<kind>\S+)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_ROOT = Path(__file__).parents[2]


class Block(NamedTuple):
    """A fenced block: its mark, its language, its text, and its line in the page."""

    mark: str
    kind: str
    body: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("body"))
        yield Block(match["mark"] or "", match["kind"], match["body"], line)


def _code(block: Block) -> str:
    """The block's code, with the page's line numbers."""
    return "\n" * block.line + block.body


def _same(expected: str, got: str) -> bool:
    checker = doctest.OutputChecker()
    return checker.check_output(expected, got.rstrip() + "\n", doctest.ELLIPSIS)


def _compare(page: Path, block: Block, got: str) -> None:
    assert _same(block.body, got), (
        f"{page.name}:{block.line}: the page shows\n{block.body}\nbut this came:\n{got}"
    )


def run(page: Path) -> int:
    """Run the blocks of a page in one namespace; return how many there were."""
    namespace: dict[str, object] = {"__name__": "page"}
    printed, raised, count = "", None, 0
    for block in blocks(page):
        if block.mark == "output":
            _compare(page, block, printed)
        elif block.mark == "error":
            assert raised is not None, f"{page.name}:{block.line}: nothing was raised"
            _compare(page, block, f"{type(raised).__name__}: {raised}")
            raised = None
        elif block.kind == "python" and not block.mark.startswith("not run"):
            if raised is not None:
                raise raised
            out = io.StringIO()
            code = compile(_code(block), str(page), "exec")
            try:
                with contextlib.redirect_stdout(out):
                    exec(code, namespace)  # noqa: S102 - our own pages
            except AtmoError as error:
                raised = error
            printed, count = out.getvalue(), count + 1
    if raised is not None:
        raise raised
    return count


@pytest.fixture
def run_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], int]]:
    """Run a page of the repository, in an empty folder, without windows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of extrapolation: the sample is one
        yield lambda name: run(_ROOT / name)


@pytest.fixture
def page_blocks() -> Callable[[str], list[Block]]:
    """The fenced blocks of a page of the repository."""
    return lambda name: list(blocks(_ROOT / name))
