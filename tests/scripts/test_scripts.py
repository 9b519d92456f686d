"""Hold small copies of public scripts to what they do under PEFT, through each door."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from script_runs import WAYS, Outcome, run, script_names
from script_verdicts import RAISES, REFUSED, TITLES, differences, differing, page, reported

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs" / "peft-scripts.md"
NEEDS = {
    "dpo_substeps": "trl",
    "image_generation": "diffusers",
    "lightning_classifier": "lightning",
    "qlora_trainer": "bitsandbytes",
    "sentence_transformer": "sentence_transformers",
    "sft_config": "trl",
    "sft_model": "trl",
    "unet_add_adapter": "diffusers",
}
"""What a script needs besides PEFT and transformers."""
LONG = {"compiled_trainer"}
ATTACHED = {"inject_low_level", "seq2seq_loop", "several_adapters", "unet_add_adapter"}
"""Scripts that are attached before each change; the others every night, as `attach` and the changed
import run the same code."""


SCRIPT = """\
from peft import AdaLoraConfig, PeftModel, TaskType, get_peft_model
model = get_peft_model(base, AdaLoraConfig(task_type=TaskType.CAUSAL_LM))
# attach: model = attach(model)
"""
CHANGED = {
    "peft": [],
    "import": [
        "from adalora_core.peft import AdaLoraConfig, PeftModel, TaskType, get_peft_model",
    ],
    "attach": ["model = attach(model)"],
}
"""The lines of `SCRIPT` that each way changes."""


def runs() -> Iterator[object]:
    """Yield each script with each way, in its tier."""
    for name in script_names():
        for way in TITLES:
            is_nightly = name in LONG or (way == "attach" and name not in ATTACHED)
            tier = pytest.mark.nightly if is_nightly else pytest.mark.slow
            yield pytest.param(name, way, marks=tier, id=f"{name}-{way}")


@pytest.mark.parametrize("way", WAYS)
def test_way_changes_one_line(way: str) -> None:
    changed = WAYS[way](SCRIPT).splitlines()
    assert [line for line in changed if line not in SCRIPT.splitlines()] == CHANGED[way]
    assert len(changed) == len(SCRIPT.splitlines())


@functools.cache
def under_peft(name: str) -> Outcome:
    """Return the outcome of a script under PEFT alone."""
    return run(name, "peft")


@pytest.mark.parametrize(("name", "way"), list(runs()))
def test_does_what_it_does_under_peft(name: str, way: str) -> None:
    pytest.importorskip("peft")
    pytest.importorskip(NEEDS.get(name, "torch"))
    ours = run(name, way)
    if (name, way) in REFUSED:
        assert ours["error"].startswith(REFUSED[name, way][1])
        return
    theirs = under_peft(name)
    assert theirs.get("error", "").startswith(RAISES.get(name, "")), theirs
    expected = {value for each in differences(name, way) for value in each.values}
    assert differing(name, theirs, ours) == expected, (theirs, ours)
    assert ours.get("reported", []) == reported(name, way)


def test_page_shows_what_the_runs_are_held_to() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python tools/regenerate.py scripts"
