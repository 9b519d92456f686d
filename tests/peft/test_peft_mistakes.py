"""Slips of a script that PEFT accepts, or answers with a riddle, through the bridge."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from adalora_runs import SETTINGS, TARGET_BUDGET, final_ranks, make, train
from toy_models import TwoLayer

from adalora_core.bridge import attach
from adalora_core.config.findings import ConfigWarning


def config(**changes: Any) -> Any:
    return peft.AdaLoraConfig(**SETTINGS | changes)


@pytest.mark.usefixtures("installed")
def test_numbers_of_numpy_train_and_are_saved(tmp_path: Path) -> None:
    numbers = {"total_step": np.int64(30), "init_r": np.int32(12), "beta1": np.float32(0.5)}
    model = peft.get_peft_model(TwoLayer(), config(**numbers))
    train(model, range(30))
    assert sum(final_ranks(model)) == TARGET_BUDGET
    model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert [written["total_step"], written["init_r"], written["beta1"]] == [30, 12, 0.5]


@pytest.mark.parametrize("number", [np.int64(30), 30.0])
def test_attached_model_takes_the_numbers_that_peft_takes(number: Any) -> None:
    model = attach(peft.get_peft_model(TwoLayer(), config()))
    model.peft_config["default"].total_step = number
    train(model, range(30))
    assert sum(final_ranks(model)) == TARGET_BUDGET
    model = attach(peft.get_peft_model(TwoLayer(), config(total_step=number)))
    assert type(model.peft_config["default"].total_step) is int


@pytest.mark.usefixtures("installed")
def test_faults_of_a_configuration_are_warnings_with_their_codes() -> None:
    with pytest.warns(ConfigWarning, match=r"^ADA\d+: .*'default' .*target_r.* To do: ") as caught:
        peft.get_peft_model(TwoLayer(), config(init_r=2, target_r=4))
    assert [each.filename for each in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        peft.get_peft_model(TwoLayer(), config())


@pytest.mark.usefixtures("installed")
def test_saved_pattern_is_loaded_without_a_warning_of_peft(tmp_path: Path) -> None:
    model = peft.get_peft_model(TwoLayer(), config())
    train(model, range(30))
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        peft.PeftModel.from_pretrained(TwoLayer(), tmp_path)
        peft.PeftModel.from_pretrained(TwoLayer(), tmp_path, is_trainable=True)


@pytest.mark.parametrize("step", ["0", None, [1]])
def test_step_that_is_not_a_number_is_refused(library: str, step: Any) -> None:
    model = make(library, TwoLayer())
    with pytest.raises(TypeError, match=r"interpreted as an integer|integer scalar"):
        model.update_and_allocate(step)
    for number in (np.int64(0), torch.tensor(1), 2.0):
        model.update_and_allocate(number)
    assert model.base_model.trained_adapters()[0].allocator.last_step == 2


def test_call_without_a_step_names_a_class_that_the_script_knows(library: str) -> None:
    with pytest.raises(TypeError, match=r"^AdaLoraModel\.update_and_allocate\(\) missing"):
        make(library, TwoLayer()).update_and_allocate()


@pytest.mark.usefixtures("installed")
def test_model_and_folder_in_the_wrong_order_are_refused_with_the_right_one() -> None:
    base: Any = TwoLayer()
    with pytest.raises(TypeError, match=r"first argument.*from_pretrained\(model, folder"):
        peft.PeftModel.from_pretrained("adapter", base)


@pytest.mark.usefixtures("installed")
def test_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("check your connection")

    monkeypatch.setattr("peft.config.hf_hub_download", offline)
    with pytest.raises(ValueError, match="nope_dir") as caught:
        peft.PeftModel.from_pretrained(TwoLayer(), "nope_dir")
    (note,) = caught.value.__notes__
    assert note.startswith("No folder 'nope_dir' was found here")
