"""A folder loaded into a model that has an adapter, and `total_step: "auto"`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import SETTINGS, final_ranks, load_again, make, optimizer_of, train
from toy_models import TwoLayer

from adalora_core import AdaLoraConfig, AdaLoraModel, ConfigError, get_peft_model
from adalora_core.floor.errors import CheckpointError


def fresh(**changes: Any) -> Any:
    torch.manual_seed(7)
    return make("adalora_core", TwoLayer(), **changes)


@pytest.mark.parametrize("stop", [2, 15, 27], ids=["warmup", "budgeting", "final"])
def test_reload_of_an_existing_adapter_keeps_what_the_optimizer_holds(
    stop: int, tmp_path: Path
) -> None:
    whole = fresh()
    optimizer = optimizer_of(whole)
    train(whole, range(stop), optimizer=optimizer)
    whole.save_pretrained(tmp_path, save_training_state=True)
    state = optimizer.state_dict()["state"]
    state = {key: {name: each.clone() for name, each in one.items()} for key, one in state.items()}
    train(whole, range(stop, 30), optimizer=optimizer)

    resumed = fresh()
    again = optimizer_of(resumed)
    load_again(resumed, tmp_path)
    again.load_state_dict(again.state_dict() | {"state": state})
    train(resumed, range(stop, 30), optimizer=again)
    assert final_ranks(resumed) == final_ranks(whole)
    for (name, expected), found in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(found, expected), name


def test_reload_of_another_schedule_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    model = fresh()
    train(model, range(15))
    model.save_pretrained(tmp_path, save_training_state=True)
    other = fresh(total_step=60)
    before = [each.clone() for each in other.parameters()]
    with pytest.raises(CheckpointError, match="another schedule"):
        load_again(other, tmp_path)
    assert all(map(torch.equal, other.parameters(), before))


class TestAutoTotalStep:
    SETTINGS = SETTINGS | {"total_step": "auto"}

    def test_bound_run_equals_the_one_with_the_number(self) -> None:
        expected = fresh()
        train(expected, range(30))
        model = fresh(total_step="auto")
        model.bind_total_step(30)
        train(model, range(30))
        assert model.peft_config["default"].total_step == 30
        assert all(map(torch.equal, model.parameters(), expected.parameters()))

    def test_unbound_run_says_who_binds_it(self) -> None:
        with pytest.raises(RuntimeError, match="bind_total_step"):
            train(fresh(total_step="auto"), range(1))

    def test_bound_to_too_few_steps_is_refused(self) -> None:
        model = get_peft_model(TwoLayer(), AdaLoraConfig(**self.SETTINGS))
        with pytest.raises(ConfigError, match="budgeting phase"):
            model.bind_total_step(7)

    def test_number_is_not_bound_again(self) -> None:
        model = fresh()
        model.bind_total_step(99)
        assert model.peft_config["default"].total_step == 30

    def test_existing_adapter_learns_the_number_from_a_checkpoint(self, tmp_path: Path) -> None:
        model = fresh(total_step="auto")
        model.bind_total_step(30)
        train(model, range(15))
        model.save_pretrained(tmp_path, save_training_state=True)
        resumed = fresh(total_step="auto")
        load_again(resumed, tmp_path)
        allocator = resumed.base_model.adapters["default"].allocator
        assert (allocator.last_step, allocator.schedule.total_step) == (14, 30)

    def test_saved_unbound_adapter_loads_for_inference(self, tmp_path: Path) -> None:
        fresh(total_step="auto").save_pretrained(tmp_path)
        loaded = AdaLoraModel.from_pretrained(TwoLayer(), tmp_path)
        assert loaded.peft_config["default"].total_step == "auto"
