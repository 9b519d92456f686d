"""Findings name the place to change and the change that keeps what the file holds."""

from __future__ import annotations

import pytest

from adalora_core.checker.check import check_config
from adalora_core.checker.rules import BY_CODE
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
def test_other_fraction_gets_the_default(fields):
    assert _finding(SOUND | fields, "ADA102").hint in {
        "write an integer, or remove it: the default is 0",
        "write an integer, or remove it: the default is 12",
    }


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
    assert "; if this was a LoRA adapter, set peft_type back to LORA" in hint


def test_a_configuration_for_training_that_says_it_is_trained_keeps_its_misspelt_target():
    values = SOUND | {"inference_mode": True, "target_modules": ["q_porj", "lin0"]}
    assert _finding(values, "ADA510").hint == 'did you mean "q_proj"?'
    assert _finding(values, "ADA308").hint.endswith("set inference_mode to false")
    saved = values | {"rank_pattern": {"q_porj.lora_E": [True] * 12}}
    assert "ADA510" not in {d.code for d in check_config(saved).diagnostics}


@pytest.mark.parametrize(
    ("schedule", "marked", "notes"),
    [
        ((2000, 200, 1000), "/tinit", ["tfinal is 200", "total_step is 1000"]),
        ((200, 1000, 1000), "/tfinal", ["tinit is 200", "total_step is 1000"]),
        ((200, 800, 1000), "/total_step", ["tinit is 200", "tfinal is 800"]),
        ((600, 500, 1000), "/total_step", ["tinit is 600", "tfinal is 500"]),
        ((1000, 1000, 10), "/total_step", ["tinit is 1000", "tfinal is 1000"]),
    ],
)
def test_phase_that_fills_the_run_is_marked_and_the_others_are_noted(schedule, marked, notes):
    fields = dict(zip(("tinit", "tfinal", "total_step"), schedule, strict=True))
    found = _finding(SOUND | fields, "ADA202")
    assert (found.pointer, [each.message for each in found.related]) == (marked, notes)


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"modules_to_save": "classifier"}, 'write ["classifier"]'),
        ({"init_r": "12"}, "write 12 without quotes"),
        ({"use_rslora": 0}, "write false"),
        ({"total_step": "auto"}, BY_CODE["ADA201"].hint),
        ({"tfinal": 0, "deltaT": 1}, "the paper spends about half of the run on it: 400"),
        ({"orth_reg_weight": float("nan")}, "or remove it: the default is 0.5"),
        ({"init_r": 8}, "set init_r above target_r, usually to 12"),
        ({"init_r": 64, "target_r": 4}, "set init_r to 6 to 12, 1.5 to 3 times target_r"),
        ({"deltaT": 599}, "for 10 allocations or more set deltaT to at most 59"),
        (
            {"tinit": 9000, "tfinal": 9000, "total_step": 3},
            "not epochs: set total_step to at least 18001",
        ),
        ({"target_modules": ["q_porj"]}, 'did you mean "q_proj"?'),
    ],
)
def test_hint_ends_in_the_value_to_write(fields, hint):
    assert check_config(SOUND | fields).diagnostics[0].hint.endswith(hint)


def test_unknown_targets_beyond_the_most_that_are_compared_are_reported_without_a_meaning():
    names = [*(f"azork{number:02}" for number in range(8)), "q_porj"]
    found = check_config(SOUND | {"target_modules": names}).diagnostics
    assert "adalora plan" in found[8].hint
    found = check_config(SOUND | {"target_modules": names[1:]}).diagnostics
    assert found[7].hint == 'did you mean "q_proj"?'


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
