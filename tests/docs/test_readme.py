"""The README keeps its word."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_its_python_runs(run_page):
    assert run_page("README.md") == 1


def test_its_example_has_at_most_twenty_lines(page_blocks):
    (code,) = (b.body for b in page_blocks("README.md") if b.kind == "python")
    assert len(code.splitlines()) <= 20


def test_its_two_commands_are_single_lines_with_pinned_versions(page_blocks):
    marked = [b for b in page_blocks("README.md") if b.mark.startswith("command: ")]
    assert [b.mark for b in marked] == ["command: demo", "command: tests"]
    for block in marked:
        assert block.kind == "bash"
        (line,) = block.body.splitlines()
        assert line.startswith("python -m venv .venv && ")
        assert "-c constraints.txt" in line


def test_its_links_lead_somewhere():
    import re

    text = (ROOT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    local = [link for link in links if "://" not in link]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []
