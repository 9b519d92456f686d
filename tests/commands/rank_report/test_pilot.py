"""A pilot finds ranks for a plain LoRA, keeps its budget and leaves the model as it was."""

from __future__ import annotations

import copy
import random
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import peft
import pytest
import torch
from torch import nn
from toy_models import tiny_llama
from trainer_runs import Sequences
from transformers import Trainer, TrainingArguments

from adalora_core import AdaLoraConfig, find_ranks
from adalora_core.commands.rank_report import half_pilot
from adalora_core.commands.rank_report.report import render_rank_pattern
from adalora_core.config.model import read_config
from adalora_core.floor.errors import RunWarning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WIDTH = 16
CONFIG = AdaLoraConfig(
    init_r=6, target_r=2, lora_alpha=12, target_modules="all-linear", total_step=100
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    first, second, third = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), third)


def step_towards(goal: nn.Module) -> Callable[[nn.Module, int], torch.Tensor]:
    """Return a training step of regression on the outputs of `goal`."""

    def training_step(model: nn.Module, step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(32, WIDTH, generator=generator)
        with torch.no_grad():
            wanted = goal.eval()(x)
        return (model(x) - wanted).square().mean()

    return training_step


def changed_in(layer: int, rank: int) -> nn.Module:
    """Return the network with a change of `rank` in one layer."""
    goal = network()
    generator = torch.Generator().manual_seed(7)
    weight = goal[layer].weight
    left = torch.randn(weight.shape[0], rank, generator=generator)
    right = torch.randn(rank, weight.shape[1], generator=generator)
    weight.data += left @ right * 0.3
    return goal


def state_of(model: nn.Module) -> Any:
    """Return everything that a pilot must not change, as comparable values."""
    modules = {
        name: (
            id(module),
            module.training,
            {key: len(value) for key, value in vars(module).items() if isinstance(value, dict)},
            sorted(vars(module)),
        )
        for name, module in model.named_modules()
    }
    parameters = [
        (name, id(each), each.requires_grad, None if each.grad is None else each.grad.tolist())
        for name, each in model.named_parameters()
    ]
    tensors = {name: each.tolist() for name, each in model.state_dict().items()}
    numbers = (
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002 - what scripts use
    )
    return modules, parameters, tensors, numbers


class TestTheModelIsLeftAsItWas:
    def model(self) -> nn.Sequential:
        model = network().append(nn.BatchNorm1d(WIDTH)).append(nn.Dropout(0.1))
        model.eval()
        model[0].train()
        model[2].weight.requires_grad_(False)
        model[0].weight.grad = torch.ones_like(model[0].weight)
        model[2].register_forward_hook(lambda *_: None)
        return model

    def test_after_a_pilot(self) -> None:
        model = self.model()
        before = copy.deepcopy(state_of(model))
        learns = step_towards(changed_in(2, 4))

        def clears_gradients(model: nn.Module, step: int) -> torch.Tensor:
            model.zero_grad()
            return learns(model, step)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RunWarning)
            find_ranks(model, CONFIG, clears_gradients, steps=20)
        assert state_of(model) == before

    @pytest.mark.parametrize("at", [0, 13, 19])
    def test_after_a_training_step_that_fails(self, at: int) -> None:
        model = self.model()
        before = copy.deepcopy(state_of(model))
        learns = step_towards(changed_in(2, 4))

        def fails(model: nn.Module, step: int) -> torch.Tensor:
            random.random()  # noqa: S311 - draws one
            np.random.rand()  # noqa: NPY002 - what scripts use
            if step == at:
                raise KeyboardInterrupt
            return learns(model, step)

        with pytest.raises(KeyboardInterrupt):
            find_ranks(model, CONFIG, fails, steps=20)
        assert state_of(model) == before

    def test_a_training_step_that_writes_to_the_model_is_an_error(self) -> None:
        learns = step_towards(changed_in(2, 4))

        def writes(model: nn.Module, step: int) -> torch.Tensor:
            with torch.no_grad():
                model.get_parameter("base_model.model.4.base_layer.bias").zero_()
            return learns(model, step)

        with pytest.raises(RuntimeError, match=r"wrote to the parameter '4.bias'"):
            find_ranks(network(), CONFIG, writes, steps=20)


class TestRanks:
    @pytest.mark.parametrize(("layer", "name"), [(0, "0"), (2, "2"), (4, "4")])
    def test_most_triplets_go_to_the_layer_that_has_to_change(self, layer: int, name: str) -> None:
        found = find_ranks(network(), CONFIG, step_towards(changed_in(layer, 4)), steps=100)
        assert max(found.ranks, key=found.ranks.get) == name
        assert found.ranks[name] >= 3

    @pytest.mark.parametrize("unit", ["triplets", "parameters", "bytes"])
    def test_budget_is_kept_and_used_and_peft_has_as_many_parameters(self, unit: str) -> None:
        limit = {"triplets": 7, "parameters": 300, "bytes": 1200}[unit]
        step = step_towards(changed_in(2, 4))
        found = find_ranks(network(), CONFIG, step, steps=60, budget=limit, unit=unit)
        used = {
            "triplets": sum(found.ranks.values()),
            "parameters": found.parameters,
            "bytes": 4 * found.parameters,
        }[unit]
        smallest = {"triplets": 1, "parameters": 2 * WIDTH, "bytes": 8 * WIDTH}[unit]
        assert limit - smallest < used <= limit
        model = peft.get_peft_model(network(), peft.LoraConfig(**found.lora_settings()))
        assert model.get_nb_trainable_parameters()[0] == found.parameters
        scales = [each.scaling["default"] for each in model.modules() if hasattr(each, "scaling")]
        assert scales == pytest.approx([CONFIG.lora_alpha / CONFIG.init_r] * len(scales))

    def test_equal_seeds_give_equal_ranks(self) -> None:
        found = []
        for _ in range(2):
            torch.manual_seed(3)
            found.append(find_ranks(network(), CONFIG, step_towards(changed_in(2, 4)), steps=60))
        assert found[0] == found[1]

    def test_both_budgets_are_trained_from_the_same_point(self, monkeypatch: Any) -> None:
        chosen = half_pilot.most_important
        monkeypatch.setattr(half_pilot, "most_important", lambda *given: chosen(*given[:2], 6))
        with pytest.warns(RunWarning, match="costs 0.0% of what the pilot gained"):
            found = find_ranks(network(), CONFIG, step_towards(changed_in(4, 4)), steps=60)
        assert found.losses[1] == found.losses[2]

    def test_saved_pilot_is_what_the_report_reads(self, tmp_path: Path) -> None:
        found = find_ranks(network(), CONFIG, step_towards(changed_in(2, 4)), steps=60)
        found.save(tmp_path / "new")
        config = read_config(tmp_path / "new" / "adapter_config.json")
        assert render_rank_pattern(config, "peft") == render_rank_pattern(found.config, "peft")


class TestDoubts:
    def test_noise_is_told_by_its_halves(self) -> None:
        generator = torch.Generator().manual_seed(0)

        def noise(model: nn.Module, _: int) -> torch.Tensor:
            x = torch.randn(8, WIDTH, generator=generator)
            return (model(x) * torch.randn(8, WIDTH, generator=generator)).mean()

        torch.manual_seed(0)
        with pytest.warns(RunWarning) as warned:
            found = find_ranks(network(), CONFIG, noise, steps=20)
        assert found.doubts() == [str(each.message).removeprefix("find_ranks: ") for each in warned]

    def test_a_task_of_one_triplet_is_told(self) -> None:
        config = CONFIG.model_copy(update={"init_r": 16, "target_r": 10})
        step = step_towards(changed_in(4, 1))
        with pytest.warns(RunWarning, match="rank hardly matters here, since half of the budget"):
            find_ranks(network(), config, step, steps=100)

    def test_a_clear_task_is_quiet(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RunWarning)
            find_ranks(network(), CONFIG, step_towards(changed_in(4, 4)), steps=100)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"steps": 19}, "steps: expected at least 20, got 19"),
            ({"unit": "megabytes"}, "unit: expected one of triplets, parameters, bytes"),
            ({"budget": 20, "unit": "parameters"}, "budget: 20 has no room for a triplet"),
            ({"budget": 15}, "budget: 15 allows a mean rank of 5.0, and init_r 6"),
        ],
    )
    def test_is_refused_before_any_step(self, options: dict[str, Any], message: str) -> None:
        def never(*_: Any) -> torch.Tensor:
            raise AssertionError

        with pytest.raises(ValueError, match=message):
            find_ranks(network(), CONFIG, never, **options)

    @pytest.mark.parametrize("config", [peft.LoraConfig(r=4, target_modules=["0"]), {"r": 4}, None])
    def test_a_configuration_of_another_method_is_named(self, config: Any) -> None:
        with pytest.raises(TypeError, match=r"expected an AdaLoraConfig .*, got "):
            find_ranks(network(), config, step_towards(network()))

    def test_a_step_that_cannot_be_called_is_named(self) -> None:
        with pytest.raises(TypeError, match=r"training_step: expected a function .*, got None"):
            find_ranks(network(), CONFIG, None)
        with pytest.raises(ValueError, match="steps: expected at least 20, got None"):
            find_ranks(network(), CONFIG, step_towards(network()), steps=None)

    @pytest.mark.parametrize("at", [0, 12, 18])
    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda _: None, "tensor of one finite number, got None"),
            (lambda loss: loss.item(), "tensor of one finite number, got 0."),
            (lambda loss: loss * torch.nan, "tensor of one finite number, got nan"),
            (lambda loss: loss / 0, "tensor of one finite number, got inf"),
            (lambda loss: loss.expand(3), r"tensor of one number, got the shape \[3\]"),
        ],
    )
    def test_a_loss_that_is_not_a_finite_number_is_named_and_undone(
        self, spoil: Callable[[Any], Any], message: str, at: int
    ) -> None:
        model, learns = network(), step_towards(changed_in(2, 4))
        before = copy.deepcopy(state_of(model))

        def training_step(model: nn.Module, step: int) -> Any:
            loss = learns(model, step)
            return spoil(loss) if step == at else loss

        with pytest.raises((TypeError, ValueError), match=rf"at step {at} .*{message}"):
            find_ranks(model, CONFIG, training_step, steps=20)
        assert state_of(model) == before


def test_trainer_serves_as_training_step_and_is_left_alone(tmp_path: Path) -> None:
    model = tiny_llama()
    arguments = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=4, report_to=[], use_cpu=True
    )
    trainer = Trainer(model, arguments, train_dataset=Sequences(16))
    before = copy.deepcopy(state_of(model))
    loaders = list(trainer.accelerator._dataloaders)
    config = CONFIG.model_copy(update={"task_type": "CAUSAL_LM"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RunWarning)
        found = find_ranks(model, config, trainer, steps=40)
    assert state_of(model) == before
    assert trainer.accelerator._dataloaders == loaders
    assert found.losses[1] < found.losses[0]
    assert sum(found.ranks.values()) == CONFIG.target_r * len(found.ranks)
