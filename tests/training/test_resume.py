"""Stop, save, load, go on: bit for bit the run that was never stopped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from adalora_runs import make, optimizer_of, train
from toy_models import TwoLayer

from adalora_core import AdaLoraModel
from adalora_core.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 40
SCHEDULE = {"tinit": 8, "tfinal": 12, "total_step": STEPS, "lora_dropout": 0.1}
STOPS = {"warmup": 5, "budgeting": 17, "final": 33, "first final step": 29}


def fresh_base() -> TwoLayer:
    torch.manual_seed(7)
    return TwoLayer()


def snapshot(model: Any) -> dict[str, Any]:
    return {
        "parameters": {name: each.clone() for name, each in model.named_parameters()},
        "pattern": model.peft_config["default"].rank_pattern,
        "history": model.base_model.adapters["default"].allocator.history,
        "ranks": model.base_model.adapters["default"].allocator.rank_history(),
    }


@pytest.mark.parametrize("interval", [1, 5])
@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS.keys())
def test_resumed_run_equals_the_uninterrupted_one(interval: int, stop: int, tmp_path: Path) -> None:
    model = make("adalora_core", fresh_base(), deltaT=interval, **SCHEDULE)
    optimizer = optimizer_of(model)
    train(model, range(stop), optimizer=optimizer)
    model.save_pretrained(tmp_path, save_training_state=True)
    torch.save({"optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}, tmp_path / "s")
    train(model, range(stop, STEPS), optimizer=optimizer)
    expected = snapshot(model)

    saved = torch.load(tmp_path / "s", weights_only=True)
    resumed = AdaLoraModel.from_pretrained(fresh_base(), tmp_path, is_trainable=True)
    optimizer = optimizer_of(resumed)
    optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(saved["rng"])
    train(resumed, range(stop, STEPS), optimizer=optimizer)
    found = snapshot(resumed)

    assert found["pattern"] == expected["pattern"]
    assert found["history"] == expected["history"]
    assert found["ranks"] == expected["ranks"]
    for name, values in expected["parameters"].items():
        assert torch.equal(found["parameters"][name], values), name


class TestStateFiles:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        model = make("adalora_core", fresh_base(), **SCHEDULE)
        train(model, range(17))
        model.save_pretrained(tmp_path, save_training_state=True)
        return tmp_path

    def test_a_finished_run_leaves_no_state(self, saved: Path) -> None:
        assert (saved / "adalora_state.json").is_file()
        model = make("adalora_core", fresh_base(), **SCHEDULE)
        train(model, range(STEPS))
        model.save_pretrained(saved)
        assert sorted(path.name for path in saved.iterdir()) == [
            "adapter_config.json",
            "adapter_model.safetensors",
        ]

    def test_inference_does_not_read_it(self, saved: Path) -> None:
        (saved / "adalora_state.json").write_text("broken")
        AdaLoraModel.from_pretrained(fresh_base(), saved)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("broken", "not a training state"),
            ('{"version": 3}', "version"),
            ('{"version": 1}', "missing"),
        ],
    )
    def test_a_damaged_state_is_refused(self, saved: Path, content: str, message: str) -> None:
        (saved / "adalora_state.json").write_text(content)
        with pytest.raises(CheckpointError, match=message):
            AdaLoraModel.from_pretrained(fresh_base(), saved, is_trainable=True)

    def test_a_truncated_state_is_refused(self, saved: Path) -> None:
        path = saved / "adalora_state.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(CheckpointError, match=r"adalora_state\.safetensors"):
            AdaLoraModel.from_pretrained(fresh_base(), saved, is_trainable=True)

    def test_a_changed_schedule_is_refused(self, saved: Path) -> None:
        path = saved / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "total_step": 80}))
        base = fresh_base()
        with pytest.raises(CheckpointError, match="configuration is not the one"):
            AdaLoraModel.from_pretrained(base, saved, is_trainable=True)
        assert type(base.first) is torch.nn.Linear

    def test_the_state_of_another_run_is_refused(self, saved: Path, tmp_path: Path) -> None:
        other = make("adalora_core", TwoLayer(8), **SCHEDULE)
        train_small = tmp_path / "other"
        other.save_pretrained(train_small, save_training_state=True)
        for name in ("adalora_state.json", "adalora_state.safetensors"):
            (train_small / name).replace(saved / name)
        with pytest.raises(CheckpointError, match="different runs"):
            AdaLoraModel.from_pretrained(fresh_base(), saved, is_trainable=True)
