"""Test how a folder becomes a model without weights: its class, or the names in its headers."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
import torch
from injections import base_of
from safetensors.torch import save_file
from tiny_classes import save_tiny

from adalora_core.checker.plan.modules import RefusedError
from adalora_core.commands.cli import main
from adalora_core.commands.injection import injecting
from adalora_core.commands.injection.base_model import read_base
from adalora_core.commands.injection.injecting import inject
from adalora_core.config.fields.block import Block

if TYPE_CHECKING:
    from pathlib import Path

LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


def _changed(folder: Path, **fields: Any) -> Path:
    save_tiny("LlamaForCausalLM", folder)
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(
        json.dumps({name: value for name, value in config.items() if value is not None})
    )
    return folder


SKELETONS: dict[str, tuple[dict[str, Any], str]] = {
    "code of its own": (
        {"architectures": ["OwnForCausalLM"], "auto_map": {"AutoModel": "own.OwnForCausalLM"}},
        "transformers has no model class OwnForCausalLM",
    ),
    "no class": ({"architectures": None}, "config.json names no class in `architectures`"),
    "a class that is no model": ({"architectures": ["pipeline"]}, "has no model class pipeline"),
    "a missing package": ({"architectures": ["TimmWrapperModel"]}, "timm"),
    "sizes that do not fit": ({"num_attention_heads": 3}, "hidden size"),
}


@pytest.mark.parametrize("case", SKELETONS)
def test_model_without_a_class_is_planned_by_its_headers(case: str, tmp_path: Path) -> None:
    fields, reason = SKELETONS[case]
    base = read_base(_changed(tmp_path / "model", **fields))
    assert base.notes[0].startswith("the model is planned by names and shapes of the headers: ")
    assert reason in base.notes[0]
    by_class = inject(Block(LORA), base_of(("LlamaForCausalLM", "float32")))
    found = inject(Block(LORA), base)
    assert (found.file, found.count) == (by_class.file, by_class.count)


def test_code_of_a_model_never_runs_and_nothing_is_asked_of_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "ran"
    folder = _changed(tmp_path / "model", auto_map={"AutoConfig": "own.C", "AutoModel": "own.M"})
    (folder / "own.py").write_text(f"open({str(trap)!r}, 'w')")

    def refuse(*_: object) -> None:
        raise AssertionError("a network is asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert read_base(folder).notes == ()
    detr = save_tiny("DetrForObjectDetection", tmp_path / "detr", use_pretrained_backbone=True)
    assert read_base(detr).notes == ()
    assert not trap.exists()


def test_class_that_is_named_has_the_head_that_the_checkpoint_lacks(tmp_path: Path) -> None:
    save_tiny("BertModel", tmp_path)
    fields = LORA | {"target_modules": ["query"], "task_type": "SEQ_CLS"}
    plain = inject(Block(fields), read_base(tmp_path))
    named = inject(Block(fields), read_base(tmp_path, "BertForSequenceClassification"))
    assert (plain.beside, named.beside) == (0, 16 * 2 + 2)
    with pytest.raises(ValueError, match="--class Nothing cannot be built"):
        read_base(tmp_path, "Nothing")


def test_quantised_model_is_planned_as_plain_layers(tmp_path: Path) -> None:
    quantised = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    base = read_base(_changed(tmp_path, quantization_config=quantised))
    assert "planned as plain linear ones" in base.notes[0]
    assert inject(Block(LORA), base).count > 0


def test_dtype_is_that_of_the_weights_where_the_configuration_has_none(tmp_path: Path) -> None:
    save_tiny("LlamaForCausalLM", tmp_path, torch.float64)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["dtype"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = inject(Block(LORA), read_base(tmp_path))
    assert {info.dtype for info in found.file.values()} == {"F64"}


def test_layers_of_plain_torch_are_those_of_the_headers(tmp_path: Path) -> None:
    model = torch.nn.ModuleDict({
        "conv": torch.nn.Conv2d(3, 8, 3), "look": torch.nn.MultiheadAttention(8, 2),
        "embed_tokens": torch.nn.Embedding(5, 8), "out": torch.nn.Linear(8, 2, bias=False),
    })  # fmt: skip
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    fields = LORA | {"target_modules": list(model), "bias": "all"}
    found = inject(Block(fields), read_base(tmp_path))
    kinds = {each.path: each.kind for each in found.adapted}
    assert kinds == {
        "conv": "convolution", "embed_tokens": "embedding", "look": "attention",
        "look.out_proj": "linear", "out": "linear",
    }  # fmt: skip
    assert found.beside == 8 + 8  # those of conv and of out_proj


def test_field_that_the_release_lacks_is_a_note() -> None:
    found = inject(Block(LORA | {"new_in_peft_9": 1}), base_of(("LlamaForCausalLM", "float32")))
    assert f"{injecting.RELEASE} has no field new_in_peft_9: it is not planned" in found.notes


def test_error_of_a_tensor_without_data_is_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")

    monkeypatch.setattr(injecting.peft, "get_peft_model", fail)
    config = tmp_path / "run.json"
    config.write_text(json.dumps(LORA))
    folder = save_tiny("LlamaForCausalLM", tmp_path / "model")
    assert main(["plan", str(config), "--weights", str(folder)]) == 2
    assert "PEFT needs the weights to answer" in capsys.readouterr().err


def test_hint_is_one_that_peft_takes() -> None:
    base = base_of(("DeiTForImageClassification", "float32"))
    with pytest.raises(RefusedError) as caught:
        inject(Block(LORA | {"target_modules": ["query", "value"]}), base)
    hint = caught.value.hint
    assert hint.startswith('write the usual targets of the architecture, ["q_proj", "v_proj"]; ')
    assert inject(Block(LORA), base).count > 0
