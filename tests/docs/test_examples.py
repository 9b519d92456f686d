"""Every Python example in the documentation runs, and prints what is written below it."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from walkthroughs import WALKTHROUGHS, Block, blocks_of, printed_by

from adalora_core.cli import main

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


def test_readme_has_a_validation_and_a_training_example_of_15_lines_each():
    validation, training = examples_of(ROOT / "README.md")
    assert "validate_config" in validation.content
    assert validation.output
    assert "update_and_allocate" in training.content
    for example in (validation, training):
        assert len([line for line in example.content.splitlines() if line.strip()]) <= 15


@pytest.fixture
def uninstalled():
    """Take the bridge to PEFT off again, which an example may have installed by an import."""
    yield
    if sys.modules.pop("adalora_core.peft", None):
        sys.modules["adalora_core.integrations.peft"].uninstall()


@pytest.mark.usefixtures("uninstalled")
@pytest.mark.parametrize("place", RUNNABLE)
def test_documentation_example_runs_and_prints_what_it_shows(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = EXAMPLES[place]
    printed = printed_by(example.content, place, {"__name__": "__main__"})
    if example.output is not None:
        assert printed.rstrip() == example.output.rstrip()


def test_readme_promises_exactly_two_commands():
    blocks = blocks_of(ROOT / "README.md")
    assert [block.content.strip() for block in blocks if block.language == "bash"] == [
        'pip install ".[demo]" && adalora demo',
        'pip install ".[test]" && pytest',
    ]


SCRIPT = """\
from peft import AdaLoraConfig, get_peft_model
settings = {"target_modules": ["q_proj"], "init_r": 6, "target_r": 3, "total_step": 900}
"""


def test_readme_checks_a_script_as_it_shows(tmp_path, monkeypatch, capsys):
    (block,) = (each for each in blocks_of(ROOT / "README.md") if "$ adalora" in each.content)
    shown, command, printed = re.split(r"^\$ (adalora .*)\n", block.content, flags=re.MULTILINE)
    script = SCRIPT + "model = get_peft_model(base, AdaLoraConfig(tfinal=100, **settings))\n"
    script += shown.partition("\n")[2]
    (tmp_path / "train.py").write_text(script, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    main(command.split()[1:])
    assert capsys.readouterr().out == printed
    assert len(block.content.splitlines()) <= 12
