from __future__ import annotations

from typing import Any, Dict

import torch.nn as nn

from ._standard import StandardTrainer
from ..arguments import TrainerArguments

try:
    from peft import AdaLoraConfig, PeftModel
except ImportError:  # peft is optional
    AdaLoraConfig = PeftModel = None


class AdaptiveTrainer(StandardTrainer):
    """The standard loop for a model that is wrapped with AdaLoRA already."""

    def __init__(self, model: nn.Module, arguments: TrainerArguments) -> None:
        if PeftModel is None:
            raise RuntimeError("install peft to train adapters")
        if not isinstance(model, PeftModel):
            raise TypeError(f"expected a PeftModel, got {type(model).__name__}")
        config = model.peft_config[model.active_adapter]
        if not isinstance(config, AdaLoraConfig):
            raise TypeError("the active adapter is not AdaLoRA")
        super().__init__(model, arguments)

    def after_optimizer_step(self, updates: int) -> None:
        """Called by the standard loop between the step and zero_grad."""
        self.model.base_model.update_and_allocate(updates)

    def summary(self) -> Dict[str, Any]:
        report = super().summary()
        pattern = self.model.peft_config[self.model.active_adapter].rank_pattern or {}
        report["ranks"] = {name: int(sum(keep)) for name, keep in pattern.items()}
        return report

    def run(self) -> Dict[str, Any]:
        super().train()
        return self.summary()
