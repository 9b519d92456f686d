"""Findings name the place to change and the change that keeps what the file holds."""

from __future__ import annotations

import pytest

from adalora_core.checker.check import check_config
from adalora_core.config.rules.base import SOUND
from adalora_core.config.rules.rank_patterns import SAVED


def _finding(values, code):
    return next(d for d in check_config(values).diagnostics if d.code == code)


def test_a_deltat_that_cannot_be_smaller_smells_of_epochs():
    few = SOUND | {"tinit": 1, "tfinal": 1, "total_step": 3}
    assert "count optimizer steps" in _finding(few | {"deltaT": 1}, "ADA203").hint
    assert "decrease deltaT" in _finding(few | {"deltaT": 10}, "ADA203").hint


@pytest.mark.parametrize("field", ["tinit", "tfinal", "deltaT"])
def test_share_in_place_of_steps_gets_the_steps_of_the_run(field):
    hint = _finding(SOUND | {field: 0.25, "total_step": 2000}, "ADA102").hint
    assert f"`{field}` counts steps, not a share of the run" in hint
    assert "0.25 of 2000 steps is 500" in hint


@pytest.mark.parametrize("fields", [{"total_step": 0.5}, {"tinit": 0.1, "total_step": None}])
def test_share_of_an_unknown_run_gets_no_number(fields):
    hint = _finding(SOUND | fields, "ADA102").hint
    assert hint.endswith(f"`{next(iter(fields))}` counts steps, not a share of the run")


@pytest.mark.parametrize("fields", [{"tinit": 20.5}, {"init_r": 0.5}])
def test_other_fraction_keeps_the_hint_on_types(fields):
    assert "type that the message names" in _finding(SOUND | fields, "ADA102").hint


def test_lists_of_one_other_length_in_a_saved_adapter_give_init_r():
    hint = _finding(SAVED | {"init_r": 6}, "ADA304").hint
    assert hint == "set init_r to 4, the length of its lists"


@pytest.mark.parametrize(
    "fields",
    [
        {"init_r": 6, "inference_mode": False},
        {"rank_pattern": {"a.lora_E": [True] * 3, "b.lora_E": [True] * 2}},
        {"rank_pattern": {"a.lora_E": []}},
        {"rank_pattern": {"a.lora_E": [True] * 3, "b.lora_E": 3}},
    ],
)
def test_pattern_without_one_length_keeps_the_hint_of_the_rule(fields):
    assert "set rank_pattern to null" in _finding(SAVED | fields, "ADA304").hint


def test_missing_total_step_of_a_saved_adapter_is_a_fault_of_the_mapping():
    values = {key: value for key, value in SAVED.items() if key != "total_step"}
    assert _finding(values, "ADA702").pointer == ""
    assert _finding(values | {"total_step": None}, "ADA702").pointer == "/total_step"


def test_adapter_that_never_allocated_may_be_a_lora_adapter():
    hint = _finding(SAVED | {"rank_pattern": None}, "ADA308").hint
    assert hint.endswith("; if this was a LoRA adapter, set peft_type back to LORA")


@pytest.mark.parametrize(
    ("absent", "pointer", "related"),
    [
        ((), "/target_r", ["init_r is 4"]),
        (("init_r",), "/target_r", []),
        (("target_r",), "/init_r", []),
    ],
)
def test_first_field_that_is_present_is_marked_and_the_other_one_is_noted(absent, pointer, related):
    values = SOUND | {"init_r": 4, "target_r": 16}
    found = _finding({key: each for key, each in values.items() if key not in absent}, "ADA301")
    assert (found.pointer, [each.message for each in found.related]) == (pointer, related)
