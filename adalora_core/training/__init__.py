"""The training API: models with AdaLoRA adapters, and their files."""

from __future__ import annotations

from adalora_core.training.model import AdaLoraModel, get_peft_model

__all__ = ["AdaLoraModel", "get_peft_model"]
