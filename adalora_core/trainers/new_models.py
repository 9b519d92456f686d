"""Make and load the models that the plugins train: models of PEFT, served by the bridge."""

from __future__ import annotations

from typing import Any

import peft
from torch import nn

from adalora_core.bridge import install, to_peft_config
from adalora_core.config.model import AdaLoraConfig


def checked_config(**fields: Any) -> AdaLoraConfig:
    """Return the configuration of `fields`, whose `total_step` is "auto" unless it is given.

    Raises:
        ValueError: a field is unknown, or the schedule is impossible; every finding is listed.
    """
    return AdaLoraConfig(**{"total_step": "auto", **fields})


def adapted(model: nn.Module, config: AdaLoraConfig) -> peft.PeftModel:
    """Return `model` with a new adapter, in PEFT's class for its task."""
    install()
    made: peft.PeftModel = peft.get_peft_model(model, to_peft_config(config))
    return made


def loaded(model: nn.Module, folder: str, **options: Any) -> peft.PeftModel:
    """Return `model` with the adapter in `folder`; `options` are those of PEFT."""
    install()
    found: peft.PeftModel = peft.PeftModel.from_pretrained(model, folder, **options)
    return found
