"""`factor_groups`: E learns faster than everything else that is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import TARGET_BUDGET, live_ranks, make, train
from torch import nn
from toy_models import TwoLayer
from trainer_runs import STEPS, Sequences, arguments_for, llama
from trainer_runs import TARGET_BUDGET as TARGET_OF_LLAMA
from transformers import Trainer

import adalora_core
from adalora_core import AdaLoraCallback, factor_groups
from adalora_core.bridge import install, uninstall

MORE: dict[str, Any] = {"modules_to_save": ["head"], "bias": "lora_only"}


def imported(**changes: Any) -> Any:
    """Return a model of PEFT that the installed bridge serves."""
    install()
    try:
        return make("peft", **changes)
    finally:
        uninstall()


DOORS = {
    "own": lambda **changes: make("adalora_core", **changes),
    "imported": imported,
    "attached": lambda **changes: make("attached", **changes),
    "injected": lambda **changes: make("injected", **changes),
    "wrapped": lambda **changes: nn.Sequential(make("adalora_core", **changes)),
}


@pytest.mark.parametrize("changes", [{}, MORE], ids=["", "with a head and biases"])
@pytest.mark.parametrize("door", DOORS)
def test_all_that_is_trained_is_in_one_group(door: str, changes: dict[str, Any]) -> None:
    model = DOORS[door](**changes)
    rest, E = factor_groups(model, 1e-3, singular_values=8)
    assert (rest["lr"], E["lr"]) == (1e-3, 8e-3)
    names = {id(each): name for name, each in model.named_parameters()}
    assert len(E["params"]) == 2
    assert all(".lora_E." in f".{names[id(each)]}" for each in E["params"])
    found = [id(each) for group in (rest, E) for each in group["params"]]
    trained = [id(each) for each in model.parameters() if each.requires_grad]
    assert sorted(found) == sorted(trained)
    assert len(rest["params"]) == 4 + (4 if changes else 0)


def test_the_first_step_of_e_is_larger_and_the_run_is_right(library: str) -> None:
    model = make(library)
    optimizer = torch.optim.AdamW(factor_groups(model, 1e-2), fused=True)
    train(model, range(1), optimizer=optimizer)
    layer = model.base_model.model.first
    assert float(layer.lora_E["default"].detach().abs().max()) == pytest.approx(0.16, rel=1e-3)
    train(model, range(1, 30), optimizer=optimizer)
    assert sum(live_ranks(model)) == TARGET_BUDGET
    report = model.compact(optimizer)
    assert report.state_after < report.state_before
    assert [len(group["params"]) for group in optimizer.param_groups] == [4, 2]


def test_trainer_takes_an_optimizer_of_the_groups(tmp_path: Path) -> None:
    model = llama("attached")
    optimizer = torch.optim.AdamW(factor_groups(model, 1e-2))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
    rates = []
    trainer = Trainer(
        model,
        arguments_for(tmp_path),
        train_dataset=Sequences(),
        optimizers=(optimizer, schedule),
    )
    optimizer.register_step_post_hook(
        lambda each, *_: rates.append([group["lr"] for group in each.param_groups])
    )
    AdaLoraCallback().add_to(trainer)
    trainer.train()
    assert len(rates) == STEPS
    assert all(of_e == pytest.approx(16 * rate) for rate, of_e in rates)
    assert sum(live_ranks(model)) == TARGET_OF_LLAMA


def test_what_has_no_adapter_to_train_is_refused() -> None:
    frozen = make("adalora_core", inference_mode=True)
    for model, name in ((TwoLayer(), "TwoLayer"), (frozen, "AdaLoraModel")):
        with pytest.raises(ValueError, match=f"got {name} without a trainable lora_E; adapt it"):
            factor_groups(model, 1e-3)
    with pytest.raises(ValueError, match=r"expected a number above 0, got 0"):
        adalora_core.factor_groups(make("adalora_core"), 1e-3, singular_values=0)
