"""What the plan counts is what the models are really made of, ours and PEFT's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from adalora_runs import SETTINGS, make
from toy_models import tiny_llama, token_batch

from adalora_core.commands.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

MADE_BY = ["peft", "adalora_core"]


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
