"""Adapter loaders of the benchmark; each returns the model and a dictionary for the log."""
from typing import Any

import torch
from peft import AdaLoraConfig, AdaLoraModel, LoraConfig, LoraModel


def _log(config, kind: str) -> dict[str, Any]:
    entry = config.to_dict()
    entry["adaptation"] = kind
    return entry


def load_lora(network: torch.nn.Module, **settings: Any):
    config = LoraConfig(**settings)
    return LoraModel(network, config, "default"), _log(config, "lora")


def load_adalora(network: torch.nn.Module, **settings: Any):
    settings["peft_type"] = "ADALORA"
    config = AdaLoraConfig(**settings)
    return AdaLoraModel(network, config, "default"), _log(config, "adalora")


LOADERS = {"lora": load_lora, "adalora": load_adalora}
