"""Configurations of plain LoRA are found in code, mappings and files of tools."""

import json
import textwrap

import pytest

from adalora_core.checker.documents import decode
from adalora_core.checker.pipeline import CheckOptions
from adalora_core.checker.pipeline.discovery import lora_blocks
from adalora_core.checker.pipeline.inspection import examine
from adalora_core.commands.cli import main
from adalora_core.config.rules.base import SOUND_LORA
from adalora_core.floor.limits import DEFAULT_LIMITS

CALLS = """
import peft
from peft import LoraConfig as Config
one = Config(r=16, target_modules=["q_proj"], lora_alpha=args.alpha)
kind = peft.LoraConfig
two = kind(r=4, **settings)
"""
OTHERS = {
    "own class": ("class LoraConfig: pass\nLoraConfig(r=3)", "python"),
    "another package": ("from mlx_lm import LoraConfig\nLoraConfig(r=3)", "python"),
    "adalora": ('{"peft_type": "LORA", "r": 8, "target_r": 4}', "json"),
    "a tool's word": ("peft_type: lora\nlora_r: 8\n", "yaml"),
    "another method": ("adapter: llama-adapter\nbase_model: a\nlora_r: 8\n", "yaml"),
    "turned off": ("use_peft: false\nlora_r: 8\n", "yaml"),
    "damaged": ("{", "json"),
}
TOOLS = {
    "axolotl": (
        """
        base_model: meta-llama/Llama-2-7b-hf
        adapter: qlora
        lora_r: 32
        lora_alpha: 16
        lora_target_linear: true
        lora_target_modules:
        """,
        {
            "base_model_name_or_path": ("base_model", "meta-llama/Llama-2-7b-hf"),
            "r": ("lora_r", 32),
            "lora_alpha": ("lora_alpha", 16),
            "target_modules": ("lora_target_linear", "all-linear"),
        },
    ),
    "LLaMA-Factory": (
        """
        model_name_or_path: gpt2
        finetuning_type: lora
        lora_rank: 64
        lora_target: c_attn, c_fc
        additional_target: wte
        use_dora: false
        lora_dropout: 0
        """,
        {
            "base_model_name_or_path": ("model_name_or_path", "gpt2"),
            "r": ("lora_rank", 64),
            "lora_alpha": (None, 128),
            "target_modules": ("lora_target", ["c_attn", "c_fc"]),
            "modules_to_save": ("additional_target", ["wte"]),
            "lora_dropout": ("lora_dropout", 0),
        },
    ),
    "ms-swift": (
        """
        model: gpt2
        train_type: lora
        target_modules: [all-linear]
        use_rslora: true
        """,
        {
            "base_model_name_or_path": ("model", "gpt2"),
            "lora_alpha": (None, 32),
            "r": (None, 8),
            "target_modules": ("target_modules", "all-linear"),
            "use_rslora": ("use_rslora", True),
        },
    ),
    "TRL": (
        """
        model_name_or_path: gpt2
        use_peft: true
        lora_r: ${rank}
        """,
        {
            "base_model_name_or_path": ("model_name_or_path", "gpt2"),
            "r": ("lora_r", "deferred"),
            "lora_alpha": (None, 32),
        },
    ),
}


def _document(text, form):
    return decode(textwrap.dedent(text).encode(), form, DEFAULT_LIMITS)


def _found(document, key=None):
    return lora_blocks(document, CheckOptions(), key, None)


def _is_judged_as_lora(document):
    return examine(document, None, CheckOptions()).report.ok


def test_calls_are_found_with_their_places():
    document = _document(CALLS, "python")
    one, two = _found(document)
    assert (one.path, one.deferred) == (("LoraConfig", 0), {"lora_alpha"})
    assert (one["r"], one["target_modules"], one["peft_type"]) == (16, ["q_proj"], "LORA")
    assert two["r"] == 4
    assert {"lora_alpha", "target_modules"} <= two.deferred
    span = document.span_of(one.at("target_modules", 0), "value")
    assert document.text[span.start : span.end] == '"q_proj"'
    assert [block.path for block in _found(document, key="/LoraConfig/1")] == [two.path]
    assert _is_judged_as_lora(document)


@pytest.mark.parametrize("tool", TOOLS)
def test_file_of_a_tool_is_read_under_pefts_names(tool):
    text, wanted = TOOLS[tool]
    document = _document(text, "yaml")
    (block,) = _found(document)
    assert block.tool.name.startswith(tool)
    assert block["peft_type"] == "LORA"
    for name, (key, value) in wanted.items():
        assert block.keys.get(name) == (key and (key,))
        assert (name in block.deferred) == (value == "deferred")
        assert name in block.deferred or block[name] == value
    assert block.values.keys() <= wanted.keys() | {"peft_type"}
    assert _is_judged_as_lora(document)


def test_mappings_that_say_lora_are_found():
    text = """
    peft: {_target_: peft.LoraConfig, r: "${rank}", lora_alpha: 16}
    other: {peft_type: LORA, r: 3}
    """
    one, two = _found(_document(text, "yaml"))
    assert (one.path, one.deferred, one["lora_alpha"]) == (("peft",), {"r"}, 16)
    assert (two.path, two["r"]) == (("other",), 3)


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_not_loras_is_left_alone(case):
    document = _document(*OTHERS[case])
    assert not _found(document)
    assert not _is_judged_as_lora(document)


def test_adalora_beside_lora_comes_first():
    document = _document("from peft import *\nLoraConfig(r=3)\nAdaLoraConfig()", "python")
    examined = examine(document, None, CheckOptions())
    assert [block.method for block in examined.blocks] == ["ADALORA", "LORA"]
    assert examined.report.method == "ADALORA"


NAMES_LORA = {"peft_type": {"enum": ["ADALORA", "LORA"]}}


@pytest.mark.parametrize(
    ("more", "option", "is_judged"),
    [
        ({}, [], False),
        (NAMES_LORA, [], True),
        ({}, ["lora"], True),
        (NAMES_LORA, ["adalora"], False),
    ],
)
def test_policy_judges_lora_where_it_names_it_or_is_told_to(more, option, is_judged, tmp_path):
    policy, file = tmp_path / "policy.json", tmp_path / "adapter.json"
    policy.write_text(json.dumps({"properties": {"r": {"maximum": 8}, **more}}))
    file.write_text(json.dumps(SOUND_LORA))
    methods = [f"--policy-methods={each}" for each in option]
    assert main(["check", f"--policy={policy}", *methods, str(file)]) == int(is_judged)
