"""Train `adapter: adalora` in axolotl: put this file on PYTHONPATH, and into the YAML.

plugins: [adalora_axolotl.AdaLoraPlugin]
adalora: {init_r: 12, target_r: 8, tinit: 100, tfinal: 200, target_modules: all-linear}
"""

from typing import Any

from axolotl.integrations.base import AdapterCapabilities, BasePlugin
from pydantic import BaseModel

from adalora_core import AdaLoraCallback, AdaLoraConfig
from adalora_core.peft import PeftModel, get_peft_model

OF_LORA = ("lora_r", "lora_alpha", "lora_target_modules", "lora_target_linear")


class AdaLoraArgs(BaseModel):  # noqa: D101
    adalora: dict[str, Any] | None = None


class AdaLoraPlugin(BasePlugin):  # type: ignore[misc]  # noqa: D101
    def get_input_args(self) -> str:  # noqa: D102
        return "adalora_axolotl.AdaLoraArgs"

    def get_adapter_capabilities(self) -> list[Any]:  # noqa: D102
        return [AdapterCapabilities("adalora")]

    def load_adapter(self, model: Any, cfg: Any, inference: bool = False, **_: bool) -> Any:  # noqa: D102
        if cfg.adapter != "adalora":
            return None
        if unread := [key for key in OF_LORA if cfg.get(key)]:
            raise ValueError(f"write PEFT's names of {unread} into the mapping `adalora`")
        if cfg.lora_model_dir:
            made = PeftModel.from_pretrained(model, cfg.lora_model_dir, is_trainable=not inference)
        else:
            fields = {"task_type": "CAUSAL_LM", "total_step": "auto", **cfg.adalora}
            made = get_peft_model(model, AdaLoraConfig(**fields))
        return made, made.peft_config["default"]

    def post_trainer_create(self, cfg: Any, trainer: Any) -> None:  # noqa: D102
        if cfg.adapter == "adalora":
            AdaLoraCallback().add_to(trainer)
