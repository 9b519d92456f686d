"""Mistakes in a run that nothing told: what no optimizer moves, and states that do not fit."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import peft
import pytest
import torch
from adalora_runs import LIBRARIES, SETTINGS, make, optimizer_of
from run_loops import backward, found
from toy_models import TwoLayer

if TYPE_CHECKING:
    from pathlib import Path


def messages(run: Any) -> list[str]:
    return [str(each.message) for each in found(run)]


def train(model: Any, optimizer: torch.optim.Optimizer, steps: int = 30) -> None:
    for step in range(steps):
        backward(model.train(), step)
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("changes", [{"modules_to_save": ["head"]}, {"bias": "lora_only"}])
def test_what_is_saved_as_trained_and_in_no_optimizer_is_named(
    door: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    model = make(door, TwoLayer(), **changes)
    factors = [each for name, each in model.named_parameters() if "lora_" in name]
    train(model, torch.optim.AdamW(factors, lr=1e-2))
    (message,) = messages(lambda: model.save_pretrained(str(tmp_path / "one")))
    assert message.startswith("ADA802: no optimizer that made a step holds 2 parameters")
    assert ("head" if "modules_to_save" in changes else "bias") in message
    # A second optimizer, or a group that is added later, is right.
    model = make(door, TwoLayer(), **changes)
    train(model, optimizer_of(model))
    assert not messages(lambda: model.save_pretrained(str(tmp_path / "other")))


def test_state_of_a_lora_adapter_is_told_by_the_missing_singular_values(door: str) -> None:
    lora = peft.LoraConfig(r=12, target_modules=["first", "second"])
    saved = peft.get_peft_model_state_dict(peft.get_peft_model(TwoLayer(), lora))
    state = {name.replace(".weight", ".default"): each for name, each in saved.items()}
    model = make(door, TwoLayer())
    (message,) = messages(lambda: model.load_state_dict(state, strict=False))
    assert message.startswith("ADA823: load_state_dict gave the adapter 'default' lora_A and")
    assert "no lora_E" in message


def test_state_of_a_compiled_model_that_loads_nothing_is_told(door: str) -> None:
    model = make(door, TwoLayer())
    state = {f"_orig_mod.{name}": each for name, each in model.state_dict().items()}
    (message,) = messages(lambda: model.load_state_dict(state, strict=False))
    assert message.startswith("ADA823: load_state_dict gave the adapter 'default' nothing")
    assert "_orig_mod." in message
    assert not messages(lambda: model.load_state_dict(model.state_dict()))


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"deltaT": 50}, "ADA203"), ({"alpha_pattern": {"first": 4}}, "ADA405")],
)
def test_setting_that_a_run_ignores_is_told(door: str, changes: dict[str, Any], code: str) -> None:
    if (door, code) == ("adalora_core", "ADA203"):
        pytest.skip("our own configuration is checked where it is made, and warns of less")
    library = LIBRARIES[door]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = library.AdaLoraConfig(**SETTINGS | changes)
        library.get_peft_model(TwoLayer(), config)
    assert sum(code in str(each.message) for each in caught) == 1
