"""The field table equals the installed PEFT's, and the engine refuses what PEFT refuses."""

from __future__ import annotations

import dataclasses
import warnings

import peft
import pytest
from contract_configs import SOUND, configurations
from hypothesis import given, settings

from adalora_core.checker.check import check_config
from adalora_core.config.fields.table import BIASES, FIELDS, PEFT_VERSION, TASK_TYPES

PEFT_FIELDS = {field.name: field for field in dataclasses.fields(peft.AdaLoraConfig)}


def test_installed_peft_is_the_release_of_the_contract():
    assert peft.__version__.startswith(f"{PEFT_VERSION}.")


def test_table_has_pefts_fields_in_pefts_order():
    assert len(FIELDS) == 51
    assert list(FIELDS) == list(PEFT_FIELDS)


def test_defaults_are_those_of_a_peft_configuration():
    theirs = peft.AdaLoraConfig(total_step=1)  # adalora: ignore[ADA206]
    for name, field in FIELDS.items():
        if name in {"total_step", "runtime_config", "peft_version"}:
            continue  # set above, an object that is never written, filled with the release
        assert getattr(theirs, name) == field.default, name


def test_choices_are_pefts():
    assert set(TASK_TYPES) == {member.value for member in peft.TaskType}
    assert PEFT_FIELDS["bias"].type == f"Literal[{', '.join(map(repr, BIASES))}]"


def test_configuration_of_peft_as_a_dictionary_is_taken_as_it_is():
    theirs = peft.AdaLoraConfig(**{**SOUND, "task_type": peft.TaskType.CAUSAL_LM})
    report = check_config(theirs.to_dict())
    assert report.diagnostics == ()
    assert report.config.target_modules == ["q_proj", "v_proj"]


@settings(max_examples=300)
@given(configurations())
def test_what_peft_refuses_to_build_the_engine_refuses(values):
    report = check_config(values)
    if not report.ok:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft.AdaLoraConfig.from_peft_type(**values)


@pytest.mark.parametrize(
    ("fields", "phrase"),
    [
        ({}, "AdaLoRA does not work when `total_step` is None, supply a value > 0."),
        (
            {"total_step": 10, "tinit": 10},
            "The supplied schedule values don't allow for a budgeting phase",
        ),
        ({"total_step": 10, "use_dora": True}, "ADALORA does not support DoRA."),
        (
            {"total_step": 10, "layers_pattern": "layers"},
            "When `layers_pattern` is specified, `layers_to_transform` must also be specified.",
        ),
        (
            {"total_step": 10, "orth_reg_weight": -1},
            "`orth_reg_weight` should be greater than or equal to 0, but the value passed is -1",
        ),
    ],
)
def test_phrase_that_users_search_for_is_in_pefts_message_and_in_ours(fields, phrase):
    with pytest.raises(ValueError) as theirs:  # noqa: PT011 - the phrase is compared below
        peft.AdaLoraConfig(**fields)
    # PEFT 0.21 prints the enum member's repr in one message: PeftType.ADALORA.
    assert phrase in str(theirs.value).replace("PeftType.", "")
    assert any(phrase in d.message for d in check_config(fields).errors)
