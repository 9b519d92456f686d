"""Make the README of a folder from the files in it: tests/support, tools and docs/adr."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
WRITTEN = "<!-- written by python tools/regenerate.py indexes -->"
SUPPORT = """\
# What several tests share

Tests import these modules by their names: `pyproject.toml` puts this folder on the path.
What one test file needs stays in it; what a second one needs too moves here.
"""
TOOLS = """\
# Tools

Scripts that write documentation. `regenerate.py` calls most of them; `CONTRIBUTING.md` lists
its parts. Measurements are in `benchmarks/`.
"""
DECISIONS = """\
# Decisions

Each page is one decision: context, options, numbers with the command that measures them, and
consequences. Where a decision changes, a new page replaces the old one, whose status names it.

| number | decision | status |
|---|---|---|
"""
UNUSED = """
No page has ever had the numbers {}: numbers were given out before the pages were written.
"""


def summary(path: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].removesuffix(".")


def modules(folder: Path, head: str) -> str:
    """Return the README of a folder of modules."""
    paths = sorted([*folder.glob("*.py"), *folder.glob("*/__init__.py")])
    names = [f"{path.parent.name}/" if path.stem == "__init__" else path.name for path in paths]
    rows = [f"| `{name}` | {summary(path)} |" for name, path in zip(names, paths, strict=True)]
    return "\n".join([head, WRITTEN, "", "| file | what it does |", "|---|---|", *rows, ""])


def decisions(folder: Path) -> str:
    """Return the index of the decisions, and which numbers were never used."""
    rows = {}
    for path in sorted(folder.glob("[0-9]*.md")):
        text = path.read_text(encoding="utf-8")
        number, title = re.findall(r"^# (\d{4}): (.*)$", text, re.MULTILINE)[0]
        (status,) = re.findall(r"^Status: (.*)$", text, re.MULTILINE)
        rows[int(number)] = f"| [{number}]({path.name}) | {title} | {status} |"
    unused = [f"{each:04}" for each in range(1, max(rows)) if each not in rows]
    listed = " and ".join(filter(None, [", ".join(unused[:-1]), *unused[-1:]]))
    table = DECISIONS + "\n".join([*rows.values(), ""])
    return f"{WRITTEN}\n{table}{UNUSED.format(listed) if unused else ''}"


def pages() -> dict[Path, str]:
    """Return the README of each folder."""
    support, tools, adr = ROOT / "tests" / "support", ROOT / "tools", ROOT / "docs" / "adr"
    return {
        support / "README.md": modules(support, SUPPORT),
        tools / "README.md": modules(tools, TOOLS),
        adr / "README.md": decisions(adr),
    }
