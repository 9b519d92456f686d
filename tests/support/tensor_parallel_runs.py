"""What the processes of the tests of tensor parallelism do; see process_groups."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from adalora_runs import allocator_of, make, optimizer_of
from distributed_runs import Trace, whole_parameters
from torch import distributed

from adalora_core.integrations.distributed import check_agreement

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 14
SETTINGS: dict[str, Any] = {
    "target_modules": "all-linear",
    "init_r": 4,
    "target_r": 2,
    "tinit": 2,
    "tfinal": 3,
    "deltaT": 1,
    "total_step": STEPS,
    "lora_alpha": 8,
}


def save_llama(folder: Path) -> None:
    """Write a Llama of two blocks in float64."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=27,  # not even: the parts differ
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=32,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).double().save_pretrained(folder)


def load_llama(folder: Path) -> Any:
    """Return the saved model; in several processes transformers divides it by its plan."""
    from transformers import AutoModelForCausalLM
    from transformers.distributed import DistributedConfig

    options: dict[str, Any] = {}
    if distributed.is_initialized():
        options["distributed_config"] = DistributedConfig(tp_plan="auto")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, **options)


def adapted_llama(folder: Path, **changes: Any) -> Any:
    """Return the saved model with an adapter."""
    base = load_llama(folder)
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    torch.manual_seed(2 + rank)  # the factors are those of the first process all the same
    return make("adalora_core", base, **{**SETTINGS, **changes})


def tokens(step: int) -> torch.Tensor:
    """Return the batch of `step`, the same on every process."""
    return torch.randint(0, 32, (3, 6), generator=torch.Generator().manual_seed(step))


def train_steps(model: Any, steps: range, optimizer: torch.optim.Optimizer | None = None) -> Trace:
    """Train by the documented loop, with clipped gradients."""
    optimizer = optimizer or optimizer_of(model)
    trace = Trace()
    model.train()
    for step in steps:
        loss = model(input_ids=tokens(step), labels=tokens(step)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(
            [each for each in model.parameters() if each.requires_grad], 1.0
        )
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
        mask = allocator_of(model).mask
        trace.masks.append(None if mask is None else mask.tolist())
        trace.budgets.append(allocator_of(model).budget)
        trace.losses.append(loss.item())
    trace.parameters = whole_parameters(model)
    model.eval()
    with torch.no_grad():
        trace.outputs = model(input_ids=tokens(99)).logits
    return trace


def run_llama(_rank: int, folder: Path, changes: dict[str, Any]) -> Trace:
    """Load, adapt and train."""
    model = adapted_llama(folder, **changes)
    trace = train_steps(model, range(STEPS))
    check_agreement(model)
    return trace
