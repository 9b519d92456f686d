"""Every Python example in the documentation runs, and prints what is written below it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from walkthroughs import WALKTHROUGHS, Block, blocks_of, printed_by

ROOT = Path(__file__).parents[2]
# The examples of these continue each other: test_walkthroughs.py runs them.
TESTED_ELSEWHERE = {*WALKTHROUGHS}
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page not in TESTED_ELSEWHERE),
]
HAS_TORCH = importlib.util.find_spec("torch") is not None


def examples_of(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.language == "python"]


EXAMPLES = {
    f"{page.relative_to(ROOT)}:{block.line}": block for page in PAGES for block in examples_of(page)
}
# The contract is tested on machines without torch too; training examples cannot run there.
TRAINS = re.compile(r"import torch|import peft|from peft|adalora_core\.(integrations|peft)")
RUNNABLE = [
    place for place, block in EXAMPLES.items() if HAS_TORCH or not TRAINS.search(block.content)
]


@pytest.mark.usefixtures("uninstalled")
@pytest.mark.parametrize("place", RUNNABLE)
def test_documentation_example_runs_and_prints_what_it_shows(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = EXAMPLES[place]
    printed = printed_by(example.content, place, {"__name__": "__main__"})
    if example.output is not None:
        assert printed.rstrip() == example.output.rstrip()
