"""The guides stay short: a fact is written in one place, and other pages link to it."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
APART = ("rules/", "adr/")
MOST, MOST_OF_PROSE = 38_000, 19_000
"""Largest numbers of words as `wc -w` counts them; of prose, without tables and code."""
ROW = re.compile(r"^\|.*$", re.MULTILINE)
CODE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


def test_guides_are_short():
    pages = [
        path.read_text(encoding="utf-8")
        for path in DOCS.rglob("*.md")
        if not path.relative_to(DOCS).as_posix().startswith(APART)
    ]
    assert sum(len(text.split()) for text in pages) <= MOST
    assert sum(len(ROW.sub("", CODE.sub("", text)).split()) for text in pages) <= MOST_OF_PROSE
