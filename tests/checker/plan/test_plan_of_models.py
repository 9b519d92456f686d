"""What the plan counts is what the models are really made of, ours and PEFT's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from adalora_runs import SETTINGS, make
from saved_tensors import kept_bytes
from toy_models import tiny_llama, token_batch

from adalora_core.commands.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

MADE_BY = ["peft", "adalora_core"]


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            n_embd=16,
            n_layer=2,
            n_head=2,
            vocab_size=40,
            n_positions=8,
            bos_token_id=1,
            eos_token_id=1,
        )
    )


def bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(
        BertConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            vocab_size=40,
        )
    )


def plan_for(
    model: nn.Module, fields: dict[str, Any], folder: Path, capsys: Any, *options: str
) -> dict[str, Any]:
    """Save `model`, plan for it, and return what the plan says of its weights."""
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder)
    else:
        from safetensors.torch import save_file

        save_file(model.state_dict(), folder / "model.safetensors")
    config = folder / "run.json"
    config.write_text(json.dumps({"peft_type": "ADALORA", **SETTINGS, **fields}))
    capsys.readouterr()
    assert main(["plan", str(config), "--weights", str(folder), "-o", "json", *options]) == 0
    weights: dict[str, Any] = json.loads(capsys.readouterr().out)["weights"]
    return weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("library", MADE_BY)
def test_allocator_memory_planned_is_what_it_holds_after_a_step(
    library: str, dtype: torch.dtype, tmp_path: Path, capsys: Any
) -> None:
    fields = {"target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    planned = plan_for(tiny_llama(dtype), fields, tmp_path, capsys)["allocator_bytes"]

    model = make(library, tiny_llama(dtype), **fields)
    model(**token_batch(0)).loss.backward()
    model.base_model.update_and_allocate(0)
    if library == "peft":
        allocator = model.base_model.rankallocator
        kept = [allocator.ipt, allocator.exp_avg_ipt, allocator.exp_avg_unc]
        held = [each for averages in kept for each in averages.values()]
    else:
        statistics = next(iter(model.base_model.adapters.values())).allocator.statistics
        held = statistics.smoothed + statistics.uncertainty
    assert held
    assert planned["peft" if library == "peft" else "adalora-core"] == sum(
        each.nbytes for each in held
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make_base", [tiny_llama, gpt2, bert])
def test_activations_planned_are_what_a_forward_pass_keeps(
    make_base: Callable[..., Any], dtype: torch.dtype, tmp_path: Path, capsys: Any
) -> None:
    fields = {"target_modules": "all-linear", "lora_dropout": 0.1}
    # A pooler sees one token of a row; the plan does not know.
    of_bert = {"task_type": "SEQ_CLS", "exclude_modules": ["pooler.dense"]}
    fields |= of_bert if make_base is bert else {}
    base = make_base().to(dtype)
    shape = (2, 8, base.config.hidden_size)
    planned = plan_for(base, fields, tmp_path, capsys, "--tokens", "16")["saved_bytes"]
    assert planned == plan_for(base, fields, tmp_path, capsys, "--tokens", "32")["saved_bytes"] / 2

    inputs = torch.randn(shape, dtype=dtype, requires_grad=True)

    def kept(model: Any) -> int:
        return kept_bytes(model.train(), lambda: model(inputs_embeds=inputs).logits)

    frozen = kept(without_dropout(make_base().to(dtype).requires_grad_(False)))
    adapted = kept(without_dropout(make("adalora_core", base, **fields)))
    assert planned == pytest.approx(adapted - frozen, rel=0.02)


def without_dropout(model: Any) -> Any:
    """Return a model with adapters whose own layers drop nothing."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout") and isinstance(module.attention_dropout, float):
            module.attention_dropout = 0.0
    return model


@pytest.mark.parametrize("library", MADE_BY)
def test_bytes_of_a_proposal_are_those_of_the_saved_file(
    library: str, tmp_path: Path, capsys: Any
) -> None:
    fields = {"target_modules": ["q_proj", "down_proj"], "modules_to_save": ["lm_head"]}
    tiny_llama().save_pretrained(tmp_path / "base")
    make(library, tiny_llama(), **fields).save_pretrained(tmp_path)
    size = (tmp_path / "adapter_model.safetensors").stat().st_size

    config = tmp_path / "run.json"
    config.write_text(json.dumps({"peft_type": "ADALORA", **SETTINGS, **fields}))
    arguments = ["--weights", str(tmp_path / "base"), "--budget", f"{size}B", "-o", "json"]
    assert main(["plan", str(config), *arguments]) == 0
    found = json.loads(capsys.readouterr().out)["proposal"]
    assert (found["values"]["target_r"], found["amount"]) == (SETTINGS["init_r"], size)


def test_end_planned_bounds_what_training_keeps(tmp_path: Path, capsys: Any) -> None:
    fields = {"target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    planned = plan_for(tiny_llama(), fields, tmp_path, capsys)["trainable_parameters"]

    model = make("adalora_core", tiny_llama(), **fields)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(SETTINGS["total_step"]):
        model(**token_batch(step)).loss.backward()
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
    model.compact(optimizer)
    left = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert planned["end_least"] <= left <= planned["end_most"]
    assert planned["end_least"] < planned["end"] < planned["end_most"]
