"""`init_lora_weights="lora"`: the start of PEFT's LoRA, by every door."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from backends import op_backend
from torch import nn

import adalora_core

__all__ = ["op_backend"]

INIT_R = 4
SETTINGS: dict[str, Any] = {
    "init_r": INIT_R,
    "target_r": 2,
    "tinit": 2,
    "tfinal": 5,
    "total_step": 30,
    "lora_alpha": 8,
    "init_lora_weights": "lora",
}


def own(base: nn.Module, seed: int, **changes: Any) -> Any:
    """Return our model, drawn from `seed`."""
    torch.manual_seed(seed)
    config = adalora_core.AdaLoraConfig(**SETTINGS | changes)
    return adalora_core.get_peft_model(base, config)


def lora(base: nn.Module, seed: int, **changes: Any) -> Any:
    """Return PEFT's LoRA, drawn from `seed`."""
    torch.manual_seed(seed)
    return peft.get_peft_model(base, peft.LoraConfig(r=INIT_R, lora_alpha=8, **changes))


DOORS = {"own": own}


def layers_of(dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return linear layers one after the other."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 9)).to(dtype)


TARGETS = {"target_modules": ["0", "2"]}


def factor(model: Any, path: str, letter: str) -> torch.Tensor:
    """Return a factor of LoRA or AdaLoRA as a matrix."""
    found = getattr(model.base_model.model.get_submodule(path), f"lora_{letter}")["default"]
    values = found.weight if isinstance(found, nn.Module) else found
    return values.detach().flatten(1)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_same_seed_gives_the_start_of_lora(door: str, dtype: torch.dtype) -> None:
    theirs = lora(layers_of(dtype), 3, **TARGETS)
    their_rest = torch.rand(2)
    ours = DOORS[door](layers_of(dtype), 3, **TARGETS)
    assert torch.equal(torch.rand(2), their_rest)
    for path in TARGETS["target_modules"]:
        for letter in "AB":
            expected, found = factor(theirs, path, letter), factor(ours, path, letter)
            assert found.dtype is expected.dtype
            assert torch.equal(found, expected), (path, letter)
        assert torch.equal(factor(ours, path, "E"), torch.ones(INIT_R, 1, dtype=found.dtype))
