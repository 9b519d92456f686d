"""Hold small copies of public scripts, with the import changed, to what they do under PEFT."""

from __future__ import annotations

from pathlib import Path

import pytest
from script_runs import run, script_names
from script_verdicts import DIFFERENCES, RAISES, REPORTED, differing, page

PAGE = Path(__file__).parents[2] / "docs" / "peft-scripts.md"
NEEDS = {
    "qlora_trainer": "bitsandbytes",
    "sft_config": "trl",
}
"""What a script needs besides PEFT and transformers."""


@pytest.mark.slow
@pytest.mark.parametrize("name", script_names())
def test_does_what_it_does_under_peft(name: str) -> None:
    pytest.importorskip("peft")
    pytest.importorskip(NEEDS.get(name, "torch"))
    theirs, ours = run(name, is_changed=False), run(name, is_changed=True)
    assert theirs.get("error", "").startswith(RAISES.get(name, "")), theirs
    expected = {value for values in DIFFERENCES.get(name, {}).values() for value in values}
    assert differing(name, theirs, ours) == expected, (theirs, ours)
    assert tuple(ours.get("reported", [])) == REPORTED.get(name, ())


def test_page_shows_what_the_runs_are_held_to() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python tools/regenerate.py scripts"
