"""What models of PEFT alone have is refused in one sentence that names their door."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import SETTINGS, make
from toy_models import TwoLayer, tiny_llama

import adalora_core
from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model
from adalora_core.training.run.reporting import OF_PEFT

DOOR = r"model with adalora_core\.peft, which has all of PEFT's$"


@pytest.mark.parametrize("name", sorted(OF_PEFT))
def test_a_name_is_refused_also_where_the_base_model_has_it(name: str) -> None:
    for base, targets in ((TwoLayer(), ["first"]), (tiny_llama(), ["q_proj"])):
        model = make("adalora_core", base, target_modules=targets)
        assert not hasattr(model, name)
        with pytest.raises(AttributeError, match=rf"^{name}: .*{DOOR}"):
            getattr(model, name)


REFUSED: dict[str, Callable[[Any, Path], Any]] = {
    "get_peft_model(adapter_name)": lambda base, _: get_peft_model(base, config(), "other"),
    "get_peft_model(mixed)": lambda base, _: get_peft_model(base, config(), mixed=True),
    "from_pretrained(subfolder)": lambda base, folder: AdaLoraModel.from_pretrained(
        base, folder, subfolder="a"
    ),
    "from_pretrained(adapter_name)": lambda base, folder: AdaLoraModel.from_pretrained(
        base, folder, "other"
    ),
    "save_pretrained(safe_serialization)": lambda base, folder: get_peft_model(
        base, config()
    ).save_pretrained(folder, safe_serialization=False),
}


def config() -> AdaLoraConfig:
    return AdaLoraConfig(**SETTINGS)


@pytest.mark.parametrize("call", REFUSED)
def test_an_option_is_refused_before_anything_is_changed(call: str, tmp_path: Path) -> None:
    base = TwoLayer()
    function, option = call.rstrip(")").split("(")
    with pytest.raises(TypeError, match=rf"^{function}\({option}\): .*{DOOR}"):
        REFUSED[call](base, tmp_path)
    assert not list(tmp_path.iterdir())
    if function != "save_pretrained":
        assert type(base.first) is torch.nn.Linear


def test_functions_of_peft_and_the_hub_are_named() -> None:
    for name in ("get_peft_model_state_dict", "set_peft_model_state_dict", "PeftModel"):
        with pytest.raises(AttributeError, match=r"PEFT's names are in adalora_core\.peft"):
            getattr(adalora_core, name)
    with pytest.raises(ValueError, match=r"adalora_core\.peft loads from the Hub"):
        AdaLoraModel.from_pretrained(TwoLayer(), "organisation/adapter")
    with pytest.raises(ValueError, match=r"adalora_core\.peft reads the Hub"):
        AdaLoraConfig.from_pretrained("organisation/adapter")


def test_zero_is_for_models_of_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("adalora_core")
    monkeypatch.setattr("adalora_core.trainers.optimizer_hook.zero_optimizer", lambda each: each)
    with pytest.raises(TypeError, match=rf"DeepSpeed's ZeRO: .*{DOOR}"):
        adalora_core.allocate_on_step(torch.optim.AdamW(model.parameters()), model)
