"""The file of a tool is judged by what the tool does with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from contract_fixes import fix

from adalora_core.checker.check import check_config
from adalora_core.config.rules.base import SOUND

if TYPE_CHECKING:
    from pathlib import Path

FIELDS = {"init_r": 12, "target_r": 8, "tinit": 25, "tfinal": 5, "lora_alpha": 12, "deltaT": 1}
TARGETS = {"target_modules": ["q_proj", "v_proj"]}
SWIFT = {
    "model": "m", "tuner_type": "adalora", "external_plugins": "adalora_ms_swift.py", **TARGETS,
    **{f"adalora_{name}": FIELDS[name] for name in ("init_r", "target_r", "tinit", "tfinal")},
}  # fmt: skip
AXOLOTL = {
    "base_model": "m", "datasets": [], "adapter": "adalora", "adalora": FIELDS | TARGETS,
    "plugins": ["adalora_axolotl.AdaLoraPlugin"],
}  # fmt: skip
TOOLS = {"ms-swift": SWIFT, "axolotl": AXOLOTL}


def _report(values: dict[str, Any]) -> Any:
    return check_config(yaml.safe_dump(values), format="yaml")


def _codes(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each.code, each.severity) for each in _report(values).diagnostics]


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("steps", [{}, {"max_steps": -1}, {"max_steps": 400}])
def test_right_file_has_no_finding(tool: str, steps: dict[str, Any]) -> None:
    assert _codes(TOOLS[tool] | steps) == []


@pytest.mark.parametrize("method", ["adalora", "lora"])
@pytest.mark.parametrize(
    "more",
    [{"task_type": "causal_lm"}, {"task_type": "embedding"}, {"target_modules": ["all-linear"]}],
    ids=str,
)
def test_value_that_ms_swift_maps_itself_is_right_and_never_fixed(
    more: dict[str, Any], method: str
) -> None:
    text = yaml.safe_dump(SWIFT | more | {"tuner_type": method})
    assert not check_config(text, format="yaml").errors
    for unsafe in (False, True):
        assert fix(text, "yaml", unsafe=unsafe).document.raw.decode() == text


def test_file_that_a_tool_wrote_itself_configures_nothing() -> None:
    values = SWIFT | {"task_type": "causal_lm", "lora_alpha": 12.0, "global_world_size": 1}
    (found,) = check_config(json.dumps(values)).errors
    assert (found.code, found.message) == (
        "ADA006", "a tool wrote this file: it configures nothing",
    )  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
def test_computed_total_step_is_compared_with_max_steps(tool: str) -> None:
    values = json.loads(json.dumps(TOOLS[tool]).replace('tfinal": 5', 'tfinal": 20'))
    assert _codes(values | {"max_steps": 40}) == [("ADA202", "error")]
    assert _codes(values) == []


FAULTS = {
    "lora_r": (AXOLOTL | {"lora_r": 8}, "ADA211", "stops at `lora_r`"),
    "rl": (AXOLOTL | {"rl": "dpo"}, "ADA211", "stops at `rl`"),
    "no mapping": (AXOLOTL | {"adalora": None}, "ADA211", "in the mapping `adalora`, which is"),
    "tfinal": (SWIFT | {"tfinal": 5}, "ADA211", "stops at `tfinal`"),
    "typo of swift": (SWIFT | {"adalora_tfinl": 5}, "ADA104", "ms-swift 4.6 has no such key"),
    "typo of axolotl": (
        AXOLOTL | {"adalora": FIELDS | TARGETS | {"lora_rank": 5}}, "ADA104", "axolotl 0.19 has no",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_key_at_which_the_tool_stops_is_an_error(name: str) -> None:
    values, code, message = FAULTS[name]
    found = _report(values).errors
    assert [each.code for each in found] == [code]
    assert message in found[0].message


def test_method_of_the_factory_is_its_name() -> None:
    (found,) = _report({"model": "m", "peft_config": FIELDS | TARGETS}).errors
    assert (found.code, found.hint) == ("ADA006", "write `name: adalora` into it")


def test_section_of_somebodys_own_is_no_error() -> None:
    section = {"train_type": "adalora"} | {f"adalora_{key}": each for key, each in FIELDS.items()}
    assert _report({"tuner": section}).ok
    assert not _report(section).ok


def test_saved_adapter_that_names_its_method_by_another_key_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_text(
        json.dumps({"type": "adalora"} | {k: SOUND[k] for k in SOUND.keys() - {"peft_type"}})
    )
    found = {each.code: each for each in check_config(file).diagnostics}
    assert found["ADA101"].severity == "error"
    assert "ignores" not in found["ADA104"].message


def test_checkpoint_in_mid_run_beside_its_state_has_a_budget_to_come(tmp_path: Path) -> None:
    pattern = {f"layers.0.{name}.lora_E": [True] * 12 for name in ("q_proj", "v_proj")}
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(SOUND | {"inference_mode": True, "rank_pattern": pattern}))
    assert [each.code for each in check_config(file).diagnostics] == ["ADA305"]
    (tmp_path / "adalora_state.0123.safetensors").touch()
    assert check_config(file).diagnostics == ()


def test_values_that_peft_replaces_or_takes_are_no_errors() -> None:
    assert check_config(SOUND | {"rank_pattern": {"v_proj": 32}}).ok
    assert check_config(SOUND | {"layer_replication": [[True, 2]]}).ok


def test_values_of_a_saved_lora_that_peft_refuses_are_errors() -> None:
    saved = {"peft_type": "LORA", "inference_mode": True, "r": 8, **TARGETS}
    assert not check_config(saved | {"r": "4"}).ok
    zero = check_config(saved | {"lora_alpha": 0})
    assert [(each.code, each.severity) for each in zero.diagnostics] == [("ADA426", "warning")]


def test_script_of_a_shell_is_called_one(tmp_path: Path) -> None:
    from adalora_core.commands.cli import main

    file = tmp_path / "train.sh"
    file.write_text("swift sft --tuner_type adalora\n")
    assert main(["check", str(file)]) == 1
