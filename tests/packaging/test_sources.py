"""The build lists its sources by name, so that a new file is either built or noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTED = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
SOURCES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "csrc").rglob("*")
    if path.suffix in {".cpp", ".cu"}
)


def test_there_are_sources():
    assert SOURCES


@pytest.mark.parametrize("source", SOURCES)
def test_source_is_listed_in_the_build(source):
    assert source in LISTED, f"{source} is in no target of CMakeLists.txt"
