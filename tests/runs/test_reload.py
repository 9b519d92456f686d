"""A folder loaded into a model that has an adapter, and `total_step: "auto"`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import LOADERS, final_ranks, load_again, make, optimizer_of, train
from toy_models import TwoLayer

from adalora_core import ConfigError
from adalora_core.floor.errors import CheckpointError


def fresh(library: str = "adalora_core", **changes: Any) -> Any:
    torch.manual_seed(7)
    return make(library, TwoLayer(), **changes)


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


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("library", ["adalora_core", "peft"])
class TestAutoTotalStep:
    def test_bound_run_equals_the_one_with_the_number(self, library: str) -> None:
        expected, model = fresh(library), fresh(library, total_step="auto")
        with pytest.raises(RuntimeError, match="bind_total_step"):
            train(fresh(library, total_step="auto"), range(1))
        with pytest.raises(ConfigError, match="budgeting phase"):
            model.bind_total_step(7)
        assert model.peft_config["default"].total_step == "auto"
        for steps in (30, 99):  # a number is not bound again
            model.bind_total_step(steps)
        for each in (expected, model):
            train(each, range(30))
        assert model.peft_config["default"].total_step == 30
        assert all(map(torch.equal, model.parameters(), expected.parameters()))
        allocator = getattr(model.base_model, "rankallocator", None)
        assert library == "adalora_core" or allocator.exp_avg_ipt is not None  # PEFT has None

    def test_saved_unbound_adapter_loads_for_inference(self, library: str, tmp_path: Path) -> None:
        fresh(library, total_step="auto").save_pretrained(tmp_path)
        assert json.loads((tmp_path / "adapter_config.json").read_text())["total_step"] == "auto"
        loaded = LOADERS[library].from_pretrained(TwoLayer(), tmp_path)
        assert loaded.peft_config["default"].total_step == "auto"


def test_existing_adapter_learns_the_number_from_a_checkpoint(tmp_path: Path) -> None:
    model = fresh(total_step="auto")
    model.bind_total_step(30)
    train(model, range(15))
    model.save_pretrained(tmp_path, save_training_state=True)
    resumed = fresh(total_step="auto")
    load_again(resumed, tmp_path)
    allocator = resumed.base_model.adapters["default"].allocator
    assert (allocator.last_step, allocator.schedule.total_step) == (14, 30)
