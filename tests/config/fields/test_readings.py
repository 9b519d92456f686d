"""Check what the contract makes of values of another type: every field, every wrong type."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
from contract_configs import SOUND
from contract_fixes import fix
from pydantic import ValidationError

from adalora_core.checker.check import check_config
from adalora_core.config.fields.block import Block, BlockOptions, FaultKind
from adalora_core.config.fields.table import FIELDS
from adalora_core.config.findings import ConfigWarning
from adalora_core.config.model import AdaLoraConfig
from adalora_core.config.schema import config_schema

NAN, INF = math.nan, math.inf
VALUES = [
    None, True, False, 0, 1, -1, 2, 0.0, 0.5, 1.0, 2.0, -1.0, 12.0, 2.5, 0.21, "", "1", "0.5", "x",
    "true", "false", [], [1], [1.0], [0.5], [True], [None], ["x"], ["x", 3], [[]], {}, {"x": 1},
    NAN, INF,
]  # fmt: skip
CASES = [(name, value) for name in FIELDS for value in VALUES]
PATTERN = {
    f"layers.0.{name}.lora_E": [True] * SOUND["target_r"] + [False] * 4
    for name in SOUND["target_modules"]
}
SAVED = SOUND | {"inference_mode": True, "rank_pattern": PATTERN}
SCHEMA = jsonschema.Draft202012Validator(config_schema())


def _codes(report):
    return {each.code for each in report.errors}


@pytest.mark.slow
@pytest.mark.parametrize("base", [SOUND, SAVED], ids=["training", "saved"])
@pytest.mark.parametrize("runtime", ["peft", "adalora-core"])
def test_accepted_value_of_another_type_has_a_typed_configuration(base, runtime):
    for name, value in CASES:
        report = check_config(base | {name: value}, runtime=runtime)
        if report.ok:
            assert report.config is not None, (name, value)
            if runtime == "adalora-core":
                assert check_config(report.config.to_json_dict(), runtime=runtime).ok


@pytest.mark.parametrize("base", [SOUND, SAVED], ids=["training", "saved"])
def test_engine_rejects_each_value_that_the_schema_rejects(base):
    for name, value in CASES:
        # JSON has neither NaN nor infinity.
        if value not in (NAN, INF) and not SCHEMA.is_valid(base | {name: value}):
            assert not check_config(base | {name: value}).ok, (name, value)


@pytest.mark.parametrize("base", [SOUND, SAVED], ids=["training", "saved"])
def test_strict_types_make_errors_of_the_warnings_about_types_alone(base):
    for name, value in CASES:
        found = check_config(base | {name: value})
        strict = check_config(base | {name: value}, strict_types=True)
        about_types = {each.code for each in found.warnings if each.code in {"ADA102", "ADA106"}}
        assert _codes(strict) == _codes(found) | about_types, (name, value)


@pytest.mark.slow
@pytest.mark.parametrize("base", [SOUND, SAVED], ids=["training", "saved"])
def test_safe_fix_of_a_value_of_another_type_leaves_no_finding_about_it(base):
    fixed = 0
    for name, value in CASES:
        text = json.dumps(base | {name: value})
        found = check_config(text)
        fixable = [
            each
            for each in found.warnings
            if each.code in {"ADA102", "ADA106"} and each.fix and each.fix.is_safe
        ]
        if found.ok and fixable:
            after = fix(text, "json", unsafe=False).document.text
            assert check_config(after, strict_types=True).ok, (name, value)
            fixed += 1
    assert fixed > 300


@pytest.mark.parametrize("runtime", ["peft", "adalora-core"])
def test_value_that_is_wrong_on_its_own_never_passes_unreported(runtime):
    for name, value in [*CASES, ("lora_alpha", -0.5), ("lora_alpha", -1e20), ("total_step", 1e20)]:
        block = Block(SOUND | {name: value}, options=BlockOptions(runtime))
        if any(block.faults(*get_args(FaultKind))) and name != "peft_type":
            found = check_config(SOUND | {name: value}, runtime=runtime).diagnostics
            assert any(f"{each.pointer}/".startswith(f"/{name}/") for each in found), (name, value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"peft_version": 0.21}, "PEFT does not read it"),
        ({"use_rslora": None}, "PEFT does not read it"),
        ({"lora_alpha": 12.5}, "PEFT takes it as it is"),
        ({"fan_in_fan_out": "false"}, "PEFT takes it for true"),
        ({"modules_to_save": False}, "PEFT takes it for null"),
        ({"tinit": 200.5}, "PEFT takes it for the number 200, or nearly so"),
        ({"tinit": 200.0}, "`tinit` 200.0 is taken as 200"),
    ],
)
def test_warning_tells_what_becomes_of_the_value(fields, said):
    report = check_config(SOUND | fields)
    assert report.ok
    assert [said in each.message for each in report.warnings] == [True]


@pytest.mark.parametrize("name", ["target_r", "deltaT", "beta1", "beta2"])
def test_setting_of_the_allocator_is_not_read_in_a_saved_adapter(name):
    assert not check_config(SOUND | {name: "x"}).ok
    assert check_config(SAVED | {name: "x"}).ok


def test_rank_with_a_decimal_point_fails_in_peft_and_is_taken_here():
    assert _codes(check_config(SOUND | {"init_r": 12.0})) == {"ADA106"}
    assert check_config(SOUND | {"init_r": 12.0}, runtime="adalora-core").ok
    with pytest.warns(ConfigWarning, match="is taken as 12"):
        assert type(AdaLoraConfig(init_r=12.0, total_step=9).init_r) is int


def test_constructor_takes_what_it_ignores_and_refuses_true_for_a_length():
    with pytest.warns(ConfigWarning, match="does not read it"):
        assert AdaLoraConfig(total_step=9, peft_version=0.21).peft_version is None
    with pytest.warns(ConfigWarning, match="takes it as it is"):
        assert AdaLoraConfig(total_step=9, lora_alpha=4.5).lora_alpha == 4.5
    with pytest.raises(ValidationError, match="ADA102"):
        AdaLoraConfig(total_step=True)


def test_command_has_the_option_and_the_setting(tmp_path, monkeypatch, capsys):
    from adalora_core.commands.cli import main

    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(SOUND | {"peft_version": 0.21}))
    monkeypatch.chdir(tmp_path)
    assert main(["check", file.name]) == 0
    assert main(["check", "--strict-types", file.name]) == 1
    Path("pyproject.toml").write_text("[tool.adalora]\nstrict-types = true\n")
    assert main(["check", file.name]) == 1
    assert "peft_version" in capsys.readouterr().out
