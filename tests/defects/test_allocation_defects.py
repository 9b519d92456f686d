"""What breaks PEFT's allocation, and does not break ours. Each pair runs the same script."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from adalora_runs import TARGET_BUDGET, allocator_of, final_ranks, live_ranks, make, train
from packaging.version import Version
from torch import nn
from toy_models import TwoLayer

STEPS = range(30)
OVERFLOW_STEP = 10


class TestEqualRanks:
    """`init_r == target_r`: nothing to prune, yet PEFT asks for the 0-th smallest score."""

    def test_peft_crashes_at_the_first_allocation(self) -> None:
        model = make("peft", init_r=8, target_r=8)
        with pytest.raises(RuntimeError, match="kthvalue"):
            train(model, STEPS)

    def test_ours_trains_and_keeps_every_triplet(self, library: str) -> None:
        model = make(library, init_r=8, target_r=8)
        train(model, STEPS)
        assert final_ranks(model) == [8, 8]


def overflow(step: int, model: nn.Module) -> bool:
    """What a gradient scaler meets: infinite gradients, and the optimizer step is skipped."""
    if step != OVERFLOW_STEP:
        return False
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.fill_(torch.inf)
    return True


class TestNonFiniteGradient:
    """One overflow step of mixed-precision training."""

    def test_peft_stops_pruning_silently(self) -> None:
        model = make("peft")
        train(model, STEPS, before_step=overflow)
        assert sum(live_ranks(model)) > TARGET_BUDGET

    def test_ours_reaches_the_budget_and_counts_the_entries(self, library: str) -> None:
        model = make(library)
        train(model, STEPS, before_step=overflow)
        assert sum(final_ranks(model)) == TARGET_BUDGET
        assert sum(live_ranks(model)) == TARGET_BUDGET
        allocator = allocator_of(model)
        factors = [each for each in model.parameters() if each.requires_grad]
        assert allocator.statistics.skipped_entries == sum(each.numel() for each in factors)

    def test_ours_counts_one_poisoned_entry(self, library: str) -> None:
        def poison(step: int, model: nn.Module) -> bool:
            if step == OVERFLOW_STEP:
                factor = model.base_model.model.first.lora_A["default"]
                factor.grad[0, 0] = torch.nan
            return step == OVERFLOW_STEP

        model = make(library)
        train(model, STEPS, before_step=poison)
        assert allocator_of(model).statistics.skipped_entries == 1
        assert sum(final_ranks(model)) == TARGET_BUDGET


class TestUnusedModule:
    """An adapted module that the forward pass leaves out has no gradient."""

    def test_peft_raises_type_error(self) -> None:
        model = make("peft", TwoLayer(use_second=False))
        with pytest.raises(TypeError, match="NoneType"):
            train(model, STEPS)

    def test_ours_gives_the_budget_to_the_used_one(self, library: str) -> None:
        # Without the penalty, which gives A and B of the unused module gradients of their own.
        model = make(library, TwoLayer(use_second=False), orth_reg_weight=0.0)
        train(model, STEPS)
        assert final_ranks(model) == [12, 4]


def no_signal(step: int, model: nn.Module) -> bool:
    del step
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.zero_()
    return True


class TestTies:
    """No training signal: all scores are equal."""

    def test_peft_prunes_everything(self) -> None:
        model = make("peft", init_lora_weights=False)
        train(model, STEPS, before_step=no_signal)
        assert final_ranks(model) == [0, 0]

    def test_ours_keeps_exactly_the_budget_first_positions_first(self, library: str) -> None:
        model = make(library, init_lora_weights=False)
        train(model, STEPS, before_step=no_signal)
        assert final_ranks(model) == [12, 4]


class TestTrainedScale:
    """On a base that is not float32, PEFT's divisor of the scale is a trained parameter."""

    @pytest.mark.skipif(
        Version(peft.__version__) < Version("0.21"),
        reason="would have shown a trained divisor, which PEFT before 0.21 does not have",
    )
    def test_peft_trains_it_and_loses_it_on_save(self, tmp_path: Path) -> None:
        model = make("peft", TwoLayer().double())
        train(model, STEPS, dtype=torch.float64)
        assert model.base_model.model.first.ranknum["default"].item() != 12.0
        model.save_pretrained(tmp_path)
        reloaded = peft.PeftModel.from_pretrained(TwoLayer().double(), tmp_path)
        assert reloaded.base_model.model.first.ranknum["default"].item() == 12.0

    def test_ours_stays_alpha_over_init_r(self, library: str) -> None:
        model = make(library, TwoLayer().double())
        train(model, STEPS, dtype=torch.float64)
        layer = model.base_model.model.first
        A, E, B = (getattr(layer, name)["default"] for name in ("lora_A", "lora_E", "lora_B"))
        x = torch.ones(1, 16, dtype=torch.float64)
        expected = (x @ (A * E).T @ B.T) * 16 / (12 + 1e-5)
        torch.testing.assert_close(layer(x) - layer.base_layer(x), expected)
        learning = [name for name, each in model.named_parameters() if each.requires_grad]
        assert not any("ranknum" in name for name in learning)
