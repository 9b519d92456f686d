"""Hold that constraints.txt records a release of all that the tests need; no index is asked."""

from __future__ import annotations

import datetime as dt
import re
from importlib.metadata import requires
from pathlib import Path

from module_files import module_of
from packaging.requirements import Requirement

constraints = module_of(Path(__file__).parents[2] / "tools" / "constraints.py")
TESTED = constraints.tested()
EXAMPLE = {"numpy": "2.4.1", "nvidia-cublas": "13.0", "pip": "26.2", "torch": "2.15.1+cpu"}


def test_each_requirement_has_a_release_that_it_admits():
    for asked in map(Requirement, requires("adalora-core") or []):
        if asked.name != "adalora-core" and not constraints.LEFT_OUT.fullmatch(asked.name):
            name = re.sub(r"[-_.]+", "-", asked.name).lower()
            (one,) = TESTED[name].specifier
            assert one.operator == "=="
            assert asked.specifier.contains(one.version, prereleases=True), asked
    assert [each.operator for each in TESTED["torch"].specifier] == ["<"]


def test_file_leaves_torch_and_what_it_brings_to_the_machine():
    head, *lines = constraints.text_of(EXAMPLE, dt.date(2026, 1, 2)).splitlines()
    assert "2026-01-02" in head
    assert lines == ["numpy==2.4.1", "torch<2.16"]


def test_comparison_names_what_the_file_does_not_allow():
    same = {name: f"{each.specifier}"[2:] for name, each in TESTED.items()} | {"torch": "2.10"}
    assert len(constraints.table_of(same, "green").splitlines()) == 2
    table = constraints.table_of(same | {"peft": "99.0"}, "red").splitlines()
    assert table[2:] == [f"| peft | {TESTED['peft'].specifier} | 99.0 | red |"]
