"""Train `adapter: adalora` in axolotl, with the plugin `AdaLoraPlugin`.

The mapping `adalora` of the YAML holds the fields of `AdaLoraConfig`:

    plugins: [adalora_core.trainers.axolotl.AdaLoraPlugin]
    adapter: adalora
    adalora: {init_r: 12, target_r: 8, tinit: 100, tfinal: 200, target_modules: all-linear}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from axolotl.integrations.base import AdapterCapabilities, BasePlugin
from pydantic import BaseModel, model_validator
from torch import nn

from adalora_core.bridge.attaching import adapted, checked_config, loaded
from adalora_core.trainers.transformers import AdaLoraCallback

if TYPE_CHECKING:
    from transformers import Trainer

_OF_LORA = (
    "lora_r", "lora_alpha", "lora_target_modules", "lora_target_linear", "lora_target_parameters",
    "lora_modules_to_save", "lora_rank_pattern", "lora_alpha_pattern", "peft_layers_to_transform",
    "peft_use_rslora", "peft_use_dora", "peft_init_lora_weights",
)  # fmt: skip
"""Keys that axolotl reads for LoRA alone."""


class AdaLoraArgs(BaseModel):
    """The keys that the plugin adds to axolotl's."""

    adalora: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def check_adalora(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Refuse wrong fields before anything is loaded, and keys that would change nothing."""
        if data.get("adapter") == "adalora":
            unread = [key for key in _OF_LORA if data.get(key)]
            fields = data.get("adalora")
            if unread or not isinstance(fields, dict):
                raise ValueError(
                    "adapter adalora: expected PEFT's fields in the mapping `adalora`, got "
                    f"{', '.join(unread) or repr(fields)}; write init_r, lora_alpha, "
                    "target_modules and the like into `adalora`"
                )
            checked_config(**fields)
        return data


class AdaLoraPlugin(BasePlugin):
    """Make or load the adapter, and allocate its ranks."""

    def get_input_args(self) -> str:
        """Return where axolotl finds the plugin's keys."""
        return f"{__name__}.AdaLoraArgs"

    def get_adapter_capabilities(self) -> list[AdapterCapabilities]:
        """Return the adapter that the YAML may name."""
        return [AdapterCapabilities("adalora")]

    def load_adapter(
        self, model: nn.Module, cfg: Any, inference: bool = False, config_only: bool = False
    ) -> tuple[nn.Module | None, Any] | None:
        """Return `model` with its adapter, new or of `lora_model_dir`, and the configuration."""
        if cfg.adapter != "adalora":
            return None
        if config_only:
            raise ValueError(
                f"adapter adalora: expected supervised training, got rl {cfg.rl}, whose trainer "
                "makes the adapter itself; use the adapter lora"
            )
        if cfg.lora_model_dir:
            made = loaded(model, cfg.lora_model_dir, is_trainable=not inference)
        else:
            is_classifier = "SequenceClassification" in type(model).__name__
            task_type = "SEQ_CLS" if is_classifier else "CAUSAL_LM"
            made = adapted(model, checked_config(**{"task_type": task_type, **cfg.adalora}))
        return made, made.peft_config["default"]

    def post_trainer_create(self, cfg: Any, trainer: Trainer) -> None:
        """Let the trainer allocate."""
        if cfg.adapter == "adalora":
            AdaLoraCallback().add_to(trainer)
