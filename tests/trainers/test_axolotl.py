"""The plugin for axolotl: with a stand-in of its base class, and (nightly) in a run of axolotl."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from adalora_runs import live_ranks
from peft import PeftModel
from programs import output_of_python
from tool_runs import (
    FIELDS,
    MATRICES,
    OFFLINE,
    STEPS,
    are_equal,
    budget_of,
    needs,
    require_no_finding,
    write_inputs,
    write_settings,
)  # fmt: skip
from tool_stand_ins import BasePlugin, differences, refused_parameters, stand_in
from toy_models import tiny_llama
from trainer_runs import Sequences
from transformers import Trainer, TrainingArguments

from adalora_core.bridge import uninstall

NAME = "adalora_core.trainers.axolotl"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    stand_in("axolotl", monkeypatch)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    yield import_module(NAME)
    sys.modules.pop(NAME)
    uninstall()


def settings(**changes: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"adapter": "adalora", "adalora": FIELDS, "lora_model_dir": None,
                              "rl": None, **changes})  # fmt: skip


def test_plugin_makes_the_model_and_its_trainer_allocates(module: Any, tmp_path: Path) -> None:
    plugin = module.AdaLoraPlugin()
    assert refused_parameters(module.AdaLoraPlugin, BasePlugin) == []
    assert [each.name for each in plugin.get_adapter_capabilities()] == ["adalora"]
    cfg = settings()
    model, config = plugin.load_adapter(tiny_llama(), cfg)
    assert config.task_type == "CAUSAL_LM"
    arguments = TrainingArguments(
        str(tmp_path), max_steps=STEPS, report_to=[], use_cpu=True, disable_tqdm=True,
        save_strategy="no", label_smoothing_factor=0.1,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=Sequences())
    plugin.post_trainer_create(settings(adapter="lora"), trainer)
    plugin.post_trainer_create(cfg, trainer)
    trainer.train()
    assert sum(live_ranks(model)) == MATRICES * FIELDS["target_r"]
    assert not model.run_report().findings
    model.save_pretrained(tmp_path / "saved")
    loaded, _ = plugin.load_adapter(
        tiny_llama(), settings(lora_model_dir=tmp_path / "saved"), inference=True
    )
    assert isinstance(loaded, PeftModel)
    assert not any(each.requires_grad for each in loaded.parameters())


def test_plugin_leaves_other_adapters_alone_and_refuses_other_trainers(module: Any) -> None:
    plugin = module.AdaLoraPlugin()
    assert plugin.load_adapter(tiny_llama(), settings(adapter="lora")) is None
    with pytest.raises(ValueError, match="expected supervised training, got rl dpo"):
        plugin.load_adapter(tiny_llama(), settings(rl="dpo"), config_only=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_r": 8}, "expected PEFT's fields in the mapping `adalora`, got lora_r"),
        ({"adalora": None}, "got None"),
        ({"adalora": FIELDS | {"target_r": 9}}, "ADA301"),
        ({"adalora": FIELDS | {"tfinl": 9}}, "ADA104"),
    ],
)
def test_wrong_yaml_is_refused_in_a_sentence(
    module: Any, changes: dict[str, Any], message: str
) -> None:
    path, _, name = module.AdaLoraPlugin().get_input_args().rpartition(".")
    arguments = getattr(import_module(path), name)
    data = {"adapter": "adalora", "adalora": FIELDS}
    assert arguments(**data).adalora == FIELDS
    assert arguments(**data | changes | {"adapter": "lora"})
    with pytest.raises(ValueError, match=message):
        arguments(**data | changes)


@pytest.mark.nightly
@needs("axolotl")
@pytest.mark.filterwarnings("ignore")
def test_the_stand_in_is_true() -> None:
    assert differences("axolotl") == []


@pytest.mark.nightly
@needs("axolotl")
def test_command_of_axolotl_ends_at_the_budget_and_resumes(tmp_path: Path) -> None:
    write_inputs(tmp_path, str)
    changes = {
        "base_model": "model",
        "adalora": FIELDS,
        "dataset_prepared_path": "prepared",
        "sequence_len": 64,
        "max_steps": STEPS,
        "save_steps": STEPS // 2,
        "bf16": False,
        "fp16": False,
        "tf32": False,
        "output_dir": "whole",
    }
    write_settings(tmp_path / "axolotl.yaml", changes)
    command = ("-m", "axolotl.cli.main", "train", "axolotl.yaml", "--launcher", "python")
    output_of_python(*command, variables=OFFLINE, cwd=tmp_path)
    assert budget_of(tmp_path / "whole") == (MATRICES * FIELDS["target_r"], STEPS)
    middle = f"whole/checkpoint-{STEPS // 2}"
    more = ("--output-dir", "resumed", "--resume-from-checkpoint", middle)
    output_of_python(*command, *more, variables=OFFLINE, cwd=tmp_path)
    assert are_equal(tmp_path / "whole", tmp_path / "resumed")
    require_no_finding(tmp_path)
