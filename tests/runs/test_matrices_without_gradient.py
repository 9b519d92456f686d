"""A matrix whose singular values never have a gradient gets no budget, and is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import end_step, final_ranks, live_ranks, make, optimizer_of
from run_loops import codes, found, train_rightly
from torch import nn
from torch.utils.checkpoint import checkpoint
from toy_models import Output

from adalora_core import AdaLoraModel

STEPS = 30
FIRST_TOKEN = 15
INIT_R, TARGET_R = 12, 6  # the budget of both matrices is the rank of one


class TwoPaths(nn.Module):
    """Two layers beside each other; the second is reached in one of several ways, or not."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.way = way
        self.calls = 0

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Output:
        hidden = torch.relu(self.first(x)) + self.of_second(x)
        logits = self.head(hidden)
        self.calls += 1
        return Output(logits, nn.functional.cross_entropy(logits, labels))

    def of_second(self, x: torch.Tensor) -> torch.Tensor | float:
        if self.way == "its weight is read":
            return nn.functional.linear(x, self.second.weight)
        if self.way == "a reentrant checkpoint of a frozen input":
            return checkpoint(self.second, x, use_reentrant=True)
        if self.way == "zero times its parameters":
            return sum(0.0 * each.sum() for each in self.second.parameters() if each.requires_grad)
        is_expert_without_token = self.way == "late" and self.calls < FIRST_TOKEN
        return 0.0 if self.way == "never" or is_expert_without_token else self.second(x)


FAULTS = [
    "never",
    "its weight is read",
    "zero times its parameters",
    "a reentrant checkpoint of a frozen input",
]


def trained(library: str, way: str, steps: int = STEPS, **changes: Any) -> Any:
    changes = {"init_r": INIT_R, "target_r": TARGET_R, "orth_reg_weight": 0.5} | changes
    model = make(library, TwoPaths(way), **changes).train()
    optimizer = optimizer_of(model)
    train_rightly(model, optimizer, range(steps))
    return model


@pytest.mark.usefixtures("op_backend")
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("way", FAULTS)
def test_it_gets_no_budget_and_is_reported_once(door: str, way: str, tmp_path: Path) -> None:
    model = trained(door, way)
    assert final_ranks(model) == live_ranks(model) == [INIT_R, 0]
    (warning,) = found(lambda: [model.save_pretrained(tmp_path) for _ in range(2)])
    assert str(warning.message).startswith("ADA821: the singular values of 1 of 2 matrices of")
    assert "in the whole run: second. To do:" in str(warning.message)
    assert "ADA821" in model.base_model.run_report().findings


@pytest.mark.parametrize("criterion", ["sensitivity", "snr"])
def test_torchs_attention_reads_the_weight_of_out_proj(criterion: str) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    model = make(
        "adalora_core", nn.TransformerEncoder(layer, 2), target_modules="all-linear", init_r=4,
        target_r=2, importance_criterion=criterion, orth_reg_weight=0.5,
    )  # fmt: skip
    model.train()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        x = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(step))
        (model(x).square().mean() + model.orthogonality_penalty()).backward()
        end_step(model, optimizer, step)
    ranks = model.base_model.adapters["default"].allocator.active_ranks()
    assert sum(ranks.values()) == 12
    assert [rank for path, rank in ranks.items() if "out_proj" in path] == [0, 0]
    (warning,) = found(model.run_report)
    assert "2 of 6 matrices" in str(warning.message)


@pytest.mark.usefixtures("op_backend")
def test_an_expert_whose_first_token_comes_late_gets_budget_then(door: str, tmp_path: Path) -> None:
    model = trained(door, "late")
    assert all(final_ranks(model))
    assert codes(lambda: model.save_pretrained(tmp_path)) == []


@pytest.mark.usefixtures("op_backend")
def test_until_then_it_keeps_its_values(door: str) -> None:
    torch.manual_seed(0)
    first = trained(door, "late", 0, init_lora_weights=False).base_model.model.second.lora_E
    torch.manual_seed(0)
    model = trained(door, "late", FIRST_TOKEN, init_lora_weights=False)
    pattern = [*model.peft_config["default"].rank_pattern.values()]
    assert sum(map(sum, pattern)) < 2 * INIT_R
    assert not all(pattern[1])
    second = model.base_model.model.second.lora_E["default"]
    assert torch.equal(second, first["default"])
    optimizer = optimizer_of(model)
    train_rightly(model, optimizer, range(FIRST_TOKEN, STEPS))
    assert live_ranks(model) == final_ranks(model)
    assert sum(final_ranks(model)) == 2 * TARGET_R


def test_a_matrix_that_was_loaded_without_triplets_is_not_reported(tmp_path: Path) -> None:
    model = trained("adalora_core", "never")
    assert found(lambda: model.save_pretrained(tmp_path))
    loaded = AdaLoraModel.from_pretrained(TwoPaths("called"), tmp_path, is_trainable=True).train()
    assert loaded.base_model.model.second.lora_E["default"].shape == (0, 1)
    optimizer = optimizer_of(loaded)
    train_rightly(loaded, optimizer, range(STEPS))
    assert codes(lambda: loaded.save_pretrained(tmp_path)) == []


def test_a_layer_that_is_frozen_on_purpose_is_not_reported(door: str, tmp_path: Path) -> None:
    model = make(door, TwoPaths("called"), init_r=INIT_R, target_r=TARGET_R).train()
    for name, parameter in model.named_parameters():
        if "second" in name:
            parameter.requires_grad_(False)
    optimizer = optimizer_of(model)
    train_rightly(model, optimizer, range(STEPS))
    assert codes(lambda: model.save_pretrained(tmp_path)) == []
