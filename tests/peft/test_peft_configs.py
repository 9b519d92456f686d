"""PEFT's configurations in `get_peft_model` of this package, and ours in PEFT's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import adalora_core
from adalora_core import AdaLoraModel, ConfigError
from tests.support.toy_models import TwoLayer, outputs, two_layer_batch

peft = pytest.importorskip("peft")

SETTINGS: dict[str, Any] = {
    "init_r": 6,
    "target_r": 3,
    "tfinal": 5,
    "total_step": 20,
    "target_modules": ["first", "second"],
}


def base() -> TwoLayer:
    torch.manual_seed(0)
    return TwoLayer()


def train(model: Any) -> Any:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(20):
        model(**two_layer_batch(step)).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    return model


def loaded_by_both(folder: Path) -> list[torch.Tensor]:
    return [
        outputs(library.from_pretrained(base(), folder))
        for library in (peft.PeftModel, AdaLoraModel)
    ]


def test_a_configuration_of_peft_is_kept_followed_and_saved(tmp_path: Path) -> None:
    config = peft.AdaLoraConfig(**SETTINGS | {"init_r": 6.0, "total_step": np.int64(30)})
    model = adalora_core.get_peft_model(base(), config)
    assert model.peft_config["default"] is config
    config.total_step = 20
    train(model)
    assert sum(map(sum, model.peft_config["default"].rank_pattern.values())) == 6
    assert config.rank_pattern.keys() == {"first.lora_E.default", "second.lora_E.default"}
    model.save_pretrained(tmp_path)
    for found in loaded_by_both(tmp_path):
        torch.testing.assert_close(found, outputs(model))


def test_a_configuration_read_by_peft_is_taken(tmp_path: Path) -> None:
    model = train(adalora_core.get_peft_model(base(), adalora_core.AdaLoraConfig(**SETTINGS)))
    model.save_pretrained(tmp_path)
    config = peft.PeftConfig.from_pretrained(tmp_path)
    other = AdaLoraModel.from_pretrained(base(), tmp_path, config=config)
    torch.testing.assert_close(outputs(other), outputs(model))
    other.export_lora(tmp_path / "lora")
    exported = peft.PeftModel.from_pretrained(base(), tmp_path / "lora")
    torch.testing.assert_close(outputs(exported), outputs(model))


def test_a_configuration_of_peft_follows_the_contract() -> None:
    config = peft.AdaLoraConfig(**SETTINGS)
    config.target_r = 9
    with pytest.raises(ConfigError, match="target_r"):
        adalora_core.get_peft_model(base(), config)


@pytest.mark.usefixtures("installed")
def test_ours_is_taken_by_peft_with_the_bridge(tmp_path: Path) -> None:
    model = train(peft.get_peft_model(base(), adalora_core.AdaLoraConfig(**SETTINGS)))
    config = model.peft_config["default"]
    assert type(config) is peft.AdaLoraConfig
    assert sum(map(sum, config.rank_pattern.values())) == 6
    model.save_pretrained(tmp_path)
    for found in loaded_by_both(tmp_path):
        torch.testing.assert_close(found, outputs(model))


def test_ours_of_a_folder_is_that_of_peft(tmp_path: Path) -> None:
    peft.AdaLoraConfig(**SETTINGS, task_type="CAUSAL_LM").save_pretrained(tmp_path)
    ours = adalora_core.AdaLoraConfig.from_pretrained(tmp_path).to_json_dict()
    theirs = peft.PeftConfig.from_pretrained(tmp_path).to_dict()
    assert ours.keys() >= theirs.keys()  # releases before 0.21 have fewer
    same = theirs.keys() - {"target_modules"}
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    assert {*ours["target_modules"]} == theirs["target_modules"]


def test_peft_is_not_imported() -> None:
    code = (
        "import sys, torch; from adalora_core import AdaLoraConfig, get_peft_model;"
        "config = AdaLoraConfig(total_step=9, target_modules=['0']);"
        "model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config);"
        "model.save_pretrained;"
        "print('peft' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.split() == [b"False", b"False"]
