"""Faults of numbers are errors exactly where the run fails."""

from __future__ import annotations

import pytest

from adalora_core.checker.check import check_config
from adalora_core.config.rules.base import SOUND

SHORT = SOUND | {"tinit": 2, "tfinal": 3, "deltaT": 2, "total_step": 12}
NEVER = {"tfinal": 0, "deltaT": 50}
"""No step allocates."""
ZERO_WEIGHT = {"orth_reg_weight": 0}


@pytest.mark.parametrize(
    ("values", "code", "severity"),
    [
        ({"tinit": -1}, "ADA103", "warning"),
        ({"tinit": -1, "tfinal": 12}, "ADA103", "error"),
        ({"tfinal": -1, "deltaT": 1}, "ADA103", "warning"),
        ({"lora_dropout": -0.1}, "ADA103", "warning"),
        ({"lora_dropout": 1.0}, "ADA103", "error"),
        ({"lora_dropout": 1.0, "inference_mode": True}, "ADA103", "warning"),
        ({"lora_dropout": 1.1, "inference_mode": True}, "ADA103", "error"),
        ({"beta1": 1.5}, "ADA103", "error"),
        ({"beta1": 1.5, "inference_mode": True}, "ADA103", "warning"),
        ({"target_r": 0}, "ADA103", "error"),
        ({"target_r": 0} | NEVER, "ADA103", "warning"),
        ({"init_r": 0, "inference_mode": True}, "ADA103", "error"),
        ({"deltaT": 2**63}, "ADA103", "warning"),
        ({"r": 2**63}, "ADA103", "warning"),
        ({"total_step": 2**63}, "ADA103", "error"),
        ({"total_step": 2**63, "inference_mode": True}, "ADA103", "warning"),
        ({"deltaT": 0}, "ADA204", "error"),
        ({"deltaT": -2}, "ADA204", "warning"),
        ({"deltaT": 0, "inference_mode": True}, "ADA204", "warning"),
        ({"deltaT": 0, "tinit": 10, "tfinal": 0}, "ADA204", "error"),
        ({"deltaT": 0, "tinit": 11, "tfinal": 0}, "ADA204", "warning"),
        ({"init_r": 8}, "ADA302", "error"),
        ({"init_r": 8} | NEVER, "ADA302", "warning"),
        ({"init_r": 8, "inference_mode": True}, "ADA302", "warning"),
        ({"init_r": 7}, "ADA301", "error"),
        ({"init_r": 7} | NEVER, "ADA301", "warning"),
        ({"init_r": 7, "inference_mode": True}, "ADA301", "warning"),
        ({"lora_alpha": 0}, "ADA406", "error"),
        ({"lora_alpha": 0} | NEVER, "ADA406", "warning"),
        ({"lora_alpha": 0, "inference_mode": True}, "ADA406", "warning"),
        ({"tfinal": 0, "deltaT": 1}, "ADA210", "warning"),
        ({"tfinal": 0, "deltaT": 11}, "ADA210", "warning"),
        ({"tfinal": 0, "deltaT": 2}, "ADA210", "error"),
        ({"tfinal": 0, "deltaT": 2, "inference_mode": True}, "ADA210", None),
        ({"tfinal": 0.5, "deltaT": 2}, "ADA210", None),
        ({"tfinal": 0.5, "deltaT": 2}, "ADA102", "error"),
        ({"tfinal": 0.5, "deltaT": 11}, "ADA102", "warning"),
        ({"tinit": 0.5, "tfinal": 0, "deltaT": 2}, "ADA210", "error"),
        ({"total_step": 2**55, "deltaT": 1}, "ADA212", "error"),
        ({"total_step": 2**52, "deltaT": 1}, "ADA212", None),
        ({"total_step": 2**55, "deltaT": 1, "inference_mode": True}, "ADA212", None),
        ({"total_step": 2**55, "deltaT": 2**40}, "ADA212", None),
        ({"beta1": 1e-31}, "ADA213", "error"),
        ({"beta1": 1e-31} | NEVER, "ADA213", "warning"),
        ({"beta1": 1e-29}, "ADA213", "warning"),
        ({"beta1": 1e-6}, "ADA213", None),
        ({"tinit": 11, "tfinal": 0, "init_r": 8, "deltaT": 0}, "ADA302", "warning"),
        ({"tinit": 10, "tfinal": 0, "init_r": 8, "deltaT": 0}, "ADA302", "error"),
        ({"tfinal": 2.5}, "ADA102", "warning"),
        ({"tfinal": 2.5, "deltaT": 50}, "ADA102", "error"),
        ({"total_step": 12.5, "deltaT": 50}, "ADA102", "error"),
        ({"tfinal": 0.5, "deltaT": 50}, "ADA102", "warning"),
        ({"orth_reg_weight": float("nan")}, "ADA003", "warning"),
        ({"orth_reg_weight": float("nan"), "task_type": "CAUSAL_LM"}, "ADA003", "error"),
        ({"bias": "lora"}, "ADA107", "error"),
        ({"bias": "boft_only"}, "ADA107", "warning"),
        ({"loftq_config": {"a": 1}}, "ADA402", "warning"),
        ({"loftq_config": {"a": 1}, "init_lora_weights": "loftq"}, "ADA402", "error"),
    ],
)
def test_fault_is_an_error_exactly_where_the_run_fails(values, code, severity):
    found = {d.severity for d in check_config(SHORT | values).diagnostics if d.code == code}
    assert found == ({severity} if severity else set())


def test_runtimes_differ_in_what_they_read():
    values = SHORT | {"task_type": "CAUSAL_LM", "alora_invocation_tokens": [1]}
    assert [d.code for d in check_config(values).errors] == ["ADA408"]
    assert check_config(values, runtime="adalora-core").ok
    huge = SHORT | {"tfinal": 2**63, "inference_mode": True}
    assert check_config(huge, runtime="adalora-core").ok
    assert not check_config(huge).ok
    assert not check_config(SHORT | {"bias": "boft_only"}, runtime="adalora-core").ok


def test_unknown_keys_need_a_peft_type():
    values = {k: v for k, v in SHORT.items() if k != "peft_type"} | {"$schema": "x"}
    assert [d.code for d in check_config(values).errors] == ["ADA101"]
    assert check_config(values, runtime="adalora-core").ok
    assert check_config(SHORT | {"$schema": "x"}).ok
    assert check_config({"method": {"x": 1} | values}, key="/method").ok


def test_saved_adapter_without_peft_type_is_an_error_for_peft_alone():
    values = {k: v for k, v in SHORT.items() if k != "peft_type"} | {"inference_mode": True}
    assert [d.code for d in check_config(values).errors] == ["ADA101"]
    assert check_config(values, runtime="adalora-core").ok


DOORS = {"adalora_core": ["error"], "adalora_core.peft": [], "peft": []}


@pytest.mark.parametrize("package", DOORS)
def test_setting_that_our_models_lack_is_an_error_where_ours_is_made(package):
    given = {k: v for k, v in SOUND.items() if k != "peft_type"} | {"ensure_weight_tying": True}
    code = f"from {package} import AdaLoraConfig\nAdaLoraConfig(**{given})\n"
    report = check_config(code, format="python", runtime="adalora-core")
    assert [d.severity for d in report.diagnostics if d.code == "ADA422"] == DOORS[package]
    given = SOUND | {"ensure_weight_tying": True}
    warnings = check_config(given, runtime="adalora-core").warnings
    (found,) = [each for each in warnings if each.code == "ADA422"]
    assert "get_peft_model of adalora_core raises" in found.message
    assert "under the bridge" in found.message


def test_weight_of_zero_is_a_fault_of_the_releases_that_are_asked_for():
    found = {
        version: [d.code for d in check_config(SOUND | ZERO_WEIGHT, peft_version=version).warnings]
        for version in (None, "0.19.1", "0.20", "0.21.2")
    }
    assert found == {None: [], "0.19.1": ["ADA703"], "0.20": [], "0.21.2": []}
