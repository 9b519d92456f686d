"""Runs on a GPU, on both stand-ins for one, and in torch's operations, beside the CPU's core."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from adalora_runs import allocator_of, end_step
from op_devices import DEVICES, device, emulated_core, interpreted_core
from toy_models import tiny_llama, token_batch

from adalora_core import AdaLoraConfig, get_peft_model

__all__ = ["device", "emulated_core", "interpreted_core"]

STEPS = {"emulated": 60, "interpreted": 50}
"""Emulated threads are slow."""


def train(dtype: torch.dtype, place: str, steps: int) -> tuple[list[Any], dict[str, torch.Tensor]]:
    """Return the ranks after every allocation and the factors at the end."""
    config = AdaLoraConfig(
        target_modules=["q_proj", "v_proj"], init_r=6, target_r=2, tinit=steps // 5,
        tfinal=steps // 5, total_step=steps, deltaT=5, task_type="CAUSAL_LM",
    )  # fmt: skip
    torch.manual_seed(0)
    model = get_peft_model(tiny_llama(dtype), config).to(place)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    patterns = []
    for step in range(steps):
        batch = {name: each.to(place) for name, each in token_batch(step).items()}
        model(**batch).loss.backward()
        end_step(model, optimizer, step)
        if step % 20 == 0 or step == steps - 1:
            patterns.append(allocator_of(model).kept())
    factors = {
        name: each.detach().cpu() for name, each in model.named_parameters() if "lora_" in name
    }
    return patterns, factors


@pytest.mark.parametrize(
    "device", [pytest.param("portable", marks=pytest.mark.slow), *DEVICES[2:]], indirect=True
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_training_equals_that_on_the_cpu(
    device: str, dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    del request
    place = "cuda" if device == "cuda" else "cpu"
    steps = STEPS.get(device, 200)
    found = train(dtype, place, steps)
    with pytest.MonkeyPatch.context() as patch:
        from adalora_core.ops import _backend

        patch.setattr(_backend, "HAS_CORE", True)
        patch.setattr(_backend, "core_of", lambda _tensor: _backend.core)
        expected = train(dtype, "cpu", steps)
    assert found[0] == expected[0]
    if dtype == torch.float64:
        for name, values in expected[1].items():
            assert (found[1][name] - values).abs().max() <= 1e-6, name
