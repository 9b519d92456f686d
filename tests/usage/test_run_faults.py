"""Find in source what a run reports: in scripts after public ones, and for the rules on runs."""

from __future__ import annotations

import textwrap

import pytest
from script_runs import script_names, source
from script_verdicts import REPORTED

from adalora_core.checker.check import check_config
from adalora_core.checker.rules import BY_CODE, RULES
from adalora_core.checker.rules.usage_base import HEAD, LOOP

SCRIPTS: dict[str, set[tuple[str, str]]] = {
    "glue_step_end": {("ADA908", "self.model.base_model.update_and_allocate(")},
    "quick_tour": {("ADA901", "trainer.train()"), ("ADA910", "label_smoothing_factor=0.1,")},
    "sft_config": {("ADA901", "trainer.train(")},
    "whisper_accelerate": {("ADA909", "model.update_and_allocate(")},
}
"""The code and the begin of the line of each finding; the other scripts have none."""

SEEN = {
    "ADA803": {"ADA906", "ADA907", "ADA908"},
    "ADA813": {"ADA901", "ADA909"},
    "ADA814": {"ADA910"},
}
"""The rules on source that find what a run reports."""
NOT_SEEN = {
    ("sft_config", "ADA814"): "the loss is computed inside TRL",
    ("quick_tour", "ADA811"): "the number of batches is known at run time",
    ("whisper_accelerate", "ADA811"): "the number of batches is known at run time",
}


def usage_findings(text: str) -> set[tuple[str, str]]:
    """Return the faults of the family ADA9xx, each with the line that is marked."""
    lines = text.split("\n")
    return {
        (diagnostic.code, lines[diagnostic.span.start_line - 1].strip())
        for diagnostic in check_config(text, format="python").diagnostics
        if diagnostic.code.startswith("ADA9") and diagnostic.span and diagnostic.severity != "info"
    }


@pytest.mark.parametrize("name", script_names())
def test_script_shows_its_faults_and_no_others(name: str) -> None:
    found = usage_findings(source(name))
    expected = SCRIPTS.get(name, set())
    assert {code for code, _ in found} == {code for code, _ in expected}
    assert len(found) == len(expected)
    for code, begin in expected:
        assert any(each == code and line.startswith(begin) for each, line in found), found


def test_what_a_run_of_a_script_reports_is_found_in_source_or_has_a_reason() -> None:
    reports = [(name, code) for name, codes in REPORTED.items() for code in codes]
    for name, code in reports:
        codes = {each for each, _ in SCRIPTS.get(name, ())}
        assert (name, code) in NOT_SEEN or codes & SEEN[code], (name, code)


VISIBLE: dict[str, tuple[str, set[str]]] = {
    "ADA801": ("", {"ADA914"}),
    "ADA802": ("base = load()\n", {"ADA913"}),
    "ADA803": ("", {"ADA907"}),
    "ADA804": ("", {"ADA905", "ADA906"}),
    "ADA808": ("", {"ADA904"}),
    "ADA813": ("", {"ADA901"}),
}
"""The rules on runs whose bad example shows in source, with what comes before it."""
COMPLETED = {
    "ADA811": (
        HEAD
        + LOOP.replace("step, batch in enumerate(batches)", "step in range(35)")
        + 'model.save_pretrained("result")\n',
        {"ADA912"},
    ),
    "ADA814": (
        HEAD + LOOP.replace("model(**batch).loss.", "loss_of(model(x), y)."),
        {"ADA910"},
    ),
    "ADA820": (
        HEAD
        + LOOP.replace(".loss.", ".loss + model.orthogonality_penalty()).").replace(
            "    model(", "    (model(", 1
        ),
        {"ADA916"},
    ),
    "ADA805": (
        HEAD + LOOP.replace(".step()\n", ".step()\n    optimizer.zero_grad()\n"),
        {"ADA907"},
    ),
}
"""The rules on runs whose fault shows in a script that is longer than the example."""
HIDDEN = {
    "ADA806": "whether a loss is finite is known at run time",
    "ADA807": "the modules of the model are known at run time",
    "ADA809": "what a folder holds is known at run time",
    "ADA810": "the second call raises before the first step",
    "ADA812": "the checkpoint that is the best is known at run time",
    "ADA815": "the forward raises",
    "ADA816": "the first training step raises",
    "ADA817": "the first allocation raises",
    "ADA818": "the next allocation raises",
    "ADA819": "whether a parameter is finite is known at run time",
    "ADA821": "which modules the loss reaches is known at run time",
    "ADA822": "whether factors change is known at run time",
    "ADA823": "what a file lacks is known at run time",
    "ADA824": "the steps of the run are known at run time",
    "ADA827": "whether code elsewhere clears the gradients is known at run time",
    "ADA828": "whether a state is that of a merged model is known at run time",
}
"""The rules on runs that no rule on source stands for, and why."""


def test_each_rule_on_runs_is_visible_in_source_or_has_a_reason() -> None:
    of_runs = {rule.code for rule in RULES if rule.needs == "run"}
    assert of_runs == VISIBLE.keys() | COMPLETED.keys() | HIDDEN.keys()
    assert len(of_runs) == len(VISIBLE) + len(COMPLETED) + len(HIDDEN)


@pytest.mark.parametrize("code", VISIBLE)
def test_bad_example_of_a_run_is_found_in_source(code: str) -> None:
    before, expected = VISIBLE[code]
    setup = HEAD if code != "ADA802" else HEAD.partition("model =")[0]
    text = setup + before + textwrap.dedent(str(BY_CODE[code].bad))
    assert {each for each, _ in usage_findings(text)} == expected


@pytest.mark.parametrize("code", VISIBLE)
def test_good_example_of_a_run_is_silent_in_source(code: str) -> None:
    setup = HEAD.partition("model =")[0] + "base = load()\n"
    text = setup if code in {"ADA801", "ADA802"} else HEAD
    assert not usage_findings(text + str(BY_CODE[code].good))


@pytest.mark.parametrize("code", COMPLETED)
def test_fault_of_a_run_in_a_whole_script_is_found_in_source(code: str) -> None:
    text, expected = COMPLETED[code]
    assert {each for each, _ in usage_findings(text)} == expected


_UNALLOCATED = HEAD + LOOP.replace("    model.base_model.update_and_allocate(step)\n", "")
_NEVER_CALLED = ("ADA901", "optimizer.step()")


@pytest.mark.parametrize(
    ("imported", "called"),
    [
        ("from mylib import get_peft_model", "get_peft_model(1, 2)"),
        ("from mylib import wrap as get_peft_model", "get_peft_model(1, 2)"),
        ("from mylib import Settings as AdaLoraConfig", "AdaLoraConfig()"),
        ("from mylib import allocate as load", "print(load)"),
    ],
)
def test_import_inside_a_function_means_nothing_outside_it(imported: str, called: str) -> None:
    function = f"\n\ndef other():\n    {imported}\n\n    return {called}\n"
    loaded = _UNALLOCATED.replace("model = ", "base = load()\nmodel = ")
    assert usage_findings(loaded + function) == {_NEVER_CALLED}


@pytest.mark.parametrize(
    "expected",
    ["self.assertWarnsRegex(UserWarning, 'x')", "self.assertWarns(UserWarning)", "raises(Error)"],
)
def test_training_that_is_expected_to_fail_is_left_alone(expected: str) -> None:
    head, loop = _UNALLOCATED.split("for step", 1)
    block = textwrap.indent(f"for step{loop}", "    ")
    assert not usage_findings(f"{head}with {expected}:\n{block}")
    assert usage_findings(f"{head}with self.subTest():\n{block}") == {_NEVER_CALLED}


def test_hook_of_this_package_allocates_by_any_name_of_it() -> None:
    for imported, name in (
        ("from adalora_core import allocate_on_step as hook", "hook"),
        ("import adalora_core", "adalora_core.allocate_on_step"),
    ):
        text = _UNALLOCATED.replace("for step", f"{imported}\n{name}(optimizer, model)\nfor step")
        assert not usage_findings(text)
