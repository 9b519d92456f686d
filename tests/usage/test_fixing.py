"""Rename `on_step_end` where nothing in the method needs that hook, and fix LoRA's calls."""

from __future__ import annotations

import json

import pytest
from contract_fixes import fix

from adalora_core.checker.rules.usage_order import AllocationInWrongHook

BAD = str(AllocationInWrongHook.bad)
LINE = "        model.base_model.update_and_allocate(state.global_step)\n"


def test_hook_is_renamed_and_nothing_else_changes() -> None:
    fixed = fix(BAD, "python", unsafe=False)
    assert fixed.document.text == BAD.replace("on_step_end", "on_optimizer_step")
    assert not fixed.report.diagnostics


def test_hook_in_a_notebook_is_renamed_and_the_rest_stays_byte_equal() -> None:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["on_step_end\n"]},
        {"cell_type": "code", "metadata": {}, "source": BAD.splitlines(keepends=True)},
    ]
    text = json.dumps(
        {"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}, indent=1
    )
    fixed = fix(text, "notebook", unsafe=False)
    assert fixed.document.text == text.replace("def on_step_end", "def on_optimizer_step")


@pytest.mark.parametrize(
    "changed",
    [
        BAD.replace(LINE, LINE + "        control.should_save = True\n"),
        BAD.replace(LINE, LINE + "        log(state)\n"),
        BAD.replace(
            LINE, LINE + "\n    def on_optimizer_step(self, args, **kwargs):\n        pass\n"
        ),
        BAD.replace("on_step_end", "on_pre_optimizer_step"),
    ],
)
def test_method_that_does_more_is_reported_and_not_changed(changed: str) -> None:
    fixed = fix(changed, "python", unsafe=False)
    assert fixed.document.text == changed
    assert {diagnostic.code for diagnostic in fixed.report.diagnostics} == {"ADA908"}


def test_calls_of_lora_are_fixed_in_a_script_beside_those_of_adalora() -> None:
    text = (
        "from peft import AdaLoraConfig, LoraConfig\n"
        'a = LoraConfig(r="16", alpha=32, target_modules="q_proj,v_proj")\n'
        'b = AdaLoraConfig(init_r="12")\n'
        "c = LoraConfig(r=8.0)\n"
    )
    assert fix(text, "python").document.text == (
        "from peft import AdaLoraConfig, LoraConfig\n"
        'a = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"])\n'
        "b = AdaLoraConfig(init_r=12)\n"
        "c = LoraConfig(r=8)\n"
    )
