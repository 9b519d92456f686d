"""200 training steps beside PEFT: same masks, same parameters."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import peft
import pytest
import torch
from adalora_runs import end_step
from toy_models import tiny_llama, token_batch

import adalora_core

pytestmark = pytest.mark.usefixtures("op_backend")

STEPS = 200
# Ten times this rate and two float32 runs that differ in one rounding part ways: AdamW divides by
# the size of the gradient, so noise moves parameters as far as signal does.
LEARNING_RATE = 1e-3
SLOW, NIGHTLY = pytest.mark.slow, pytest.mark.nightly
SCHEDULES = [
    pytest.param({"deltaT": 1, "tinit": 20, "tfinal": 60}, id="every-step", marks=SLOW),
    pytest.param({"deltaT": 7, "tinit": 20, "tfinal": 60}, id="every-7th", marks=NIGHTLY),
    pytest.param({"deltaT": 1, "tinit": 0, "tfinal": 0}, id="every-step-no-phases", marks=NIGHTLY),
    pytest.param({"deltaT": 7, "tinit": 0, "tfinal": 0}, id="every-7th-no-phases", marks=NIGHTLY),
]


@dataclass
class Run:
    patterns: list[dict[str, list[bool]] | None] = field(default_factory=list)
    parameters: dict[str, torch.Tensor] = field(default_factory=dict)


def settings(schedule: dict[str, int]) -> dict[str, object]:
    return {
        # Without a task type PEFT's wrapper calls the base model and leaves the penalty out.
        "task_type": "CAUSAL_LM",
        "init_r": 6,
        "target_r": 3,
        "lora_alpha": 16,
        "total_step": STEPS,
        "orth_reg_weight": 0.3,
        "target_modules": ["q_proj", "k_proj", "v_proj", "down_proj"],
        **schedule,
    }


def adapter_parameters(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def train(model: torch.nn.Module, start: dict[str, torch.Tensor]) -> Run:
    run = Run()
    parameters = adapter_parameters(model)
    with torch.no_grad():
        for name, values in start.items():
            parameters[name].copy_(values)
    optimizer = torch.optim.AdamW(parameters.values(), lr=LEARNING_RATE)
    model.train()
    for step in range(STEPS):
        model(**token_batch(step)).loss.backward()
        end_step(model, optimizer, step)
        run.patterns.append(copy.deepcopy(model.peft_config["default"].rank_pattern))
    run.parameters = {name: each.detach().clone() for name, each in parameters.items()}
    return run


def freeze_scale(model: torch.nn.Module) -> None:
    """On a float64 base PEFT 0.21 trains the divisor of the scale (TestTrainedScale shows it).

    Here both sides train the same parameters.
    """
    for name, parameter in model.named_parameters():
        if ".ranknum." in name:
            parameter.requires_grad_(requires_grad=False)


def train_both(schedule: dict[str, int], dtype: torch.dtype) -> tuple[Run, Run]:
    theirs = peft.get_peft_model(tiny_llama(dtype), peft.AdaLoraConfig(**settings(schedule)))
    freeze_scale(theirs)
    start = {name: each.detach().clone() for name, each in adapter_parameters(theirs).items()}
    ours = adalora_core.get_peft_model(
        tiny_llama(dtype), adalora_core.AdaLoraConfig(**settings(schedule))
    )
    return train(theirs, start), train(ours, start)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_training_in_float64_equals_peft(schedule: dict[str, int]) -> None:
    theirs, ours = train_both(schedule, torch.float64)
    assert ours.patterns == theirs.patterns
    assert any(pattern is not None for pattern in theirs.patterns)
    assert ours.parameters.keys() == theirs.parameters.keys()
    for name, values in theirs.parameters.items():
        assert (ours.parameters[name] - values).abs().max() <= 1e-6, name


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_training_in_float32_has_the_rank_patterns_of_peft(schedule: dict[str, int]) -> None:
    theirs, ours = train_both(schedule, torch.float32)
    assert ours.patterns == theirs.patterns
    assert any(pattern is not None for pattern in theirs.patterns)
