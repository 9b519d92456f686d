"""Every Python example in the documentation runs, and prints what is written below it."""

from __future__ import annotations

import importlib.util
import itertools
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from walkthroughs import WALKTHROUGHS, printed_by

ROOT = Path(__file__).parents[2]
# Its blocks need several processes: tests/distributed/test_scaling_page.py runs them.
OF_SEVERAL_PROCESSES = ROOT / "docs" / "scaling.md"
# The examples of these continue each other: test_walkthroughs.py runs them.
TESTED_ELSEWHERE = {OF_SEVERAL_PROCESSES, *WALKTHROUGHS}
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page not in TESTED_ELSEWHERE),
]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HAS_TORCH = importlib.util.find_spec("torch") is not None


@dataclass(frozen=True)
class Example:
    place: str
    code: str
    output: str | None


def examples_of(page: Path) -> list[Example]:
    text = page.read_text(encoding="utf-8")
    blocks = list(FENCED.finditer(text))
    found = []
    for block, following in itertools.zip_longest(blocks, blocks[1:]):
        if block[1] != "python":
            continue
        place = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, block.start()) + 1}"
        adjacent = following is not None and not text[block.end() : following.start()].strip()
        shown = following[2] if adjacent and following[1] == "text" else None
        found.append(Example(place, block[2], shown))
    return found


EXAMPLES = [example for page in PAGES for example in examples_of(page)]
# The contract is tested on machines without torch too; training examples cannot run there.
TRAINS = re.compile(r"import torch|import peft|from peft|adalora_core\.integrations")
RUNNABLE = [each for each in EXAMPLES if HAS_TORCH or not TRAINS.search(each.code)]


def test_readme_has_a_validation_and_a_training_example_of_15_lines_each():
    validation, training = examples_of(ROOT / "README.md")
    assert "validate_config" in validation.code
    assert validation.output
    assert "update_and_allocate" in training.code
    for example in (validation, training):
        assert len([line for line in example.code.splitlines() if line.strip()]) <= 15


@pytest.fixture
def uninstalled():
    """Take the bridge to PEFT off again, which an example may have installed by an import."""
    yield
    if sys.modules.pop("adalora_core.integrations.peft.auto", None):
        sys.modules["adalora_core.integrations.peft"].uninstall()


@pytest.mark.usefixtures("uninstalled")
@pytest.mark.parametrize("example", RUNNABLE, ids=lambda example: example.place)
def test_documentation_example_runs_and_prints_what_it_shows(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = printed_by(example.code, example.place, {"__name__": "__main__"})
    if example.output is not None:
        assert printed.rstrip() == example.output.rstrip()


def test_readme_promises_exactly_two_commands():
    blocks = FENCED.finditer((ROOT / "README.md").read_text(encoding="utf-8"))
    assert [block[2].strip() for block in blocks if block[1] == "bash"] == [
        'pip install ".[demo]" && adalora demo',
        'pip install ".[test]" && pytest',
    ]
