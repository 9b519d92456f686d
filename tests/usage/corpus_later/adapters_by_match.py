"""Turn the `adapter:` section of an experiment file into a PEFT configuration."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from peft import AdaLoraConfig, IA3Config, LoraConfig, OFTConfig, PeftConfig


class UnknownAdapter(ValueError):
    pass


def read_section(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as stream:
        return yaml.safe_load(stream)["adapter"]


def build(section: dict[str, Any], steps: int) -> PeftConfig | None:
    options = dict(section.get("options", {}))
    match section["kind"].lower():
        case "lora" | "qlora":
            return LoraConfig(**options)
        case "ia3":
            return IA3Config(**options)
        case "adalora":
            # the schedule needs the length of the run, which the file cannot know
            options.setdefault("total_step", steps)
            return AdaLoraConfig(**options)
        case "oft":
            return OFTConfig(**options)
        case "none":
            return None
        case other:
            raise UnknownAdapter(other)
