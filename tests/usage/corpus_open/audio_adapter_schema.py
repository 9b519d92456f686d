"""Validate the adapter section of the audio experiments before a job is queued."""
import sys
from typing import List

import yaml
from pydantic import BaseModel


class Strict(BaseModel):
    task: str = "AUDIO_CLASSIFICATION"

    class Config:
        extra = "forbid"


class LoraConfig(Strict):
    r: int = 8
    lora_alpha: int = 16
    target_modules: List[str] = ["query", "value"]


class AdaLoraConfig(Strict):
    init_r: int = 100
    target_r: int = 16
    lora_alpha: int = 8
    target_modules: List[str] = ["query", "key", "value"]


class IA3Config(Strict):
    target_modules: List[str] = ["query", "dense"]
    feedforward_modules: List[str] = ["dense"]


def adapter_section(doc: dict) -> Strict:
    match doc["general"]["adapter"]:
        case "lora":
            return LoraConfig(**doc["lora"])
        case "adalora":
            return AdaLoraConfig(**doc["adalora"])
        case "adalora-defaults":
            return AdaLoraConfig()
        case "ia3":
            return IA3Config(**doc["ia3"])
        case other:
            raise ValueError(f"no such adapter: {other}")


if __name__ == "__main__":
    with open(sys.argv[1]) as handle:
        print(adapter_section(yaml.safe_load(handle)))
