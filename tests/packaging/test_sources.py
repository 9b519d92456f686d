"""The build lists its sources by name, so that a new file is either built or noticed."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD_FILES = [ROOT / "CMakeLists.txt", *(ROOT / "csrc").rglob("*.cmake")]
SOURCES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "csrc").rglob("*")
    if path.suffix in {".cpp", ".cu"}
)


def test_there_are_sources():
    assert SOURCES


def listed_sources() -> set[str]:
    """The sources that the build files name, relative to the root."""
    found = set()
    for file in BUILD_FILES:
        text = file.read_text(encoding="utf-8")
        here = file.parent.relative_to(ROOT).as_posix()
        for variable, value in re.findall(r"set\((adalora_\w+) (\S+)\)", text):
            text = text.replace(f"${{{variable}}}", value)
        names = re.findall(
            r"[\w./${}]+\.(?:cpp|cu)\b", text.replace("${CMAKE_CURRENT_LIST_DIR}/", "")
        )
        found |= {posixpath.normpath(f"{here}/{name}") for name in names}
    return found


@pytest.mark.parametrize("source", SOURCES)
def test_source_is_listed_in_the_build(source):
    assert source in listed_sources(), f"{source} is in no target of the build"


def test_no_source_is_found_by_pattern():
    assert not any("GLOB" in file.read_text(encoding="utf-8") for file in BUILD_FILES)
