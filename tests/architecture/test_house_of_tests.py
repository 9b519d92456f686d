"""The test of a module lies where the module lies; every other folder of tests has its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STORIES = set(
    re.findall(r"^  (\w+)/ ", PAGE.partition("\ntests/ ")[2].partition("```")[0], re.MULTILINE)
)
FOLDERS = {path.parent.relative_to(ROOT / "tests") for path in ROOT.glob("tests/*/**/test_*.py")}
ROOMS = {folder for folder in FOLDERS if (ROOT / "adalora_core" / folder).is_dir()}


@pytest.mark.parametrize("room", sorted(ROOMS), ids=str)
def test_a_file_in_a_room_names_a_module_of_the_room(room: Path) -> None:
    paths = (ROOT / "adalora_core" / room).iterdir()
    modules = {path.stem.lstrip("_") for path in paths if path.suffix in ("", ".py")}
    for path in (ROOT / "tests" / room).glob("test_*.py"):
        words = path.stem.split("_")[1:]
        names = {"_".join(words[:count]) for count in range(1, len(words) + 1)}
        assert names & modules, f"{path.relative_to(ROOT)} names no module of {room}"


def test_every_other_folder_has_a_line_in_the_page() -> None:
    assert {folder.parts[0] for folder in FOLDERS - ROOMS} - STORIES == set()
    assert {name for name in STORIES if not (ROOT / "tests" / name).is_dir()} == set()
