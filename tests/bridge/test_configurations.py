"""A `total_step` of "auto" in PEFT's configuration while the bridge is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adalora_runs import SETTINGS, allocator_of, final_ranks, train
from toy_models import TwoLayer

from adalora_core import AdaLoraConfig
from adalora_core.bridge import attach, to_peft_config
from adalora_core.config.fields.table import as_written
from adalora_core.floor.errors import CheckpointError

AUTO = SETTINGS | {"total_step": "auto"}


def fresh(**changes: Any) -> Any:
    torch.manual_seed(7)
    return peft.get_peft_model(TwoLayer(), peft.AdaLoraConfig(**AUTO | changes))


def test_peft_alone_refuses_it() -> None:
    with pytest.raises(TypeError):
        peft.AdaLoraConfig(**AUTO)
    with pytest.raises(ValueError, match=r"PEFT needs a number.*install\(\)"):
        to_peft_config(AdaLoraConfig(**AUTO))


@pytest.mark.usefixtures("installed")
class TestBound:
    def test_configuration_of_two_models_stays_auto(self) -> None:
        config = to_peft_config(AdaLoraConfig(**AUTO))
        for steps in (30, 40):
            model = attach(peft.get_peft_model(TwoLayer(), config))
            model.bind_total_step(steps)
            assert allocator_of(model).schedule.total_step == steps
        assert config.total_step == "auto"

    def test_checkpoint_has_the_number(self, tmp_path: Path) -> None:
        whole, resumed = fresh(), fresh()
        whole.bind_total_step(30)
        train(whole, range(15), optimizer=torch.optim.SGD(whole.parameters(), lr=0.1))
        whole.save_pretrained(tmp_path)
        resumed.load_adapter(tmp_path, "default", is_trainable=True)
        allocator = allocator_of(resumed)
        assert (allocator.last_step, allocator.schedule.total_step) == (14, 30)
        for model in (whole, resumed):
            train(model, range(15, 30), optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
        assert final_ranks(resumed) == final_ranks(whole)
        assert all(map(torch.equal, resumed.parameters(), whole.parameters()))

    def test_failed_load_leaves_it(self, tmp_path: Path) -> None:
        whole = fresh(total_step=30)
        train(whole, range(15))
        whole.save_pretrained(tmp_path)
        other = peft.get_peft_model(TwoLayer(width=8), peft.AdaLoraConfig(**AUTO))
        with pytest.raises(CheckpointError, match="does not fit the model"):
            other.load_adapter(tmp_path, "default", is_trainable=True)
        assert other.peft_config["default"].total_step == "auto"


def test_saved_configuration_holds_no_default_of_a_later_release(tmp_path: Path) -> None:
    settings = {"target_modules": ["0"], "init_r": 4, "target_r": 2, "total_step": 9, "tfinal": 2}
    base = torch.nn.Sequential(torch.nn.Linear(8, 8))
    model = peft.get_peft_model(base, peft.AdaLoraConfig(**settings))
    attach(model)
    model.save_pretrained(tmp_path / "bridged", save_training_state=True)
    AdaLoraConfig(**settings).save_pretrained(tmp_path / "own")
    later = {"kasa_config", "velora_config", "monteclora_config", "lora_ga_config", "use_bdlora"}
    for name in ("bridged", "own"):
        assert later.isdisjoint(json.loads((tmp_path / name / "adapter_config.json").read_text()))
    assert as_written({"use_bdlora": {"nblocks": 2}, "kasa_config": None}).keys() == {"use_bdlora"}
