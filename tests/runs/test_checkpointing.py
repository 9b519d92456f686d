"""Gradient (activation) checkpointing, of both kinds, gives the gradients of the plain run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from adalora_runs import end_step, make, optimizer_of
from toy_models import tiny_llama, token_batch

# The name that training scripts use; transformers 5.24 has begun to rename it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated"),
    pytest.mark.usefixtures("op_backend"),
]

LLAMA = {"task_type": "CAUSAL_LM", "target_modules": "all-linear", "lora_dropout": 0.1}


def gradients(*, reentrant: bool | None) -> dict[str, torch.Tensor]:
    model = make("adalora_core", tiny_llama(), **LLAMA)
    if reentrant is not None:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": reentrant}
        )
    torch.manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    torch.manual_seed(12)
    model.train()(**token_batch(0)).loss.backward()
    return {name: each.grad for name, each in model.named_parameters() if each.requires_grad}


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_equal_those_without_it(reentrant: bool) -> None:
    expected, found = gradients(reentrant=None), gradients(reentrant=reentrant)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_run_reaches_its_budget(reentrant: bool) -> None:
    model: Any = make("adalora_core", tiny_llama(), **LLAMA, target_r=3)
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    optimizer = optimizer_of(model)
    model.train()
    for step in range(30):
        model(**token_batch(step)).loss.backward()
        end_step(model, optimizer, step)
    allocator = model.base_model.adapters["default"].allocator
    assert allocator.budget == 3 * len(allocator.matrices)
