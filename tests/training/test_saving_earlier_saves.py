"""Folders and states that an earlier state of this package has written load, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import end_step
from toy_models import TwoLayer, two_layer_batch

from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model
from adalora_core.floor.errors import CheckpointError
from adalora_core.trainers.distributed import AdapterState

FOLDER = Path(__file__).with_name("earlier_saves")
OUTPUTS: dict[str, Any] = json.loads((FOLDER / "outputs.json").read_text())
"""What the models computed when they were saved, and at the end of their runs."""


def base() -> TwoLayer:
    torch.manual_seed(5)
    return TwoLayer(8)


def outputs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(two_layer_batch(99, 8)["x"]).logits


def assert_outputs(model: Any, name: str) -> None:
    expected = torch.tensor(OUTPUTS[name])
    torch.testing.assert_close(outputs(model), expected, atol=1e-5, rtol=1e-5)


def train_to_the_end(model: Any) -> None:
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.5)
    model.train()
    for step in range(15, 30):
        model(**two_layer_batch(step, 8)).loss.backward()
        end_step(model, optimizer, step)


@pytest.mark.parametrize("name", ["one", "head", "several", "several/other", "named/other"])
def test_an_unfinished_run_goes_on(name: str) -> None:
    model = AdaLoraModel.from_pretrained(base(), FOLDER / name, is_trainable=True)
    assert_outputs(model, name)
    assert model.base_model.adapter.allocator.last_step == 14
    if f"{name}, at the end" in OUTPUTS:
        train_to_the_end(model)
        assert_outputs(model, f"{name}, at the end")


@pytest.mark.parametrize("name", ["one", "head"])
def test_a_finished_run_loads(name: str) -> None:
    loaded = AdaLoraModel.from_pretrained(base(), FOLDER / f"{name}_finished")
    assert_outputs(loaded, f"{name}, at the end")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("named", CheckpointError, "holds neither adapter_model|holds no adapter_config"),
        ("token_rows", ValueError, r"trainable_token_indices: .* model with adalora_core\.peft"),
    ],
)
def test_what_cannot_be_loaded_is_refused(name: str, error: Any, message: str) -> None:
    model = base()
    before = {key: each.clone() for key, each in model.state_dict().items()}
    with pytest.raises(error, match=message):
        AdaLoraModel.from_pretrained(model, FOLDER / name)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())


def test_a_distributed_state_of_one_adapter_goes_on() -> None:
    config = json.loads((FOLDER / "one" / "adapter_config.json").read_text())
    fields = ("target_modules", "init_r", "target_r", "tinit", "tfinal", "total_step", "lora_alpha")
    settings = {name: config[name] for name in fields}
    model = get_peft_model(base(), AdaLoraConfig(**settings))
    AdapterState(model).load_state_dict(torch.load(FOLDER / "one.pt"))
    assert_outputs(model, "one")
    train_to_the_end(model)
    assert_outputs(model, "one, at the end")
    for name in ("several", "named"):
        other = get_peft_model(base(), AdaLoraConfig(**settings))
        before = outputs(other)
        with pytest.raises(CheckpointError, match=r"'other'\]; make a model of adalora_core\.peft"):
            AdapterState(other).load_state_dict(torch.load(FOLDER / f"{name}.pt"))
        assert torch.equal(outputs(other), before)
