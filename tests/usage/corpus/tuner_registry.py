import json
from pathlib import Path
from typing import Any, Optional

import yaml
from peft import AdaLoraConfig, IA3Config, LoraConfig, get_peft_model

REGISTRY = {
    "LORA": LoraConfig,
    "ADALORA": AdaLoraConfig,
    "IA3": IA3Config,
}


def read_settings(where: Optional[str]) -> dict[str, Any]:
    if not where:
        return {}
    file = Path(where)
    if file.suffix == ".json":
        return json.loads(file.read_text())
    if file.suffix in {".yml", ".yaml"}:
        return yaml.safe_load(file.read_text())
    raise ValueError(f"cannot read settings from {file}")


class AdapterBuilder:
    """Wraps a base model with whatever adapter the settings file asks for."""

    def __init__(self, where: Optional[str] = None) -> None:
        self.where = where

    def config(self):
        settings = read_settings(self.where)
        kind = settings.pop("peft_type", "LORA").upper()
        try:
            config_class = REGISTRY[kind]
        except KeyError:
            raise ValueError(f"{kind} is none of {sorted(REGISTRY)}") from None
        return config_class(**settings)

    def wrap(self, model):
        if self.where is None:
            return model
        wrapped = get_peft_model(model, self.config())
        wrapped.print_trainable_parameters()
        return wrapped
