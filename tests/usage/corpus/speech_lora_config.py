from __future__ import annotations

from typing import Any, Mapping

from peft import AdaLoraConfig, LoraConfig


def truthy(value: Any, default: bool = False) -> bool:
    return default if value is None else str(value).strip().lower() in {"1", "true", "yes"}


def adapter_config(cfg: Mapping[str, Any]) -> LoraConfig:
    """Return the adapter's configuration; `cfg` is the `peft` section of the recipe."""
    kind = str(cfg.get("peft_type", "lora")).strip().lower()
    shared = dict(
        lora_alpha=int(cfg["lora_alpha"]),
        lora_dropout=float(cfg["lora_dropout"]),
        target_modules=list(cfg["targets"]),
        bias="none",
        task_type="CAUSAL_LM",
    )
    if kind == "adalora":
        if truthy(cfg.get("use_dora")):
            raise ValueError("use_dora cannot be combined with AdaLoRA")
        return AdaLoraConfig(
            **shared,
            init_r=int(cfg.get("init_r", 32)),
            target_r=int(cfg.get("target_r", 16)),
            tinit=int(cfg.get("tinit", 128)),
            tfinal=int(cfg.get("tfinal", 128)),
            deltaT=int(cfg.get("deltaT", 8)),
            total_step=int(cfg.get("total_step", cfg["max_steps"])),
        )
    if kind != "lora":
        raise ValueError(f"peft_type is {kind!r}, expected 'lora' or 'adalora'")
    return LoraConfig(**shared, r=int(cfg["lora_r"]), use_dora=truthy(cfg.get("use_dora")))
