"""Files of other tools are judged by what the tool hands to PEFT."""

from __future__ import annotations

import json

import pytest
import yaml
from contract_fixes import inspect

from adalora_core.config.fields.table import FIELDS
from adalora_core.config.fields.tools import TOOLS

HABANA = {"peft_type": "adalora", "adalora_init_r": 12, "lora_target_modules": ["q_proj"]}
LUDWIG = {"model_type": "llm", "adapter": {"type": "adalora", "init_r": 12, "target_r": 8}}
SWIFT = {"tuner_type": "adalora", "adalora_init_r": 12, "adalora_target_r": 8}
EASY_EDIT = {"alg_name": "LoRA", "lora_type": "adalora", "rank": 8, "layers": [],
             "lora_alpha": 32, "target_modules": ["q_proj"]}  # fmt: skip


def _found(content, **settings):
    report = inspect(json.dumps(content), "json", **settings).report
    return {d.code: d for d in report.diagnostics}


def test_table_of_tools_names_fields_of_peft_only():
    for tool in TOOLS:
        assert set(tool.keys.values()) <= FIELDS.keys()
        assert tool.defaults.keys() <= FIELDS.keys()
        assert all(FIELDS[name].default != value for name, value in tool.defaults.items())


def test_ms_swift_computes_total_step_and_its_callback_is_reported():
    found = _found(SWIFT)
    assert set(found) == {"ADA211"}
    assert found["ADA211"].severity == "warning"
    assert "DDP" in found["ADA211"].message


PLUGIN = "adalora_axolotl.AdaLoraPlugin"
AXOLOTL = {"adapter": "adalora", "base_model": "m", "datasets": []}
FIELDS_OF_BLOCK = {"init_r": 6, "target_r": 3, "lora_alpha": 8, "target_modules": ["q_proj"]}


@pytest.mark.parametrize("plugins", ["a/b/adalora_ms_swift.py", ["own.py", "adalora_ms_swift.py"]])
def test_ms_swift_with_our_plugin_has_nothing_to_report(plugins):
    assert not _found(SWIFT | {"external_plugins": plugins})
    assert "adalora_ms_swift.py" in _found(SWIFT | {"external_plugins": []})["ADA211"].hint


def test_axolotl_with_our_plugin_is_read_by_its_mapping_adalora():
    content = AXOLOTL | {"plugins": [PLUGIN], "adalora": FIELDS_OF_BLOCK}
    assert not _found(content)
    found = _found(content | {"adalora": FIELDS_OF_BLOCK | {"target_r": 8, "tfinl": 3}})
    assert found["ADA301"].pointer == "/adalora/target_r"
    assert "ADA104" in found


@pytest.mark.parametrize("plugins", [{}, {"plugins": ["axolotl.integrations.mora.MoraPlugin"]}])
def test_hint_for_axolotl_without_our_plugin_names_it(plugins):
    found = _found(AXOLOTL | plugins | {"adalora": FIELDS_OF_BLOCK})["ADA211"]
    assert PLUGIN in found.hint
    assert found.severity == ("warning" if plugins else "error")


def test_llamafactory_v1_has_no_adalora():
    found = _found({"model": "m", "peft_config": {"name": "adalora", **FIELDS_OF_BLOCK}})
    assert "has no AdaLoRA" in found["ADA211"].message
    assert found["ADA211"].pointer == "/peft_config/name"


@pytest.mark.parametrize("marker", ["train_type", "sft_type"])
def test_a_key_that_ms_swift_has_renamed_ends_its_run(marker):
    found = _found({marker: "adalora", **{key: SWIFT[key] for key in list(SWIFT)[1:]}})
    assert set(found) == {"ADA211"}
    assert found["ADA211"].severity == "error"
    assert "rename the key to tuner_type" in found["ADA211"].hint


def test_optimum_habana_never_sets_total_step():
    found = _found(HABANA)
    assert found["ADA201"].severity == "error"
    assert "optimum-habana" in found["ADA201"].message
    assert "ADA105" not in found
    assert "ADA104" not in found


def test_prefixed_keys_that_optimum_habana_lacks_belong_to_another_tool():
    found = _found(HABANA | {"adalora_total_step": 1000, "adalora_target_r": 8,
                             "adalora_tfinal": 100})  # fmt: skip
    assert "ADA211" not in found
    assert not [d for d in found.values() if d.severity == "error"]


def test_easy_edit_never_sets_total_step():
    assert _found(EASY_EDIT)["ADA201"].severity == "error"
    assert set(_found(EASY_EDIT | {"lora_type": "lora"})) == {"ADA006"}


def test_easy_edit_with_another_algorithm_is_an_unknown_tool():
    assert _found(EASY_EDIT | {"alg_name": "DPO"})["ADA201"].severity == "warning"


def test_defaults_of_the_tool_are_judged_with_the_settings_of_the_file():
    # Ludwig's total_step is 10000 where the file has none.
    assert "ADA201" not in _found(LUDWIG)
    adapter = LUDWIG["adapter"] | {"tinit": 6000, "tfinal": 5000}
    assert _found(LUDWIG | {"adapter": adapter})["ADA202"].severity == "error"
    keys = {"delta_t": 0, "alpha": 16, "dropout": 0.1}
    found = _found(LUDWIG | {"adapter": LUDWIG["adapter"] | keys})
    assert found["ADA204"].pointer == "/adapter/delta_t"
    assert "ADA104" not in found


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"finetuning_type": "adalora", "stage": "sft", "lora_rank": 8}, "LLaMA-Factory"),
        ({"adapter": "adalora", "base_model": "m", "datasets": [], "lora_r": 8}, "axolotl"),
    ],
)
def test_tool_without_adalora_is_reported_as_refusing_the_file(content, word):
    (finding,) = _found(content).values()
    assert word in finding.message
    assert "refuses" in finding.message
    assert (finding.code, finding.severity) == ("ADA211", "error")
    assert finding.pointer == f"/{next(iter(content))}"


def test_tool_whose_plugins_may_know_adalora_is_not_said_to_refuse_the_file():
    content = {"adapter": "adalora", "base_model": "m", "datasets": [], "plugins": ["own"]}
    found = _found(content | {"init_r": 6, "target_r": 3})
    assert found["ADA211"].severity == "warning"
    assert "ADA201" in found


def test_remark_on_a_tool_marks_the_key_that_names_adalora():
    text = "base_model: m\ndatasets: []\nadapter: adalora\n"
    report = inspect(text, "yaml").report
    assert [(d.span.start_line, d.span.end_column) for d in report.diagnostics] == [(3, 8)]


@pytest.mark.parametrize(
    "content",
    [
        {"training": {"type": "adalora", "adalora": {"init_r": 12, "target_r": 8}}},
        {"model": {"name": "adalora", "init_r": 12, "target_r": 8}},
        {"run": {"peft": {"peft_type": "ADALORA", "init_r": 12, "target_r": 8}}},
        {"_target_": "peft.AdaLoraConfig", "init_r": 12, "target_r": 8},
        {"method": "adalora", "adalora_init_r": 12, "adalora_target_r": 8},
    ],
    ids=["type-beside-section", "name-beside-keys", "nested", "hydra", "prefixed"],
)
def test_missing_total_step_in_an_unknown_tools_file_names_both_possibilities(content):
    finding = _found(content)["ADA201"]
    assert finding.severity == "warning"
    assert "computes it" in finding.message
    assert "AdaLoRA does not work when `total_step` is None" in finding.message


@pytest.mark.parametrize("key", ["total_steps", "max_steps", "total_stp"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_misspelt_total_step_is_to_be_renamed_and_not_to_be_added(key, is_nested):
    block = {"peft_type": "ADALORA", "init_r": 12, "target_r": 8, "tinit": 200, key: 1000}
    found = _found({"run": block} if is_nested else block)
    assert found["ADA201"].cause.pointer.endswith(f"/{key}")
    assert found["ADA201"].hint == f"rename `{key}` to `total_step`"
    assert found["ADA201"].fix is None
    assert found["ADA104"].fix.description == f"Rename {key} to total_step"
    assert _found(block | {"total_step": None})["ADA201"].cause is None


def test_total_step_below_one_is_an_error_in_every_file():
    nested = {"run": {"peft_type": "ADALORA", "init_r": 12, "target_r": 8, "total_step": 0}}
    assert _found(nested)["ADA201"].severity == "error"


@pytest.mark.parametrize("content", [{"name": "adalora"}, {"project": {"name": "adalora"}},
                                     {"type": "adalora", "version": 3}])  # fmt: skip
def test_name_alone_is_no_configuration(content):
    assert _found(content).keys() == {"ADA006"}


def test_interpolations_of_hydra_are_known_when_the_run_starts():
    content = {
        "_target_": "peft.AdaLoraConfig", "init_r": "${model.rank}", "target_r": 8, "deltaT": 0,
        "target_modules": "${model.targets}", "total_step": "${trainer.max_steps}",
    }  # fmt: skip
    assert set(_found(content)) == {"ADA204"}


def test_every_combination_of_a_sweep_is_judged_once():
    text = """
method: grid
parameters:
  init_r: {values: [12, 4]}
  target_r: {value: 8}
  tinit: {min: 0, max: 100}
  learning_rate: {values: [1.0e-3, 1.0e-4]}
  target_modules: {value: [q_proj]}
"""
    report = inspect(text, "yaml").report
    pointers = {(d.code, d.pointer) for d in report.diagnostics}
    assert ("ADA301", "/parameters/target_r/value") in pointers
    assert len([d for d in report.diagnostics if d.code == "ADA301"]) == 1
    assert len([d for d in report.diagnostics if d.code == "ADA201"]) == 1


def test_huge_sweep_is_bounded():
    values = {"values": list(range(1, 400))}
    names = ("init_r", "target_r", "tinit", "tfinal", "deltaT", "total_step")
    content = {"method": "grid", "parameters": dict.fromkeys(names, values)}
    assert inspect(yaml.safe_dump(content), "yaml").blocks
    assert not inspect(yaml.safe_dump(content | {"method": {"a": 1}}), "yaml").blocks
