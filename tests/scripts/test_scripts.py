"""Hold small copies of public scripts to what they do under PEFT, through each door."""

from __future__ import annotations

import functools

import pytest
from script_runs import Outcome, run, script_names
from script_verdicts import REPORTED, TITLES, differences, differing

pytest.importorskip("peft")
pytestmark = pytest.mark.slow

NEEDS = {
    "qlora_trainer": "bitsandbytes",
}
"""What a script needs besides PEFT and transformers."""


@functools.cache
def under_peft(name: str) -> Outcome:
    """Return the outcome of a script under PEFT alone."""
    return run(name, "peft")


@pytest.mark.parametrize("way", TITLES)
@pytest.mark.parametrize("name", script_names())
def test_does_what_it_does_under_peft(name: str, way: str) -> None:
    """A script differs only where PEFT has a fault with a name."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    theirs, ours = under_peft(name), run(name, way)
    expected = {value for each in differences(name, way) for value in each.values}
    assert differing(name, theirs, ours) == expected, (theirs, ours)
    assert ours["reported"] == REPORTED.get(name, [])
